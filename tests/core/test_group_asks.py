"""Whoever has to end before a sibling is restarted does not wait for that sibling's answer."""

from __future__ import annotations

import math
from typing import Any

import anyio
import pytest

from family import until_restarted
from rookery import (
    ActorRef,
    ActorState,
    ActorStopped,
    ChildSpec,
    Context,
    Request,
    Strategy,
    child,
    message,
    open_system,
)
from support import settle


@message
class Question(Request[str]):
    pass


class Story:
    """A database that crashes, and somebody who depends on it."""

    def __init__(self, *, when: str, deep: bool) -> None:
        self.when = when
        self.deep = deep
        self.told: list[str] = []
        self.database = child(self.crashes).options(name="database")
        self.dependent = child(self.depends).options(name="dependent", stop_timeout=math.inf)

    async def crashes(self, ctx: Context[Any]) -> None:
        async for item in ctx:
            if isinstance(item, Exception):
                await settle()
                raise item
            ctx.reply(item, f"by {ctx.incarnation}")

    async def depends(self, ctx: Context[Any]) -> None:
        if self.deep and ctx.name == "dependent":
            await ctx.spawn(child(self.depends).options(name="kid", stop_timeout=math.inf))
            await ctx.wait_stopping()
        else:
            await self.use(ctx)

    async def use(self, ctx: Context[Any]) -> None:
        """Asks at once, so that the question is queued when the database crashes, or in its cleanup."""
        if self.when == "queued":
            ctx.ready()
            await ctx.receive()
            await self.ask()
        else:
            await ctx.wait_stopping()
            if not self.told:
                await self.ask()
        await ctx.wait_stopping()

    async def ask(self) -> None:
        try:
            self.told.append(await self.database.ref.ask(Question()))
        except ActorStopped as error:
            self.told.append(str(error))


@pytest.mark.parametrize("deep", [False, True], ids=["itself", "its child"])
@pytest.mark.parametrize("when", ["queued", "cleanup"])
@pytest.mark.parametrize("strategy", [Strategy.ONE_FOR_ALL, Strategy.REST_FOR_ONE])
async def test_a_group_restart_does_not_wait_for_who_waits_for_it(strategy: Strategy, when: str, deep: bool) -> None:
    """The asker is told, cleans up within its grace, however long that is, and the group is restarted."""
    story = Story(when=when, deep=deep)
    with anyio.fail_after(5):
        async with open_system() as system:
            await system.supervise(story.database, story.dependent, strategy=strategy)
            path = "/supervisor/dependent/kid" if deep else "/supervisor/dependent"
            await story.database.ref.send(ValueError())
            if when == "queued":
                await system.lookup(path).send("ask")
            await until_restarted(story.dependent.ref)
            assert len(story.told) == 1
            assert story.told[0].startswith("/supervisor/database ")
            assert story.database.ref.state is ActorState.RUNNING
            assert await story.database.ref.ask(Question()) == "by 2"


async def test_who_need_not_end_waits_across_the_restart() -> None:
    """A sibling that started earlier, one for one a sibling of any kind, and whoever else asks."""
    answers: list[str] = []

    async def asks(ctx: Context[Any], ref: ActorRef[Any]) -> None:
        ctx.ready()
        await ctx.receive()
        answers.append(await ref.ask(Question()))
        await ctx.wait_stopping()

    for strategy in (Strategy.REST_FOR_ONE, Strategy.ONE_FOR_ONE):
        answers.clear()
        story = Story(when="cleanup", deep=False)
        asker = child(asks, story.database.ref).options(name="asker")
        later = [] if strategy is Strategy.REST_FOR_ONE else [asker]
        specs: list[ChildSpec[Any]] = [*([] if later else [asker]), story.database, *later]
        async with open_system() as system, anyio.create_task_group() as tasks:
            await system.supervise(*specs, strategy=strategy)
            await story.database.ref.send(ValueError())
            await asker.ref.send("ask")

            async def outside(ref: ActorRef[Any]) -> None:
                answers.append(await ref.ask(Question()))

            tasks.start_soon(outside, story.database.ref)
            await until_restarted(story.database.ref)
            assert answers == ["by 2", "by 2"]


async def test_an_actor_that_has_crashed_does_not_wait_for_a_child_that_asks_it() -> None:
    """In its cleanup: the child has to end before its owner can begin again."""
    told: list[str] = []

    async def kid(ctx: Context[Any], owner: ActorRef[Any]) -> None:
        await ctx.wait_stopping()
        if not told:
            with pytest.raises(ActorStopped) as raised:
                await owner.ask(Question())
            told.append(str(raised.value))

    async def owner(ctx: Context[Any]) -> None:
        await ctx.spawn(child(kid, ctx.self).options(stop_timeout=math.inf))
        raise await ctx.receive()

    with anyio.fail_after(5):
        async with open_system() as system:
            ref = await system.spawn(owner)
            await ref.send(ValueError())
            await until_restarted(ref)
    assert told == ["/owner does not go on before /owner/kid has ended, which so cannot wait for its answer"]
