"""A loop that goes on only when a test says so, with a clock that stands still until it is moved.

For stateful tests: between two steps every task is parked or done, and no time passes by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from heapq import heappop, heappush
from typing import Any

import anyio
import attrs
import trio.testing
from anyio.from_thread import start_blocking_portal

from support import settle


class _StandingClock:
    """Mixed into an asyncio loop: its time is a number, and its timers a heap."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._timers: list[asyncio.TimerHandle] = []

    def time(self) -> float:
        return self._now

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        heappush(self._timers, timer)
        return timer

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is passed over when its time comes."""

    def jump(self, seconds: float) -> None:
        self._now += seconds
        while self._timers and self._timers[0].when() <= self._now:
            timer = heappop(self._timers)
            if not timer.cancelled():
                self.call_soon(timer._run)


def _standing(base: Any) -> type:
    return type(f"Standing{base.__name__}", (_StandingClock, base), {})


@attrs.define(eq=False)
class Job:
    """One operation in a task of its own, and what came of it."""

    fn: Callable[[], Awaitable[Any]]
    outcome: Any = None
    """None while it runs; ``("returned", value)``, ``("raised", error)``, or ``("cancelled",)``."""
    scope: anyio.CancelScope = attrs.field(factory=anyio.CancelScope)
    task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        with self.scope:
            try:
                self.outcome = ("returned", await self.fn())
            except Exception as error:  # noqa: BLE001  # what came of it
                self.outcome = ("raised", error)
            except BaseException:
                self.outcome = ("cancelled",)
                raise

    def summary(self) -> Any:
        """What came of it, briefly: the value, the error's name, or "cancelled"."""
        match self.outcome:
            case ("returned", value):
                return value
            case ("raised", error):
                return type(error).__name__
            case _:
                return "cancelled"

    def cancel(self, native: bool) -> None:
        """Through its scope, or, where the loop has that, by ``Task.cancel()``; nothing if it is done."""
        if native and self.task is not None:
            self.task.cancel()
        else:
            self.scope.cancel()

    def _done(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            self.outcome = ("cancelled",)  # natively, perhaps before its first step


class Stepped:
    """A loop in a thread of its own."""

    def __init__(self, backend: tuple[str, dict[str, Any]]) -> None:
        name, options = backend
        self.has_native_cancel = name == "asyncio"
        if name == "trio":
            options = {**options, "clock": trio.testing.MockClock()}
        else:
            options = {**options, "loop_factory": _standing(_asyncio_loop(options))}
        self._jobs: list[Job] = []
        self._clock = options.get("clock")
        self._resources = ExitStack()
        self._portal = self._resources.enter_context(start_blocking_portal(name, options))
        tasks = self.run(anyio.create_task_group)
        self._tasks = self._resources.enter_context(self._portal.wrap_async_context_manager(tasks))

    def close(self) -> None:
        """End the loop; every job is cancelled."""
        self.run(self._cancel_all)
        self._resources.close()

    def run(self, fn: Callable[..., Any], *args: Any) -> Any:
        """Call a function, or run an async one, in the loop, and let it come to rest.

        Returns:
            What it returns; what it raises is raised here.
        """
        return self._portal.call(self._run, fn, args)

    # ---- in the loop

    def start(self, fn: Callable[[], Awaitable[Any]]) -> Job:
        """Run ``fn()`` in a task of its own."""
        job = Job(fn)
        self._jobs.append(job)
        if self.has_native_cancel:
            job.task = asyncio.get_running_loop().create_task(job.run())
            job.task.add_done_callback(job._done)
        else:
            self._tasks.start_soon(job.run)
        return job

    def jump(self, seconds: float) -> None:
        """Let time pass."""
        loop = self._clock or asyncio.get_running_loop()
        loop.jump(seconds)

    async def _run(self, fn: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        result = fn(*args)
        if isinstance(result, Awaitable):
            result = await result
        await settle()
        return result

    def _cancel_all(self) -> None:
        for job in self._jobs:
            if job.outcome is None:
                job.scope.cancel()


def _asyncio_loop(options: dict[str, Any]) -> type:
    if options.get("use_uvloop"):
        import uvloop

        return uvloop.Loop
    return asyncio.SelectorEventLoop
