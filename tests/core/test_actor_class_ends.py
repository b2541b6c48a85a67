"""`Actor` classes at their end: `on_stop` after whatever came before."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import anyio
import pytest

from recorder import Log, Outcome, Pair, Recorder
from rookery import (
    ActorCrashed,
    ActorRef,
    ActorStopped,
    Context,
    Reason,
    Restart,
    child,
    open_system,
)
from rookery._core.context import incarnation_of
from rookery._core.serving import class_behaviour
from stepped import Backend, jumping
from support import settle


@pytest.fixture(scope="module")
def anyio_backend(anyio_backend: Backend) -> Backend:
    """However slow the machine is: time passes when everybody waits, and not otherwise."""
    return jumping(anyio_backend)


KINDS = pytest.mark.parametrize("kind", [Recorder, Pair], ids=["one by one", "two at once"])


# ---- a graceful stop


@KINDS
async def test_a_graceful_stop_finishes_what_is_in_hand_and_then_stops(kind: type[Recorder]) -> None:
    """What is queued is unread, unless it is drained."""
    for drain in (False, True):
        gate, log = anyio.Event(), []
        async with open_system() as system, anyio.create_task_group() as tasks:
            ref = await system.spawn(kind, log, gate)
            asker = Outcome(tasks, lambda ref=ref: ref.call(Recorder.work, "a"))
            await settle()
            if kind is Pair:
                await ref.cast(Recorder.work, "b")
                await settle()
            for _ in range(2):
                await ref.cast(Recorder.note, "queued")
            stopping = Outcome(tasks, lambda ref=ref, drain=drain: ref.stop(drain=drain))
            await settle()
            assert "stop" not in log
            gate.set()
            await ref.wait_stopped()
            await settle()
            assert (asker.value, stopping.scope.cancelled_caught) == ("a", False)
            assert system.dead_letters.statistics().by_reason == ({} if drain else {Reason.UNREAD: 2})
        assert log[-1] == "stop"
        assert log.count("queued") == (2 if drain else 0)
        assert not any("cancelled" in entry for entry in log)


# ---- every other end


@KINDS
async def test_what_takes_too_long_to_stop_is_cancelled_and_then_stopped(kind: type[Recorder]) -> None:
    """Its asker gets `ActorStopped`; `on_stop` may await all the same."""
    log: Log = []
    async with open_system() as system, anyio.create_task_group() as tasks:
        ref = await system.spawn(child(kind, log).options(stop_timeout=0.1))
        asker = Outcome(tasks, lambda: ref.call(Recorder.work, "a"))
        await settle()
        await ref.stop()
        await settle()
        assert isinstance(asker.value, ActorStopped)
    assert log == ["init", "start", "a begins", "a cancelled", "stop"]


@KINDS
async def test_a_crash_is_followed_by_a_stop(kind: type[Recorder]) -> None:
    """Before the next incarnation begins; with several at once, the others are cancelled first, and fail as well."""
    log: Log = []
    async with open_system() as system, anyio.create_task_group() as tasks:
        ref = await system.spawn(kind, log)
        others = [Outcome(tasks, lambda: ref.call(Recorder.work, "a"))] if kind is Pair else []
        await settle()
        with pytest.raises(ActorCrashed) as raised:
            await ref.call(Recorder.crash, ValueError("boom"))
        assert repr(raised.value.__cause__) == "ValueError('boom')"
        await settle()
        assert [type(other.value) for other in others] == [ActorCrashed] * len(others)
        assert repr(ref.statistics().last_crash) == "ValueError('boom')"
        await ref.stop()
    served = ["a begins", "crash", "a cancelled"] if kind is Pair else ["crash"]
    assert log == ["init", "start", *served, "stop", "init", "start", "stop"]


@KINDS
async def test_leaving_a_cancelled_block_stops_in_order(kind: type[Recorder]) -> None:
    """Each finishes what it has in hand, within its stop timeout, and is stopped, the last started first."""
    log: Log = []

    async def end_them(first: ActorRef[Any]) -> None:
        await first.cast(Recorder.work, "a")
        await settle()
        scope.cancel()

    with anyio.CancelScope() as scope:
        async with open_system() as system:
            first = await system.spawn(child(kind, log).options(stop_timeout=0.1))
            await system.spawn(kind, log)
            await end_them(first)
            await anyio.sleep_forever()
    assert log == ["init", "start"] * 2 + ["a begins", "stop", "a cancelled", "stop"]


@pytest.mark.parametrize("how", ["gracefully", "by a crash", "by a cancellation"])
async def test_a_stop_is_cut_off_after_the_stop_timeout(how: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever it comes after: every shield around it has an end. The log tells of it."""
    log: Log = []

    class Endless(Recorder):
        async def on_stop(self) -> None:
            try:
                await anyio.sleep_forever()
            finally:
                log.append("cut off")

    async with open_system() as system:
        ref = await system.spawn(child(Endless, log).options(stop_timeout=0.02, restart=Restart.TEMPORARY))
        if how == "by a crash":
            await ref.cast(Recorder.crash, ValueError("boom"))
        elif how == "by a cancellation":
            await ref.cast(Recorder.work, "a")
            await settle()
        if how != "by a crash":
            ref.stop_soon()
        with anyio.fail_after(5):
            await ref.wait_stopped()
    assert log[-1] == "cut off"
    assert ("a cancelled" in log) == (how == "by a cancellation")
    told = [record.getMessage() for record in caplog.records if "on_stop" in record.getMessage()]
    assert told == ["/Endless: on_stop was cut off before its end (stop_timeout: 0.02 s)"]


async def test_a_stop_that_ends_in_time_leaves_no_trace_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Only what is cut off does."""
    async with open_system() as system:
        await system.spawn(Recorder, [])
    assert caplog.records == []


async def test_without_a_stop_timeout_a_stop_takes_as_long_as_it_takes_to_reach_an_await() -> None:
    """`stop_timeout=0` cancels at once, and `on_stop` too."""
    log: Log = []

    class Patient(Recorder):
        async def on_stop(self) -> None:
            log.append("stopping")
            await super().on_stop()

    async with open_system() as system:
        ref = await system.spawn(child(Patient, log).options(stop_timeout=0))
        await ref.stop()
    assert log == ["init", "start", "stopping"]


async def test_a_second_interrupt_ends_the_grace_of_a_stop(anyio_backend_name: str) -> None:
    """Of the one that is under way, and of those to come."""
    if anyio_backend_name != "asyncio":
        pytest.skip("asyncio only")
    log: Log = []

    class Endless(Recorder):
        async def on_stop(self) -> None:
            self.log.append(f"{self.ctx.name} stopping")
            await anyio.sleep_forever()

    async def host() -> None:
        async with open_system() as system:
            for name in "ab":
                await system.spawn(child(Endless, log).options(name=name, stop_timeout=math.inf))
            await asyncio.sleep(3600)

    task = asyncio.create_task(host())
    await settle()
    task.cancel()
    await settle()
    assert log[-1] == "b stopping"
    task.cancel()
    await settle()
    assert task.cancelled()
    assert log[-2:] == ["b stopping", "a stopping"]


# ---- a stop that fails


class Failing(Recorder):
    """Its stop raises."""

    async def on_stop(self) -> None:
        await super().on_stop()
        raise OSError("in on_stop")


async def test_what_a_stop_raises_is_a_crash() -> None:
    """It leaves the block, as what any actor raises while it is stopped."""
    log: Log = []
    with pytest.raises(ExceptionGroup) as raised:
        async with open_system() as system:
            await system.spawn(Failing, log)
    assert repr(raised.value.exceptions) == "(OSError('in on_stop'),)"
    assert log == ["init", "start", "stop"]


async def test_what_a_stop_raises_joins_the_crash_before_it() -> None:
    """Behind it, in a group."""
    log: Log = []
    async with open_system() as system:
        ref = await system.spawn(child(Failing, log).options(restart=Restart.TEMPORARY))
        with pytest.raises(ActorCrashed) as raised:
            await ref.call(Recorder.crash, ValueError("boom"))
        cause = raised.value.__cause__
        assert isinstance(cause, ExceptionGroup)
        assert [repr(error) for error in cause.exceptions] == ["ValueError('boom')", "OSError('in on_stop')"]


async def test_what_a_stop_raises_joins_the_crash_of_one_of_several_at_once() -> None:
    """As one at a time."""
    log: Log = []

    class FailingPair(Failing):
        concurrency = 2

    async with open_system() as system:
        ref = await system.spawn(child(FailingPair, log).options(restart=Restart.TEMPORARY))
        with pytest.raises(ActorCrashed) as raised:
            await ref.call(Recorder.crash, ValueError("boom"))
        cause = raised.value.__cause__
        assert isinstance(cause, ExceptionGroup)
        assert [repr(error) for error in cause.exceptions] == ["ValueError('boom')", "OSError('in on_stop')"]


async def test_what_a_stop_raises_after_a_cancellation_is_a_crash() -> None:
    """The cancellation does not hide it."""
    log: Log = []
    async with open_system() as system:
        ref = await system.spawn(child(Failing, log).options(stop_timeout=0.1))
        await ref.cast(Recorder.work, "a")
        await settle()
        await ref.stop()
        assert repr(ref.statistics().last_crash) == "OSError('in on_stop')"
    assert log == ["init", "start", "a begins", "a cancelled", "stop"]


@KINDS
async def test_what_no_actor_may_handle_leaves_the_block_after_the_stop(kind: type[Recorder]) -> None:
    """`SystemExit` and `KeyboardInterrupt` stop the tree in order, those that served them included."""
    log: Log = []
    with pytest.raises(SystemExit):
        async with open_system() as system:
            await system.spawn(Recorder, log)
            ref = await system.spawn(kind, log)
            await ref.cast(Recorder.crash, SystemExit(3))
            await anyio.sleep_forever()
    assert log == ["init", "start"] * 2 + ["crash", "stop", "stop"]


# ---- what ends with it


async def test_the_tasks_of_an_actor_class_end_after_its_stop() -> None:
    """Those of `ctx.start_soon` that its methods need, say; its children end after them."""
    log: Log = []

    async def background() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            log.append("task ends")

    async def kid(ctx: Context[Any]) -> None:
        await ctx.wait_stopping()
        log.append("child ends")

    class Parent(Recorder):
        async def on_start(self) -> None:
            self.ctx.start_soon(background)
            await self.ctx.spawn(kid)

    async with open_system() as system:
        await system.spawn(Parent, log)
        await settle()
    assert log == ["init", "stop", "task ends", "child ends"]


@KINDS
async def test_a_coroutine_that_is_closed_calls_no_stop(kind: type[Recorder]) -> None:
    """When the loop itself is torn down there is nothing left to await with; also in the middle of a stop."""
    log: Log = []

    class Stopping(kind):  # type: ignore[misc,valid-type]
        async def on_stop(self) -> None:
            log.append("stopping")
            await super().on_stop()

    async def closing(ctx: Context[Any]) -> None:
        behaviour, turn = class_behaviour(Stopping), incarnation_of(ctx).cell.engine.turn
        assert behaviour is not None
        for _ in range(2):
            turn.renew()
            turn.ends = math.inf  # so that it parks nowhere else
            running = behaviour(ctx, log)
            running.send(None)  # parks: to receive, and then, as there is a stop, in `on_stop`
            running.close()
            log.append("closed")
            await ctx.wait_stopping()

    async with open_system() as system:
        await system.spawn(closing)
    assert log == ["init", "start", "closed", "init", "start", "stopping", "closed"]
