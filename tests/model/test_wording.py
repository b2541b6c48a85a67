"""How values are shown in messages."""

from __future__ import annotations

from enum import Enum

from hypothesis import example, given
from hypothesis import strategies as st

from rookery._model.wording import brief


class Colour(Enum):
    RED = 1


class Shown:
    """A value with the given `repr`."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


@given(st.text(max_size=400))
@example("x" * 198)  # two hundred characters with the quotes
@example("x" * 199)
def test_at_most_two_hundred_characters_are_shown(text: str) -> None:
    """Of a string and of any other value; what fits is shown whole."""
    for value in (text, Shown(text)):
        whole = repr(value)
        if len(whole) <= 200:
            assert brief(value) == whole
        else:
            assert len(brief(value)) == 200
            assert "..." in brief(value)


def test_a_member_of_an_enum_is_shown_as_code() -> None:
    """Unless its class says how it is shown."""

    class Own(Enum):
        HERE = 1

        def __str__(self) -> str:
            return "over there"

    assert brief(Colour.RED) == "Colour.RED"
    assert brief([Colour.RED]) == "[Colour.RED]"
    assert brief(Own.HERE) == repr(Own.HERE)


def test_a_value_that_cannot_be_shown_is_shown_nevertheless() -> None:
    """What is wrong with it must not hide the message it stands in."""

    class Broken:
        def __repr__(self) -> str:
            raise ValueError("broken")

    assert "Broken instance" in brief(Broken())
