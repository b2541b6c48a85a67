"""Who waits for the reply to which request: requests and replies are matched by the request's ``message_id``."""

from __future__ import annotations

import copy
from typing import Any, Final, final
from uuid import UUID

SETTLED: Final = 10_000
"""So many of the latest requests are known by their ids when nobody waits for their replies any more."""


@final
class Callers:
    """The callers that wait for a kernel's replies.

    Which requests the kernel has in hand is known to its actor, and to nobody else. Here is only what the actor
    cannot know: which request an id stands for, and which ids were those of requests.
    """

    __slots__ = ("_settled", "_waiting", "uncorrelated")

    def __init__(self) -> None:
        self._waiting: dict[object, Any] = {}
        self._settled: dict[object, None] = {}  # the oldest first
        self.uncorrelated: int = 0
        """Messages the kernel has sent that reply to nothing."""

    def begin(self, message: Any) -> tuple[object, Any]:
        """Somebody is going to ask this.

        Returns:
            Its id, for `end`, and what to ask: an actor tells requests apart by identity, so one that is tried
            again is a copy, lest its reply be taken for that of the first try.

        Raises:
            TypeError: for a message without an id.
            ValueError: for one that is waited for already.
        """
        message_id = getattr(message, "message_id", None)
        if message_id is None:
            raise TypeError(
                f"a reply is recognised by its request's `message_id`, which {message!r} does not have: "
                "decorate its class with `@ring.message`, or use `send` and `receive`"
            )
        key = key_of(message_id)
        if key in self._waiting:
            raise ValueError(
                f"{message!r} is being waited for already, and its reply would say nothing of which caller it is "
                "for: make a message for each request"
            )
        request = copy.copy(message) if key in self._settled else message
        self._waiting[key] = request
        return message_id, request

    def end(self, message_id: object) -> None:
        """The caller has its reply, or has left."""
        key = key_of(message_id)
        del self._waiting[key]
        self._settled.pop(key, None)  # so that it is the latest again
        self._settled[key] = None
        if len(self._settled) > SETTLED:
            del self._settled[next(iter(self._settled))]

    def knows(self, message_id: object) -> bool:
        """Whether it is the id of a request, so that what replies to it is for its caller and for nobody else."""
        key = key_of(message_id)
        return key in self._waiting or key in self._settled

    def request(self, message_id: object) -> Any:
        """The request of that id that somebody waits for; None if nobody does."""
        return self._waiting.get(key_of(message_id))


def key_of(message_id: object) -> object:
    """What an id is looked up by: hashing a UUID calls a function of Python's, hashing its number does not."""
    return message_id.int if type(message_id) is UUID else message_id
