"""Who watches an actor is told of each restart, and exactly once of its end."""

from __future__ import annotations

from typing import Any

import pytest

from rookery import (
    Actor,
    ActorRef,
    ActorStopped,
    Backoff,
    Context,
    NotStarted,
    Restart,
    Restarted,
    Terminated,
    child,
    open_system,
)
from rookery._core.context import incarnation_of
from support import settle

Event = Restarted | Terminated


async def fragile(ctx: Context[Any]) -> None:
    """Raises the exceptions it receives, and ends at "return"."""
    async for item in ctx:
        if isinstance(item, Exception):
            raise item
        if item == "return":
            return


async def watcher(ctx: Context[Event | str], log: list[Any], *refs: ActorRef[Any]) -> None:
    """Records what it is told."""
    for ref in refs:
        ctx.watch(ref)
    async for item in ctx:
        log.append(item)  # noqa: PERF401  # one by one, as they come


async def test_a_restart_and_the_end_are_told_with_their_reasons() -> None:
    """Each once, and a restart is no end."""
    log: list[Any] = []
    crash, last = ValueError("one"), ValueError("two")
    async with open_system() as system:
        target = await system.spawn(child(fragile))
        await system.spawn(watcher, log, target)
        await target.send(crash)
        await settle()
        assert log == [Restarted(target, 2, crash)]
        await target.stop()
        await settle()
        assert log == [Restarted(target, 2, crash), Terminated(target, None)]
        mortal = await system.spawn(child(fragile).options(restart=Restart.TEMPORARY))
        await system.spawn(watcher, log, mortal)
        await mortal.send(last)
        await settle()
    assert log[2:] == [Terminated(mortal, last)]


async def test_one_that_is_gone_already_is_told_of_at_once() -> None:
    """With the reason it ended for."""
    log: list[Any] = []
    crash = ValueError("gone")
    async with open_system() as system:
        target = await system.spawn(child(fragile).options(restart=Restart.TEMPORARY))
        await target.send(crash)
        await target.wait_stopped()
        await system.spawn(watcher, log, target)
        await settle()
        assert log == [Terminated(target, crash)]


async def test_a_second_watch_on_the_same_actor_changes_nothing() -> None:
    """The end is told once."""
    log: list[Any] = []
    async with open_system() as system:
        target = await system.spawn(fragile)
        await system.spawn(watcher, log, target, target)
        await target.stop()
        await settle()
        assert log == [Terminated(target, None)]


async def test_events_come_before_messages_and_take_no_room() -> None:
    """However urgent and many those are; nobody is kept from sending by them."""
    log: list[Any] = []
    async with open_system() as system:
        targets = [await system.spawn(fragile) for _ in range(3)]
        spec = child(watcher, log, *targets).options(capacity=2)
        ref = await system.spawn(spec)
        await ref.pause()
        ref.send_nowait("ordinary")
        ref.send_nowait("urgent", priority=255)
        for target in targets:
            await target.stop()
        assert ref.statistics().queued == 2
        await ref.resume()
        await settle()
        assert [type(item).__name__ for item in log] == ["Terminated"] * 3 + ["str"] * 2
        assert log[3:] == ["urgent", "ordinary"]


async def test_a_watch_ends_with_the_incarnation_that_began_it() -> None:
    """The next one is told what it asks for, and nothing of what was meant for the last."""
    log: list[Any] = []

    async def once(ctx: Context[Event | ValueError], target: ActorRef[Any]) -> None:
        if ctx.incarnation == 1:
            ctx.watch(target)
        async for item in ctx:
            if isinstance(item, ValueError):
                raise item
            log.append(item)

    async with open_system() as system:
        target = await system.spawn(fragile)
        ref = await system.spawn(once, target)
        await ref.pause()
        await ref.send(ValueError("watcher"))
        await target.send(ValueError("told, and not heard"))
        await settle()
        ref.stop_soon()
        await ref.wait_stopped()
        again = await system.spawn(once, target)
        await again.send(ValueError("watcher"))
        await settle()
        await target.stop()
        await settle()
        assert again.statistics().restarts == 1
    assert log == []


@pytest.mark.parametrize("parent", [False, True], ids=["childless", "with a child"])
async def test_what_the_last_incarnation_was_to_be_told_does_not_reach_the_next(*, parent: bool) -> None:
    """It watches anew, and is told once, at once."""
    told: list[tuple[int, object]] = []

    async def crashing(ctx: Context[Terminated | str], target: ActorRef[Any]) -> None:
        if parent:
            await ctx.spawn(fragile)
        ctx.watch(target)
        async for item in ctx:
            if item == "crash":
                await target.stop()  # while this has the crash in hand
                raise ValueError
            told.append((ctx.incarnation, item))

    async with open_system() as system:
        target = await system.spawn(fragile)
        ref = await system.spawn(crashing, target)
        await ref.send("crash")
        await settle()
    assert told == [(2, Terminated(target, None))]


async def test_who_watches_has_to_accept_ends_and_is_told_of_restarts_if_it_accepts_them() -> None:
    """A watch ends with the `Terminated`: whoever could not be told would take it for going on."""
    log: list[Any] = []
    refused: list[str] = []

    async def ends_only(ctx: Context[Terminated], target: ActorRef[Any]) -> None:
        ctx.watch(target)
        async for item in ctx:
            log.append(item)  # noqa: PERF401  # one by one, as they come

    async def restarts_only(ctx: Context[Restarted], target: ActorRef[Any]) -> None:
        with pytest.raises(TypeError, match=r"/restarts_only watches /fragile.*Terminated") as caught:
            ctx.watch(target)
        refused.append(str(caught.value))
        await ctx.receive()

    async with open_system() as system:
        target = await system.spawn(fragile)
        await system.spawn(ends_only, target)
        await system.spawn(restarts_only, target)
        await target.send(ValueError())
        await settle()
        await target.stop()
        await settle()
    assert log == [Terminated(target, None)]
    assert len(refused) == 1


async def test_an_actor_that_has_ended_watches_nobody() -> None:
    """Its context may live on, in somebody's hands."""
    contexts: list[Context[Terminated]] = []

    async def brief(ctx: Context[Terminated]) -> None:
        contexts.append(ctx)

    async with open_system() as system:
        target = await system.spawn(fragile)
        await (await system.spawn(brief)).wait_stopped()
        with pytest.raises(ActorStopped, match="/brief has ended and can watch nobody"):
            contexts[0].watch(target)


async def test_an_actor_class_has_hooks_for_events() -> None:
    """They are awaited like methods, one at a time, and are no requests."""
    log: list[Any] = []

    class Guard(Actor):
        def __init__(self, target: ActorRef[Any]) -> None:
            self.target = target

        async def on_start(self) -> None:
            self.ctx.watch(self.target)

        async def on_terminated(self, event: Terminated) -> None:
            log.append(event)

        async def on_restarted(self, event: Restarted) -> None:
            log.append(event)

    class Many(Guard):
        concurrency = 3

    crash = ValueError()
    for cls in (Guard, Many):
        log.clear()
        async with open_system() as system:
            target = await system.spawn(fragile)
            await system.spawn(cls, target)
            await target.send(crash)
            await settle()
            await target.stop()
            await settle()
        assert log == [Restarted(target, 2, crash), Terminated(target, None)]


async def test_what_cannot_be_watched_is_refused() -> None:
    """By an actor that would not be told, of itself, of what is no actor, of what does not exist yet."""
    errors: list[str] = []

    async def deaf(ctx: Context[str], target: ActorRef[Any]) -> None:
        with pytest.raises(TypeError, match=r"/deaf watches /fragile.*`Context\[\.\.\. \| Terminated\]`") as caught:
            ctx.watch(target)
        errors.append(str(caught.value))
        await ctx.receive()

    async def listener(ctx: Context[Terminated]) -> None:
        with pytest.raises(ValueError, match="cannot watch itself"):
            ctx.watch(ctx.self)
        with pytest.raises(TypeError, match="takes the reference of an actor, got 'x'"):
            ctx.watch("x")  # type: ignore[arg-type]
        with pytest.raises(NotStarted):
            ctx.watch(child(fragile).ref)
        errors.append("listener")
        await ctx.receive()

    class Silent(Actor):
        async def on_start(self) -> None:
            with pytest.raises(TypeError, match="on_terminated"):
                self.ctx.watch(target)
            errors.append("silent")

    async with open_system() as system:
        target = await system.spawn(fragile)
        await system.spawn(deaf, target)
        await system.spawn(listener)
        await system.spawn(Silent)
    assert len(errors) == 3


async def test_who_has_ended_is_no_longer_held_by_its_watcher() -> None:
    """A manager may watch any number of short lives."""
    watchers: list[Any] = []

    async def manager(ctx: Context[Event]) -> None:
        watchers.append(incarnation_of(ctx))
        for _ in range(5):
            ref = await ctx.spawn(fragile)
            ctx.watch(ref)
            await ref.stop()
            assert isinstance(await ctx.receive(), Terminated)
        await ctx.receive()

    async with open_system() as system:
        await system.spawn(child(manager).options(restart=Restart.TEMPORARY))
        await settle()
        assert watchers[0]._watched == set()


async def test_the_reason_of_a_restart_is_the_crash_also_if_its_delay_is_cut_short() -> None:
    """A request ends the backoff; what was the reason stays the reason."""
    log: list[Any] = []
    crash = ValueError("reason")
    async with open_system() as system:
        spec = child(fragile).options(backoff=Backoff(1000.0))
        top = await system.supervise(spec)
        await system.spawn(watcher, log, spec.ref)
        await spec.ref.send(crash)
        await settle()
        await top.restart_child(spec.ref)
        await settle()
        assert log == [Restarted(spec.ref, 2, crash)]
