"""The amortised yield: both bounds."""

from __future__ import annotations

import anyio

from rookery._core._parking import current_loop
from rookery._core.mailbox import Mailbox
from rookery._core.turn import MESSAGES, SECONDS, Turn
from rookery._model.overflow import Overflow


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def mailbox(turn: Turn, capacity: int = 10_000) -> Mailbox[int]:
    return Mailbox(current_loop(), turn, capacity=capacity, overflow=Overflow.BLOCK, discard=lambda *_: None)


class Ticks:
    """Counts how often another task gets to run."""

    def __init__(self) -> None:
        self.count = 0

    async def run(self) -> None:
        while True:
            await anyio.lowlevel.checkpoint()
            self.count += 1


async def test_a_turn_is_over_after_64_messages():
    """Not one message earlier, and a new turn is as long."""
    turn = Turn(current_loop(), Clock())
    assert [turn.count() for _ in range(MESSAGES)] == [True] * MESSAGES
    assert not turn.count()
    turn.renew()
    assert turn.count()
    assert (MESSAGES, SECONDS) == (64, 0.001)


async def test_a_turn_is_over_after_a_millisecond():
    """Slow handling shortens it: time counts as well as messages."""
    clock = Clock()
    turn = Turn(current_loop(), clock)
    clock.now = SECONDS / 2
    assert turn.count()
    clock.now = SECONDS
    assert not turn.count()


async def test_a_busy_sender_gives_way_every_64_messages():
    """The loop is not kept from others by a sender that never has to wait."""
    ticks = Ticks()
    box = mailbox(Turn(current_loop(), Clock()))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ticks.run)
        for number in range(10 * MESSAGES + 1):
            await box.put(number)
        assert ticks.count >= 8  # of ten; the first may be the ticker's start
        tasks.cancel_scope.cancel()


async def test_a_busy_receiver_gives_way_every_64_messages():
    """Nor by a receiver that always finds a message."""
    ticks = Ticks()
    box = mailbox(Turn(current_loop(), Clock()))
    for number in range(10 * MESSAGES + 1):
        box.put_nowait(number)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ticks.run)
        assert [await box.get() for _ in range(10 * MESSAGES + 1)] == list(range(10 * MESSAGES + 1))
        assert ticks.count >= 8  # of ten; the first may be the ticker's start
        tasks.cancel_scope.cancel()


async def test_a_slow_receiver_gives_way_by_time():
    """A receiver that works a millisecond for each message gives way before each."""
    ticks = Ticks()
    clock = Clock()
    box = mailbox(Turn(current_loop(), clock))
    for number in range(10):
        box.put_nowait(number)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ticks.run)
        for _ in range(10):
            await box.get()
            clock.now += SECONDS
        assert ticks.count >= 7  # of nine
        tasks.cancel_scope.cancel()


async def test_a_yield_that_is_cancelled_has_sent_nothing():
    """The yield comes before the hand-over, so that a send which raises was not delivered."""
    turn = Turn(current_loop(), Clock())
    box = mailbox(turn)
    sent = 0
    with anyio.CancelScope() as scope:
        scope.cancel()
        for number in range(2 * MESSAGES):
            await box.put(number)
            sent += 1
    assert scope.cancelled_caught
    assert sent == len(box)


async def test_a_yield_that_is_cancelled_has_taken_nothing():
    """Nor has a receive that raises lost anything."""
    turn = Turn(current_loop(), Clock())
    box = mailbox(turn)
    for number in range(2 * MESSAGES):
        box.put_nowait(number)
    taken = 0
    with anyio.CancelScope() as scope:
        scope.cancel()
        while True:
            await box.get()
            taken += 1
    assert scope.cancelled_caught
    assert taken + len(box) == 2 * MESSAGES
