"""Asks against a naive model: random histories of three actors that ask each other, on each loop.

Every actor keeps the requests it receives and answers them when it is told to, by a message (in its main task), in a
further task of its own, or at once. What it is told to do may also be to ask, to crash or to return.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import anyio
from anyio.lowlevel import checkpoint
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from rookery import (
    ActorRef,
    ActorState,
    Context,
    Intensity,
    Overflow,
    Request,
    System,
    child,
    message,
    open_system,
)
from stepped import jump
from worlds import WorldMachine, queue_of, run_machine, set_turns

CAPACITY = 2
TIMEOUT = 1
STOP_TIMEOUT = 3
BLINK = 2
"""No ask with a limit waits as long as this; two of these end every grace."""
NAMES = "abc"
ACTORS = st.sampled_from([0, 0, 1, 2])
PRIORITIES = st.sampled_from([128, 128, 0, 255])
ANSWERS = ["reply", "reply", "fail", "forward"]
WHICH = st.integers(0, 2)
LIMITS = st.sampled_from([None, None, "timeout", "scope"])
TOGETHER = st.booleans()
FINAL = {ActorState.STOPPED, ActorState.FAILED}


@message
class Query(Request[int]):
    number: int


@message
class Errand(Request[int]):
    """What an actor's main task is told to do. It is sent, never asked."""

    number: int
    what: str
    which: int = 0


class Defect(Exception):
    """What actors crash with, and what they fail requests with."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


# ---- the model


class Item(NamedTuple):
    """What is in a mailbox: a request if there is nothing else that it wants."""

    number: int
    priority: int = 128
    what: str = "request"
    which: int = 0


class Ask(NamedTuple):
    """A request, from the first step of its asker to the last."""

    number: int
    target: int
    priority: int
    limit: str | None = None
    """Of what its patience is, if it has one: a "timeout" of its own, or the enclosing "scope"."""
    asker: int | None = None
    """The actor whose main task asks."""
    task_of: int | None = None
    """The actor of which a further task asks."""
    stage: str = "new"
    """Then "started", and "arrived" at the mailbox."""
    deadline: float = math.inf
    settled: Any = None
    cancelled: bool = False
    doomed: bool = False
    """Cancelled natively, which nothing can forestall any more."""
    left: bool = False
    waiting: bool = True
    """Whether the call to ``ask`` goes on."""


class Actor(NamedTuple):
    """An actor, or what is left of it."""

    queue: tuple[Item, ...] = ()
    line: tuple[int, ...] = ()
    hand: tuple[int, ...] = ()
    tasks: frozenset[Item] = frozenset()
    held: bool = False
    phase: str = "running"
    """Then "leaving", while its tasks end; and "starting" again, or "stopped", or "failed"."""
    busy: int | None = None
    """What its main task asks."""
    crashing: bool = False
    crashed: bool = False
    stopping: bool = False
    drain: bool = False
    cancel_at: float = math.inf
    received: int = 0
    restarts: int = 0
    dropped: int = 0

    @property
    def closed(self) -> bool:
        return self.stopping or self.phase in {"stopped", "failed"}

    @property
    def state(self) -> str:
        if self.phase in {"stopped", "failed"}:
            return self.phase
        return "stopping" if self.stopping else "paused" if self.held else "running"


class Asking(NamedTuple):
    """Three actors and those who ask them."""

    overflow: Overflow
    actors: tuple[Actor, ...] = (Actor(), Actor(), Actor())
    asks: tuple[Ask, ...] = ()
    stoppers: frozenset[tuple[int, int, bool]] = frozenset()
    now: float = 0.0
    outcomes: frozenset[tuple[int, Any]] = frozenset()
    letters: tuple[tuple[str, int, str], ...] = ()
    """Why, which one, and whose."""

    # ---- what a task may do next

    def moves(self) -> Iterator[Asking]:
        for ask in self.asks:
            if ask.waiting:
                yield from self.moves_of_asker(ask)
        for at, actor in enumerate(self.actors):
            yield from self.moves_of_line(at, actor)
            yield from self.moves_of_actor(at, actor)
        for stopper in self.stoppers:
            yield from self.moves_of_stopper(*stopper)

    def inevitable(self) -> Asking | None:
        for at, actor in enumerate(self.actors):
            if actor.phase == "starting":
                return self.with_actor(at, phase="running")
        for ask in self.asks:
            if ask.waiting and ask.asker is ask.task_of is None and not (ask.cancelled or ask.deadline <= self.now):
                if ask.stage == "new":
                    return self.with_ask(ask, stage="started", deadline=self.deadline_of(ask))
                if ask.settled is not None:
                    return self.finished(ask, ask.settled)
        return None

    def moves_of_asker(self, ask: Ask) -> Iterator[Asking]:
        late = ask.deadline <= self.now
        if ask.cancelled or (late and ask.limit == "scope"):
            yield self.abandoned(ask)
        if ask.doomed:
            return
        if ask.stage == "new":
            yield self.with_ask(ask, stage="started", deadline=self.deadline_of(ask))
        elif ask.stage == "started":
            yield self.arrives(ask)
        if ask.settled is not None:
            yield self.finished(ask, ask.settled)
        if late and ask.limit == "timeout" and ask.stage == "arrived" and ask.settled is None:
            if ask.number in self.actors[ask.target].line:
                yield self.finished(ask, "AskTimeout")
            else:
                yield self.with_ask(ask, settled="AskTimeout", left=True)

    def moves_of_line(self, at: int, actor: Actor) -> Iterator[Asking]:
        if actor.line and actor.closed:
            for ask in map(self.ask, actor.line):
                if not ask.doomed:
                    yield self.finished(ask, "ActorStopped")
        elif actor.line and len(actor.queue) < CAPACITY and not self.ask(actor.line[0]).doomed:
            first = self.ask(actor.line[0])
            yield self.with_actor(at, line=actor.line[1:]).pushed(at, Item(first.number, first.priority))

    def moves_of_actor(self, at: int, actor: Actor) -> Iterator[Asking]:
        if actor.phase == "starting":
            yield self.with_actor(at, phase="running")
        elif actor.phase == "leaving":
            if all(ask.task_of != at or not ask.waiting for ask in self.asks):
                yield self.left(at)
        elif actor.phase == "running":
            for task in actor.tasks:
                yield self.with_actor(at, tasks=actor.tasks - {task}).acted(at, task, in_main=False)
            if actor.crashing or actor.cancel_at <= self.now:
                yield self.main_cancelled(at)
            elif actor.busy is None and actor.stopping and not (actor.drain and actor.queue):
                yield self.leaves(at)
            elif actor.busy is None and actor.queue and not actor.held:
                yield self.receives(at)
            if actor.crashing and actor.busy is None and actor.queue and not actor.held and not actor.stopping:
                yield self.receives(at)  # it had been woken for that before

    def moves_of_stopper(self, number: int, at: int, drain: bool) -> Iterator[Asking]:
        if self.actors[at].phase in {"stopped", "failed"}:
            done = self._replace(stoppers=self.stoppers - {(number, at, drain)})
            yield done._replace(outcomes=self.outcomes | {(number, None)})
        elif not self.actors[at].stopping:
            yield self.stopped(at, drain)

    # ---- asking

    def arrives(self, ask: Ask) -> Asking:
        there = self.with_ask(ask, stage="arrived")
        outcome, after = there.offered(ask.target, Item(ask.number, ask.priority))
        if outcome == "MailboxFull" and self.overflow is Overflow.BLOCK:
            return there.with_actor(ask.target, line=(*self.actors[ask.target].line, ask.number))
        return after if outcome is None else there.finished(ask, outcome)

    def finished(self, ask: Ask, outcome: Any) -> Asking:
        """The call to ``ask`` returns or raises."""
        line = tuple(number for number in self.actors[ask.target].line if number != ask.number)
        after = self.with_actor(ask.target, line=line).with_ask(ask, waiting=False)
        if ask.asker is not None:
            after = after.with_actor(ask.asker, busy=None)
        return after._replace(outcomes=self.outcomes | {(ask.number, outcome)})

    def abandoned(self, ask: Ask) -> Asking:
        after = self.finished(ask, "cancelled").with_ask(ask, left=True)
        return after.letter("LATE_REPLY", ask.settled, ask.target) if isinstance(ask.settled, int) else after

    def deadline_of(self, ask: Ask) -> float:
        """As it is seen in the asking task's first step; that of a cancelled scope has passed."""
        main = None if ask.asker is None else self.actors[ask.asker]
        if ask.cancelled or (main is not None and (main.crashing or main.cancel_at <= self.now)):
            return -math.inf
        return math.inf if ask.limit is None else self.now + TIMEOUT

    def settle(self, number: int, outcome: Any, by: int | None = None) -> Asking:
        """An answer or a failure. If nobody waits for one that an actor gives, it is a dead letter."""
        ask = self.ask(number)
        if ask.settled is None and not ask.left:
            return self.with_ask(ask, settled=outcome)
        return self if by is None else self.letter("LATE_REPLY", number, by)

    def closes_circle(self, asker: int, target: int) -> bool:
        at: int | None = target
        while at is not None and at != asker:
            busy = self.actors[at].busy
            ask = None if busy is None else self.ask(busy)
            at = None if ask is None or ask.settled is not None else ask.target
        return at == asker

    # ---- mailboxes

    def offered(self, at: int, item: Item) -> tuple[str | None, Asking]:
        actor = self.actors[at]
        if actor.closed:
            return "ActorStopped", self
        if not actor.line and len(actor.queue) < CAPACITY:
            return None, self.pushed(at, item)
        least = min((other.priority for other in actor.queue), default=item.priority)
        if self.overflow is Overflow.DROP_NEWEST or (self.overflow is Overflow.DROP_OLDEST and item.priority < least):
            return None, self.drop(at, item, "DROPPED_NEWEST")
        if self.overflow is Overflow.DROP_OLDEST:
            victim = next(other for other in actor.queue if other.priority == least)
            queue = tuple(other for other in actor.queue if other != victim)
            return None, self.with_actor(at, queue=queue).drop(at, victim, "DROPPED_OLDEST").pushed(at, item)
        return "MailboxFull", self

    def pushed(self, at: int, item: Item) -> Asking:
        queue = self.actors[at].queue
        before = tuple(other for other in queue if other.priority >= item.priority)
        return self.with_actor(at, queue=(*before, item, *(other for other in queue if other.priority < item.priority)))

    def drop(self, at: int, item: Item, reason: str) -> Asking:
        after = self.with_actor(at, dropped=self.actors[at].dropped + 1).letter(reason, item.number, at)
        return after.settle(item.number, "MailboxFull") if item.what == "request" else after

    # ---- actors

    def receives(self, at: int) -> Asking:
        actor = self.actors[at]
        item = actor.queue[0]
        after = self.with_actor(at, queue=actor.queue[1:])
        if item.what != "request":
            return after.with_actor(at, received=actor.received + 1).acted(at, item, in_main=True)
        ask = self.ask(item.number)
        if ask.left or ask.deadline <= self.now:
            return after.letter("EXPIRED" if ask.deadline <= self.now else "ABANDONED", item.number, at)
        return after.with_actor(at, received=actor.received + 1, hand=(*actor.hand, item.number))

    def acted(self, at: int, item: Item, in_main: bool) -> Asking:
        """An actor does what it is told."""
        match item.what:
            case "crash" if in_main:
                return self.with_actor(at, crashing=True).leaves(at)
            case "crash":
                return self.with_actor(at, crashing=True)
            case "return":
                return self.leaves(at)
            case "ask" if in_main:
                return self.asks_in_main(at, item)
            case "ask":
                ask = Ask(-item.number, item.which % len(self.actors), 128, task_of=at)
                return self._replace(asks=(*self.asks, ask))
            case _:
                return self.answered(at, item)[1]

    def asks_in_main(self, at: int, item: Item) -> Asking:
        target = item.which % len(self.actors)
        if self.closes_circle(at, target):
            return self._replace(outcomes=self.outcomes | {(-item.number, "AskCycle")})
        ask = Ask(-item.number, target, 128, asker=at)
        return self.with_actor(at, busy=ask.number)._replace(asks=(*self.asks, ask))

    def answered(self, at: int, item: Item) -> tuple[Any, Asking]:
        """One of the requests in hand is answered, if there are any and its main task has not left."""
        actor = self.actors[at]
        if actor.phase != "running" or not actor.hand:
            return "nothing", self
        number = actor.hand[item.which % len(actor.hand)]
        ask = self.ask(number)
        if item.what == "abandoned":
            return ask.left or ask.deadline <= self.now, self
        after = self.with_actor(at, hand=tuple(other for other in actor.hand if other != number))
        if item.what == "forward":
            return number, after.forwarded(ask, (at + 1) % len(self.actors))
        return number, after.settle(number, number if item.what == "reply" else "Defect", by=at)

    def forwarded(self, ask: Ask, to: int) -> Asking:
        if ask.asker is not None and ask.settled is None and ask.waiting and self.closes_circle(ask.asker, to):
            return self.settle(ask.number, "AskCycle")
        sent = self.with_ask(ask, target=to)
        outcome, after = sent.offered(to, Item(ask.number, ask.priority))
        return after if outcome is None else sent.settle(ask.number, outcome)

    def stopped(self, at: int, drain: bool) -> Asking:
        """A stop is asked for."""
        actor = self.actors[at]
        if actor.closed:
            return self
        held = actor.held and not drain
        return self.with_actor(at, stopping=True, drain=drain, held=held, cancel_at=self.now + STOP_TIMEOUT)

    def main_cancelled(self, at: int) -> Asking:
        busy = self.actors[at].busy
        return (self if busy is None else self.abandoned(self.ask(busy))).leaves(at)

    def leaves(self, at: int) -> Asking:
        """The main task is over."""
        actor = self.actors[at]
        asks = tuple(ask._replace(cancelled=True) if ask.task_of == at and ask.waiting else ask for ask in self.asks)
        after = self._replace(asks=asks)
        return after.with_actor(at, phase="leaving", crashed=actor.crashing, crashing=False, tasks=frozenset())

    def left(self, at: int) -> Asking:
        """The incarnation is over."""
        actor = self.actors[at]
        after = self.with_actor(at, hand=())
        for number in actor.hand:
            after = after.settle(number, "ActorCrashed" if actor.crashed else "ActorStopped")
        if actor.crashed and not actor.stopping:
            return after.with_actor(at, phase="starting", crashed=False, restarts=actor.restarts + 1)
        for item in actor.queue:
            after = after.letter("UNREAD", item.number, at)
            after = after.settle(item.number, "ActorStopped") if item.what == "request" else after
        return after.with_actor(at, queue=(), phase="failed" if actor.crashed else "stopped")

    def revived(self, at: int) -> Asking:
        return self._replace(actors=(*self.actors[:at], Actor(), *self.actors[at + 1 :]))

    # ---- small ones

    def ask(self, number: int) -> Ask:
        return next(ask for ask in self.asks if ask.number == number)

    def with_ask(self, ask: Ask, **changes: Any) -> Asking:
        asks = tuple(old._replace(**changes) if old.number == ask.number else old for old in self.asks)
        return self._replace(asks=asks)

    def with_actor(self, at: int, **changes: Any) -> Asking:
        changed = self.actors[at]._replace(**changes)
        return self._replace(actors=(*self.actors[:at], changed, *self.actors[at + 1 :]))

    def letter(self, reason: str, number: int, at: int) -> Asking:
        return self._replace(letters=tuple(sorted((*self.letters, (reason, number, f"/{NAMES[at]}")))))

    # ---- what can be seen of it

    def look(self) -> dict[str, Any]:
        return {
            "outcomes": sorted(self.outcomes),
            "letters": list(self.letters),
            **{name: _seen_of(actor) for name, actor in zip(NAMES, self.actors, strict=True)},
        }

    def forget(self) -> Asking:
        known = {item.number for actor in self.actors for item in actor.queue}
        known.update(number for actor in self.actors for number in actor.hand)
        asks = tuple(ask for ask in self.asks if ask.waiting or ask.number in known)
        return self._replace(asks=asks, outcomes=frozenset(), letters=())


def _seen_of(actor: Actor) -> tuple[Any, ...]:
    return (
        actor.state,
        f"queue {[item.number for item in actor.queue]}",
        f"{len(actor.line)} blocked",
        f"hand {[*actor.hand]}",
        f"{len(actor.hand)} unanswered",
        f"{actor.received} received",
        f"{actor.restarts} restarts",
        f"{actor.dropped} dropped",
    )


# ---- the real thing


class Desk:
    """Where the test reaches one actor: its context, and the requests in its hand."""

    def __init__(self, machine: AskMachine, at: int) -> None:
        self.machine = machine
        self.at = at
        self.context: Context[Query | Errand] | None = None
        self.hand: list[Query] = []

    async def behave(self, ctx: Context[Query | Errand]) -> None:
        self.context = ctx
        try:
            async for received in ctx:
                if isinstance(received, Query):
                    self.hand.append(received)
                elif received.what == "return":
                    return
                elif received.what == "ask":
                    await self.machine.ask_as_actor(received)
                else:
                    self.act(received)
        finally:
            self.hand = []

    def act(self, errand: Errand) -> Any:
        """What can be done in any task of the actor."""
        if errand.what == "crash":
            raise Defect(errand.number)
        if not self.hand:
            return "nothing"
        ctx = self.context
        assert ctx is not None
        request = self.hand[errand.which % len(self.hand)]
        if errand.what == "abandoned":
            return ctx.abandoned(request)
        self.hand = [other for other in self.hand if other is not request]
        match errand.what:
            case "reply":
                ctx.reply(request, request.number)
            case "fail":
                ctx.fail(request, Defect(request.number))
            case _:
                ctx.forward(request, self.machine.refs[(self.at + 1) % len(self.machine.refs)])
        return request.number

    def start_soon(self, errand: Errand) -> None:
        """In a further task of the actor."""

        async def act() -> None:
            await checkpoint()
            if errand.what == "ask":
                await self.machine.ask_as_actor(errand)
            else:
                self.act(errand)

        assert self.context is not None
        self.context.start_soon(act)


class AskMachine(WorldMachine):
    """Three real actors."""

    at_once = 4

    @initialize(
        overflow=st.sampled_from([Overflow.BLOCK, Overflow.BLOCK, *Overflow]),
        short_turns=TOGETHER,
        paused=st.sets(ACTORS),
    )
    def open(self, overflow: Overflow, short_turns: bool, paused: set[int]) -> None:
        """With short turns every task gives way before each message; what is paused is soon full."""
        self.begin(Asking(overflow))
        self.overflow = overflow
        self.letters = 0
        self.told: list[tuple[int, Any]] = []
        self.askers: list[int] = []
        self.stepped.run(self._open, itertools.count() if short_turns else itertools.repeat(0.0))
        for at in paused:
            self.pause(at, True, False)

    async def _open(self, clock: Iterator[float]) -> None:
        self.leave = anyio.Event()
        self.opened = anyio.Event()
        self.block = self.stepped.start(lambda: self._block(clock))
        await self.opened.wait()

    async def _block(self, clock: Iterator[float]) -> None:
        async with open_system(intensity=Intensity(10**6, per=1.0)) as system:
            set_turns(system, clock)
            self.system: System = system
            self.desks = [Desk(self, at) for at in range(3)]
            self.specs = [
                child(desk.behave).options(
                    name=name, capacity=CAPACITY, overflow=self.overflow, stop_timeout=STOP_TIMEOUT
                )
                for name, desk in zip(NAMES, self.desks, strict=True)
            ]
            self.refs: list[ActorRef[Any]] = [spec.ref for spec in self.specs]
            for spec in self.specs:
                await system.spawn(spec)
            self.opened.set()
            await self.leave.wait()

    def release(self) -> None:
        self.leave.set()

    def look(self) -> dict[str, Any]:
        told, self.told = self.told, []
        outcomes = sorted([*self.done_jobs(), *told])
        self.askers = [number for number in self.askers if number in self.jobs]
        return {
            "outcomes": outcomes,
            "letters": self.new_letters(),
            **{ref.name: self.seen_of(at) for at, ref in enumerate(self.refs)},
        }

    def new_letters(self) -> list[tuple[str, int, str]]:
        dead = self.system.dead_letters
        total = dead.statistics().total
        new = dead.recent[len(dead.recent) - (total - self.letters) :]
        self.letters = total
        return sorted((letter.reason.name, _number(letter.message), letter.actor) for letter in new)

    def seen_of(self, at: int) -> tuple[Any, ...]:
        ref = self.refs[at]
        seen = ref.statistics()
        assert seen.queued == len(queue_of(ref))
        return (
            seen.state.value,
            f"queue {queue_of(ref)}",
            f"{seen.blocked_senders} blocked",
            f"hand {[request.number for request in self.desks[at].hand]}",
            f"{seen.unanswered} unanswered",
            f"{seen.received} received",
            f"{seen.restarts} restarts",
            f"{seen.dropped} dropped",
        )

    # ---- asking

    @precondition(lambda self: len(self.jobs) < 4)
    @rule(at=ACTORS, priorities=st.lists(PRIORITIES, min_size=1, max_size=2), limit=LIMITS, together=TOGETHER)
    def ask(self, at: int, priorities: list[int], limit: str | None, together: bool) -> None:
        """Once with each priority, in tasks that are no actor's."""
        for left, priority in reversed(list(enumerate(priorities))):
            self.ask_once(at, priority, limit, together or left > 0)

    def ask_once(self, at: int, priority: int, limit: str | None, together: bool) -> None:

        async def use() -> Any:
            with anyio.move_on_after(TIMEOUT if limit == "scope" else math.inf):
                timeout = TIMEOUT if limit == "timeout" else None
                return await self.refs[at].ask(Query(number), priority=priority, timeout=timeout)
            return "cancelled"

        number = self.next_number()
        ask = Ask(number, at, priority, limit)
        self.askers.append(number)
        self.step(
            together,
            lambda: self.start(number, use),
            lambda world: [(None, world._replace(asks=(*world.asks, ask)))],
        )

    async def ask_as_actor(self, errand: Errand) -> None:
        """What an actor does with an errand to ask."""
        number, ref = -errand.number, self.refs[errand.which % len(self.refs)]
        outcome: Any = "cancelled"
        try:
            outcome = await ref.ask(Query(number))
        except Exception as error:  # noqa: BLE001  # the model knows which
            outcome = type(error).__name__
        finally:
            self.told.append((number, outcome))

    @precondition(lambda self: self.askers)
    @rule(which=st.sampled_from([0, 1, 2, -1]), native=TOGETHER, together=TOGETHER)
    def cancel(self, which: int, native: bool, together: bool) -> None:
        """One who asks; the oldest is number 0."""
        self.cancel_asker(self.askers[which % len(self.askers)], native, together)

    def cancel_asker(self, number: int, native: bool, together: bool) -> None:
        def model(world: Asking) -> list[tuple[str, Asking]]:
            ask = next((ask for ask in world.asks if ask.number == number and ask.waiting), None)
            if ask is None:
                return [("scope", world), ("native", world)]
            cancelled = world.with_ask(ask, cancelled=True)
            return [("scope", cancelled), ("native", cancelled.with_ask(ask, doomed=True))]

        self.step(together, lambda: self.cancel_job(number, native), model)

    @rule(together=TOGETHER)
    def time_out(self, together: bool) -> None:
        """Whoever waits with a limit has waited long enough."""
        self.step(together, lambda: jump(BLINK), lambda world: [(None, world._replace(now=world.now + BLINK))])

    @rule()
    def tick(self) -> None:
        self.a_tick()

    # ---- what actors are told

    @rule(
        at=ACTORS,
        what=st.sampled_from([*ANSWERS, "ask", "ask", "crash", "return"]),
        which=WHICH,
        priority=PRIORITIES,
        together=TOGETHER,
    )
    def tell(self, at: int, what: str, which: int, priority: int, together: bool) -> None:
        """By a message, which its main task acts on."""

        def model(world: Asking) -> list[tuple[str | None, Asking]]:
            return [world.offered(at, Item(number, priority, what, which))]

        number = self.next_number()
        errand = Errand(number, what, which)
        self.step(together, lambda: self.refs[at].send_nowait(errand, priority=priority), model)

    @rule(at=ACTORS, which=WHICH, together=TOGETHER)
    def tell_to_ask(self, at: int, which: int, together: bool) -> None:
        """Its main task asks, which may close a circle."""
        self.tell(at=at, what="ask", which=which, priority=255, together=together)

    @rule(at=ACTORS, what=st.sampled_from([*ANSWERS, "ask", "ask", "crash"]), which=WHICH, together=TOGETHER)
    def tell_a_task(self, at: int, what: str, which: int, together: bool) -> None:
        """A further task of the actor acts on it."""

        def model(world: Asking) -> list[tuple[str | None, Asking]]:
            if world.actors[at].phase != "running":
                return [("ActorStopped", world)]
            item = Item(number, 128, what, which)
            return [(None, world.with_actor(at, tasks=world.actors[at].tasks | {item}))]

        number = self.next_number()
        errand = Errand(number, what, which)
        self.step(together, lambda: self.desks[at].start_soon(errand), model)

    @rule(at=ACTORS, what=st.sampled_from([*ANSWERS, "abandoned"]), which=WHICH, together=TOGETHER)
    def answer(self, at: int, what: str, which: int, together: bool) -> None:
        """At once."""
        item = Item(0, 128, what, which)
        errand = Errand(0, what, which)
        self.step(together, lambda: self.desks[at].act(errand), lambda world: [world.answered(at, item)])

    @rule(at=ACTORS, what=st.sampled_from(ANSWERS), native=TOGETHER, answer_first=TOGETHER, together=TOGETHER)
    def answer_and_cancel(self, at: int, what: str, native: bool, answer_first: bool, together: bool) -> None:
        """An answer comes in the tick in which its asker is cancelled."""
        hand = [request.number for request in self.desks[at].hand]
        if not hand or hand[0] not in self.askers:
            return
        if answer_first:
            self.answer(at=at, what=what, which=0, together=True)
        self.cancel_asker(hand[0], native, together or not answer_first)
        if not answer_first:
            self.answer(at=at, what=what, which=0, together=together)

    # ---- their lives

    @rule(at=ACTORS, paused=TOGETHER, together=TOGETHER)
    def pause(self, at: int, paused: bool, together: bool) -> None:
        """Or resume. Both are checkpoints, and act after it."""

        def model(world: Asking) -> list[tuple[str | None, Asking]]:
            return [("ActorStopped", world) if world.actors[at].closed else (None, world.with_actor(at, held=paused))]

        ref = self.refs[at]
        self.step(together, lambda: ref.pause() if paused else ref.resume(), model, after_others=True)

    @precondition(lambda self: self.number > 20)
    @rule(at=ACTORS, how=st.sampled_from(["soon", "wait", "drain"]), together=TOGETHER)
    def stop(self, at: int, how: str, together: bool) -> None:
        if how == "soon":
            self.step(together, self.refs[at].stop_soon, lambda world: [(None, world.stopped(at, False))])
            return
        drain = how == "drain"
        number = self.next_number()
        self.step(
            together,
            lambda: self.start(number, lambda: self.refs[at].stop(drain=drain)),
            lambda world: [(None, world._replace(stoppers=world.stoppers | {(number, at, drain)}))],
        )

    @precondition(lambda self: any(ref.state in FINAL for ref in self.refs))
    @rule()
    def revive(self) -> None:
        """Those that have ended are spawned again."""
        self.rest()
        for at, ref in enumerate(self.refs):
            if ref.state in FINAL:
                self.step(False, functools.partial(self.respawn, at), lambda world, at=at: [(None, world.revived(at))])

    async def respawn(self, at: int) -> None:
        await self.system.spawn(self.specs[at])

    # ---- the end

    def finish(self) -> None:
        """When all actors have ended, nobody waits for an answer."""
        for at in reversed(range(3)):
            self.stop(at, "soon", False)
        self.time_out(False)
        self.time_out(False)
        assert not self.jobs
        self.stepped.run(self.release)
        assert self.block.outcome == ("returned", None)


def _number(message: Any) -> int:
    return message if isinstance(message, int) else message.number


def test_asks_are_their_naive_model(anyio_backend):
    """Every ask ends once, with the outcome that the history allows; what nobody serves is a dead letter."""
    run_machine(AskMachine, anyio_backend, times=3)
