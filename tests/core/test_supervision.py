"""Crashes, restarts, giving up, backoff, and actors that have children."""

from __future__ import annotations

import asyncio
import logging
import math
from itertools import pairwise
from typing import Any

import anyio
import pytest
import trio
import trio.testing

from rookery import (
    ActorRef,
    ActorState,
    ActorStopped,
    Backoff,
    Context,
    DuplicateName,
    Intensity,
    Restart,
    RestartIntensityExceeded,
    StartFailed,
    StopRequested,
    System,
    child,
    open_system,
)
from stepped import Backend, jumping
from support import broken_logging, settle


@pytest.fixture(scope="module")
def anyio_backend(anyio_backend: Backend) -> Backend:
    """However slow the machine is: time passes when everybody waits, and not otherwise."""
    return jumping(anyio_backend)


async def fragile(ctx: Context[Any], log: list[Any] | None = None) -> None:
    """Raises the exceptions it receives; returns on "return"."""
    if log is not None:
        log.append(ctx.incarnation)
    async for item in ctx:
        if isinstance(item, BaseException):
            raise item
        if item == "return":
            return


async def until_restarted(ref: ActorRef[Any], times: int) -> None:
    """Wait for a number of restarts."""
    with anyio.fail_after(5):
        while ref.statistics().restarts < times:
            await settle()


# ---- restarts


@pytest.mark.parametrize(
    ("restart", "what", "expected"),
    [
        (Restart.PERMANENT, "return", ActorState.RUNNING),
        (Restart.PERMANENT, ValueError(), ActorState.RUNNING),
        (Restart.TRANSIENT, "return", ActorState.STOPPED),
        (Restart.TRANSIENT, ValueError(), ActorState.RUNNING),
        (Restart.TRANSIENT, StopRequested(), ActorState.STOPPED),
        (Restart.TRANSIENT, ExceptionGroup("", [StopRequested()]), ActorState.STOPPED),
        (Restart.TRANSIENT, ExceptionGroup("", [StopRequested(), ValueError()]), ActorState.RUNNING),
        (Restart.TEMPORARY, "return", ActorState.STOPPED),
        (Restart.TEMPORARY, ValueError(), ActorState.FAILED),
    ],
    ids=lambda value: getattr(value, "name", repr(value)),
)
async def test_the_restart_type_decides(restart: Restart, what: Any, expected: ActorState) -> None:
    """PERMANENT always comes back, TRANSIENT after a crash, TEMPORARY never; what StopRequested leaves is no crash."""
    async with open_system() as system:
        ref = await system.spawn(child(fragile).options(restart=restart))
        ref.send_nowait(what)
        await settle()
        assert ref.state is expected
        assert ref.statistics().restarts == (1 if expected is ActorState.RUNNING else 0)
        await ref.stop()
        assert ref.state in {ActorState.STOPPED, expected}


async def test_a_crash_is_logged_with_the_incarnation_that_crashed(caplog: pytest.LogCaptureFixture) -> None:
    """Not with the next one, though that has been started by then."""

    async def twice(ctx: Context[Any]) -> None:
        ctx.ready()
        if ctx.incarnation <= 2:
            raise ValueError(ctx.incarnation)
        await ctx.wait_stopping()

    with caplog.at_level(logging.WARNING, "rookery"):
        async with open_system() as system:
            await system.spawn(twice)
            await settle()
    assert [record.getMessage() for record in caplog.records] == [
        "/twice (incarnation 1) crashed: restarting",
        "/twice (incarnation 2) crashed: restarting",
    ]


async def test_a_temporary_crash_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The record names the actor, the incarnation and the decision, and carries the crash."""
    async with open_system() as system:
        ref = await system.spawn(child(fragile).options(restart=Restart.TEMPORARY))
        with caplog.at_level(logging.WARNING, "rookery"):
            ref.send_nowait(OSError("disk"))
            await ref.wait_stopped()
    (record,) = caplog.records
    assert record.getMessage() == "/fragile (incarnation 1) crashed on OSError: it stays down"
    assert record.exc_info is not None
    assert repr(record.exc_info[1]) == "OSError('disk')"


@pytest.mark.parametrize("part", ["filter", "handler"])
async def test_a_filter_or_handler_that_raises_ends_nobody(part: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What was decided is done, and the error is printed."""
    async with open_system() as system:
        sibling, ref = [await system.spawn(child(fragile).options(name=name)) for name in ("sibling", "crashing")]
        with broken_logging("rookery.supervision", part):
            await ref.send(OSError("disk"))
            await until_restarted(ref, 1)
        assert (ref.state, sibling.state) == (ActorState.RUNNING, ActorState.RUNNING)
        assert sibling.statistics().restarts == 0
    error = "ZeroDivisionError: /crashing (incarnation 1) crashed on OSError: restarting"
    assert capsys.readouterr().err.count(error) == 1


async def test_what_is_not_part_of_a_group_crash_stays_whole() -> None:
    """A crash that is a group is kept as a group, without the parts that are none."""
    async with open_system() as system:
        ref = await system.spawn(fragile)
        ref.send_nowait(ExceptionGroup("two", [ValueError(1), ExceptionGroup("in", [StopRequested(), OSError(2)])]))
        await settle()
        crash = ref.statistics().last_crash
        assert isinstance(crash, ExceptionGroup)
        assert crash.subgroup(StopRequested) is None
        assert crash.subgroup(OSError) is not None


async def test_a_cancellation_that_nobody_asked_for_is_a_crash(anyio_backend_name: str) -> None:
    """On asyncio an actor that awaits a future which somebody cancels must not end silently, nor end the block."""
    if anyio_backend_name != "asyncio":
        pytest.skip("trio has no such cancellations")
    numbers: list[int] = []

    async def behaviour(ctx: Context[Any]) -> None:
        numbers.append(ctx.incarnation)
        ctx.ready()
        if ctx.incarnation == 1:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            future.cancel()
            await future
        await ctx.receive()

    async with open_system() as system:
        ref = await system.spawn(behaviour)
        await until_restarted(ref, 1)
        await settle()
        crash = ref.statistics().last_crash
        assert "let a cancellation out that nobody asked for" in str(crash)
        assert crash is not None
        assert isinstance(crash.__cause__, asyncio.CancelledError)
        assert numbers == [1, 2]


async def test_an_actor_whose_task_is_cancelled_natively_restarts(anyio_backend_name: str) -> None:
    """Somebody else's `Task.cancel()` is a crash of that actor and no more."""
    if anyio_backend_name != "asyncio":
        pytest.skip("trio tasks cannot be cancelled from outside")
    main_tasks: list[asyncio.Task[Any] | None] = []

    async def behaviour(ctx: Context[Any]) -> None:
        main_tasks.append(asyncio.current_task())
        await ctx.receive()

    async with open_system() as system:
        ref = await system.spawn(behaviour)
        task = main_tasks[0]
        assert task is not None
        task.cancel()
        await until_restarted(ref, 1)
        assert ref.state is ActorState.RUNNING


# ---- giving up


async def crash_until_given_up(system: System, ref: ActorRef[Any], times: int) -> None:
    for number in range(times):
        ref.send_nowait(ValueError(number))
    await anyio.sleep_forever()


async def test_too_many_restarts_leave_the_block() -> None:
    """In a group, as `RestartIntensityExceeded` with a group of the crashes as its cause; the body is cancelled."""
    bodies: list[str] = []
    with pytest.raises(ExceptionGroup) as raised:
        async with open_system(name="doomed", intensity=Intensity(2, per=60)) as system:
            ref = await system.spawn(fragile)
            try:
                await crash_until_given_up(system, ref, 3)
            finally:
                bodies.append("cancelled")
    assert bodies == ["cancelled"]
    assert "'doomed'" in str(raised.value)
    (failure,) = raised.value.exceptions
    assert isinstance(failure, RestartIntensityExceeded)
    assert "children of / needed more than 2 restarts in 60 s" in str(failure)
    assert isinstance(failure.__cause__, ExceptionGroup)
    assert [str(crash) for crash in failure.__cause__.exceptions] == ["0", "1", "2"]
    assert ref.state is ActorState.FAILED


async def test_as_many_restarts_as_allowed_do_not() -> None:
    """The limit itself is tolerated."""
    async with open_system(intensity=Intensity(2, per=60)) as system:
        ref = await system.spawn(fragile)
        for number in range(2):
            ref.send_nowait(ValueError(number))
        await settle()
        assert (ref.statistics().restarts, ref.state) == (2, ActorState.RUNNING)


async def test_giving_up_stops_the_others_in_order() -> None:
    """Gracefully, one after another, the last first; and their cleanup may await."""
    log: list[str] = []

    async def orderly(ctx: Context[Any]) -> None:
        async for _ in ctx:
            pass
        await settle()
        log.append(ctx.name)

    with pytest.raises(ExceptionGroup):
        async with open_system(intensity=Intensity(0, per=1)) as system:
            await system.spawn(orderly, name="a")
            ref = await system.spawn(fragile)
            await system.spawn(orderly, name="b")
            await system.spawn(orderly, name="c")
            await crash_until_given_up(system, ref, 1)
    assert log == ["c", "b", "a"]


async def test_an_error_of_the_body_joins_the_group() -> None:
    """Neither hides the other; the tree's failure comes first."""
    with pytest.raises(ExceptionGroup) as raised:
        async with open_system(intensity=Intensity(0, per=1)) as system:
            ref = await system.spawn(fragile)
            try:
                await crash_until_given_up(system, ref, 1)
            finally:
                raise OSError("body")
    assert [type(error) for error in raised.value.exceptions] == [RestartIntensityExceeded, OSError]


def test_restarts_are_counted_within_a_window() -> None:
    """Crashes further apart than ``per`` are tolerated for ever; under trio's virtual clock."""

    async def main() -> None:
        async with open_system(intensity=Intensity(1, per=10)) as system:
            ref = await system.spawn(fragile)
            for number in range(20):
                await trio.sleep(10.1)
                ref.send_nowait(ValueError(number))
            await trio.sleep(1)
            assert ref.statistics().restarts == 20

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


async def test_a_start_that_fails_again_counts_as_a_crash() -> None:
    """A restart whose start fails is retried under the same intensity, and its causes are in the group."""

    async def cannot_restart(ctx: Context[Any]) -> None:
        if ctx.incarnation > 1:
            raise OSError(ctx.incarnation)
        await fragile(ctx)

    with pytest.raises(ExceptionGroup) as raised:
        async with open_system(intensity=Intensity(2, per=60)) as system:
            ref = await system.spawn(cannot_restart)
            await crash_until_given_up(system, ref, 1)
    (failure,) = raised.value.exceptions
    assert isinstance(failure.__cause__, ExceptionGroup)
    assert [repr(crash) for crash in failure.__cause__.exceptions] == ["ValueError(0)", "OSError(2)", "OSError(3)"]


# ---- backoff


def test_a_backoff_delays_restarts() -> None:
    """By the delays of the model; meanwhile the actor is restarting and its mailbox is open."""
    starts: list[float] = []

    async def behaviour(ctx: Context[Any]) -> None:
        starts.append(trio.current_time())
        await fragile(ctx)

    async def main() -> None:
        backoff = Backoff(1.0, jitter=0.0, maximum=3.0, reset_after=100.0)
        async with open_system(intensity=Intensity(100, per=1.0)) as system:
            ref = await system.spawn(child(behaviour).options(backoff=backoff))
            for number in range(4):
                await ref.send(ValueError(number))
            await trio.sleep(0.5)
            assert ref.state is ActorState.RESTARTING
            assert ref.statistics().queued == 3
            await trio.sleep(1000)
            await ref.send(ValueError("after a stable life"))
            await trio.sleep(1.5)
            assert ref.state is ActorState.RUNNING

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    gaps = [later - earlier for earlier, later in pairwise(starts)]
    assert gaps == pytest.approx([1.0, 2.0, 3.0, 3.0, 1000.5 - 9.0 + 1.0])


async def test_a_stop_ends_a_backoff_at_once() -> None:
    """A stop does not wait for a restart that will not come; what is queued is turned away."""
    async with open_system() as system:
        ref = await system.spawn(child(fragile).options(backoff=Backoff(3600)))
        ref.send_nowait(ValueError())
        ref.send_nowait("queued")
        await settle()
        assert ref.state is ActorState.RESTARTING
        with anyio.fail_after(5):
            await ref.stop()
        assert ref.state is ActorState.STOPPED
        assert system.dead_letters.statistics().total == 1


def test_a_backoff_that_was_ended_stays_ended() -> None:
    """When the delay would have been over, nothing happens."""
    starts: list[int] = []

    async def main() -> None:
        async with open_system() as system:
            ref = await system.spawn(child(fragile, starts).options(backoff=Backoff(1.0)))
            ref.send_nowait(ValueError())
            await trio.sleep(0.5)
            await ref.stop()
            await trio.sleep(10)
            assert ref.state is ActorState.STOPPED

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert starts == [1]


async def test_leaving_the_block_ends_a_backoff_at_once() -> None:
    """Also when the restarting actor is one of several."""
    with anyio.fail_after(5):
        async with open_system() as system:
            specs = [child(fragile).options(backoff=Backoff(3600), name=name) for name in "abc"]
            refs = [await system.spawn(spec) for spec in specs]
            for ref in refs[::2]:
                ref.send_nowait(ValueError())
            await settle()
    assert {ref.state for ref in refs} == {ActorState.STOPPED}


async def test_an_ask_waits_while_a_restart_backs_off() -> None:
    """References and requests stay valid across it."""

    async def echo(ctx: Context[Any]) -> None:
        async for item in ctx:
            if isinstance(item, ValueError):
                raise item
            ctx.reply(item, "answer")

    async with open_system() as system:
        ref = await system.spawn(child(echo).options(backoff=Backoff(0.01)))
        ref.send_nowait(ValueError())
        await settle()
        assert ref.state is ActorState.RESTARTING
        request: Any = object()
        assert await ref.ask(request, timeout=5) == "answer"


# ---- children of actors


async def test_an_actors_children_end_with_its_incarnation() -> None:
    """After a restart of their owner they are gone, and it may have them anew under the same names."""
    log: list[str] = []

    async def kid(ctx: Context[Any]) -> None:
        async for _ in ctx:
            pass
        await settle()
        log.append(f"{ctx.self.path} cleaned up")

    async def owner(ctx: Context[Any]) -> None:
        for name in ("first", "second"):
            await ctx.spawn(kid, name=name)
        try:
            await fragile(ctx)
        finally:
            log.append(f"owner {ctx.incarnation}")

    async with open_system() as system:
        ref = await system.spawn(owner)
        assert system.lookup("/owner/first").state is ActorState.RUNNING
        ref.send_nowait(ValueError())
        await until_restarted(ref, 1)
        assert log == ["owner 1", "/owner/second cleaned up", "/owner/first cleaned up"]
        await settle()
        assert system.lookup("/owner/first").state is ActorState.RUNNING
    assert log[3:] == ["owner 2", "/owner/second cleaned up", "/owner/first cleaned up"]


async def test_children_that_crash_too_often_crash_their_owner() -> None:
    """It restarts, under its own supervisor's intensity, with the cause of the cause kept."""

    async def owner(ctx: Context[Any]) -> None:
        kid = await ctx.spawn(fragile)
        if ctx.incarnation == 1:
            for number in range(4):
                kid.send_nowait(ValueError(number))
        await ctx.wait_stopping()

    async with open_system() as system:
        ref = await system.spawn(owner)
        await until_restarted(ref, 1)
        crash = ref.statistics().last_crash
        assert isinstance(crash, RestartIntensityExceeded)
        assert "/owner" in str(crash)
        assert isinstance(crash.__cause__, ExceptionGroup)
        assert len(crash.__cause__.exceptions) == 4


async def test_a_finished_child_is_forgotten() -> None:
    """It shows nowhere, and its name is free."""

    async def owner(ctx: Context[Any]) -> None:
        for _ in range(3):
            kid = await ctx.spawn(fragile, name="kid")
            kid.send_nowait("return")
            await kid.wait_stopped()
        await ctx.wait_stopping()

    async with open_system() as system:
        ref = await system.spawn(owner)
        await settle()
        assert "kid" not in system.tree()
        assert ref.statistics().last_crash is None


async def test_a_start_failure_of_a_child_is_its_owners_to_handle() -> None:
    """Unhandled, it fails the owner's start in turn, with both causes."""

    async def broken(ctx: Context[Any]) -> None:
        raise OSError("disk")

    async def owner(ctx: Context[Any]) -> None:
        await ctx.spawn(broken)

    async with open_system() as system:
        with pytest.raises(StartFailed) as raised:
            await system.spawn(owner)
        inner = raised.value.__cause__
        assert isinstance(inner, StartFailed)
        assert isinstance(inner.__cause__, OSError)


async def test_nobody_is_spawned_under_what_is_stopping() -> None:
    """Cleanup code that spawns gets `ActorStopped`, and so does a late spawn on the system."""
    refused: list[ActorStopped] = []

    async def owner(ctx: Context[Any]) -> None:
        async for _ in ctx:
            pass
        for place in (ctx, ctx.system):
            try:
                await place.spawn(fragile)
            except ActorStopped as error:
                refused.append(error)

    async with open_system() as system:
        await system.spawn(owner)
    assert len(refused) == 2
    with pytest.raises(ActorStopped, match="stopping and can have no more children"):
        await system.spawn(fragile)


async def test_a_restart_turns_away_what_its_own_children_asked_and_keeps_the_rest() -> None:
    """They have to end before it can begin again, so they cannot wait for that; everybody else can."""
    handled: list[Any] = []
    told: list[str] = []

    async def owner(ctx: Context[Any]) -> None:
        if ctx.incarnation == 1:
            await ctx.spawn(asking, ctx.self)
            await settle()
            raise ValueError(await ctx.receive())
        async for item in ctx:
            handled.append(item)  # noqa: PERF401  # each at once

    async def asking(ctx: Context[Any], ref: ActorRef[Any]) -> None:
        ctx.ready()
        try:
            await ref.ask("from below")
        except ActorStopped as error:
            told.append(str(error))

    async with open_system() as system:
        spec = child(owner).options(start_timeout=60.0)
        spawning = spec.ref
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(system.spawn, spec)
            await settle()
            await spawning.send("crash", priority=200)
            await spawning.send("kept")
        await settle()
    assert handled == ["kept"]
    assert len(told) == 1


# ---- names


async def test_names_are_unique_among_live_siblings() -> None:
    """A given name that is taken is refused; an unnamed child is numbered; a name is free after its end."""
    async with open_system() as system:
        first = await system.spawn(fragile, name="one")
        with pytest.raises(DuplicateName, match="/one is alive: names are unique among live siblings"):
            await system.spawn(fragile, name="one")
        assert [(await system.spawn(fragile)).name for _ in range(3)] == ["fragile", "fragile-2", "fragile-3"]
        await system.spawn(fragile, name="fragile-4")
        assert (await system.spawn(fragile)).name == "fragile-5", "a number that somebody has is passed over"
        await first.stop()
        again = await system.spawn(fragile, name="one")
        assert system.lookup("one") is again


async def test_a_spec_runs_once_at_a_time() -> None:
    """A running spec is not spawned again; a copy by `options` is another child; after its end it may run again."""
    spec = child(fragile)
    async with open_system() as system:
        ref = await system.spawn(spec)
        with pytest.raises(DuplicateName, match=r"running already, as /fragile: `spec.options\(\)`"):
            await system.spawn(spec)
        other = await system.spawn(spec.options())
        assert other is not ref
        await ref.stop()
        assert await system.spawn(spec) is ref
        assert ref.state is ActorState.RUNNING


# ---- interrupts


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("where", ["main", "task", "child"])
async def test_an_interrupt_in_an_actor_stops_the_tree_in_order_and_leaves_the_block(
    interrupt: type[BaseException], where: str
) -> None:
    """It is never handled: everybody is stopped gracefully, then it is raised as it was."""
    log: list[str] = []

    async def orderly(ctx: Context[Any]) -> None:
        async for _ in ctx:
            pass
        await settle()
        log.append(ctx.name)

    async def fails() -> None:
        raise interrupt("now")

    async def behaviour(ctx: Context[Any]) -> None:
        ctx.ready()
        await ctx.receive()
        match where:
            case "main":
                raise interrupt("now")
            case "task":
                ctx.start_soon(fails)
            case _:
                kid = await ctx.spawn(fragile)
                kid.send_nowait(interrupt("now"))
        await ctx.wait_stopping()

    with pytest.raises(interrupt) as raised:
        async with open_system() as system:
            await system.spawn(orderly, name="a")
            ref = await system.spawn(behaviour)
            await system.spawn(orderly, name="b")
            ref.send_nowait("go")
            await anyio.sleep_forever()
    assert raised.value.args == ("now",)
    assert log == ["b", "a"]


async def test_an_interrupt_during_cleanup_is_not_lost() -> None:
    """It leaves the block also when everything was stopping anyway."""

    async def behaviour(ctx: Context[Any]) -> None:
        async for _ in ctx:
            pass
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        async with open_system() as system:
            await system.spawn(behaviour)


async def test_infinite_patience_is_not_needed_for_children_of_a_crash() -> None:
    """A crashed owner gives its children their grace before it restarts."""
    log: list[str] = []

    async def slow(ctx: Context[Any]) -> None:
        async for _ in ctx:
            pass
        await settle()
        log.append("slow cleaned up")

    async def owner(ctx: Context[Any]) -> None:
        if ctx.incarnation > 1:
            log.append("again")
        await ctx.spawn(child(slow).options(stop_timeout=math.inf))
        await fragile(ctx)

    async with open_system() as system:
        ref = await system.spawn(owner)
        ref.send_nowait(ValueError())
        await until_restarted(ref, 1)
        await settle()
        assert log == ["slow cleaned up", "again"]
