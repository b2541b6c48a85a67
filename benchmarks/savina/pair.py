"""Two actors: ping-pong, one message in flight; counting, as many as the mailbox holds."""

from __future__ import annotations

from harness import expect
from rookery import ActorRef, Context, Request, child, message, open_system
from workload import Stopwatch, Tally

# ---- ping-pong


@message
class Ping:
    """To be answered with a pong."""

    sender: ActorRef[Pong]


@message
class Pong:
    """The answer to a ping."""


async def ping(ctx: Context[Pong], partner: ActorRef[Ping], exchanges: int) -> None:
    """Send a ping, wait for the pong, and so on."""
    for _ in range(exchanges):
        await partner.send(Ping(ctx.self))
        await ctx.receive()


async def pong(ctx: Context[Ping], tally: Tally) -> None:
    """Answer each ping with a pong."""
    async for received in ctx:
        tally.handled += 1
        await received.sender.send(Pong())


async def ping_pong(count: int) -> float:
    """Seconds for that many exchanges, of a message there and one back."""
    tally = Tally()
    async with open_system() as system:
        watch = Stopwatch()
        partner = await system.spawn(pong, tally)
        pinging = await system.spawn(child(ping, partner, count))
        await pinging.wait_stopped()
        seconds = watch.seconds()
    expect(tally.handled, count, "pings answered")
    return seconds


# ---- counting


@message
class Increment:
    """One more."""


@message
class Retrieve(Request[int]):
    """How many it were."""


@message
class Produce(Request[int]):
    """Send that many increments; the reply is what the counter says then."""

    increments: int


async def counter(ctx: Context[Increment | Retrieve]) -> None:
    """Count."""
    count = 0
    async for received in ctx:
        match received:
            case Increment():
                count += 1
            case Retrieve():
                ctx.reply(received, count)


async def producer(ctx: Context[Produce], target: ActorRef[Increment | Retrieve]) -> None:
    """Send increments as fast as the counter takes them, then ask it."""
    async for order in ctx:
        for _ in range(order.increments):
            await target.send(Increment())
        ctx.reply(order, await target.ask(Retrieve()))


async def counting(count: int) -> float:
    """Seconds until that many messages, sent one way, have been counted."""
    async with open_system() as system:
        watch = Stopwatch()
        counted = await (await system.spawn(producer, await system.spawn(counter))).ask(Produce(count))
        seconds = watch.seconds()
    expect(counted, count, "messages counted")
    return seconds
