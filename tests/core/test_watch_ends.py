"""What was told to an incarnation, and not heard, is not told to the next."""

from __future__ import annotations

from typing import Any

import anyio

from rookery import ActorRef, Context, Terminated, child, open_system
from support import settle


async def test_an_event_that_an_incarnation_did_not_hear_is_not_for_the_next() -> None:
    """Which has not begun that watch."""
    heard: list[Any] = []
    crash = anyio.Event()

    async def target(ctx: Context[Any]) -> None:
        await ctx.wait_stopping()

    async def watcher(ctx: Context[Terminated], ref: ActorRef[Any]) -> None:
        ctx.ready()
        if ctx.incarnation == 1:
            ctx.watch(ref)
            await crash.wait()
            raise ValueError("before it has heard")
        async for item in ctx:
            heard.append(item)  # noqa: PERF401  # one by one, as they come

    async with open_system() as system:
        ref = await system.spawn(child(target))
        other = await system.spawn(watcher, ref)
        await ref.stop()
        crash.set()
        await settle()
        assert other.statistics().restarts == 1
    assert heard == []
