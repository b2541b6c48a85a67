"""Many workers and one who waits for them: fork-join create, a worker for each message; fork-join throughput, few."""

from __future__ import annotations

from typing import Final

from rookery import ActorRef, Context, message, open_system
from workload import Stopwatch, Tally, sum_below

from .common import all_ended

WORKERS: Final = 60
"""Workers that share the messages of fork-join throughput."""


@message
class Work:
    """A number to add to the total."""

    number: int


# ---- create


async def one_job(ctx: Context[Work], tally: Tally) -> None:
    """Do one piece of work, and end."""
    work = await ctx.receive()
    tally.handled += 1
    tally.total += work.number


async def create(count: int) -> float:
    """Seconds for the life of that many actors: each is spawned, handles one message, and ends."""
    tally = Tally()
    async with open_system() as system:
        watch = Stopwatch()
        workers: list[ActorRef[Work]] = []
        for number in range(count):
            worker = await system.spawn(one_job, tally)
            await worker.send(Work(number))
            workers.append(worker)
        await all_ended(workers)
        seconds = watch.seconds()
    tally.check(count, sum_below(count))
    return seconds


# ---- throughput


async def many_jobs(ctx: Context[Work], tally: Tally) -> None:
    """Do what comes."""
    async for work in ctx:
        tally.handled += 1
        tally.total += work.number


async def throughput(count: int) -> float:
    """Seconds until that many messages, dealt out to the workers in turn, have been handled."""
    tally = Tally()
    async with open_system() as system:
        watch = Stopwatch()
        workers = [await system.spawn(many_jobs, tally) for _ in range(WORKERS)]
        for number in range(count):
            await workers[number % WORKERS].send(Work(number))
        for worker in workers:
            await worker.stop(drain=True)
        seconds = watch.seconds()
    tally.check(count, sum_below(count))
    return seconds
