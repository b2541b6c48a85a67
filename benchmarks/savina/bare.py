"""The programs of the set that need no actors, written with what the event loop offers: tasks and bounded queues."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio

from workload import CAPACITY, Stopwatch, Tally, sum_below

from .buffer import CONSUMERS, PLACES, PRODUCERS
from .common import shares
from .fork_join import WORKERS
from .ring import LINKS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable


@attrs.frozen
class Pipe:
    """A bounded queue of numbers: what puts one in, and what takes one out."""

    put: Callable[[int], Awaitable[object]]
    get: Callable[[], Awaitable[int]]


@attrs.frozen
class Tools:
    """What a loop offers.

    Attributes:
        queue: The name of its queue.
        pipe: Makes a bounded queue.
        run_each: Runs a task for each of the arguments, and waits for all of them.
    """

    queue: str
    pipe: Callable[[int], Pipe]
    run_each: Callable[[Callable[[Any], Coroutine[Any, Any, None]], Iterable[Any]], Awaitable[None]]


def _trio_pipe(capacity: int) -> Pipe:
    send, receive = trio.open_memory_channel[int](capacity)
    return Pipe(send.send, receive.receive)


async def _trio_run_each(fn: Callable[[Any], Coroutine[Any, Any, None]], arguments: Iterable[Any]) -> None:
    async with trio.open_nursery() as nursery:
        for argument in arguments:
            nursery.start_soon(fn, argument)


def _asyncio_pipe(capacity: int) -> Pipe:
    queue: asyncio.Queue[int] = asyncio.Queue(capacity)
    return Pipe(queue.put, queue.get)


async def _asyncio_run_each(fn: Callable[[Any], Coroutine[Any, Any, None]], arguments: Iterable[Any]) -> None:
    async with asyncio.TaskGroup() as group:
        for argument in arguments:
            group.create_task(fn(argument))


TRIO: Final = Tools("trio memory channel", _trio_pipe, _trio_run_each)

ASYNCIO: Final = Tools("asyncio.Queue", _asyncio_pipe, _asyncio_run_each)
"""uvloop's too."""


async def ping_pong(count: int, tools: Tools) -> float:
    """Two tasks, a queue each way."""
    there, back, tally = tools.pipe(CAPACITY), tools.pipe(CAPACITY), Tally()

    async def ping() -> None:
        for number in range(count):
            await there.put(number)
            tally.total += await back.get()

    async def pong() -> None:
        for _ in range(count):
            await back.put(await there.get())
            tally.handled += 1

    watch = Stopwatch()
    await tools.run_each(_call, (ping, pong))
    seconds = watch.seconds()
    tally.check(count, sum_below(count))
    return seconds


async def counting(count: int, tools: Tools) -> float:
    """Two tasks, one queue."""
    pipe, tally = tools.pipe(CAPACITY), Tally()

    async def produce() -> None:
        for number in range(count):
            await pipe.put(number)

    async def consume() -> None:
        for _ in range(count):
            tally.total += await pipe.get()
            tally.handled += 1

    watch = Stopwatch()
    await tools.run_each(_call, (produce, consume))
    seconds = watch.seconds()
    tally.check(count, sum_below(count))
    return seconds


async def _call(fn: Callable[[], Awaitable[None]]) -> None:
    await fn()


async def fork_join_create(count: int, tools: Tools) -> float:
    """A task for each number, which is its argument."""
    tally = Tally()

    async def work(number: int) -> None:
        tally.handled += 1
        tally.total += number

    watch = Stopwatch()
    await tools.run_each(work, range(count))
    seconds = watch.seconds()
    tally.check(count, sum_below(count))
    return seconds


async def fork_join_throughput(count: int, tools: Tools) -> float:
    """A queue for each worker."""
    tally, pipes = Tally(), [tools.pipe(CAPACITY) for _ in range(WORKERS)]

    async def deal_or_work(worker: int) -> None:
        if worker < 0:
            for number in range(count):
                await pipes[number % WORKERS].put(number)
            return
        for _ in range(worker, count, WORKERS):
            number = await pipes[worker].get()  # before the total is read, which others add to meanwhile
            tally.handled += 1
            tally.total += number

    watch = Stopwatch()
    await tools.run_each(deal_or_work, range(-1, WORKERS))
    seconds = watch.seconds()
    tally.check(count, sum_below(count))
    return seconds


async def thread_ring(count: int, tools: Tools) -> float:
    """A queue from each task to the next; a negative number tells it to end."""
    tally, pipes = Tally(), [tools.pipe(CAPACITY) for _ in range(LINKS)]

    async def link(place: int) -> None:
        own, following = pipes[place], pipes[(place + 1) % LINKS]
        while (hops_left := await own.get()) >= 0:
            tally.handled += 1
            tally.total += hops_left
            await following.put(hops_left - 1)
        if hops_left > -LINKS:
            await following.put(hops_left - 1)

    watch = Stopwatch()
    await pipes[0].put(count - 1)
    await tools.run_each(link, range(LINKS))
    seconds = watch.seconds()
    tally.check(count, sum_below(count))
    return seconds


async def bounded_buffer(count: int, tools: Tools) -> float:
    """The queue is the buffer."""
    tally, pipe = Tally(), tools.pipe(PLACES)

    async def produce_or_consume(items: range | int) -> None:
        if isinstance(items, range):
            for item in items:
                await pipe.put(item)
            return
        for _ in range(items):
            item = await pipe.get()  # before the total is read, which others add to meanwhile
            tally.handled += 1
            tally.total += item

    producers = [range(number, count, PRODUCERS) for number in range(PRODUCERS)]
    watch = Stopwatch()
    await tools.run_each(produce_or_consume, [*shares(count, CONSUMERS), *producers])
    seconds = watch.seconds()
    tally.check(count, sum_below(count))
    return seconds
