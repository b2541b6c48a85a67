"""Crashes on demand, in every state of an actor."""

from __future__ import annotations

from contextlib import suppress

import anyio
import pytest

from rookery import (
    ActorCrashed,
    ActorState,
    ActorStopped,
    Backoff,
    Context,
    NotStarted,
    Request,
    Restart,
    RestartIntensityExceeded,
    StartFailed,
    WrongLoop,
    child,
    message,
    open_system,
)
from rookery.testing import crash, settle

BOOM = ValueError("boom")


@message
class Ping(Request[str]):
    pass


async def answering(ctx: Context[Ping]) -> None:
    async for request in ctx:
        ctx.reply(request, "pong")


async def silent(ctx: Context[Ping]) -> None:
    async for _ in ctx:
        pass


async def test_an_actor_that_waits_for_messages_crashes_and_is_restarted():
    """As after a crash of its own; the reference stays valid."""
    async with open_system() as system:
        ref = await system.spawn(answering)
        crash(ref, BOOM)
        assert await ref.ask(Ping()) == "pong"
        assert ref.statistics().restarts == 1
        assert ref.statistics().last_crash is BOOM


async def test_whoever_waits_for_an_answer_learns_of_the_crash():
    """With the error as its cause."""
    async with open_system() as system, anyio.create_task_group() as tasks:
        ref = await system.spawn(silent)

        async def ask() -> None:
            with pytest.raises(ActorCrashed) as failed:
                await ref.ask(Ping())
            assert failed.value.__cause__ is BOOM

        tasks.start_soon(ask)
        await settle()
        crash(ref, BOOM)


async def test_an_actor_that_is_starting_fails_to_start():
    """`spawn` raises, with the error as its cause."""

    async def never_ready(ctx: Context[object]) -> None:
        await anyio.sleep_forever()

    spec = child(never_ready)
    async with open_system() as system, anyio.create_task_group() as tasks:

        async def spawn() -> None:
            with pytest.raises(StartFailed) as failed:
                await system.spawn(spec)
            assert failed.value.__cause__ is BOOM

        tasks.start_soon(spawn)
        await settle()
        crash(spec.ref, BOOM)


async def test_an_actor_that_takes_no_notice_has_crashed_all_the_same():
    """It cannot swallow the crash with the cancellation."""

    async def stubborn(ctx: Context[object]) -> None:
        ctx.ready()
        with suppress(BaseException):  # the worst there is
            await anyio.sleep_forever()

    async with open_system() as system:
        ref = await system.spawn(child(stubborn).options(restart=Restart.TEMPORARY))
        crash(ref, BOOM)
        await ref.wait_stopped()
        assert (ref.state, ref.statistics().last_crash) == (ActorState.FAILED, BOOM)


async def test_an_actor_that_is_stopping_crashes_on_the_way():
    """What goes wrong while the tree is stopped leaves the block."""
    cleaning = anyio.Event()

    async def slow(ctx: Context[object]) -> None:
        await ctx.wait_stopping()
        cleaning.set()
        await anyio.sleep_forever()

    with pytest.raises(ExceptionGroup) as failed:
        async with open_system() as system, anyio.create_task_group() as tasks:
            ref = await system.spawn(slow)
            tasks.start_soon(ref.stop)
            await cleaning.wait()
            crash(ref, BOOM)
            await ref.wait_stopped()
            assert ref.state is ActorState.FAILED
            raise RuntimeError("the body is done")
    assert failed.value.subgroup(RuntimeError)


async def test_cleanup_runs():
    """A crash is a cancellation to the behaviour, not a kill."""
    cleaned: list[str] = []

    async def careful(ctx: Context[object]) -> None:
        try:
            async for _ in ctx:
                pass
        finally:
            cleaned.append("up")

    async with open_system() as system:
        ref = await system.spawn(careful)
        crash(ref, BOOM)
        await settle()
        assert cleaned == ["up"]


async def test_crashes_count_for_the_intensity():
    """Too many of them and the system gives up."""
    with pytest.raises(ExceptionGroup) as failed:
        async with open_system() as system:
            ref = await system.spawn(answering)
            for _ in range(4):
                crash(ref, BOOM)
                await settle()
    assert failed.value.subgroup(RestartIntensityExceeded)


async def test_an_actor_that_has_ended_cannot_crash():
    """`ActorStopped` says so."""
    async with open_system() as system:
        ref = await system.spawn(answering)
        await ref.stop()
        with pytest.raises(ActorStopped, match="/answering is stopped"):
            crash(ref, BOOM)


async def test_an_actor_that_waits_for_its_restart_cannot_crash():
    """Nor one that was not spawned."""
    spec = child(answering).options(backoff=Backoff(60))
    with pytest.raises(NotStarted):
        crash(spec.ref, BOOM)
    async with open_system() as system:
        ref = await system.spawn(spec)
        crash(ref, BOOM)
        await settle()
        with pytest.raises(NotStarted, match="/answering"):
            crash(ref, BOOM)


async def test_a_crash_from_another_thread_is_refused():
    """It would reach into a loop that runs; the error says how it is done from there."""
    async with open_system() as system:
        ref = await system.spawn(answering)
        with pytest.raises(WrongLoop, match=r"`anyio\.from_thread\.run_sync\(crash, answering, error\)`"):
            await anyio.to_thread.run_sync(crash, ref, BOOM)
        assert await ref.ask(Ping()) == "pong"
        await anyio.to_thread.run_sync(anyio.from_thread.run_sync, crash, ref, BOOM)
        assert await ref.ask(Ping()) == "pong"
        assert ref.statistics().restarts == 1


async def test_what_is_no_exception_is_refused():
    """With the line to write instead."""
    async with open_system() as system:
        ref = await system.spawn(answering)
        with pytest.raises(TypeError, match="write `crash"):
            crash(ref, ValueError)  # type: ignore[arg-type]
