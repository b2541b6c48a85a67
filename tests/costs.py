"""What operations cost, in counts that do not depend on how busy the machine is.

Counted are the bytecode instructions that rookery's own code executes, and the calls from there to Python code that is
not its own (the loop's, anyio's, the standard library's; a coroutine that is resumed counts as called). What happens
inside those is not counted, so that the numbers change with rookery and with the minor version of Python, and hardly
with the versions of trio and anyio. Of an idle actor it is the bytes that tracemalloc finds.

`nox -s costs` records them in `core/costs.json` for each Python that is installed, and `python tests/costs.py` for the
one that runs it. Each event loop has a process of its own, without whatever a test run has traced, cached or patched.
"""

from __future__ import annotations

import faulthandler
import gc
import importlib.util
import json
import logging
import math
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias

import anyio
import attrs
from anyio.lowlevel import checkpoint

import rookery
from rookery import Context, Intensity, Request, child, message, open_system
from rookery._core import turn

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import FrameType

PACKAGE: Final = str(Path(rookery.__file__).parent)
TABLE: Final = Path(__file__).parent / "core" / "costs.json"
PYTHON: Final = f"{sys.version_info.major}.{sys.version_info.minor}"

LOOPS: Final[dict[str, dict[str, Any]]] = {
    "trio": {"backend": "trio"},
    "asyncio": {"backend": "asyncio"},
    "uvloop": {"backend": "asyncio", "backend_options": {"use_uvloop": True}},
}

WARM_UP: Final = 8
"""Operations that are not counted, before those that are: what is made once has been made then."""

COUNT: Final = 192
"""Operations that are counted: three turns, so that giving way has its share."""

MANY: Final = 5_000
"""Operations after which what is kept for a while (cancelled alarms, say) hardly counts for each of them."""

LONGEST: Final = 120.0
"""Seconds after which a measurement is taken to hang, and shows where."""

Costs: TypeAlias = dict[str, dict[str, float]]
"""For each operation, the counts by name."""


@message
class Question(Request[int]):
    """Answered with its number."""

    number: int


@attrs.define
class Meter:
    """Counts from the beginning of its block to the end."""

    instructions: int = 0
    calls: int = 0
    _traced_before: Any = attrs.field(default=None, init=False, eq=False, repr=False)

    def __enter__(self) -> Self:
        self._traced_before = sys.gettrace()  # coverage's, in a test run
        sys._getframe().f_trace_opcodes = True  # from 3.12 on, `settrace` looks whether any frame wants to be told
        sys.settrace(self._on_call)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._traced_before)

    def _on_call(self, frame: FrameType, _event: str, _argument: object) -> Any:
        if _is_own(frame):
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
            return self._on_event
        if frame.f_back is not None and _is_own(frame.f_back):
            self.calls += 1
        return None

    def _on_event(self, _frame: FrameType, event: str, _argument: object) -> Any:
        if event == "opcode":
            self.instructions += 1
        return self._on_event


def _is_own(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith(PACKAGE)


# ---- the operations


async def repeat(operation: Callable[[], Awaitable[object]], count: int) -> Meter:
    """Do it that many times under a meter, and warm up before: Python 3.13 misses the first call that it traces."""
    with Meter():
        for _ in range(WARM_UP):
            await operation()
    with Meter() as meter:
        for _ in range(count):
            await operation()
    return meter


async def answer(ctx: Context[Question]) -> None:
    """Answer every question."""
    async for question in ctx:
        ctx.reply(question, question.number)


async def ask(count: int) -> Meter:
    """One round trip after another."""
    async with open_system() as system:
        ref = await system.spawn(answer)
        return await repeat(lambda: ref.ask(Question(1)), count)


async def ask_with_timeout(count: int) -> Meter:
    """Each with a ``timeout``."""
    async with open_system() as system:
        ref = await system.spawn(answer)
        return await repeat(lambda: ref.ask(Question(1), timeout=3600.0), count)


async def send(count: int) -> Meter:
    """Messages, until all are handled; the mailbox never fills up."""
    left = WARM_UP + count

    async def take(ctx: Context[int]) -> None:
        nonlocal left
        async for number in ctx:
            left -= number

    async with open_system() as system:
        ref = await system.spawn(child(take).options(capacity=WARM_UP + count))
        meter = await repeat(lambda: ref.send(1), count)
        with meter:
            while left:
                await checkpoint()
        return meter


async def idle(ctx: Context[int]) -> None:
    """Wait for messages that never come."""
    async for _ in ctx:
        pass


async def spawn(count: int) -> Meter:
    """Until the actor is ready."""
    async with open_system() as system:
        return await repeat(lambda: system.spawn(idle), count)


async def stop(count: int) -> Meter:
    """Until an idle actor has ended."""
    async with open_system() as system:
        refs = [await system.spawn(idle) for _ in range(WARM_UP + count)]
        return await repeat(lambda: refs.pop().stop(), count)


async def fragile(ctx: Context[object]) -> None:
    """Crash on each message."""
    async for _ in ctx:
        raise ZeroDivisionError


async def restart(count: int) -> Meter:
    """From a message that makes an actor crash until the next incarnation waits for one."""
    logging.getLogger("rookery.supervision").setLevel(logging.ERROR)
    async with open_system(intensity=Intensity(WARM_UP + count, per=3600.0)) as system:
        ref = await system.spawn(fragile)

        async def crash() -> None:
            restarts = ref.statistics().restarts
            await ref.send(None)
            while ref.statistics().restarts == restarts:
                await checkpoint()

        return await repeat(crash, count)


OPERATIONS: Final = {
    "ask": ask,
    "ask(timeout=)": ask_with_timeout,
    "send": send,
    "spawn": spawn,
    "stop": stop,
    "restart": restart,
}


# ---- memory


async def idle_bytes(count: int) -> float:
    """What Python's allocator has given out for each idle actor, its task included."""
    async with open_system() as system:
        for _ in range(WARM_UP):
            await system.spawn(idle)
        gc.collect()
        tracemalloc.start()
        for _ in range(count):
            await system.spawn(idle)
        gc.collect()
        size, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return size / count


async def blocks_left_behind(count: int) -> dict[str, float]:
    """How many blocks of memory are still in use after each ask, and after each message sent and handled."""

    async def handle(ctx: Context[object]) -> None:
        async for received in ctx:
            if isinstance(received, Question):
                ctx.reply(received, received.number)

    async with open_system() as system:
        ref = await system.spawn(handle)
        ways: dict[str, Callable[[], Awaitable[object]]] = {
            "ask": lambda: ref.ask(Question(1)),
            "ask(timeout=)": lambda: ref.ask(Question(1), timeout=3600.0),
            "send": lambda: ref.send(object()),
        }
        return {name: await _left_behind(way, count) for name, way in ways.items()}


async def _left_behind(operation: Callable[[], Awaitable[object]], count: int) -> float:
    for _ in range(WARM_UP):
        await operation()
    gc.collect()
    before = sys.getallocatedblocks()
    for _ in range(count):
        await operation()
    for _ in range(WARM_UP):
        await checkpoint()
    gc.collect()
    return (sys.getallocatedblocks() - before) / count


# ---- all of them


def measure(loop: str) -> Costs:
    """The costs on one loop, in this process."""
    turn.__dict__.update(SECONDS=math.inf)  # tracing is slow: a turn ends by its messages here, never by its time
    costs: Costs = {}
    for name, operation in OPERATIONS.items():
        meter = anyio.run(operation, COUNT, **LOOPS[loop])
        costs[name] = {"instructions": round(meter.instructions / COUNT, 1), "calls": round(meter.calls / COUNT, 1)}
    for name, blocks in anyio.run(blocks_left_behind, MANY, **LOOPS[loop]).items():
        costs[name]["blocks left behind"] = round(abs(blocks), 1)
    costs["idle actor"] = {"bytes": round(anyio.run(idle_bytes, COUNT, **LOOPS[loop]))}
    return costs


def measure_in_process(loop: str) -> Costs:
    """The costs on one loop, in a process of its own."""
    coverage = ("COV", "PYTHONTRACEMALLOC")  # what would trace there as well
    env = {name: value for name, value in os.environ.items() if not name.startswith(coverage)}
    printed = subprocess.run(
        [sys.executable, __file__, loop], check=True, stdout=subprocess.PIPE, env=env | {"PYTHONHASHSEED": "0"}
    ).stdout
    costs: Costs = json.loads(printed)
    return costs


def available_loops() -> list[str]:
    """The loops that can run here."""
    return [loop for loop in LOOPS if loop != "uvloop" or importlib.util.find_spec("uvloop")]


def recorded() -> dict[str, dict[str, Costs]]:
    """The table: for each Python, for each loop."""
    table: dict[str, dict[str, Costs]] = json.loads(TABLE.read_text())
    return table


def record() -> None:
    """Write this Python's part of the table."""
    table = recorded() if TABLE.exists() else {}
    table[PYTHON] = {loop: measure_in_process(loop) for loop in available_loops()}
    TABLE.write_text(json.dumps(dict(sorted(table.items())), indent=1) + "\n")


if __name__ == "__main__":
    if sys.argv[1:]:
        faulthandler.dump_traceback_later(LONGEST, exit=True)
        print(json.dumps(measure(sys.argv[1])))
    else:
        record()
