"""Which tasks of a kernel have a message in hand: its state is whole when none has."""

from __future__ import annotations

from inspect import CORO_CLOSED, getcoroutinestate
from typing import TYPE_CHECKING, Any, Final, final

if TYPE_CHECKING:
    from .._core._parking import Loop

FEW: Final = 64
"""So many tasks are remembered before those that have ended are looked for."""


@final
class Hands:
    """The tasks of one kernel that have been handed a message, and not come back for the next.

    A task that ends with a message in hand may have received it for another one, as on Python 3.11
    ``asyncio.wait_for`` does. That it is done is known when next a task comes back.
    """

    def __init__(self, loop: Loop) -> None:
        self._loop: Final = loop
        self._full: set[object] = set()
        self._many = FEW
        self._begun = False

    @property
    def empty(self) -> bool:
        """Whether no task has one, of those that have ever asked for one."""
        return self._begun and not self._full

    def take(self) -> None:
        """The running task has been handed a message."""
        self._full.add(self._loop.current_task())

    def come_back(self) -> None:
        """The running task asks for the next one."""
        self._begun = True
        self._full.discard(self._loop.current_task())
        if len(self._full) >= self._many:
            self.forget_ended()

    def forget_ended(self) -> None:
        """Those that have ended have nothing in hand any more."""
        self._full = {task for task in self._full if not _has_ended(task)}
        self._many = max(FEW, 2 * len(self._full))


def _has_ended(task: Any) -> bool:
    done = getattr(task, "done", None)  # trio's tasks have a coroutine instead
    return done() if done is not None else getcoroutinestate(task.coro) == CORO_CLOSED
