"""The options of a child are checked where they are written."""

from __future__ import annotations

import math
from typing import Any

import pytest

from rookery._model.options import Options
from rookery._model.overflow import Overflow
from rookery._model.restart import Backoff, Restart


def test_the_defaults() -> None:
    """What the documentation says they are."""
    expected = Options(
        name=None,
        restart=Restart.TRANSIENT,
        start_timeout=30.0,
        stop_timeout=5.0,
        capacity=1000,
        overflow=Overflow.BLOCK,
        backoff=None,
    )
    assert expected == Options()


@pytest.mark.parametrize(
    "given",
    [{"stop_timeout": 0}, {"stop_timeout": math.inf}, {"capacity": 1}, {"name": "é"}, {"backoff": Backoff(0.1)}],
)
def test_edges_are_allowed(given: dict[str, Any]) -> None:
    """No wait, no limit, one message, any letters."""
    Options(**given)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"start_timeout": -1}, ValueError),
        ({"stop_timeout": math.nan}, ValueError),
        ({"stop_timeout": None}, ValueError),
        ({"capacity": 0}, ValueError),
        ({"capacity": 1.5}, ValueError),
        ({"capacity": math.inf}, ValueError),
        ({"stop_timeout": True}, TypeError),
        ({"start_timeout": "x"}, TypeError),
        ({"capacity": True}, TypeError),
        ({"capacity": "3"}, TypeError),
        ({"name": ""}, ValueError),
        ({"name": "a/b"}, ValueError),
        ({"name": 3}, ValueError),
        ({"restart": "always"}, TypeError),
        ({"overflow": "block"}, TypeError),
        ({"backoff": 0.1}, TypeError),
    ],
)
def test_wrong_values_are_named(given: dict[str, Any], error: type[Exception]) -> None:
    """The error shows the value, and what is allowed."""
    ((name, value),) = given.items()
    with pytest.raises(error, match=name) as raised:
        Options(**given)
    assert repr(value) in str(raised.value)


def test_no_limit_is_written_as_infinity() -> None:
    """Whoever writes None is shown what that is called here."""
    with pytest.raises(ValueError, match=r"stop_timeout is in seconds.*got None: write `stop_timeout=math\.inf`"):
        Options(stop_timeout=None)  # type: ignore[arg-type]


def test_choices_are_listed() -> None:
    """Whoever writes a string is shown the enumeration."""
    with pytest.raises(TypeError, match=r"Overflow.BLOCK, Overflow.REJECT, Overflow.DROP_OLDEST, Overflow.DROP_NEWEST"):
        Options(overflow="block")  # type: ignore[arg-type]
