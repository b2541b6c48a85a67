"""Big: everyone plays ping-pong with everyone else, many to many."""

from __future__ import annotations

from random import Random
from typing import Final

from harness import expect
from rookery import ActorRef, Context, message, open_system
from workload import Stopwatch, Tally

from .common import shares

PLAYERS: Final = 120
"""How many there are. No mailbox fills up: each player waits for one answer at a time."""


@message
class Begin:
    """Whom to play with."""

    players: list[ActorRef[Ping | Pong]]


@message
class Ping:
    """To be answered with a pong."""

    sender: ActorRef[Pong]


@message
class Pong:
    """The answer to a ping."""


@message
class Done:
    """A player has had all its pings answered."""

    pings: int


async def player(ctx: Context[Begin | Ping | Pong], pings: int, chance: Random, sink: ActorRef[Done]) -> None:
    """Send a ping to any of the players, the next one when it is answered; answer those of the others."""
    players: list[ActorRef[Ping | Pong]] = []
    answered = -1  # what begins the game is no answer
    async for received in ctx:
        match received:
            case Ping(sender):
                await sender.send(Pong())
                continue
            case Begin(players):
                pass
            case Pong():
                pass
        answered += 1
        if answered < pings:
            await chance.choice(players).send(Ping(ctx.self))
        else:
            await sink.send(Done(answered))


async def until_done(ctx: Context[Done], players: int, tally: Tally) -> None:
    """End when all players are done."""
    for _ in range(players):
        done = await ctx.receive()
        tally.handled += done.pings


async def big(count: int) -> float:
    """Seconds until that many pings have been answered."""
    tally = Tally()
    async with open_system() as system:
        watch = Stopwatch()
        sink = await system.spawn(until_done, PLAYERS, tally)
        players = [
            await system.spawn(player, pings, Random(seed), sink) for seed, pings in enumerate(shares(count, PLAYERS))
        ]
        for one in players:
            await one.send(Begin(list(players)))
        await sink.wait_stopped()
        seconds = watch.seconds()
    expect(tally.handled, count, "pings answered")
    return seconds
