"""Ctrl-C on trio while an `Actor` class is started, served and stopped."""

from __future__ import annotations

import math
import signal
import sys
from types import FrameType
from typing import Any

import anyio
import pytest
import trio

from recorder import Log, Pair, Recorder
from rookery import ActorStopped, child, open_system
from rookery._core.system import engine_of


class Interrupt:
    """A trace function that raises SIGINT once, at the first call of a function of the core, and then steps aside."""

    def __init__(self, function: str) -> None:
        self.function = function
        self.before = sys.gettrace()  # that of coverage, say
        self.fired = False

    def trace(self, frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if not self.fired and code.co_qualname == self.function and "rookery" in code.co_filename:
            self.fired = True
            sys.settrace(self.before)
            signal.raise_signal(signal.SIGINT)


ONE_BY_ONE = ["ClassBehaviour.__call__", "_made", "_run", "_OneByOne.run", "_OneByOne._serve", "_stop", "Engine.grace"]
AT_ONCE = ["_AtOnce.run", "interruptible_call", "_AtOnce._serve_beside", "_AtOnce._end_of_one", "_OneByOne._serve"]


async def a_life(kind: type[Recorder], log: Log) -> None:
    """Start, serve and stop, with all the time there is."""
    gate = anyio.Event()
    gate.set()
    with anyio.fail_after(10):
        async with open_system() as system:
            engine_of(system).turn.clock = lambda: 0.0  # type: ignore[misc]  # both requests are there when the first is taken
            ref = await system.spawn(child(kind, log, gate).options(stop_timeout=math.inf))
            await ref.cast(Recorder.note, "x")
            assert await ref.call(Recorder.work, "y") == "y"
            await ref.stop()


@pytest.mark.parametrize(
    ("kind", "function"),
    [*((Recorder, function) for function in ONE_BY_ONE), *((Pair, function) for function in AT_ONCE)],
    ids=[*ONE_BY_ONE, *(f"{function} at once" for function in AT_ONCE)],
)
def test_ctrl_c_stops_what_was_started_and_nothing_else(kind: type[Recorder], function: str) -> None:
    """`KeyboardInterrupt` leaves the block, whatever else does, once `on_stop` has run; and nothing hangs."""
    log: Log = []
    interrupt = Interrupt(function)
    sys.settrace(interrupt.trace)
    try:
        with pytest.raises((KeyboardInterrupt, BaseExceptionGroup)) as raised:
            trio.run(a_life, kind, log)
    finally:
        sys.settrace(interrupt.before)
    assert interrupt.fired
    interrupts, rest = BaseExceptionGroup("", [raised.value]).split(KeyboardInterrupt)
    assert interrupts is not None
    assert rest is None or rest.split(ActorStopped)[1] is None
    assert log.count("stop") == log.count("start")


class Struck(Recorder):
    """Ctrl-C comes in the middle of its own code."""

    def __init__(self, log: Log, where: str) -> None:
        super().__init__(log)
        self.where = where
        self.strike("__init__")

    async def on_start(self) -> None:
        self.strike("on_start")

    async def on_stop(self) -> None:
        self.strike("on_stop")

    async def serve(self) -> None:
        self.strike("serve")

    def strike(self, where: str) -> None:
        if where == self.where:
            signal.raise_signal(signal.SIGINT)
            self.log.append("went on")


class StruckPair(Struck):
    concurrency = 2


@pytest.mark.parametrize("kind", [Struck, StruckPair])
@pytest.mark.parametrize("where", ["__init__", "on_start", "serve", "on_stop"])
def test_ctrl_c_lands_in_the_code_of_the_class_at_once(kind: type[Struck], where: str) -> None:
    """Which is not protected, as the core around it is."""
    log: Log = []

    async def main() -> None:
        async with open_system() as system:
            ref = await system.spawn(kind, log, where)
            await ref.cast(Struck.serve)
            await ref.stop(drain=True)

    with pytest.raises((KeyboardInterrupt, BaseExceptionGroup)) as raised:
        trio.run(main)
    assert BaseExceptionGroup("", [raised.value]).subgroup(KeyboardInterrupt) is not None
    assert log == ["init"]
