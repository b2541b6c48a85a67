"""Lanes: work that blocks, done in turn by one thread, awaited from the event loop.

A lane has one thread that does its work, first in, first out: it waits for the commands of one device queue, or
copies large arrays, or compiles. It tells the event loop what is done, and what is done together is told
together. Everything else happens on the loop's thread, so that nothing here needs a lock.

A command on a device cannot be cancelled, nor can a copy. A task that waits for one can: the thread works on, and
the operation keeps what it uses, events, buffers and host memory, until it is done.
"""

from __future__ import annotations

import logging
from collections import deque
from queue import Empty, SimpleQueue
from threading import Thread, current_thread, get_ident, main_thread
from typing import TYPE_CHECKING, Any, Final, Protocol, final

import anyio

from rookery._core._parking import uninterrupted
from rookery._model.errors import RookeryError, WrongLoop

from . import _opencl
from ._errors import CommandFailed, DeviceClosed
from ._signals import compiler_undisturbed

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from rookery._core._parking import Loop, Spot

    from ._profile import OperationProfile

logger: Final = logging.getLogger("rookery.gpu")

SETTLED_AT_ONCE: Final = 16
"""So many operations are settled in one pass of the event loop, and the rest in the next, so that its timers come between:
those who are woken are about to launch again, which takes tens of microseconds each."""

WATCH_FOR: Final = 100e-6
"""Seconds for which the task that awaits an operation looks itself whether it is over, if the last one was short.

What takes twice that until the task hears of it, by the thread, is long: looking for it would only keep a core busy.
"""

LOOK_EVERY: Final = 0.5
"""Seconds after which a thread that has nothing to do looks whether there is still somebody to give it something."""


class Used(Protocol):
    """Something that operations use; it hears when each begins and when it is done."""

    def started(self, operation: Operation) -> None:
        """An operation that uses it is on its way."""

    def completed(self, operation: Operation) -> None:
        """That operation is done, well or not."""


@final
class Operation:
    """Something on its way: a kernel launch or a copy. Await it, any number of times, or let it go.

    If cancelled while waiting: it runs on, and what it uses stays reserved until it is done.

    Raises (when awaited):
        CommandFailed: if it failed on the device.
        WrongLoop: in another thread than that of the loop it was started in.
    """

    __slots__ = (
        "_error",
        "_keep",
        "_label",
        "_settled",
        "_spots",
        "_used",
        "began",
        "ended",
        "event",
        "first",
        "follows",
        "lane",
        "profile",
        "raised",
        "reported",
        "work",
    )

    def __init__(
        self,
        lane: Lane,
        used: Sequence[Used],
        label: Callable[[], str],
        *,
        event: _opencl.Event | None = None,
        keep: object = None,
    ) -> None:
        self.lane: Final = lane
        self.event = event
        """pyopencl's event of a command, or of a host copy that commands wait for, until it is done."""
        self.profile: OperationProfile | None = None
        """When it was where, once it is done well; only with ``open_device(profile=True)``."""
        self.work: Callable[[], object] | None = None
        """What the lane's thread does for it, until that is over."""
        self.raised: Exception | None = None
        """What that raised, for `settle`."""
        self.ended: bool = False
        """Whether `raised` says how it went."""
        self.first: tuple[str, Exception] | None = None
        """What failed first, and why, if it failed because of something else."""
        self.began: float | None = None
        """When it was started, on the loop's stopwatch, if the task that did awaits it at once."""
        self.follows: Sequence[Operation] = ()
        """What was to write what it uses, and was in flight when it was started."""
        self._used = used
        self._label = label
        self._keep = keep
        self._spots: list[Spot] = []
        self._settled = False
        self._error: Exception | None = None
        self.reported = False
        """Whether somebody knows that it failed."""

    @property
    def done(self) -> bool:
        """Whether it is over, well or not."""
        return self._settled

    @property
    def failed(self) -> bool:
        """Whether it is over and went wrong."""
        return self._error is not None

    @property
    def error(self) -> Exception | None:
        """What went wrong, as the driver or the copy raised it."""
        return self._error

    @property
    def seconds(self) -> float | None:
        """How long it ran on the device, where `profile` tells."""
        return None if self.profile is None else self.profile.seconds

    @property
    def label(self) -> str:
        """What it does."""
        return self._label()

    def __await__(self) -> Generator[Any, Any, None]:
        return self._wait().__await__()

    def __repr__(self) -> str:
        state = "failed" if self.failed else "done" if self._settled else "in flight"
        return f"<Operation {self._label()}: {state}>"

    def __del__(self) -> None:
        if self._error is not None and not self.reported:
            # Its text only: whoever keeps the record would keep what the frames of its traceback see.
            logger.error("%s failed and nobody awaited it: %s", self._label(), str(self._error))

    async def _wait(self) -> None:
        await self.settled()
        self.raise_if_failed()

    def raise_if_failed(self) -> None:
        """Raise what went wrong, if it is over and something did.

        Raises:
            CommandFailed: if it failed on the device.
        """
        if self._error is None:
            return
        self.reported = True
        if isinstance(self._error, CommandFailed):
            # Another one each time: the traceback of what is raised sees this operation, and the memory that its raiser saw.
            raise CommandFailed(*self._error.args) from self._error.__cause__
        if isinstance(self._error, RookeryError):
            raise self._error
        raise CommandFailed(f"{self._label()} failed: {self._error}") from self._error

    @uninterrupted
    async def settled(self) -> None:
        """Wait until it is over, well or not."""
        self.lane.check_thread()
        if self.lane.watched is self:
            await self.lane.watch(self)
        if self._settled:
            return
        spot = self.lane.loop.spot()
        self._spots.append(spot)
        try:
            await spot.park()
        except BaseException:
            # Nothing to pass on: that it is over remains true for whoever asks next.
            if not spot.granted:
                self._spots.remove(spot)
            raise
        finally:
            del spot  # it knows the task, whose cancellation has a traceback that sees this frame

    async def outlast(self) -> None:
        """Wait until it is over, whatever comes, and raise the first thing that came; see `Latch.outlast`."""
        pierced: BaseException | None = None
        try:
            while not self._settled:
                with anyio.CancelScope(shield=True):
                    try:
                        await self.settled()
                    except GeneratorExit:
                        raise
                    except BaseException as error:  # noqa: BLE001  # raised below
                        pierced = pierced or error
            if pierced is not None:
                raise pierced
        finally:
            del pierced  # its traceback sees this frame, and that sees the operation

    def settle(self) -> None:
        """Its work is over: let go of what it used, and wake who waits. On the loop's thread."""
        self._settled = True
        self._error, self.raised = self.raised, None
        self.event = self._keep = self.work = None
        self.follows = ()
        for used in self._used:
            used.completed(self)
        self._used = ()
        for spot in self._spots:
            spot.wake()
        self._spots.clear()


@final
class Lane:
    """One thread for work that blocks, and the way back into the event loop. It starts with the first work."""

    __slots__ = (
        "_done",
        "_failures",
        "_inbox",
        "_orphan",
        "_owner",
        "_pending",
        "_short",
        "_thread",
        "_told",
        "closed",
        "failed",
        "loop",
        "name",
        "total",
        "watched",
    )

    def __init__(self, loop: Loop, name: str, failures: deque[_opencl.Event] | None = None) -> None:
        self.loop: Final = loop
        self.name: Final = name
        self.closed: bool = False
        self.total: int = 0
        self.failed: int = 0
        self.watched: Operation | None = None
        """What the thread has not been given, because the task that awaits it looks first, with `watch`."""
        self._pending: deque[Operation] = deque()
        self._inbox: SimpleQueue[Operation | None] = SimpleQueue()
        self._done: deque[Operation] = deque()
        self._short = True  # what was last awaited at once
        self._told = False
        self._owner: Final = current_thread()
        self._orphan = False  # the loop has ended
        self._thread: Thread | None = None
        # PoCL goes on to look at the events of commands that failed, and crashes where they are gone.
        self._failures: Final[deque[_opencl.Event]] = deque() if failures is None else failures

    @property
    def in_flight(self) -> Sequence[Operation]:
        """What is on its way, oldest first."""
        return self._pending

    def check_open(self) -> None:
        """Refuse new work after the end.

        Raises:
            DeviceClosed: naming this lane.
        """
        if self.closed:
            raise DeviceClosed(f"{self.name} is closed: use it inside the `async with` block that opened it")

    def check_thread(self) -> None:
        """Refuse to wait in another thread than the loop's.

        Raises:
            WrongLoop: naming this lane.
        """
        if get_ident() != self.loop.thread:
            raise WrongLoop(
                f"{self.name} belongs to an event loop in another thread: await this there, or open the device here as "
                "well, with `async with open_device()`"
            )

    def follow(self, operation: Operation, used: Sequence[Used], work: Callable[[], object]) -> Operation:
        """Have the thread do ``work``, which blocks until the operation is over, and raises if it failed.

        If it is awaited at once, and there is nothing else to do or to wait for, the task that does may `watch` it first.
        """
        for thing in used:
            thing.started(operation)
        self.total += 1
        self._pending.append(operation)
        operation.work = work
        alone = len(self._pending) == 1 and not operation.follows
        if operation.began is not None and self._short and alone:
            self.watched = operation
        else:
            self._hand_over()
            self._give(operation)
        return operation

    @uninterrupted
    async def watch(self, operation: Operation) -> None:
        """Look for a moment whether a watched operation is over, and leave it to the thread if it is not.

        What is short is over before a thread would have been woken, and woken the loop. If cancelled: the thread has it.
        """
        until = self.loop.stopwatch() + WATCH_FOR
        try:
            while self.watched is operation and self.loop.stopwatch() < until:
                await self.loop.checkpoint()
                # Others may have started something meanwhile, and have handed this over before that.
                if self.watched is operation and operation.event is not None and _opencl.is_over(operation.event):
                    _do(operation)
                    self._done.append(operation)
                    self.watched = None  # not before: what interrupts that leaves it to the thread
                    self._settle()
        finally:
            if self.watched is operation:
                self._hand_over()

    def _hand_over(self) -> None:
        """Give the thread what was watched, before anything that comes after it."""
        operation, self.watched = self.watched, None
        if operation is not None:
            self._give(operation)

    def _give(self, operation: Operation) -> None:
        self._thread = self._thread or self._start()
        self._inbox.put(operation)

    def submit(
        self,
        work: Callable[[], object],
        used: Sequence[Used],
        label: Callable[[], str],
        event: _opencl.Event | None = None,
    ) -> Operation:
        """Have the thread do something of the host's own; ``event`` is what commands that depend on it wait for."""
        self.check_open()
        return self.follow(Operation(self, used, label, event=event), used, work)

    async def drain(self) -> None:
        """Wait until nothing is on its way."""
        while self._pending:
            await self._pending[-1].settled()

    def refuse(self) -> None:
        """Take no more work, and have the thread end when it is done with what it has."""
        if not self.closed:
            self.closed = True
            self._hand_over()
            self._inbox.put(None)

    def join(self) -> None:
        """After `refuse`: wait for the thread's end, unless it is still busy."""
        if self._thread is not None and not self._pending:
            self._thread.join()

    def _start(self) -> Thread:
        # Not a daemon: a thread that is blocked in a driver when the interpreter exits can abort the process.
        thread = Thread(target=self._work, name=f"rookery: {self.name}", daemon=False)
        thread.start()
        return thread

    def _work(self) -> None:
        """What the thread does."""
        with compiler_undisturbed():  # for its whole life: compiling is one of the things it does
            self._work_through()

    def _work_through(self) -> None:
        while (operation := self._next()) is not None:
            _do(operation)
            # Events and buffers are dropped by the loop's thread, with the work, so this one keeps nothing but that.
            self._done.append(operation)
            del operation
            if not self._told:
                self._told = True
                self._orphan = not self.loop.call_from_thread(self._settle)
            if self._orphan:
                self._fail_announced()

    def _next(self) -> Operation | None:
        """What to do next; None at the end, and where nobody closed this and nobody is left to do so."""
        while True:
            try:
                return self._inbox.get(timeout=0 if self._orphan else LOOK_EVERY)
            except Empty:
                if self._orphan or not self._has_owner():
                    return None

    def _has_owner(self) -> bool:
        """Whether the thread of the loop is still there: the main one ends, and daemons do, when the program does."""
        return main_thread().is_alive() if self._owner.daemon else self._owner.is_alive()

    def _fail_announced(self) -> None:
        """What waits for what has failed waits in other threads, and there is no loop any more to see to that."""
        while self._done:
            operation = self._done.popleft()
            if operation.raised is not None and operation.event is not None:
                _opencl.fail(operation.event)

    @uninterrupted
    def _settle(self) -> None:
        # Cleared first: what the thread adds from here on is either seen below or told again.
        self._told = False
        for _ in range(SETTLED_AT_ONCE):
            if not self._done:
                return
            operation = self._done.popleft()
            self._pending.popleft()  # the same one: first in, first out
            if operation.raised is not None:
                self.failed += 1
                if operation.event is not None:
                    _opencl.fail(operation.event)
                    self._failures.append(operation.event)
            if operation.began is not None:
                self._short = self.loop.stopwatch() - operation.began < 2 * WATCH_FOR
            operation.settle()
        if self._done and not self._told:
            self._told = True
            self.loop.call_from_thread(self._settle)


def _do(operation: Operation) -> None:
    """Do the work of an operation, in the lane's thread."""
    try:
        if operation.work is not None:
            operation.work()
    except Exception as raised:  # noqa: BLE001 - told to whoever awaits the operation, or logged
        # Without its traceback: the frames there see this operation, and the memory that a copy is about.
        operation.raised = raised.with_traceback(None)
    if operation.follows:
        _inherit(operation)
    operation.ended = True


def _inherit(operation: Operation) -> None:
    """Have an operation fail with what failed to write what it uses, whether or not the driver ran it."""
    for writer in operation.follows:
        if (first := _first_failure(writer)) is None:
            continue
        writer.reported = True  # by this one, or whoever reports that
        if operation.first is None:
            label, error = operation.first = first
            failed = CommandFailed(
                f"{operation.label} depends on what {label} failed to write ({error}): write that anew, then launch this "
                "again"
            )
            failed.__cause__ = error
            operation.raised = failed


def _first_failure(operation: Operation) -> tuple[str, Exception] | None:
    """What made an operation fail, or is about to when its thread comes to it; None if nothing did."""
    seen: set[Operation] = set()
    to_see = [operation]
    while to_see:
        one = to_see.pop()
        if one in seen:
            continue
        seen.add(one)
        # In this order: the loop's thread, where it settles that one just now, sets `error` before it clears the others.
        ended, event, follows = one.ended, one.event, one.follows
        error = one.raised or one.error
        if error is not None:
            return one.first or (one.label, error)
        if not ended:  # its own thread has not come to it yet, but it is over, and so is what it follows
            if event is not None and _opencl.has_failed(event):
                return one.label, CommandFailed(f"{one.label} failed")
            to_see += follows
    return None
