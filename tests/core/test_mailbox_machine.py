"""The mailbox against a naive model, for random histories with cancellation anywhere, on each loop."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from rookery import Overflow
from rookery._core._parking import current_loop
from rookery._core.deadlines import Deadlines
from rookery._core.mailbox import NOTHING, Mailbox
from rookery._core.turn import Turn
from stepped import jump
from worlds import WorldMachine, run_machine

CAPACITY = 2
TIMEOUT = 1.0
PRIORITIES = st.sampled_from([128, 128, 128, 0, 127, 129, 255])
TOGETHER = st.booleans()


class Closed(Exception):
    """What senders get once the mailbox is closed."""


class Halted(Exception):
    """What receivers get once it is halted."""


class Task(NamedTuple):
    """A task that puts its number once, or gets once."""

    number: int
    timed: bool
    priority: int | None = None
    """Of the sender's item; None for a receiver."""


class Box(NamedTuple):
    """A mailbox as a list, and the tasks at it. Blocked senders stand in line; receivers just wait."""

    overflow: Overflow
    queue: tuple[tuple[int, int], ...] = ()
    arriving: frozenset[Task] = frozenset()
    line: tuple[Task, ...] = ()
    receivers: frozenset[Task] = frozenset()
    cancelled: frozenset[Task] = frozenset()
    doomed: frozenset[Task] = frozenset()
    """Cancelled natively, which nothing can forestall any more."""
    expired: frozenset[Task] = frozenset()
    held: bool = False
    closed: bool = False
    halted: bool = False
    drain: bool = False
    outcomes: frozenset[tuple[int, Any]] = frozenset()
    discarded: tuple[tuple[int, int], ...] = ()

    # ---- what a task may do next

    def moves(self) -> Iterator[Box]:
        for task in self.cancelled | self.doomed:
            yield self.finished(task, "cancelled")
        for task in self.arriving - self.doomed:
            yield self.arrives(task)
        yield from self.moves_of_senders()
        yield from self.moves_of_receivers()

    def inevitable(self) -> Box | None:
        if not self.arriving:  # whoever arrives is in line if somebody else still is
            for task in self.doomed:
                return self.finished(task, "cancelled")
        return None

    def moves_of_senders(self) -> Iterator[Box]:
        if self.closed:
            for task in {*self.line} - self.doomed:
                yield self.finished(task, "Closed")
            return
        for task in self.expired & {*self.line} - self.doomed:
            yield self.finished(task, False)
        if self.line and self.line[0] not in self.doomed and len(self.queue) < CAPACITY:
            first = self.line[0]
            yield self.finished(first, True).pushed(first.number, first.priority)

    def moves_of_receivers(self) -> Iterator[Box]:
        for task in self.receivers - self.doomed:
            if self.turned_away():
                yield self.finished(task, "Halted")
            elif self.queue and not self.held:
                yield self.finished(task, self.queue[0][0])._replace(queue=self.queue[1:])
            elif task in self.expired:
                yield self.finished(task, NOTHING)

    def arrives(self, task: Task) -> Box:
        there = self._replace(arriving=self.arriving - {task})
        if task.priority is None:
            return there._replace(receivers=self.receivers | {task})
        outcome, after = there.put_nowait(task.number, task.priority)
        if outcome == "MailboxFull" and self.overflow is Overflow.BLOCK:
            return there._replace(line=(*self.line, task))
        return after.finished(task, outcome or True)

    # ---- what is done to it

    def put_nowait(self, number: int, priority: int) -> tuple[str | None, Box]:
        if self.closed:
            return "Closed", self
        if not self.line and len(self.queue) < CAPACITY:
            return None, self.pushed(number, priority)
        least = min((priority for _, priority in self.queue), default=priority)
        if self.overflow is Overflow.DROP_NEWEST or (self.overflow is Overflow.DROP_OLDEST and priority < least):
            return None, self._replace(discarded=(*self.discarded, (number, priority)))
        if self.overflow is Overflow.DROP_OLDEST:
            victim = next(item for item in self.queue if item[1] == least)
            rest = tuple(item for item in self.queue if item != victim)
            return None, self._replace(queue=rest, discarded=(*self.discarded, victim)).pushed(number, priority)
        return "MailboxFull", self

    def get_nowait(self) -> tuple[int | str, Box]:
        if self.turned_away():
            return "Halted", self
        if self.held or not self.queue:
            return "WouldBlock", self
        return self.queue[0][0], self._replace(queue=self.queue[1:])

    def withdraw_even(self) -> tuple[tuple[tuple[int, int], ...], Box]:
        even = tuple(item for item in self.queue if item[0] % 2 == 0)
        return even, self._replace(queue=tuple(item for item in self.queue if item not in even))

    def turned_away(self) -> bool:
        return self.halted and not (self.drain and self.queue)

    def pushed(self, number: int, priority: int) -> Box:
        before = [item for item in self.queue if item[1] >= priority]
        after = [item for item in self.queue if item[1] < priority]
        return self._replace(queue=(*before, (number, priority), *after))

    def finished(self, task: Task, outcome: Any) -> Box:
        return self._replace(
            arriving=self.arriving - {task},
            line=tuple(other for other in self.line if other != task),
            receivers=self.receivers - {task},
            cancelled=self.cancelled - {task},
            doomed=self.doomed - {task},
            expired=self.expired - {task},
            outcomes=self.outcomes | {(task.number, outcome)},
        )

    def those_at_it(self) -> frozenset[Task]:
        return self.arriving | {*self.line} | self.receivers

    # ---- what can be seen of it

    def look(self) -> dict[str, Any]:
        return {
            "queue": list(self.queue),
            "blocked": len(self.line),
            "outcomes": sorted(self.outcomes),
            "discarded": list(self.discarded),
            "available": 0 if self.held else len(self.queue),
        }

    def forget(self) -> Box:
        return self._replace(outcomes=frozenset(), discarded=())


class MailboxMachine(WorldMachine):
    """A real mailbox on a real loop."""

    @initialize(overflow=st.sampled_from([Overflow.BLOCK, Overflow.BLOCK, *Overflow]), short_turns=st.booleans())
    def open(self, overflow: Overflow, short_turns: bool) -> None:
        """With short turns every task gives way before each put and get."""
        self.begin(Box(overflow))
        self.tasks: list[Task] = []
        self.time = 0.0
        self.discarded: list[tuple[int, int]] = []
        self.stepped.run(self._open, overflow, itertools.count() if short_turns else itertools.repeat(0.0))

    def _open(self, overflow: Overflow, clock: Iterator[float]) -> None:
        loop = current_loop()
        self.deadlines = Deadlines(loop)
        self.stepped.start(self.deadlines.run)
        self.box: Mailbox[int] = Mailbox(
            loop,
            Turn(loop, lambda: next(clock)),
            capacity=CAPACITY,
            overflow=overflow,
            discard=lambda item, priority, _: self.discarded.append((item, priority)),
        )

    def release(self) -> None:
        self.deadlines.close()

    def look(self) -> dict[str, Any]:
        discarded, self.discarded = self.discarded, []
        outcomes = self.done_jobs()
        self.tasks = [task for task in self.tasks if task.number in self.jobs]
        return {
            "queue": list(self.box._queue),
            "blocked": self.box.blocked_senders,
            "outcomes": outcomes,
            "discarded": discarded,
            "available": self.box.available(),
        }

    # ---- tasks at the mailbox

    @precondition(lambda self: len(self.tasks) < 6)
    @rule(priorities=st.lists(PRIORITIES, min_size=1, max_size=4), timed=TOGETHER, together=TOGETHER)
    def put(self, priorities: list[int], timed: bool, together: bool) -> None:
        """One sender for each priority: with several the mailbox is soon full."""
        for left, priority in reversed(list(enumerate(priorities))):
            self.arrive(Task(self.next_number(), timed, priority), together or left > 0)

    @precondition(lambda self: len(self.tasks) < 6)
    @rule(count=st.integers(1, 2), timed=TOGETHER, together=TOGETHER)
    def get(self, count: int, timed: bool, together: bool) -> None:
        for left in reversed(range(count)):
            self.arrive(Task(self.next_number(), timed), together or left > 0)

    def arrive(self, task: Task, together: bool) -> None:
        self.tasks.append(task)
        deadline = self.time + TIMEOUT
        self.step(
            together,
            lambda: self.start(task.number, lambda: self.use(task, deadline)),
            lambda box: [(None, box._replace(arriving=box.arriving | {task}))],
        )

    async def use(self, task: Task, deadline: float) -> Any:
        """What a task does."""
        match task:
            case Task(number, True, int(priority)):
                return await self.box.put_until(number, priority, deadline, self.deadlines)
            case Task(number, False, int(priority)):
                await self.box.put(number, priority)
                return True
            case Task(timed=True):
                return await self.box.get_until(deadline, self.deadlines)
            case _:
                return await self.box.get()

    @precondition(lambda self: self.tasks)
    @rule(which=st.sampled_from([0, 1, 2, -1]), native=TOGETHER, together=TOGETHER)
    def cancel(self, which: int, native: bool, together: bool) -> None:
        """The oldest is number 0."""
        self.cancel_task(self.tasks[which % len(self.tasks)], native, together)

    def cancel_task(self, task: Task, native: bool, together: bool) -> None:
        def model(box: Box) -> list[tuple[str, Box]]:
            those = {task} & box.those_at_it()
            return [
                ("scope", box._replace(cancelled=box.cancelled | those)),
                ("native", box._replace(doomed=box.doomed | those)),
            ]

        self.step(together, lambda: self.cancel_job(task.number, native), model)

    @precondition(lambda self: self.tasks)
    @rule(how=st.sampled_from(["scope", "native", "time"]), wake_first=TOGETHER, together=TOGETHER)
    def wake_and_interrupt(self, how: str, wake_first: bool, together: bool) -> None:
        """The oldest task is given what it waits for, if it is its turn, and is interrupted in the same tick."""
        task = self.tasks[0]
        wake = functools.partial(self.put_nowait, 128) if task.priority is None else self.get_nowait
        if wake_first:
            wake(together=True)
        if how == "time":
            self.time_out(together or not wake_first)
        else:
            self.cancel_task(task, how == "native", together or not wake_first)
        if not wake_first:
            wake(together=together)

    @precondition(lambda self: len(self.tasks) < 6)
    @rule(puts=TOGETHER, timed=TOGETHER, ticks=st.integers(0, 3), native=TOGETHER, together=TOGETHER)
    def arrive_and_cancel(self, puts: bool, timed: bool, ticks: int, native: bool, together: bool) -> None:
        """Before its first step, or wherever it is then."""
        task = Task(self.next_number(), timed, 128 if puts else None)
        self.arrive(task, True)
        for _ in range(ticks):
            self.a_tick()
        self.cancel_task(task, native, together)

    @rule(together=TOGETHER)
    def time_out(self, together: bool) -> None:
        """Whoever waits with a timeout has waited long enough."""

        def model(box: Box) -> list[tuple[None, Box]]:
            return [(None, box._replace(expired=box.expired | (timed & box.those_at_it())))]

        timed = {task for task in self.tasks if task.timed}
        self.time += 2 * TIMEOUT
        self.step(together, lambda: jump(2 * TIMEOUT), model)

    @rule()
    def tick(self) -> None:
        self.a_tick()

    # ---- calls that do not wait

    @rule(priority=PRIORITIES, together=TOGETHER)
    def put_nowait(self, priority: int, together: bool) -> None:
        number = self.next_number()
        self.step(
            together, lambda: self.box.put_nowait(number, priority), lambda box: [box.put_nowait(number, priority)]
        )

    @rule(together=TOGETHER)
    def get_nowait(self, together: bool) -> None:
        self.step(together, self.box.get_nowait, lambda box: [box.get_nowait()])

    @rule(held=TOGETHER, together=TOGETHER)
    def hold(self, held: bool, together: bool) -> None:
        """Or release."""
        change = self.box.hold if held else self.box.release
        self.step(together, change, lambda box: [(None, box._replace(held=held))])

    @rule(together=TOGETHER)
    def withdraw(self, together: bool) -> None:
        """Those with even numbers are taken out."""

        def withdraw() -> tuple[tuple[int, int], ...]:
            return tuple(self.box.withdraw(lambda number: number % 2 == 0))

        self.step(together, withdraw, lambda box: [box.withdraw_even()])

    @precondition(lambda self: self.number > 20)
    @rule(end=st.sampled_from(["close", "halt", "drain"]), together=TOGETHER)
    def end(self, end: str, together: bool) -> None:
        """One end of it; the other stays open."""
        if end == "close":
            self.step(together, lambda: self.box.close(Closed), lambda box: [(None, box._replace(closed=True))])
            return

        def model(box: Box) -> list[tuple[None, Box]]:
            return [(None, box._replace(halted=True, drain=drain, held=box.held and not drain))]

        drain = end == "drain"
        self.step(together, lambda: self.box.halt(Halted, drain=drain), model)

    # ---- the end

    def finish(self) -> None:
        """Nobody stays parked at a mailbox with both ends closed."""
        self.step(True, lambda: self.box.close(Closed), lambda box: [(None, box._replace(closed=True))])
        self.step(False, lambda: self.box.halt(Halted), lambda box: [(None, box._replace(halted=True, drain=False))])
        assert not self.jobs


def test_the_mailbox_is_its_naive_model(anyio_backend):
    """Order, capacity, turns, policies, ends, and atomicity under cancellation, for random histories."""
    run_machine(MailboxMachine, anyio_backend, times=3)
