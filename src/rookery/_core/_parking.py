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
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, TypeVar, final

import anyio
import trio
from trio.lowlevel import Abort, disable_ki_protection, enable_ki_protection

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

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


class Loop(Protocol):
    """The running event loop, as far as rookery needs to know it."""

    name: ClassVar[str]
    """``"trio"`` or ``"asyncio"`` (uvloop is an asyncio loop)."""

    @property
    def thread(self) -> int:
        """Identifier of the thread this loop runs in."""
        ...

    def spot(self) -> Spot:
        """A new spot for the current task."""
        ...

    def current_task(self) -> object:
        """The running task, an identity to compare with `Spot.task`."""
        ...

    def now(self) -> float:
        """The loop's own clock, in seconds; it may be virtual."""
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
        self.task: Final = trio.lowlevel.current_task()
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
class TrioLoop:
    """trio's run, seen from one of its tasks."""

    __slots__ = ("_token", "thread")
    name: ClassVar[str] = "trio"

    def __init__(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self.thread: Final = threading.get_ident()

    spot = staticmethod(TrioSpot)
    current_task = staticmethod(trio.lowlevel.current_task)
    now = staticmethod(trio.current_time)
    effective_deadline = staticmethod(trio.current_effective_deadline)
    checkpoint = staticmethod(trio.lowlevel.checkpoint)

    def call_from_thread(self, fn: Callable[[], object]) -> bool:
        try:
            self._token.run_sync_soon(fn)
        except trio.RunFinishedError:
            return False
        return True


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
class AsyncioLoop:
    """A running asyncio loop, uvloop's included."""

    __slots__ = ("_loop", "current_task", "now", "spot", "thread")
    name: ClassVar[str] = "asyncio"

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.thread: Final = threading.get_ident()
        self.now: Final = loop.time
        self.spot: Final = partial(AsyncioSpot, loop)
        self.current_task: Final = partial(asyncio.current_task, loop)

    effective_deadline = staticmethod(anyio.current_effective_deadline)

    async def checkpoint(self) -> None:
        await asyncio.sleep(0)

    def call_from_thread(self, fn: Callable[[], object]) -> bool:
        try:
            self._loop.call_soon_threadsafe(fn)
        except RuntimeError:
            if not self._loop.is_closed():
                raise
            return False
        return True


def current_loop() -> Loop:
    """The loop that runs this code.

    Raises:
        RuntimeError: outside of trio and asyncio.
    """
    if trio.lowlevel.in_trio_task():
        return TrioLoop()
    try:
        return AsyncioLoop(asyncio.get_running_loop())
    except RuntimeError:
        raise RuntimeError(
            "rookery runs inside an event loop, and there is none here: "
            "start one with trio.run(main), or asyncio.run(main())"
        ) from None
