"""What became of a message that nobody handled."""

from __future__ import annotations

from enum import Enum
from typing import final

import attrs


class Reason(Enum):
    """Why a message, a request or a reply is a dead letter."""

    DROPPED_OLDEST = "evicted from a full mailbox (DROP_OLDEST)"
    DROPPED_NEWEST = "turned away by a full mailbox (DROP_OLDEST, DROP_NEWEST)"
    UNREAD = "still queued when the actor ended"
    EXPIRED = "its deadline had passed when it came up"
    ABANDONED = "its asker had left when it came up"
    LATE_REPLY = "a reply whose asker had left"
    NOT_ASKED = "an answer to a message, or a forward of one, that was sent and not asked"


@final
@attrs.frozen
class DeadLetter:
    """A message, request or reply that was not delivered.

    Attributes:
        message: What it was.
        reason: Why nobody got it.
        actor: Path of the actor it was for, or of the one that replied.
        priority: Of its delivery; 128 for replies.
    """

    message: object
    reason: Reason
    actor: str
    priority: int
