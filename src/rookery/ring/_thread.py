"""Calls that block, made by a thread, one at a time; whoever waits for one waits to its end.

A thread cannot be cancelled. A task that left one behind would go on beside a call that still does what it was told
to: write a file that somebody else has by now, or an older state over a newer one.
"""

from __future__ import annotations

from threading import Thread
from typing import TYPE_CHECKING, Final, Generic, TypeVar, cast, final

from .._core._parking import uninterrupted
from .._core.waiting import Latch

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._core._parking import Loop

T = TypeVar("T")


@final
class Call(Generic[T]):
    """One call, and what became of it.

    Attributes:
        error: What it raised.
        pierced: What came for the task that waits and did not keep it from waiting: to be raised by who is done.
    """

    def __init__(self, fn: Callable[[], T]) -> None:
        self._fn: Final = fn
        self._value: T | None = None
        self.error: BaseException | None = None
        self.pierced: BaseException | None = None

    def make(self) -> None:
        """Make it, here and now."""
        try:
            self._value = self._fn()
        except BaseException as error:  # noqa: BLE001  # for the task that waits
            self.error = error

    def result(self) -> T:
        """What it returned.

        Raises:
            BaseException: what pierced the wait, or else what it raised.
        """
        error = self.pierced or self.error
        if error is not None:
            raise error
        return cast("T", self._value)


@final
class OneThread:
    """A thread while there is something for it to do."""

    def __init__(self, loop: Loop, name: str) -> None:
        self._loop: Final = loop
        self._name: Final = name
        self._latest: Latch = Latch(loop)  # set when the latest call has ended, and so have those before it
        self._latest.set()

    @property
    def busy(self) -> bool:
        """Whether a call is being made, or waits for its turn."""
        return not self._latest.is_set

    @uninterrupted
    async def call(self, fn: Callable[[], T]) -> Call[T]:
        """Make a call when those before it have ended, and wait to its end: cancelled or not, it is made."""
        call = Call(fn)
        before, self._latest = self._latest, Latch(self._loop)
        ended = self._latest
        pierced = await before.outlast()
        try:
            Thread(target=self._work, args=(call, ended), name=self._name).start()
        except RuntimeError as error:  # there are too many threads
            call.error = error
            ended.set()
        later = await ended.outlast()
        call.pierced = pierced or later
        return call

    async def rest(self) -> None:
        """Wait until every call has ended.

        Raises:
            BaseException: what pierced the wait, behind it.
        """
        pierced = None
        while self.busy:
            pierced = await self._latest.outlast() or pierced
        if pierced is not None:
            raise pierced

    def _work(self, call: Call[object], ended: Latch) -> None:
        call.make()
        self._loop.call_from_thread(ended.set)
