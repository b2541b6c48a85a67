"""The seam's nursery: no task outlives it, and no exception is lost."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from rookery import Context, open_system
from rookery._core._parking import Loop, current_loop
from support import settle


@pytest.fixture
async def loop() -> Loop:
    return current_loop()


async def test_the_block_is_left_when_every_task_has_ended(loop: Loop):
    """However long that takes."""
    ended: list[int] = []

    async def work(number: int) -> None:
        for _ in range(number):
            await loop.checkpoint()
        ended.append(number)

    nursery = loop.nursery()
    async with nursery:
        for number in range(5):
            nursery.start_soon(work, number, name=f"work {number}")
        assert ended == []
    assert sorted(ended) == [0, 1, 2, 3, 4]


async def test_an_error_of_a_task_cancels_the_body_and_leaves_in_a_group(loop: Loop):
    """The body's own error leaves with it."""

    async def fail() -> None:
        raise ValueError("the task's")

    nursery = loop.nursery()
    with pytest.raises(ExceptionGroup) as caught:
        async with nursery:
            nursery.start_soon(fail, name="failing")
            try:
                await anyio.sleep_forever()
            finally:
                raise KeyError("the body's")
    assert {type(error) for error in caught.value.exceptions} == {ValueError, KeyError}


async def test_an_error_of_the_body_leaves_in_a_group_when_the_tasks_have_ended(loop: Loop):
    """As it does from a nursery of trio's."""
    ended = anyio.Event()

    async def end_later() -> None:
        with anyio.CancelScope(shield=True):
            await loop.checkpoint()
        ended.set()

    nursery = loop.nursery()
    with pytest.raises(ExceptionGroup) as caught:
        async with nursery:
            nursery.start_soon(end_later, name="later")
            await settle()
            raise KeyError("the body's")
    assert [KeyError] == [type(error) for error in caught.value.exceptions]
    assert ended.is_set()


async def test_a_native_cancellation_waits_for_the_tasks_and_is_raised(anyio_backend_name: str, loop: Loop):
    """`Task.cancel()` of the task that leaves the block."""
    if anyio_backend_name != "asyncio":
        pytest.skip("asyncio only")
    gate, ended = anyio.Event(), anyio.Event()

    async def work() -> None:
        await gate.wait()
        ended.set()

    async def host() -> None:
        nursery = loop.nursery()
        async with nursery:
            nursery.start_soon(work, name="work")

    leaving = asyncio.create_task(host())
    await settle()
    leaving.cancel()
    await settle()
    assert not leaving.done()
    gate.set()
    with pytest.raises(BaseExceptionGroup) as caught:
        await leaving
    assert [asyncio.CancelledError] == [type(error) for error in caught.value.exceptions]
    assert ended.is_set()


async def test_an_actor_whose_task_is_cancelled_before_its_first_step_ends_all_the_same(anyio_backend_name: str):
    """Somebody cancels every task of the loop in the tick of a spawn; the block is left, and nobody hangs."""
    if anyio_backend_name != "asyncio":
        pytest.skip("asyncio only")

    async def idle(ctx: Context[str]) -> None:
        await ctx.receive()

    async def host() -> None:
        async with open_system() as system:
            await system.spawn(idle)

    running = asyncio.create_task(host())
    actors: list[asyncio.Task[object]] = []
    while not actors:
        await asyncio.sleep(0)  # what is looked for is there for one step of the loop only
        actors = [task for task in asyncio.all_tasks() if task.get_name() == "/idle"]
    for task in (*actors, running):
        task.cancel()
    with anyio.fail_after(5), pytest.raises(asyncio.CancelledError):
        await running


@pytest.mark.skipif(not hasattr(asyncio, "eager_task_factory"), reason="eager tasks are new in 3.12")
async def test_actors_begin_in_their_own_step_under_an_eager_task_factory(anyio_backend_name: str):
    """A crash before the first `await` restarts the actor as at any other time."""
    if anyio_backend_name != "asyncio":
        pytest.skip("asyncio only")

    async def unlucky(ctx: Context[str]) -> None:
        ctx.ready()
        if ctx.incarnation <= 2:
            raise ValueError("at once")
        await ctx.receive()

    running = asyncio.get_running_loop()
    before = running.get_task_factory()
    running.set_task_factory(asyncio.eager_task_factory)
    try:
        async with open_system() as system:
            ref = await system.spawn(unlucky)
            await settle()
            assert ref.statistics().restarts == 2
    finally:
        running.set_task_factory(before)
