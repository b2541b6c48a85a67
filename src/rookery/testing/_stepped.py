"""A loop that goes on only when a test says so, with a clock that stands still until it is moved.

For stateful tests: between two steps every task is parked or done, and no time passes by itself.
"""

from __future__ import annotations

import asyncio
import math
from heapq import heappop, heappush
from inspect import isawaitable
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast, final

import anyio
import attrs
from anyio.lowlevel import checkpoint

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

Backend: TypeAlias = tuple[str, dict[str, Any]]
"""Name and options of an anyio backend."""

BACKENDS: Final[dict[str, Backend]] = {
    "trio": ("trio", {}),
    "asyncio": ("asyncio", {"debug": True}),
    "uvloop": ("asyncio", {"use_uvloop": True}),
}

PATIENCE: Final = 100.0
"""Seconds of real time in which any step ends, if it ends at all."""

TICKS: Final = 1000
"""More passes of the loop than any step needs."""

CLEANUP_TICKS: Final = 20
"""More passes of the loop than any cleanup needs between two things that it waits for."""

LONG: Final = 1000.0
"""Seconds on the loop's clock."""


class StandingClock:
    """Mixed into an asyncio loop: its time is a number, and its timers a heap."""

    def __init__(self) -> None:
        super().__init__()
        self.slow_callback_duration = math.inf  # the callback that moves the clock is not slow
        self._now = 0.0
        self._timers: list[asyncio.TimerHandle] = []
        self._callbacks = 0

    def time(self) -> float:
        """Seconds that a test has let pass."""
        return self._now

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:
        """As ever, and counted."""
        self._callbacks += 1
        base = cast("asyncio.AbstractEventLoop", super())
        return base.call_soon(callback, *args, context=context)

    async def rest(self) -> None:
        """Wait until nobody but the caller has anything to do."""
        idle = 0
        for _ in range(TICKS):
            before = self._callbacks
            await asyncio.sleep(0)
            idle = idle + 1 if self._callbacks == before + 1 else 0
            if idle == 2:  # what had been scheduled before the first of them has run as well
                return
        raise AssertionError("the loop does not come to rest")

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        """Have a timer."""
        timer = asyncio.TimerHandle(when, callback, args, cast("asyncio.AbstractEventLoop", self), context)
        heappush(self._timers, timer)
        return timer

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        """Have a timer."""
        return self.call_at(self._now + delay, callback, *args, context=context)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is passed over when its time comes."""

    def jump(self, seconds: float) -> None:
        """Let time pass."""
        self._now += seconds
        while self._timers and self._timers[0].when() <= self._now:
            self.call_soon(_ring, heappop(self._timers))


def _ring(timer: asyncio.TimerHandle) -> None:
    if not timer.cancelled():
        timer._run()


def standing_loop(clock: type, options: dict[str, Any]) -> type:
    """The class of the asyncio loop of these options, with another clock mixed in."""
    base = _asyncio_loop(options)
    return type(f"{clock.__name__}{base.__name__}", (clock, base), {})


@final
@attrs.define(eq=False)
class Job:
    """One operation in a task of its own, and what came of it."""

    fn: Callable[[], Awaitable[Any]]
    outcome: Any = None
    """None while it runs; ``("returned", value)``, ``("raised", error)``, or ``("cancelled",)``."""
    scope: anyio.CancelScope = attrs.field(factory=anyio.CancelScope)
    task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """The body of its task."""
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

    def cancel(self, native: bool) -> str:
        """Natively, by ``Task.cancel()``, if wanted and the loop has that; else through its scope. Which it was."""
        if native and self.task is not None and not self.task.done():
            self.task.cancel()
            return "native"
        self.scope.cancel()
        return "scope"

    def done(self, task: asyncio.Task[None]) -> None:
        """Its task is."""
        if task.cancelled():
            self.outcome = ("cancelled",)  # natively, perhaps before its first step


@final
class Stepped:
    """A loop in a thread of its own.

    Between two steps the loop itself waits for the next one, blocked, so that what it does depends on nothing but the
    steps: hypothesis can repeat a history.
    """

    def __init__(self, backend: Backend) -> None:
        name, options = backend
        self._native = name == "asyncio"
        if self._native:  # debug mode looks at the stack at every callback, which takes most of the time
            options = {**options, "debug": False, "loop_factory": standing_loop(StandingClock, options)}
        else:
            from trio.testing import MockClock  # which imports pytest, where that is installed

            options = {**options, "clock": MockClock()}
        self._clock = options.get("clock")
        self._ended_by: BaseException | None = None
        self._jobs: list[Job] = []
        self._steps: SimpleQueue[tuple[Callable[..., Any], tuple[Any, ...]] | None] = SimpleQueue()
        self._results: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()
        # A daemon: a loop that something broken keeps from ending is left behind.
        self._thread = Thread(target=self._live, args=(name, options), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the loop; every job is cancelled. Raises what the loop has ended by."""
        self._steps.put(None)
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the loop never ends"
        if self._ended_by is not None:
            raise self._ended_by

    def run(self, fn: Callable[..., Any], *args: Any) -> Any:
        """Call a function, or run an async one, in the loop, and let it come to rest.

        Returns:
            What it returns; what it raises is raised here.
        """
        if self._ended_by is not None:
            raise self._ended_by
        assert self._thread.is_alive(), "the loop has ended"
        self._steps.put((fn, args))
        try:
            result, error = self._results.get(timeout=PATIENCE)
        except Empty:
            raise AssertionError("this step never ends") from None
        if error is not None:
            raise error
        return result

    # ---- in the loop

    def start(self, fn: Callable[[], Awaitable[Any]]) -> Job:
        """Run ``fn()`` in a task of its own."""
        job = Job(fn)
        self._jobs.append(job)
        if self._native:
            job.task = asyncio.get_running_loop().create_task(job.run())
            job.task.add_done_callback(job.done)
        else:
            self._tasks.start_soon(job.run)
        return job

    def jump(self, seconds: float) -> None:
        """Let time pass."""
        loop: Any = self._clock or asyncio.get_running_loop()
        loop.jump(seconds)

    def _live(self, name: str, options: dict[str, Any]) -> None:
        try:
            anyio.run(self._serve, backend=name, backend_options=options)
        except BaseException as error:  # noqa: BLE001  # raised in the thread of the test
            self._ended_by = error
            self._results.put((None, error))

    async def _serve(self) -> None:
        async with anyio.create_task_group() as self._tasks:
            while (step := self._steps.get()) is not None:
                fn, args = step
                try:
                    result: Any = fn(*args)
                    if isawaitable(result):
                        result = await result
                    await self._rest()
                except Exception as error:  # noqa: BLE001  # raised by `run`
                    self._results.put((None, error))
                else:
                    self._results.put((result, None))
            self._cancel_all()
            for _ in self._jobs:  # each may take as long as it likes
                self.jump(LONG)
                await _settle()

    async def _rest(self) -> None:
        if self._native:
            loop: Any = asyncio.get_running_loop()
            await loop.rest()
        else:
            from trio.testing import wait_all_tasks_blocked

            await wait_all_tasks_blocked()

    def _cancel_all(self) -> None:
        for job in self._jobs:
            if job.outcome is None:
                job.scope.cancel()


async def _settle() -> None:
    for _ in range(CLEANUP_TICKS):
        await checkpoint()


def _asyncio_loop(options: dict[str, Any]) -> type:
    if options.get("use_uvloop"):
        import uvloop

        return uvloop.Loop
    return asyncio.SelectorEventLoop
