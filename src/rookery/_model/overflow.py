"""What happens to a message that finds the mailbox full."""

from __future__ import annotations

from enum import Enum, auto
from typing import assert_never


class Overflow(Enum):
    """A mailbox's policy when it is full."""

    BLOCK = "block"
    """The sender waits for room (`send_nowait` raises `MailboxFull`): back-pressure."""

    REJECT = "reject"
    """The sender gets `MailboxFull`."""

    DROP_OLDEST = "drop_oldest"
    """The oldest message of the least urgent level present makes room, the newcomer included."""

    DROP_NEWEST = "drop_newest"
    """The newcomer is dropped."""


class Verdict(Enum):
    """What to do with a newcomer at a full mailbox."""

    WAIT = auto()
    REFUSE = auto()
    DROP_NEWCOMER = auto()
    EVICT_OLDEST = auto()


def at_capacity(policy: Overflow, newcomer: int, least_urgent: int) -> Verdict:
    """Decide about a newcomer at a full mailbox.

    Args:
        policy: The mailbox's policy.
        newcomer: Priority of the message that wants in.
        least_urgent: The least urgent priority among those queued.
    """
    match policy:
        case Overflow.BLOCK:
            return Verdict.WAIT
        case Overflow.REJECT:
            return Verdict.REFUSE
        case Overflow.DROP_NEWEST:
            return Verdict.DROP_NEWCOMER
        case Overflow.DROP_OLDEST:
            # Of equally urgent messages the newcomer is not the oldest.
            return Verdict.DROP_NEWCOMER if newcomer < least_urgent else Verdict.EVICT_OLDEST
        case _:
            assert_never(policy)
