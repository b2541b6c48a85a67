"""Pool, buffers and operations together, on a real device, against a naive model of all three.

The device runs nothing by itself: *gates* stand between the commands of two queues and the copies of the host, and the
test opens them. Nor does the event loop hear by itself what is over (`held_device`): the test tells it, of one lane before
the other, and lets every task go as far as it can in between. So nothing here depends on how fast the device is, and the
model (`device_model`) says exactly which task goes on, with what result. After each step everything is compared: who has how
many bytes, who waits, which side of each buffer is newer, what it contains, what was copied, what is counted.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from threading import Condition, Event, Thread
from typing import Any
from unittest import mock

import attrs
import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from rookery import gpu
from rookery.gpu import BufferState, _budget, _buffer, _lane, _opencl, _operation, _states, _views
from rookery.gpu._operation import Operation

from . import held_device
from .device_model import COPIES, LARGE, OTHER, OWN, Array, Model, Op, Task, Waiter
from .held_device import SOURCE, Failures, Held, open_gate
from .support import Gate, Stepped, Unreadable, without_shared_memory

LIMIT = 64 * 1024
SIZES = st.sampled_from([16, 1000, 3000, 6000, 6000, 6000])  # elements of four bytes
VALUES = st.integers(1, 100)
QUEUES = st.sampled_from([OWN, OTHER])
HOW = st.sampled_from(["submitted", "submitted", "chained", "awaited"])
SELDOM = st.sampled_from([False, False, False, True])
LOOKING: dict[str, Callable[[gpu.UnifiedBuffer], np.ndarray]] = {
    "at all": lambda buffer: buffer.host,
    "at a part": lambda buffer: buffer.host[5:],
    "as an array": np.asarray,
    "by dlpack": np.from_dlpack,
}


@attrs.define(eq=False)
class Work:
    """A task of the test's, beside its model."""

    task: asyncio.Task[Any]
    model: Task
    at: Op | None = None


@attrs.define(eq=False)
class View:
    """An array that somebody keeps over a buffer's host side."""

    seen: np.ndarray
    array: Array

    @property
    def expected(self) -> np.ndarray:
        return self.array.on_host[-self.seen.size :]


def same(expected: np.ndarray, actual: np.ndarray) -> bool:
    """Whether all is as expected that is known."""
    return bool(np.all(np.isnan(expected) | (expected == actual)))


class Device(RuleBasedStateMachine):
    """One device with two queues, a pool that is soon full, and tasks that use it and are cancelled."""

    @initialize(
        shared=st.booleans(), turns=st.permutations([OWN, OTHER, COPIES]), together=st.booleans(),
        sizes=st.lists(SIZES, max_size=2), watching=st.sampled_from([0.0, 1000.0]),
    )  # fmt: skip
    def open(self, shared: bool, turns: list[int], together: bool, sizes: list[int], watching: float) -> None:
        self.patches = ExitStack()
        self.patches.enter_context(mock.patch.object(_buffer, "LARGE", LARGE))
        # Who awaits a launch leaves it to the thread, or looks itself for as long as it takes.
        self.patches.enter_context(mock.patch.object(_lane, "WATCH_FOR", watching))
        self.stepped = Stepped(memory_limit=LIMIT)
        self.device = self.stepped.device if shared else without_shared_memory(self.stepped.device)
        self.pool = self.device.pool
        program = self.stepped.run(self.device.build(SOURCE))
        self.kernels = {name: program.kernel(name) for name in ("fill", "increment", "add")}
        other = self.stepped.run(self.stepped.stack.enter_async_context(self.device.open_queue()))
        self.queues = [self.device.queue, other]
        self.lanes = [self.device.queue.lane, other.lane, self.device.copies]
        self.turns, self.together = turns, together  # of which lane the loop hears first, and of how much at once
        changed = Condition()
        self.held = [Held(changed) for _ in self.lanes]
        for lane, held in zip(self.lanes, self.held, strict=True):
            lane._done = held  # type: ignore[misc,assignment]
        self.failures = Failures(self.lanes[:COPIES])
        self.patches.enter_context(self.failures.injected())
        self.model = Model(LIMIT, shared)
        self.works: list[Work] = []
        self.views: list[View] = []
        self.recent: list[tuple[Op, Operation]] = []  # launches, for chains
        for size in sizes:
            self.acquire_now(size, 1)

    def teardown(self) -> None:
        if not hasattr(self, "stepped"):
            return
        try:
            if sys.exc_info()[0] is None:  # not after a failure
                self.end_well()
        finally:
            for gate in [op.gate for lane in self.model.lanes for op in lane]:
                if gate is not None:
                    open_gate(gate)
            self.set_free()
            for task in asyncio.all_tasks(self.stepped.loop):
                task.cancel()
            self.stepped.settle()
            self.stepped.close()
            self.patches.close()

    def set_free(self) -> None:
        """From here on the loop hears of everything as it happens."""
        for lane, held in zip(self.lanes, self.held, strict=True):
            held.free = True
            lane._settle()

    def end_well(self) -> None:
        """Everything is opened, ended and given back: nothing is left, and the contents are right."""
        model = self.model
        model.to_failure = self.failures.countdown = None
        while gates := model.gates():
            self.open_gate(gates[0])
            self.sync()
        assert not any(model.lanes)
        assert not self.works
        for array in model.live:
            self.begin(array.real.read(), model.reading(array), gpu.NoData if array.newer == "neither" else None)
        self.sync()
        self.recent.clear()
        while self.views:
            self.drop(0)
            self.sync()
        while model.live:  # whoever waits is served now
            self.let_go(model.live[0])
            self.sync()
        assert not model.waiting
        assert not model.retired
        seen = self.pool.statistics()
        assert (seen.active_bytes, seen.in_flight_bytes) == (0, 0), "a leak"
        everything = self.pool.try_acquire(LIMIT // 4 - 1)
        assert everything is not None, "somebody's bytes were lost"
        self.pool.release(everything)
        del everything
        assert self.pool.trim() == self.pool.statistics().peak_bytes
        assert self.pool._raw.managed_bytes == 0

    # --- tasks, and what the loop is told ---

    def begin(self, real: Any, model: Task, refused: type[Exception] | None = None) -> None:
        """Start a task, and its model: if what it starts is not refused at once."""
        self.start(self.stepped.loop.create_task(real), model if refused is None else raising(refused))

    def start(self, task: asyncio.Task[Any], model: Task) -> None:
        self.works.append(work := Work(task, model))
        self.stepped.settle()  # what it starts stands behind what is there now
        self.advance(work)

    def advance(self, work: Work, *, cancelled: bool = False) -> None:
        """Go on in the model until it waits for something that is not over, or ends as the task did."""
        error: type[BaseException] | None = None
        expected = None
        try:
            op = work.model.throw(asyncio.CancelledError()) if cancelled else next(work.model)
            while op.over:
                op = next(work.model)
        except StopIteration as stopped:
            expected = stopped.value
        except (gpu.BufferReleased, gpu.CommandFailed, gpu.NoData, asyncio.CancelledError) as raised:
            error = type(raised)
        else:
            op.waiters.append(work)
            work.at = op
            return
        self.works.remove(work)
        check_ended(work.task, error, expected)

    def sync(self) -> None:
        """Let everything happen that can, in the model and in reality; then compare."""
        self.settle()
        self.model.run()
        while self.tell():
            self.model.run()
        assert not any(held.untold for held in self.held), "over before its time"
        assert not any(work.task.done() for work in self.works), "a task did not wait"
        self.compare()

    def tell(self) -> bool:
        """Tell the loop of what has run in a lane; whether there was something."""
        for lane in self.turns:
            ran = [op for op in self.model.lanes[lane] if op.ran]
            if ran:
                self.tell_of(lane, ran if self.together else ran[:1])
                return True
        return False

    def tell_of(self, lane: int, over: Sequence[Op]) -> None:
        told = sum(not isinstance(op.gate, Gate) for op in over)  # the gate of a queue is no operation
        if told:
            self.held[lane].tell(self.lanes[lane], told, self.stepped.settle)
        self.stepped.settle()
        for op in over:
            self.model.end(op)
        for op in over:
            while op.waiters:
                self.advance(op.waiters.pop(0))
            self.model.forget(op)
        self.settle()

    def settle(self) -> None:
        """Let every task go as far as it can; who has been granted memory has it now."""
        self.stepped.settle()
        self.model.serve()
        while self.model.granted:
            waiter = self.model.granted[0]
            assert waiter.got, "first come, first served"
            del self.model.granted[0]
            self.model.take(waiter.got[0]).lease = waiter.lease
        assert not any(waiter.got or waiter.task.done() for waiter in self.model.waiting)

    def compare(self) -> None:
        model, seen, pool = self.model, self.device.statistics(), self.pool.statistics()
        assert pool == gpu.PoolStatistics(
            limit_bytes=LIMIT,
            active_bytes=sum(array.reserved for array in model.live),
            in_flight_bytes=sum(array.reserved for array in model.retired),
            held_bytes=model.held(),
            peak_bytes=model.peak,
            hits=model.hits,
            misses=model.misses,
            waits=model.waits,
            waiting=len(model.waiting),
        )
        assert self.pool._raw.managed_bytes == model.charged() + model.held() <= LIMIT, "bytes are conserved"
        assert (seen.uploads, seen.downloads) == (model.uploads, model.downloads), "a transfer too many or too few"
        queued = sum(op.gate is None for lane in (OWN, OTHER) for op in model.lanes[lane])
        assert (seen.launched, seen.in_flight, seen.failed) == (model.launched, queued, model.failed)
        launches = {name: [one.launched, one.completed, one.failed] for name, one in seen.kernels.items()}
        assert launches == {name: model.kernels.get(name, [0, 0, 0]) for name in self.kernels}
        for array in model.live:
            assert array.real.state is array.state
            assert not array.real.released
        for view in self.views:
            assert same(view.expected, view.seen), "memory that an array looks at is nobody else's"

    # --- the pool ---

    @rule(size=SIZES, leased=st.booleans())
    def acquire(self, size: int, leased: bool) -> None:
        nbytes = self.rounded(size)
        got: list[gpu.UnifiedBuffer] = []
        lease = asyncio.Event() if leased else None

        async def take() -> None:
            if lease is None:
                got.append(await self.pool.acquire(size))
            else:
                async with self.pool.lease(size) as buffer:
                    got.append(buffer)
                    await lease.wait()

        self.model.waits += not self.model.fits(nbytes)
        self.model.waiting.append(Waiter(nbytes, self.stepped.loop.create_task(take()), lease, got))
        self.sync()

    @rule(size=SIZES, value=st.none() | VALUES)
    def try_acquire(self, size: int, value: int | None) -> None:
        self.acquire_now(size, value)
        self.sync()

    def acquire_now(self, size: int, value: int | None = None) -> None:
        expected = self.model.fits(self.rounded(size))
        buffer = self.pool.try_acquire(size)
        assert (buffer is not None) is expected
        if buffer is not None:
            array = self.model.take(buffer)
            if value is not None:
                buffer.copy_from(np.full(size, value, np.float32))
                array.host_written(value)

    def rounded(self, size: int) -> int:
        return _opencl.rounded_size(self.pool._raw, size * 4)

    @precondition(lambda self: self.model.waiting)
    @rule(data=st.data())
    def cancel_a_waiter(self, data: st.DataObject) -> None:
        waiter = self.draw(data, self.model.waiting)
        self.model.waiting.remove(waiter)
        waiter.task.cancel()
        self.sync()
        assert waiter.task.cancelled()

    def granting(self) -> list[Array]:
        """Those with whose release the first in line is granted."""
        model = self.model
        room = LIMIT - model.charged() - model.waiting[0].nbytes if model.waiting else -LIMIT
        unused = [one for one in self.owned() if not one.ops and not (model.shared and one.views)]
        return [one for one in unused if one.lease is None and room + one.reserved >= 0]

    @precondition(lambda self: self.granting())
    @rule(data=st.data())
    def cancel_whoever_is_granted_in_the_same_tick(self, data: st.DataObject) -> None:
        self.let_go(self.draw(data, self.granting()))
        waiter = self.model.granted.pop(0)
        waiter.task.cancel()
        self.sync()
        assert waiter.task.cancelled()

    def owned(self) -> list[Array]:
        return [array for array in self.model.live if not array.private]

    @precondition(lambda self: self.owned())
    @rule(data=st.data(), seen=st.booleans())
    def release(self, data: st.DataObject, seen: bool) -> None:
        array = self.draw(data, self.owned())
        if seen and array.undefined_error is None:
            self.look(array, "at all")
        self.let_go(array)
        self.sync()
        with pytest.raises(gpu.BufferReleased):
            _ = array.real.device

    def let_go(self, array: Array) -> None:
        self.model.release(array)
        if array.lease is not None:
            array.lease.set()
        else:
            self.pool.release(array.real)

    @rule()
    def trim(self) -> None:
        assert self.pool.trim() == self.model.held()
        self.model.free.clear()
        self.sync()

    # --- arrays over the host's side ---

    @precondition(lambda self: self.model.live)
    @rule(data=st.data(), how=st.sampled_from(sorted(LOOKING)))
    def keep_a_view(self, data: st.DataObject, how: str) -> None:
        """Also across the release of the buffer."""
        array = self.draw(data, self.model.live)
        if array.undefined_error is not None:
            with pytest.raises(array.undefined_error):
                LOOKING[how](array.real)
        else:
            self.look(array, how)
        self.sync()

    def look(self, array: Array, how: str) -> None:
        self.views.append(View(LOOKING[how](array.real), array))
        array.views += 1

    @precondition(lambda self: self.views)
    @rule(data=st.data(), elsewhere=st.booleans(), wanted=st.none() | SIZES)
    def drop_a_view(self, data: st.DataObject, elsewhere: bool, wanted: int | None) -> None:
        """In this thread or another one; who wants memory in the same tick may have that which it looked at."""
        index = data.draw(st.integers(0, len(self.views) - 1))
        if elsewhere:
            thread = Thread(target=self.drop, args=(index,))
            thread.start()
            thread.join()
        else:
            self.drop(index)
        if wanted is not None and not self.model.granted:
            self.acquire_now(wanted)
        self.sync()

    def drop(self, index: int) -> None:
        self.model.look_away(self.views.pop(index).array)

    @precondition(lambda self: any(view.array in self.model.retired and not view.array.ops for view in self.views))
    @rule(data=st.data(), value=VALUES)
    def write_to_what_outlived_its_buffer(self, data: st.DataObject, value: int) -> None:
        view = self.draw(data, [view for view in self.views if view.array in self.model.retired and not view.array.ops])
        view.expected[:] = value
        view.seen[:] = value
        self.sync()

    # --- gates, and failures ---

    @rule(lane=st.sampled_from([OWN, OTHER, COPIES]))
    def close_a_gate(self, lane: int) -> None:
        """What is launched from here on waits."""
        gate: Gate | Event
        if lane == COPIES:
            gate = Event()
            self.device.copies.submit(gate.wait, (), lambda: "a gate")
        else:
            gate = Gate(self.queues[lane])
        self.model.close_gate(lane, gate)
        self.sync()

    @precondition(lambda self: self.model.gates())
    @rule(data=st.data())
    def open_a_gate(self, data: st.DataObject) -> None:
        self.open_gate(self.draw(data, self.model.gates()))
        self.sync()

    def open_gate(self, op: Op) -> None:
        op.closed = False
        open_gate(op.gate)

    @precondition(lambda self: self.model.to_failure is None)
    @rule(after=st.integers(0, 2))
    def have_one_fail(self, after: int) -> None:
        """A launch, or a copy on a queue."""
        self.model.to_failure = self.failures.countdown = after

    # --- operations ---

    @precondition(lambda self: self.model.live)
    @rule(data=st.data(), lane=QUEUES, value=VALUES, how=HOW)
    def launch_fill(self, data: st.DataObject, lane: int, value: int, how: str) -> None:
        x = self.draw(data, self.model.live)

        def effect() -> None:
            x.on_device[:] = value

        self.launch(data, "fill", (x.real, value, x.size), [], x, effect, lane, how)

    @precondition(lambda self: self.model.live)
    @rule(data=st.data(), lane=QUEUES, how=HOW)
    def launch_increment(self, data: st.DataObject, lane: int, how: str) -> None:
        x = self.draw(data, self.model.live)

        def effect() -> None:
            x.on_device[:] += 1

        self.launch(data, "increment", (x.real, x.size), [], x, effect, lane, how)

    @precondition(lambda self: self.model.live)
    @rule(data=st.data(), lane=QUEUES, how=HOW)
    def launch_add(self, data: st.DataObject, lane: int, how: str) -> None:
        a, b, out = (self.draw(data, self.model.live) for _ in range(3))
        n = min(one.size for one in (a, b, out))

        def effect() -> None:
            out.on_device[:n] = a.on_device[:n] + b.on_device[:n]

        self.launch(data, "add", (a.real, b.real, out.real, n), [a, b], out, effect, lane, how)

    def launch(
        self,
        data: st.DataObject,
        name: str,
        args: tuple[Any, ...],
        read: Sequence[Array],
        out: Array,
        effect: Callable[[], None],
        lane: int,
        how: str,
    ) -> None:
        if any(one.breaks for array in [*read, out] for one in array.ops):
            return  # it would fail in the driver; see `Failures`
        kernel, options = self.kernels[name], {"size": args[-1], "local": 64, "queue": self.queues[lane]}
        before = [self.draw(data, self.recent)] if how == "chained" and self.recent else []
        if how == "awaited":
            self.begin(kernel(*args, **options), self.model.launching(name, read, out, effect, lane))
        else:
            launching = self.model.launching(name, read, out, effect, lane, [op for op, _ in before])
            try:
                op = next(launching)
            except (gpu.NoData, gpu.CommandFailed) as refused:
                with pytest.raises(type(refused)):
                    kernel.submit(*args, **options, after=[operation for _, operation in before])
            else:
                operation = kernel.submit(*args, **options, after=[operation for _, operation in before])
                self.recent = [*self.recent[-5:], (op, operation)]
        self.sync()
        assert all((real.done, real.failed) == (op.over, op.over and op.failed) for op, real in self.recent)

    @precondition(lambda self: self.model.live)
    @rule(data=st.data())
    def read(self, data: st.DataObject) -> None:
        array = self.draw(data, self.model.live)
        self.begin(array.real.read(), self.model.reading(array), gpu.NoData if array.newer == "neither" else None)
        self.sync()

    @precondition(lambda self: self.model.live)
    @rule(data=st.data(), value=VALUES, breaks=SELDOM)
    def write(self, data: st.DataObject, value: int, breaks: bool) -> None:
        array = self.draw(data, self.model.live)
        breaks = breaks and array.large
        given = np.full(array.size, value, np.float32)
        real = array.real.write(given.view(Unreadable) if breaks else given)
        self.begin(real, self.model.writing(array, value, breaks=breaks))
        self.sync()

    @precondition(lambda self: self.model.live)
    @rule(data=st.data(), value=VALUES)
    def write_at_once(self, data: st.DataObject, value: int) -> None:
        array = self.draw(data, self.model.live)
        given = np.full(array.size, value, np.float32)
        if array.ops:
            with pytest.raises(gpu.BufferBusy):
                array.real.copy_from(given)
        else:
            array.real.copy_from(given)
            array.host_written(value)
        self.sync()

    @precondition(lambda self: self.model.live)
    @rule(data=st.data(), value=VALUES)
    def write_through_the_view(self, data: st.DataObject, value: int) -> None:
        array = self.draw(data, self.model.live)
        if array.undefined_error is not None:
            with pytest.raises(array.undefined_error):
                _ = array.real.host
        elif array.ops:
            with pytest.raises(gpu.BufferBusy):
                array.real.mark_host_dirty()
        else:
            array.real.host[0] = array.on_host[0] = value
            array.real.mark_host_dirty()
            array.host_changed()
        self.sync()

    @precondition(lambda self: self.model.live)
    @rule(data=st.data())
    def ensure_on_device(self, data: st.DataObject) -> None:
        array = self.draw(data, self.model.live)
        refused = gpu.NoData if array.newer == "neither" else None
        self.begin(array.real.ensure_on_device(), self.model.ensuring(array), refused)
        self.sync()

    def copyable(self) -> list[Array]:
        written = [array for array in self.model.live if array.newer != "neither" and self.model.fits(array.reserved)]
        return [array for array in written if not any(op.breaks for op in array.ops)]  # see `launch`

    @precondition(lambda self: self.copyable())
    @rule(data=st.data())
    def copy(self, data: st.DataObject) -> None:
        source = self.draw(data, self.copyable())
        known = {id(array.real) for array in self.model.live}
        task = self.stepped.loop.create_task(self.device.copy(source.real))

        def copying() -> Task:
            if source.undefined:  # given back at once
                self.model.take_for_nothing(source.reserved)
                raise gpu.CommandFailed
            real = next(buffer for buffer in self.pool._live if id(buffer) not in known)
            yield from self.model.copying(source, self.model.take(real))

        self.start(task, copying())
        self.sync()

    @precondition(lambda self: self.model.fits(2 * 6000 * 4 + 8000))
    @rule(size=SIZES, value=VALUES)
    def stage(self, size: int, value: int) -> None:
        """A batch as a stage has it."""
        rows, result = self.pool.try_acquire(size), self.pool.try_acquire(size)
        assert rows is not None
        assert result is not None
        given = np.full(size, value, np.float32)

        async def fly() -> np.ndarray:
            try:
                rows.gather([*given])  # type: ignore[arg-type] # an element is a row of a flat buffer
                rows.start_upload(self.queues[OTHER])
                self.kernels["add"].submit(rows, rows, result, size, size=size, local=64)
                result.start_download(self.queues[OTHER])
                await result.ensure_on_host()
                return result.host.copy()
            finally:
                for buffer in (rows, result):
                    if not buffer.released:
                        self.pool.release(buffer)

        x, y = self.model.take(rows), self.model.take(result)
        self.begin(fly(), self.model.flying(x, y, value))
        self.sync()

    @precondition(lambda self: self.works)
    @rule(data=st.data())
    def cancel_a_task(self, data: st.DataObject) -> None:
        """Wherever it waits, and as often as one likes; what it started goes on."""
        self.cancel(self.draw(data, self.works))
        self.sync()

    def cancel(self, work: Work) -> None:
        work.task.cancel()
        self.stepped.settle()
        if work.at is not None:
            work.at.waiters.remove(work)
        self.advance(work, cancelled=True)

    def draw(self, data: st.DataObject, among: Sequence[Any]) -> Any:
        return among[data.draw(st.integers(0, len(among) - 1))]


def raising(error: type[Exception]) -> Task:
    """The model of a task that is refused."""
    raise error
    yield


def check_ended(task: asyncio.Task[Any], error: type[BaseException] | None, expected: np.ndarray | None) -> None:
    """A function of its own, which forgets at once what the task raised: its traceback may see memory."""
    assert task.done(), "a task waits for what is over"
    raised = asyncio.CancelledError if task.cancelled() else type(task.exception())
    assert raised is (error or type(None)), f"{task} instead of {error}"
    if expected is not None and error is None:
        assert same(expected, task.result())


TestDevice = Device.TestCase
TestDevice.settings = settings(max_examples=max(10, settings.default.max_examples // 5))


# --- the machine itself: it has to notice what it is for -----------------------------------------------


def in_flight_is_not_counted(buffer: gpu.UnifiedBuffer, operation: Operation) -> None:
    """A buffer that is released is taken back at once, whatever uses it."""
    buffer._last[operation.lane] = operation


@contextmanager
def transfers(count: int) -> Iterator[None]:
    """What brings the device side up to date does so so many times."""
    start = gpu.UnifiedBuffer.start_upload

    def start_upload(buffer: gpu.UnifiedBuffer, queue: gpu.Queue) -> Operation | None:
        for _ in range(count):
            state = buffer.state
            operation = start(buffer, queue)
            buffer._state = state
        buffer._state = _states.step(buffer.state, _states.Action.NEED_DEVICE)[0]
        return operation if count else None

    with mock.patch.object(gpu.UnifiedBuffer, "start_upload", start_upload):
        yield


BROKEN: dict[str, Callable[[], Any]] = {
    "memory in flight is handed out": lambda: mock.patch.object(gpu.UnifiedBuffer, "started", in_flight_is_not_counted),
    "memory that an array looks at is handed out": lambda: mock.patch.object(
        _views.HostViews, "keep", return_value=False
    ),
    "a launch does not make the device side newer": lambda: mock.patch.dict(
        _states.TRANSITIONS[_states.Action.WRITE_DEVICE],
        {BufferState.SYNCHRONIZED: (BufferState.SYNCHRONIZED, None)},
    ),
    "one transition, two transfers": lambda: transfers(2),
    "one transition, no transfer": lambda: transfers(0),
    "a cancelled waiter keeps its bytes": lambda: mock.patch.object(_budget.Budget, "leave", return_value=True),
    "a failure does not follow the data": lambda: mock.patch.object(_operation, "_inherit"),
}


@pytest.mark.once
@pytest.mark.parametrize("broken", BROKEN)
def test_the_machine_notices(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the faults that matter most."""
    monkeypatch.setattr(held_device, "PATIENCE", 2.0)
    few = settings(settings.get_profile("mutants"), max_examples=200, database=None, report_multiple_bugs=False)
    with BROKEN[broken](), pytest.raises(AssertionError):
        run_state_machine_as_test(Device, settings=few)
