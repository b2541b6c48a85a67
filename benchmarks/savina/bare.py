"""The programs of the set that need no actors, written with what the event loop offers: tasks and bounded queues.

The messages are those of the actors, made wherever the actors make one; what only stops or asks an actor has no place.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio

from harness import expect
from workload import CAPACITY, Stopwatch, Tally, sum_below

from .buffer import CONSUMERS, PLACES, PRODUCERS, Put
from .common import shares
from .fork_join import WORKERS, Work
from .pair import Increment, Ping, Pong
from .ring import LINKS, Leave, Token

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable


@attrs.frozen
class Pipe:
    """A bounded queue: what puts a message in, and what takes one out."""

    put: Callable[[Any], Awaitable[object]]
    get: Callable[[], Awaitable[Any]]


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
    send, receive = trio.open_memory_channel[Any](capacity)
    return Pipe(send.send, receive.receive)


async def _trio_run_each(fn: Callable[[Any], Coroutine[Any, Any, None]], arguments: Iterable[Any]) -> None:
    async with trio.open_nursery() as nursery:
        for argument in arguments:
            nursery.start_soon(fn, argument)


def _asyncio_pipe(capacity: int) -> Pipe:
    queue: asyncio.Queue[Any] = asyncio.Queue(capacity)
    return Pipe(queue.put, queue.get)


async def _asyncio_run_each(fn: Callable[[Any], Coroutine[Any, Any, None]], arguments: Iterable[Any]) -> None:
    async with asyncio.TaskGroup() as group:
        for argument in arguments:
            group.create_task(fn(argument))


TRIO: Final = Tools("trio memory channel", _trio_pipe, _trio_run_each)

ASYNCIO: Final = Tools("asyncio.Queue", _asyncio_pipe, _asyncio_run_each)
"""uvloop's too."""


async def ping_pong(count: int, tools: Tools) -> float:
    """Two tasks, a queue each way; the sender that a ping names is the queue back."""
    there, tally = tools.pipe(CAPACITY), Tally()
    back: Any = tools.pipe(CAPACITY)

    async def ping() -> None:
        for _ in range(count):
            await there.put(Ping(back))
            await back.get()

    async def pong() -> None:
        for _ in range(count):
            received = await there.get()
            tally.handled += 1
            await received.sender.put(Pong())

    watch = Stopwatch()
    await tools.run_each(_call, (ping, pong))
    seconds = watch.seconds()
    expect(tally.handled, count, "pings answered")
    return seconds


async def counting(count: int, tools: Tools) -> float:
    """Two tasks, one queue."""
    pipe, tally = tools.pipe(CAPACITY), Tally()

    async def produce() -> None:
        for _ in range(count):
            await pipe.put(Increment())

    async def consume() -> None:
        for _ in range(count):
            await pipe.get()
            tally.handled += 1

    watch = Stopwatch()
    await tools.run_each(_call, (produce, consume))
    seconds = watch.seconds()
    expect(tally.handled, count, "messages counted")
    return seconds


async def _call(fn: Callable[[], Awaitable[None]]) -> None:
    await fn()


async def fork_join_create(count: int, tools: Tools) -> float:
    """A task for each message, which is its argument."""
    tally = Tally()

    async def one_job(work: Work) -> None:
        tally.handled += 1
        tally.total += work.number

    watch = Stopwatch()
    await tools.run_each(one_job, map(Work, range(count)))
    seconds = watch.seconds()
    tally.check(count, sum_below(count))
    return seconds


async def fork_join_throughput(count: int, tools: Tools) -> float:
    """A queue for each worker."""
    tally, pipes = Tally(), [tools.pipe(CAPACITY) for _ in range(WORKERS)]

    async def deal_or_work(worker: int) -> None:
        if worker < 0:
            for number in range(count):
                await pipes[number % WORKERS].put(Work(number))
            return
        for _ in range(worker, count, WORKERS):
            work = await pipes[worker].get()  # before the total is read, which others add to meanwhile
            tally.handled += 1
            tally.total += work.number

    watch = Stopwatch()
    await tools.run_each(deal_or_work, range(-1, WORKERS))
    seconds = watch.seconds()
    tally.check(count, sum_below(count))
    return seconds


async def thread_ring(count: int, tools: Tools) -> float:
    """A queue from each task to the next."""
    tally, pipes = Tally(), [tools.pipe(CAPACITY) for _ in range(LINKS)]

    async def link(place: int) -> None:
        own, neighbour = pipes[place], pipes[(place + 1) % LINKS]
        while True:
            received: Token | Leave = await own.get()
            match received:
                case Token(hops_left):
                    tally.handled += 1
                    tally.total += hops_left
                    await neighbour.put(Token(hops_left - 1) if hops_left else Leave(LINKS - 1))
                case Leave(links_left):
                    if links_left:
                        await neighbour.put(Leave(links_left - 1))
                    return

    watch = Stopwatch()
    await pipes[0].put(Token(count - 1))
    await tools.run_each(link, range(LINKS))
    seconds = watch.seconds()
    tally.check(count, sum_below(count))
    return seconds


async def bounded_buffer(count: int, tools: Tools) -> float:
    """The queue is the buffer: it makes wait who puts or takes, so that there is nothing to ask for."""
    tally, pipe = Tally(), tools.pipe(PLACES)

    async def produce_or_consume(items: range | int) -> None:
        if isinstance(items, range):
            for item in items:
                await pipe.put(Put(item))
            return
        for _ in range(items):
            put = await pipe.get()  # before the total is read, which others add to meanwhile
            tally.handled += 1
            tally.total += put.item

    producers = [range(number, count, PRODUCERS) for number in range(PRODUCERS)]
    watch = Stopwatch()
    await tools.run_each(produce_or_consume, [*shares(count, CONSUMERS), *producers])
    seconds = watch.seconds()
    tally.check(count, sum_below(count))
    return seconds
