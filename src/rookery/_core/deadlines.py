"""Every deadline of a system behind one timer."""

from __future__ import annotations

import math
from contextlib import suppress
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Final, final

import anyio

from ._parking import uninterrupted

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._parking import Loop, Spot

SWEEP_ABOVE: Final = 64
"""Cancelled alarms are swept out once there are this many and they are the majority."""


@final
class Alarm:
    """Something to do at a time, until cancelled."""

    __slots__ = ("_deadlines", "call")

    def __init__(self, deadlines: Deadlines, call: Callable[[], object]) -> None:
        self._deadlines = deadlines
        self.call: Callable[[], object] | None = call

    def cancel(self) -> None:
        """Do not call. Idempotent, also after the call."""
        if self.call is not None:
            self.call = None
            self._deadlines.cancelled_one()


@final
class Deadlines:
    """A heap of alarms and one task that sleeps until the earliest.

    A cancel scope for each ask costs about as much as the ask itself; nearly all deadlines are cancelled
    long before they are due, so a heap push and a flag are enough for them. Calls must be short, and must
    not raise.
    """

    __slots__ = ("_cancelled", "_closed", "_heap", "_loop", "_made", "_sleeper", "_wakes_at")

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        # When, a number that no two have in common, and the alarm: tuples are compared without a call of Python's.
        self._heap: list[tuple[float, int, Alarm]] = []
        self._made = 0
        self._cancelled = 0
        self._sleeper: Spot | None = None
        self._wakes_at = math.inf
        self._closed = False

    @uninterrupted
    def at(self, when: float, call: Callable[[], object]) -> Alarm:
        """Call ``call()`` at ``when`` on the loop's clock, in seconds."""
        alarm = Alarm(self, call)
        self._made += 1
        heappush(self._heap, (when, self._made, alarm))
        if when < self._wakes_at and self._sleeper is not None:
            self._sleeper.wake()
        return alarm

    def cancelled_one(self) -> None:
        """An alarm in the heap will not ring; keeps the heap at most twice as long as what is in use."""
        self._cancelled += 1
        if self._cancelled > SWEEP_ABOVE and 2 * self._cancelled > len(self._heap):
            self._heap[:] = [entry for entry in self._heap if entry[2].call is not None]
            heapify(self._heap)
            self._cancelled = 0

    @uninterrupted
    async def run(self) -> None:
        """Ring alarms until `close`.

        Shielded, because stop timeouts matter most while a block is cancelled. For the same reason a native
        cancellation does not end it: whoever cancels every task of a loop cancels the system's host as well,
        which stops the tree, by these deadlines, and then closes this.
        """
        with self._loop.shield():
            while not self._closed:
                self._ring()
                self._sleeper = self._loop.spot()
                self._wakes_at = self._heap[0][0] if self._heap else math.inf
                with suppress(anyio.get_cancelled_exc_class()):
                    await self._loop.park_until(self._sleeper, self._wakes_at)

    def close(self) -> None:
        """End `run`."""
        self._closed = True
        if self._sleeper is not None:
            self._sleeper.wake()

    @uninterrupted
    def _ring(self) -> None:
        now, heap = self._loop.now(), self._heap
        while heap:
            when, _, alarm = heap[0]
            call = alarm.call
            if call is not None and when > now:
                break
            heappop(heap)
            if call is None:
                self._cancelled -= 1
            else:
                alarm.call = None
                call()
