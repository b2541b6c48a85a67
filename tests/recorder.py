"""An `Actor` class that records what happens to it, and calls that run in tasks of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
from anyio.lowlevel import checkpoint

from rookery import Actor, Refused

Log = list[Any]


class Recorder(Actor):
    """Records what happens to it; its `work` goes on when it is let."""

    def __init__(self, log: Log, gate: anyio.Event | None = None) -> None:
        self.log = log
        self.gate = gate or anyio.Event()
        log.append("init")

    async def on_start(self) -> None:
        self.log.append("start")

    async def on_stop(self) -> None:
        await checkpoint()
        self.log.append("stop")

    async def work(self, name: str) -> str:
        self.log.append(f"{name} begins")
        try:
            await self.gate.wait()
        except anyio.get_cancelled_exc_class():
            self.log.append(f"{name} cancelled")
            raise
        self.log.append(f"{name} ends")
        return name

    async def note(self, name: str) -> None:
        self.log.append(name)

    async def crash(self, error: BaseException) -> None:
        self.log.append("crash")
        raise error

    async def refuse(self) -> None:
        raise Refused(KeyError("no"))


class Pair(Recorder):
    """Serves two requests at once."""

    concurrency = 2


class Outcome:
    """A call in a task of its own, and what came of it."""

    def __init__(self, tasks: anyio.abc.TaskGroup, call: Callable[[], Any]) -> None:
        self.value: Any = None
        self.scope = anyio.CancelScope()
        self.done = anyio.Event()
        tasks.start_soon(self._run, call)

    async def _run(self, call: Callable[[], Any]) -> None:
        with self.scope:
            try:
                self.value = await call()
            except Exception as error:  # noqa: BLE001
                self.value = error
        self.done.set()
