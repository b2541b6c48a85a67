"""The leak check: what it finds, and what it lets pass."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
import trio

from rookery import Context, open_system
from rookery._core._parking import current_loop
from rookery.testing import no_leaks, settle, shuffled


async def waiting(ctx: Context[object]) -> None:
    await ctx.wait_stopping()


@pytest.fixture
async def start():
    """Start a task that outlives whoever starts it, until the test is over."""
    async with anyio.create_task_group() as tasks:

        def start(fn: Callable[..., Awaitable[Any]], *args: object, name: str) -> None:
            tasks.start_soon(fn, *args, name=name)

        yield start
        tasks.cancel_scope.cancel()


async def test_a_block_without_tasks_passes():
    """Nothing to see."""
    async with no_leaks():
        await settle()


async def test_a_system_that_is_closed_passes():
    """Its actors do not outlive it."""
    async with no_leaks(), open_system() as system:
        for _ in range(3):
            await system.spawn(waiting)


async def test_a_task_that_outlives_the_block_is_named(start: Callable[..., None]):
    """Rookery's or not."""
    with pytest.raises(AssertionError, match=r"^1 tasks outlive their block: lingering$"):
        async with no_leaks():
            start(anyio.sleep_forever, name="lingering")


async def test_a_system_that_is_not_closed_is_named(start: Callable[..., None]):
    """With all of its tasks."""

    async def open_for_ever() -> None:
        async with open_system(name="colony") as system:
            await system.spawn(waiting)
            await anyio.sleep_forever()

    with pytest.raises(AssertionError, match=r"^3 tasks outlive their block: /waiting, colony deadlines, open$"):
        async with no_leaks():
            start(open_for_ever, name="open")


async def test_a_task_that_was_there_before_may_stay(start: Callable[..., None]):
    """It belongs to somebody around."""
    start(anyio.sleep_forever, name="older")
    await settle()
    async with no_leaks():
        pass


async def test_a_task_that_ends_by_itself_is_waited_for(start: Callable[..., None]):
    """It is looked at when everybody rests."""

    async def short() -> None:
        for _ in range(5):
            await anyio.lowlevel.checkpoint()

    async with no_leaks():
        start(short, name="short")


async def test_pending_wake_ups_are_let_through_before_the_look(start: Callable[..., None]):
    """A task in the pool of a shuffled order is no leak if it ends."""

    async def parks() -> None:
        spots.append(current_loop().spot())
        await spots[-1].park()

    spots: list[Any] = []
    with shuffled(1):
        async with no_leaks():
            for _ in range(5):
                start(parks, name="parks")
            await settle()
            for spot in spots:
                spot.wake()


async def test_an_error_of_the_block_leaves_it_as_it_is(start: Callable[..., None]):
    """What went wrong first is what is told."""
    with pytest.raises(ValueError, match="first"):
        async with no_leaks():
            start(anyio.sleep_forever, name="lingering")
            raise ValueError("first")


async def test_a_task_that_the_loop_has_and_nobody_owns_is_named(anyio_backend_name: str):
    """A system task of trio's, a plain task of asyncio's."""
    stop = anyio.Event()
    with pytest.raises(AssertionError, match=r"^1 tasks outlive their block: orphan$"):
        async with no_leaks():
            if anyio_backend_name == "trio":
                trio.lowlevel.spawn_system_task(stop.wait, name="orphan")
            else:
                orphan = asyncio.create_task(stop.wait(), name="orphan")
    stop.set()
    await settle()
    assert anyio_backend_name == "trio" or orphan.done()
