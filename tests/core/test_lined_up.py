"""A child that had finished and waits for its turn in a group restart is down, and can be stopped like any other."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from rookery import ActorRef, ActorState, Backoff, Context, Strategy, System, child, open_system, supervisor
from support import settle


async def mortal(ctx: Context[str]) -> None:
    """Returns at "return", and crashes at anything else."""
    async for item in ctx:
        if item != "return":
            raise ValueError(item)
        return


@asynccontextmanager
async def lined_up() -> AsyncGenerator[tuple[System, ActorRef[Any], ActorRef[Any]]]:
    """The second child has finished, and would start again with the first, whose backoff it waits for."""
    first = child(mortal).options(name="first", backoff=Backoff(1000.0))
    second = child(mortal).options(name="second")
    async with open_system() as system:
        await system.spawn(supervisor(first, second, strategy=Strategy.ONE_FOR_ALL))
        await second.ref.send("return")
        await settle()
        await first.ref.send("crash")
        await settle()
        assert (first.ref.state, second.ref.state) == (ActorState.RESTARTING, ActorState.STOPPED)
        yield system, first.ref, second.ref
    assert first.ref.state is second.ref.state is ActorState.STOPPED


async def test_a_stop_of_a_finished_child_that_waits_for_its_turn_returns_at_once() -> None:
    """And it stays down."""
    async with lined_up() as (_, _, second):
        await second.stop()
        assert second.state is ActorState.STOPPED


async def test_the_block_can_be_left_while_a_finished_child_waits_for_its_turn() -> None:
    """Its end is not told again."""
    async with lined_up():
        pass
