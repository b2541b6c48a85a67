"""Ring kernels: round trips, a stream of messages, what telemetry costs, and 1,000 kernels with nothing to do.

The runs have the shapes of those whose figures an asyncio ring-kernel library publishes: each kernel is the idiomatic
loop, which looks around every 0.1 s; a round trip is a `send` and a `receive`, of which the median and the 99th
percentile are told; a stream of messages with ten floats is sent whole, and then received whole.
"""

from __future__ import annotations

import asyncio
import functools
import math
import statistics
import time
from contextlib import asynccontextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

import anyio
import attrs
import trio

from harness import NO_LOOP, Benchmark, Candidate, Kind, expect
from rookery import ring
from savina import bare
from workload import CAPACITY, Stopwatch, Tally, sum_below

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from harness import Measure
    from savina.bare import Pipe, Tools

TOPIC: Final = "ring kernels"

PATIENCE: Final = 0.1
"""Seconds that the idiomatic loop waits for a message before it looks around."""

IN_TIME: Final = 10.0
"""Seconds that whoever waits for an answer gives it: it always comes before."""

ROUND_TRIPS: Final = 1_000
WARM_UP: Final = 100
"""Round trips before those that count."""

STREAMED: Final = 5_000
FLOATS: Final = [float(number) for number in range(10)]
"""What a streamed message carries."""

MEASURED: Final = 10_000
"""Messages with telemetry, and as many without."""

TURN: Final = 200
"""Messages after which it is the other's turn."""

IDLE: Final = 1_000
"""Kernels, or tasks, that have nothing to do at the same time."""

QUIET: Final = 2.0
"""Seconds in which nothing happens."""


# ---- messages and kernels


@ring.message
class Echo(ring.Message):
    """A question whose answer is its number."""

    number: int


@ring.message
class Echoed(ring.Message):
    """The answer."""

    number: int


@ring.message
class Values(ring.Message):
    """Numbers to be added."""

    values: list[float]


@ring.message
class Sum(ring.Message):
    """What they add up to."""

    value: float


@ring.message
class Tick(ring.Message):
    """One more."""


@ring.message
class HowMany(ring.Message):
    """How many ticks have there been?"""


@ring.ring_kernel(kernel_id="echo", input_type=Echo, output_type=Echoed)
async def echo(ctx: ring.KernelContext[Echo, Echoed]) -> None:
    """Answer each question with its number."""
    while not ctx.should_terminate:
        if not ctx.is_active:
            await ctx.wait_active()
            continue
        try:
            request = await ctx.receive(timeout=PATIENCE)
        except TimeoutError:
            continue
        await ctx.send(Echoed(request.number, correlation_id=request.message_id))


@ring.ring_kernel(kernel_id="adder", input_type=Values, output_type=Sum)
async def adder(ctx: ring.KernelContext[Values, Sum]) -> None:
    """Add up the numbers of each message."""
    while not ctx.should_terminate:
        if not ctx.is_active:
            await ctx.wait_active()
            continue
        try:
            request = await ctx.receive(timeout=PATIENCE)
        except TimeoutError:
            continue
        await ctx.send(Sum(sum(request.values), correlation_id=request.message_id))


@ring.ring_kernel(kernel_id="counter", input_type=Tick | HowMany, output_type=Echoed)
async def counter(ctx: ring.KernelContext[Tick | HowMany, Echoed]) -> None:
    """Count ticks, and tell how many there were since it was asked."""
    ticks = 0
    while not ctx.should_terminate:
        if not ctx.is_active:
            await ctx.wait_active()
            continue
        try:
            request = await ctx.receive(timeout=PATIENCE)
        except TimeoutError:
            continue
        if isinstance(request, Tick):
            ticks += 1
        else:
            await ctx.send(Echoed(ticks, correlation_id=request.message_id))
            ticks = 0


@ring.ring_kernel(kernel_id="patient", input_type=Tick)
async def patient(ctx: ring.KernelContext[Tick, Tick]) -> None:
    """The plain loop, which wakes up for messages only."""
    while True:
        await ctx.receive()


@asynccontextmanager
async def one_kernel(
    kernel_id: str, *, telemetry: bool = True, **options: Any
) -> AsyncGenerator[ring.RingKernelRuntime]:
    """A runtime in which that kernel is active."""
    async with (
        ring.RingKernelRuntime(enable_telemetry=telemetry) as runtime,
        runtime.kernel_scope(kernel_id, **options),
    ):
        yield runtime


# ---- the same by hand: a task, a queue each way, and the timeouts of the idiomatic loop


@attrs.frozen
class ByHand:
    """What a loop offers for it.

    Attributes:
        tools: Its queues and tasks.
        get_within: Takes from a queue; None if there was nothing within so many seconds.
    """

    tools: Tools
    get_within: Callable[[Pipe, float], Awaitable[Any]]


async def _trio_get_within(pipe: Pipe, seconds: float) -> Any:
    with trio.move_on_after(seconds):
        return await pipe.get()


async def _asyncio_get_within(pipe: Pipe, seconds: float) -> Any:
    try:
        async with asyncio.timeout(seconds):
            return await pipe.get()
    except TimeoutError:
        return None


ON_TRIO: Final = ByHand(bare.TRIO, _trio_get_within)
ON_ASYNCIO: Final = ByHand(bare.ASYNCIO, _asyncio_get_within)


@asynccontextmanager
async def one_task(
    by_hand: ByHand, answer: Callable[[Any], object], capacity: int
) -> AsyncGenerator[tuple[Pipe, Pipe]]:
    """A queue into a task that answers each message, and a queue out of it."""
    there, back = by_hand.tools.pipe(capacity), by_hand.tools.pipe(capacity)

    async def serve() -> None:
        while True:
            request = await by_hand.get_within(there, PATIENCE)
            if request is not None:
                await back.put(answer(request))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serve)
        yield there, back
        tasks.cancel_scope.cancel()


# ---- a round trip


async def send_and_receive(runtime: ring.RingKernelRuntime, number: int) -> int:
    """Ask, and wait for the reply to this very request."""
    echoed: Echoed = await runtime.send_and_receive("echo", Echo(number), timeout=IN_TIME)
    return echoed.number


async def send_then_receive(runtime: ring.RingKernelRuntime, number: int) -> int:
    """Send, and take what comes next."""
    await runtime.send("echo", Echo(number))
    echoed: Echoed = await runtime.receive("echo", timeout=IN_TIME)
    return echoed.number


async def round_trips_of_a_kernel(
    count: int, exchange: Callable[[ring.RingKernelRuntime, int], Awaitable[int]], share: float
) -> float:
    """Microseconds that this share of round trips do not exceed, one after another, each timed."""
    async with one_kernel("echo") as runtime:
        return await percentile(count, functools.partial(exchange, runtime), share)


async def round_trips_by_hand(count: int, by_hand: ByHand, share: float) -> float:
    """The same with a task and two queues."""

    def answer(request: Echo) -> Echoed:
        return Echoed(request.number, correlation_id=request.message_id)

    async with one_task(by_hand, answer, CAPACITY) as (there, back):

        async def exchange(number: int) -> int:
            await there.put(Echo(number))
            echoed: Echoed = await by_hand.get_within(back, IN_TIME)
            return echoed.number

        return await percentile(count, exchange, share)


async def percentile(count: int, exchange: Callable[[int], Awaitable[int]], share: float) -> float:
    """The nearest rank of that many exchanges, in microseconds, behind some to warm up."""
    for number in range(WARM_UP):
        await exchange(number)
    times: list[float] = []
    total = 0
    for number in range(count):
        began = perf_counter()
        total += await exchange(number)
        times.append(perf_counter() - began)
    expect(total, sum_below(count), "sum of the answers")
    return sorted(times)[math.ceil(share * count) - 1] * 1e6


# ---- a stream


async def stream_through_a_kernel(count: int) -> float:
    """Seconds to send that many messages of ten floats, and then to receive all answers."""
    total = 0.0
    async with one_kernel("adder", queue_size=max(1024, count)) as runtime:
        watch = Stopwatch()
        for _ in range(count):
            await runtime.send("adder", Values(FLOATS))
        for _ in range(count):
            answer: Sum = await runtime.receive("adder", timeout=IN_TIME)
            total += answer.value
        seconds = watch.seconds()
    expect(total, count * sum(FLOATS), "sum of the answers")
    return seconds


async def stream_by_hand(count: int, by_hand: ByHand) -> float:
    """The same with a task and two queues."""

    def answer(request: Values) -> Sum:
        return Sum(sum(request.values), correlation_id=request.message_id)

    total = 0.0
    async with one_task(by_hand, answer, max(1024, count)) as (there, back):
        watch = Stopwatch()
        for _ in range(count):
            await there.put(Values(FLOATS))
        for _ in range(count):
            received: Sum = await by_hand.get_within(back, IN_TIME)
            total += received.value
        seconds = watch.seconds()
    expect(total, count * sum(FLOATS), "sum of the answers")
    return seconds


# ---- what telemetry costs


async def ping_pong(runtime: ring.RingKernelRuntime, count: int) -> None:
    """That many requests and replies, one after another."""
    total = 0
    for number in range(count):
        echoed: Echoed = await runtime.send_and_receive("echo", Echo(number))
        total += echoed.number
    expect(total, sum_below(count), "sum of the answers")


async def counting(runtime: ring.RingKernelRuntime, count: int) -> None:
    """That many messages one way, and one question how many there were since the last."""
    for _ in range(count):
        await runtime.send("counter", Tick())
    counted: Echoed = await runtime.send_and_receive("counter", HowMany())
    expect(counted.number, count, "messages counted")


async def with_and_without_telemetry(
    count: int, kernel_id: str, work: Callable[[ring.RingKernelRuntime, int], Awaitable[None]]
) -> float:
    """How many times the processor time of a runtime without telemetry one with it takes for the same messages.

    What is to be seen is smaller than the noise of a machine that others use too. So both take turns, every few
    milliseconds, and the median of the ratios counts.
    """
    async with one_kernel(kernel_id, telemetry=False) as without, one_kernel(kernel_id) as having:
        for runtime in (without, having):
            await work(runtime, WARM_UP)
        ratios: list[float] = []
        for number, turn in enumerate(_turns(count)):
            order = (having, without) if number % 2 else (without, having)
            costs = {runtime: await _cost(work, runtime, turn) for runtime in order}
            ratios.append(costs[having] / costs[without])
        telemetry = having.get_telemetry(kernel_id)
    expect(telemetry is not None and telemetry.messages_processed >= WARM_UP + count, True, "all messages measured")
    return statistics.median(ratios)


def _turns(count: int) -> list[int]:
    """The messages of each turn: the same in all of them, but for what is left for the last."""
    return [min(TURN, count - sent) for sent in range(0, count, TURN)]


async def _cost(
    work: Callable[[ring.RingKernelRuntime, int], Awaitable[None]], runtime: ring.RingKernelRuntime, count: int
) -> float:
    """Seconds of the processor."""
    began = time.thread_time()
    await work(runtime, count)
    return time.thread_time() - began


# ---- nothing to do


@asynccontextmanager
async def idle_kernels(
    count: int, function: Callable[[Any], Awaitable[None]]
) -> AsyncGenerator[ring.RingKernelRuntime]:
    """A runtime in which that many active kernels wait for messages that never come."""
    async with ring.RingKernelRuntime() as runtime:
        for number in range(count):
            await runtime.launch(f"idle-{number}", function)
            await runtime.activate(f"idle-{number}")
        yield runtime


async def idleness_of_kernels(count: int, function: Callable[[Any], Awaitable[None]]) -> float:
    """How much of a core they take while nothing happens."""
    async with idle_kernels(count, function) as runtime:
        busy = await busy_share()
        expect(len(runtime.kernel_ids), count, "kernels that are there")
    return busy


async def idleness_by_hand(count: int, by_hand: ByHand) -> float:
    """The same of tasks that wait for a message with the timeout of the idiomatic loop."""

    async def look_around(pipe: Pipe) -> None:
        while True:
            await by_hand.get_within(pipe, PATIENCE)

    busy = math.nan
    async with anyio.create_task_group() as tasks:
        for _ in range(count):
            tasks.start_soon(look_around, by_hand.tools.pipe(CAPACITY))
        busy = await busy_share()
        tasks.cancel_scope.cancel()
    return busy


async def busy_share() -> float:
    """Seconds that the thread of the loop computes, of each second that passes."""
    await anyio.sleep(2 * PATIENCE)  # until all of them have begun to wait
    busy, began = time.thread_time(), perf_counter()
    await anyio.sleep(QUIET)
    return (time.thread_time() - busy) / (perf_counter() - began)


async def stop_together(count: int) -> float:
    """Seconds to leave a runtime with that many kernels in the idiomatic loop, until the last has returned."""
    tally = Tally()

    async def look_around(ctx: ring.KernelContext[Tick, Tick]) -> None:
        while not ctx.should_terminate:
            try:
                await ctx.receive(timeout=PATIENCE)
            except TimeoutError:
                continue
        tally.handled += 1

    async with idle_kernels(count, look_around):
        await anyio.wait_all_tasks_blocked()
        watch = Stopwatch()
    seconds = watch.seconds()
    expect(tally.handled, count, "kernels that left their loop by themselves")
    return seconds


# ---- all of them


def benchmarks(loop: str) -> list[Benchmark]:
    """What is measured on one kind of loop."""
    if loop == NO_LOOP:
        return []
    by_hand = ON_TRIO if loop == "trio" else ON_ASYNCIO
    name = f"a task, and {by_hand.tools.queue}s"
    trips = [_round_trip(percent, name, by_hand) for percent in (50, 99)]
    return [*trips, _stream(name, by_hand), _telemetry(), _idleness(by_hand), _patience(), _stop()]


def _round_trip(percent: int, name: str, by_hand: ByHand) -> Benchmark:
    def of_a_kernel(exchange: Callable[[ring.RingKernelRuntime, int], Awaitable[int]]) -> Measure:
        return functools.partial(round_trips_of_a_kernel, exchange=exchange, share=percent / 100)

    limit = functools.partial(round_trips_by_hand, by_hand=by_hand, share=percent / 100)
    return Benchmark(
        title=f"round trip of a ring kernel, p{percent}",
        topic=TOPIC,
        unit="round trip",
        operations=ROUND_TRIPS,
        parameters={"before those that count": WARM_UP},
        reading=f"µs, p{percent}",
        limit=Candidate(name, limit, Kind.LOOP),
        candidates=(
            Candidate("send_and_receive", of_a_kernel(send_and_receive)),
            Candidate("send, receive", of_a_kernel(send_then_receive)),
        ),
    )


def _stream(name: str, by_hand: ByHand) -> Benchmark:
    return Benchmark(
        title="stream through a ring kernel",
        topic=TOPIC,
        unit="message",
        operations=STREAMED,
        parameters={"floats": len(FLOATS), "queues": "hold all of it"},
        limit=Candidate(name, functools.partial(stream_by_hand, by_hand=by_hand), Kind.LOOP),
        candidates=(Candidate("send, receive", stream_through_a_kernel),),
    )


def _telemetry() -> Benchmark:
    return Benchmark(
        title="telemetry of a ring kernel",
        topic=TOPIC,
        unit="message",
        operations=MEASURED,
        parameters={"in each turn": TURN},
        reading="times the cost without",
        candidates=(
            Candidate("ping-pong", functools.partial(with_and_without_telemetry, kernel_id="echo", work=ping_pong)),
            Candidate("counting", functools.partial(with_and_without_telemetry, kernel_id="counter", work=counting)),
        ),
    )


def _idleness(by_hand: ByHand) -> Benchmark:
    return Benchmark(
        title="idle ring kernels, with timeouts",
        topic=TOPIC,
        unit="kernel or task",
        operations=IDLE,
        parameters={"timeout": f"{PATIENCE} s"},
        reading="of a core",
        rounds=1,
        limit=Candidate("tasks", functools.partial(idleness_by_hand, by_hand=by_hand), Kind.LOOP),
        candidates=(Candidate("receive(timeout=0.1)", functools.partial(idleness_of_kernels, function=echo)),),
    )


def _patience() -> Benchmark:
    """Tasks are no limit here: they take as good as nothing too, and that is nothing to take a ratio of."""
    return Benchmark(
        title="idle ring kernels, no timeouts",
        topic=TOPIC,
        unit="kernel",
        operations=IDLE,
        reading="of a core",
        rounds=1,
        candidates=(Candidate("receive()", functools.partial(idleness_of_kernels, function=patient)),),
    )


def _stop() -> Benchmark:
    return Benchmark(
        title="stop of idle ring kernels",
        topic=TOPIC,
        unit="kernel",
        operations=IDLE,
        candidates=(Candidate("leaving the runtime", stop_together),),
    )
