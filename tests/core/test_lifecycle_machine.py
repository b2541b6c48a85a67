"""Lives against a naive model: random histories of a tree of actors, three levels deep, on each loop.

Every actor handles what it is sent, crashes, returns or works until it is let go on; some are slow to start, some
restart with a delay. Whoever waits for any of it may be cancelled at any time, and the block may be left at any time.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, NamedTuple

import anyio
from anyio.lowlevel import checkpoint
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from rookery import (
    ActorRef,
    ActorState,
    ActorStopped,
    Backoff,
    Context,
    Intensity,
    Request,
    Restart,
    System,
    child,
    message,
    open_system,
)
from stepped import jump
from worlds import WorldMachine, queue_of, run_machine, set_turns

CAPACITY = 2
STOP_TIMEOUT = 3
DELAY = 1
BLINK = 6
"""Ends every grace and every delay, and so much later a crash counts no more."""
NAMES = ["a", "a/x", "a/x/y", "a/z", "b"]
OWNERS: list[int | None] = [None, 0, 1, 0, None]
STOP_ORDER = ["b", "a", "a/z", "a/x", "a/x/y"]
SLOTS = st.sampled_from([0, 0, 1, 1, 2, 3, 4])
TOGETHER = st.booleans()
FINAL = {"stopped", "failed"}


@message
class Task(Request[int]):
    number: int
    what: str


class Defect(Exception):
    """What actors crash with."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


# ---- the model


class Kind(NamedTuple):
    """What an actor is declared as."""

    restart: Restart
    slow: bool
    """To start."""
    delayed: bool
    """When it restarts."""

    def restarts(self, crashed: bool) -> bool:
        return {Restart.PERMANENT: True, Restart.TRANSIENT: crashed, Restart.TEMPORARY: False}[self.restart]


class Item(NamedTuple):
    """A message, or a request, and what it asks for."""

    number: int
    what: str
    asked: bool


class Job(NamedTuple):
    """A task that waits for something: to have sent, asked, spawned, stopped or seen the end of an actor."""

    number: int
    at: int
    what: str
    item: Item | None = None
    stage: str = "new"
    """Then "waiting", then "released", when what it waited for has happened."""
    outcome: Any = None
    cancelled: bool = False
    doomed: bool = False
    life: int = 0
    """Which of its actor's lives a spawner waits for."""


class Family(NamedTuple):
    """The children of one owner, in start order."""

    children: tuple[int, ...] = ()
    stopping: bool = False
    hurried: bool = False
    defects: frozenset[int] = frozenset()
    """What they crashed with while all were being stopped."""


class Node(NamedTuple):
    """An actor, or its place before it is spawned."""

    phase: str = "new"
    """Then "born", "opening" if it is slow, "running" and "busy"; "cleanup" when its behaviour is over, "ending" until
    its children have ended; "delayed" before it is born again, or "stopped" or "failed"."""
    life: int = 0
    ready: bool = False
    started: bool = False
    go_on: bool = False
    held: bool = False
    stopping: bool = False
    closed: bool = False
    drain: bool = False
    cancel_at: float = math.inf
    cancelled: bool = False
    defects: frozenset[int] = frozenset()
    """What it has crashed with."""
    wakes_at: float = math.inf
    queue: tuple[Item, ...] = ()
    line: tuple[int, ...] = ()
    hand: Item | None = None
    family: Family = Family()
    received: int = 0
    restarts: int = 0
    handled: tuple[int, ...] = ()

    @property
    def over(self) -> bool:
        """Whether it has no incarnation that could have children."""
        return self.stopping or self.phase not in {"opening", "running", "busy", "cleanup"}

    @property
    def state(self) -> str:
        if self.phase in FINAL or self.phase == "new":
            return self.phase
        if self.stopping:
            return "stopping"
        if self.phase == "delayed":
            return "restarting"
        if not self.ready:
            return "starting"
        return "paused" if self.held else "running"


class Tree(NamedTuple):
    """All actors, and all who wait for something about them."""

    kinds: tuple[Kind, ...]
    nodes: tuple[Node, ...] = (Node(),) * len(NAMES)
    root: Family = Family()
    leaving: bool = False
    """Whether the block's host has been told to leave it, and has yet to do so."""
    jobs: tuple[Job, ...] = ()
    now: float = 0.0
    outcomes: frozenset[tuple[int, Any]] = frozenset()
    letters: tuple[tuple[str, int], ...] = ()

    # ---- what a task may do next

    def moves(self) -> Iterator[Tree]:
        for job in self.jobs:
            if job.cancelled:
                yield self.cancelled(job)
            if job.doomed:
                continue
            if job.stage == "new":
                yield self.arrives(job)
            elif job.stage == "released":
                yield self.done(job, job.outcome)
        for at, node in enumerate(self.nodes):
            yield from self.moves_of_node(at, node)
        if self.leaving:
            yield self._replace(leaving=False).with_family(None, stopping=True).stop_next(None)

    def moves_of_node(self, at: int, node: Node) -> Iterator[Tree]:
        if node.line and not self.job(node.line[0]).doomed and len(node.queue) < CAPACITY:
            yield self.enters(at, self.job(node.line[0]))
        if node.stopping and not node.cancelled and node.cancel_at <= self.now and node.phase not in FINAL:
            yield self.cancel_node(at)
        match node.phase:
            case "born":
                yield self.with_node(at, phase="opening") if self.kinds[at].slow else self.opened(at)
            case "opening" | "busy":
                if node.go_on:
                    yield self.opened(at) if node.phase == "opening" else self.worked(at)
                if node.cancelled:
                    yield self.with_node(at, phase="cleanup")
            case "running":
                yield from self.moves_of_receiver(at, node)
            case "cleanup":
                yield self.over(at)
            case "ending" if not node.family.children:
                yield self.ended(at)
            case "delayed" if node.wakes_at <= self.now:
                yield self.born(at)

    def moves_of_receiver(self, at: int, node: Node) -> Iterator[Tree]:
        if node.cancelled or (node.stopping and not (node.drain and node.queue)):
            yield self.with_node(at, phase="cleanup")
        if node.queue and not node.held and (node.drain or not node.stopping):
            yield self.receives(at)

    def inevitable(self) -> Tree | None:
        for job in self.jobs:
            if job.stage == "released" and not job.cancelled:
                return self.done(job, job.outcome)
        for at, node in enumerate(self.nodes):
            if node.phase == "born" and self.kinds[at].slow:
                return self.with_node(at, phase="opening")
        return None

    # ---- those who wait

    def arrives(self, job: Job) -> Tree:
        node = self.nodes[job.at]
        waiting = self.with_job(job, stage="waiting")
        match job.what:
            case "spawn":
                return self.spawned(job)
            case "send" | "ask" if node.closed:
                return self.done(job, "ActorStopped")
            case "send" | "ask" if node.line or len(node.queue) == CAPACITY:
                return waiting.with_node(job.at, line=(*node.line, job.number))
            case "send" | "ask":
                return self.enters(job.at, job)
            case "wait" if node.phase in FINAL:
                return self.done(job, None)
            case "wait":
                return waiting
            case _ if node.phase in FINAL:
                return self.done(job, None)
            case _:
                return waiting.stop(job.at, drain=job.what == "drain")

    def enters(self, at: int, job: Job) -> Tree:
        """A message gets into the mailbox."""
        node = self.nodes[at]
        assert job.item is not None
        line = tuple(number for number in node.line if number != job.number)
        after = self.with_node(at, queue=(*node.queue, job.item), line=line)
        return after.with_job(job, stage="waiting") if job.item.asked else after.done(job, None)

    def spawned(self, job: Job) -> Tree:
        owner, node = OWNERS[job.at], self.nodes[job.at]
        family = self.family(owner)
        if family.stopping or (owner is not None and self.nodes[owner].over):
            return self.done(job, "ActorStopped")
        if node.phase not in FINAL and node.phase != "new":
            return self.done(job, "DuplicateName")
        after = self.with_node_new(job.at, Node("born", life=node.life + 1, handled=node.handled))
        after = after.with_family(owner, children=(*family.children, job.at))
        return after.with_job(job, stage="waiting", life=node.life + 1)

    def cancelled(self, job: Job) -> Tree:
        node = self.nodes[job.at]
        line = tuple(number for number in node.line if number != job.number)
        after = self.with_node(job.at, line=line).done(job, "cancelled")
        if job.what == "spawn" and job.stage != "new" and job.life == node.life and node.phase not in FINAL:
            after = after.stop(job.at, drain=False)
            if after.nodes[job.at].phase not in FINAL:
                after = after.with_node(job.at, cancelled=True)
        if job.what == "ask" and isinstance(job.outcome, int):
            after = after.letter("LATE_REPLY", job.number)
        return after

    def release(self, numbers: set[int], outcome: Any) -> Tree:
        """What they wait for has happened."""
        jobs = tuple(
            job._replace(stage="released", outcome=outcome) if job.number in numbers and job.stage == "waiting" else job
            for job in self.jobs
        )
        return self._replace(jobs=jobs)

    def answer(self, item: Item, outcome: Any) -> Tree:
        waits = any(job.number == item.number and job.stage == "waiting" for job in self.jobs)
        if not waits and isinstance(outcome, int):
            return self.letter("LATE_REPLY", item.number)
        return self.release({item.number}, outcome)

    # ---- the life of an actor

    def born(self, at: int) -> Tree:
        return self.with_node(
            at,
            phase="born",
            ready=False,
            go_on=False,
            defects=frozenset(),
            wakes_at=math.inf,
            family=Family(),
            restarts=self.nodes[at].restarts + 1,
        )

    def opened(self, at: int) -> Tree:
        """It receives for the first time, so it is ready."""
        spawners = {job.number for job in self.jobs if (job.what, job.at) == ("spawn", at)}
        after = self.with_node(at, phase="running", ready=True, started=True, go_on=False)
        return after.release(spawners, None)

    def receives(self, at: int) -> Tree:
        node = self.nodes[at]
        item = node.queue[0]
        after = self.with_node(at, queue=node.queue[1:])
        if item.asked and all(job.number != item.number for job in self.jobs):
            return after.letter("ABANDONED", item.number)
        after = after.with_node(at, received=node.received + 1, handled=(*node.handled, item.number))
        match item.what:
            case "crash":
                return after.with_node(at, hand=item, defects=frozenset({item.number}), phase="cleanup")
            case "return":
                return after.with_node(at, hand=item, phase="cleanup")
            case "work" | "work, crash":
                return after.with_node(at, hand=item, phase="busy", go_on=False)
            case _:
                return after.answer(item, item.number) if item.asked else after

    def worked(self, at: int) -> Tree:
        node = self.nodes[at]
        assert node.hand is not None
        if node.hand.what == "work, crash":
            return self.with_node(at, phase="cleanup", go_on=False, defects=frozenset({node.hand.number}))
        after = self.with_node(at, phase="running", go_on=False, hand=None)
        return after.answer(node.hand, node.hand.number) if node.hand.asked else after

    def over(self, at: int) -> Tree:
        """The behaviour is over: what it had in hand fails, perhaps what is queued as well; its children are stopped."""
        node = self.nodes[at]
        after = self.with_node(at, phase="ending", hand=None)
        if node.hand is not None and node.hand.asked:
            after = after.answer(node.hand, "ActorCrashed" if node.defects else "ActorStopped")
        if node.stopping or not self.kinds[at].restarts(bool(node.defects)):
            after = after.turned_away(at)
        return after.with_family(at, stopping=True).stop_next(at)

    def ended(self, at: int) -> Tree:
        """The incarnation is over, with all that belonged to it."""
        node, kind, owner = self.nodes[at], self.kinds[at], OWNERS[at]
        defects = node.defects | (node.family.defects if node.defects or node.stopping else set())
        family = self.family(owner)
        after = self.with_node(at, cancelled=False, cancel_at=math.inf)
        if family.stopping and kind.restart is not Restart.TEMPORARY:
            after = after.with_family(owner, defects=family.defects | defects)
        stays = family.stopping or node.stopping or not (node.ready or node.started)
        if stays or not kind.restarts(bool(defects)):
            return after.finished(at, bool(defects))
        if kind.delayed:
            return after.with_node(at, phase="delayed", wakes_at=self.now + DELAY)
        return after.born(at)

    def finished(self, at: int, crashed: bool) -> Tree:
        """It is down for good, and nobody waits for it any more."""
        owner = OWNERS[at]
        waiters = {job.number for job in self.jobs if job.at == at and job.what in {"wait", "stop", "drain"}}
        spawners = {job.number for job in self.jobs if job.at == at and job.what == "spawn"}
        after = self.turned_away(at).with_node(at, phase="failed" if crashed else "stopped", family=Family())
        after = after.release(waiters, None).release(spawners, "StartFailed")
        rest = tuple(other for other in after.family(owner).children if other != at)
        after = after.with_family(owner, children=rest)
        return after.stop_next(owner) if after.family(owner).stopping else after

    def turned_away(self, at: int) -> Tree:
        node = self.nodes[at]
        after = self.with_node(at, closed=True, queue=(), line=()).release({*node.line}, "ActorStopped")
        for item in node.queue:
            after = after.letter("UNREAD", item.number)
            after = after.answer(item, "ActorStopped") if item.asked else after
        return after

    # ---- stopping

    def stop(self, at: int, drain: bool) -> Tree:
        node = self.nodes[at]
        if node.stopping or node.phase in FINAL or node.phase == "new":
            return self
        after = self.with_node(at, stopping=True, closed=True, line=()).release({*node.line}, "ActorStopped")
        if node.phase == "delayed":
            return after.finished(at, crashed=False)
        held = node.held and not drain
        return after.with_node(at, drain=drain, held=held, cancel_at=self.now + STOP_TIMEOUT)

    def stop_next(self, owner: int | None) -> Tree:
        """The last of its children is the next to stop."""
        family = self.family(owner)
        if not family.children or self.nodes[family.children[-1]].stopping:
            return self
        last = family.children[-1]
        after = self.stop(last, drain=False)
        alive = after.nodes[last].phase not in FINAL
        return after.cancel_node(last) if family.hurried and alive else after

    def cancel_node(self, at: int) -> Tree:
        """The grace of an actor is over, and that of its children."""
        after = self.with_node(at, cancelled=True).with_family(at, hurried=True)
        for other in self.nodes[at].family.children:
            if after.nodes[other].stopping:
                after = after.cancel_node(other)
        return after

    # ---- small ones

    def job(self, number: int) -> Job:
        return next(job for job in self.jobs if job.number == number)

    def with_job(self, job: Job, **changes: Any) -> Tree:
        jobs = tuple(old._replace(**changes) if old.number == job.number else old for old in self.jobs)
        return self._replace(jobs=jobs)

    def done(self, job: Job, outcome: Any) -> Tree:
        jobs = tuple(old for old in self.jobs if old.number != job.number)
        return self._replace(jobs=jobs, outcomes=self.outcomes | {(job.number, outcome)})

    def with_node_new(self, at: int, node: Node) -> Tree:
        return self._replace(nodes=(*self.nodes[:at], node, *self.nodes[at + 1 :]))

    def with_node(self, at: int, **changes: Any) -> Tree:
        return self.with_node_new(at, self.nodes[at]._replace(**changes))

    def family(self, owner: int | None) -> Family:
        return self.root if owner is None else self.nodes[owner].family

    def with_family(self, owner: int | None, **changes: Any) -> Tree:
        family = self.family(owner)._replace(**changes)
        return self._replace(root=family) if owner is None else self.with_node(owner, family=family)

    def letter(self, reason: str, number: int) -> Tree:
        return self._replace(letters=tuple(sorted((*self.letters, (reason, number)))))

    # ---- what can be seen of it

    def look(self) -> dict[str, Any]:
        return {
            "outcomes": sorted(self.outcomes, key=str),
            "letters": list(self.letters),
            **{name: _seen_of(node) for name, node in zip(NAMES, self.nodes, strict=True)},
        }

    def forget(self) -> Tree:
        nodes = tuple(node._replace(handled=()) for node in self.nodes)
        return self._replace(nodes=nodes, outcomes=frozenset(), letters=())


def _seen_of(node: Node) -> tuple[Any, ...]:
    if node.phase == "new":
        return ("new",)
    return (
        node.state,
        f"handled {[*node.handled]}",
        f"queue {[item.number for item in node.queue]}",
        f"{len(node.line)} blocked",
        f"{int(node.hand is not None and node.hand.asked)} unanswered",
        f"{node.received} received",
        f"{node.restarts} restarts",
    )


# ---- the real thing


class Desk:
    """Where the test reaches one actor."""

    def __init__(self, slow: bool) -> None:
        self.slow = slow
        self.context: Context[Task] | None = None
        self.gate = anyio.Event()
        self.handled: list[int] = []

    async def behave(self, ctx: Context[Task]) -> None:
        self.context = ctx
        try:
            if self.slow:
                await self.gate.wait()
            async for task in ctx:
                self.handled.append(task.number)
                match task.what:
                    case "crash":
                        raise Defect(task.number)
                    case "return":
                        return
                    case "work":
                        await self.gate.wait()
                    case "work, crash":
                        await self.gate.wait()
                        raise Defect(task.number)
                ctx.reply(task, task.number)
        finally:
            with anyio.CancelScope(shield=True):
                await checkpoint()

    def go_on(self) -> None:
        """Let it go on, if it waits for that."""
        self.gate.set()
        self.gate = anyio.Event()


KINDS = st.builds(Kind, st.sampled_from([Restart.TRANSIENT, *Restart]), TOGETHER, TOGETHER)


class LifecycleMachine(WorldMachine):
    """A real tree."""

    at_once = 4

    @initialize(kinds=st.tuples(*[KINDS] * len(NAMES)), short_turns=TOGETHER)
    def open(self, kinds: tuple[Kind, ...], short_turns: bool) -> None:
        """With short turns every task gives way before each message."""
        self.begin(Tree(kinds))
        self.letters = 0
        self.crashes = 0
        self.waiting: list[int] = []
        self.sent: dict[int, bool] = {}
        self.handled: Counter[int] = Counter()
        self.dead: Counter[int] = Counter()
        self.stepped.run(self._open, kinds, itertools.count() if short_turns else itertools.repeat(0.0))
        self.grow()

    async def _open(self, kinds: tuple[Kind, ...], clock: Iterator[float]) -> None:
        self.desks = [Desk(kind.slow) for kind in kinds]
        self.specs = [
            child(desk.behave).options(
                name=name.rpartition("/")[-1],
                restart=kind.restart,
                capacity=CAPACITY,
                start_timeout=math.inf,
                stop_timeout=STOP_TIMEOUT,
                backoff=Backoff(DELAY, factor=1.0, jitter=0.0) if kind.delayed else None,
            )
            for name, desk, kind in zip(NAMES, self.desks, kinds, strict=True)
        ]
        self.refs: list[ActorRef[Any]] = [spec.ref for spec in self.specs]
        self.leave = anyio.Event()
        self.opened = anyio.Event()
        self.block = self.stepped.start(lambda: self._block(clock))
        await self.opened.wait()

    async def _block(self, clock: Iterator[float]) -> None:
        async with open_system(intensity=Intensity(10**6, per=1.0)) as system:
            set_turns(system, clock)
            self.system: System = system
            self.opened.set()
            await self.leave.wait()

    def release(self) -> None:
        self.leave.set()

    def look(self) -> dict[str, Any]:
        outcomes = self.done_jobs()
        self.waiting = [number for number in self.waiting if number in self.jobs]
        self.sent.update((number, outcome is None) for number, outcome in outcomes if number in self.sent)
        return {
            "outcomes": sorted(outcomes, key=str),
            "letters": self.new_letters(),
            **{name: self.seen_of(at) for at, name in enumerate(NAMES)},
        }

    def new_letters(self) -> list[tuple[str, int]]:
        dead = self.system.dead_letters
        total = dead.statistics().total
        new = dead.recent[len(dead.recent) - (total - self.letters) :]
        self.letters = total
        self.dead.update(letter.message.number for letter in new if isinstance(letter.message, Task))
        messages = [(letter.reason.name, letter.message) for letter in new]
        return sorted(
            # Not told apart here: what is asked in a cancelled scope has expired before it is sent.
            (reason.replace("EXPIRED", "ABANDONED"), what if isinstance(what, int) else what.number)
            for reason, what in messages
            if reason != "NOT_ASKED"  # every message is answered, also those that were sent
        )

    def seen_of(self, at: int) -> tuple[Any, ...]:
        ref, desk = self.refs[at], self.desks[at]
        if ref.state is ActorState.NEW:
            return ("new",)
        seen = ref.statistics()
        handled, desk.handled = desk.handled, []
        self.handled.update(handled)
        return (
            seen.state.value,
            f"handled {handled}",
            f"queue {queue_of(ref)}",
            f"{seen.blocked_senders} blocked",
            f"{seen.unanswered} unanswered",
            f"{seen.received} received",
            f"{seen.restarts} restarts",
        )

    def new(self, at: int) -> bool:
        return self.refs[at].state is ActorState.NEW

    # ---- those who wait

    @precondition(lambda self: len(self.waiting) < 4)
    @rule(at=SLOTS, ticks=st.sampled_from([None, None, None, 0, 1, 2]), native=TOGETHER, together=TOGETHER)
    def spawn(self, at: int, ticks: int | None, native: bool, together: bool) -> None:
        """By its owner, and perhaps cancelled after so many ticks."""

        async def spawn() -> None:
            context = self.system if owner is None else self.desks[owner].context
            if context is None:
                raise ActorStopped("its owner was never there")
            await context.spawn(self.specs[at])

        owner = OWNERS[at]
        number = self.wait_for(at, "spawn", spawn, together=together or ticks is not None)
        self.cancel_after(number, ticks, native, together)

    @precondition(lambda self: not self.leave.is_set())
    @rule()
    def grow(self) -> None:
        """Everybody who is not there is spawned, and has started."""
        for at in range(len(NAMES)):
            self.rest()
            if self.refs[at].state.value in FINAL | {"new"}:
                self.spawn(at, None, False, False)
                self.go_on(at, False)

    @precondition(lambda self: len(self.waiting) < 4)
    @rule(at=SLOTS, how=st.sampled_from(["stop", "drain", "wait"]), together=TOGETHER)
    def wait_for_the_end(self, at: int, how: str, together: bool) -> None:
        """After asking for it, or not."""
        if self.new(at):
            return
        ref = self.refs[at]
        self.wait_for(at, how, ref.wait_stopped if how == "wait" else lambda: ref.stop(drain=how == "drain"), together)

    @precondition(lambda self: len(self.waiting) < 4)
    @rule(
        at=SLOTS,
        whats=st.lists(st.sampled_from(["", "work"]), min_size=1, max_size=3),
        asks=TOGETHER,
        ticks=st.sampled_from([None, None, None, 0, 1, 2]),
        native=TOGETHER,
        together=TOGETHER,
    )
    def send(self, at: int, whats: list[str], asks: bool, ticks: int | None, native: bool, together: bool) -> None:
        """Or ask; the last one is perhaps cancelled after so many ticks."""
        if self.new(at):
            return
        number = 0
        for left, what in reversed(list(enumerate(whats))):
            number = self.deliver(at, what, asks, together or left > 0 or ticks is not None)
        self.cancel_after(number, ticks, native, together)

    @precondition(lambda self: len(self.waiting) < 4)
    @rule(at=SLOTS, count=st.integers(1, 3), end=st.sampled_from([None, "stop", "drain"]), together=TOGETHER)
    def fill(self, at: int, count: int, end: str | None, together: bool) -> None:
        """Send while it is paused, and perhaps stop it then."""
        self.pause(at=at, paused=True, together=True)
        self.send(at=at, whats=[""] * count, asks=False, ticks=None, native=False, together=together or end is not None)
        if end is not None:
            self.wait_for_the_end(at=at, how=end, together=together)

    @precondition(lambda self: self.crashes < 3)  # with a fourth at a time their owner would give up
    @rule(at=SLOTS, what=st.sampled_from(["crash", "work, crash", "return"]), asks=TOGETHER, together=TOGETHER)
    def end(self, at: int, what: str, asks: bool, together: bool) -> None:
        if self.new(at):
            return
        self.crashes += 1
        self.deliver(at, what, asks, together)

    def deliver(self, at: int, what: str, asks: bool, together: bool) -> int:
        async def deliver() -> Any:
            return await (ref.ask(task) if asks else ref.send(task))

        ref = self.refs[at]
        item = Item(self.number + 1, what, asks)
        task = Task(item.number, what)
        return self.wait_for(at, "ask" if asks else "send", deliver, together, item)

    def wait_for(
        self, at: int, what: str, fn: Callable[[], Awaitable[Any]], together: bool, item: Item | None = None
    ) -> int:
        number = self.next_number()
        job = Job(number, at, what, item)
        self.waiting.append(number)
        if what == "send":
            self.sent[number] = False
        self.step(
            together, lambda: self.start(number, fn), lambda tree: [(None, tree._replace(jobs=(*tree.jobs, job)))]
        )
        return number

    @precondition(lambda self: self.waiting)
    @rule(which=st.sampled_from([0, 1, 2, -1]), native=TOGETHER, together=TOGETHER)
    def cancel(self, which: int, native: bool, together: bool) -> None:
        """One of those who wait; the one who waits longest is number 0."""
        self.cancel_waiting(self.waiting[which % len(self.waiting)], native, together)

    def cancel_after(self, number: int, ticks: int | None, native: bool, together: bool) -> None:
        if ticks is not None:
            for _ in range(ticks):
                self.a_tick()
            self.cancel_waiting(number, native, together)

    def cancel_waiting(self, number: int, native: bool, together: bool) -> None:
        def model(tree: Tree) -> list[tuple[str, Tree]]:
            job = next((job for job in tree.jobs if job.number == number), None)
            if job is None:
                return [("scope", tree), ("native", tree)]
            cancelled = tree.with_job(job, cancelled=True)
            return [("scope", cancelled), ("native", cancelled.with_job(job, doomed=True))]

        self.step(together, lambda: self.cancel_job(number, native), model)

    # ---- what does not wait

    @rule(at=SLOTS, together=TOGETHER)
    def go_on(self, at: int, together: bool) -> None:
        """What is slow to start, or works, may go on."""

        def model(tree: Tree) -> list[tuple[None, Tree]]:
            waits = tree.nodes[at].phase in {"opening", "busy"}
            return [(None, tree.with_node(at, go_on=True) if waits else tree)]

        self.step(together, self.desks[at].go_on, model)

    @rule(at=SLOTS, paused=TOGETHER, together=TOGETHER)
    def pause(self, at: int, paused: bool, together: bool) -> None:
        """Or resume. Both are checkpoints, and act after it."""
        if self.new(at):
            return

        def model(tree: Tree) -> list[tuple[str | None, Tree]]:
            over = tree.nodes[at].stopping or tree.nodes[at].phase in FINAL
            return [("ActorStopped", tree) if over else (None, tree.with_node(at, held=paused))]

        ref = self.refs[at]
        self.step(together, lambda: ref.pause() if paused else ref.resume(), model, after_others=True)

    @rule(at=SLOTS, together=TOGETHER)
    def stop_soon(self, at: int, together: bool) -> None:
        if not self.new(at):
            self.step(together, self.refs[at].stop_soon, lambda tree: [(None, tree.stop(at, drain=False))])

    @rule()
    def time_passes(self) -> None:
        """Every grace is over, and every delay."""
        self.crashes = 0
        self.jump()

    def jump(self) -> None:
        self.step(False, lambda: jump(BLINK), lambda tree: [(None, tree._replace(now=tree.now + BLINK))])

    @rule()
    def tick(self) -> None:
        self.a_tick()

    @precondition(lambda self: self.number > 40)
    @rule(together=TOGETHER)
    def leave_the_block(self, together: bool) -> None:
        """And go on using it, as those do who do not know yet."""
        self.step(together, self.leave.set, lambda tree: [(None, tree._replace(leaving=not tree.root.stopping))])

    # ---- the end

    def finish(self) -> None:
        """Everybody has been told, and what was sent was handled or is a dead letter, and not both."""
        for at in range(len(NAMES)):
            self.end(at=at, what="work, crash", asks=False, together=False)
        self.leave_the_block(False)
        for name in STOP_ORDER:  # nobody who crashes now is started again
            self.go_on(at=NAMES.index(name), together=False)
        for _ in range(3 * len(NAMES)):
            self.jump()
        assert not self.jobs
        assert left_with(self.block.outcome) in {tree.root.defects for tree in self.worlds}
        for number, sent in self.sent.items():
            assert self.handled[number] + self.dead[number] == sent, number


def left_with(outcome: Any) -> frozenset[int]:
    """What left the block: none of its own errors, and those of what crashed while it was left."""
    match outcome:
        case ("returned", None):
            return frozenset()
        case ("raised", ExceptionGroup() as error):
            return defects_in(error)
    raise AssertionError(f"the block was left by {outcome!r}")


def defects_in(error: Exception) -> frozenset[int]:
    """The numbers of the defects that an error consists of."""
    if isinstance(error, ExceptionGroup):
        return frozenset().union(*map(defects_in, error.exceptions))
    assert isinstance(error, Defect), error
    return frozenset({error.number})


def test_lives_are_their_naive_model(anyio_backend):
    """States, order, restarts and ends are exact; nothing is lost, and nobody who waits is left waiting."""
    run_machine(LifecycleMachine, anyio_backend, times=2)
