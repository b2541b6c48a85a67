"""xoscar in one process, as its main pool with no others.

What `create_actor` returns is a reference whose calls travel through the pool; what `actor_ref` returns for an actor of
the same process calls the method in the caller's own task, under the actor's lock. Both are shown.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# xoscar has no types.

from __future__ import annotations

import functools
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import xoscar

from harness import expect
from peers import Peer
from workload import Echo, Note, Sending, Stopwatch, Tally, sum_below

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable


class Echoing(xoscar.Actor):  # type: ignore[misc]
    """Answers each question with its number."""

    def answer(self, request: Echo) -> int:
        return request.number


class Noting(xoscar.Actor):  # type: ignore[misc]
    """Handles notes."""

    def __init__(self, tally: Tally) -> None:
        super().__init__()
        self.tally = tally

    def handle(self, note: Note) -> None:
        self.tally.add(note)

    def handled(self) -> int:
        return self.tally.handled


class Idle(xoscar.Actor):  # type: ignore[misc]
    """Waits for calls that never come; counts the end."""

    def __init__(self, tally: Tally) -> None:
        super().__init__()
        self.tally = tally

    async def __pre_destroy__(self) -> None:
        self.tally.handled += 1


@asynccontextmanager
async def open_pool() -> AsyncGenerator[Callable[..., Any]]:
    """A pool in this process, at a free port of this machine; how to create actors in it."""
    pool = await xoscar.create_actor_pool("127.0.0.1:0", n_process=0)
    async with pool:
        yield functools.partial(xoscar.create_actor, address=pool.external_address)


async def ask(count: int, *, local: bool = False) -> float:
    """Seconds for that many calls, one after another, a fresh request each."""
    async with open_pool() as create:
        ref, total = await _reference(await create(Echoing), local), 0
        watch = Stopwatch()
        for number in range(count):
            total += await ref.answer(Echo(number))
        seconds = watch.seconds()
    expect(total, sum_below(count), "sum of the answers")
    return seconds


async def send(count: int, sending: Sending, *, local: bool = False) -> float:
    """Seconds until that many messages have been handled: a call takes its turn behind them."""
    tally = Tally()
    async with open_pool() as create:
        ref = await _reference(await create(Noting, tally), local)
        watch = Stopwatch()
        await sending.feed(ref.handle.tell, count)
        handled = await ref.handled()
        seconds = watch.seconds()
    expect(handled, count, "messages handled")
    tally.check(count, sending.total(count))
    return seconds


async def _reference(ref: Any, local: bool) -> Any:
    return await xoscar.actor_ref(ref) if local else ref


async def spawn(count: int) -> float:
    """Seconds for that many actors, one after another; all stay alive."""
    tally = Tally()
    async with open_pool() as create:
        watch = Stopwatch()
        refs = [await create(Idle, tally) for _ in range(count)]
        seconds = watch.seconds()
        await _destroy(refs)
    expect(tally.handled, count, "actors that ended well")
    return seconds


async def stop(count: int) -> float:
    """Seconds to destroy that many idle actors, one after another, in reverse order of start."""
    tally = Tally()
    async with open_pool() as create:
        refs = [await create(Idle, tally) for _ in range(count)]
        watch = Stopwatch()
        await _destroy(refs)
        seconds = watch.seconds()
    expect(tally.handled, count, "actors that ended well")
    return seconds


async def _destroy(refs: list[Any]) -> None:
    for ref in reversed(refs):
        await xoscar.destroy_actor(ref)


PEERS: Final = (
    Peer("xoscar", "one pool, n_process=0; no back-pressure, nothing is bounded", ask, send, spawn, stop),
    Peer(
        "xoscar, local reference",
        "no mailbox: the method runs in the caller's task under the actor's lock, `tell` begins a task",
        functools.partial(ask, local=True),
        functools.partial(send, local=True),
    ),
)
