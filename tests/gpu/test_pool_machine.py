"""The pool on a real device against a naive model of it: random acquiring, cancelling, launching, releasing."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from threading import Thread
from typing import TYPE_CHECKING

import attrs
import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from rookery import gpu
from rookery.gpu import _opencl

from .support import KERNELS, Gate, Stepped

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT = 64 * 1024
SIZES = st.sampled_from([1, 100, 1000, 3000, 4000, 9000, 15000])  # elements of four bytes


@attrs.define
class Waiter:
    nbytes: int
    task: asyncio.Task[gpu.UnifiedBuffer]


@attrs.define(eq=False)
class Launch:
    gate: Gate
    operation: gpu.Operation
    buffer: gpu.UnifiedBuffer
    handle: int
    value: float


class Pool(RuleBasedStateMachine):
    @initialize()
    def open(self) -> None:
        self.stepped = Stepped(memory_limit=LIMIT)
        self.device = self.stepped.device
        self.pool = self.device.pool
        self.fill = self.stepped.run(self.device.kernel(KERNELS, "fill"))
        self.live: list[gpu.UnifiedBuffer] = []
        self.waiting: list[Waiter] = []  # as the model has them, in line
        self.launches: deque[Launch] = deque()
        self.retired: list[gpu.UnifiedBuffer] = []  # released, and still used by a launch
        self.free: Counter[int] = Counter()
        self.peak = self.hits = self.misses = self.waits = 0

    def teardown(self) -> None:
        if hasattr(self, "stepped"):
            for waiter in self.waiting:
                waiter.task.cancel()
            self.stepped.settle()
            for launch in self.launches:
                launch.gate.open()
            self.stepped.close()

    # --- the model ---

    def charged(self) -> int:
        return sum(buffer.reserved for buffer in [*self.live, *self.retired])

    def expect_granted(self) -> Iterator[Waiter]:
        """Who is served now: from the front of the line, until one does not fit."""
        charged = self.charged()
        while self.waiting and charged + self.waiting[0].nbytes <= LIMIT:
            charged += self.waiting[0].nbytes
            self.peak = max(self.peak, charged)
            yield self.waiting.pop(0)

    def handed_out(self, buffer: gpu.UnifiedBuffer, reserved: int) -> None:
        """A buffer comes from free memory of its size, or else is new, and then free memory may be in its way."""
        if self.free[buffer.reserved]:
            self.free[buffer.reserved] -= 1
            self.hits += 1
        else:
            self.misses += 1
            if reserved + sum(size * count for size, count in self.free.items()) > LIMIT:
                self.free.clear()
        assert buffer.device.int_ptr not in {other.device.int_ptr for other in self.live}
        assert buffer.device.int_ptr not in {launch.handle for launch in self.launches}, "memory in flight handed out"
        self.live.append(buffer)

    def serve(self) -> None:
        granted = list(self.expect_granted())
        self.stepped.settle()
        # All of them are reserved for before the first acts.
        reserved = self.charged() + sum(waiter.nbytes for waiter in granted)
        for waiter in granted:
            assert waiter.task.done(), "first come, first served"
            self.handed_out(waiter.task.result(), reserved)
        assert not any(waiter.task.done() for waiter in self.waiting)

    # --- what happens ---

    @rule(size=SIZES)
    def acquire(self, size: int) -> None:
        nbytes = _opencl.rounded_size(self.device.pool._raw, size * 4)
        task = self.stepped.loop.create_task(self.pool.acquire(size))
        self.waits += bool(self.waiting) or self.charged() + nbytes > LIMIT
        self.waiting.append(Waiter(nbytes, task))
        self.serve()

    @rule(size=SIZES)
    def try_acquire(self, size: int) -> None:
        nbytes = _opencl.rounded_size(self.device.pool._raw, size * 4)
        possible = not self.waiting and self.charged() + nbytes <= LIMIT
        buffer = self.pool.try_acquire(size)
        assert (buffer is not None) is possible
        if buffer is not None:
            self.peak = max(self.peak, self.charged() + nbytes)
            self.handed_out(buffer, self.charged() + nbytes)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def cancel_a_waiter(self, data: st.DataObject) -> None:
        waiter = self.waiting.pop(data.draw(st.integers(0, len(self.waiting) - 1)))
        waiter.task.cancel()
        self.serve()
        assert waiter.task.cancelled()

    @precondition(lambda self: self.live and self.waiting)
    @rule(data=st.data())
    def cancel_whoever_is_granted_in_the_same_tick(self, data: st.DataObject) -> None:
        """Released and cancelled before the loop runs: what was granted goes to the next in line."""
        buffer = self.live[data.draw(st.integers(0, len(self.live) - 1))]
        self.let_go(buffer)
        self.pool.release(buffer)
        first = self.waiting.pop(0)
        if self.charged() + first.nbytes <= LIMIT:  # it was reserved for a moment
            self.peak = max(self.peak, self.charged() + first.nbytes)
            charged = self.charged() + first.nbytes
            for waiter in self.waiting:
                charged += waiter.nbytes
                if charged > LIMIT:
                    break
                self.peak = max(self.peak, charged)
        first.task.cancel()
        self.serve()
        assert first.task.cancelled()

    @precondition(lambda self: self.live)
    @rule(data=st.data(), value=st.integers(1, 1000))
    def launch(self, data: st.DataObject, value: int) -> None:
        buffer = self.live[data.draw(st.integers(0, len(self.live) - 1))]
        gate = Gate(self.device.queue)
        self.launches.append(
            Launch(gate, self.fill.submit(buffer, value, size=1), buffer, buffer.device.int_ptr, value)
        )

    @precondition(lambda self: self.launches)
    @rule()
    def the_oldest_launch_completes(self) -> None:
        launch = self.launches.popleft()
        launch.gate.open()
        self.stepped.run(launch.operation)
        if launch.buffer in self.retired and all(launch.buffer is not other.buffer for other in self.launches):
            self.retired.remove(launch.buffer)
            self.free[launch.buffer.reserved] += 1
        self.serve()

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        buffer = self.live[data.draw(st.integers(0, len(self.live) - 1))]
        self.let_go(buffer)
        self.pool.release(buffer)
        with pytest.raises(gpu.BufferReleased):
            self.pool.release(buffer)
        self.serve()

    @precondition(lambda self: any(self.unused()))
    @rule(data=st.data(), elsewhere=st.booleans())
    def drop(self, data: st.DataObject, elsewhere: bool) -> None:
        """Forgotten without a release, by any thread: the memory comes back as if it had been released."""
        unused = list(self.unused())
        buffer = unused[data.draw(st.integers(0, len(unused) - 1))]
        self.let_go(buffer)
        last = [buffer]
        del unused, buffer
        if elsewhere:
            thread = Thread(target=last.clear)
            thread.start()
            thread.join()
        else:
            last.clear()
        self.serve()

    def unused(self) -> Iterator[gpu.UnifiedBuffer]:
        """Those that no launch uses."""
        return (buffer for buffer in self.live if all(buffer is not launch.buffer for launch in self.launches))

    def let_go(self, buffer: gpu.UnifiedBuffer) -> None:
        self.live.remove(buffer)
        if any(buffer is launch.buffer for launch in self.launches):
            self.retired.append(buffer)
        else:
            self.free[buffer.reserved] += 1

    @rule()
    def trim(self) -> None:
        assert self.pool.trim() == sum(size * count for size, count in self.free.items())
        self.free.clear()

    # --- what must hold ---

    @invariant()
    def bytes_are_conserved(self) -> None:
        if not hasattr(self, "pool"):
            return
        seen = self.pool.statistics()
        assert seen.active_bytes == sum(buffer.reserved for buffer in self.live)
        assert seen.in_flight_bytes == sum(buffer.reserved for buffer in self.retired)
        assert seen.held_bytes == sum(size * count for size, count in self.free.items())
        assert seen.active_bytes + seen.in_flight_bytes + seen.held_bytes == self.pool._raw.managed_bytes <= LIMIT
        assert seen.peak_bytes == self.peak
        assert (seen.hits, seen.misses, seen.waits) == (self.hits, self.misses, self.waits)
        assert seen.waiting == len(self.waiting)


TestPool = Pool.TestCase
TestPool.settings = settings(max_examples=max(10, settings.default.max_examples // 2))


def test_what_is_above_the_limit_is_refused_at_once() -> None:
    """Waiting for it would be waiting forever."""
    stepped = Stepped(memory_limit=LIMIT)
    try:
        with pytest.raises(gpu.OutOfDeviceMemory, match=r"400,000 bytes takes .* more than the limit of 65,536"):
            stepped.run(stepped.device.pool.acquire(100_000))
        with pytest.raises(MemoryError):
            stepped.device.pool.try_acquire((100_000,), np.int8)
        assert stepped.device.pool.statistics().waits == 0
    finally:
        stepped.close()
