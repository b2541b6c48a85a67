"""What actors raise while the tree is being stopped is secondary, and not lost."""

from __future__ import annotations

import anyio
import pytest

from rookery import (
    ActorRef,
    ActorState,
    ActorStopped,
    Context,
    Intensity,
    Restart,
    RestartIntensityExceeded,
    StopFromWithin,
    child,
    open_system,
)
from rookery._core.system import engine_of
from support import settle


async def clumsy(ctx: Context[int], name: str) -> None:
    """Raises in the code behind its loop."""
    async for _ in ctx:
        pass
    raise ValueError(name)


def leaves(group: BaseExceptionGroup) -> list[str]:
    """Class and text of everything in a group, in order."""
    found: list[str] = []
    for error in group.exceptions:
        found += leaves(error) if isinstance(error, BaseExceptionGroup) else [f"{type(error).__name__}: {error}"]
    return found


async def test_a_crash_in_the_cleanup_leaves_the_block() -> None:
    """In a group, in the order of the crashes."""
    with pytest.raises(ExceptionGroup) as caught:
        async with open_system() as system:
            await system.spawn(clumsy, "first")
            await system.spawn(clumsy, "second")
    assert leaves(caught.value) == ["ValueError: second", "ValueError: first"]


async def test_it_never_hides_what_happened_first() -> None:
    """The error of the body comes before what the stop brought up."""
    with pytest.raises(ExceptionGroup) as caught:
        async with open_system() as system:
            await system.spawn(clumsy, "cleanup")
            raise KeyError("body")
    assert leaves(caught.value) == ["KeyError: 'body'", "ValueError: cleanup"]


async def test_it_comes_after_the_crashes_that_were_too_many() -> None:
    """Giving up is the primary error, and siblings that fail to stop come behind it."""

    async def crashes(ctx: Context[int]) -> None:
        raise OSError(await ctx.receive())

    with pytest.raises(ExceptionGroup) as caught:
        async with open_system() as system:
            await system.spawn(clumsy, "sibling")
            ref = await system.spawn(crashes)
            for number in range(4):
                await ref.send(number)
            await anyio.sleep_forever()
    first, second = caught.value.exceptions
    assert isinstance(first, RestartIntensityExceeded)
    assert repr(second) == "ExceptionGroup('while it was stopped', [ValueError('sibling')])"


async def test_a_childs_crash_in_the_cleanup_leaves_the_block_through_its_owner() -> None:
    """However deep it was."""

    async def owner(ctx: Context[int]) -> None:
        await ctx.spawn(clumsy, "child")
        async for _ in ctx:
            pass

    with pytest.raises(ExceptionGroup) as caught:
        async with open_system() as system:
            await system.spawn(owner)
    assert leaves(caught.value) == ["ValueError: child"]


async def test_an_owner_that_has_returned_is_not_started_again_for_a_childs_cleanup() -> None:
    """Its end was a normal one, and stays so; what the child raised leaves the block in the end."""
    ends: list[str] = []

    async def owner(ctx: Context[int]) -> None:
        await ctx.spawn(clumsy, "child")
        ends.append("returned")

    with pytest.raises(ExceptionGroup) as caught:
        async with open_system() as system:
            ref = await system.spawn(owner)
            await ref.wait_stopped()
            assert (ref.state, ref.statistics().last_crash) == (ActorState.STOPPED, None)
    assert ends == ["returned"]
    assert leaves(caught.value) == ["ValueError: child"]


async def test_a_temporary_childs_crash_is_its_own_affair() -> None:
    """It is logged, and nothing else."""
    async with open_system() as system:
        await system.spawn(child(clumsy, "temporary").options(restart=Restart.TEMPORARY))


async def test_using_an_actor_that_was_stopped_before_is_no_error_of_its_own() -> None:
    """A producer that is stopped after its consumer may find it gone: that follows from the stop."""
    found: list[str] = []

    async def producer(ctx: Context[ActorRef[int]]) -> None:
        consumer = await ctx.receive()
        try:
            while True:
                await consumer.send(1)
        except ActorStopped:
            found.append("consumer gone")
            raise

    async def consumer(ctx: Context[int]) -> None:
        async for _ in ctx:
            pass

    async with open_system() as system:
        first = await system.spawn(producer)
        await first.send(await system.spawn(consumer))
        await settle()
    assert found == ["consumer gone"]


async def test_a_group_that_leaves_a_cancelled_body_loses_only_the_cancellation() -> None:
    """The tree failed, which cancelled the body, where something else failed over that: both leave the block."""

    async def hopeless(ctx: Context[int]) -> None:
        raise ValueError(await ctx.receive())

    async def fails_when_cancelled() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            raise KeyError("in the body")

    with pytest.raises(ExceptionGroup) as caught:
        async with open_system(intensity=Intensity(0, per=60.0)) as system:
            ref = await system.spawn(hopeless)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(fails_when_cancelled)
                await settle()
                await ref.send(1)
                await anyio.sleep_forever()
    first, second = leaves(caught.value)
    assert first.startswith("RestartIntensityExceeded")
    assert second == "KeyError: 'in the body'"


async def test_what_a_task_of_the_block_raises_while_that_is_left_joins_what_leaves_it() -> None:
    """Beside the actors a block owns tasks of the core's, and none of their errors is lost."""

    async def late() -> None:
        await engine.root.down.wait()
        raise ValueError("late")

    with pytest.raises(ExceptionGroup) as caught:
        async with open_system() as system:
            engine = engine_of(system)
            engine.nursery.start_soon(late, name="late")
            await system.spawn(clumsy, "clumsy")
            await settle()
            raise KeyError("body")
    assert sorted(leaves(caught.value)) == ["KeyError: 'body'", "ValueError: clumsy", "ValueError: late"]


async def test_an_ended_incarnation_receives_nothing() -> None:
    """A context that outlived its incarnation does not take what is meant for the next."""
    contexts: list[Context[int]] = []

    async def forgetful(ctx: Context[int]) -> None:
        contexts.append(ctx)
        async for number in ctx:
            if number == 0:
                raise ValueError(number)

    async with open_system() as system:
        ref = await system.spawn(forgetful)
        await ref.send(0)
        while len(contexts) < 2:
            await anyio.lowlevel.checkpoint()
        with pytest.raises(ActorStopped, match="this incarnation of /forgetful has ended"):
            await contexts[0].receive()


async def test_waiting_for_ones_own_end_is_refused() -> None:
    """It would never come; the error names the call that does not wait."""
    refused: list[str] = []

    async def selfish(ctx: Context[int]) -> None:
        try:
            await ctx.self.wait_stopped()
        except StopFromWithin as error:
            refused.append(str(error))

    async with open_system() as system:
        await system.spawn(selfish)
    assert len(refused) == 1
    assert "ref.stop_soon()" in refused[0]
