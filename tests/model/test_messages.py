"""Message classes, requests and priorities."""

from __future__ import annotations

import attrs
import pytest

from rookery import Request, message
from rookery._model.checks import check_priority, check_timeout
from rookery._model.messages import WIRE_NAME


@message
class Add(Request[float]):
    a: float
    b: float = 1.0


@message(name="notes.v2")
class Note:
    text: str


def test_a_message_is_a_frozen_slotted_attrs_class() -> None:
    """What stands in the class body is all it has, and nothing can be set."""
    add = Add(1.0)
    assert [field.name for field in attrs.fields(Add)] == ["a", "b"]
    assert not hasattr(add, "__dict__")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        add.a = 2.0  # type: ignore[misc]


def test_messages_are_equal_by_value_and_hashable() -> None:
    """Two messages with the same fields are equal, hash alike and print their fields."""
    assert Add(1.0, 2.0) == Add(1.0, 2.0)
    assert hash(Add(1.0, 2.0)) == hash(Add(1.0, 2.0))
    assert Add(1.0, 2.0) != Add(2.0, 1.0)
    assert repr(Add(1.0, 2.0)) == "Add(a=1.0, b=2.0)"


def test_messages_can_be_matched() -> None:
    """Patterns are over the fields, in the order of the class body."""
    match Add(1.0, 2.0):
        case Add(a, b):
            assert (a, b) == (1.0, 2.0)


def test_a_message_has_a_wire_name() -> None:
    """It is ``module.qualname`` unless given."""
    assert f"{__name__}.Add" == getattr(Add, WIRE_NAME)
    assert getattr(Note, WIRE_NAME) == "notes.v2"


def test_only_classes_become_messages() -> None:
    """``@message`` above anything else says what to write."""
    with pytest.raises(TypeError, match="write `@message` above a class"):
        message(3)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="notes"):
        message(name="x")("notes")  # type: ignore[arg-type]


def test_a_wire_name_is_given_by_name() -> None:
    """So that ``@message("x")`` is the error it looks like."""
    with pytest.raises(TypeError, match="positional"):
        message(Note, "notes.v3")  # type: ignore[call-overload]


@pytest.mark.parametrize("priority", [0, 1, 128, 255])
def test_priorities_within_the_range(priority: int) -> None:
    """Both ends belong to it."""
    check_priority(priority)


@pytest.mark.parametrize("priority", [-1, 256, 1000, 1.5, "high", None, True])
def test_priorities_out_of_range(priority: object) -> None:
    """The error shows the value, the range and the default."""
    with pytest.raises(ValueError, match=r"0 to 255.*128 is the default") as raised:
        check_priority(priority)  # type: ignore[arg-type]
    assert repr(priority) in str(raised.value)


def test_a_timeout_that_no_clock_reaches_is_refused() -> None:
    """NaN: the error shows the value."""
    with pytest.raises(ValueError, match=r"a number of seconds.*got nan"):
        check_timeout(float("nan"))


@pytest.mark.parametrize("timeout", ["1", True, [1]])
def test_a_timeout_is_a_number(timeout: object) -> None:
    """Anything else is refused by value."""
    with pytest.raises(TypeError, match=r"a number of seconds.*got "):
        check_timeout(timeout)


def test_any_time_may_be_waited() -> None:
    """None at all, what is over already, and for ever."""
    for timeout in (-1, 0, 1, 0.5, float("inf")):
        check_timeout(timeout)
