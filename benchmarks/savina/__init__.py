"""The concurrency and messaging programs of the Savina set, written with actors as one would write them.

Imam and Sarkar, "Savina: an actor benchmark suite", AGERE 2014. The programs are theirs; the sizes are smaller, so that
one measurement takes a tenth of a second, and the artificial work that some of them add to each message is left out.
The time is that of the whole program, from the start of its actors until the last has done its part.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Final

import attrs

from harness import NO_LOOP, Benchmark, Candidate, Kind

from . import banking, bare, big, buffer, chameneos, dictionary, fork_join, pair, philosophers, ring

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping


@attrs.frozen
class Program:
    """One of the set.

    Attributes:
        title: Its name.
        unit: What one operation is.
        operations: How many of them one measurement does.
        actors: The program, with actors.
        parameters: What else describes it.
        tasks: The same with tasks and queues, if that is a natural thing to do.
    """

    title: str
    unit: str
    operations: int
    actors: Callable[[int], Awaitable[float]]
    parameters: Mapping[str, object]
    tasks: Callable[[int, bare.Tools], Awaitable[float]] | None = None


PROGRAMS: Final = (
    Program("ping-pong", "exchange", 10_000, pair.ping_pong, {"actors": 2}, bare.ping_pong),
    Program("counting", "message", 100_000, pair.counting, {"actors": 2}, bare.counting),
    Program("fork-join create", "actor or task", 1_000, fork_join.create, {}, bare.fork_join_create),
    Program(
        "fork-join throughput",
        "message",
        20_000,
        fork_join.throughput,
        {"workers": fork_join.WORKERS},
        bare.fork_join_throughput,
    ),
    Program("thread ring", "hop", 20_000, ring.thread_ring, {"actors": ring.LINKS}, bare.thread_ring),
    Program("chameneos", "meeting", 10_000, chameneos.chameneos, {"creatures": chameneos.CREATURES}),
    Program("big", "ping and pong", 20_000, big.big, {"players": big.PLAYERS}),
    Program(
        "concurrent dictionary",
        "read or write",
        20_000,
        dictionary.concurrent_dictionary,
        {"workers": dictionary.WORKERS, "writes": dictionary.WRITES, "keys": dictionary.KEYS},
    ),
    Program(
        "bounded buffer",
        "item",
        10_000,
        buffer.bounded_buffer,
        {"producers": buffer.PRODUCERS, "consumers": buffer.CONSUMERS, "places": buffer.PLACES},
        bare.bounded_buffer,
    ),
    Program(
        "dining philosophers", "meal", 10_000, philosophers.dining_philosophers, {"philosophers": philosophers.SEATS}
    ),
    Program(
        "banking",
        "transfer",
        5_000,
        banking.banking,
        {"accounts": banking.ACCOUNTS, "tellers": banking.TELLERS},
    ),
)


def benchmarks(loop: str) -> list[Benchmark]:
    """The set in one place."""
    return _on_pykka() if loop == NO_LOOP else [_on_loop(program, loop) for program in PROGRAMS]


def _on_loop(program: Program, loop: str) -> Benchmark:
    tools, tasks = bare.TRIO if loop == "trio" else bare.ASYNCIO, program.tasks
    limit = None
    if tasks is not None:
        name = "tasks" if tasks is bare.fork_join_create else tools.queue
        limit = Candidate(name, lambda count: tasks(count, tools), Kind.LOOP)
    return _benchmark(program, Candidate("actors", program.actors), limit)


def _on_pykka() -> list[Benchmark]:
    """The programs that pykka is measured with, if it is installed."""
    if not importlib.util.find_spec("pykka"):
        return []
    from peers.with_pykka import NOTE

    from .on_pykka import PROGRAMS as OF_PYKKA

    return [
        _benchmark(program, Candidate("pykka", OF_PYKKA[program.title], Kind.PEER, NOTE))
        for program in PROGRAMS
        if program.title in OF_PYKKA
    ]


def _benchmark(program: Program, candidate: Candidate, limit: Candidate | None = None) -> Benchmark:
    return Benchmark(
        title=program.title,
        topic="Savina",
        unit=program.unit,
        operations=program.operations,
        parameters=program.parameters,
        limit=limit,
        candidates=(candidate,),
    )
