"""A scenario that uses everything, and the books it keeps: for tests that interrupt it anywhere."""

from __future__ import annotations

import itertools
from collections import Counter
from contextlib import suppress
from typing import Any, Self

import anyio
import trio
from anyio.lowlevel import checkpoint
from trio.lowlevel import enable_ki_protection

from rookery import (
    Actor,
    ActorCrashed,
    ActorRef,
    ActorState,
    ActorStopped,
    AskTimeout,
    ChildSpec,
    Context,
    MailboxFull,
    Overflow,
    Request,
    StopRequested,
    System,
    child,
    message,
    open_priority_channel,
    open_system,
)


@message
class Note:
    number: int


@message
class Query(Request[int]):
    number: int
    wanted: str = "reply"


class Defect(Exception):
    """What actors crash with here."""


class Books:
    """What was done, noted by code that no interrupt tears, and what must hold of it in the end."""

    def __init__(self) -> None:
        self.began = False
        self.system: System | None = None
        self.left = False  # whether the body of the block is over
        self.refs: list[ActorRef[Any]] = []
        self.lives: list[Life] = []
        self.ended: list[Life] = []
        self._numbers = itertools.count()
        self._offered: set[int] = set()
        self._accepted: set[int] = set()
        self._refused: set[int] = set()
        self._received: Counter[int] = Counter()

    # ---- entries

    @enable_ki_protection
    def offer(self) -> int:
        """The number of a message that is about to be sent."""
        number = next(self._numbers)
        self._offered.add(number)
        return number

    @enable_ki_protection
    def accept(self, number: int) -> None:
        """Sending it returned."""
        self._accepted.add(number)

    @enable_ki_protection
    def refuse(self, number: int) -> None:
        """Sending it raised."""
        if number not in self._accepted:
            self._refused.add(number)

    @enable_ki_protection
    def receive(self, number: int) -> None:
        """Somebody has it."""
        self._received[number] += 1

    @enable_ki_protection
    def __enter__(self) -> Self:
        return self

    @enable_ki_protection
    def __exit__(self, *_: object) -> None:
        self.left = True

    # ---- the audit

    def audit(self) -> None:
        """Raises `AssertionError` for whatever does not add up, once the block has been left."""
        if self.system is not None:  # else it was interrupted before there was one
            self._check_messages(self.system)
            self._check_ends(self.system)
            self._check_order()

    def _check_messages(self, system: System) -> None:
        letters = [letter.message for letter in system.dead_letters.recent]
        dead = Counter(letter.number for letter in letters if isinstance(letter, Note | Query))
        seen = self._received + dead
        assert seen.keys() <= self._offered
        assert max(seen.values(), default=0) <= 1, f"received or dead twice: {seen}"
        assert self._accepted <= seen.keys(), f"lost: {self._accepted - seen.keys()}"
        assert not self._refused & seen.keys(), f"refused and delivered: {self._refused & seen.keys()}"

    def _check_ends(self, system: System) -> None:
        assert system.tree() == system.name, "an actor lives on"
        for ref in self.refs:
            if ref.state is not ActorState.NEW:
                after = ref.statistics()
                assert after.state in {ActorState.STOPPED, ActorState.FAILED}, after
                assert (after.queued, after.blocked_senders, after.unanswered) == (0, 0, 0), after
        assert Counter(self.lives) == Counter(self.ended), "each incarnation ends once, its cleanup run"

    def _check_order(self) -> None:
        """Those that ended because the block was left did so in reverse, each with its children."""
        first = {life.path: number for number, life in reversed([*enumerate(self.lives)])}
        stopped = [life.path for life in self.ended if life.stopped_with_the_tree]
        roots = [path for path in stopped if path.count("/") == 1]
        assert roots == sorted(roots, key=first.__getitem__, reverse=True), f"not in reverse order: {stopped}"
        for earlier, later in itertools.pairwise(roots):
            below = [stopped.index(path) for path in stopped if path.startswith(f"{earlier}/")]
            assert max(below, default=0) <= stopped.index(later), f"{earlier} was not down before {later}: {stopped}"


class Life:
    """One incarnation in the books, from its first line to its last."""

    def __init__(self, books: Books, ctx: Context[Any]) -> None:
        self.path = ctx.self.path
        self.stopped_with_the_tree = False
        self._books = books

    @enable_ki_protection
    def __enter__(self) -> Self:
        self._books.lives.append(self)
        return self

    @enable_ki_protection
    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        ordinary = kind is None or issubclass(kind, (StopRequested, anyio.get_cancelled_exc_class()))
        self.stopped_with_the_tree = ordinary and self._books.left
        self._books.ended.append(self)


# ---- the actors


async def worker(ctx: Context[Note | Query], books: Books) -> None:
    """Does with a request what it says."""
    with Life(books, ctx):
        async for given in ctx:
            books.receive(given.number)
            match given:
                case Query(wanted="reply"):
                    ctx.reply(given, given.number)
                case Query(wanted="fail"):
                    ctx.fail(given, Defect())
                case Query(wanted="crash"):
                    raise Defect
                case _:  # notes, and requests that wait in vain
                    await checkpoint()


async def manager(ctx: Context[Query], books: Books) -> None:
    """Has a child that answers for it, and a task of its own that asks the child in vain."""
    with Life(books, ctx):
        spec = child(worker, books).options(name="helper")
        books.refs.append(spec.ref)
        await ctx.spawn(spec)
        ctx.start_soon(give_up_asking, spec.ref, books)
        async for query in ctx:
            ctx.forward(query, spec.ref)


async def slow_to_end(ctx: Context[Note], books: Books) -> None:
    """Its cleanup has to be cut off, by a timer."""
    with Life(books, ctx):
        try:
            while True:
                books.receive((await ctx.receive()).number)
        except StopRequested:
            await anyio.sleep_forever()


class Teller(Actor):
    def __init__(self, books: Books) -> None:
        self._books = books

    async def tell(self, number: int) -> int:
        self._books.receive(number)
        await checkpoint()
        return number


class Tellers(Teller):
    concurrency = 2


# ---- the body


class Nursery:
    """The loop's own. On trio, unlike anyio's and trio's, it is not torn by an interrupt, at its ends or in `start_soon`.

    There, trio's has the task already when it is about to schedule it, and would wait for ever for one that it has not.
    """

    @enable_ki_protection
    async def __aenter__(self) -> Self:
        self._manager: Any = trio.open_nursery() if trio.lowlevel.in_trio_task() else anyio.create_task_group()
        self._tasks: Any = await self._manager.__aenter__()
        return self

    @enable_ki_protection
    def start_soon(self, fn: Any, *args: Any) -> None:
        self._tasks.start_soon(fn, *args)

    @enable_ki_protection
    def __aexit__(self, *left_by: Any) -> Any:
        return self._manager.__aexit__(*left_by)


async def send(ref: ActorRef[Note], books: Books, priority: int = 128) -> None:
    number = books.offer()
    try:
        await ref.send(Note(number), priority=priority)
        books.accept(number)
    except BaseException:
        books.refuse(number)
        raise


async def ask(ref: ActorRef[Query], books: Books, wanted: str = "reply", timeout: float | None = None) -> None:
    number = books.offer()
    assert await ref.ask(Query(number, wanted), timeout=timeout) == number
    books.accept(number)


async def call(ref: ActorRef[Teller], books: Books) -> None:
    number = books.offer()
    assert await ref.call(Teller.tell, number) == number
    books.accept(number)


async def give_up_asking(ref: ActorRef[Query], books: Books) -> None:
    with suppress(ActorStopped):
        await ask(ref, books, "nothing")


async def play(books: Books) -> None:
    """Spawn, send, ask, time out, block, crash, restart, pause, forward, drain, and leave with messages unread."""
    books.began = True
    await use_a_channel(books)
    async with open_system() as system:
        books.system = system
        with books:
            specs: list[ChildSpec[Any]] = [
                child(slow_to_end, books).options(stop_timeout=0.001),
                child(worker, books).options(capacity=2),
                child(worker, books).options(name="latest", capacity=1, overflow=Overflow.DROP_OLDEST),
                child(manager, books),
                child(Teller, books),
                child(Tellers, books),
                child(worker, books).options(name="leaver", capacity=3),
            ]
            books.refs.extend(spec.ref for spec in specs)
            for spec in specs:
                await system.spawn(spec)
            slow, busy, latest, boss, teller, tellers, leaver = (spec.ref for spec in specs)
            await send(slow, books)
            await talk(busy, boss, books)
            await call(teller, books)
            async with Nursery() as tasks:
                for _ in range(3):
                    tasks.start_soon(call, tellers, books)
            await overflow(busy, latest, books)
            await drain(leaver, books)
            await busy.pause()
            await send(busy, books)  # which nobody reads


async def use_a_channel(books: Books) -> None:
    sender, receiver = open_priority_channel[int](1)
    async with Nursery() as tasks:

        async def produce() -> None:
            for priority in (128, 100, 200):
                await sender.send(priority, priority=priority)
            sender.close()

        tasks.start_soon(produce)
        received = [item async for item in receiver]
    assert sorted(received) == [100, 128, 200]


async def talk(busy: ActorRef[Any], boss: ActorRef[Any], books: Books) -> None:
    await send(busy, books, priority=200)
    await ask(busy, books)
    await ask(boss, books, timeout=60)
    with suppress(Defect):
        await ask(busy, books, "fail")
    with suppress(AskTimeout):
        await ask(busy, books, "nothing", timeout=0)
    with suppress(ActorCrashed):
        await ask(busy, books, "crash")
    await ask(busy, books)


async def overflow(busy: ActorRef[Any], latest: ActorRef[Any], books: Books) -> None:
    await latest.pause()
    for _ in range(2):
        await send(latest, books)
    await latest.resume()
    await busy.pause()
    async with Nursery() as tasks:
        for _ in range(4):
            tasks.start_soon(send, busy, books)
        await wait_blocked(busy, 2)
        with suppress(MailboxFull):
            busy.send_nowait(Note(books.offer()))
        with suppress(AskTimeout):
            await ask(busy, books, timeout=0)
        await busy.resume()


async def wait_blocked(ref: ActorRef[Any], senders: int) -> None:
    """A function of its own, because Python 3.13 does not guard a loop's jump back by the `with` around the loop."""
    while ref.statistics().blocked_senders < senders:
        await checkpoint()


async def drain(leaver: ActorRef[Any], books: Books) -> None:
    await leaver.pause()
    async with Nursery() as tasks:
        tasks.start_soon(give_up_asking, leaver, books)
        for _ in range(2):
            await send(leaver, books)
        await leaver.stop(drain=True)


async def play_briefly(books: Books) -> None:
    """A system that is opened and left, with two actors in it."""
    async with open_system() as system:
        books.system = system
        with books:
            for name in ("first", "second"):
                ref: ActorRef[Any] = await system.spawn(worker, books, name=name)
                books.refs.append(ref)
