"""The mailbox: order, bounds and atomicity, against a naive model and by example."""

from __future__ import annotations

from contextlib import ExitStack

import anyio
import attrs
import pytest
from anyio.from_thread import start_blocking_portal
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from rookery import MailboxFull, Overflow, StopRequested, WouldBlock
from rookery._core._parking import current_loop
from rookery._core.deadlines import Deadlines
from rookery._core.mailbox import Mailbox
from rookery._core.turn import Turn
from rookery._model.dead_letter import Reason
from support import settle

PRIORITIES = st.sampled_from([0, 127, 128, 128, 128, 129, 255])


class Closed(Exception):
    """What a closed mailbox raises here."""


def mailbox(capacity: int = 10, overflow: Overflow = Overflow.BLOCK) -> tuple[Mailbox[int], list[tuple]]:
    """A mailbox, and the list of what it discards."""
    loop = current_loop()
    discarded: list[tuple] = []
    box: Mailbox[int] = Mailbox(
        loop, Turn(loop), capacity=capacity, overflow=overflow, discard=lambda *what: discarded.append(what)
    )
    return box, discarded


# ---- a machine, on every loop


@attrs.define(eq=False)
class Task:
    """A task that puts or gets once."""

    number: int
    priority: int = 128
    outcome: str = "waiting"
    scope: anyio.CancelScope = attrs.field(factory=anyio.CancelScope)

    async def put(self, box: Mailbox[int]) -> None:
        with self.scope:
            try:
                await box.put(self.number, self.priority)
            except BaseException as error:
                self.outcome = type(error).__name__
                raise
            self.outcome = "done"

    async def get(self, box: Mailbox[int], received: list[int]) -> None:
        with self.scope:
            try:
                item = await box.get()
            except BaseException as error:
                self.outcome = type(error).__name__
                raise
            self.outcome = "done"
            received.append(item)


class MailboxMachine(RuleBasedStateMachine):
    """A real mailbox on a real loop in another thread; between two rules every task is parked or done.

    The model is a list. Whatever was put is in it in order of urgency and arrival; who waits for room stands
    in a second list, in turn. Where two things happen in one tick the loops differ in which comes first: then
    the model follows what the task reports, and checks that what it reports is what happened.
    """

    backend: tuple[str, dict]
    senders = Bundle("senders")
    receivers = Bundle("receivers")

    @rule()
    def nothing(self) -> None:
        """Hypothesis wants a rule that can always run."""

    def __init__(self) -> None:
        super().__init__()
        name, options = self.backend
        self.resources = ExitStack()
        self.portal = self.resources.enter_context(start_blocking_portal(name, options))
        self.box, _ = self.call(mailbox, 3)
        tasks = self.call(anyio.create_task_group)
        self.tasks = self.resources.enter_context(self.portal.wrap_async_context_manager(tasks))
        self.queued: list[Task] = []
        self.blocked: list[Task] = []
        self.waiting: list[Task] = []
        self.taken: list[int] = []
        self.received: list[int] = []
        self.numbers = 0
        self.held = False

    def teardown(self) -> None:
        for task in [*self.blocked, *self.waiting]:
            self.call(task.scope.cancel)
        self.resources.close()

    def call(self, fn, *args):
        return self.portal.call(fn, *args)

    # -- what the model does

    def admit(self) -> None:
        """Blocked senders come in while there is room, receivers take while there is something."""
        while True:
            if self.blocked and len(self.queued) < 3:
                self.insert(self.blocked.pop(0))
            elif self.waiting and self.queued and not self.held:
                self.waiting.pop(0)
                self.taken.append(self.queued.pop(0).number)
            else:
                return

    def insert(self, task: Task) -> None:
        more_urgent = [other for other in self.queued if other.priority >= task.priority]
        self.queued.insert(len(more_urgent), task)

    def new(self, priority: int = 128) -> Task:
        self.numbers += 1
        return self.call(Task, self.numbers, priority)

    # -- what happens

    @rule(target=senders, priority=PRIORITIES)
    def put(self, priority: int) -> Task:
        task = self.new(priority)
        self.call(self._start, task.put, self.box)
        self.blocked.append(task)
        self.admit()
        return task

    @rule(target=receivers)
    def get(self) -> Task:
        task = self.new()
        self.call(self._start, task.get, self.box, self.received)
        self.waiting.append(task)
        self.admit()
        return task

    @rule(priority=PRIORITIES)
    def put_nowait(self, priority: int) -> None:
        task = self.new(priority)
        try:
            self.call(self._settled, self.box.put_nowait, task.number, priority)
        except MailboxFull:
            assert len(self.queued) == 3
        else:
            assert len(self.queued) < 3
            self.insert(task)
        self.admit()

    @rule()
    def get_nowait(self) -> None:
        try:
            item = self.call(self._settled, self.box.get_nowait)
        except WouldBlock:
            assert self.held or not self.queued
        else:
            assert self.queued.pop(0).number == item
        self.admit()

    @rule(task=consumes(senders))
    def cancel_sender(self, task: Task) -> None:
        self.call(self._settled, task.scope.cancel)
        if task in self.blocked:
            self.blocked.remove(task)

    @rule(task=consumes(receivers))
    def cancel_receiver(self, task: Task) -> None:
        self.call(self._settled, task.scope.cancel)
        if task in self.waiting:
            self.waiting.remove(task)

    @precondition(lambda self: self.blocked and not self.held)
    @rule(cancel_first=st.booleans())
    def make_room_and_cancel_the_first_in_line(self, cancel_first: bool) -> None:
        """A place is granted to a sender that is cancelled in the same tick."""
        task = self.blocked.pop(0)
        item = self.call(self._both, self.box.get_nowait, task.scope.cancel, cancel_first)
        assert self.queued.pop(0).number == item
        if task.outcome == "done":
            self.insert(task)
        self.admit()

    @precondition(lambda self: self.waiting and not self.held)
    @rule(cancel_first=st.booleans(), priority=PRIORITIES)
    def put_and_cancel_the_first_receiver(self, cancel_first: bool, priority: int) -> None:
        """A message comes for a receiver that is cancelled in the same tick."""
        task, message = self.waiting.pop(0), self.new(priority)

        def put() -> None:
            self.box.put_nowait(message.number, priority)

        self.call(self._both, put, task.scope.cancel, cancel_first)
        if task.outcome == "done":
            self.taken.append(message.number)
        else:
            self.insert(message)
        self.admit()

    @rule()
    def hold(self) -> None:
        self.held = True
        self.call(self.box.hold)

    # With receivers to spare, two blocked senders race them: whose message is taken first is the loop's choice.
    @precondition(lambda self: len(self.waiting) <= len(self.queued) or len(self.blocked) < 2)
    @rule()
    def release(self) -> None:
        self.held = False
        self.call(self._settled, self.box.release)
        # All receivers for whom there is a message wake in one tick, before anybody is let in.
        for _ in range(min(len(self.waiting), len(self.queued))):
            self.waiting.pop(0)
            self.taken.append(self.queued.pop(0).number)
        self.admit()

    async def _start(self, fn, *args) -> None:
        self.tasks.start_soon(fn, *args)
        await settle()

    async def _settled(self, fn, *args):
        result = fn(*args)
        await settle()
        return result

    async def _both(self, fn, cancel, cancel_first: bool):
        if cancel_first:
            cancel()
        result = fn()
        if not cancel_first:
            cancel()
        await settle()
        return result

    # -- what must hold

    @invariant()
    def the_queue_is_the_models(self) -> None:
        queued = [(task.number, task.priority) for task in self.queued]
        assert queued == list(self.box._queue)

    @invariant()
    def everything_taken_was_received_once(self) -> None:
        assert sorted(self.taken) == sorted(self.received)

    @invariant()
    def those_who_wait_are_the_models(self) -> None:
        assert len(self.blocked) == self.box.blocked_senders
        assert {"waiting"} >= {task.outcome for task in [*self.blocked, *self.waiting]}


def test_the_mailbox_is_its_naive_model(anyio_backend):
    """Order, capacity, turns, and atomicity under cancellation, for random histories, on each loop."""
    machine = type("Machine", (MailboxMachine,), {"backend": anyio_backend})
    run_state_machine_as_test(machine)


# ---- by example


async def test_urgent_messages_come_first_and_equal_ones_in_order():
    """Exact to the level, first in first out within one."""
    box, _ = mailbox()
    for item, priority in [(1, 128), (2, 255), (3, 0), (4, 128), (5, 200), (6, 255)]:
        await box.put(item, priority)
    assert [await box.get() for _ in range(6)] == [2, 6, 5, 1, 4, 3]


async def test_blocked_senders_are_served_in_turn_in_one_tick():
    """Several places that come free at once are filled in order of arrival, on every loop."""
    box, _ = mailbox(capacity=4)
    for item in range(4):
        await box.put(item)
    async with anyio.create_task_group() as tasks:
        for item in range(4, 12):
            tasks.start_soon(box.put, item)
            await settle()
        received = [box.get_nowait() for _ in range(4)]
        await settle()
        received += [await box.get() for _ in range(8)]
    assert received == list(range(12))


async def test_a_newcomer_does_not_overtake_blocked_senders():
    """`put_nowait` finds it full while somebody waits, even if a place has just come free."""
    box, _ = mailbox(capacity=1)
    await box.put(1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(box.put, 2)
        await settle()
        assert box.get_nowait() == 1
        with pytest.raises(MailboxFull):
            box.put_nowait(3)
    assert box.get_nowait() == 2


async def test_reject_turns_away_with_an_error_that_says_what_to_do():
    """`MailboxFull` names the capacity and the option."""
    box, discarded = mailbox(capacity=2, overflow=Overflow.REJECT)
    await box.put(1)
    await box.put(2)
    with pytest.raises(MailboxFull, match=r"2 messages, REJECT.*options\(capacity=\.\.\.\)"):
        await box.put(3)
    assert (discarded, box.dropped) == ([], 0)


async def test_drop_newest_drops_the_newcomer():
    """The sender does not notice; the drop is counted and told."""
    box, discarded = mailbox(capacity=1, overflow=Overflow.DROP_NEWEST)
    await box.put(1)
    await box.put(2, 255)
    assert discarded == [(2, 255, Reason.DROPPED_NEWEST)]
    assert box.dropped == 1
    assert box.get_nowait() == 1


async def test_drop_oldest_evicts_the_oldest_of_the_least_urgent():
    """An urgent message is never evicted by a less urgent one."""
    box, discarded = mailbox(capacity=3, overflow=Overflow.DROP_OLDEST)
    await box.put(1, 10)
    await box.put(2, 200)
    await box.put(3, 10)
    await box.put(4, 128)
    await box.put(5, 5)
    assert discarded == [(1, 10, Reason.DROPPED_OLDEST), (5, 5, Reason.DROPPED_NEWEST)]
    assert [box.get_nowait() for _ in range(3)] == [2, 4, 3]


async def test_closing_turns_senders_away_and_keeps_what_is_queued():
    """Blocked senders and later ones get the error; their messages are not in the mailbox."""
    box, _ = mailbox(capacity=1)
    outcomes: list[str] = []

    async def put(item: int) -> None:
        try:
            await box.put(item)
        except Closed:
            outcomes.append(f"{item} closed")

    await box.put(1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(put, 2)
        tasks.start_soon(put, 3)
        await settle()
        box.close(Closed)
    await put(4)
    with pytest.raises(Closed):
        box.put_nowait(5)
    assert sorted(outcomes) == ["2 closed", "3 closed", "4 closed"]
    assert (box.get_nowait(), len(box)) == (1, 0)


async def test_halting_turns_receivers_away_and_keeps_senders_welcome():
    """A parked receiver gets the error at once, and what is queued stays."""
    box, _ = mailbox()
    outcomes: list[object] = []

    async def get() -> None:
        try:
            outcomes.append(await box.get())
        except StopRequested:
            outcomes.append("stopped")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(get)
        await settle()
        box.halt(StopRequested)
    await box.put(1)
    await get()
    assert (outcomes, len(box)) == (["stopped", "stopped"], 1)


async def test_halting_with_drain_lets_receivers_finish():
    """They get what is queued, and the error only then."""
    box, _ = mailbox()
    for item in range(3):
        await box.put(item)
    box.hold()
    box.halt(StopRequested, drain=True)
    assert [await box.get() for _ in range(3)] == [0, 1, 2]
    with pytest.raises(StopRequested):
        await box.get()


async def test_a_timed_get_gives_up():
    """`get_until` raises `TimeoutError` when there was nothing, and takes nothing."""
    box, _ = mailbox()
    loop = current_loop()
    deadlines = Deadlines(loop)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(deadlines.run)
        with pytest.raises(TimeoutError):
            await box.get_until(loop.now(), deadlines)
        await box.put(1)
        assert await box.get_until(loop.now(), deadlines) == 1
        deadlines.close()


async def test_a_timed_put_gives_up():
    """`put_until` returns False when there was no room, and puts nothing."""
    box, _ = mailbox(capacity=1)
    loop = current_loop()
    deadlines = Deadlines(loop)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(deadlines.run)
        assert await box.put_until(1, 128, loop.now(), deadlines)
        assert not await box.put_until(2, 128, loop.now(), deadlines)
        assert (box.get_nowait(), len(box), box.blocked_senders) == (1, 0, 0)
        deadlines.close()
