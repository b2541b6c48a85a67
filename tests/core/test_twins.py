"""The same request object, asked more than once: a constant `PING = Ping()`, say."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from rookery import ActorStopped, Context, Reason, Request, message, open_system
from rookery._core.reply import SWEEP_AT
from support import settle


@message
class Ping(Request[str]):
    pass


PING = Ping()


class Askers:
    """Tasks that ask one object, each in a scope of its own, and what came of it."""

    def __init__(self, ref: Any, tasks: anyio.abc.TaskGroup) -> None:
        self.ref, self.tasks = ref, tasks
        self.outcomes: list[str] = []
        self.scopes: list[anyio.CancelScope] = []

    async def ask(self) -> None:
        """One more, whose request is in the actor's hand when this returns."""
        self.scopes.append(anyio.CancelScope())
        self.tasks.start_soon(self._ask, len(self.scopes) - 1)
        await settle()

    async def _ask(self, number: int) -> None:
        with self.scopes[number]:
            try:
                self.outcomes.append(f"{number} {await self.ref.ask(PING)}")
            except ActorStopped:
                self.outcomes.append(f"{number} stopped")

    async def leave(self, number: int) -> None:
        self.scopes[number].cancel()
        await settle()


async def keep(ctx: Context[Ping | str], kept: list[Any]) -> None:
    """Keep requests until it is told to answer the oldest, once for each that it has."""
    async for received in ctx:
        if isinstance(received, Ping):
            kept.append(received)
        else:
            for number, request in enumerate(kept):
                ctx.reply(request, f"answer {number}")


async def test_whoever_still_waits_is_answered_before_those_who_left() -> None:
    """A behaviour that gave up on the first without an answer, as one does, does not leave the second waiting."""
    async with open_system() as system, anyio.create_task_group() as tasks:
        kept: list[Any] = []
        ref = await system.spawn(keep, kept)
        askers = Askers(ref, tasks)
        await askers.ask()
        await askers.leave(0)
        await askers.ask()
        del kept[0]
        await ref.send("answer")
        await settle()
        assert askers.outcomes == ["1 answer 0"]


async def test_all_are_answered_oldest_first_and_answers_to_those_who_left_are_dead_letters() -> None:
    """As many answers as requests are right, however many askers have left meanwhile."""
    async with open_system() as system, anyio.create_task_group() as tasks:
        ref = await system.spawn(keep, [])
        askers = Askers(ref, tasks)
        for _ in range(4):
            await askers.ask()
        await askers.leave(0)
        await askers.leave(2)
        await ref.send("answer")
        await settle()
        assert sorted(askers.outcomes) == ["1 answer 0", "3 answer 1"]
        assert system.dead_letters.statistics().by_reason == {Reason.LATE_REPLY: 2}
        assert ref.statistics().unanswered == 0


@pytest.mark.parametrize("forwarded", [1, 2])
async def test_one_that_is_forwarded_takes_no_other_along(forwarded: int) -> None:
    """Each is in one hand, and ends with the actor that has it."""

    async def front(ctx: Context[Ping], back: Any) -> None:
        for _ in range(2):
            request = await ctx.receive()
        for _ in range(forwarded):
            ctx.forward(request, back)
        await ctx.wait_stopping()

    async with open_system() as system, anyio.create_task_group() as tasks:
        back = await system.spawn(keep, [])
        ref = await system.spawn(front, back)
        askers = Askers(ref, tasks)
        await askers.ask()
        await askers.ask()
        assert (2 - forwarded, forwarded) == (ref.statistics().unanswered, back.statistics().unanswered)
        await back.stop()
        await settle()
        assert [f"{number} stopped" for number in range(forwarded)] == sorted(askers.outcomes)
        await ref.stop()
        await settle()
        assert sorted(askers.outcomes) == ["0 stopped", "1 stopped"]


async def test_abandoned_means_that_nobody_waits_for_any_of_them() -> None:
    """The second asker is not left waiting because the first has gone."""
    seen: list[bool] = []

    async def careful(ctx: Context[Ping | str]) -> None:
        requests = [await ctx.receive(), await ctx.receive()]
        await ctx.receive()
        for request in requests:
            assert isinstance(request, Ping)
            seen.append(ctx.abandoned(request))
            if not seen[-1]:
                ctx.reply(request, "done")

    async with open_system() as system, anyio.create_task_group() as tasks:
        ref = await system.spawn(careful)
        askers = Askers(ref, tasks)
        await askers.ask()
        await askers.ask()
        await askers.leave(0)
        await ref.send("look")
        await settle()
        assert seen == [False, True]
        assert askers.outcomes == ["1 done"]


async def test_those_whose_askers_left_do_not_pile_up() -> None:
    """Also where every one of them is the same object."""
    async with open_system() as system, anyio.create_task_group() as tasks:
        ref = await system.spawn(keep, [])
        askers = Askers(ref, tasks)
        for number in range(3 * SWEEP_AT):
            await askers.ask()
            await askers.leave(number)
        assert ref.statistics().unanswered <= SWEEP_AT


async def test_what_was_answered_and_is_then_only_sent_is_no_second_answer() -> None:
    """An answer to a mere message is counted, and harms nobody."""

    async def honest(ctx: Context[Ping]) -> None:
        async for request in ctx:
            ctx.reply(request, "yes")

    async with open_system() as system:
        ref = await system.spawn(honest)
        assert await ref.ask(PING) == "yes"
        await ref.send(PING)
        await ref.stop(drain=True)
        assert system.dead_letters.statistics().by_reason == {Reason.NOT_ASKED: 1}
        assert ref.statistics().last_crash is None
