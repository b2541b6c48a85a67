"""The core beside the limits of its event loops: ask, send, spawn, stop, and an urgent message."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import anyio

from harness import NO_LOOP, Benchmark, Candidate, Kind, expect
from limits import Baseline, baseline_of
from peers import Peer, peers
from rookery import ActorRef, Context, child, open_system
from workload import CAPACITY, FRESH, ONE_OBJECT, Echo, Note, Sending, Stopwatch, Tally, Transport, Urgent, sum_below

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from harness import Measure

AN_HOUR = 3600.0
"""A deadline, in seconds, that never comes: what it costs to have one is measured."""

BACKLOG = 100_000
"""Messages in front of an urgent one."""

TURN = 64
"""Messages after which a busy task gives way: a guarantee of rookery's."""

URGENT = 255
"""The highest priority there is."""


# ---- ask


async def echo(ctx: Context[Echo]) -> None:
    """Answer each question with its number."""
    async for request in ctx:
        ctx.reply(request, request.number)


async def ask_plain(count: int) -> float:
    """Seconds for that many asks, one after another, a fresh request each."""
    return await _ask_each(count, _ask)


async def ask_with_timeout(count: int) -> float:
    """As `ask_plain`, each with a ``timeout``."""
    return await _ask_each(count, _ask_with_timeout)


async def ask_in_scope(count: int) -> float:
    """As `ask_plain`, all inside one cancel scope with a deadline."""
    with anyio.fail_after(AN_HOUR):
        return await _ask_each(count, _ask)


async def _ask_each(count: int, ask: Callable[[ActorRef[Echo], int], Awaitable[int]]) -> float:
    async with open_system() as system:
        ref = await system.spawn(echo)
        watch = Stopwatch()
        total = await ask(ref, count)
        seconds = watch.seconds()
    expect(total, sum_below(count), "sum of the answers")
    return seconds


async def _ask(ref: ActorRef[Echo], count: int) -> int:
    total = 0
    for number in range(count):
        total += await ref.ask(Echo(number))
    return total


async def _ask_with_timeout(ref: ActorRef[Echo], count: int) -> int:
    total = 0
    for number in range(count):
        total += await ref.ask(Echo(number), timeout=AN_HOUR)
    return total


# ---- send


async def handle(ctx: Context[Note], tally: Tally) -> None:
    """Handle notes until the actor is stopped."""
    await tally.take(ctx)


async def send(count: int, sending: Sending) -> float:
    """Seconds until that many messages have gone through a bounded mailbox and been handled, and the actor has ended.

    The sender is faster than the actor, so that the mailbox is full most of the time, and pushes back.
    """
    tally = Tally()
    async with open_system() as system:
        ref = await system.spawn(child(handle, tally).options(capacity=CAPACITY))
        watch = Stopwatch()
        await sending.feed(ref.send, count)
        await ref.stop(drain=True)
        seconds = watch.seconds()
    tally.check(count, sending.total(count))
    return seconds


# ---- spawn and stop


async def idle(ctx: Context[Note], tally: Tally) -> None:
    """Wait for messages that never come; count the end."""
    async for _ in ctx:
        pass
    tally.handled += 1


async def spawn(count: int) -> float:
    """Seconds for that many spawns, one after another, each until the actor is ready; all stay alive."""
    tally = Tally()
    async with open_system() as system:
        watch = Stopwatch()
        for _ in range(count):
            await system.spawn(idle, tally)
        seconds = watch.seconds()
    expect(tally.handled, count, "actors that ended well")
    return seconds


async def stop(count: int) -> float:
    """Seconds to leave a system with that many idle actors: each stops gracefully, in reverse order of start."""
    tally = Tally()
    async with open_system() as system:
        for _ in range(count):
            await system.spawn(idle, tally)
        watch = Stopwatch()
    seconds = watch.seconds()
    expect(tally.handled, count, "actors that ended well")
    return seconds


# ---- an urgent message


async def take_up(ctx: Context[Note | Urgent], tally: Tally) -> None:
    """Handle notes one by one, and take up urgent messages."""
    async for received in ctx:
        if isinstance(received, Urgent):
            received.take_up(tally.handled)
        else:
            tally.handled += 1


async def send_now(ref: ActorRef[Note | Urgent], message: Urgent) -> None:
    """Send without waiting: the message is in the mailbox at once, so that nothing may be handled before it."""
    ref.send_nowait(message, priority=URGENT)
    await message.taken_up.wait()
    expect(message.overtaken_by, 0, "messages handled before the urgent one")


async def send_in_turn(ref: ActorRef[Note | Urgent], message: Urgent) -> None:
    """Send as most programs do: a sender whose turn is over gives way before it puts its message into the mailbox.

    The actor has one turn then, or two, as trio runs the tasks that are ready in random order.
    """
    await ref.send(message, priority=URGENT)
    await message.taken_up.wait()
    expect(message.overtaken_by <= 2 * TURN, True, f"at most {2 * TURN} messages handled before the urgent one")


async def urgent(
    count: int, backlog: int, deliver: Callable[[ActorRef[Note | Urgent], Urgent], Awaitable[None]]
) -> float:
    """Seconds from sending an urgent message until it is taken up, summed over that many of them.

    Args:
        count: Urgent messages, one after another.
        backlog: Ordinary messages that are queued whenever one is sent.
        deliver: How to send it, and wait.
    """
    tally, sent, seconds = Tally(), 0, 0.0
    async with open_system() as system:
        ref = await system.spawn(child(take_up, tally).options(capacity=BACKLOG + 1))
        for _ in range(count):
            sent += _fill_up(ref, backlog)
            message = Urgent(tally.handled)
            await deliver(ref, message)
            seconds += message.seconds
        await ref.stop(drain=True)
    expect(tally.handled, sent, "ordinary messages handled in the end")
    return seconds


def _fill_up(ref: ActorRef[Note | Urgent], backlog: int) -> int:
    """Queue ordinary messages until there are that many; how many it took."""
    note, missing = Note(0, "ordinary", 1.0), backlog - ref.statistics().queued
    for _ in range(missing):
        ref.send_nowait(note)
    return missing


# ---- all of them


def benchmarks(loop: str) -> list[Benchmark]:
    """What is measured in one place: rookery and the limits on loops, peers wherever they run."""
    baseline = None if loop == NO_LOOP else baseline_of(loop)
    everything = [_asks(loop, baseline), *_sends(loop, baseline), _spawns(loop, baseline), _stops(loop, baseline)]
    if baseline:
        everything.append(_urgent())
    return [benchmark for benchmark in everything if benchmark.everyone()]


def _asks(loop: str, baseline: Baseline | None) -> Benchmark:
    own = (
        Candidate("ask", ask_plain),
        Candidate("ask(timeout=)", ask_with_timeout),
        Candidate("ask inside a deadline", ask_in_scope),
    )
    return Benchmark(
        title="ask",
        unit="round trip",
        operations=5_000,
        limit=_raw(baseline.round_trip) if baseline else None,
        candidates=(own if baseline else ()) + _theirs((peer, peer.ask) for peer in peers(loop)),
    )


def _sends(loop: str, baseline: Baseline | None) -> list[Benchmark]:
    return [
        _sends_of("send, one object", ONE_OBJECT, loop, baseline),
        _sends_of("send, a fresh message each", FRESH, loop, baseline),
    ]


def _sends_of(title: str, sending: Sending, loop: str, baseline: Baseline | None) -> Benchmark:
    def raw(name: str, transport: Transport) -> Candidate:
        return _raw((name, functools.partial(transport, sending=sending)))

    own = Candidate("send", functools.partial(send, sending=sending))
    return Benchmark(
        title=title,
        topic="send",
        unit="message",
        operations=20_000,
        parameters={"capacity": CAPACITY},
        limit=raw(*baseline.channel) if baseline else None,
        candidates=((own, *(raw(*other) for other in baseline.other_channels)) if baseline else ())
        + _theirs((peer, functools.partial(peer.send, sending=sending)) for peer in peers(loop)),
    )


def _spawns(loop: str, baseline: Baseline | None) -> Benchmark:
    own = Candidate("spawn", spawn)
    return Benchmark(
        title="spawn until ready",
        topic="spawn",
        unit="actor or task",
        operations=1_000,
        limit=_raw(baseline.start) if baseline else None,
        candidates=((own, *map(_raw, baseline.other_starts)) if baseline else ())
        + _theirs((peer, peer.spawn) for peer in peers(loop)),
    )


def _stops(loop: str, baseline: Baseline | None) -> Benchmark:
    own = Candidate("leaving the system", stop)
    return Benchmark(
        title="stop of idle actors",
        topic="stop",
        unit="actor or task",
        operations=1_000,
        limit=_raw(baseline.cancel) if baseline else None,
        candidates=((own,) if baseline else ()) + _theirs((peer, peer.stop) for peer in peers(loop)),
    )


def _raw(named: tuple[str, Measure]) -> Candidate:
    """What the loop offers."""
    return Candidate(*named, Kind.LOOP)


def _theirs(measures: Iterable[tuple[Peer, Measure | None]]) -> tuple[Candidate, ...]:
    """What other libraries do."""
    return tuple(Candidate(peer.name, measure, Kind.PEER, peer.note) for peer, measure in measures if measure)


def _urgent() -> Benchmark:
    return Benchmark(
        title="urgent until taken up",
        topic="urgent",
        unit="message",
        operations=50,
        parameters={"queued before it": BACKLOG},
        limit=Candidate("nothing else queued", functools.partial(urgent, backlog=0, deliver=send_now)),
        candidates=(
            Candidate("send_nowait, 100,000 queued", functools.partial(urgent, backlog=BACKLOG, deliver=send_now)),
            Candidate("send, 100,000 queued", functools.partial(urgent, backlog=BACKLOG, deliver=send_in_turn)),
        ),
    )
