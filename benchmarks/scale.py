"""Many crashes, and many actors: a restart storm, and what 100,000 idle actors take of memory and time."""

from __future__ import annotations

import functools
import json
import logging
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import idle
from harness import NO_LOOP, Benchmark, Candidate, Kind, expect
from rookery import Context, Intensity, Request, child, message, open_system
from savina import bare
from workload import CAPACITY, Note, Stopwatch, Tally, sum_below

if TYPE_CHECKING:
    from collections.abc import Generator

CRASHES: Final = 2_000
IDLE: Final = 100_000
"""Actors, or tasks, that are idle at the same time."""


# ---- restart storm


class BoomError(Exception):
    """What the actor crashes with."""


@message
class Crash:
    """Crash on this."""


@message
class Report(Request[int]):
    """How many notes were handled, by all incarnations."""


async def fragile(ctx: Context[Note | Crash | Report], tally: Tally) -> None:
    """Handle notes until told to crash."""
    async for received in ctx:
        match received:
            case Note(number):
                tally.handled += 1
                tally.total += number
            case Crash():
                raise BoomError
            case Report():
                ctx.reply(received, tally.handled)


async def restart_storm(count: int) -> float:
    """Seconds in which an actor crashes that often, is restarted, and handles the note after each crash.

    The sender does not wait: hundreds of notes and crashes are queued while the actor restarts, and none is lost.
    """
    tally = Tally()
    with _crashes_not_logged():
        async with open_system(intensity=Intensity(count, per=3600.0)) as system:
            ref = await system.spawn(child(fragile, tally).options(capacity=CAPACITY))
            watch = Stopwatch()
            for number in range(count):
                await ref.send(Crash())
                await ref.send(Note(number, "queued behind a crash", 1.0))
            reported = await ref.ask(Report())
            seconds = watch.seconds()
            statistics, letters = ref.statistics(), system.dead_letters.statistics()
    expect((reported, statistics.restarts), (count, count), "notes handled, and restarts")
    expect((statistics.queued, letters.total), (0, 0), "messages left over, and dead letters")
    tally.check(count, sum_below(count))
    return seconds


@contextmanager
def _crashes_not_logged() -> Generator[None]:
    """Each would be a record with a traceback: what is measured is the restart, not the formatting."""
    logger = logging.getLogger("rookery.supervision")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


async def storm_by_hand(count: int, tools: bare.Tools) -> float:
    """The same without actors: a task that handles the messages from a queue, begun again after each crash."""
    tally, pipe, crashes = Tally(), tools.pipe(CAPACITY), 0

    async def serve(_: object) -> None:
        while tally.handled < count:
            received: Note | Crash = await pipe.get()
            match received:
                case Note(number):
                    tally.handled += 1
                    tally.total += number
                case Crash():
                    raise BoomError

    async def supervise_or_send(role: str) -> None:
        nonlocal crashes
        if role == "send":
            for number in range(count):
                await pipe.put(Crash())
                await pipe.put(Note(number, "queued behind a crash", 1.0))
            return
        while tally.handled < count:
            try:
                await tools.run_each(serve, (None,))
            except* BoomError:
                crashes += 1

    watch = Stopwatch()
    await tools.run_each(supervise_or_send, ("supervise", "send"))
    seconds = watch.seconds()
    expect(crashes, count, "crashes")
    tally.check(count, sum_below(count))
    return seconds


# ---- idle actors


@functools.cache
def idle_process(loop: str, what: str, count: int) -> idle.Reading:
    """Measure in a process of its own, whose memory holds nothing else; once for both readings."""
    command = [sys.executable, str(Path(idle.__file__)), loop, what, str(count)]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    return idle.Reading(**json.loads(printed))


def memory(count: int, loop: str, what: str) -> float:
    """Bytes of resident memory for each of that many."""
    return idle_process(loop, what, count).bytes_each


def processor_time(count: int, loop: str, what: str) -> float:
    """Milliseconds of the processor's time that all of them together take in a second."""
    return idle_process(loop, what, count).busy_ms


# ---- all of them


def benchmarks(loop: str) -> list[Benchmark]:
    """What is measured on one kind of loop."""
    if loop == NO_LOOP:
        return []
    measured_idle = (_idle(loop, "memory"), _idle(loop, "processor time")) if idle.MEMORY.exists() else ()
    return [_restart_storm(loop), *measured_idle]


def _restart_storm(loop: str) -> Benchmark:
    on_trio = loop == "trio"
    by_hand = functools.partial(storm_by_hand, tools=bare.TRIO if on_trio else bare.ASYNCIO)
    return Benchmark(
        title="restart storm",
        topic="scale",
        unit="crash, restart and message",
        operations=CRASHES,
        parameters={"capacity": CAPACITY, "logging": "off"},
        limit=Candidate(f"a {'nursery' if on_trio else 'TaskGroup'} each time", by_hand, Kind.LOOP),
        candidates=(Candidate("restarts", restart_storm),),
    )


def _idle(loop: str, reading: str) -> Benchmark:
    """Tasks are no limit of the processor time: what is next to nothing in both is nothing to take a ratio of."""
    of_memory = reading == "memory"
    measure = memory if of_memory else processor_time
    tasks = Candidate("tasks", functools.partial(measure, loop=loop, what="tasks"), Kind.LOOP)
    actors = Candidate("actors", functools.partial(measure, loop=loop, what="actors"))
    return Benchmark(
        title=f"{reading} of idle actors",
        topic="scale",
        unit="actor or task",
        operations=IDLE,
        parameters={"process": "its own"},
        reading="bytes of RSS each" if of_memory else "ms of CPU in an idle second",
        rounds=1,
        limit=tasks if of_memory else None,
        candidates=(actors,) if of_memory else (actors, tasks),
    )
