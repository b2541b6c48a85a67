"""Dining philosophers: a waiter hands out forks, two at a time."""

from __future__ import annotations

from typing import Final, Never

from anyio.lowlevel import checkpoint

from harness import expect
from rookery import ActorRef, Context, Request, message, open_system
from workload import Stopwatch, Tally

from .common import all_ended, shares

SEATS: Final = 20
"""Philosophers, and forks."""


@message
class Hungry(Request[None]):
    """Who sits there wants to eat; answered when both forks are theirs."""

    seat: int


@message
class Sated:
    """Who sits there gives both forks back."""

    seat: int


def forks_at(seat: int) -> set[int]:
    """The fork on the left, and the one on the right."""
    return {seat, (seat + 1) % SEATS}


def neighbours_of(seat: int) -> set[int]:
    """Who shares a fork with that seat."""
    return {(seat - 1) % SEATS, (seat + 1) % SEATS}


async def waiter(ctx: Context[Hungry | Sated]) -> None:
    """Hand out forks, and answer whoever has to wait as soon as both are back."""
    on_the_table = set(range(SEATS))
    waiting: dict[int, Hungry] = {}
    async for received in ctx:
        could_eat = {received.seat}
        match received:
            case Hungry(seat):
                waiting[seat] = received
            case Sated(seat):
                on_the_table |= forks_at(seat)
                could_eat = neighbours_of(seat)
        for seat in could_eat & waiting.keys():
            if forks_at(seat) <= on_the_table:
                on_the_table -= forks_at(seat)
                ctx.reply(waiting.pop(seat), None)


async def philosopher(
    ctx: Context[Never], serving: ActorRef[Hungry | Sated], seat: int, meals: int, eating: set[int], tally: Tally
) -> None:
    """Think, and eat that many times; a meal is as long as it takes to let all others run once."""
    ctx.ready()
    for _ in range(meals):
        await serving.ask(Hungry(seat))
        expect(eating & neighbours_of(seat), set[int](), f"neighbours of seat {seat} who eat at the same time")
        eating.add(seat)
        await checkpoint()
        eating.remove(seat)
        tally.handled += 1
        await serving.send(Sated(seat))


async def dining_philosophers(count: int) -> float:
    """Seconds for that many meals."""
    tally, eating = Tally(), set[int]()
    async with open_system() as system:
        watch = Stopwatch()
        serving = await system.spawn(waiter)
        philosophers = [
            await system.spawn(philosopher, serving, seat, meals, eating, tally)
            for seat, meals in enumerate(shares(count, SEATS))
        ]
        await all_ended(philosophers)
        seconds = watch.seconds()
    expect(tally.handled, count, "meals")
    return seconds
