"""Who answers, from where and in which order: tasks, chains of actors, and askers that have left."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given
from hypothesis import strategies as st

from rookery import (
    ActorCrashed,
    ActorRef,
    ActorStopped,
    AskTimeout,
    Context,
    MailboxFull,
    Reason,
    Request,
    System,
    child,
    message,
    open_system,
)
from stepped import Backend, jump, jumping
from support import settle


@pytest.fixture(scope="module")
def anyio_backend(anyio_backend: Backend) -> Backend:
    """However slow the machine is: time passes when everybody waits, and not otherwise."""
    return jumping(anyio_backend)


@message
class Question(Request[int]):
    number: int


class Refused(Exception):
    pass


class Hands:
    """An actor that keeps what it is asked, for a test to answer through its context."""

    ctx: Context[Question]

    def __init__(self) -> None:
        self.requests: list[Question] = []

    async def __call__(self, ctx: Context[Question]) -> None:
        self.ctx = ctx
        async for request in ctx:
            self.requests.append(request)


async def router(ctx: Context[Question], target: ActorRef[Question]) -> None:
    async for request in ctx:
        ctx.forward(request, target)


class Asker:
    """Asks, in a task of its own."""

    def __init__(self, tasks: anyio.abc.TaskGroup, ref: ActorRef[Question], number: int = 0, **how: Any) -> None:
        self.outcome: Any = "none yet"
        self.scope = anyio.CancelScope(**{key: how.pop(key) for key in ("deadline",) if key in how})
        self._ask = lambda: ref.ask(Question(number), **how)
        tasks.start_soon(self._run)

    async def _run(self) -> None:
        with self.scope:
            try:
                self.outcome = await self._ask()
            except Exception as error:  # noqa: BLE001
                self.outcome = error


def reasons(system: System) -> dict[Reason, int]:
    return system.dead_letters.statistics().by_reason


# ---- tasks

COUNT = 6
ANSWERS = st.permutations(range(COUNT)), st.lists(st.sampled_from(["reply", "fail", "leave"]), min_size=6, max_size=6)


@given(*ANSWERS, st.lists(st.booleans(), min_size=COUNT, max_size=COUNT))
async def test_whatever_answers_whenever_each_asker_gets_its_own(
    order: list[int], how: list[str], from_task: list[bool]
) -> None:
    """In any order, from the behaviour or a task of it; what is left unanswered fails when the actor ends."""

    async def hoarder(ctx: Context[Question]) -> None:
        requests = [await ctx.receive() for _ in range(COUNT)]
        for number in order:
            request = next(request for request in requests if request.number == number)
            if from_task[number]:
                ctx.start_soon(answer_later, ctx, request)
            else:
                answer(ctx, request)
        await ctx.wait_stopping()

    async def answer_later(ctx: Context[Question], request: Question) -> None:
        for _ in range(request.number % 3):
            await checkpoint()
        answer(ctx, request)

    def answer(ctx: Context[Question], request: Question) -> None:
        match how[request.number]:
            case "reply":
                ctx.reply(request, request.number)
            case "fail":
                ctx.fail(request, Refused(request.number))
            case _:
                assert not ctx.abandoned(request)

    async with open_system() as system, anyio.create_task_group() as tasks:
        ref = await system.spawn(hoarder)
        askers = [Asker(tasks, ref, number) for number in range(COUNT)]
        await settle()
        assert ref.statistics().unanswered == how.count("leave")
        await ref.stop()
        await settle()
    for number, asker in enumerate(askers):
        match how[number]:
            case "reply":
                assert asker.outcome == number
            case "fail":
                assert (type(asker.outcome), asker.outcome.args) == (Refused, (number,))
            case _:
                assert isinstance(asker.outcome, ActorStopped)
    assert system.dead_letters.statistics().total == 0


# ---- chains


async def chain(system: System, last: ActorRef[Question], length: int) -> ActorRef[Question]:
    for _ in range(length):
        last = await system.spawn(router, last)
    return last


async def test_a_request_may_be_forwarded_any_number_of_times() -> None:
    """The last one answers the asker directly, and nobody in between has anything in hand."""
    hands = Hands()
    async with open_system() as system, anyio.create_task_group() as tasks:
        first = await chain(system, await system.spawn(hands), 10)
        asker = Asker(tasks, first, 7)
        await settle()
        await settle()
        (request,) = hands.requests
        unanswered = [ref.statistics().unanswered for ref in (first, hands.ctx.self)]
        assert (request.number, unanswered) == (7, [0, 1])
        hands.ctx.reply(request, 42)
        await settle()
        assert asker.outcome == 42


async def test_a_request_may_come_back_to_who_forwarded_it() -> None:
    """It is a new delivery of the same object, and is answered once."""
    times: list[str] = []

    async def first(ctx: Context[Question]) -> None:
        async for request in ctx:
            times.append("received")
            if len(times) == 3:
                ctx.reply(request, 42)
            else:
                ctx.forward(request, there.ref)

    back = child(first)
    there = child(router, back.ref)
    async with open_system() as system:
        await system.spawn(there)
        ref = await system.spawn(back)
        assert await ref.ask(Question(1), timeout=10) == 42
    assert times == ["received"] * 3


async def test_what_happens_to_the_last_one_is_told_to_the_asker() -> None:
    """A crash as `ActorCrashed` with its cause, an end as `ActorStopped`; the ones in between live on."""

    async def last(ctx: Context[Question]) -> None:
        if (await ctx.receive()).number == 13:
            raise ZeroDivisionError

    async with open_system() as system:
        target = await system.spawn(last)
        first = await chain(system, target, 3)
        with pytest.raises(ActorCrashed, match="/last crashed while it had Question in hand") as crashed:
            await first.ask(Question(13))
        assert isinstance(crashed.value.__cause__, ZeroDivisionError)
        with pytest.raises(ActorStopped, match="/last ended without answering Question"):
            await first.ask(Question(1))
        with pytest.raises(ActorStopped, match="/last is stopped"):
            await first.ask(Question(1))
        assert first.statistics().restarts == 0


async def test_an_asker_that_leaves_is_left_alone_wherever_its_request_is() -> None:
    """In the queue of the last one it is skipped, in its hand the answer is late."""
    hands = Hands()
    async with open_system() as system, anyio.create_task_group() as tasks:
        last = await system.spawn(hands)
        first = await chain(system, last, 3)
        await last.pause()
        asker = Asker(tasks, first)
        await settle()
        asker.scope.cancel()
        await settle()
        await last.resume()
        await settle()
        assert (hands.requests, reasons(system)) == ([], {Reason.ABANDONED: 1})

        asker = Asker(tasks, first)
        await settle()
        asker.scope.cancel()
        await settle()
        hands.ctx.reply(hands.requests[0], 1)
        letter = system.dead_letters.recent[-1]
        assert (letter.reason, letter.actor, letter.message) == (Reason.LATE_REPLY, "/Hands", 1)


async def test_a_deadline_travels_along_a_chain() -> None:
    """The last one sees it, and a timeout names the actor that has the request then."""
    hands = Hands()
    async with open_system() as system, anyio.create_task_group() as tasks:
        first = await chain(system, await system.spawn(hands), 2)
        deadline = anyio.current_time() + 3600
        asker = Asker(tasks, first, deadline=deadline)
        await settle()
        assert hands.ctx.within(hands.requests[0]).deadline == deadline
        asker.scope.cancel()
        with pytest.raises(AskTimeout, match=r"/Hands did not answer Question within 0\.01 s"):
            await first.ask(Question(1), timeout=0.01)


async def test_a_chain_whose_last_mailbox_is_full_fails_its_asker() -> None:
    """A router never waits for another's mailbox."""
    async with open_system() as system:
        last = await system.spawn(child(Hands()).options(capacity=1))
        first = await chain(system, last, 2)
        await last.pause()
        last.send_nowait(Question(0))
        with pytest.raises(MailboxFull, match="1 messages, BLOCK"):
            await first.ask(Question(1))
        assert first.statistics().unanswered == 0


# ---- askers that have left


async def test_an_actor_can_tell_when_nobody_waits_any_more() -> None:
    """When the asker was cancelled, its timeout or that of its scope is over, or it has its answer; not before."""
    hands = Hands()
    async with open_system() as system, anyio.create_task_group() as tasks:
        ref = await system.spawn(hands)
        leaving, waiting, answered = Asker(tasks, ref, 0), Asker(tasks, ref, 1, timeout=3600), Asker(tasks, ref, 2)
        await settle()
        requests = sorted(hands.requests, key=lambda request: request.number)
        assert [hands.ctx.abandoned(request) for request in requests] == [False, False, False]
        leaving.scope.cancel()
        hands.ctx.reply(requests[2], 42)
        await settle()
        assert [hands.ctx.abandoned(request) for request in requests] == [True, False, True]
        assert (waiting.outcome, answered.outcome) == ("none yet", 42)
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("how", ["timeout", "scope"])
async def test_a_request_is_abandoned_once_its_deadline_is_over(how: str) -> None:
    """Also while its asker has yet to notice, because the actor keeps the loop to itself."""

    async def busy(ctx: Context[Question]) -> None:
        request = await ctx.receive()
        seen.append(ctx.abandoned(request))
        jump(ctx.within(request).deadline - anyio.current_time())
        seen.append(ctx.abandoned(request))
        await ctx.wait_stopping()

    seen: list[bool] = []
    async with open_system() as system:
        ref = await system.spawn(busy)
        if how == "timeout":
            with pytest.raises(AskTimeout):
                await ref.ask(Question(1), timeout=1)
        else:
            with anyio.move_on_after(1) as scope:
                await ref.ask(Question(1))
            assert scope.cancelled_caught
    assert seen == [False, True]


async def test_what_nobody_asked_is_abandoned() -> None:
    """A request that was only sent has no asker."""
    hands = Hands()
    async with open_system() as system:
        ref = await system.spawn(hands)
        await ref.send(Question(1))
        await settle()
        assert hands.ctx.abandoned(hands.requests[0])
