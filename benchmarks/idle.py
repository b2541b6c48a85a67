"""Idle actors, or idle tasks, in a process of their own: `python benchmarks/idle.py trio actors 100000`.

Prints what each takes of the resident memory, and what all together take of the processor in a second in which nothing
happens.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, Final, NoReturn

import anyio
import attrs
import trio

from harness import LOOPS, expect
from rookery import ActorState, Context, open_system

MEMORY: Final = Path("/proc/self/statm")
"""Where Linux says how many pages a process has; elsewhere there is no measurement."""

WARM_UP: Final = 100
"""Actors or tasks that are there before those that count: what they share is not counted."""

QUIET: Final = 1.0
"""Seconds of doing nothing."""


@attrs.frozen
class Reading:
    """What was measured.

    Attributes:
        bytes_each: Resident memory of each, in bytes.
        busy_ms: Processor time that all together took while they were idle, in milliseconds per second.
    """

    bytes_each: float
    busy_ms: float


async def idle(ctx: Context[int]) -> None:
    """Wait for messages that never come."""
    async for _ in ctx:
        pass


async def actors(count: int) -> NoReturn:
    """Measure actors."""
    async with open_system() as system:
        for _ in range(WARM_UP):
            await system.spawn(idle)
        before = resident_bytes()
        refs = [await system.spawn(idle) for _ in range(count)]
        reading = await _read(before, count)
        alive = sum(ref.state is ActorState.RUNNING for ref in refs)
        expect(alive, count, "actors that are there")
        _finish(reading)


async def trio_tasks(count: int) -> NoReturn:
    """Measure trio's tasks."""
    async with trio.open_nursery() as nursery:
        for _ in range(WARM_UP):
            nursery.start_soon(trio.sleep_forever)
        before = resident_bytes()
        for _ in range(count):
            nursery.start_soon(trio.sleep_forever)
        reading = await _read(before, count)
        expect(len(nursery.child_tasks), WARM_UP + count, "tasks that are there")
        _finish(reading)


async def asyncio_tasks(count: int) -> NoReturn:
    """Measure asyncio's tasks, uvloop's included."""
    loop = asyncio.get_running_loop()

    async def forever() -> None:
        await loop.create_future()

    warm_up = [loop.create_task(forever()) for _ in range(WARM_UP)]
    before = resident_bytes()
    tasks = [loop.create_task(forever()) for _ in range(count)]
    reading = await _read(before, count)
    alive = sum(not task.done() for task in [*warm_up, *tasks])
    expect(alive, WARM_UP + count, "tasks that are there")
    _finish(reading)


def resident_bytes() -> int:
    """Of this process, without garbage."""
    gc.collect()
    pages = int(MEMORY.read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def _read(before: int, count: int) -> Reading:
    """The memory now, and then a second in which nothing happens."""
    await anyio.wait_all_tasks_blocked()
    bytes_each = (resident_bytes() - before) / count
    busy, began = time.process_time(), time.perf_counter()
    await anyio.sleep(QUIET)
    busy, lasted = time.process_time() - busy, time.perf_counter() - began
    return Reading(bytes_each, busy_ms=busy / lasted * 1e3)


def _finish(reading: Reading) -> NoReturn:
    """Print, and leave without taking all of it down, which would take longer than the measurement."""
    print(json.dumps(attrs.asdict(reading)), flush=True)
    os._exit(0)


def main(loop: str, what: str, count: str) -> None:
    """Run on that loop."""
    tasks: Any = trio_tasks if loop == "trio" else asyncio_tasks
    anyio.run(actors if what == "actors" else tasks, int(count), **LOOPS[loop])


if __name__ == "__main__":
    main(*sys.argv[1:])
