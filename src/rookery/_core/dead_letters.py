"""Where messages go that nobody handled: counted, kept for a while, and observable."""

from __future__ import annotations

from collections import Counter, deque
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final, final

import anyio
import attrs

from .._model.dead_letter import DeadLetter, Reason
from .._model.messages import DEFAULT_PRIORITY
from .._model.overflow import Overflow
from .channel import PriorityReceiver, PrioritySender, open_priority_channel

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

KEPT: Final = 100
"""How many dead letters `DeadLetters.recent` keeps."""


@final
@attrs.frozen
class DeadLetterStatistics:
    """How many dead letters a system has had.

    Attributes:
        total: All of them.
        by_reason: The same by reason; a reason that never occurred is absent.
    """

    total: int
    by_reason: dict[Reason, int]


@final
class DeadLetters:
    """A system's dead letters, `System.dead_letters`."""

    def __init__(self, tell: Callable[[str, DeadLetter], object]) -> None:
        self._tell = tell
        self._counts: Counter[Reason] = Counter()
        self._recent: deque[DeadLetter] = deque(maxlen=KEPT)
        self._listeners: dict[PrioritySender[DeadLetter], None] = {}

    def statistics(self) -> DeadLetterStatistics:
        """Counts of all dead letters so far."""
        return DeadLetterStatistics(total=self._counts.total(), by_reason=dict(self._counts))

    @property
    def recent(self) -> tuple[DeadLetter, ...]:
        """The last 100, oldest first."""
        return tuple(self._recent)

    @asynccontextmanager
    async def listen(self, capacity: int = 1000) -> AsyncGenerator[PriorityReceiver[DeadLetter]]:
        """Observe dead letters as they occur.

        Args:
            capacity: How many a slow listener may fall behind; beyond it the oldest unread ones are
                dropped for this listener (they stay counted in `statistics`).

        Example:
            >>> async with system.dead_letters.listen() as letters:
            ...     async for letter in letters:
            ...         print(letter.reason, letter.message)
        """
        send, receive = open_priority_channel[DeadLetter](capacity, overflow=Overflow.DROP_OLDEST)
        self._listeners[send] = None
        try:
            yield receive
        finally:
            del self._listeners[send]
            send.close()

    def add(self, message: object, reason: Reason, actor: str, priority: int = DEFAULT_PRIORITY) -> None:
        """Count a dead letter and tell the listeners."""
        letter = DeadLetter(message, reason, actor, priority)
        self._counts[reason] += 1
        self._recent.append(letter)
        self._tell("dead_letter", letter)
        for listener in self._listeners:
            with suppress(anyio.ClosedResourceError):  # it closed its end before it left the block
                listener.send_nowait(letter)
