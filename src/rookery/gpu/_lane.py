"""Lanes: work that blocks, done in turn by one thread, awaited from the event loop.

A lane has one thread that does its work, first in, first out: it waits for the commands of one device queue, or
copies large arrays, or compiles. It tells the event loop what is done, and what is done together is told
together. Everything else happens on the loop's thread, so that nothing here needs a lock.
"""

from __future__ import annotations

from collections import deque
from queue import Empty, SimpleQueue
from threading import Thread, current_thread, get_ident, main_thread
from typing import TYPE_CHECKING, Final, final

from rookery._core._parking import uninterrupted
from rookery._model.errors import WrongLoop

from . import _opencl
from ._errors import DeviceClosed
from ._operation import Operation
from ._signals import compiler_undisturbed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rookery._core._parking import Loop

    from ._operation import Used

SETTLED_AT_ONCE: Final = 16
"""So many operations are settled in one pass of the event loop, and the rest in the next, so that its timers come between:
those who are woken are about to launch again, which takes tens of microseconds each."""

WATCH_FOR: Final = 100e-6
"""Seconds for which the task that awaits an operation looks itself whether it is over, if the last one was short.

What takes twice that until the task hears of it, by the thread, is long: looking for it would only keep a core busy.
"""

LOOK_EVERY: Final = 0.5
"""Seconds after which a thread that has nothing to do looks whether there is still somebody to give it something."""


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
                    operation.do()
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
            operation.do()
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
