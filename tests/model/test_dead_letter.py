"""What became of a message that nobody handled."""

from __future__ import annotations

import attrs
import pytest

from rookery._model.dead_letter import DeadLetter, Reason


def test_a_dead_letter_is_a_value() -> None:
    """Equal by what it tells, and it stays what it was."""
    letter = DeadLetter("hello", Reason.UNREAD, "/actor", 128)
    assert letter == DeadLetter("hello", Reason.UNREAD, "/actor", 128)
    assert letter != DeadLetter("hello", Reason.EXPIRED, "/actor", 128)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        letter.reason = Reason.EXPIRED  # type: ignore[misc]
