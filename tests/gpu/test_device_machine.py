"""Pool, buffers and operations together, on a real device, against a naive model of all three.

The device runs nothing by itself: *gates* stand between the commands of two queues and the copies of the host, and the
test opens them. Nor does the event loop hear by itself what is over: the test tells it, one command after the other, in
the model's order, and lets every task go as far as it can in between. So nothing here depends on how fast the device
is, and the model says exactly which task goes on, with what result. After each step everything is compared: who has how
many bytes, who waits, which side of each buffer is newer, what it contains, what was copied.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from queue import Empty, SimpleQueue
from threading import Event
from typing import Any
from unittest import mock

import attrs
import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from rookery import gpu
from rookery.gpu import BufferState, _buffer, _opencl, _states
from rookery.gpu._lane import Lane, Operation

from .support import Gate, Stepped, without_shared_memory

LIMIT = 64 * 1024
LARGE = 8 * 1024
"""Bytes from which on a thread makes the host's copies, here."""
SIZES = st.sampled_from([16, 1000, 3000, 6000, 6000, 6000])  # elements of four bytes
VALUES = st.integers(1, 100)
FAILS = st.sampled_from([False, False, False, True])
PATIENCE = 20.0
"""Seconds after which a command that should be over counts as stuck; nothing waits as long when all is well."""
OWN, OTHER, COPIES = 0, 1, 2
"""The lanes: the device's own queue, another one, and the thread that copies on the host."""

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


class UnreadableError(Exception):
    """What the copy of an `Unreadable` array raises."""


class Unreadable(np.ndarray):
    """An array that no function of numpy can read."""

    def __array_function__(self, *_: object) -> Any:  # type: ignore[override]
        raise UnreadableError


@attrs.define(eq=False)
class Op:
    """A command or a host copy, as the model has it."""

    lane: int
    deps: list[Op]
    used: list[Array]
    effect: Callable[[], None]
    ended: Callable[[bool], None] | None = None  # called with whether it failed
    written: Sequence[Array] = ()  # what is undefined if it fails
    waiters: list[Work] = attrs.field(factory=list)  # in the order in which they began to wait
    failed: bool = False  # as soon as it is over
    over: bool = False
    closed: bool = False  # a gate that is not open yet
    breaks: bool = False  # a copy that raises, and does nothing
    gate: Gate | Event | None = None
    real: gpu.Operation | None = None


class Array:
    """A buffer, as the model has it. What is not known of its contents is NaN."""

    def __init__(self, real: gpu.UnifiedBuffer, *, shared: bool) -> None:
        self.real = real
        self.handle = real.device.int_ptr
        self.on_device = np.full(real.size, np.nan, np.float32)
        self.on_host = self.on_device if shared else self.on_device.copy()
        self.newer = "neither"
        self.ever_on_host = self.ever_on_device = False
        self.version = 0
        self.undefined = False  # what was to write it failed
        self.ops: list[Op] = []  # that use it and are not over
        self.last: dict[int, Op] = {}  # the latest of them in each lane
        self.upload: Op | None = None
        self.download: Op | None = None
        self.replacing: Op | None = None
        self.busy: Work | None = None  # a task of the test's
        self.lease: asyncio.Event | None = None
        self.private = False  # nobody has it but a task of rookery's

    @property
    def large(self) -> bool:
        return self.real.nbytes >= LARGE

    @property
    def state(self) -> BufferState:
        only_host = BufferState.HOST_DIRTY if self.ever_on_device else BufferState.HOST_ONLY
        only_device = BufferState.DEVICE_DIRTY if self.ever_on_host else BufferState.DEVICE_ONLY
        return {
            "neither": BufferState.UNINITIALIZED,
            "both": BufferState.SYNCHRONIZED,
            "host": only_host,
            "device": only_device,
        }[self.newer]

    def host_changed(self) -> None:
        self.newer, self.ever_on_host = "host", True

    def host_written(self) -> None:
        self.host_changed()
        self.undefined = False

    def device_written(self, op: Op) -> None:
        self.newer, self.ever_on_device = "device", True
        self.version += 1
        self.undefined = False
        op.written = [*op.written, self]


@attrs.define(eq=False)
class Waiter:
    """Somebody in the pool's line."""

    nbytes: int
    task: asyncio.Task[Any]
    lease: asyncio.Event | None
    got: list[gpu.UnifiedBuffer]


@attrs.define(eq=False)
class Work:
    """A task of the test's, beside its model: a generator that yields the operations it waits for."""

    task: asyncio.Task[Any]
    model: Generator[Op, None, Any]
    arrays: Sequence[Array]


class Held:
    """What the thread of a lane has done, in place of its queue: the loop hears of it when the test says so."""

    def __init__(self) -> None:
        self.seen: SimpleQueue[tuple[Operation, Exception | None]] = SimpleQueue()
        self.told = 0
        self.free = False

    def append(self, item: tuple[Operation, Exception | None]) -> None:
        self.seen.put(item)

    def __bool__(self) -> bool:
        return self.told > 0 or (self.free and not self.seen.empty())

    def popleft(self) -> tuple[Operation, Exception | None]:
        self.told = max(0, self.told - 1)
        return self.seen.get(timeout=PATIENCE)


@contextmanager
def failing() -> Iterator[None]:
    """What is launched here runs, and is reported as failed.

    Not by failing what it waits for: PoCL, when one command fails after another, aborts the process now and then.
    """
    follow = Lane.follow

    def follow_and_fail(lane: Lane, operation: gpu.Operation, used: Any, work: Callable[[], object]) -> gpu.Operation:
        def fail() -> None:
            work()
            raise _opencl.OpenCLError("it failed")

        return follow(lane, operation, used, fail)

    with mock.patch.object(Lane, "follow", follow_and_fail):
        yield


def same(expected: np.ndarray, actual: np.ndarray) -> bool:
    """Whether all is as expected that is known."""
    return bool(np.all(np.isnan(expected) | (expected == actual)))


class Device(RuleBasedStateMachine):
    """One device with two queues, a pool that is soon full, and tasks that use it and are cancelled."""

    @initialize(shared=st.booleans(), turns=st.permutations([OWN, OTHER, COPIES]))
    def open(self, shared: bool, turns: list[int]) -> None:
        self.fine = True
        self.patch = mock.patch.object(_buffer, "LARGE", LARGE)
        self.patch.start()
        self.stepped = Stepped(memory_limit=LIMIT)
        self.shared = shared
        self.device = self.stepped.device if shared else without_shared_memory(self.stepped.device)
        self.pool = self.device.pool
        program = self.stepped.run(self.device.build(SOURCE))
        self.fill, self.increment, self.add = map(program.kernel, ("fill", "increment", "add"))
        other = self.stepped.run(self.stepped.stack.enter_async_context(self.device.open_queue()))
        self.queues = [self.device.queue, other]
        self.lanes = [self.device.queue.lane, other.lane, self.device.copies]
        self.turns = turns  # of which lane the loop hears first
        self.held = [Held() for _ in self.lanes]
        for lane, held in zip(self.lanes, self.held, strict=True):
            lane._done = held  # type: ignore[misc,assignment]
        self.ops: list[list[Op]] = [[], [], []]  # of each lane, those that are not over
        self.recent: list[Op] = []  # launches, for chains
        self.live: list[Array] = []
        self.retired: list[Array] = []  # released, and still used by an operation
        self.waiting: list[Waiter] = []
        self.works: list[Work] = []
        self.uploads = self.downloads = self.handed_out = self.waits = 0

    def teardown(self) -> None:
        if not hasattr(self, "stepped"):
            return
        try:
            if self.fine:
                self.end_well()
        finally:
            for gate in [op.gate for lane in self.ops for op in lane]:
                if gate is not None:
                    gate.set() if isinstance(gate, Event) else gate.open()
            self.set_free()
            for task in asyncio.all_tasks(self.stepped.loop):
                task.cancel()
            self.stepped.settle()
            self.stepped.close()
            self.patch.stop()

    def set_free(self) -> None:
        """From here on the loop hears of everything as it happens."""
        for lane, held in zip(self.lanes, self.held, strict=True):
            held.free = True
            lane._settle()

    def end_well(self) -> None:
        """Everything is opened, ended and given back: nothing is left, and the contents are right."""
        while gates := list(self.gates()):
            self.open_gate(gates[0])
            self.sync()
        assert not any(self.ops)
        assert not self.works
        self.set_free()
        for array in self.live:
            if array.undefined:
                with pytest.raises(gpu.CommandFailed):
                    _ = array.real.host
            elif array.newer != "neither":
                assert same(array.on_device if array.newer != "host" else array.on_host, self.read_now(array))
        while self.live:  # whoever waits is served now
            for array in list(self.live):
                self.let_go(array)
            self.sync()
        assert not self.waiting
        seen = self.pool.statistics()
        assert (seen.active_bytes, seen.in_flight_bytes) == (0, 0), "a leak"
        everything = self.pool.try_acquire(LIMIT // 4 - 1)
        assert everything is not None, "somebody's bytes were lost"
        self.pool.release(everything)
        del everything
        seen = self.pool.statistics()
        if self.device.statistics().failed or self.device.copies.failed:
            gc.collect()  # what failed may have left a traceback that sees memory
        assert self.pool.trim() == seen.held_bytes
        assert self.pool._raw.managed_bytes == 0

    def read_now(self, array: Array) -> np.ndarray:
        """All is over: what a buffer has."""
        self.downloads += array.newer == "device" and not self.shared
        if array.newer == "device":
            array.on_host[:] = array.on_device
            array.newer, array.ever_on_host = "both", True
        read: np.ndarray = self.stepped.run(array.real.read())
        return read

    # --- the model of commands ---

    def start(
        self,
        lane: int,
        used: Sequence[Array],
        effect: Callable[[], None],
        ended: Callable[[bool], None] | None = None,
        after: Sequence[Op] = (),
    ) -> Op:
        """It waits for what uses the same buffers, and for what stands before it in its queue."""
        # A copy on the host waits for nothing but its turn: who starts it has waited for what matters.
        before = [] if lane == COPIES else [op for array in used for op in array.ops]
        deps = before + [op for op in after if not op.over]
        op = Op(lane, deps, list(used), effect, ended)
        self.ops[lane].append(op)
        for array in used:
            array.ops.append(op)
            array.last[lane] = op
        return op

    def start_upload(self, array: Array, lane: int) -> Op | None:
        """What `NEED_DEVICE` needs, if anything."""
        if array.newer != "host":
            return array.upload
        array.newer, array.ever_on_device = "both", True
        if self.shared:
            return None
        self.uploads += 1

        def effect() -> None:
            array.on_device[:] = array.on_host

        def ended(failed: bool) -> None:
            if array.upload is op:
                array.upload = None
                if failed and array.newer == "both":
                    array.newer = "host"

        array.upload = op = self.start(lane, [array], effect, ended)
        return op

    def start_download(self, array: Array, lane: int) -> Op:
        self.downloads += 1
        version = array.version

        def effect() -> None:
            array.on_host[:] = array.on_device

        def ended(failed: bool) -> None:
            array.download = None
            if not failed and version == array.version:
                array.newer, array.ever_on_host = "both", True

        array.download = op = self.start(lane, [array], effect, ended)
        return op

    def end_one(self) -> bool:
        """End an operation whose turn has come, and tell the loop; whether there was one."""
        for lane in self.turns:
            ops = self.ops[lane]
            if ops and not ops[0].closed and all(dep.over for dep in ops[0].deps):
                self.end(ops.pop(0))
                return True
        return False

    def end(self, op: Op) -> None:
        if not isinstance(op.gate, Gate):  # the gate of a queue is no operation
            self.held[op.lane].told += 1
            try:
                self.lanes[op.lane]._settle()
            except Empty:
                raise AssertionError(f"not over: {self.lanes[op.lane].in_flight[:1]}") from None
        self.stepped.settle()
        op.over = True
        if not op.breaks:
            op.effect()
        self.ended(op)
        for work in op.waiters:
            if work in self.works:
                self.advance(work)
        op.waiters = []  # a task that failed has a traceback that sees memory
        self.serve()

    def ended(self, op: Op) -> None:
        for array in op.used:
            if op in array.ops:
                array.ops.remove(op)
            if array.last.get(op.lane) is op:
                del array.last[op.lane]
        for array in op.written:
            array.undefined |= op.failed
        if op.ended is not None:
            op.ended(op.failed)
        for array in [array for array in self.retired if not array.ops]:
            self.retired.remove(array)

    # --- the model of tasks and of the pool ---

    def charged(self) -> int:
        return sum(array.real.reserved for array in [*self.live, *self.retired])

    def work(self, arrays: Sequence[Array], real: Any, model: Generator[Op, None, Any]) -> Work:
        work = Work(self.stepped.loop.create_task(real), model, arrays)
        for array in arrays:
            array.busy = work
        self.begin(work)
        return work

    def begin(self, work: Work) -> None:
        self.works.append(work)
        self.stepped.settle()  # what it starts stands behind what is there now
        self.advance(work)

    def advance(self, work: Work) -> None:
        """Go on in the model until it waits for something that is not over, or ends as the task did."""
        ended: type[Exception] | None = None
        expected = None
        try:
            while (op := next(work.model)).over:
                pass
        except StopIteration as stopped:
            expected = stopped.value
        except (gpu.BufferReleased, gpu.CommandFailed) as raised:
            ended = type(raised)
        else:
            op.waiters.append(work)
            return
        self.works.remove(work)
        for array in work.arrays:
            array.busy = None
        assert work.task.done(), "a task waits for what is over"
        error = work.task.exception()
        assert (None if error is None else type(error)) is ended, f"{error!r} instead of {ended}"
        if expected is not None:
            assert same(expected, work.task.result())

    def sync(self) -> None:
        """Let everything happen that can, in the model and in reality; then compare."""
        self.fine = False
        self.stepped.settle()
        self.serve()
        while self.end_one():
            pass
        assert all(held.seen.empty() for held in self.held), "over before its time"
        assert not any(work.task.done() for work in self.works), "a task did not wait"
        self.compare()
        self.fine = True

    def serve(self) -> None:
        while self.waiting and self.charged() + self.waiting[0].nbytes <= LIMIT:
            waiter = self.waiting.pop(0)
            assert waiter.got, "first come, first served"
            self.take(waiter.got[0]).lease = waiter.lease
        assert not any(waiter.got or waiter.task.done() for waiter in self.waiting)

    def take(self, real: gpu.UnifiedBuffer) -> Array:
        array = Array(real, shared=self.shared)
        assert array.handle not in {other.handle for other in self.live}
        assert array.handle not in {other.handle for other in self.retired}, "memory in flight handed out"
        self.live.append(array)
        self.handed_out += 1
        return array

    def compare(self) -> None:
        in_flight = sum(array.real.reserved for array in self.retired)
        if self.pool.statistics().in_flight_bytes != in_flight:
            gc.collect()  # what failed may have left a traceback that sees memory, which counts until it is gone
        seen = self.device.statistics()
        pool = seen.pool
        assert pool.active_bytes == sum(array.real.reserved for array in self.live)
        assert pool.in_flight_bytes == in_flight
        assert self.unaccounted() == 0, "bytes are conserved"
        assert self.pool._raw.managed_bytes <= LIMIT
        assert pool.active_bytes + pool.in_flight_bytes <= pool.peak_bytes <= LIMIT
        assert (pool.waiting, pool.waits) == (len(self.waiting), self.waits)
        assert pool.hits + pool.misses == self.handed_out
        assert (seen.uploads, seen.downloads) == (self.uploads, self.downloads), "a transfer too many or too few"
        for array in self.live:
            assert array.real.state is array.state
            assert not array.real.released

    def unaccounted(self) -> int:
        """Bytes that belong to no buffer and are not held for the next one."""

        def now() -> int:
            pool = self.pool.statistics()
            return self.pool._raw.managed_bytes - pool.active_bytes - pool.in_flight_bytes - pool.held_bytes

        if now():
            gc.collect()  # what failed may have left a traceback that sees memory
        return now()

    # --- the pool ---

    @rule(size=SIZES, leased=st.booleans())
    def acquire(self, size: int, leased: bool) -> None:
        nbytes = _opencl.rounded_size(self.pool._raw, size * 4)
        got: list[gpu.UnifiedBuffer] = []
        lease = asyncio.Event() if leased else None

        async def take() -> None:
            if lease is None:
                got.append(await self.pool.acquire(size))
            else:
                async with self.pool.lease(size) as buffer:
                    got.append(buffer)
                    await lease.wait()

        self.waits += bool(self.waiting) or self.charged() + nbytes > LIMIT
        self.waiting.append(Waiter(nbytes, self.stepped.loop.create_task(take()), lease, got))
        self.sync()

    @rule(size=SIZES)
    def try_acquire(self, size: int) -> None:
        buffer = self.pool.try_acquire(size)
        assert (buffer is not None) is self.fits(size)
        if buffer is not None:
            self.take(buffer)
        self.sync()

    def fits(self, size: int) -> bool:
        return not self.waiting and self.charged() + _opencl.rounded_size(self.pool._raw, size * 4) <= LIMIT

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def cancel_a_waiter(self, data: st.DataObject) -> None:
        waiter = self.waiting.pop(data.draw(st.integers(0, len(self.waiting) - 1)))
        waiter.task.cancel()
        self.sync()
        assert waiter.task.cancelled()

    def granting(self) -> list[Array]:
        """Those with whose release the first in line is granted."""
        room = LIMIT - self.charged() - self.waiting[0].nbytes if self.waiting else -LIMIT
        return [one for one in self.owned() if one.lease is None and not one.ops and room + one.real.reserved >= 0]

    @precondition(lambda self: self.granting())
    @rule(data=st.data())
    def cancel_whoever_is_granted_in_the_same_tick(self, data: st.DataObject) -> None:
        self.let_go(self.draw(data, self.granting()))
        waiter = self.waiting.pop(0)
        waiter.task.cancel()
        self.sync()
        assert waiter.task.cancelled()

    def owned(self) -> list[Array]:
        return [array for array in self.live if not array.private]

    @precondition(lambda self: self.owned())
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        array = self.draw(data, self.owned())
        self.let_go(array)
        self.sync()
        with pytest.raises(gpu.BufferReleased):
            _ = array.real.device

    def let_go(self, array: Array) -> None:
        self.live.remove(array)
        if array.ops:
            self.retired.append(array)
        if array.lease is not None:
            array.lease.set()
        else:
            self.pool.release(array.real)

    @rule()
    def trim(self) -> None:
        held = self.pool.statistics().held_bytes
        assert self.pool.trim() == held
        self.sync()

    # --- gates ---

    @rule(lane=st.sampled_from([OWN, OTHER, COPIES]))
    def close_a_gate(self, lane: int) -> None:
        """What is launched from here on waits."""
        gate: Gate | Event
        if lane == COPIES:
            gate = Event()
            self.device.copies.submit(gate.wait, (), lambda: "a gate")
        else:
            gate = Gate(self.queues[lane])
        op = self.start(lane, [], lambda: None)
        op.closed, op.gate = True, gate
        self.sync()

    def gates(self) -> Iterator[Op]:
        """Those that are first in their lanes."""
        return (lane[0] for lane in self.ops if lane and lane[0].closed)

    @precondition(lambda self: any(self.gates()))
    @rule(data=st.data())
    def open_a_gate(self, data: st.DataObject) -> None:
        self.open_gate(self.draw(data, list(self.gates())))
        self.sync()

    def open_gate(self, op: Op) -> None:
        op.closed = False
        if isinstance(op.gate, Event):
            op.gate.set()
        elif isinstance(op.gate, Gate):
            op.gate.open()

    # --- operations ---

    @precondition(lambda self: self.live)
    @rule(data=st.data(), lane=st.sampled_from([OWN, OTHER]), value=VALUES, chained=st.booleans(), fails=FAILS)
    def launch_fill(self, data: st.DataObject, lane: int, value: int, chained: bool, fails: bool) -> None:
        x = self.draw(data, self.live)

        def effect() -> None:
            x.on_device[:] = value

        self.launch(data, self.fill, (x.real, value, x.real.size), [], [x], effect, lane, chained, fails)

    @precondition(lambda self: self.live)
    @rule(data=st.data(), lane=st.sampled_from([OWN, OTHER]), chained=st.booleans(), fails=FAILS)
    def launch_increment(self, data: st.DataObject, lane: int, chained: bool, fails: bool) -> None:
        x = self.draw(data, self.live)

        def effect() -> None:
            x.on_device[:] += 1

        self.launch(data, self.increment, (x.real, x.real.size), [], [x], effect, lane, chained, fails)

    @precondition(lambda self: self.live)
    @rule(data=st.data(), lane=st.sampled_from([OWN, OTHER]), chained=st.booleans(), fails=FAILS)
    def launch_add(self, data: st.DataObject, lane: int, chained: bool, fails: bool) -> None:
        a, b, out = (self.draw(data, self.live) for _ in range(3))
        n = min(one.real.size for one in (a, b, out))

        def effect() -> None:
            out.on_device[:n] = a.on_device[:n] + b.on_device[:n]

        self.launch(data, self.add, (a.real, b.real, out.real, n), [a, b], [out], effect, lane, chained, fails)

    def launch(
        self,
        data: st.DataObject,
        kernel: gpu.Kernel,
        args: tuple[Any, ...],
        read: Sequence[Array],
        written: Sequence[Array],
        effect: Callable[[], None],
        lane: int,
        chained: bool,
        fails: bool,
    ) -> None:
        after = [self.draw(data, self.recent)] if chained and self.recent else []
        how = {"size": args[-1], "local": 64, "queue": self.queues[lane], "after": [op.real for op in after]}
        if any(array.newer == "neither" for array in read):
            with pytest.raises(gpu.NoData):
                kernel.submit(*args, **how)
            return
        used = [*read, *written]
        if any(op.breaks for array in used for op in array.ops):
            return  # it would fail in the driver; see `failing`
        stale = [array for array in dict.fromkeys(used) if array.newer == "host" and not self.shared]
        uploads = [self.start_upload(array, lane) for array in stale]
        for array in used:
            self.start_upload(array, lane)
        if any(op.failed and op.over for op in after):
            with pytest.raises(gpu.CommandFailed):
                kernel.submit(*args, **how)
            self.sync()
            return
        op = self.start(lane, used, effect, after=after)
        for array in written:
            array.device_written(op)
        for one in [op, *uploads]:
            if one is not None:
                one.failed = fails
        with failing() if fails else nullcontext():
            op.real = kernel.submit(*args, **how)
        self.recent = [*self.recent[-5:], op]
        self.sync()
        assert (op.real.done, op.real.failed) == (op.over, op.over and op.failed)

    # --- the host's side ---

    def idle(self) -> list[Array]:
        """Those that no task of the test's is at."""
        return [array for array in self.live if array.busy is None]

    @precondition(lambda self: self.idle())
    @rule(data=st.data())
    def read(self, data: st.DataObject) -> None:
        array = self.draw(data, self.idle())
        if array.newer == "neither":
            with pytest.raises(gpu.NoData):
                self.stepped.run(array.real.read())
            return
        self.work([array], array.real.read(), self.reading(array))
        self.sync()

    def reading(self, array: Array) -> Generator[Op, None, np.ndarray]:
        yield from self.making_current(array)
        if not array.large:
            return array.on_host.copy()
        read = array.on_host.copy()

        def effect() -> None:
            read[:] = array.on_host

        yield from self.awaiting(self.start(COPIES, [array], effect))
        return read

    def awaiting(self, op: Op) -> Generator[Op, None, None]:
        yield op
        if op.failed:
            raise gpu.CommandFailed

    def making_current(self, array: Array) -> Generator[Op, None, None]:
        """What it is to bring the host's side up to date."""
        self.check_defined(array)
        while array.replacing is not None or array.newer == "device":
            if array.replacing is not None:
                yield from self.awaiting(array.replacing)
            elif not self.shared:
                yield from self.awaiting(array.download or self.start_download(array, OWN))
            elif array.last:
                yield from self.awaiting(next(iter(array.last.values())))
            else:
                array.newer, array.ever_on_host = "both", True
            self.check_live(array)
            self.check_defined(array)

    def check_live(self, array: Array) -> None:
        if array not in self.live:
            raise gpu.BufferReleased

    def check_defined(self, array: Array) -> None:
        if array.undefined:
            raise gpu.CommandFailed

    @precondition(lambda self: self.idle())
    @rule(data=st.data(), value=VALUES, breaks=FAILS)
    def write(self, data: st.DataObject, value: int, breaks: bool) -> None:
        array = self.draw(data, self.idle())
        breaks = breaks and array.large
        given = np.full(array.real.shape, value, np.float32)
        self.work(
            [array], array.real.write(given.view(Unreadable) if breaks else given), self.writing(array, value, breaks)
        )
        self.sync()

    def writing(self, array: Array, value: int, breaks: bool) -> Generator[Op, None, None]:
        while array.last:
            yield next(iter(array.last.values()))
            self.check_live(array)
        if array.large:
            yield from self.awaiting(self.start_replacing(array, value, breaks))
        else:
            array.on_host[:] = value
            array.host_written()

    def start_replacing(self, array: Array, value: int, breaks: bool = False) -> Op:
        def effect() -> None:
            array.on_host[:] = value

        def ended(failed: bool) -> None:
            array.replacing = None

        array.replacing = op = self.start(COPIES, [array], effect, ended)
        op.breaks = op.failed = breaks
        array.host_written()
        op.written = [array]
        return op

    @precondition(lambda self: self.idle())
    @rule(data=st.data(), value=VALUES)
    def write_at_once(self, data: st.DataObject, value: int) -> None:
        array = self.draw(data, self.idle())
        given = np.full(array.real.shape, value, np.float32)
        if array.ops:
            with pytest.raises(gpu.BufferBusy):
                array.real.copy_from(given)
            return
        array.real.copy_from(given)
        array.on_host[:] = value
        array.host_written()
        self.sync()

    @precondition(lambda self: self.idle())
    @rule(data=st.data(), value=VALUES)
    def write_through_the_view(self, data: st.DataObject, value: int) -> None:
        array = self.draw(data, self.idle())
        if array.undefined:
            with pytest.raises(gpu.CommandFailed):
                _ = array.real.host
        elif array.newer in ("neither", "device") or array.replacing is not None:
            with pytest.raises((gpu.StaleHost, gpu.NoData, gpu.BufferBusy)):
                _ = array.real.host
        elif array.ops:
            with pytest.raises(gpu.BufferBusy):
                array.real.mark_host_dirty()
        else:
            array.real.host[0] = array.on_host[0] = value
            array.real.mark_host_dirty()
            array.host_changed()
        self.sync()

    @precondition(lambda self: self.idle())
    @rule(data=st.data())
    def ensure_on_device(self, data: st.DataObject) -> None:
        array = self.draw(data, self.idle())
        if array.newer == "neither":
            with pytest.raises(gpu.NoData):
                self.stepped.run(array.real.ensure_on_device())
            return

        def ensuring() -> Generator[Op, None, None]:
            if array.replacing is not None:
                yield from self.awaiting(array.replacing)
                self.check_live(array)
            op = self.start_upload(array, OWN)
            if op is not None:
                yield from self.awaiting(op)

        self.work([array], array.real.ensure_on_device(), ensuring())
        self.sync()

    # --- what is made of them ---

    @precondition(lambda self: any(array.newer != "neither" and self.fits(array.real.size) for array in self.live))
    @rule(data=st.data())
    def copy(self, data: st.DataObject) -> None:
        """A copy on the device, which is given back if its task is cancelled or fails."""
        possible = [array for array in self.live if array.newer != "neither" and self.fits(array.real.size)]
        source = self.draw(data, possible)
        if any(op.breaks for op in source.ops):
            return  # it would fail in the driver; see `failing`

        def copying() -> Generator[Op, None, None]:
            known = [array.real for array in self.live]
            target = self.take(next(buffer for buffer in self.pool._live if buffer not in known))
            work.arrays = [target]
            target.busy, target.private = work, True
            self.start_upload(source, OWN)

            def effect() -> None:
                target.on_device[:] = source.on_device

            op = self.start(OWN, [source, target], effect)
            target.device_written(op)
            try:
                yield from self.awaiting(op)
            finally:
                target.busy, target.private = None, False
                if not op.over or op.failed:
                    self.gone(target)

        work = Work(self.stepped.loop.create_task(self.device.copy(source.real)), copying(), [])
        self.begin(work)
        self.sync()

    def gone(self, array: Array) -> None:
        """Given back by the task that had it."""
        if array in self.live:
            self.live.remove(array)
            if array.ops:
                self.retired.append(array)

    @precondition(lambda self: self.fits(2 * 6000 + 2000))
    @rule(size=SIZES, value=VALUES)
    def stage(self, size: int, value: int) -> None:
        """A batch as a stage has it: rows copied in beside the kernels, a launch, the result copied out, an answer."""
        rows, result = self.pool.try_acquire(size), self.pool.try_acquire(size)
        assert rows is not None
        assert result is not None
        given = np.full(size, value, np.float32)

        async def fly() -> np.ndarray:
            try:
                rows.gather([*given])  # type: ignore[arg-type] # an element is a row of a flat buffer
                rows.start_upload(self.queues[OTHER])
                self.add.submit(rows, rows, result, size, size=size, local=64)
                result.start_download(self.queues[OTHER])
                await result.ensure_on_host()
                return result.host.copy()
            finally:
                for buffer in (rows, result):
                    if not buffer.released:
                        self.pool.release(buffer)

        x, y = self.take(rows), self.take(result)

        def effect() -> None:
            y.on_device[:] = x.on_device + x.on_device

        def flying() -> Generator[Op, None, np.ndarray]:
            try:
                if x.large:
                    self.start_replacing(x, value)
                else:
                    x.on_host[:] = value
                    x.host_written()
                self.start_upload(x, OTHER)
                y.device_written(self.start(OWN, [x, y], effect))
                if not self.shared:
                    self.start_download(y, OTHER)
                yield from self.making_current(y)
                return y.on_host.copy()
            finally:
                self.gone(x)
                self.gone(y)

        self.work([x, y], fly(), flying())
        self.sync()

    @precondition(lambda self: self.works)
    @rule(data=st.data())
    def cancel_a_task(self, data: st.DataObject) -> None:
        """Wherever it waits; what it started goes on."""
        work = self.draw(data, self.works)
        work.task.cancel()
        self.stepped.settle()
        writes = any(array.replacing is not None for array in work.arrays)  # that is waited for: see `write`
        assert work.task.cancelled() or (writes and not work.task.done())
        self.works.remove(work)
        work.model.close()
        for array in work.arrays:
            array.busy = None
        self.sync()

    def draw(self, data: st.DataObject, among: Sequence[Any]) -> Any:
        return among[data.draw(st.integers(0, len(among) - 1))]


TestDevice = Device.TestCase
TestDevice.settings = settings(max_examples=max(10, settings.default.max_examples // 5))


# --- the machine itself: it has to notice what it is for -----------------------------------------------


def in_flight_is_not_counted(buffer: gpu.UnifiedBuffer, operation: gpu.Operation) -> None:
    """A buffer that is released is taken back at once, whatever uses it."""
    buffer._last[operation.lane] = operation


BROKEN: dict[str, Callable[[], Any]] = {
    "memory in flight is handed out": lambda: mock.patch.object(gpu.UnifiedBuffer, "started", in_flight_is_not_counted),
    "a launch does not make the device side newer": lambda: mock.patch.dict(
        _states.TRANSITIONS[_states.Action.WRITE_DEVICE],
        {BufferState.SYNCHRONIZED: (BufferState.SYNCHRONIZED, None)},
    ),
    "a cancelled waiter keeps its bytes": lambda: mock.patch.object(gpu.BufferPool, "_take_back"),
}


@pytest.mark.once
@pytest.mark.parametrize("broken", BROKEN)
def test_the_machine_notices(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the three faults that matter most."""
    monkeypatch.setitem(globals(), "PATIENCE", 2.0)
    few = settings(settings.get_profile("mutants"), max_examples=100, database=None, report_multiple_bugs=False)
    with BROKEN[broken](), pytest.raises(AssertionError):
        run_state_machine_as_test(Device, settings=few)
