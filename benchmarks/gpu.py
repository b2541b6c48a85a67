"""Devices beside bare pyopencl and NumPy: launches, memory, chains, batched stages. On PoCL: figures of a processor.

Each measurement opens a device and compiles its kernels first; neither is part of the time.
"""

from __future__ import annotations

import functools
import statistics
from contextlib import asynccontextmanager
from time import perf_counter, thread_time
from typing import TYPE_CHECKING, Any, Final

import anyio
import attrs
import numpy as np
import numpy.typing as npt
import pyopencl as cl
from anyio.lowlevel import checkpoint
from pyopencl.tools import ImmediateAllocator, MemoryPool

from harness import NO_LOOP, Benchmark, Candidate, Kind, expect
from rookery import Request, gpu, message, open_system
from workload import Stopwatch

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable

TASKS: Final = 200
CALLERS: Final = 100
ROW: Final = 64
"""Elements of a small message."""
SIDE: Final = 1 << 24
"""Elements of the arrays of a chain."""
CHAIN: Final = 10
PART: Final = 1 << 20
"""Elements of an array that is streamed: 4 MiB."""
TICK: Final = 0.001
LIMIT: Final = 1 << 30

SOURCE: Final = """
kernel void nothing(global float *x, int n) {}

kernel void spin(global float *x, int rounds, int n)
{
    int i = get_global_id(0);
    if (i >= n) return;
    float v = x[i];
    for (int r = 0; r < rounds; r++) v = v * 1.0001f + 0.5f;
    x[i] = v;
}

// Without a guard, since the sizes are whole groups: of what stands behind one, PoCL makes no vector code.
kernel void saxpy(float a, global const float *x, global float *y)
{
    int i = get_global_id(0);
    y[i] += a * x[i];
}

kernel void square(global const float *x, global float *y, int n)
{
    int i = get_global_id(0);
    if (i < n) y[i] = x[i] * x[i];
}

kernel void work(global const float *x, global float *y, int rounds, int n)
{
    int i = get_global_id(0);
    if (i >= n) return;
    float v = x[i];
    for (int r = 0; r < rounds; r++) v = v * 1.0001f + 0.5f;
    y[i] = v;
}
"""

Array = npt.NDArray[np.float32]


@message
class Row(Request[Array]):
    """An array to be computed with."""

    values: Array


@attrs.frozen
class Bare:
    """The same device by pyopencl alone."""

    queue: Any
    program: Any

    @classmethod
    def on(cls, device: gpu.Device) -> Bare:
        """A queue and the kernels of its own, in the device's context."""
        return cls(cl.CommandQueue(device.context), cl.Program(device.context, SOURCE).build())

    def kernel(self, name: str, *scalars: type[np.generic] | None) -> Any:
        """A kernel, told the types of its scalars."""
        made: Any = cl.Kernel(self.program, name)
        made.set_scalar_arg_dtypes(scalars)
        return made

    def launch(self, kernel: Any, size: int, *args: Any) -> Any:
        """Start a kernel, as rookery does: arguments, launch, flush."""
        kernel.set_args(*args)
        event: Any = cl.enqueue_nd_range_kernel(self.queue, kernel, (size,), (64,))
        self.queue.flush()
        return event


def opened() -> Any:
    """A device to measure on."""
    return gpu.open_device("pocl", memory_limit=LIMIT)


# ---- launches


async def launches(count: int, seconds: Callable[[], float], *, bare: bool) -> float:
    """Seconds by that clock for that many launches of a kernel that does nothing, and one wait for all of them."""
    async with opened() as device:
        x = await device.upload(np.zeros(ROW, np.float32))
        by_hand, kernel = Bare.on(device), (await device.build(SOURCE)).kernel("nothing")
        raw = by_hand.kernel("nothing", None, np.int32)
        await kernel(x, 1, size=64, local=64)
        by_hand.launch(raw, 64, x.device, 1).wait()
        return await _launches(count, seconds, by_hand, raw, kernel, x, bare=bare)


async def _launches(
    count: int, seconds: Callable[[], float], by_hand: Bare, raw: Any, kernel: gpu.Kernel, x: Any, *, bare: bool
) -> float:
    before = seconds()
    if bare:
        memory = x.device
        events = [by_hand.launch(raw, 64, memory, 1) for _ in range(count)]
        events[-1].wait()
    else:
        operations = [kernel.submit(x, 1, size=64, local=64) for _ in range(count)]
        await operations[-1]
    return seconds() - before


async def on_top(count: int) -> float:
    """Microseconds of the loop's thread that a launch takes more than with pyopencl alone, its completion included.

    The median of several turns, in each of which both take theirs.
    """
    async with opened() as device:
        x = await device.upload(np.zeros(ROW, np.float32))
        by_hand, kernel = Bare.on(device), (await device.build(SOURCE)).kernel("nothing")
        raw = by_hand.kernel("nothing", None, np.int32)
        more: list[float] = []
        turn = max(count // 10, 1)
        for _ in range(11):
            ours = await _launches(turn, thread_time, by_hand, raw, kernel, x, bare=False)
            theirs = await _launches(turn, thread_time, by_hand, raw, kernel, x, bare=True)
            more.append((ours - theirs) / turn * 1e6)
        expect(kernel.owner.statistics().kernels["nothing"].completed, 11 * turn, "launches")
    return max(statistics.median(more[1:]), 0.0)


async def awaited(count: int, *, bare: bool) -> float:
    """Seconds for that many launches of a kernel of some milliseconds, each waited for."""
    async with opened() as device:
        x = await device.upload(np.zeros(ROW, np.float32))
        by_hand, kernel = Bare.on(device), (await device.build(SOURCE)).kernel("spin")
        raw = by_hand.kernel("spin", None, np.int32, np.int32)
        rounds = 40_000  # 2.7 ms of a processor that has nothing else to do
        await kernel(x, 1, ROW, size=ROW, local=64)
        by_hand.launch(raw, ROW, x.device, 1, ROW).wait()
        watch = Stopwatch()
        for _ in range(count):
            if bare:
                by_hand.launch(raw, ROW, x.device, rounds, ROW).wait()
            else:
                await kernel(x, rounds, ROW, size=ROW, local=64)
        return watch.seconds()


async def many_tasks(count: int, *, bare: bool) -> float:
    """Seconds until that many launches are over, each awaited by one of 200 tasks."""
    async with opened() as device:
        return await _many_tasks(device, count, bare=bare)


async def _many_tasks(device: gpu.Device, count: int, *, bare: bool) -> float:
    x = await device.upload(np.zeros(ROW, np.float32))
    by_hand, kernel = Bare.on(device), (await device.build(SOURCE)).kernel("nothing")
    raw = by_hand.kernel("nothing", None, np.int32)
    await kernel(x, 1, size=64, local=64)
    by_hand.launch(raw, 64, x.device, 1).wait()
    left = iter(range(count))

    async def launch() -> None:
        for _ in left:
            await kernel(x, 1, size=64, local=64)

    async def launch_and_poll() -> None:
        for _ in left:
            event = by_hand.launch(raw, 64, x.device, 1)
            while event.command_execution_status != cl.command_execution_status.COMPLETE:
                await checkpoint()
            event.wait()

    watch = Stopwatch()
    async with anyio.create_task_group() as tasks:
        for _ in range(TASKS):
            tasks.start_soon(launch_and_poll if bare else launch)
    expect(next(left, None), None, "launches that are left")
    return watch.seconds()


async def late_ticks(count: int, *, beside: str) -> float:
    """Milliseconds that a ticker of 1 ms is late at the 99th percentile, beside 200 tasks that launch and wait.

    Or, to see how late it is without rookery, beside as many that launch and poll, or beside nothing for a second.
    """
    late: list[float] = []

    async def tick() -> None:
        while True:
            due = perf_counter() + TICK
            await anyio.sleep(TICK)
            late.append((perf_counter() - due) * 1e3)

    async with opened() as device, anyio.create_task_group() as tasks:
        tasks.start_soon(tick)
        if beside == "nothing":
            await anyio.sleep(1)
        else:
            await _many_tasks(device, count, bare=beside == "polling")
        tasks.cancel_scope.cancel()
    return max(sorted(late)[int(len(late) * 0.99)], 0.0) if late else 0.0


# ---- memory


async def acquire_and_release(count: int) -> float:
    """Seconds for that many times acquiring a buffer that is there to be reused, and releasing it."""
    async with opened() as device:
        pool = device.pool
        pool.release(await pool.acquire(ROW))
        watch = Stopwatch()
        for _ in range(count):
            pool.release(await pool.acquire(ROW))
        seconds = watch.seconds()
        expect(pool.statistics().misses, 1, "buffers that were allocated")
    return seconds


async def bare_pool(count: int) -> float:
    """The same by pyopencl's own pool, which has no limit, and knows of no commands in flight."""
    async with opened() as device:
        queue = cl.CommandQueue(device.context)
        pool: Any = MemoryPool(ImmediateAllocator(queue))
        pool.allocate(ROW * 4).release()
        watch = Stopwatch()
        for _ in range(count):
            pool.allocate(ROW * 4).release()
        return watch.seconds()


# ---- a chain of kernels on large arrays


async def chain(count: int, *, how: str) -> float:
    """Seconds for that many chains of ten saxpy on 16 M floats, each waited for once; or by NumPy."""
    async with opened() as device:
        x, y = await device.upload(np.ones(SIDE, np.float32)), await device.upload(np.zeros(SIDE, np.float32))
        by_hand, kernel = Bare.on(device), (await device.build(SOURCE)).kernel("saxpy")
        raw = by_hand.kernel("saxpy", np.float32, None, None)
        a, b, product = x.host, y.host, np.empty(SIDE if how == "numpy" else 1, np.float32)

        async def once() -> None:
            if how == "numpy":
                for _ in range(CHAIN):
                    np.multiply(a, np.float32(2), out=product)
                    np.add(b, product, out=b)
            elif how == "bare":
                events = [by_hand.launch(raw, SIDE, 2, x.device, y.device) for _ in range(CHAIN)]
                events[-1].wait()
            else:
                operations = [kernel.submit(2, x, y, size=SIDE, local=64) for _ in range(CHAIN)]
                await operations[-1]

        await once()
        watch = Stopwatch()
        for _ in range(count):
            await once()
        seconds = watch.seconds()
        if how == "rookery":
            await y.ensure_on_host()
        expect(float(b[-1]), 2.0 * CHAIN * (count + 1), "sum")
    return seconds


# ---- stages


async def _square(device: gpu.Device, batch: gpu.Batch[Row], kernel: gpu.Kernel) -> gpu.UnifiedBuffer:
    out = await device.empty(batch.rows.shape)
    items = batch.n * ROW
    kernel.submit(batch.rows, out, items, size=items, local=64)
    return out


square = gpu.batched(max_items=64, shape=(ROW,))(_square)
square_alone = gpu.batched(max_items=1, max_delay=0, shape=(ROW,))(_square)


@gpu.batched(max_items=1, max_delay=0, shape=(PART,))
async def stream(device: gpu.Device, batch: gpu.Batch[Row], kernel: gpu.Kernel, rounds: int) -> gpu.UnifiedBuffer:
    """Compute with one array for a while."""
    out = await device.empty(batch.rows.shape)
    kernel.submit(batch.rows, out, rounds, PART, size=PART, local=64)
    return out


async def small_messages(count: int, *, how: str) -> float:
    """Seconds until 100 callers have had that many answers in all, each computed of a row of its own."""
    async with opened() as device, open_system() as system:
        kernel = (await device.build(SOURCE)).kernel("square")
        stage = await system.spawn(square_alone if how == "alone" else square, device, kernel)

        async def ask(values: Array) -> Array:
            answer: Array = await stage.ask(Row(values))
            return answer

        async def launch(values: Array) -> Array:
            async with device.pool.lease(ROW) as x, device.pool.lease(ROW) as y:
                x.copy_from(values)
                await kernel(x, y, ROW, size=ROW, local=64)
                answer: Array = await y.read()
                return answer

        return await _callers(launch if how == "launch" else ask, count)


async def _callers(ask: Callable[[Array], Awaitable[Array]], count: int) -> float:
    left, answered = iter(range(count)), 0

    async def call(number: int) -> None:
        nonlocal answered
        values = np.full(ROW, number, np.float32)
        for _ in left:
            answer = await ask(values)
            answered += bool(answer[-1] == number * number)

    await ask(np.ones(ROW, np.float32))
    watch = Stopwatch()
    async with anyio.create_task_group() as tasks:
        for number in range(CALLERS):
            tasks.start_soon(call, number)
    seconds = watch.seconds()
    expect(answered, count, "right answers")
    return seconds


ROUNDS: Final = 20
"""What computing with a streamed array takes: about as long as copying it, or longer."""


@attrs.frozen
class Streaming:
    """Arrays that pass a device, and each part of that alone."""

    device: Any
    stage: Any
    kernel: Any
    arrays: list[Array]

    async def together(self) -> None:
        """Through a stage."""
        async with anyio.create_task_group() as tasks:
            for array in self.arrays:
                tasks.start_soon(self.stage.ask, Row(array))

    async def computing(self) -> None:
        """The kernels alone, on arrays that are there."""
        pool = self.device.pool
        pairs = [(await self.device.upload(one), await pool.acquire(PART)) for one in self.arrays[:8]]
        operations = [
            self.kernel.submit(*pairs[number % len(pairs)], ROUNDS, PART, size=PART, local=64)
            for number in range(len(self.arrays))
        ]
        await operations[-1]
        for buffer in (one for pair in pairs for one in pair):
            pool.release(buffer)

    async def copying(self) -> None:
        """Each array into the device's memory, and out of it."""
        for array in self.arrays:
            buffer = await self.device.upload(array)
            await buffer.read()
            self.device.pool.release(buffer)


@asynccontextmanager
async def _streaming(count: int) -> AsyncGenerator[Streaming]:
    async with opened() as device, open_system() as system:
        kernel = (await device.build(SOURCE)).kernel("work")
        stage = await system.spawn(stream, device, kernel, ROUNDS)
        yield Streaming(device, stage, kernel, [np.full(PART, number, np.float32) for number in range(count)])


async def streaming(count: int, part: Callable[[Streaming], Awaitable[None]]) -> float:
    """Seconds for that many arrays of 4 MiB, by one of the ways; after one turn to warm up."""
    async with _streaming(count) as one:
        await part(one)
        watch = Stopwatch()
        await part(one)
        return watch.seconds()


async def streaming_beside(count: int) -> float:
    """How many times as long a stage takes as the longer of copying and computing alone: the median of some turns."""
    ratios: list[float] = []
    async with _streaming(count) as one:
        for _ in range(4):
            seconds: list[float] = []
            for part in (one.together, one.computing, one.copying):
                watch = Stopwatch()
                await part()
                seconds.append(watch.seconds())
            ratios.append(seconds[0] / max(seconds[1:]))
    return statistics.median(ratios[1:])


# ---- all of them


def benchmarks(loop: str) -> list[Benchmark]:
    """What is measured on one kind of loop."""
    if loop == NO_LOOP:
        return []
    everywhere = [_launch(), _on_top(), _tasks(), _ticker(), _memory(), _small()]
    return [*everywhere, _awaited(), _chain(), _streamed(), _streamed_beside()] if loop == "trio" else everywhere


def _of(title: str, unit: str, operations: int, limit: Candidate | None, *own: Candidate, **more: Any) -> Benchmark:
    return Benchmark(
        title=title, topic="gpu", unit=unit, operations=operations, limit=limit, candidates=own,
        parameters={"device": "PoCL", **more.pop("parameters", {})}, **more,
    )  # fmt: skip


def _bare(name: str, measure: Any, **how: Any) -> Candidate:
    return Candidate(name, functools.partial(measure, **how), Kind.LOOP)


def _own(name: str, measure: Any, **how: Any) -> Candidate:
    return Candidate(name, functools.partial(measure, **how))


def _launch() -> Benchmark:
    limit = _bare("bare pyopencl", launches, seconds=perf_counter, bare=True)
    return _of("launch", "empty kernel", 2_000, limit, _own("submit", launches, seconds=perf_counter, bare=False))


def _on_top() -> Benchmark:
    unit = "µs of the loop's thread on top of bare pyopencl"
    return _of("host work per launch", "empty kernel", 2_000, None, _own("submit", on_top), reading=unit)


def _awaited() -> Benchmark:
    limit = _bare("bare pyopencl, blocking", awaited, bare=True)
    return _of("awaited launch", "kernel of some milliseconds", 20, limit, _own("await kernel", awaited, bare=False))


def _tasks() -> Benchmark:
    limit = _bare("polling from checkpoints", many_tasks, bare=True)
    own = _own("await kernel", many_tasks, bare=False)
    return _of("200 tasks launching", "empty kernel", 6_000, limit, own, parameters={"tasks": TASKS})


def _ticker() -> Benchmark:
    # The ticker's own sleep is as late as its loop makes it, and its machine. So many launches take a second: of fewer
    # ticks than that makes the 99th percentile would be the latest of all.
    return _of(
        "loop beside 200 tasks launching", "empty kernel", 30_000, None,
        _own("a ticker of 1 ms", late_ticks, beside="launching"),
        _bare("beside polling from checkpoints", late_ticks, beside="polling"),
        _bare("beside nothing", late_ticks, beside="nothing"),
        reading="ms late at p99",
    )  # fmt: skip


def _memory() -> Benchmark:
    limit = _bare("pyopencl's pool", bare_pool)
    return _of(
        "memory that is reused", "buffer acquired and released", 10_000, limit, _own("pool", acquire_and_release)
    )


def _chain() -> Benchmark:
    return _of(
        "ten saxpy on 16 M floats", "chain", 3, _bare("bare pyopencl", chain, how="bare"),
        _own("submit", chain, how="rookery"), _bare("NumPy", chain, how="numpy"), rounds=5,
    )  # fmt: skip


def _small() -> Benchmark:
    return _of(
        "small messages", "message", 3_000, _bare("a launch for each", small_messages, how="launch"),
        _own("batched stage", small_messages, how="batched"), _own("stage of one", small_messages, how="alone"),
        parameters={"callers": CALLERS, "elements": ROW},
    )  # fmt: skip


def _streamed() -> Benchmark:
    ways: Iterable[tuple[str, Any]] = (
        ("stage", Streaming.together), ("computing alone", Streaming.computing), ("copying alone", Streaming.copying),
    )  # fmt: skip
    own = (Candidate(name, functools.partial(streaming, part=part)) for name, part in ways)
    return _of("streaming", "array of 4 MiB", 24, None, *own)


def _streamed_beside() -> Benchmark:
    return _of(
        "streaming beside its parts", "array of 4 MiB", 24, None, _own("stage", streaming_beside),
        reading="times the longer of copying and computing alone",
    )  # fmt: skip
