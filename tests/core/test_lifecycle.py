"""One actor's life as its reference shows it: starting, receiving, pausing, restarting, ending."""

from __future__ import annotations

import math
from contextvars import ContextVar
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
    NotStarted,
    Overflow,
    Request,
    StartFailed,
    StopRequested,
    WouldBlock,
    WrongLoop,
    child,
    message,
    open_system,
)
from stepped import Backend, jumping
from support import settle


@pytest.fixture(scope="module")
def anyio_backend(anyio_backend: Backend) -> Backend:
    """However slow the machine is: time passes when everybody waits, and not otherwise."""
    return jumping(anyio_backend)


variable: ContextVar[str] = ContextVar("variable", default="unset")


@message
class Ask(Request[Any]):
    what: str


async def recorder(ctx: Context[Any], received: list[Any]) -> None:
    """Keeps what it receives; crashes on "crash"."""
    async for item in ctx:
        received.append(item)
        if item == "crash":
            raise ValueError(item)


# ---- starting


async def test_spawn_returns_when_the_actor_first_receives() -> None:
    """Until then it is starting, and its spawner waits."""
    go_on = anyio.Event()
    refs: list[ActorRef[Any]] = []

    async def slow(ctx: Context[Any]) -> None:
        refs.append(ctx.self)
        await go_on.wait()
        await ctx.receive()

    async with open_system() as system, anyio.create_task_group() as tasks:
        done = anyio.Event()

        async def spawn() -> None:
            await system.spawn(slow)
            done.set()

        tasks.start_soon(spawn)
        await settle()
        assert refs[0].state is ActorState.STARTING
        assert not done.is_set()
        go_on.set()
        await done.wait()
        assert refs[0].state is ActorState.RUNNING


@pytest.mark.parametrize("how", ["ready", "receive_nowait", "wait_stopping", "receive_batch", "timeout", "return"])
async def test_an_actor_is_ready_in_several_ways(how: str) -> None:
    """By `ready()`, by any way to receive, by waiting for a stop, or by returning."""

    async def behaviour(ctx: Context[Any]) -> None:
        match how:
            case "ready":
                ctx.ready()
                ctx.ready()  # idempotent
                await ctx.wait_stopping()
            case "receive_nowait":
                with pytest.raises(WouldBlock, match="await receive"):
                    ctx.receive_nowait()
                await ctx.wait_stopping()
            case "wait_stopping":
                await ctx.wait_stopping()
            case "receive_batch":
                await ctx.receive_batch(10)
            case "timeout":
                with pytest.raises(TimeoutError):
                    await ctx.receive(timeout=0)
                await ctx.receive(timeout=math.inf)
            case _:
                return

    async with open_system() as system:
        ref = await system.spawn(behaviour)
        assert ref.state is (ActorState.STOPPED if how == "return" else ActorState.RUNNING)
    assert (ref.state, ref.statistics().last_crash) == (ActorState.STOPPED, None)


async def test_a_start_failure_is_raised_in_the_spawner() -> None:
    """`StartFailed` has what the start raised as its cause; nothing is restarted and the name is free again."""

    async def broken(ctx: Context[Any]) -> None:
        raise OSError("no disk")

    async with open_system() as system:
        for _ in range(5):  # more than the intensity: start failures of new actors do not count
            spec = child(broken).options(name="broken")
            with pytest.raises(StartFailed, match=r"/broken did not start: OSError\('no disk'\)") as raised:
                await system.spawn(spec)
            assert isinstance(raised.value.__cause__, OSError)
            assert (spec.ref.state, spec.ref.statistics().restarts) == (ActorState.FAILED, 0)
        with pytest.raises(ActorStopped, match=r"failed.*no disk"):
            await spec.ref.send(1)


async def test_a_start_that_takes_too_long_fails() -> None:
    """The error says what would have marked the end of start-up, and the actor's cleanup has run."""
    cleaned_up = anyio.Event()

    async def forgetful(ctx: Context[Any]) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            cleaned_up.set()

    async with open_system() as system:
        with pytest.raises(StartFailed, match=r"not ready within 0.01 s: receive, call `ctx.ready\(\)`") as raised:
            await system.spawn(child(forgetful).options(start_timeout=0.01))
        assert isinstance(raised.value.__cause__, TimeoutError)
        assert cleaned_up.is_set()


def test_a_start_that_is_ready_in_time_is_not_timed_out_later() -> None:
    """The timeout bounds the start only, of each incarnation anew."""

    async def slow(ctx: Context[Any]) -> None:
        await trio.sleep(29)
        await recorder(ctx, [])

    async def main() -> None:
        async with open_system() as system:
            ref = await system.spawn(slow)
            await ref.send("crash")
            await trio.sleep(1000)
            assert (ref.state, ref.statistics().restarts) == (ActorState.RUNNING, 1)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


async def test_a_cancelled_spawn_takes_its_actor_along() -> None:
    """The actor is cancelled, its cleanup runs, and its name is free again."""
    cleaned_up = anyio.Event()

    async def slow(ctx: Context[Any]) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            cleaned_up.set()

    async with open_system() as system:
        spec = child(slow).options(name="slow", stop_timeout=math.inf)
        with anyio.move_on_after(0.01) as scope:
            await system.spawn(spec)
        assert scope.cancelled_caught
        await cleaned_up.wait()
        await spec.ref.wait_stopped()
        assert spec.ref.state is ActorState.STOPPED
        await system.spawn(child(recorder, []).options(name="slow"))


async def test_a_stop_during_start_up_takes_effect_at_the_first_receive() -> None:
    """The spawner still gets its reference."""
    go_on = anyio.Event()
    log: list[str] = []

    async def slow(ctx: Context[Any]) -> None:
        await go_on.wait()
        log.append("started")
        with pytest.raises(StopRequested):
            await ctx.receive()
        log.append("told")

    async with open_system() as system, anyio.create_task_group() as tasks:
        spec = child(slow)
        returned: list[ActorRef[Any]] = []

        async def spawn() -> None:
            returned.append(await system.spawn(spec))

        tasks.start_soon(spawn)
        await settle()
        spec.ref.stop_soon()
        assert spec.ref.state is ActorState.STOPPING
        go_on.set()
        await spec.ref.wait_stopped()
        await settle()
        assert (log, returned) == (["started", "told"], [spec.ref])


# ---- references


async def test_a_reference_can_be_handed_out_before_the_spawn() -> None:
    """It is new and names the line to write until its spec is spawned; then it works."""
    received: list[Any] = []
    spec = child(recorder, received)
    assert (spec.ref.name, spec.ref.state) == ("recorder", ActorState.NEW)
    for use in (
        lambda: spec.ref.send_nowait(1),
        lambda: spec.ref.path,
        spec.ref.statistics,
        spec.ref.stop_soon,
    ):
        with pytest.raises(NotStarted, match=r"'recorder' has not been spawned yet: `await system.spawn\(spec\)`"):
            use()
    for wait in (lambda: spec.ref.send(1), spec.ref.stop, lambda: spec.ref.ask(Ask("x"))):
        with pytest.raises(NotStarted):
            await wait()
    async with open_system() as system:
        assert await system.spawn(spec) is spec.ref
        await spec.ref.send("hello")
        await settle()
        assert received == ["hello"]
        assert spec.ref.path == "/recorder"


async def test_siblings_can_be_given_each_other() -> None:
    """A reference that was passed before its actor ran leads to it."""
    received: list[Any] = []

    async def greeter(ctx: Context[Any], other: ActorRef[Any]) -> None:
        async for item in ctx:
            await other.send(item)

    async with open_system() as system:
        spec = child(recorder, received)
        ref = await system.spawn(greeter, spec.ref)
        await system.spawn(spec)
        await ref.send("hello")
        await settle()
    assert received == ["hello"]


async def test_a_reference_is_an_identity() -> None:
    """Hashable, equal to itself only, and printed with its path and state."""
    async with open_system() as system:
        one, other = [await system.spawn(recorder, []) for _ in range(2)]
        assert len({one, other, one}) == 2
        assert one != other
        assert repr(other) == "<ActorRef /recorder-2 running>"
        assert system.lookup("recorder") is one


async def test_a_reference_is_refused_in_another_thread() -> None:
    """Every use but looking names the way to do it."""
    async with open_system() as system:
        ref = await system.spawn(recorder, [])

        def elsewhere() -> None:
            assert (ref.name, ref.path, ref.state) == ("recorder", "/recorder", ActorState.RUNNING)
            for use in (lambda: ref.send_nowait(1), ref.stop_soon):
                with pytest.raises(WrongLoop, match=r"anyio.from_thread.run\(recorder.send, message\)"):
                    use()
            for wait in (ref.send(1), ref.ask(Ask("x")), ref.stop(), ref.pause(), ref.resume(), ref.wait_stopped()):
                with pytest.raises(WrongLoop):
                    wait.send(None)

        await anyio.to_thread.run_sync(elsewhere)
        await anyio.to_thread.run_sync(anyio.from_thread.run, ref.send, "by the book")
        assert ref.statistics().queued + ref.statistics().received == 1


async def test_a_reference_survives_restarts() -> None:
    """The same object, the same mailbox, the next incarnation; the message in hand is not redelivered."""
    received: list[Any] = []
    numbers: list[int] = []

    async def numbered(ctx: Context[Any]) -> None:
        numbers.append(ctx.incarnation)
        await recorder(ctx, received)

    async with open_system() as system:
        ref = await system.spawn(numbered)
        for item in ("a", "crash", "b", "c"):
            ref.send_nowait(item)
        await settle()
        assert (received, numbers) == (["a", "crash", "b", "c"], [1, 2])
        statistics = ref.statistics()
        assert (statistics.restarts, statistics.received, repr(statistics.last_crash)) == (1, 4, "ValueError('crash')")


# ---- receiving


async def test_receiving_in_every_way() -> None:
    """One, what is there now, a batch, and until the stop; always the most urgent first."""
    steps: list[Any] = []

    async def behaviour(ctx: Context[Any]) -> None:
        steps.append(await ctx.receive())
        steps.append(ctx.receive_nowait())
        steps.append(await ctx.receive_batch(3))
        steps.append(await ctx.receive(timeout=5))
        steps.append([item async for item in ctx])

    async with open_system() as system:
        ref = await system.spawn(behaviour)
        await ref.pause()
        for number in range(9):
            ref.send_nowait(number, priority=100 + number)
        await ref.resume()
        await settle()
        await ref.stop()
        assert steps == [8, 7, [6, 5, 4], 3, [2, 1, 0]]


async def test_a_batch_has_at_least_one_and_at_most_what_was_asked() -> None:
    """A size below one is refused with the value."""
    batches: list[list[int]] = []

    async def behaviour(ctx: Context[int]) -> None:
        ctx.ready()
        with pytest.raises(ValueError, match="max_size must be 1 or more, got 0"):
            await ctx.receive_batch(0)
        while True:
            batches.append(await ctx.receive_batch(2))

    async with open_system() as system:
        ref = await system.spawn(behaviour)
        await settle()
        for number in range(5):
            ref.send_nowait(number)
        await settle()
        assert [number for batch in batches for number in batch] == list(range(5))
        assert {len(batch) for batch in batches} <= {1, 2}
        assert ref.statistics().restarts == 0


async def test_a_timeout_while_receiving_loses_nothing() -> None:
    """The actor may go on receiving after it."""
    received: list[Any] = []
    waited = anyio.Event()

    async def patient(ctx: Context[Any]) -> None:
        ctx.ready()
        for timeout in (0, -1, 0.01):
            with pytest.raises(TimeoutError):
                await ctx.receive(timeout=timeout)
        waited.set()
        received.append(await ctx.receive(timeout=60))

    async with open_system() as system:
        ref = await system.spawn(patient)
        await waited.wait()
        await ref.send("item")
        await ref.wait_stopped()
        assert received == ["item"]


async def test_a_message_of_a_wrong_type_is_refused_where_it_is_sent() -> None:
    """The error names the actor, what it accepts, what came, and the annotation that would allow it."""

    async def words(ctx: Context[str]) -> None:
        async for _ in ctx:
            pass

    async with open_system() as system:
        ref: ActorRef[Any] = await system.spawn(words)
        expected = r"/words accepts str, not int \(3\): send one of those, or .*`Context\[str \| int\]`"
        with pytest.raises(TypeError, match=expected):
            await ref.send(3)
        with pytest.raises(TypeError, match=expected):
            ref.send_nowait(3)
        with pytest.raises(TypeError, match="Ask"):
            await ref.ask(Ask("x"))
        assert ref.statistics().received == 0


@pytest.mark.parametrize("priority", [-1, 256, "high", 1.5])
async def test_a_priority_out_of_range_is_refused(priority: Any) -> None:
    """For every way to deliver."""
    async with open_system() as system:
        ref = await system.spawn(recorder, [])
        with pytest.raises(ValueError, match=str(priority)):
            await ref.send(1, priority=priority)
        with pytest.raises(ValueError, match=str(priority)):
            ref.send_nowait(1, priority=priority)
        with pytest.raises(ValueError, match=str(priority)):
            await ref.ask(Ask("x"), priority=priority)


# ---- pausing


async def test_a_paused_actor_receives_nothing() -> None:
    """Messages queue up, and are handed out after `resume`. Both are idempotent."""
    received: list[Any] = []
    async with open_system() as system:
        ref = await system.spawn(recorder, received)
        await ref.pause()
        await ref.pause()
        await ref.send(1)
        await settle()
        assert (received, ref.state, ref.statistics().queued) == ([], ActorState.PAUSED, 1)
        await ref.resume()
        await ref.resume()
        await settle()
        assert (received, ref.state) == ([1], ActorState.RUNNING)


async def test_a_pause_outlives_a_restart() -> None:
    """The next incarnation is paused as well, until it is resumed."""
    received: list[Any] = []
    crash = anyio.Event()

    async def behaviour(ctx: Context[Any]) -> None:
        if ctx.incarnation == 1:
            await ctx.receive()
            await crash.wait()
            raise ValueError
        await recorder(ctx, received)

    async with open_system() as system:
        ref = await system.spawn(behaviour)
        ref.send_nowait("first")
        await settle()
        await ref.pause()
        ref.send_nowait("second")
        crash.set()
        await settle()
        assert (received, ref.state, ref.statistics().restarts) == ([], ActorState.PAUSED, 1)
        await ref.resume()
        await settle()
        assert received == ["second"]


async def test_a_stop_ends_a_pause() -> None:
    """A paused actor is told to stop, and with ``drain`` gets what is queued first."""
    for drain, expected in ((False, []), (True, [1, 2])):
        received: list[Any] = []
        async with open_system() as system:
            ref = await system.spawn(recorder, received)
            await ref.pause()
            ref.send_nowait(1)
            ref.send_nowait(2)
            await ref.stop(drain=drain)
            assert (received, ref.state) == (expected, ActorState.STOPPED)


async def test_what_has_ended_cannot_be_paused() -> None:
    """The error names the actor, its state and what was wanted."""
    async with open_system() as system:
        ref = await system.spawn(recorder, [])
        await ref.stop()
        with pytest.raises(ActorStopped, match="/recorder is stopped and cannot be paused"):
            await ref.pause()
        with pytest.raises(ActorStopped, match="/recorder is stopped and cannot be resumed"):
            await ref.resume()


async def test_a_cancelled_pause_has_not_paused() -> None:
    """An operation either completed or raised."""
    async with open_system() as system:
        ref = await system.spawn(recorder, [])
        with anyio.CancelScope() as scope:
            scope.cancel()
            await ref.pause()
        assert ref.state is ActorState.RUNNING


# ---- further tasks


async def test_a_task_of_an_actor_ends_with_it() -> None:
    """It is cancelled when the behaviour has returned, and its cleanup has run before the actor's end is told."""
    log: list[str] = []

    async def side() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await settle()
            log.append("side")

    async def behaviour(ctx: Context[Any]) -> None:
        ctx.start_soon(side)
        async for _ in ctx:
            pass
        log.append("main")

    async with open_system() as system:
        ref = await system.spawn(behaviour)
        await settle()
        await ref.stop()
        assert log == ["main", "side"]


async def test_what_a_task_raises_crashes_its_actor() -> None:
    """The behaviour and the other tasks are cancelled, and the restart type applies."""
    log: list[str] = []

    async def fails() -> None:
        raise OSError("side")

    async def other() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            log.append("other")

    async def behaviour(ctx: Context[Any]) -> None:
        ctx.ready()
        if ctx.incarnation == 1:
            ctx.start_soon(other)
            await settle()
            ctx.start_soon(fails)
        try:
            await ctx.wait_stopping()
        finally:
            log.append(f"main {ctx.incarnation}")

    async with open_system() as system:
        ref = await system.spawn(behaviour)
        while not ref.statistics().restarts:
            await settle()
        assert sorted(log) == ["main 1", "other"]
        assert repr(ref.statistics().last_crash) == "OSError('side')"


async def test_a_task_that_is_told_to_stop_leaves_the_behaviour_its_cleanup() -> None:
    """`StopRequested` is a normal end of a task too, and cancels nobody."""
    log: list[str] = []

    async def behaviour(ctx: Context[Any]) -> None:
        ctx.start_soon(ctx.receive)
        await ctx.wait_stopping()
        await settle()
        log.append("cleaned up")

    async with open_system() as system:
        ref = await system.spawn(behaviour)
        await settle()
        await ref.stop()
    assert log == ["cleaned up"]


async def test_nothing_can_be_started_by_what_has_ended() -> None:
    """Neither tasks nor children, through a context that outlived its incarnation, whether it returned or crashed."""
    for crash in (False, True):
        kept: list[Context[Any]] = []

        async def behaviour(ctx: Context[Any], crash: bool, kept: list[Context[Any]]) -> None:
            if not kept:
                kept.append(ctx)
                ctx.ready()
                if crash:
                    raise ValueError
            await ctx.receive()

        async with open_system() as system:
            ref = await system.spawn(behaviour, crash, kept)
            if not crash:
                ref.send_nowait("end")
            while not (ref.statistics().restarts or ref.state is ActorState.STOPPED):
                await settle()
            with pytest.raises(ActorStopped, match="/behaviour has ended and can start no more tasks"):
                kept[0].start_soon(anyio.sleep_forever)
            with pytest.raises(ActorStopped, match=r"/behaviour .* can have no more children"):
                await kept[0].spawn(recorder, [])


async def test_a_task_cannot_be_started_in_another_tasks_cleanup() -> None:
    """It would outlive the cancellation that ends the tasks."""
    refused: list[ActorStopped] = []

    async def side(ctx: Context[Any]) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            try:
                ctx.start_soon(anyio.sleep_forever)
            except ActorStopped as error:
                refused.append(error)

    async def behaviour(ctx: Context[Any]) -> None:
        ctx.start_soon(side, ctx)
        await ctx.receive()

    with anyio.fail_after(5):
        async with open_system() as system:
            ref = await system.spawn(behaviour)
            await settle()
            await ref.send("end")
            await ref.wait_stopped()
    assert len(refused) == 1


# ---- context variables


async def test_each_incarnation_has_a_fresh_copy_of_the_declarers_context() -> None:
    """What an incarnation sets is gone after a restart, and nobody else sees it."""
    seen: list[str] = []

    async def behaviour(ctx: Context[Any]) -> None:
        seen.append(variable.get())
        variable.set("mine")
        await recorder(ctx, [])

    token = variable.set("declared")
    spec = child(behaviour)
    variable.set("spawned")
    renamed = spec.options(name="renamed")
    async with open_system() as system:
        await system.spawn(spec)
        await system.spawn(renamed)
        plain = await system.spawn(behaviour, name="plain")
        assert seen == ["declared", "declared", "spawned"]
        spec.ref.send_nowait("crash")
        plain.send_nowait("crash")
        await settle()
        assert sorted(seen[3:]) == ["declared", "spawned"]
        assert variable.get() == "spawned"
    variable.reset(token)


async def test_a_restart_does_not_see_the_variables_of_whoever_caused_it() -> None:
    """A delayed restart, which a timer starts, sees the declarer's too."""
    seen: list[str] = []

    async def behaviour(ctx: Context[Any]) -> None:
        seen.append(variable.get())
        if ctx.incarnation == 1:
            ctx.ready()
            variable.set("crashing")
            raise ValueError
        again.set()
        await ctx.receive()

    again = anyio.Event()
    token = variable.set("declared")
    async with open_system() as system:
        ref = await system.spawn(child(behaviour).options(backoff=Backoff(0.01)))
        variable.set("later")
        await again.wait()
        assert ref.statistics().restarts == 1
    variable.reset(token)
    assert seen == ["declared", "declared"]


async def test_overflow_policies_at_an_actor() -> None:
    """Drops are counted at the actor and show in its statistics."""
    async with open_system() as system:
        ref = await system.spawn(child(recorder, []).options(capacity=2, overflow=Overflow.DROP_OLDEST))
        await ref.pause()
        for number in range(5):
            await ref.send(number)
        statistics = ref.statistics()
        assert (statistics.queued, statistics.capacity, statistics.dropped) == (2, 2, 3)
        assert [letter.message for letter in system.dead_letters.recent] == [0, 1, 2]
