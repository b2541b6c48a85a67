"""Chameneos: creatures meet in pairs at a mall and change their colours; all contend for one actor.

The game is Kaiser and Pradat-Peyre's ("Chameneos, a concurrency game for Java, Ada and others", AICCSA 2003).
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, Never

from harness import expect
from rookery import ActorRef, Context, Request, message, open_system
from workload import Stopwatch, Tally

from .common import all_ended

CREATURES: Final = 100
"""How many there are."""


class Colour(IntEnum):
    """Of a creature."""

    BLUE = 0
    RED = 1
    YELLOW = 2


def after_meeting(own: Colour, other: Colour) -> Colour:
    """Two of one colour keep it; else both take the third."""
    return own if own is other else Colour(sum(Colour) - own - other)


@message
class Meet(Request[Colour | None]):
    """Meet whoever comes next; the reply is that one's colour, or None if the mall has closed."""

    colour: Colour


async def mall(ctx: Context[Meet], meetings: int) -> None:
    """Bring two together at a time, until there were enough meetings."""
    for _ in range(meetings):
        first, second = await ctx.receive(), await ctx.receive()
        ctx.reply(first, second.colour)
        ctx.reply(second, first.colour)
    async for late in ctx:
        ctx.reply(late, None)


async def creature(ctx: Context[Never], meeting_point: ActorRef[Meet], colour: Colour, tally: Tally) -> None:
    """Meet others until the mall closes."""
    ctx.ready()
    while (other := await meeting_point.ask(Meet(colour))) is not None:
        tally.handled += 1
        colour = after_meeting(colour, other)


async def chameneos(count: int) -> float:
    """Seconds until there were that many meetings, and every creature knows."""
    tally, colours = Tally(), list(Colour)
    async with open_system() as system:
        watch = Stopwatch()
        meeting_point = await system.spawn(mall, count)
        creatures = [
            await system.spawn(creature, meeting_point, colours[number % len(colours)], tally)
            for number in range(CREATURES)
        ]
        await all_ended(creatures)
        seconds = watch.seconds()
    expect(tally.handled, 2 * count, "creatures that have met another, each time counted")
    return seconds
