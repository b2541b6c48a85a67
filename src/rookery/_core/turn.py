"""The amortised yield: how long a busy task keeps the loop to itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from .own_loop import check_own_loop

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._parking import Loop

MESSAGES: Final = 64
"""A task gives way after this many messages, sent and received, ..."""

SECONDS: Final = 0.001
"""... or after this much time, whichever is first."""


@final
class Turn:
    """The running task's turn, shared by all mailboxes of a system.

    A task switch costs more than a message, so a busy sender or receiver switches only when its turn is
    over. Only one task runs at a time, so one counter serves all: whoever parks or gives way hands a fresh
    turn to the next. A task that was switched for a reason not seen here (it slept, say) may find its turn
    over early, never late.
    """

    __slots__ = ("clock", "ends", "left", "loop")

    def __init__(self, loop: Loop, clock: Callable[[], float] | None = None) -> None:
        self.loop: Final = loop
        self.left: int
        self.ends: float
        self.clock: Final = clock or loop.stopwatch  # not its clock: this measures work, and that may be virtual
        self.renew()

    def renew(self) -> None:
        """A task begins its turn."""
        self.left = MESSAGES
        self.ends = self.clock() + SECONDS

    def count(self) -> bool:
        """Count one message; whether the task may go on with it, or has to give way first."""
        self.left -= 1
        return self.left >= 0 and self.clock() < self.ends

    @property
    def over(self) -> bool:
        """Whether the task has to give way before its next message."""
        return self.left < 0 or self.clock() >= self.ends

    async def give_way(self) -> None:
        """Let the others run: the turn is over. A checkpoint: if cancelled, nothing has happened.

        Raises:
            WrongLoop: if another loop runs the task, whose turn this is not.
        """
        check_own_loop(self.loop, "this mailbox", "run(ref.send, message)")
        await self.loop.checkpoint()
        self.renew()
        self.left -= 1  # for the message it gave way before
