"""The mailbox: a bounded priority queue whose ends can be waited at."""

from __future__ import annotations

import math
from enum import Enum
from typing import TYPE_CHECKING, Final, Generic, TypeVar, assert_never, final

from .._model.dead_letter import Reason
from .._model.errors import MailboxFull, WouldBlock
from .._model.messages import DEFAULT_PRIORITY
from .._model.overflow import Overflow, Verdict, at_capacity
from .._model.queue import SYSTEM, PriorityQueue
from ._parking import uninterrupted
from .waiting import Place, WaitingLine
from .within import within_actor

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._parking import Loop
    from .cell import Cell
    from .deadlines import Alarm, Deadlines
    from .turn import Turn

T = TypeVar("T")


class Nothing(Enum):
    """The type of `NOTHING`."""

    NOTHING = "nothing"


NOTHING: Final = Nothing.NOTHING
"""What `Mailbox.poll` gives when there is no item to take at once; an item may well be None."""


class Mailbox(Generic[T]):
    """Many senders at one end, the tasks of one actor at the other.

    Both ends are atomic under cancellation: a `put` that raises put nothing, a `get` that raises took
    nothing. The task switch, if one is due, comes before the hand-over, never after it.

    Blocked senders are let in one after another, in turn: the next is granted its place when the one before
    has resumed and pushed. Granted together, they would resume in whatever order the loop likes (trio shuffles
    on purpose), and their messages would stand in that order. A receiver is granted nothing in particular, and
    looks again when it has resumed.

    The two ends are closed separately: `close` turns senders away, `halt` turns receivers away. `refuse` turns away only
    who would have to wait for room, and only chosen ones.
    """

    __slots__ = (
        "_blocked",
        "_capacity",
        "_closed",
        "_discard",
        "_drain",
        "_granted",
        "_halted",
        "_held",
        "_overflow",
        "_queue",
        "_receivers",
        "_refusal",
        "_senders",
        "_turn",
        "dropped",
    )

    def __init__(
        self,
        loop: Loop,
        turn: Turn,
        *,
        capacity: int,
        overflow: Overflow,
        discard: Callable[[T, int, Reason], object],
    ) -> None:
        """Make an empty, open mailbox.

        Args:
            loop: The event loop it belongs to.
            turn: The running task's turn.
            capacity: How many items it holds.
            overflow: What happens to an item that finds it full.
            discard: Called with what the overflow policy dropped, its priority and why.
        """
        self._turn = turn
        self._capacity = capacity
        self._overflow = overflow
        self._discard = discard
        self._queue: PriorityQueue[T] = PriorityQueue()
        self._senders: WaitingLine | None = None  # made by the first that is blocked, as is the next
        self._receivers = WaitingLine(loop)
        self._blocked: dict[_Sender, None] | None = None  # who waits for room, the one that was granted some included
        self._refusal: Callable[[Cell], Exception | None] | None = None
        self._granted = False  # whether one of them was granted a place and has not resumed yet
        self._held = False
        self._closed: Callable[[], Exception] | None = None
        self._halted: Callable[[], Exception] | None = None
        self._drain = False
        self.dropped: int = 0

    def __len__(self) -> int:
        return self._queue.size

    @property
    def capacity(self) -> int:
        """How many items it holds."""
        return self._capacity

    @property
    def blocked_senders(self) -> int:
        """How many tasks wait for room."""
        return len(self._blocked or ())

    @property
    def held(self) -> bool:
        """Whether it hands out nothing for now."""
        return self._held

    # ---- the senders' end

    @uninterrupted
    def offer(self, item: T, priority: int = DEFAULT_PRIORITY) -> bool:
        """Add an item, if that takes no waiting, no giving way and no error.

        Nearly every `put` is this: plain calls, so that whoever sends needs no coroutine of ours.

        Returns:
            False if the item was not added, and `put` has to be awaited.
        """
        turn = self._turn
        turn.left -= 1  # `turn.count()`, spelled out here and in `poll`: a call is a tenth of what a message costs
        if turn.left < 0 or turn.clock() >= turn.ends:
            return False
        if self._blocked or self._queue.size >= self._capacity or self._closed is not None:
            return False
        self._queue.push(item, priority)
        if self._receivers.first is not None and not self._held:
            self._receivers.grant()
        return True

    async def put(self, item: T, priority: int = DEFAULT_PRIORITY) -> None:
        """Add an item: `offer` it, and if need be `insist`."""
        if not self.offer(item, priority):
            await self.insist(item, priority)

    async def put_until(self, item: T, priority: int, deadline: float, deadlines: Deadlines) -> bool:
        """As `put`, but wait for room at most until ``deadline``; False if there was none until then."""
        return self.offer(item, priority) or await self.insist(item, priority, deadline, deadlines)

    @uninterrupted
    async def insist(
        self, item: T, priority: int, deadline: float = math.inf, deadlines: Deadlines | None = None
    ) -> bool:
        """Add an item that was offered in vain, waiting for room under ``Overflow.BLOCK``.

        If cancelled, the item was not added.

        Args:
            item: What to add.
            priority: How urgent it is.
            deadline: When to give up waiting for room, on the loop's clock.
            deadlines: Needed for that.

        Returns:
            False if there was no room until then, so that the item was not added.

        Raises:
            MailboxFull: under ``Overflow.REJECT``, when full.
            Exception: what `close` was given, once closed; what `refuse` was given, if this sender is refused.
        """
        if self._turn.over:
            await self._turn.give_way()
        if self._closed is not None:
            raise self._closed()
        if self._has_room() or self._make_room(item, priority, wait=True):
            self._push(item, priority)
        elif self._overflow is Overflow.BLOCK:
            if not await self._stand_in_line(deadline, deadlines):
                return False
            self._use_place(item, priority)
        return True

    async def _stand_in_line(self, deadline: float, deadlines: Deadlines | None) -> bool:
        """Wait to be granted a place; False if the time ran out first."""
        actor = within_actor.get()
        if (refusal := self._why_not(actor)) is not None:
            raise refusal
        if self._senders is None or self._blocked is None:
            self._senders, self._blocked = WaitingLine(self._turn.loop), {}
        sender = _Sender(Place(self._senders), actor)
        self._blocked[sender] = None
        alarm = None if deadlines is None else deadlines.at(deadline, sender.place.vacate)
        try:
            granted = await sender.place.wait(self._give_place_back)
        finally:
            self._leave_line(sender, alarm)
        if sender.refusal is not None:
            if granted:
                self._give_place_back()
            try:
                raise sender.refusal
            finally:
                del sender  # an error's traceback holds this frame, and this frame would hold the error
        return granted

    def _leave_line(self, sender: _Sender, alarm: Alarm | None) -> None:
        assert self._blocked is not None, "whom it is one of"
        del self._blocked[sender]
        if alarm is not None:
            alarm.cancel()
        if sender.place.vacated:  # newcomers stood in line behind it until now, even if there was room
            self._offer_place()

    @uninterrupted
    def put_nowait(self, item: T, priority: int = DEFAULT_PRIORITY) -> None:
        """Add an item now.

        Raises:
            MailboxFull: if there is no room, under ``BLOCK`` and ``REJECT``.
            Exception: what `close` was given, once closed.
        """
        if self._closed is not None:
            raise self._closed()
        if self._has_room() or self._make_room(item, priority, wait=False):
            self._push(item, priority)

    @uninterrupted
    def close(self, why: Callable[[], Exception]) -> None:
        """Turn senders away from now on, the blocked ones included; what is queued stays.

        Args:
            why: Makes the exception each of them gets.
        """
        self._closed = why
        if self._senders is not None:
            self._senders.grant_all()

    @uninterrupted
    def refuse(self, why_not: Callable[[Cell], Exception | None]) -> None:
        """Have chosen actors wait for room no more, from now on, their tasks that are blocked included.

        What fits into the mailbox is still accepted from them.

        Args:
            why_not: Makes the exception that the code of an actor gets; None for an actor that may wait. It is asked
                each time.
        """
        self._refusal = why_not
        for sender in self._blocked or ():
            sender.refusal = sender.refusal or self._why_not(sender.actor)
            if sender.refusal is not None:
                sender.place.vacate()

    def _why_not(self, actor: Cell | None) -> Exception | None:
        """Why the code of this actor may not wait for room; None if it may."""
        return None if self._refusal is None or actor is None else self._refusal(actor)

    # ---- the receivers' end

    @uninterrupted
    def poll(self, now: float | None = None) -> T | Nothing:
        """Take the most urgent item, if that takes no waiting, no giving way and no error.

        Args:
            now: What the turn's clock says, if the caller has just read it.

        Returns:
            The item, or NOTHING, and `get` has to be awaited.
        """
        queue, turn = self._queue, self._turn
        if not queue.size or self._held or self._halted is not None:
            return NOTHING
        turn.left -= 1
        if turn.left < 0 or (turn.clock() if now is None else now) >= turn.ends:
            return NOTHING
        item = queue.pop()
        if self._blocked:
            self._offer_place()
        return item

    @uninterrupted
    async def get(self) -> T:
        """Take the most urgent item, waiting for one if need be.

        If cancelled, nothing was taken.

        Raises:
            Exception: what `halt` was given, once halted.
        """
        if (self._queue.size or self._halted is not None) and not self._turn.count():
            await self._turn.give_way()
        while not (
            self._ready() if self._halted is not None else not self._held and (self._queue.size or self._queue.levels)
        ):
            spot = self._receivers.join()
            try:
                await spot.park()
            except BaseException:
                if not self._receivers.leave(spot):
                    self._offer_item()
                raise
            self._turn.renew()
        return self._pop()

    @uninterrupted
    async def get_until(self, deadline: float, deadlines: Deadlines) -> T | Nothing:
        """As `get`, but at most until ``deadline`` on the loop's clock.

        Returns:
            The item, or NOTHING if there was none until then; waiting for it has been a checkpoint.

        Raises:
            Exception: what `halt` was given, once halted.
        """
        if (self._queue.size or self._halted is not None) and not self._turn.count():
            await self._turn.give_way()
        in_time = True
        while not (
            self._ready() if self._halted is not None else not self._held and (self._queue.size or self._queue.levels)
        ):
            if not in_time:
                return NOTHING
            place = Place(self._receivers)
            alarm = deadlines.at(deadline, place.vacate)
            try:
                await place.spot.park()
            except BaseException:
                if not place.leave():
                    self._offer_item()
                raise
            finally:
                alarm.cancel()
            self._turn.renew()
            in_time = not place.vacated
        return self._pop()

    @uninterrupted
    def get_nowait(self) -> T:
        """Take the most urgent item.

        Raises:
            WouldBlock: if there is none, or items are held.
            Exception: what `halt` was given, once halted.
        """
        if not self._ready():
            raise WouldBlock("there is no message: use `await receive()` to wait for one")
        return self._pop()

    def available(self) -> int:
        """How many items could be taken now, without waiting."""
        return 0 if self._held else self._queue.size + self._queue.urgent

    def hold(self) -> None:
        """Hand out nothing until `release`; senders go on until it is full."""
        self._held = True

    def release(self) -> None:
        """Hand out again."""
        self._held = False
        self._offer_item(self.available())

    @uninterrupted
    def halt(self, why: Callable[[], Exception], *, drain: bool = False) -> None:
        """Turn receivers away from now on, the parked ones included.

        Args:
            why: Makes the exception each of them gets.
            drain: Only once the mailbox is empty.
        """
        self._halted = why
        self._drain = drain
        self._held = self._held and not drain
        self._receivers.grant_all()

    @uninterrupted
    def tell(self, event: T) -> None:
        """Add what the system has to say: it takes no room, is never dropped, and comes before everything else."""
        self._queue.push(event, SYSTEM)
        if not self._held:
            self._receivers.grant()

    def forget_events(self) -> None:
        """What `tell` added was for an incarnation that has ended."""
        self._queue.clear_urgent()

    def unhalt(self) -> None:
        """Let receivers in again."""
        self._halted = None
        self._drain = False

    @uninterrupted
    def withdraw(self, chosen: Callable[[T], bool] = lambda _: True) -> list[tuple[T, int]]:
        """Take out what is chosen, by default everything, with priorities, in the order of `get`."""
        withdrawn: list[tuple[T, int]] = []
        for item, priority in self._queue.clear():
            if chosen(item):
                withdrawn.append((item, priority))
            else:
                self._queue.push(item, priority)
        self._offer_place()
        return withdrawn

    # ---- the hand-over

    def _push(self, item: T, priority: int) -> None:
        self._queue.push(item, priority)
        if self._receivers.first is not None and not self._held:
            self._receivers.grant()

    def _pop(self) -> T:
        item = self._queue.pop()
        if self._blocked:
            self._offer_place()
        return item

    def _ready(self) -> bool:
        """Whether there is an item to take; raises when receivers are turned away."""
        waiting = self._queue.size > 0 or self._queue.urgent
        if self._halted is not None and not (self._drain and waiting):
            raise self._halted()
        return waiting and not self._held

    def _offer_item(self, count: int = 1) -> None:
        """Wake as many receivers as there are items for; they look again when they have resumed."""
        if self._held or not (self._queue.size or self._queue.urgent):
            return
        for _ in range(count):
            if not self._receivers.grant():
                break

    def _has_room(self) -> bool:
        """Whether a newcomer may push; not past those who were there before."""
        return not self._blocked and self._queue.size < self._capacity

    def _offer_place(self) -> None:
        """Let the first blocked sender in, if there is room and the one before it is through."""
        if self._senders is not None and not self._granted and self._queue.size < self._capacity:
            self._granted = self._senders.grant()

    def _use_place(self, item: T, priority: int) -> None:
        """A blocked sender has resumed with its grant."""
        self._turn.renew()
        self._granted = False
        if self._closed is not None:
            raise self._closed()
        self._push(item, priority)
        self._offer_place()

    def _give_place_back(self) -> None:
        """A blocked sender was cancelled with a grant in hand."""
        self._granted = False
        self._offer_place()

    def _make_room(self, item: T, priority: int, *, wait: bool) -> bool:
        """At capacity: ask the policy. Whether the item may be pushed now."""
        least = self._queue.least_urgent() if self._queue.size else priority
        verdict = at_capacity(self._overflow, priority, least)
        match verdict:
            case Verdict.WAIT if wait:
                return False
            case Verdict.WAIT | Verdict.REFUSE:
                raise MailboxFull(
                    f"the mailbox is full ({self._capacity} messages, {self._overflow.name}): receive faster, "
                    "or give it more room with `child(...).options(capacity=...)`"
                )
            case Verdict.DROP_NEWCOMER:
                self._drop(item, priority, Reason.DROPPED_NEWEST)
                return False
            case Verdict.EVICT_OLDEST:
                self._drop(*self._queue.evict(), Reason.DROPPED_OLDEST)
                return True
            case _:
                assert_never(verdict)

    def _drop(self, item: T, priority: int, reason: Reason) -> None:
        self.dropped += 1
        self._discard(item, priority, reason)


@final
class _Sender:
    """Somebody who waits for room."""

    __slots__ = ("actor", "place", "refusal")

    def __init__(self, place: Place, actor: Cell | None) -> None:
        self.place: Final = place
        self.actor: Final = actor  # in whose code it happens
        self.refusal: Exception | None = None  # what it gets instead of room
