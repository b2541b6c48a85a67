"""Stopping: one actor, a subtree, the whole system, and the many ways in which a block can be left."""

from __future__ import annotations

import asyncio
import math
import signal
from collections.abc import Callable, Coroutine
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
    Reason,
    RestartIntensityExceeded,
    StopFromWithin,
    System,
    child,
    open_system,
)
from rookery._core.incarnation import Incarnation
from rookery._core.ref import cell_of
from stepped import Backend, jumping
from support import settle


@pytest.fixture(scope="module")
def anyio_backend(anyio_backend: Backend) -> Backend:
    """However slow the machine is: time passes when everybody waits, and not otherwise."""
    return jumping(anyio_backend)


async def orderly(ctx: Context[Any], log: list[Any]) -> None:
    """Receives until it is stopped, and takes a while to clean up."""
    async for item in ctx:
        log.append(item)  # noqa: PERF401  # each at once
    log.append(f"{ctx.name} begins to clean up")
    await settle()
    log.append(f"{ctx.name} cleaned up")


async def stubborn(ctx: Context[Any], log: list[Any]) -> None:
    """Does not listen to a stop; cleans up when it is cancelled."""
    ctx.ready()
    try:
        await anyio.sleep_forever()
    finally:
        log.append(f"{ctx.name} cancelled")


IN_ORDER = [f"{name} {step}" for name in "cba" for step in ("begins to clean up", "cleaned up")]


async def spawn_three(system: System, log: list[Any]) -> list[ActorRef[Any]]:
    """Three orderly actors: a, b, c."""
    return [await system.spawn(orderly, log, name=name) for name in "abc"]


# ---- one actor


async def test_a_graceful_stop_lets_cleanup_run() -> None:
    """`stop` returns after it; senders are turned away meanwhile, and what was queued is not delivered."""
    log: list[Any] = []
    async with open_system() as system:
        ref = await system.spawn(orderly, log)
        await ref.pause()
        await ref.send("queued")
        ref.stop_soon()
        assert ref.state is ActorState.STOPPING
        with pytest.raises(ActorStopped, match="/orderly is stopping and takes no more messages"):
            await ref.send("late")
        await ref.stop()
        assert log == ["orderly begins to clean up", "orderly cleaned up"]
        assert ref.state is ActorState.STOPPED
        assert system.dead_letters.statistics().by_reason == {Reason.UNREAD: 1}


async def test_a_draining_stop_delivers_what_is_queued() -> None:
    """Everything that was accepted before the stop is received, most urgent first."""
    log: list[Any] = []
    async with open_system() as system:
        ref = await system.spawn(orderly, log)
        for number in range(100):
            ref.send_nowait(number, priority=number)
        await ref.stop(drain=True)
        assert log[:100] == list(reversed(range(100)))
        assert system.dead_letters.statistics().total == 0


async def test_blocked_senders_are_turned_away_by_a_stop() -> None:
    """Also under ``drain``: what was not accepted is not sent."""
    for drain in (False, True):
        log: list[Any] = []
        outcomes: list[Any] = []
        async with open_system() as system, anyio.create_task_group() as tasks:
            ref = await system.spawn(child(orderly, log).options(capacity=1))
            await ref.pause()
            await ref.send("first")

            async def send(ref: ActorRef[Any], outcomes: list[Any]) -> None:
                try:
                    await ref.send("blocked")
                except ActorStopped as error:
                    outcomes.append(error)

            tasks.start_soon(send, ref, outcomes)
            await settle()
            await ref.stop(drain=drain)
            await settle()
            assert len(outcomes) == 1
            assert "blocked" not in log


async def test_stopping_is_idempotent() -> None:
    """Any number of stops, before, during and after, are one."""
    log: list[Any] = []
    async with open_system() as system, anyio.create_task_group() as tasks:
        ref = await system.spawn(orderly, log)
        ref.stop_soon()
        ref.stop_soon()
        for _ in range(3):
            tasks.start_soon(ref.stop)
        await ref.stop()
        await ref.stop(drain=True)
        ref.stop_soon()
        await ref.wait_stopped()
        assert log == ["orderly begins to clean up", "orderly cleaned up"]


async def test_a_cancelled_stop_goes_on() -> None:
    """Only the waiting is cancelled."""
    log: list[Any] = []
    async with open_system() as system:
        ref = await system.spawn(orderly, log)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await ref.stop()
        assert scope.cancelled_caught
        await ref.wait_stopped()
        assert log[-1] == "orderly cleaned up"


async def test_past_its_stop_timeout_an_actor_is_cancelled() -> None:
    """Its cleanup runs, and nobody else is affected."""
    log: list[Any] = []
    async with open_system() as system:
        other = await system.spawn(orderly, [])
        ref = await system.spawn(child(stubborn, log).options(stop_timeout=0.01))
        await ref.stop()
        assert log == ["stubborn cancelled"]
        assert (ref.state, ref.statistics().last_crash) == (ActorState.STOPPED, None)
        assert other.state is ActorState.RUNNING


async def test_without_a_stop_timeout_an_actor_is_cancelled_at_once() -> None:
    """``stop_timeout=0`` leaves no time for a graceful end."""
    log: list[Any] = []
    async with open_system() as system:
        ref = await system.spawn(child(stubborn, log).options(stop_timeout=0))
        ref.stop_soon()
        await settle()
        assert (log, ref.state) == (["stubborn cancelled"], ActorState.STOPPED)


def test_stop_timeouts_on_a_virtual_clock() -> None:
    """A cleanup within the timeout is left alone, one that takes longer is cut, an infinite one never is."""
    log: list[tuple[str, float]] = []

    async def slow(ctx: Context[Any], seconds: float) -> None:
        async for _ in ctx:
            pass
        try:
            await trio.sleep(seconds)
            log.append((ctx.name, seconds))
        except trio.Cancelled:
            log.append((f"{ctx.name} cut", trio.current_time()))
            raise

    async def main() -> None:
        async with open_system() as system:
            for name, seconds, timeout in (("in time", 4.9, 5.0), ("late", 5.1, 5.0), ("endless", 1e6, math.inf)):
                ref = await system.spawn(child(slow, seconds).options(name=name, stop_timeout=timeout))
                started = trio.current_time()
                await ref.stop()
                assert trio.current_time() - started == pytest.approx(min(seconds, timeout))

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert [name for name, _ in log] == ["in time", "late cut", "endless"]


def test_a_stop_timeout_bounds_draining_too() -> None:
    """A backlog that takes longer is given up, and what is left of it are dead letters."""
    received: list[int] = []

    async def slow(ctx: Context[int]) -> None:
        async for number in ctx:
            received.append(number)
            await trio.sleep(1)

    async def main() -> None:
        async with open_system() as system:
            ref = await system.spawn(child(slow).options(stop_timeout=2.5))
            await ref.pause()
            for number in range(5):
                await ref.send(number)
            await ref.stop(drain=True)
            assert (received, system.dead_letters.statistics().by_reason) == ([0, 1, 2], {Reason.UNREAD: 2})

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


async def test_a_stop_reaches_the_children_before_the_end_is_told() -> None:
    """They stop after the behaviour has returned, in reverse order, and `stop` waits for all of it."""
    log: list[Any] = []

    async def owner(ctx: Context[Any]) -> None:
        for name in "abc":
            await ctx.spawn(orderly, log, name=name)
        async for _ in ctx:
            pass
        log.append("owner returned")

    async with open_system() as system:
        ref = await system.spawn(owner)
        kid = system.lookup("/owner/a")
        await ref.stop()
        assert log == ["owner returned", *IN_ORDER]
        assert kid.state is ActorState.STOPPED


def test_an_owners_stop_timeout_ends_its_childrens_grace() -> None:
    """Past it they are cancelled, one after another."""
    log: list[Any] = []

    async def owner(ctx: Context[Any]) -> None:
        for name in "abc":
            await ctx.spawn(child(stubborn, log).options(name=name, stop_timeout=100))
        await ctx.wait_stopping()

    async def main() -> None:
        async with open_system() as system:
            ref = await system.spawn(child(owner).options(stop_timeout=5))
            await ref.stop()
            assert trio.current_time() - started == pytest.approx(5)

    clock = trio.testing.MockClock(autojump_threshold=0)
    started = clock.current_time()
    trio.run(main, clock=clock)
    assert log == ["c cancelled", "b cancelled", "a cancelled"]


# ---- from within


@pytest.mark.parametrize("where", ["itself", "child", "task"])
async def test_waiting_for_ones_own_stop_raises(where: str) -> None:
    """From the actor, from its subtree and from its tasks, at once, with the call to use instead."""
    errors: list[StopFromWithin] = []

    async def stop(ref: ActorRef[Any]) -> None:
        try:
            await ref.stop()
        except StopFromWithin as error:
            errors.append(error)

    async def kid(ctx: Context[Any], owner: ActorRef[Any]) -> None:
        ctx.ready()
        await stop(owner)
        await ctx.wait_stopping()

    async def owner(ctx: Context[Any]) -> None:
        ctx.ready()
        match where:
            case "itself":
                await stop(ctx.self)
            case "child":
                await ctx.spawn(kid, ctx.self)
            case _:
                ctx.start_soon(stop, ctx.self)
        await ctx.wait_stopping()

    async with open_system() as system:
        ref = await system.spawn(owner)
        await settle()
        (error,) = errors
        inside = "/owner/kid" if where == "child" else "/owner"
        assert str(error).startswith(f"{inside} cannot wait for /owner to stop")
        assert "ref.stop_soon()" in str(error)
        assert ref.state is ActorState.RUNNING


async def test_stop_soon_may_be_called_from_within() -> None:
    """An actor can ask for its own stop, and its child for its owner's."""

    async def kid(ctx: Context[Any], owner: ActorRef[Any]) -> None:
        ctx.ready()
        owner.stop_soon()
        await ctx.wait_stopping()

    async def owner(ctx: Context[Any]) -> None:
        ctx.ready()
        await ctx.spawn(kid, ctx.self)
        async for _ in ctx:
            pass

    async def suicidal(ctx: Context[Any]) -> None:
        ctx.self.stop_soon()
        assert [item async for item in ctx] == []

    async with open_system() as system:
        for behaviour in (owner, suicidal):
            ref = await system.spawn(behaviour)
            await ref.wait_stopped()
            assert (ref.state, ref.statistics().last_crash) == (ActorState.STOPPED, None)


async def test_an_actor_may_stop_its_child_and_its_sibling() -> None:
    """Neither would wait for itself, also if one's path begins like the other's."""
    done = anyio.Event()

    async def owner(ctx: Context[Any], sibling: ActorRef[Any]) -> None:
        kid = await ctx.spawn(orderly, [])
        ctx.ready()
        await kid.stop()
        await sibling.stop()
        done.set()
        await ctx.wait_stopping()

    async with open_system() as system:
        sibling = await system.spawn(orderly, [], name="own")
        await system.spawn(owner, sibling, name="owner")
        with anyio.fail_after(5):
            await done.wait()


async def test_an_actor_may_stop_its_namesake_in_a_system_of_its_own() -> None:
    """Paths are unique within a system only."""
    done = anyio.Event()

    async def owner(ctx: Context[Any]) -> None:
        ctx.ready()
        async with open_system() as inner:
            ref = await inner.spawn(orderly, [], name="owner")
            await ref.stop()
        done.set()
        await ctx.wait_stopping()

    async with open_system() as system:
        await system.spawn(owner)
        with anyio.fail_after(5):
            await done.wait()


# ---- the block


async def test_leaving_the_block_stops_in_reverse_one_after_another() -> None:
    """Each has cleaned up before the next is told."""
    log: list[Any] = []
    async with open_system() as system:
        await spawn_three(system, log)
    assert log == IN_ORDER


async def test_an_exception_of_the_body_leaves_the_block_as_it_is() -> None:
    """Not wrapped, after everybody has cleaned up."""
    log: list[Any] = []
    error = OSError("body")
    with pytest.raises(OSError, match="body") as raised:
        async with open_system() as system:
            await spawn_three(system, log)
            raise error
    assert raised.value is error
    assert log == IN_ORDER


async def test_a_group_of_the_body_leaves_the_block_as_it_is() -> None:
    """A task group inside the block does not gain a layer."""
    group = ExceptionGroup("mine", [OSError()])
    with pytest.raises(ExceptionGroup, match="mine") as raised:
        async with open_system() as system:
            await spawn_three(system, [])
            raise group
    assert raised.value.exceptions == group.exceptions


async def test_a_cancellation_from_outside_keeps_order_and_grace() -> None:
    """The block is taken down as if it had been left; then the cancellation goes on."""
    log: list[Any] = []
    with anyio.CancelScope() as scope:
        async with open_system() as system:
            await spawn_three(system, log)
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert log == IN_ORDER


async def test_a_timeout_around_the_block_keeps_order_and_grace() -> None:
    """anyio's timeout is a `TimeoutError` for the code around the block."""
    log: list[Any] = []
    with pytest.raises(TimeoutError):
        with anyio.fail_after(3600) as scope:
            async with open_system() as system:
                await spawn_three(system, log)
                scope.deadline = anyio.current_time()
                await anyio.sleep_forever()
    assert log == IN_ORDER


async def test_a_cancelled_block_whose_tree_failed_still_tells_it() -> None:
    """A cancellation from outside does not swallow `RestartIntensityExceeded`."""

    async def fragile(ctx: Context[Any]) -> None:
        await ctx.receive()
        raise ValueError

    async def orderly_crash(ctx: Context[Any], scope: anyio.CancelScope) -> None:
        async for _ in ctx:
            pass
        scope.cancel()

    with anyio.CancelScope() as scope, pytest.raises(BaseExceptionGroup) as raised:
        async with open_system() as system:
            ref = await system.spawn(fragile)
            await system.spawn(orderly_crash, scope)
            for _ in range(4):
                ref.send_nowait("crash")
            await anyio.sleep_forever()
    assert raised.value.subgroup(RestartIntensityExceeded) is not None


async def test_a_task_group_around_the_block_that_is_cancelled_by_a_sibling() -> None:
    """An error elsewhere takes the tree down in order, and is what is raised."""
    log: list[Any] = []

    async def fails() -> None:
        await settle()
        raise OSError("elsewhere")

    with pytest.raises(ExceptionGroup) as raised:
        async with anyio.create_task_group() as tasks, open_system() as system:
            await spawn_three(system, log)
            tasks.start_soon(fails)
            await anyio.sleep_forever()
    assert [repr(error) for error in raised.value.exceptions] == ["OSError('elsewhere')"]
    assert log == IN_ORDER


async def hold_a_system(log: list[Any], on_running: Callable[[], object]) -> None:
    async with open_system() as system:
        await spawn_three(system, log)
        on_running()
        await asyncio.sleep(3600)


async def test_a_native_cancellation_keeps_order_and_grace(anyio_backend_name: str) -> None:
    """`Task.cancel()`, `asyncio.timeout` and `asyncio.wait_for` take the tree down in order, and work as ever."""
    if anyio_backend_name != "asyncio":
        pytest.skip("asyncio only")
    log: list[Any] = []
    running = asyncio.Event()
    task = asyncio.create_task(hold_a_system(log, running.set))
    await running.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()
    assert log == IN_ORDER

    log = []
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(None) as timeout:
            await hold_a_system(log, lambda: timeout.reschedule(0))
    assert log == IN_ORDER

    log = []
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(hold_a_system(log, bool), 0.05)
    assert log == IN_ORDER[len(IN_ORDER) - len(log) :]  # on a slow machine not everybody was there
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_an_asyncio_task_group_around_the_block(anyio_backend_name: str) -> None:
    """An error elsewhere in it takes the tree down in order."""
    if anyio_backend_name != "asyncio":
        pytest.skip("asyncio only")
    log: list[Any] = []
    running = asyncio.Event()

    async def fails() -> None:
        await running.wait()
        raise OSError("elsewhere")

    with pytest.raises(ExceptionGroup) as raised:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(hold_a_system(log, running.set))
            tasks.create_task(fails())
    assert [repr(error) for error in raised.value.exceptions] == ["OSError('elsewhere')"]
    assert log == IN_ORDER


async def test_a_second_native_cancellation_ends_every_grace(anyio_backend_name: str) -> None:
    """Those that are stopping or have yet to stop are cancelled, still one after another, subtrees included."""
    if anyio_backend_name != "asyncio":
        pytest.skip("asyncio only")
    log: list[Any] = []
    running = asyncio.Event()

    async def owner(ctx: Context[Any]) -> None:
        await ctx.spawn(child(stubborn, log).options(name="kid", stop_timeout=math.inf))
        await stubborn(ctx, log)

    async def host() -> None:
        async with open_system() as system:
            for name in "ab":
                await system.spawn(child(owner).options(name=name, stop_timeout=math.inf))
            running.set()
            await asyncio.sleep(3600)

    task = asyncio.create_task(host())
    await running.wait()
    task.cancel()
    await settle()
    assert log == []
    task.cancel()
    with anyio.fail_after(5):
        with pytest.raises(asyncio.CancelledError):
            await task
    assert log == ["b cancelled", "kid cancelled", "a cancelled", "kid cancelled"]


async def test_a_native_cancellation_while_leaving_normally_is_not_lost(anyio_backend_name: str) -> None:
    """It ends every grace, and is raised when the tree is down."""
    if anyio_backend_name != "asyncio":
        pytest.skip("asyncio only")
    log: list[Any] = []

    async def host() -> None:
        async with open_system() as system:
            await system.spawn(child(stubborn, log).options(stop_timeout=math.inf))

    task = asyncio.create_task(host())
    await settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert log == ["stubborn cancelled"]


async def test_nothing_is_left_running() -> None:
    """After the block there are as many tasks as before."""

    def tasks() -> int:
        return len(anyio.get_running_tasks())

    before = tasks()
    with anyio.CancelScope() as scope:
        async with open_system() as system:
            refs = await spawn_three(system, [])
            refs[0].send_nowait(1)
            scope.cancel()
            await anyio.sleep_forever()
    await settle()
    assert before == tasks()
    assert {ref.state for ref in refs} == {ActorState.STOPPED}


async def test_a_block_can_be_left_while_an_actor_starts() -> None:
    """An actor that is not ready yet is stopped like any other, its spawner told."""
    log: list[Any] = []
    outcomes: list[Any] = []

    async def never_ready(ctx: Context[Any]) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            log.append("cancelled")

    async with anyio.create_task_group() as tasks, open_system() as system:

        async def spawn() -> None:
            try:
                await system.spawn(child(never_ready).options(stop_timeout=0.01))
            except Exception as error:  # noqa: BLE001
                outcomes.append(error)

        tasks.start_soon(spawn)
        await settle()
    assert log == ["cancelled"]
    assert "/never_ready did not start" in str(outcomes[0])


async def test_systems_can_be_nested() -> None:
    """A cancellation of the outer one's surroundings takes the inner one down first."""
    log: list[Any] = []
    with anyio.CancelScope() as scope:
        async with open_system() as outer:
            await outer.spawn(orderly, log, name="a")
            async with open_system() as inner:
                await inner.spawn(orderly, log, name="b")
                await inner.spawn(orderly, log, name="c")
                scope.cancel()
                await anyio.sleep_forever()
    assert log == IN_ORDER


async def test_a_hurried_stop_passes_over_whoever_waits_for_a_restart() -> None:
    """Past its own time to stop an actor cancels its children, also with one among them that does not run."""
    log: list[Any] = []

    async def owner(ctx: Context[Any]) -> None:
        waiting = await ctx.spawn(child(crashing).options(backoff=Backoff(60.0)))
        await waiting.send("crash")
        await ctx.spawn(child(stubborn, log).options(stop_timeout=math.inf))
        await ctx.wait_stopping()

    async def crashing(ctx: Context[str]) -> None:
        raise ValueError(await ctx.receive())

    async with open_system() as system:
        ref = await system.spawn(child(owner).options(stop_timeout=0.01))
        await settle()
        assert system.lookup("/owner/crashing").state is ActorState.RESTARTING
        await ref.stop()
    assert log == ["stubborn cancelled"]


async def test_a_loop_that_is_torn_down_leaves_nothing_to_await_with() -> None:
    """Behaviours and tasks whose coroutines are closed end where they are; nothing is said about it any more."""
    log: list[str] = []

    async def told(*_: object) -> None:
        try:
            await anyio.sleep_forever()
        except GeneratorExit:
            log.append("closed")
            raise

    async with open_system() as system:
        spec = child(told).options(start_timeout=math.inf, stop_timeout=0)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(system.spawn, spec)
            await settle()
            cell = cell_of(spec.ref)
            assert cell is not None
            incarnation = Incarnation(cell, 2)
            scope = anyio.CancelScope()
            incarnation._task_scopes = {scope: None}
            for running in (incarnation.run(), incarnation._run_task(scope, told, ())):
                running.send(None)
                running.close()
            assert log == ["closed", "closed"]
            tasks.cancel_scope.cancel()


# ---- Ctrl-C


@pytest.mark.parametrize("loop", ["trio", "asyncio"])
@pytest.mark.parametrize("where", ["body", "actor"])
def test_ctrl_c_stops_in_order(loop: str, where: str) -> None:
    """A real SIGINT, wherever it lands, takes the tree down gracefully and is a `KeyboardInterrupt` outside."""
    log: list[Any] = []

    async def interrupted(ctx: Context[Any]) -> None:
        await ctx.receive()
        signal.raise_signal(signal.SIGINT)
        await ctx.wait_stopping()

    async def main() -> None:
        async with open_system() as system:
            await spawn_three(system, log)
            if where == "actor":
                ref = await system.spawn(interrupted)
                await ref.send("now")
            else:
                signal.raise_signal(signal.SIGINT)
            await anyio.sleep_forever()

    with pytest.raises(KeyboardInterrupt):
        run(loop, main)
    assert log == IN_ORDER


@pytest.mark.parametrize("loop", ["trio", "asyncio"])
def test_ctrl_c_while_stopping_ends_every_grace(loop: str) -> None:
    """Whoever is stopping, or has yet to stop, is cancelled, still one after another."""
    log: list[Any] = []

    async def main() -> None:
        leaving = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(interrupt_after, leaving)
            async with open_system() as system:
                for name in "ab":
                    await system.spawn(child(stubborn, log).options(name=name, stop_timeout=math.inf))
                leaving.set()

    @trio.lowlevel.enable_ki_protection  # so that trio gives it to the main task
    async def interrupt_after(leaving: anyio.Event) -> None:
        await leaving.wait()
        await settle()
        assert log == []
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(BaseException) as raised:  # noqa: PT011
        run(loop, main)
    assert holds(raised.value, KeyboardInterrupt)
    assert log == ["b cancelled", "a cancelled"]


def run(loop: str, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """As people write it, because each treats Ctrl-C in its own way."""
    if loop == "trio":
        trio.run(main)
    else:
        asyncio.run(main())


def holds(error: BaseException, kind: type[BaseException]) -> bool:
    """Whether an error is of a kind, or is a group with one of that kind in it."""
    return isinstance(error, kind) or (isinstance(error, BaseExceptionGroup) and error.subgroup(kind) is not None)


# ---- what pierces an actor's own shield


async def test_a_native_cancellation_of_an_actor_that_waits_for_its_children_ends_their_grace(
    anyio_backend_name: str,
) -> None:
    """Its task is past the behaviour, and still answers to `Task.cancel()`."""
    if anyio_backend_name != "asyncio":
        pytest.skip("asyncio only")
    log: list[Any] = []
    tasks: list[asyncio.Task[Any] | None] = []

    async def owner(ctx: Context[Any]) -> None:
        tasks.append(asyncio.current_task())
        await ctx.spawn(child(stubborn, log).options(stop_timeout=math.inf))
        await ctx.wait_stopping()

    with anyio.fail_after(5):
        async with open_system() as system:
            ref = await system.spawn(child(owner).options(stop_timeout=math.inf))
            ref.stop_soon()
            await settle()
            assert (log, ref.state) == ([], ActorState.STOPPING)
            assert tasks[0] is not None
            tasks[0].cancel()
            await ref.wait_stopped()
    assert log == ["stubborn cancelled"]
