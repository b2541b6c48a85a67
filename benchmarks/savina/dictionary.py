"""Concurrent dictionary: workers read and write one dictionary, which an actor owns."""

from __future__ import annotations

from random import Random
from typing import Final, Never

from harness import expect
from rookery import ActorRef, Context, Request, message, open_system
from workload import Stopwatch, Tally

from .common import all_ended, shares

WORKERS: Final = 20
"""How many read and write."""

WRITES: Final = 0.1
"""The part of the operations that are writes."""

KEYS: Final = 1_000
"""Keys that are read and written."""


@message
class Read(Request[int | None]):
    """The value of a key; None if it has none."""

    key: int


@message
class Write(Request[None]):
    """Set the value of a key."""

    key: int
    value: int


@message
class Copy(Request[dict[int, int]]):
    """All of it."""


async def dictionary(ctx: Context[Read | Write | Copy]) -> None:
    """Own the values."""
    values: dict[int, int] = {}
    async for request in ctx:
        match request:
            case Read(key):
                ctx.reply(request, values.get(key))
            case Write(key, value):
                values[key] = value
                ctx.reply(request, None)
            case Copy():
                ctx.reply(request, dict(values))


def value_of(key: int) -> int:
    """What is written for a key, by everybody: so every read can be checked."""
    return key * key


async def worker(
    ctx: Context[Never], shared: ActorRef[Read | Write], operations: int, chance: Random, tally: Tally
) -> None:
    """Read and write; count the operations, and sum up the keys that were written."""
    ctx.ready()
    for _ in range(operations):
        key = chance.randrange(KEYS)
        if chance.random() < WRITES:
            await shared.ask(Write(key, value_of(key)))
            tally.total += 1
        else:
            value = await shared.ask(Read(key))
            expect(value in (None, value_of(key)), True, f"whether {value} was written for {key}")
        tally.handled += 1


async def concurrent_dictionary(count: int) -> float:
    """Seconds for that many reads and writes together."""
    tally, keys = Tally(), keys_written(count)
    async with open_system() as system:
        watch = Stopwatch()
        shared = await system.spawn(dictionary)
        workers = [
            await system.spawn(worker, shared, operations, Random(seed), tally)
            for seed, operations in enumerate(shares(count, WORKERS))
        ]
        await all_ended(workers)
        seconds = watch.seconds()
        values = await shared.ask(Copy())
    tally.check(count, len(keys))
    expect(values, {key: value_of(key) for key in keys}, "the dictionary in the end")
    return seconds


def keys_written(count: int) -> list[int]:
    """What the workers write, one entry for each write: the same numbers drawn again."""
    keys: list[int] = []
    for seed, operations in enumerate(shares(count, WORKERS)):
        chance = Random(seed)
        for _ in range(operations):
            key = chance.randrange(KEYS)
            if chance.random() < WRITES:
                keys.append(key)
    return keys
