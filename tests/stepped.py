"""The loop in steps of `rookery.testing`, and loops whose time jumps, for the tests of the core.

A test file gives its tests such a loop by overriding `anyio_backend`.
"""

from __future__ import annotations

import asyncio
import math
from heapq import heappop
from typing import Any

import trio.testing

from rookery.testing._stepped import Backend, Job, StandingClock, Stepped, standing_loop

__all__ = ["Backend", "Job", "Stepped", "jump", "jumping"]


class _JumpingClock(StandingClock):
    """It jumps to the next timer when nothing else is left to do."""

    _watched = False

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        timer = super().call_at(when, callback, *args, context=context)
        if not self._watched:
            self._watch(self._callbacks - 1)
        return timer

    def _watch(self, seen: int) -> None:
        """Called in every pass of the loop while there are timers, with the callbacks that there were in the last."""
        while self._timers and self._timers[0].cancelled():
            heappop(self._timers)
        self._watched = bool(self._timers) and self._timers[0].when() < math.inf
        if self._watched:
            if self._callbacks == seen:
                self.jump(max(0.0, self._timers[0].when() - self._now))
            self.call_soon(self._watch, self._callbacks + 1)  # and this one


def jumping(backend: Backend) -> Backend:
    """The same loop with a clock that stands still until everybody waits, and then jumps to the next deadline.

    Not for tests with threads: whoever waits for one waits.
    """
    name, options = backend
    if name == "trio":
        return name, {**options, "clock": trio.testing.MockClock(autojump_threshold=0)}
    return name, {**options, "loop_factory": standing_loop(_JumpingClock, options)}


def jump(seconds: float) -> None:
    """Let time pass on this loop."""
    clock: Any = trio.lowlevel.current_clock() if trio.lowlevel.in_trio_run() else asyncio.get_running_loop()
    clock.jump(seconds)
