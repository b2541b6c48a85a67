"""Ctrl-C on trio, at the worst moments: between two lines of the core."""

from __future__ import annotations

import linecache
import signal
import sys
from contextlib import suppress
from types import FrameType
from typing import Any

import anyio
import pytest
import trio

from rookery import AskTimeout, Context, Request, child, message, open_system


@message
class Ping(Request[int]):
    number: int


async def server(ctx: Context[Ping]) -> None:
    async for request in ctx:
        ctx.reply(request, request.number)
    await anyio.sleep_forever()  # cleanup that has to be cut off, by a timer


async def use_everything() -> None:
    """Spawn, ask, time out, send, stop, leave: the paths on which a signal is injected."""
    async with open_system() as system:
        ref = await system.spawn(child(server).options(stop_timeout=0.05))
        assert await ref.ask(Ping(1), timeout=1) == 1
        with suppress(AskTimeout):
            await ref.ask(Ping(1), timeout=0)
        assert await ref.ask(Ping(2)) == 2
        await ref.send(Ping(3))
        ref.stop_soon()
        await ref.wait_stopped()


LINES = {
    "Deadlines.run": "self._sleeper = self._loop.spot()",
    "Supervision.stop": "return [Stop(child)]",
    "Children.spawn": "cell.begin()",
    "_SystemBlock.__aenter__": "self._engine.body.__enter__()",
    "_SystemBlock.__aexit__": "engine.deadlines.close()",
    "Context._poll": "return NOTHING if item is NOTHING",
    "Context.__anext__": "message = self._handed(await self._mailbox.get())",
    "Context.reply": "elif not ask.reply(value)",
    "Mailbox.get": "return self._pop()",
    "Mailbox.accept": "self._queue.push(item, priority)",
    "Cell.begin": "self.incarnations += 1",
    "Incarnation._end_of_behaviour": "self._over = True",
    "ask": "await spot.park()",
    "_put_within": "return engine.deadlines.at(",
    "WaitingLine.wait": "await spot.park()",
}


class Signal:
    """A trace function that raises SIGINT once, before the given line of the given function is run."""

    def __init__(self, function: str, line: str) -> None:
        self.function, self.line = function, line
        self.fired = False

    def trace(self, frame: FrameType, event: str, _: Any) -> Any:
        inside = frame.f_code.co_qualname == self.function and "rookery" in frame.f_code.co_filename
        if not self.fired and inside and event == "line":
            text = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
            if self.line in text:
                self.fired = True
                signal.raise_signal(signal.SIGINT)
        return self.trace if inside or event == "call" else None


@pytest.mark.parametrize(("function", "line"), LINES.items(), ids=LINES)
def test_ctrl_c_between_any_two_lines_ends_the_tree_in_order(function: str, line: str) -> None:
    """The block is left by `KeyboardInterrupt`, within the stop timeouts, and nothing hangs."""
    injected = Signal(function, line)

    async def main() -> None:
        with anyio.fail_after(10):
            await use_everything()

    before = sys.gettrace()
    sys.settrace(injected.trace)
    try:
        with pytest.raises(KeyboardInterrupt):
            trio.run(main)
    finally:
        sys.settrace(before)
    assert injected.fired
