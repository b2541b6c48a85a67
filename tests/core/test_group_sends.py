"""Whoever has to end before an actor begins again does not wait for room in its mailbox, nor for a start after its own end."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar, cast

import anyio
import pytest

from family import until_restarted
from rookery import (
    ActorRef,
    ActorState,
    ActorStopped,
    ChildSpec,
    Context,
    Overflow,
    Request,
    Restart,
    Strategy,
    SupervisorRef,
    child,
    message,
    open_system,
)
from rookery._core._parking import current_loop
from rookery._core.deadlines import Deadlines
from rookery._core.mailbox import Mailbox
from rookery._core.turn import Turn
from rookery._core.within import within_actor
from support import settle

WAITS = ["send", "ask for room", "ask timed", "ask queued"]
TOLD = ("cannot wait for room in its mailbox", "takes no more messages", "cannot wait for its answer")


F = TypeVar("F", bound=Callable[..., Any])


def in_time(test: F) -> F:
    """A deadlock fails the test."""

    @functools.wraps(test)
    async def timed(*args: Any, **kwargs: Any) -> None:
        with anyio.fail_after(5):
            await test(*args, **kwargs)

    return cast("F", timed)


@message
class Question(Request[str]):
    pass


class Pipeline:
    """A sink that does not receive before it has been restarted, and a source that waits for it."""

    def __init__(self, how: str, *, place: str = "itself", restart: Restart = Restart.TRANSIENT) -> None:
        self.how = how
        self.place = place
        self.told: list[str] = []
        self.received: list[object] = []
        self.crash = anyio.Event()
        self.sink: ChildSpec[Any] = child(self.drains).options(name="sink", capacity=1)
        self.source: ChildSpec[Any] = child(self.pours).options(
            name="source", stop_timeout=math.inf, restart=restart, capacity=1
        )

    async def drains(self, ctx: Context[Any]) -> None:
        if ctx.incarnation == 1:
            ctx.ready()
            await self.crash.wait()
            raise ValueError
        async for item in ctx:
            self.received.append(item)
            if isinstance(item, Question):
                ctx.reply(item, "yes")

    async def pours(self, ctx: Context[Any]) -> None:
        ctx.ready()
        if not self.told:
            if self.place == "its child":
                await ctx.spawn(child(self.kid).options(stop_timeout=math.inf))
            elif self.place == "its task":
                done = anyio.Event()
                ctx.start_soon(self.wait_and_tell, done)
                await done.wait()
            else:
                await self.wait()
        await ctx.wait_stopping()

    async def kid(self, ctx: Context[Any]) -> None:
        ctx.ready()
        await self.wait()
        await ctx.wait_stopping()

    async def wait_and_tell(self, done: anyio.Event) -> None:
        await self.wait()
        done.set()

    async def wait(self, to: ActorRef[Any] | None = None) -> None:
        ref = self.sink.ref if to is None else to
        try:
            if self.how != "ask queued":
                await ref.send("fits")
            if self.how == "send":
                await ref.send("does not fit")
            else:
                await ref.ask(Question(), timeout=3600 if self.how == "ask timed" else None)
            self.told.append("through")
        except ActorStopped as error:
            self.told.append(str(error))

    def check_told(self) -> None:
        assert len(self.told) == 1, self.told
        assert self.told[0].endswith(TOLD)
        assert self.received == ([] if self.how == "ask queued" else ["fits"])


@pytest.mark.parametrize("how", WAITS)
@pytest.mark.parametrize("place", ["itself", "its child"])
@pytest.mark.parametrize("strategy", [Strategy.ONE_FOR_ALL, Strategy.REST_FOR_ONE])
@in_time
async def test_back_pressure_in_a_group_does_not_keep_it_from_its_restart(
    strategy: Strategy, place: str, how: str
) -> None:
    """What did fit is received by the next incarnation; who waits to add more is told, however long its grace is."""
    line = Pipeline(how, place=place)
    async with open_system() as system:
        await system.supervise(line.sink, line.source, strategy=strategy)
        await settle()
        line.crash.set()
        await until_restarted(line.sink.ref)
        await until_restarted(line.source.ref)
        line.check_told()


@pytest.mark.parametrize("how", WAITS[:3])
@in_time
async def test_a_further_task_is_told_as_well(how: str) -> None:
    """The main task may be waiting for it."""
    line = Pipeline(how, place="its task")
    async with open_system() as system:
        await system.supervise(line.sink, line.source, strategy=Strategy.ONE_FOR_ALL)
        await settle()
        line.crash.set()
        await until_restarted(line.source.ref)
        line.check_told()


@pytest.mark.parametrize("how", WAITS)
@pytest.mark.parametrize("before", ["temporary", "stopped", "removed", "restarted"])
@in_time
async def test_who_leaves_for_another_reason_is_told_as_well(before: str, how: str) -> None:
    """A TEMPORARY member, and those that are being stopped already, on request or for a restart of their own."""
    line = Pipeline(how, restart=Restart.TEMPORARY if before == "temporary" else Restart.TRANSIENT)
    async with open_system() as system, anyio.create_task_group() as tasks:
        sup = await system.supervise(line.sink, line.source, strategy=Strategy.ONE_FOR_ALL)
        await settle()
        calls: dict[str, Callable[..., Any]] = {
            "stopped": line.source.ref.stop,
            "removed": partial(sup.remove_child, line.source.ref),
            "restarted": partial(sup.restart_child, line.source.ref),
        }
        if before in calls:
            tasks.start_soon(calls[before])
            await settle()
        line.crash.set()
        await until_restarted(line.sink.ref)
        line.check_told()
        assert line.source.ref.state is (ActorState.RUNNING if before == "restarted" else ActorState.STOPPED)


@pytest.mark.parametrize("how", WAITS)
@pytest.mark.parametrize("before", ["", "stopped"])
@in_time
async def test_who_waits_for_a_sibling_that_is_told_later_is_told_then(before: str, how: str) -> None:
    """The sink did not crash: it is stopped when who started after it is down."""
    line = Pipeline(how)

    async def drains(ctx: Context[Any]) -> None:
        ctx.ready()
        await ctx.wait_stopping()

    async def crashes(ctx: Context[Any]) -> None:
        raise await ctx.receive()

    line.sink = child(drains).options(name="sink", capacity=1)
    crasher = child(crashes)
    async with open_system() as system:
        await system.supervise(line.source, line.sink, child(idle), crasher, strategy=Strategy.ONE_FOR_ALL)
        await settle()
        if before == "stopped":
            line.source.ref.stop_soon()
            await settle()
        await crasher.ref.send(ValueError())
        await until_restarted(line.sink.ref)
        assert len(line.told) == 1
        assert line.told[0].endswith(TOLD)


@pytest.mark.parametrize("how", WAITS[:3])
@in_time
async def test_a_cleanup_does_not_wait_for_room_but_uses_what_there_is(how: str) -> None:
    """The first message fits and is for the next incarnation; the one that would have to wait is refused at once."""
    line = Pipeline(how)

    async def cleans_up(ctx: Context[Any]) -> None:
        await ctx.wait_stopping()
        if not line.told:
            await line.wait()

    line.source = child(cleans_up).options(stop_timeout=math.inf)
    async with open_system() as system:
        await system.supervise(line.sink, line.source, strategy=Strategy.ONE_FOR_ALL)
        line.crash.set()
        await until_restarted(line.sink.ref)
        line.check_told()


@pytest.mark.parametrize("how", WAITS)
@pytest.mark.parametrize("place", ["itself", "its child"])
@in_time
async def test_an_actor_that_crashed_does_not_wait_for_who_waits_below_it(place: str, how: str) -> None:
    """Its children end before it begins again, so they are told."""
    line = Pipeline(how, place=place)

    async def owner(ctx: Context[Any]) -> None:
        if ctx.incarnation == 1:
            ctx.ready()
            await ctx.spawn(line.source)
            await line.crash.wait()
            raise ValueError
        async for item in ctx:
            line.received.append(item)

    line.sink = child(owner).options(capacity=1)
    async with open_system() as system:
        await system.spawn(line.sink)
        await settle()
        line.crash.set()
        await until_restarted(line.sink.ref)
        line.check_told()


@in_time
async def test_all_others_wait_across_the_restart_and_come_in_in_turn() -> None:
    """A sibling that started earlier and whoever sends from outside; one that is refused leaves the order as it was."""
    line = Pipeline("send")

    async def earlier(ctx: Context[Any]) -> None:
        ctx.ready()
        await ctx.receive()
        await line.sink.ref.send("earlier")
        await ctx.wait_stopping()

    first = child(earlier)
    async with open_system() as system, anyio.create_task_group() as tasks:
        await system.supervise(first, line.sink, line.source, strategy=Strategy.REST_FOR_ONE)
        await settle()
        for item in range(3):
            tasks.start_soon(line.sink.ref.send, item)
            await settle()
        await first.ref.send("go")
        await settle()
        line.crash.set()
        await until_restarted(line.source.ref)
        assert line.received == ["fits", 0, 1, 2, "earlier"]
        assert line.told[0].endswith(TOLD)


@in_time
async def test_an_actor_of_another_system_with_the_same_path_waits() -> None:
    """Paths tell actors apart within a system only."""
    line, other = Pipeline("send"), Pipeline("send")
    other.sink = line.sink
    async with open_system() as system, open_system() as another:
        await system.supervise(line.sink, child(idle).options(name="source"), strategy=Strategy.ONE_FOR_ALL)
        await another.supervise(child(idle), other.source, strategy=Strategy.ONE_FOR_ALL)
        await settle()
        line.crash.set()
        await until_restarted(line.sink.ref)
        assert (other.told, line.received) == (["through"], ["fits", "does not fit"])


# ---- starts


async def idle(ctx: Context[Any]) -> None:
    await ctx.wait_stopping()


class Starts:
    """A member of a group that wants its own supervisor to start somebody."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.told: list[str] = []
        self.sup: SupervisorRef | None = None
        self.crasher: ChildSpec[Any] = child(self.crashes).options(name="crasher")
        self.go = anyio.Event()

    async def crashes(self, ctx: Context[Any]) -> None:
        raise await ctx.receive()

    async def start(self) -> None:
        assert self.sup is not None
        try:
            if self.what == "spawn":
                await self.sup.spawn(child(never_ready).options(stop_timeout=0))
            elif self.what == "supervise":
                await self.sup.supervise(child(never_ready).options(stop_timeout=0))
            else:
                await self.sup.restart_child(self.crasher.ref)
            self.told.append("through")
        except ActorStopped as error:
            self.told.append(str(error))

    async def cleans_up(self, ctx: Context[Any]) -> None:
        await ctx.wait_stopping()
        if not self.told:
            await self.start()

    async def runs(self, ctx: Context[Any]) -> None:
        ctx.ready()
        await self.go.wait()
        if not self.told:
            await self.start()
        await ctx.wait_stopping()


async def never_ready(ctx: Context[Any]) -> None:
    await anyio.sleep_forever()


@pytest.mark.parametrize("what", ["spawn", "supervise", "restart_child"])
@in_time
async def test_a_member_that_has_to_go_is_refused_a_start_that_comes_after(what: str) -> None:
    """It would wait for its own end."""
    starts = Starts(what)
    member = child(starts.cleans_up).options(name="member", stop_timeout=math.inf)
    async with open_system() as system:
        starts.sup = await system.supervise(starts.crasher, member, strategy=Strategy.ONE_FOR_ALL)
        await starts.crasher.ref.send(ValueError())
        await until_restarted(member.ref)
        (told,) = starts.told
        assert told.startswith(
            "/supervisor/member is stopped because it, or who is above it, is restarted with its siblings"
        )


@pytest.mark.parametrize("what", ["spawn", "supervise"])
@in_time
async def test_a_start_that_is_under_way_is_given_up_by_who_has_to_go(what: str) -> None:
    """The one that was being started is taken down again, as after any spawn that raises."""
    starts = Starts(what)
    member = child(starts.runs).options(name="member", stop_timeout=math.inf)
    async with open_system() as system:
        starts.sup = await system.supervise(starts.crasher, member, strategy=Strategy.ONE_FOR_ALL)
        starts.go.set()
        await settle()
        await starts.crasher.ref.send(ValueError())
        await until_restarted(member.ref)
        assert "is restarted with its siblings" in starts.told[0]
        assert [ref.name for ref in starts.sup.children()] == ["crasher", "member"]


@in_time
async def test_a_member_that_stays_may_wait_for_a_start() -> None:
    """An earlier sibling's spawn comes after the restart of those that have to go."""
    starts = Starts("spawn")
    spawned: list[ActorRef[Any]] = []

    async def earlier(ctx: Context[Any]) -> None:
        ctx.ready()
        await starts.go.wait()
        assert starts.sup is not None
        spawned.append(await starts.sup.spawn(idle_and_ready))
        await ctx.wait_stopping()

    async def slow(ctx: Context[Any]) -> None:
        await ctx.wait_stopping()
        if ctx.incarnation == 1:
            starts.go.set()
            await settle()

    async def idle_and_ready(ctx: Context[Any]) -> None:
        ctx.ready()
        await ctx.wait_stopping()

    async with open_system() as system:
        starts.sup = await system.supervise(child(earlier), starts.crasher, child(slow), strategy=Strategy.REST_FOR_ONE)
        await starts.crasher.ref.send(ValueError())
        await until_restarted(starts.crasher.ref)
        await settle()
        assert [ref.state for ref in spawned] == [ActorState.RUNNING]


# ---- the mailbox


class Refused(Exception):
    """What a refused sender gets here."""


def dropped(item: str, priority: int, why: object) -> None:
    pytest.fail(f"{item} was dropped, with priority {priority}: {why}")


class Senders:
    """A mailbox of one place, which is taken, and senders that wait for it; each is an actor of its own."""

    def __init__(self) -> None:
        loop = current_loop()
        self.box: Mailbox[str] = Mailbox(loop, Turn(loop), capacity=1, overflow=Overflow.BLOCK, discard=dropped)
        self.outcomes: list[str] = []
        self.scopes: dict[str, anyio.CancelScope] = {}

    async def put(self, item: str) -> None:
        within_actor.set(cast("Any", item))
        self.scopes[item] = anyio.CancelScope()
        with self.scopes[item] as scope:
            try:
                await self.box.put(item)
                self.outcomes.append(f"{item} through")
            except Refused:
                self.outcomes.append(f"{item} refused")
        if scope.cancelled_caught:
            self.outcomes.append(f"{item} cancelled")

    def refuse(self, refused: str) -> None:
        self.box.refuse(lambda actor: Refused() if cast("Any", actor) in refused else None)


@pytest.mark.parametrize(
    "order", ["take refuse", "refuse take", "take refuse cancel", "refuse cancel take", "cancel refuse take"]
)
@in_time
async def test_a_place_that_was_granted_to_who_is_refused_goes_to_the_next(order: str) -> None:
    """Whichever comes first in the same tick: the place, the refusal, or a cancellation."""
    senders = Senders()
    await senders.box.put("0")
    async with anyio.create_task_group() as tasks:
        for item in "abc":
            tasks.start_soon(senders.put, item)
            await settle()
        steps: dict[str, Callable[[], object]] = {
            "take": senders.box.get_nowait,
            "refuse": partial(senders.refuse, "a"),
            "cancel": senders.scopes["a"].cancel,
        }
        for step in order.split():
            steps[step]()
        await settle()
        assert senders.box.get_nowait() == "b"
        await settle()
        assert senders.box.get_nowait() == "c"
    assert min(senders.outcomes) in ("a refused", "a cancelled")
    assert sorted(senders.outcomes)[1:] == ["b through", "c through"]
    assert (len(senders.box), senders.box.blocked_senders) == (0, 0)


@in_time
async def test_who_is_refused_once_stays_refused() -> None:
    """Even if it would be let in by the time at which it resumes."""
    senders = Senders()
    await senders.box.put("0")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(senders.put, "a")
        await settle()
        senders.refuse("a")
        senders.refuse("")
    assert senders.outcomes == ["a refused"]


@pytest.mark.parametrize("why", ["refused", "out of time"])
@in_time
async def test_a_newcomer_behind_one_who_has_to_leave_gets_its_place(why: str) -> None:
    """It stands in line behind somebody who has been woken and not run yet; the mailbox is empty by then."""
    senders = Senders()
    loop = current_loop()
    deadlines = Deadlines(loop)
    await senders.box.put("0")
    async with anyio.create_task_group() as tasks:
        if why == "refused":
            tasks.start_soon(senders.put, "a")
        else:
            tasks.start_soon(senders.box.put_until, "a", 128, loop.now() + 3600, deadlines)
        await settle()
        if why == "refused":
            senders.refuse("a")
        else:
            (sender,) = senders.box._blocked or {}  # pyright: ignore[reportPrivateUsage]
            sender.place.vacate()  # as its alarm does
        senders.box.get_nowait()
        await senders.box.put("b")
    assert senders.box.get_nowait() == "b"
