"""The options of a child are checked where they are written."""

from __future__ import annotations

import math
import re
from typing import Any

import attrs
import pytest

from rookery._model.options import Options, SupervisorOptions
from rookery._model.overflow import Overflow
from rookery._model.restart import Backoff, Intensity, Restart
from rookery._model.strategy import AutoShutdown, Strategy


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
        significant=False,
    )
    assert expected == Options()
    supervisor = SupervisorOptions(
        strategy=Strategy.ONE_FOR_ONE,
        intensity=Intensity(3, per=5.0),
        auto_shutdown=AutoShutdown.NEVER,
        concurrent_stop=False,
    )
    assert supervisor == SupervisorOptions()


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


@pytest.mark.parametrize("cls", [Options, SupervisorOptions])
def test_options_are_given_by_name_and_stand(cls: type[Any]) -> None:
    """Their order is nobody's business, and one that changed afterwards would change nothing."""
    with pytest.raises(TypeError, match="positional"):
        cls(None)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        cls().name = "other"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"strategy": "one"}, "strategy is one of Strategy.ONE_FOR_ONE, Strategy.ONE_FOR_ALL, Strategy.REST_FOR_ONE"),
        ({"auto_shutdown": None}, "auto_shutdown is one of AutoShutdown.NEVER, AutoShutdown.ANY, AutoShutdown.ALL"),
        ({"intensity": 3}, "intensity is an Intensity, got 3: write `Intensity(3, per=5.0)`"),
        ({"concurrent_stop": 1}, "concurrent_stop is True or False, got 1: write `concurrent_stop=True`"),
    ],
)
def test_a_supervisor_s_wrong_values_are_named(given: dict[str, Any], expected: str) -> None:
    """As those of a child."""
    with pytest.raises(TypeError, match=re.escape(expected)):
        SupervisorOptions(**given)


def test_a_child_is_significant_or_not() -> None:
    """A number is neither."""
    with pytest.raises(TypeError, match="significant is True or False, got 1: write `significant=True`"):
        Options(significant=1)  # type: ignore[arg-type]
    assert Options(significant=True).significant
