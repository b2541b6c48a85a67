"""Rules 13 to 15 and 17 to 19: how a supervisor's children are stopped."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from family import held, member, members, until_restarted
from rookery import (
    Actor,
    ActorState,
    ActorStopped,
    Context,
    Intensity,
    RestartIntensityExceeded,
    StopFromWithin,
    Strategy,
    SupervisorRef,
    child,
    open_system,
    supervisor,
)
from rookery._core.cell import Cell
from stepped import Backend, jumping
from support import settle


@pytest.fixture(scope="module")
def anyio_backend(anyio_backend: Backend) -> Backend:
    """Time passes when everybody waits."""
    return jumping(anyio_backend)


async def deaf(ctx: Context[Any], diary: list[str]) -> None:
    """Hears no request to stop, only its cancellation."""
    ctx.ready()
    try:
        await anyio.sleep_forever()
    finally:
        diary.append(f"!{ctx.name}")


async def slow_to_clean_up(ctx: Context[Any], diary: list[str], may_end: anyio.Event) -> None:
    """Ends when a test lets it."""
    diary.append(f"{ctx.name} starts")
    await ctx.wait_stopping()
    diary.append(f"{ctx.name} told")
    await may_end.wait()
    diary.append(f"{ctx.name} ends")


# ---- rule 13


async def test_rule_13_a_graceful_stop_waits_up_to_stop_timeout_and_then_cancels_and_waits() -> None:
    """Exactly as long as that, and then as long as the cleanup after the cancellation takes."""
    diary: list[str] = []

    async def cleans_up(ctx: Context[Any]) -> None:
        try:
            await deaf(ctx, diary)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(2)

    spec = child(cleans_up).options(stop_timeout=7.0)
    async with open_system() as system:
        top = await system.supervise(spec)
        began = anyio.current_time()
        await top.stop_child(spec.ref)
        assert anyio.current_time() - began == pytest.approx(9.0)
        assert diary == ["!cleans_up"]


async def test_rule_13_the_stop_overtakes_queued_messages() -> None:
    """It is a matter of the system lane: what is queued is not received, but a dead letter."""
    diary: list[str] = []
    (a,) = members("a", diary)
    async with open_system() as system:
        top = await system.supervise(a)
        await a.ref.pause()
        for number in range(3):
            a.ref.send_nowait(number, priority=255)
        await top.stop_child(a.ref)
        assert system.dead_letters.statistics().total == 3
    assert diary == ["+a", "-a"]


async def test_rule_13_a_stop_timeout_of_0_cancels_at_once() -> None:
    """Whoever listens as well as who does not."""
    diary: list[str] = []
    (a,) = members("a", diary, stop_timeout=0)
    b = child(deaf, diary).options(name="b", stop_timeout=0)
    async with open_system() as system:
        top = await system.supervise(a, b)
        await top.stop()
    assert diary == ["+a", "!b", "!a"]


async def test_rule_13_an_infinite_stop_timeout_never_cancels() -> None:
    """Not after a year."""
    diary: list[str] = []

    may_end = anyio.Event()
    spec = child(slow_to_clean_up, diary, may_end).options(stop_timeout=math.inf, name="a")
    async with open_system() as system, anyio.create_task_group() as tasks:
        top = await system.supervise(spec)
        tasks.start_soon(top.stop)
        await anyio.sleep(3600 * 24 * 365)
        assert (diary, spec.ref.state) == (["a starts", "a told"], ActorState.STOPPING)
        may_end.set()
        await top.wait_stopped()
    assert diary == ["a starts", "a told", "a ends"]


async def test_rule_13_a_supervisor_has_no_stop_timeout_of_its_own() -> None:
    """Those of its children add up, level by level; nobody is cancelled because others took long."""
    diary: list[str] = []

    async def slow(ctx: Context[Any]) -> None:
        await ctx.wait_stopping()
        await anyio.sleep(4.9)
        diary.append(ctx.name)

    specs = [child(slow).options(name=name, stop_timeout=5.0) for name in "abcdef"]
    async with open_system() as system:
        await system.supervise(*specs[:2], supervisor(*specs[2:4], supervisor(*specs[4:])))
        began = anyio.current_time()
    assert anyio.current_time() - began == pytest.approx(6 * 4.9)
    assert "".join(diary) == "fedcba"


# ---- rule 14


@pytest.mark.parametrize("strategy", Strategy)
async def test_rule_14_static_children_stop_one_after_another_in_reverse(strategy: Strategy) -> None:
    """Each when the one started after it has cleaned up, whether it listens or has to be cancelled."""
    diary: list[str] = []
    may_end = anyio.Event()
    a, c = (child(slow_to_clean_up, diary, may_end).options(name=name) for name in "ac")
    b = child(deaf, diary).options(name="b", stop_timeout=0.01)
    async with open_system() as system, anyio.create_task_group() as tasks:
        top = await system.supervise(a, b, c, strategy=strategy)
        held(diary)
        tasks.start_soon(top.stop)
        await settle()
        assert diary == ["c told"]
        may_end.set()
        await top.wait_stopped()
    assert diary == ["c told", "c ends", "!b", "a told", "a ends"]


async def test_rule_14_dynamic_children_stop_in_reverse_too_before_the_static_ones() -> None:
    """One after another."""
    diary: list[str] = []
    may_end = anyio.Event()
    a, b, c, d = (child(slow_to_clean_up, diary, may_end).options(name=name) for name in "abcd")
    async with open_system() as system, anyio.create_task_group() as tasks:
        top = await system.supervise(a, b)
        await top.spawn(c)
        await top.spawn(d)
        held(diary)
        tasks.start_soon(top.stop)
        await settle()
        assert diary == ["d told"]
        may_end.set()
    assert diary == [f"{name} {what}" for name in "dcba" for what in ("told", "ends")]


@contextmanager
def observed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """In which order actors are told to stop: tasks that are woken in the same tick run in any order."""
    order: list[str] = []
    begin_stop = Cell.begin_stop

    def note_stop(cell: Cell, *, for_good: bool) -> None:
        order.append(cell.name)
        begin_stop(cell, for_good=for_good)

    with monkeypatch.context() as patched:
        patched.setattr(Cell, "begin_stop", note_stop)
        yield order


@pytest.mark.parametrize("why", ["stop", "give up", "group restart", "block"])
async def test_rule_14_concurrent_stop_stops_dynamic_children_all_at_once(
    why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each within its own time, the last first; the static ones wait until all of those are down, and then go in turn."""
    diary: list[str] = []
    may_end = anyio.Event()
    a, b, c, d, e = (child(slow_to_clean_up, diary, may_end).options(name=name) for name in "abcde")
    (x,) = members("x", [])
    strategy = Strategy.ONE_FOR_ALL if why == "group restart" else Strategy.ONE_FOR_ONE
    with observed(monkeypatch) as order:
        async with anyio.create_task_group() as tasks, open_system() as system:
            top = await system.supervise(x, a, b, concurrent_stop=True, strategy=strategy)
            for spec in (c, d, e):
                await top.spawn(spec)
            held(diary)
            match why:
                case "stop":
                    top.stop_soon()
                case "give up":
                    for _ in range(4):
                        x.ref.send_nowait(ValueError())
                case "group restart":
                    x.ref.send_nowait(ValueError())
            tasks.start_soon(_let_go, diary, may_end)
            if why != "block":
                await may_end.wait()
                await settle()
                await settle()
    assert [name for name in order if name in "abcde"][:5] == ["e", "d", "c", "b", "a"]
    assert sorted(diary[:3]) == ["c told", "d told", "e told"], "in one tick, so in any order"
    assert sorted(diary[3:6]) == ["c ends", "d ends", "e ends"]
    assert diary[6:10] == ["b told", "b ends", "a told", "a ends"]


async def _let_go(diary: list[str], may_end: anyio.Event) -> None:
    await settle()
    assert len(diary) == 3
    may_end.set()


# ---- rule 15


@pytest.mark.parametrize("how", ["scope", "timeout", "sibling"])
async def test_rule_15_a_cancellation_from_outside_takes_the_tree_down_in_the_same_order(how: str) -> None:
    """Each level in reverse, each child within its ``stop_timeout``; only then does the cancellation go on."""
    diary: list[str] = []
    a, b, c, d = members("abcd", diary)
    stubborn = child(deaf, diary).options(name="e", stop_timeout=0.01)
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks, open_system() as system:
            await system.supervise(a, supervisor(b, stubborn, c), d)
            held(diary)
            match how:
                case "scope":
                    scope.cancel()
                case "timeout":
                    scope.deadline = anyio.current_time()
                case _:
                    tasks.start_soon(_cancel, scope)
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert diary == ["-d", "-c", "!e", "-b", "-a"]


async def _cancel(scope: anyio.CancelScope) -> None:
    scope.cancel()


async def test_rule_15_the_order_holds_for_a_tree_that_is_in_the_midst_of_a_group_restart() -> None:
    """Those that are down stay down; those that have to go yet go in reverse."""
    diary: list[str] = []
    cancelled, may_end = anyio.Event(), anyio.Event()
    a, b, d = members("abd", diary)
    c = child(slow_to_clean_up, diary, may_end).options(name="c")

    async def let_go() -> None:
        await cancelled.wait()
        await settle()
        may_end.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(let_go)
        with anyio.CancelScope() as scope:
            async with open_system() as system:
                await system.supervise(a, b, c, d, strategy=Strategy.ONE_FOR_ALL)
                held(diary)
                await a.ref.send(ValueError())
                await settle()
                assert diary == ["-a", "-d", "c told"]
                scope.cancel()
                cancelled.set()
                await anyio.sleep_forever()
    assert diary == ["-a", "-d", "c told", "c ends", "-b"]
    assert {spec.ref.state for spec in (a, b, c, d)} == {ActorState.STOPPED}


# ---- rule 17


class Careful(Actor):
    """Its cleanup takes as long as it is let."""

    def __init__(self, diary: list[str], seconds: float = 0) -> None:
        self.diary = diary
        self.seconds = seconds

    async def on_stop(self) -> None:
        self.diary.append("on_stop")
        for _ in range(5):
            await checkpoint()
        await anyio.sleep(self.seconds)
        self.diary.append("cleaned up")

    async def crash(self) -> None:
        raise ValueError

    async def hang(self) -> None:
        await anyio.sleep_forever()


@pytest.mark.parametrize("how", ["stop", "scope"])
async def test_rule_17_cleanup_may_await_after_a_graceful_stop_also_from_outside(how: str) -> None:
    """The code behind the loop is not cancelled, because the tree is shielded from the cancellation that stops it."""
    diary: list[str] = []

    async def careful(ctx: Context[Any]) -> None:
        async for _ in ctx:
            pass
        for _ in range(50):
            await checkpoint()
        await anyio.sleep(0.001)
        diary.append("cleaned up")

    with anyio.CancelScope() as scope:
        async with open_system() as system:
            top = await system.supervise(supervisor(child(careful)))
            if how == "stop":
                await top.stop()
            else:
                scope.cancel()
                await anyio.sleep_forever()
    assert diary == ["cleaned up"]


@pytest.mark.parametrize("how", ["stop", "scope", "crash", "hurried"])
async def test_rule_17_on_stop_runs_shielded_in_every_case(how: str) -> None:
    """After a graceful stop, a cancellation from outside, a crash, and a cancellation because time was up."""
    diary: list[str] = []
    spec = child(Careful, diary).options(stop_timeout=0.02 if how == "hurried" else 5.0)
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks, open_system() as system:
            top = await system.supervise(supervisor(spec))
            match how:
                case "stop":
                    await top.stop()
                case "crash":
                    await spec.ref.cast(Careful.crash)
                    await settle()
                case "hurried":
                    await spec.ref.cast(Careful.hang)
                    await settle()
                    await top.stop()
            tasks.start_soon(_cancel, scope)
            await anyio.sleep_forever()
    assert diary[:2] == ["on_stop", "cleaned up"]


async def test_rule_17_on_stop_is_bounded() -> None:
    """By another ``stop_timeout``."""
    diary: list[str] = []

    spec = child(Careful, diary, math.inf).options(stop_timeout=5.0)
    async with open_system() as system:
        top = await system.supervise(spec)
        began = anyio.current_time()
        await top.stop()
        assert anyio.current_time() - began == pytest.approx(5.0)
    assert diary == ["on_stop"]


async def test_rule_17_code_that_had_to_be_cancelled_gets_no_second_grace() -> None:
    """What it awaits in its cleanup is cancelled again, in an actor as anywhere else."""
    diary: list[str] = []

    async def hopeful(ctx: Context[Any]) -> None:
        try:
            await deaf(ctx, diary)
        finally:
            try:
                await checkpoint()
            finally:
                diary.append("no second grace")

    async with open_system() as system:
        await system.supervise(child(hopeful).options(stop_timeout=0))
    assert diary == ["!hopeful", "no second grace"]


async def test_rule_17_a_second_scope_is_invisible() -> None:
    """Whoever is stopping keeps its grace, however many scopes around the block are cancelled."""
    diary: list[str] = []
    running, may_end = anyio.Event(), anyio.Event()
    a, b = (child(slow_to_clean_up, diary, may_end).options(name=name, stop_timeout=math.inf) for name in "ab")

    async def host(outer: anyio.CancelScope, inner: anyio.CancelScope) -> None:
        with outer, inner:
            async with open_system() as system:
                await system.supervise(a, supervisor(b))
                held(diary)
                running.set()
                await anyio.sleep_forever()

    outer, inner = anyio.CancelScope(), anyio.CancelScope()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(host, outer, inner)
        await running.wait()
        for scope in (inner, outer):
            scope.cancel()
            await settle()
            assert diary == ["b told"]
        may_end.set()
    assert diary == ["b told", "b ends", "a told", "a ends"]


async def test_rule_17_a_second_native_cancellation_ends_every_grace(anyio_backend_name: str) -> None:
    """On every level, still one after another."""
    if anyio_backend_name != "asyncio":
        pytest.skip("trio has no such cancellations")
    diary: list[str] = []
    running = anyio.Event()
    a, b, c, d = (child(deaf, diary).options(name=name, stop_timeout=math.inf) for name in "abcd")

    async def host() -> None:
        async with open_system() as system:
            await system.supervise(a, supervisor(b, c), d)
            running.set()
            await anyio.sleep_forever()

    task = asyncio.create_task(host())
    await running.wait()
    task.cancel()
    await settle()
    assert (diary, d.ref.state) == ([], ActorState.STOPPING)
    task.cancel()
    with anyio.fail_after(5), pytest.raises(asyncio.CancelledError):
        await task
    assert diary == ["!d", "!c", "!b", "!a"]


# ---- rule 18


async def test_rule_18_errors_during_stopping_join_the_group_and_never_hide_the_primary_one() -> None:
    """Whatever level they come from; the primary one is first."""

    async def clumsy(ctx: Context[Any]) -> None:
        await ctx.wait_stopping()
        raise OSError(ctx.name)

    a, c = (child(clumsy).options(name=name) for name in "ac")
    (b,) = members("b", [])
    with pytest.raises(ExceptionGroup) as raised:
        async with open_system() as system:
            await system.supervise(a, b, supervisor(c, name="low"), name="top")
            raise KeyError("primary")
    errors = raised.value.exceptions
    assert repr(errors[0]) == "KeyError('primary')"
    assert _leaves(raised.value) == ["KeyError('primary')", "OSError('c')", "OSError('a')"]


async def test_rule_18_errors_during_stopping_join_a_supervisor_that_gives_up() -> None:
    """What it gave up for is first, what went wrong on the way down comes behind it."""
    diary: list[str] = []

    async def clumsy(ctx: Context[Any]) -> None:
        diary.append(ctx.name)
        await ctx.wait_stopping()
        if len(diary) == 1:
            raise OSError("clumsy")

    (a,) = members("a", [])
    async with open_system() as system:
        top = await system.supervise(a, child(clumsy), intensity=Intensity(0, per=60))
        await a.ref.send(ValueError("primary"))
        await until_restarted(top)
        crash = top.statistics().last_crash
        assert isinstance(crash, ExceptionGroup)
        assert isinstance(crash.exceptions[0], RestartIntensityExceeded)
        assert "OSError('clumsy')" in _leaves(crash)[1:]
        assert diary == ["clumsy", "clumsy"]


def _leaves(error: BaseException) -> list[str]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for each in error.exceptions for leaf in _leaves(each)]
    return [repr(error)]


# ---- rule 19


async def test_rule_19_stop_is_idempotent_and_stop_soon_may_be_called_from_anywhere() -> None:
    """Before, during and after, by anybody: from the actor itself and from inside its subtree too."""
    diary: list[str] = []
    tops: list[SupervisorRef] = []

    async def ends_the_family(ctx: Context[Any]) -> None:
        ctx.ready()
        await ctx.receive()
        for _ in range(2):
            tops[0].stop_soon()
        await member(ctx, diary)

    a, b = members("ab", diary)
    x = child(ends_the_family).options(name="x")
    async with open_system() as system, anyio.create_task_group() as tasks:
        top = await system.supervise(a, supervisor(x, name="inner"), b)
        tops.append(top)
        await x.ref.send("go")
        for _ in range(2):
            tasks.start_soon(top.stop)
        await top.stop()
        await top.stop()
        top.stop_soon()
        await top.wait_stopped()
        assert top.state is ActorState.STOPPED
    assert [line for line in diary if line[0] == "-"] == ["-b", "-x", "-a"]


@pytest.mark.parametrize(
    "call",
    [
        lambda top, ref: top.stop(),
        lambda top, ref: top.wait_stopped(),
        lambda top, ref: top.stop_child(ref),
        lambda top, ref: top.remove_child(ref),
        lambda top, ref: top.restart_child(ref),
        lambda top, ref: ref.stop(),
    ],
    ids=["stop", "wait_stopped", "stop_child", "remove_child", "restart_child", "its own stop"],
)
@pytest.mark.parametrize("deep", [False, True], ids=["itself", "its subtree"])
async def test_rule_19_waiting_for_a_stop_from_within_raises_at_once_and_names_stop_soon(call: Any, deep: bool) -> None:
    """Nothing has been stopped then."""
    told: list[StopFromWithin] = []

    async def suicidal(ctx: Context[Any]) -> None:
        ctx.ready()
        if deep and ctx.name != "kid":
            await ctx.spawn(suicidal, name="kid")
        else:
            await ctx.receive() if not deep else None
            with pytest.raises(StopFromWithin) as raised:
                await call(top_ref, spec.ref)
            told.append(raised.value)
        await ctx.wait_stopping()

    spec = child(suicidal)
    top = supervisor(spec, name="top")
    top_ref = top.ref
    async with open_system() as system:
        await system.spawn(top)
        if not deep:
            await spec.ref.send("go")
        await settle()
        assert len(told) == 1
        assert "use `ref.stop_soon()`, which does not wait" in str(told[0])
        assert (top.ref.state, spec.ref.state) == (ActorState.RUNNING, ActorState.RUNNING)


async def test_rule_19_nobody_is_spawned_under_a_supervisor_that_is_stopping() -> None:
    """Neither by a child's cleanup, nor from outside, nor afterwards."""
    refused: list[str] = []
    tops: list[SupervisorRef] = []

    async def spawns_late(ctx: Context[Any]) -> None:
        await ctx.wait_stopping()
        for call in (tops[0].spawn(member, []), tops[0].supervise()):
            with pytest.raises(ActorStopped) as raised:
                await call
            refused.append(str(raised.value))

    async with open_system() as system:
        tops.append(await system.supervise(child(spawns_late)))
        await tops[0].stop()
        with pytest.raises(ActorStopped, match="/supervisor is stopped and has no children"):
            await tops[0].spawn(member, [])
    assert refused == ["/supervisor is stopping and can have no more children"] * 2
