"""A device that the event loop hears of only when the test says so, and whose commands fail when the test says so."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from threading import Condition, Event, get_ident
from time import monotonic
from typing import Any
from unittest import mock

from rookery.gpu import _opencl
from rookery.gpu._lane import Lane
from rookery.gpu._operation import Operation

from .support import Gate

PATIENCE = 20.0
"""Seconds after which a command that should be over counts as stuck; nothing waits as long when all is well."""

SOURCE = """
kernel void fill(global float *x, float value, int n)
{
    int i = get_global_id(0);
    if (i < n) x[i] = value;
}

kernel void increment(global float *x, int n)
{
    int i = get_global_id(0);
    if (i < n) x[i] += 1;
}

kernel void add(global const float *a, global const float *b, global float *out, int n)
{
    int i = get_global_id(0);
    if (i < n) out[i] = a[i] + b[i];
}
"""


class Held:
    """What the thread of a lane has done, in place of its queue: the loop hears of it when the test says so."""

    def __init__(self, changed: Condition) -> None:
        self._done: deque[Operation] = deque()
        self._changed = changed
        self.told = 0
        self.free = False

    def append(self, operation: Operation) -> None:
        with self._changed:
            self._done.append(operation)
            self._changed.notify_all()

    def __bool__(self) -> bool:
        return self.told > 0 or (self.free and bool(self._done))

    def popleft(self) -> Operation:
        self.told = max(0, self.told - 1)
        return self._done.popleft()

    def tell(self, lane: Lane, count: int, settle: Callable[[], None]) -> None:
        """Wait until that many are done, and have the lane settle them; ``settle`` is for tasks that look themselves."""
        began = monotonic()
        while not self._has(count):
            settle()
            assert monotonic() < began + PATIENCE, f"not over: {list(lane.in_flight)[:1]}"
        self.told += count
        lane._settle()

    def _has(self, count: int) -> bool:
        """Whether that many are done, after a moment."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self._done) >= count, 0.002)

    @property
    def untold(self) -> bool:
        return bool(self._done)


class Failures:
    """Has commands run, and be reported as failed.

    Not by failing what they wait for: PoCL, when one command fails after another, aborts the process now and then.
    """

    def __init__(self, queues: Sequence[Lane]) -> None:
        self._queues = queues
        self.countdown: int | None = None  # so many commands go well before one fails

    @contextmanager
    def injected(self) -> Iterator[None]:
        follow, has_failed, loop, failing = Lane.follow, _opencl.has_failed, get_ident(), list[_opencl.Event]()

        def follow_and_fail(lane: Lane, operation: Operation, used: Any, work: Callable[[], object]) -> Operation:
            if lane in self._queues and self._fails():
                failing.append(operation.event)
                work = partial(_fail_after, work)
            return follow(lane, operation, used, work)

        def as_a_driver_says(event: _opencl.Event) -> bool:
            # At once, and to the threads alone: what the loop's thread sees must not depend on how fast the device is.
            return has_failed(event) or (get_ident() != loop and event in failing and _opencl.is_over(event))

        with (
            mock.patch.object(Lane, "follow", follow_and_fail),
            mock.patch.object(_opencl, "has_failed", as_a_driver_says),
        ):
            yield

    def _fails(self) -> bool:
        if self.countdown is None:
            return False
        fails = self.countdown == 0
        self.countdown = None if fails else self.countdown - 1
        return fails


def _fail_after(work: Callable[[], object]) -> None:
    work()
    raise _opencl.OpenCLError("it failed")


def open_gate(gate: Gate | Event) -> None:
    if isinstance(gate, Event):
        gate.set()
    else:
        gate.open()
