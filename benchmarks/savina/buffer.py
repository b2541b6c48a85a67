"""Bounded buffer: producers and consumers on the two sides of an actor that holds few items."""

from __future__ import annotations

from collections import deque
from typing import Final, Never

from rookery import ActorRef, Context, Request, message, open_system
from workload import Stopwatch, Tally, sum_below

from .common import all_ended, shares

PRODUCERS: Final = 40
CONSUMERS: Final = 40
PLACES: Final = 50
"""Items that the buffer holds."""


@message
class Put(Request[None]):
    """Add an item; answered when there is room."""

    item: int


@message
class Take(Request[int]):
    """Take an item; answered when there is one."""


async def buffer(ctx: Context[Put | Take], places: int) -> None:
    """Hold items. Who has to wait is answered later: replies may come in any order."""
    items: deque[int] = deque()
    puts: deque[Put] = deque()
    takes: deque[Take] = deque()

    def let_in() -> None:
        while puts and len(items) < places:
            put = puts.popleft()
            items.append(put.item)
            ctx.reply(put, None)

    async for request in ctx:
        match request:
            case Put():
                puts.append(request)
            case Take():
                takes.append(request)
        let_in()
        while takes and items:
            ctx.reply(takes.popleft(), items.popleft())
            let_in()


async def producer(ctx: Context[Never], target: ActorRef[Put], items: range) -> None:
    """Put items in, one after another."""
    ctx.ready()
    for item in items:
        await target.ask(Put(item))


async def consumer(ctx: Context[Never], source: ActorRef[Take], items: int, tally: Tally) -> None:
    """Take that many items out."""
    ctx.ready()
    for _ in range(items):
        item = await source.ask(Take())  # before the total is read, which others add to meanwhile
        tally.handled += 1
        tally.total += item


async def bounded_buffer(count: int) -> float:
    """Seconds until that many items have gone through the buffer."""
    tally = Tally()
    async with open_system() as system:
        watch = Stopwatch()
        middle = await system.spawn(buffer, PLACES)
        ends = [await system.spawn(consumer, middle, items, tally) for items in shares(count, CONSUMERS)]
        ends += [await system.spawn(producer, middle, range(number, count, PRODUCERS)) for number in range(PRODUCERS)]
        await all_ended(ends)
        seconds = watch.seconds()
    tally.check(count, sum_below(count))
    return seconds
