"""The seam: park one task, wake it, from this thread or another.

Everything in rookery that waits does it here, and everything that wakes a task passes here. It is
the only module of the core that knows trio or asyncio by name; the rest sees two small classes:

* :class:`Spot` is a place where one task parks, once.
* :class:`Loop` is the event loop a mailbox, a system or a device belongs to. It makes spots.

One rule makes every operation built on top atomic under cancellation: **a waker only grants.** It sets
``spot.granted`` and schedules the parked task; it never pushes, pops or hands over on that task's
behalf. The parked task acts after it has resumed. On both loops a task may be woken and cancelled in
the same tick, and then `park` raises although the spot was granted. The parked task has to look:

* ``park`` returned: the grant is yours, act on it now, before any further ``await``;
* ``park`` raised and ``spot.granted`` is false: leave the line you stood in, re-raise;
* ``park`` raised and ``spot.granted`` is true: pass the grant on to whoever is next, re-raise.

:class:`rookery._core.waiting.WaitingLine` is that discipline in one place.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
import traceback
from contextvars import ContextVar
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, TypeVar, cast, final

import anyio
import trio
from trio.lowlevel import Abort, disable_ki_protection, enable_ki_protection

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator
    from types import TracebackType

F = TypeVar("F", bound="Callable[..., Any]")


def uninterrupted(fn: F) -> F:
    """Defer ``KeyboardInterrupt`` while ``fn`` runs, on trio; asyncio never raises it inside a task.

    For code that updates a mailbox, a cell or a pool in several steps. Costs nothing per call: trio marks
    the code object. What such code calls is protected with it, up to the next `interruptible`.
    """
    return enable_ki_protection(fn)


def interruptible(fn: F) -> F:
    """Let ``KeyboardInterrupt`` into ``fn`` again: for the one place where user code is called."""
    return disable_ki_protection(fn)


class Spot(Protocol):
    """A place where one task parks, once."""

    granted: bool
    """Whether somebody called `wake`. True for good once set."""

    @property
    def task(self) -> object:
        """The task that made the spot and may park in it: an identity, to compare and to look up."""
        ...

    def park(self) -> Awaitable[object]:
        """Wait for `wake`: to be awaited on the spot; it takes no time if `wake` was called before.

        If cancelled, look at `granted` (see the module's rule). Only the task that made the spot may park,
        and only once. Not a coroutine function: a frame less for every wait there is.
        """
        ...

    def wake(self) -> None:
        """Grant the spot and schedule the parked task. Idempotent. Never switches tasks, never raises."""
        ...


class Scope(Protocol):
    """A cancel scope: trio's own, or anyio's on asyncio."""

    @property
    def cancel_called(self) -> bool: ...
    def cancel(self) -> None: ...
    def __enter__(self) -> object: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> bool | None: ...


class Nursery(Protocol):
    """The block that owns the tasks of a system, and which none of them outlives.

    An exception of a task cancels the body. Whatever leaves the block leaves it in a group, if it is one only too.
    """

    def start_soon(self, fn: Callable[..., Coroutine[Any, Any, None]], /, *args: Any, name: str) -> None: ...
    async def __aenter__(self) -> object: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> bool | None: ...


class Loop(Protocol):
    """The running event loop, as far as rookery needs to know it."""

    name: ClassVar[str]
    """``"trio"`` or ``"asyncio"`` (uvloop is an asyncio loop)."""

    @property
    def thread(self) -> int:
        """Identifier of the thread this loop runs in."""
        ...

    def is_here(self) -> bool:
        """Whether it is this loop that runs the code, and not another one, in this thread or elsewhere."""
        ...

    def spot(self) -> Spot:
        """A new spot for the current task; its `task` is None if another loop runs the code."""
        ...

    def shield(self) -> Scope:
        """A new cancel scope that those around it do not reach into."""
        ...

    def nursery(self) -> Nursery:
        """A new nursery.

        Its tasks are the loop's own: anyio's task groups give each task a handle, an event and a cancel scope
        besides, which make an idle actor 1.5 (trio) to 2.4 KiB (asyncio) larger and its start a third slower.
        """
        ...

    async def park_until(self, spot: Spot, when: float) -> None:
        """Park in a spot of this loop until somebody wakes it, or until ``when`` on the loop's clock.

        By the loop's own timers: anyio's cancel scopes take two passes of an asyncio loop to end a wait.
        """
        ...

    def current_task(self) -> object:
        """The running task, an identity to compare with `Spot.task`."""
        ...

    def now(self) -> float:
        """The loop's own clock, in seconds; it may be virtual."""
        ...

    def stopwatch(self) -> float:
        """Seconds of work, whatever the loop's clock says: how long a task has kept the loop to itself."""
        ...

    def effective_deadline(self) -> float:
        """When the cancel scopes around the running code will cancel it, on the loop's clock."""
        ...

    async def checkpoint(self) -> None:
        """Let other tasks run once, and be cancelled here if it is time."""
        ...

    def call_from_thread(self, fn: Callable[[], object]) -> bool:
        """Run ``fn`` on the loop soon, called from any thread (``loop.call_from_thread(spot.wake)``).

        Returns:
            False if the loop has ended, so that nobody is left to be told.
        """
        ...

    def is_running(self) -> bool:
        """Whether its tasks run at present; of an asyncio loop not between two ``run_until_complete``. From any thread.

        Of a trio run that has ended only `call_from_thread` knows it.
        """
        ...


@final
class _NoWait:
    """Awaited by a task that was granted before it parked: it goes on without a task switch."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, Any, None]:
        return
        yield


NO_WAIT: Final = _NoWait()


@final
class TrioSpot:
    """A spot on trio: `wait_task_rescheduled` and `reschedule`."""

    __slots__ = ("_parked", "granted", "task")

    def __init__(self) -> None:
        try:
            self.task: trio.lowlevel.Task = trio.lowlevel.current_task()
        except RuntimeError:
            self.task = cast("Any", None)  # another loop runs this code, and nobody can park here
        self.granted = False
        self._parked = False

    @enable_ki_protection
    def park(self) -> Awaitable[object]:
        if self.granted:
            return NO_WAIT
        self._parked = True
        return trio.lowlevel.wait_task_rescheduled(self._abort)  # noqa: ASYNC105  # the caller awaits it

    def _abort(self, _raise_cancel: object) -> Abort:
        self._parked = False
        return Abort.SUCCEEDED

    @enable_ki_protection
    def wake(self) -> None:
        self.granted = True
        if self._parked:
            self._parked = False
            trio.lowlevel.reschedule(self.task)


@final
class TrioNursery:
    """A nursery of trio's."""

    __slots__ = ("_manager", "start_soon")
    start_soon: Callable[..., None]

    def __init__(self) -> None:
        self._manager = trio.open_nursery(strict_exception_groups=True)

    async def __aenter__(self) -> None:
        nursery = await self._manager.__aenter__()
        self.start_soon = nursery.start_soon

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return await self._manager.__aexit__(kind, error, traceback)


@final
class TrioLoop:
    """trio's run, seen from one of its tasks."""

    __slots__ = ("_token", "thread")
    name: ClassVar[str] = "trio"

    def __init__(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self.thread: Final = threading.get_ident()

    spot = staticmethod(TrioSpot)
    shield = staticmethod(partial(trio.CancelScope, shield=True))
    nursery = staticmethod(TrioNursery)
    current_task = staticmethod(trio.lowlevel.current_task)
    now = staticmethod(trio.current_time)
    stopwatch = staticmethod(time.perf_counter)
    effective_deadline = staticmethod(trio.current_effective_deadline)
    checkpoint = staticmethod(trio.lowlevel.checkpoint)

    async def park_until(self, spot: Spot, when: float) -> None:
        with trio.CancelScope(deadline=when):
            await spot.park()

    def is_here(self) -> bool:
        return trio.lowlevel.in_trio_run() and trio.lowlevel.current_trio_token() is self._token

    def call_from_thread(self, fn: Callable[[], object]) -> bool:
        try:
            self._token.run_sync_soon(fn)
        except trio.RunFinishedError:
            return False
        return True

    def is_running(self) -> bool:
        return True


def stack_of(task: Any) -> str:
    """Where a task of either loop stands: the lines it waits in, the outermost first, as in a traceback.

    Not `asyncio.Task.get_stack`, which knows the outermost alone.
    """
    coroutine: Any = task.coro if hasattr(task, "coro") else task.get_coro()
    frames: list[tuple[Any, int]] = []
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        if frame is not None:
            frames.append((frame, frame.f_lineno))
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)
    return "".join(traceback.StackSummary.extract(frames).format())


_EAGER_CODE: Final = getattr(getattr(asyncio, "eager_task_factory", None), "__code__", object())
"""By which task factories that are eager are known, on Pythons that have them."""


def _effective_deadline_on_asyncio() -> Any:
    """What `anyio.current_effective_deadline` does, without looking at each call which loop this is.

    That look is half of its time, and a tenth of that of an ask. If anyio ever moves what is behind it, its public
    function does.
    """
    try:
        backend: Any = import_module("anyio._core._eventloop").get_async_backend("asyncio")
        found = backend.current_effective_deadline
    except (ImportError, AttributeError):
        found = anyio.current_effective_deadline
    return found


@final
class AsyncioSpot:
    """A spot on asyncio: one future, made when the task really parks."""

    __slots__ = ("_future", "_loop", "granted", "task")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.task: Final = asyncio.current_task(loop)
        self.granted = False
        self._loop = loop
        self._future: asyncio.Future[None] | None = None

    def park(self) -> Awaitable[object]:
        if self.granted:
            return NO_WAIT
        self._future = self._loop.create_future()
        return self._future

    def wake(self) -> None:
        self.granted = True
        if self._future is not None:
            try:  # not `done()` first: Ctrl-C can cancel the main task between two lines of this one
                self._future.set_result(None)
            except asyncio.InvalidStateError:
                return  # the task was woken or cancelled earlier in this tick


@final
class AsyncioNursery:
    """What a trio nursery does, for asyncio's tasks."""

    __slots__ = ("_body", "_errors", "_loop", "_tasks")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._body = anyio.CancelScope()
        self._tasks: set[asyncio.Task[None]] = set()
        self._errors: list[BaseException] = []

    def start_soon(self, fn: Callable[..., Coroutine[Any, Any, None]], /, *args: Any, name: str) -> None:
        eager = getattr(self._loop.get_task_factory(), "__code__", None) is _EAGER_CODE
        # As anyio does: an eager task would begin right here, in the middle of whatever starts it.
        make: Any = partial(asyncio.Task, loop=self._loop) if eager else self._loop.create_task
        task: asyncio.Task[None] = make(fn(*args), name=name)
        self._tasks.add(task)
        task.add_done_callback(partial(self._ended, fn, args))

    def _ended(
        self, fn: Callable[..., Coroutine[Any, Any, None]], args: tuple[Any, ...], task: asyncio.Task[None]
    ) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            # Before its first step, by somebody who cancels every task there is: ours let no cancellation out. It
            # takes that step all the same, as tasks do on trio, or whoever waits for its end would wait for ever.
            self.start_soon(fn, *args, name=task.get_name())
        elif (error := task.exception()) is not None:
            self._errors.append(error)
            self._body.cancel()

    async def __aenter__(self) -> None:
        self._body.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        while self._tasks:
            try:
                with anyio.CancelScope(shield=True):
                    await asyncio.wait(self._tasks)
            except asyncio.CancelledError as pierced:
                error = error or pierced
        absorbed = self._body.__exit__(type(error) if error else None, error, error.__traceback__ if error else None)
        if error is not None and not absorbed:
            self._errors.insert(0, error)
        if self._errors:
            raise BaseExceptionGroup("Exceptions from an asyncio nursery", self._errors)
        return absorbed


@final
class AsyncioLoop:
    """A running asyncio loop, uvloop's included."""

    __slots__ = ("_loop", "current_task", "effective_deadline", "now", "spot", "thread")
    name: ClassVar[str] = "asyncio"

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.thread: Final = threading.get_ident()
        self.now: Final = loop.time
        self.spot: Final = partial(AsyncioSpot, loop)
        self.current_task: Final = partial(asyncio.current_task, loop)
        self.effective_deadline: Final = _effective_deadline_on_asyncio()

    shield = staticmethod(partial(anyio.CancelScope, shield=True))
    stopwatch = staticmethod(time.perf_counter)

    def nursery(self) -> AsyncioNursery:
        return AsyncioNursery(self._loop)

    async def park_until(self, spot: Spot, when: float) -> None:
        timer = self._loop.call_at(when, spot.wake) if when < math.inf else None
        try:
            await spot.park()
        finally:
            if timer is not None:
                timer.cancel()

    def is_here(self) -> bool:
        return asyncio._get_running_loop() is self._loop

    async def checkpoint(self) -> None:
        await asyncio.sleep(0)

    def call_from_thread(self, fn: Callable[[], object]) -> bool:
        try:
            self._loop.call_soon_threadsafe(fn)
        except RuntimeError:  # the loop is closed
            return False
        return True

    def is_running(self) -> bool:
        return self._loop.is_running()


seen_through: Final[ContextVar[Callable[[Loop], Loop] | None]] = ContextVar("seen_through", default=None)
"""What `current_loop` passes each loop through: how a test gets the order of the wake-ups into its hands."""


def current_loop() -> Loop:
    """The loop that runs this code, seen through `seen_through`.

    Raises:
        RuntimeError: outside of trio and asyncio.
    """
    lens = seen_through.get()
    return _running_loop() if lens is None else lens(_running_loop())


def _running_loop() -> Loop:
    if trio.lowlevel.in_trio_task():
        return TrioLoop()
    try:
        return AsyncioLoop(asyncio.get_running_loop())
    except RuntimeError:
        raise RuntimeError(
            "rookery runs inside an event loop, and there is none here: "
            "start one with trio.run(main), or asyncio.run(main())"
        ) from None
