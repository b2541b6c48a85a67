"""The mailbox by example: order, bounds and atomicity."""

from __future__ import annotations

import math

import anyio
import pytest

from rookery import MailboxFull, Overflow, StopRequested
from rookery._core._parking import current_loop
from rookery._core.deadlines import Deadlines
from rookery._core.mailbox import NOTHING, Mailbox
from rookery._core.turn import Turn
from rookery._model.dead_letter import Reason
from support import settle


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
    """`get_until` gives `NOTHING` when there was nothing, and takes nothing."""
    box, _ = mailbox()
    loop = current_loop()
    deadlines = Deadlines(loop)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(deadlines.run)
        assert await box.get_until(loop.now(), deadlines) is NOTHING
        await box.put(1)
        assert await box.get_until(loop.now(), deadlines) == 1
        deadlines.close()


async def test_a_timed_get_that_is_cancelled_leaves_its_item_to_the_next():
    """It had been woken for it, and took nothing."""
    box, _ = mailbox()
    deadlines = Deadlines(current_loop())
    got: list[object] = []

    async def get(scope: anyio.CancelScope) -> None:
        with scope:
            got.append(await box.get_until(math.inf, deadlines))

    scopes = [anyio.CancelScope(), anyio.CancelScope()]
    async with anyio.create_task_group() as tasks:
        for scope in scopes:
            tasks.start_soon(get, scope)
            await settle()
        scopes[0].cancel()
        box.put_nowait(1)
        await settle()
        assert got == [1]
        assert len(box) == 0


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
