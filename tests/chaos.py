"""Random crashes, and nothing lost: `nox -s chaos -- --seconds 600 --loop trio`.

A thousand actors under supervisors of every strategy handle messages and requests while a thousand crashes a second
strike them: messages that make them raise, and errors from outside in the middle of what they do. Among them others
come and go, with work left in their mailboxes. In the end the books are closed: each message was handed to an actor once, or is a dead letter; each request has had its answer or
its error; each crash has been reported; every actor runs, and when the block is left no task is; and the memory
that the process takes is what it was at the beginning.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import random
import resource
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import anyio
import attrs
from anyio.lowlevel import checkpoint

from rookery import (
    ActorCrashed,
    ActorRef,
    ActorState,
    ActorStopped,
    Context,
    Instrument,
    Intensity,
    Request,
    Restart,
    Strategy,
    SupervisorRef,
    System,
    child,
    message,
    open_system,
)
from rookery.testing import crash

if TYPE_CHECKING:
    from collections.abc import Iterator

LOOPS: Final[dict[str, dict[str, Any]]] = {
    "trio": {"backend": "trio"},
    "asyncio": {"backend": "asyncio"},
    "uvloop": {"backend": "asyncio", "backend_options": {"use_uvloop": True}},
}

ACTORS: Final = 1_000
GROUP: Final = 10
"""Actors under one supervisor."""

CRASHES: Final = 1_000
"""A second."""

STORM: Final = 10
"""Seconds from which on a storm is one only if it has at least half as many."""

TICK: Final = 0.01
"""Seconds between two salvos of crashes."""

ASKERS: Final = 50
SENDERS: Final = 50
SPAWNERS: Final = 5

SAMPLES: Final = 60
"""How often the memory is looked at."""

ROOM: Final = 8 << 20
"""Bytes that the process may take more in the last third than in the second, as garbage comes in lumps."""

FOR_EVER: Final = Intensity(10**9, per=1.0)


class Struck(Exception):
    """The crash."""


@message
class Job:
    """Handled by counting it; a fragile one crashes who has it."""

    number: int
    fatal: bool = False


@message
class Question(Request[int]):
    """Answered with its number."""

    number: int
    fatal: bool = False


Work: TypeAlias = Job | Question


@attrs.define
class Tally:
    """How many there were, and the sum of their numbers: one that is counted twice for another does not go unseen."""

    count: int = 0
    total: int = 0

    def add(self, number: int) -> None:
        """One more."""
        self.count += 1
        self.total += number


@attrs.define
class Books(Instrument):
    """What happened, as the actors and their callers see it, and what rookery reports of it."""

    accepted: Tally = attrs.field(factory=Tally)
    handed: Tally = attrs.field(factory=Tally)
    dead: Tally = attrs.field(factory=Tally)
    asked: int = 0
    outcomes: Counter[str] = attrs.field(factory=Counter)
    strikes: int = 0
    reported: int = 0
    numbers: Iterator[int] = attrs.field(factory=itertools.count)

    def crashed(self, ref: ActorRef[Any], incarnation: int, crash: Exception, decision: str) -> None:
        """Several strikes may have hit the same incarnation."""
        self.reported += strikes_in(crash)

    def dead_letter(self, letter: Any) -> None:
        """A message that nobody was handed."""
        if isinstance(letter.message, Job | Question):
            self.dead.add(letter.message.number)


def strikes_in(crash: BaseException | None) -> int:
    """How many strikes a crash consists of; nothing else may be in it."""
    if isinstance(crash, BaseExceptionGroup):
        return sum(map(strikes_in, crash.exceptions))
    return int(isinstance(crash, Struck))


async def worker(ctx: Context[Work], books: Books) -> None:
    """Count, let the others run, and answer."""
    async for work in ctx:
        books.handed.add(work.number)
        if work.fatal:
            raise Struck
        await checkpoint()
        if isinstance(work, Question):
            ctx.reply(work, work.number)


async def spawn_all(system: System, books: Books) -> tuple[list[SupervisorRef], list[ActorRef[Work]]]:
    """A thousand workers: most of them one for one, and some groups that are restarted together."""
    restarts = (Restart.PERMANENT, Restart.TRANSIENT)
    specs = [child(worker, books).options(restart=restarts[number % 2], capacity=100) for number in range(ACTORS)]
    strategies = itertools.cycle((Strategy.ONE_FOR_ALL, Strategy.REST_FOR_ONE, *[Strategy.ONE_FOR_ONE] * 8))
    tops = [
        await system.supervise(*specs[first : first + GROUP], strategy=strategy, intensity=FOR_EVER)
        for first, strategy in zip(range(0, ACTORS, GROUP), strategies)  # noqa: B905  # the second never ends
    ]
    return tops, [spec.ref for spec in specs]


async def send_on(refs: list[ActorRef[Work]], books: Books, chance: random.Random) -> None:
    """Send jobs to whoever, for ever."""
    while True:
        number = next(books.numbers)
        await chance.choice(refs).send(Job(number))
        books.accepted.add(number)
        await checkpoint()


async def spawn_on(tops: list[SupervisorRef], books: Books, chance: random.Random) -> None:
    """Have one more actor somewhere, give it work, and stop it, for ever: what it has not received is unread."""
    while True:
        ref: ActorRef[Work] = await chance.choice(tops).spawn(worker, books)
        for _ in range(chance.randint(1, 20)):
            number = next(books.numbers)
            ref.send_nowait(Job(number))
            books.accepted.add(number)
        await ref.stop()
        await checkpoint()


async def ask_on(refs: list[ActorRef[Work]], books: Books, chance: random.Random) -> None:
    """Ask whoever, for ever, and note what comes of each question."""
    while True:
        number = next(books.numbers)
        books.asked += 1
        books.accepted.add(number)
        with anyio.CancelScope(shield=True):  # so that each has its outcome
            books.outcomes[await outcome(chance.choice(refs), number)] += 1
        await checkpoint()


async def outcome(ref: ActorRef[Work], number: int) -> str:
    """What comes of one question."""
    try:
        return "answered" if await ref.ask(Question(number)) == number else "wrong"
    except ActorCrashed as error:
        return "crashed" if strikes_in(error.__cause__) else "crashed otherwise"
    except ActorStopped:  # it had to go with a sibling, having it in hand
        return "stopped"


async def strike_on(refs: list[ActorRef[Work]], books: Books, chance: random.Random, strikes: int) -> list[int]:
    """Crash whoever, in even salvos; every other time from outside.

    Returns:
        The bytes of memory that the process took, at even distances.
    """
    begun, memory = anyio.current_time(), list[int]()
    while books.strikes < strikes:
        while books.strikes < min(strikes, (anyio.current_time() - begun) * CRASHES):
            while not await strike(chance.choice(refs), books, fatally=bool(books.strikes % 2)):
                pass  # another one
            books.strikes += 1
            if books.strikes * SAMPLES // strikes > len(memory):
                memory.append(resident_bytes())
        await anyio.sleep(TICK)
    return memory


async def strike(ref: ActorRef[Work], books: Books, *, fatally: bool) -> bool:
    """Crash one actor, by a message or from outside; False if it cannot crash just now."""
    if fatally:
        number = next(books.numbers)
        books.accepted.add(number)
        await ref.send(Job(number, fatal=True), priority=255)
        return True
    if ref.state is not ActorState.RUNNING:
        return False
    crash(ref, Struck())
    return True


def resident_bytes() -> int:
    """The memory that this process takes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def storm(strikes: int, seed: int) -> list[str]:
    """So many strikes, a thousand a second at most, and then close the books.

    Returns:
        What is not as it should be.
    """
    chance, books = random.Random(seed), Books()
    async with open_system(instruments=[books], intensity=FOR_EVER) as system:
        tops, refs = await spawn_all(system, books)
        async with anyio.create_task_group() as traffic:
            for _ in range(SENDERS):
                traffic.start_soon(send_on, refs, books, chance)
            for _ in range(SPAWNERS):
                traffic.start_soon(spawn_on, tops, books, chance)
            for _ in range(ASKERS):
                traffic.start_soon(ask_on, refs, books, chance)
            begun = time.monotonic()
            memory = await strike_on(refs, books, chance, strikes)
            took = time.monotonic() - begun
            traffic.cancel_scope.cancel()
        await at_rest(refs)
        faults = [f"{ref.path} is {ref.state.value}" for ref in refs if ref.state is not ActorState.RUNNING]
    faults += [f"task left: {name}" for name in tasks_left()]
    return faults + closed(books, memory, took)


async def at_rest(refs: list[ActorRef[Work]]) -> None:
    """Wait until everybody runs and every mailbox is empty."""
    with anyio.fail_after(60):
        while any(ref.state is not ActorState.RUNNING or ref.statistics().queued for ref in refs):
            await checkpoint()
        for ref in refs:  # what was in hand is done when the next question is answered
            await ref.ask(Question(0))


def tasks_left() -> list[str]:
    """Tasks of actors that outlived their block."""
    return [task.name or "?" for task in anyio.get_running_tasks() if (task.name or "").startswith("/")]


def closed(books: Books, memory: list[int], took: float) -> list[str]:
    """Close the books: print them, and find what does not add up."""
    lost = books.accepted.count + ACTORS - books.handed.count - books.dead.count
    third = len(memory) // 3
    early, late = (max(part, default=0) for part in (memory[third : 2 * third], memory[2 * third :]))
    rate = books.strikes / max(took, TICK)
    print(f"{took:.1f} s, {books.strikes:,} crashes ({rate:,.0f} a second), {books.reported:,} reported")
    print(
        f"{books.accepted.count:,} messages: {books.handed.count - ACTORS:,} handled, {books.dead.count:,} dead letters, {lost} lost"
    )
    print(f"{books.asked:,} questions: {dict(books.outcomes)}")
    print(f"memory: {early / 2**20:.1f} MiB at most in the second third, {late / 2**20:.1f} MiB in the last")
    faults: list[str] = []
    if lost or books.accepted.total != books.handed.total + books.dead.total:
        faults.append(f"{lost} messages are lost, sums {books.accepted.total - books.handed.total - books.dead.total}")
    if books.asked != books.outcomes.total() or books.outcomes["wrong"] or books.outcomes["crashed otherwise"]:
        faults.append(f"of {books.asked} questions: {dict(books.outcomes)}")
    if books.reported != books.strikes:
        faults.append(f"{books.strikes} crashes, {books.reported} reported")
    if books.strikes >= STORM * CRASHES and rate < CRASHES / 2:
        faults.append(f"only {rate:.0f} crashes a second, where {CRASHES} were to be")
    if third and late > early + ROOM:
        faults.append(f"the memory grew from {early} to {late} bytes")
    return faults


def main() -> str | None:
    """Run the storm on a loop; what is wrong, if anything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--loop", choices=LOOPS, action="append", help="may be given several times; all by default")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    options = parser.parse_args()
    logging.getLogger("rookery").setLevel(logging.ERROR)
    strikes, faults = int(options.seconds * CRASHES), list[str]()
    for loop in options.loop or LOOPS:
        print(f"{loop}, seed {options.seed}")
        faults += [f"{loop}: {fault}" for fault in anyio.run(storm, strikes, options.seed, **LOOPS[loop])]
    return "\n".join(faults) or None


if __name__ == "__main__":
    sys.exit(main())
