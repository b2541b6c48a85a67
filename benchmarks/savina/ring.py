"""Thread ring: one token goes round a ring of actors."""

from __future__ import annotations

from typing import Final, TypeAlias

from rookery import ActorRef, Context, message, open_system
from workload import Stopwatch, Tally, sum_below

from .common import all_ended

LINKS: Final = 100
"""Actors in the ring."""


@message
class Join:
    """Who is next in the ring."""

    neighbour: ActorRef[Token | Leave]


@message
class Token:
    """To be passed on so many times more."""

    hops_left: int


@message
class Leave:
    """Pass it on and end; so many are left after this one."""

    links_left: int


Link: TypeAlias = ActorRef[Join | Token | Leave]


async def link(ctx: Context[Join | Token | Leave], tally: Tally) -> None:
    """Pass the token on."""
    neighbour: ActorRef[Token | Leave] = ctx.self
    async for received in ctx:
        match received:
            case Join(neighbour):
                pass
            case Token(hops_left):
                tally.handled += 1
                tally.total += hops_left
                await neighbour.send(Token(hops_left - 1) if hops_left else Leave(LINKS - 1))
            case Leave(links_left):
                if links_left:
                    await neighbour.send(Leave(links_left - 1))
                return


async def thread_ring(count: int) -> float:
    """Seconds until the token has been received that many times, and everyone has left the ring."""
    tally = Tally()
    async with open_system() as system:
        watch = Stopwatch()
        links: list[Link] = [await system.spawn(link, tally) for _ in range(LINKS)]
        for one, neighbour in zip(links, [*links[1:], links[0]], strict=True):
            await one.send(Join(neighbour))
        await links[0].send(Token(count - 1))
        await all_ended(links)
        seconds = watch.seconds()
    tally.check(count, sum_below(count))
    return seconds
