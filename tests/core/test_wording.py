"""Names and values are shown as people write them."""

from __future__ import annotations

import rookery
from rookery import ActorState, Restart
from rookery._model.wording import brief


def test_what_is_public_lives_where_it_is_imported_from() -> None:
    """A traceback says `rookery.ActorStopped`, which is what one catches."""
    for name in rookery.__all__:
        assert getattr(rookery, name).__module__ == "rookery", name


def test_members_of_enums_are_shown_as_code() -> None:
    """To be copied from a message into a program."""
    assert brief(Restart.PERMANENT) == "Restart.PERMANENT"
    assert brief({"state": ActorState.NEW}) == "{'state': ActorState.NEW}"
