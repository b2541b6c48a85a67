"""Asking: replies, failures, deadlines, and everything that can come between."""

from __future__ import annotations

import gc
import math
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from rookery import (
    ActorCrashed,
    ActorRef,
    ActorState,
    ActorStopped,
    AlreadyAnswered,
    AskCycle,
    AskTimeout,
    Context,
    MailboxFull,
    Overflow,
    Reason,
    Request,
    Restart,
    System,
    child,
    message,
    open_system,
)
from rookery._core.reply import SWEEP_AT
from stepped import Backend, jumping
from support import settle


@pytest.fixture(scope="module")
def anyio_backend(anyio_backend: Backend) -> Backend:
    """However slow the machine is: time passes when everybody waits, and not otherwise."""
    return jumping(anyio_backend)


@message
class Double(Request[int]):
    number: int


@message
class Note:
    text: str


async def doubler(ctx: Context[Double]) -> None:
    """Answers everything, and crashes on 13."""
    async for request in ctx:
        if request.number == 13:
            raise ValueError("unlucky")
        ctx.reply(request, request.number * 2)


async def silent(ctx: Context[Any], received: list[Any]) -> None:
    """Receives and never answers."""
    async for request in ctx:
        received.append(request)  # noqa: PERF401  # each at once


def reasons(system: System) -> dict[Reason, int]:
    """Counts of dead letters."""
    return system.dead_letters.statistics().by_reason


class Asker:
    """An ask in a task of its own, and what came of it."""

    def __init__(self, tasks: anyio.abc.TaskGroup, ref: ActorRef[Any], request: Any, **how: Any) -> None:
        self.outcome: Any = None
        self.scope = anyio.CancelScope()
        self._ask = lambda: ref.ask(request, **how)
        tasks.start_soon(self._run)

    async def _run(self) -> None:
        with self.scope:
            try:
                self.outcome = await self._ask()
            except Exception as error:  # noqa: BLE001
                self.outcome = error


# ---- answers


async def test_a_reply_is_what_the_ask_returns() -> None:
    """The value comes back, without and with a timeout."""
    async with open_system() as system:
        ref = await system.spawn(doubler)
        assert await ref.ask(Double(21)) == 42
        assert await ref.ask(Double(4), timeout=5, priority=255) == 8


async def test_a_failure_is_raised_in_the_asker_only() -> None:
    """The actor lives on, and serves the next."""

    async def picky(ctx: Context[Double]) -> None:
        async for request in ctx:
            if request.number < 0:
                ctx.fail(request, ValueError("negative"))
            else:
                ctx.reply(request, 1)

    async with open_system() as system:
        ref = await system.spawn(picky)
        with pytest.raises(ValueError, match="negative"):
            await ref.ask(Double(-1))
        assert await ref.ask(Double(1)) == 1
        assert ref.statistics().restarts == 0


async def test_fail_takes_an_exception() -> None:
    """A value where an exception belongs is refused, with both lines that may be meant; the request stays in hand."""

    async def confused(ctx: Context[Double]) -> None:
        async for request in ctx:
            with pytest.raises(TypeError, match=r"got 'no'.*ctx\.reply\(request, value\)"):
                ctx.fail(request, "no")  # type: ignore[arg-type]
            ctx.reply(request, 7)

    async with open_system() as system:
        ref = await system.spawn(confused)
        assert await ref.ask(Double(1)) == 7


async def test_requests_can_be_answered_in_any_order_and_from_any_task() -> None:
    """Each asker gets the answer to its own request."""

    async def hoarder(ctx: Context[Double]) -> None:
        requests = [await ctx.receive() for _ in range(3)]
        assert ctx.self.statistics().unanswered == 3

        async def answer(request: Double) -> None:
            ctx.reply(request, request.number * 2)

        for request in reversed(requests):
            ctx.start_soon(answer, request)
        await ctx.wait_stopping()

    async with open_system() as system, anyio.create_task_group() as tasks:
        ref = await system.spawn(hoarder)
        askers = [Asker(tasks, ref, Double(number)) for number in range(3)]
        await settle()
        assert sorted(asker.outcome for asker in askers) == [0, 2, 4]
        assert ref.statistics().unanswered == 0


async def test_the_same_object_asked_twice_is_answered_oldest_first() -> None:
    """Deliveries are told apart by their age when the object is the same."""
    request = Double(1)

    async def counter(ctx: Context[Double]) -> None:
        received = [await ctx.receive() for _ in range(3)]
        for number, again in enumerate(received):
            assert again is request
            ctx.reply(again, number)
        await ctx.wait_stopping()

    async with open_system() as system, anyio.create_task_group() as tasks:
        ref = await system.spawn(counter)
        askers = []
        for _ in range(3):
            askers.append(Asker(tasks, ref, request))
            await settle()
        assert [asker.outcome for asker in askers] == [0, 1, 2]


async def test_equal_requests_are_different_requests() -> None:
    """Identity, not equality, says what is answered."""

    async def backwards(ctx: Context[Double]) -> None:
        first, second = [await ctx.receive() for _ in range(2)]
        assert first == second
        ctx.reply(second, 2)
        ctx.reply(first, 1)
        await ctx.wait_stopping()

    async with open_system() as system, anyio.create_task_group() as tasks:
        ref = await system.spawn(backwards)
        first = Asker(tasks, ref, Double(5))
        await settle()
        second = Asker(tasks, ref, Double(5))
        await settle()
        assert (first.outcome, second.outcome) == (1, 2)


async def test_answering_twice_is_an_error() -> None:
    """The second answer raises in the actor, whichever way it is given, and the asker keeps the first."""

    async def eager(ctx: Context[Double]) -> None:
        async for request in ctx:
            ctx.reply(request, 1)
            for again in (
                lambda request=request: ctx.reply(request, 2),
                lambda request=request: ctx.fail(request, ValueError()),
                lambda request=request: ctx.forward(request, ctx.self),
            ):
                with pytest.raises(AlreadyAnswered, match="Double"):
                    again()

    async with open_system() as system:
        ref = await system.spawn(eager)
        assert await ref.ask(Double(1)) == 1
        assert await ref.ask(Double(1)) == 1
        await ref.stop()
        assert ref.statistics().restarts == 0


async def test_an_answer_to_a_mere_message_is_a_dead_letter() -> None:
    """What was sent, not asked, may be answered: the answer is discarded and counted."""
    async with open_system() as system:
        ref = await system.spawn(doubler)
        await ref.send(Double(2))
        await settle()
        assert reasons(system) == {Reason.NOT_ASKED: 1}
        (letter,) = system.dead_letters.recent
        assert (letter.message, letter.actor) == (4, "/doubler")


# ---- forwarding


async def test_a_failure_of_a_mere_message_is_a_dead_letter() -> None:
    """Likewise, with the error."""
    error = ValueError("too large")

    async def refusing(ctx: Context[Double]) -> None:
        async for request in ctx:
            ctx.fail(request, error)

    async with open_system() as system:
        ref = await system.spawn(refusing)
        await ref.send(Double(2))
        await settle()
        assert reasons(system) == {Reason.NOT_ASKED: 1}
        (letter,) = system.dead_letters.recent
        assert letter.message is error


async def test_a_forwarded_request_is_answered_by_the_other() -> None:
    """The answer goes straight to the asker, and the first actor has nothing in hand any more."""

    async def router(ctx: Context[Double], target: ActorRef[Double]) -> None:
        async for request in ctx:
            ctx.forward(request, target)

    async with open_system() as system:
        target = await system.spawn(doubler)
        ref = await system.spawn(router, target)
        assert await ref.ask(Double(3)) == 6
        assert ref.statistics().unanswered == 0


async def test_a_forwarded_request_keeps_its_priority() -> None:
    """It overtakes less urgent messages in the other mailbox as well."""
    received: list[Any] = []

    async def router(ctx: Context[Any], target: ActorRef[Any]) -> None:
        async for request in ctx:
            ctx.forward(request, target)

    async with open_system() as system, anyio.create_task_group() as tasks:
        target = await system.spawn(silent, received)
        ref = await system.spawn(router, target)
        await target.pause()
        await target.send(Note("plain"))
        Asker(tasks, ref, Double(1), priority=200)
        await settle()
        await target.resume()
        await settle()
        assert received == [Double(1), Note("plain")]
        target.stop_soon()


async def test_a_forward_to_a_full_mailbox_fails_the_asker() -> None:
    """Forwarding never waits, under no policy."""

    async def router(ctx: Context[Double], target: ActorRef[Double]) -> None:
        async for request in ctx:
            ctx.forward(request, target)

    async with open_system() as system:
        for overflow in (Overflow.BLOCK, Overflow.REJECT, Overflow.DROP_NEWEST):
            target = await system.spawn(child(doubler).options(capacity=1, overflow=overflow))
            ref = await system.spawn(router, target)
            await target.pause()
            await target.send(Double(0))
            with pytest.raises(MailboxFull):
                await ref.ask(Double(1))


async def test_a_forward_to_an_actor_that_has_ended_fails_the_asker() -> None:
    """The asker is told that the target is gone; the router lives on."""

    async def router(ctx: Context[Double], target: ActorRef[Double]) -> None:
        async for request in ctx:
            ctx.forward(request, target)

    async with open_system() as system:
        target = await system.spawn(doubler)
        ref = await system.spawn(router, target)
        await target.stop()
        with pytest.raises(ActorStopped, match="/doubler"):
            await ref.ask(Double(1))
        assert ref.state is ActorState.RUNNING


async def test_a_forward_of_a_wrong_type_leaves_the_request_in_hand() -> None:
    """The router gets the `TypeError` and can still answer."""

    async def router(ctx: Context[Any], target: ActorRef[Any]) -> None:
        async for request in ctx:
            with pytest.raises(TypeError, match="accepts Note"):
                ctx.forward(request, target)
            ctx.reply(request, -1)

    async def notes(ctx: Context[Note]) -> None:
        async for _ in ctx:
            pass

    async with open_system() as system:
        ref = await system.spawn(router, await system.spawn(notes))
        assert await ref.ask(Double(1)) == -1


async def test_a_request_that_is_forwarded_to_an_asker_who_has_left_is_a_dead_letter() -> None:
    """It closes no circle, because nobody waits for it: it is skipped when it comes up, and counted."""

    async def router(ctx: Context[Double], back: list[ActorRef[Any]]) -> None:
        request = await ctx.receive()
        log.append("received")
        await crashed.wait()
        ctx.forward(request, back[0])
        await ctx.receive()

    async def asker(ctx: Context[Any], other: ActorRef[Double]) -> None:
        if ctx.incarnation == 1:
            ctx.ready()
            with anyio.move_on_after(1):
                await other.ask(Double(1))
            log.append("left")
            raise ValueError
        crashed.set()
        await ctx.receive()

    log: list[str] = []
    crashed = anyio.Event()
    back: list[ActorRef[Any]] = []
    async with open_system() as system:
        other = await system.spawn(router, back)
        spec = child(asker, other)
        back.append(spec.ref)
        await system.spawn(spec)
        await crashed.wait()
        await settle()
        assert log == ["received", "left"]
        assert reasons(system) == {Reason.EXPIRED: 1}


# ---- deadlines


async def test_a_timeout_is_an_ask_timeout() -> None:
    """It is a `TimeoutError`, and names the actor, the request, the time and what the actor was doing."""
    async with open_system() as system:
        ref = await system.spawn(silent, [])
        with pytest.raises(AskTimeout, match=r"/silent did not answer Double within 0.01 s \(state: running") as raised:
            await ref.ask(Double(1), timeout=0.01)
        assert isinstance(raised.value, TimeoutError)


async def test_a_timeout_includes_the_wait_for_room() -> None:
    """An ask that never got into the mailbox times out as well, and was not delivered."""
    received: list[Any] = []
    async with open_system() as system:
        ref = await system.spawn(child(silent, received).options(capacity=1))
        await ref.pause()
        await ref.send(Note("first"))
        with pytest.raises(AskTimeout):
            await ref.ask(Double(1), timeout=0.01)
        assert ref.statistics().blocked_senders == 0
        await ref.resume()
        await settle()
        assert received == [Note("first")]


async def test_an_expired_request_is_skipped_and_counted() -> None:
    """A request whose timeout passed while it was queued is never handed out."""
    received: list[Any] = []
    async with open_system() as system:
        ref = await system.spawn(silent, received)
        await ref.pause()
        with pytest.raises(AskTimeout):
            await ref.ask(Double(1), timeout=0.01, priority=7)
        with anyio.move_on_after(0.01):
            await ref.ask(Double(2))
        await ref.send(Note("after"))
        await ref.resume()
        await settle()
        assert received == [Note("after")]
        assert reasons(system) == {Reason.EXPIRED: 2}
        assert {letter.priority for letter in system.dead_letters.recent} == {7, 128}
        assert ref.statistics().received == 1


async def test_an_abandoned_request_is_skipped_and_counted() -> None:
    """A request whose asker was cancelled while it was queued is never handed out."""
    received: list[Any] = []
    async with open_system() as system, anyio.create_task_group() as tasks:
        ref = await system.spawn(silent, received)
        await ref.pause()
        asker = Asker(tasks, ref, Double(1))
        await settle()
        asker.scope.cancel()
        await settle()
        await ref.resume()
        await settle()
        assert received == []
        assert reasons(system) == {Reason.ABANDONED: 1}


@pytest.mark.parametrize(
    "answer",
    [lambda ctx, request: ctx.reply(request, 1), lambda ctx, request: ctx.fail(request, ValueError("late"))],
    ids=["reply", "fail"],
)
async def test_a_late_answer_is_a_dead_letter_and_harms_nobody(answer: Callable[..., None]) -> None:
    """The actor answers a caller that has left, and goes on."""
    go_on = anyio.Event()

    async def slow(ctx: Context[Double]) -> None:
        request = await ctx.receive()
        assert not ctx.abandoned(request)
        await go_on.wait()
        assert ctx.abandoned(request)
        answer(ctx, request)
        async for request in ctx:
            ctx.fail(request, ValueError("no"))

    async with open_system() as system, anyio.create_task_group() as tasks:
        ref = await system.spawn(slow)
        asker = Asker(tasks, ref, Double(1))
        await settle()
        asker.scope.cancel()
        await settle()
        go_on.set()
        await settle()
        assert reasons(system) == {Reason.LATE_REPLY: 1}
        with pytest.raises(ValueError, match="no"):
            await ref.ask(Double(2))
        assert ref.statistics().restarts == 0


async def test_a_reply_and_a_cancellation_in_the_same_tick() -> None:
    """The asker is cancelled, whatever the order, and the reply is not lost silently: it is a dead letter."""
    inbox: list[tuple[Context[Double], Double]] = []

    async def open_handed(ctx: Context[Double]) -> None:
        async for request in ctx:
            inbox.append((ctx, request))  # noqa: PERF401  # each at once

    async with open_system() as system, anyio.create_task_group() as tasks:
        ref = await system.spawn(open_handed)
        for cancel_first in (False, True):
            before = reasons(system).get(Reason.LATE_REPLY, 0)
            asker = Asker(tasks, ref, Double(1))
            await settle()
            ctx, request = inbox.pop()
            if cancel_first:
                asker.scope.cancel()
            ctx.reply(request, 5)
            asker.scope.cancel()
            await settle()
            lost = reasons(system).get(Reason.LATE_REPLY, 0) - before
            assert [asker.outcome, lost] == [None, 1] or [asker.outcome, lost] == [5, 0]


async def test_the_deadline_is_the_earlier_of_timeout_and_scope() -> None:
    """The actor sees it through `within`."""
    deadlines: list[float] = []

    async def looker(ctx: Context[Double]) -> None:
        async for request in ctx:
            with ctx.within(request) as scope:
                deadlines.append(scope.deadline - anyio.current_time())
            ctx.reply(request, 0)

    async with open_system() as system:
        ref = await system.spawn(looker)
        await ref.ask(Double(0))
        await ref.ask(Double(0), timeout=100)
        with anyio.fail_after(50):
            await ref.ask(Double(0), timeout=100)
            await ref.ask(Double(0), timeout=10)
            await ref.ask(Double(0))
        assert deadlines == pytest.approx([math.inf, 100, 50, 10, 50])


async def test_deadlines_follow_a_virtual_clock() -> None:
    """An hour passes at once, and the answer a second before it arrives."""

    async def sleeper(ctx: Context[Double]) -> None:
        async for request in ctx:
            with ctx.within(request):
                await anyio.sleep(request.number)
                ctx.reply(request, 1)

    async with open_system() as system:
        ref = await system.spawn(sleeper)
        assert await ref.ask(Double(3599), timeout=3600) == 1
        started = anyio.current_time()
        with pytest.raises(AskTimeout):
            await ref.ask(Double(3601), timeout=3600)
        assert anyio.current_time() - started == pytest.approx(3600)


# ---- the other side ends


async def test_an_ask_of_an_actor_that_has_ended_fails_at_once() -> None:
    """The error names the actor and what it is."""
    async with open_system() as system:
        ref = await system.spawn(doubler)
        await ref.stop()
        with pytest.raises(ActorStopped, match="/doubler is stopped"):
            await ref.ask(Double(1))


async def test_a_queued_ask_fails_when_the_actor_ends() -> None:
    """Nobody waits for an actor that is gone; the request is a dead letter too."""
    async with open_system() as system, anyio.create_task_group() as tasks:
        ref = await system.spawn(doubler)
        await ref.pause()
        queued = Asker(tasks, ref, Double(1))
        await settle()
        await ref.stop()
        await settle()
        assert isinstance(queued.outcome, ActorStopped)
        assert reasons(system) == {Reason.UNREAD: 1}


async def test_a_blocked_ask_fails_when_the_actor_ends() -> None:
    """Neither does anybody wait for room in its mailbox."""
    async with open_system() as system, anyio.create_task_group() as tasks:
        ref = await system.spawn(child(doubler).options(capacity=1))
        await ref.pause()
        await ref.send(Double(0))
        blocked = [Asker(tasks, ref, Double(1)), Asker(tasks, ref, Double(1), timeout=60)]
        await settle()
        assert ref.statistics().blocked_senders == 2
        await ref.stop()
        await settle()
        assert [type(asker.outcome) for asker in blocked] == [ActorStopped, ActorStopped]


async def test_an_unanswered_request_fails_when_the_actor_returns() -> None:
    """A normal end leaves `ActorStopped` for those it has in hand."""

    async def quitter(ctx: Context[Double]) -> None:
        await ctx.receive()

    async with open_system() as system:
        ref = await system.spawn(quitter)
        with pytest.raises(ActorStopped, match="ended without answering Double"):
            await ref.ask(Double(1))


async def test_a_crash_on_a_request_is_told_to_its_asker() -> None:
    """`ActorCrashed`, with the crash as the cause; the actor restarts and serves the next."""
    async with open_system() as system:
        ref = await system.spawn(doubler)
        with pytest.raises(ActorCrashed, match="/doubler crashed while it had Double in hand") as raised:
            await ref.ask(Double(13))
        assert isinstance(raised.value.__cause__, ValueError)
        assert await ref.ask(Double(1)) == 2


async def test_a_queued_ask_survives_a_crash() -> None:
    """Only what was in hand fails: what was queued is served by the next incarnation."""
    async with open_system() as system, anyio.create_task_group() as tasks:
        ref = await system.spawn(doubler)
        await ref.pause()
        unlucky = Asker(tasks, ref, Double(13))
        await settle()
        lucky = Asker(tasks, ref, Double(1))
        await settle()
        await ref.resume()
        await settle()
        assert isinstance(unlucky.outcome, ActorCrashed)
        assert lucky.outcome == 2


async def test_a_child_that_asks_its_crashing_owner_does_not_hold_it_up() -> None:
    """Requests in hand are settled before the children end, so that a child with no limit can end."""

    async def curious(ctx: Context[Any], owner: ActorRef[Any], outcomes: list[Any]) -> None:
        ctx.ready()
        try:
            await owner.ask(Double(1))
        except ActorCrashed as error:
            outcomes.append(error)
        await ctx.wait_stopping()

    async def owner(ctx: Context[Any], outcomes: list[Any]) -> None:
        if ctx.incarnation == 1:
            await ctx.spawn(child(curious, ctx.self, outcomes).options(stop_timeout=math.inf))
            await ctx.receive()
            raise ValueError
        await ctx.wait_stopping()

    outcomes: list[Any] = []
    with anyio.fail_after(5):
        async with open_system() as system:
            ref = await system.spawn(owner, outcomes)
            await settle()
            assert ref.statistics().restarts == 1
    assert [type(outcome) for outcome in outcomes] == [ActorCrashed]


async def test_a_child_that_waits_in_the_queue_of_its_stopping_owner_does_not_hold_it_up() -> None:
    """Requests that nobody will receive are settled before the children end."""

    async def curious(ctx: Context[Any], owner: ActorRef[Any], outcomes: list[Any]) -> None:
        ctx.ready()
        try:
            await owner.ask(Double(1))
        except ActorStopped as error:
            outcomes.append(error)

    async def owner(ctx: Context[Any], outcomes: list[Any]) -> None:
        await ctx.spawn(child(curious, ctx.self, outcomes).options(stop_timeout=math.inf))
        await ctx.wait_stopping()

    outcomes: list[Any] = []
    with anyio.fail_after(5):
        async with open_system() as system:
            ref = await system.spawn(child(owner, outcomes).options(stop_timeout=math.inf))
            await settle()
            assert ref.statistics().queued == 1
    assert [type(outcome) for outcome in outcomes] == [ActorStopped]


# ---- mailbox policies


async def test_an_ask_that_is_refused_or_evicted_fails() -> None:
    """Under every policy but BLOCK somebody gets `MailboxFull`, and nobody waits."""
    expected = {Overflow.REJECT: "second", Overflow.DROP_NEWEST: "second", Overflow.DROP_OLDEST: "first"}
    for overflow, loser in expected.items():
        async with open_system() as system, anyio.create_task_group() as tasks:
            ref = await system.spawn(child(doubler).options(capacity=1, overflow=overflow))
            await ref.pause()
            askers = {}
            for name in ("first", "second"):
                askers[name] = Asker(tasks, ref, Double(1))
                await settle()
            assert {loser} == {name for name, asker in askers.items() if isinstance(asker.outcome, MailboxFull)}
            await ref.resume()
            await settle()
            assert {2} == {asker.outcome for name, asker in askers.items() if name != loser}


# ---- cycles


async def caller(ctx: Context[Any], act: Callable[[Context[Any], Any], Awaitable[None]]) -> None:
    """Does as it is told with each message."""
    async for received in ctx:
        await act(ctx, received)


async def test_asking_oneself_is_a_cycle() -> None:
    """The error names the circle and two ways out."""

    async def ask_self(ctx: Context[Any], request: Any) -> None:
        with pytest.raises(AskCycle, match=r"/caller -> /caller; send .*ctx\.start_soon"):
            await ctx.self.ask(Double(1))
        ctx.reply(request, 0)

    async with open_system() as system:
        ref = await system.spawn(caller, ask_self)
        assert await ref.ask(Double(1)) == 0


async def test_asking_oneself_from_another_task_is_none() -> None:
    """The main task is free to answer."""

    async def ask_in_a_task(ctx: Context[Any], request: Double) -> None:
        async def ask() -> None:
            ctx.reply(request, await ctx.self.ask(Double(0)) + 1)

        if request.number:
            ctx.start_soon(ask)
        else:
            ctx.reply(request, 10)

    async with open_system() as system:
        ref = await system.spawn(caller, ask_in_a_task)
        assert await ref.ask(Double(1), timeout=5) == 11


async def test_a_longer_cycle_is_found() -> None:
    """a asks b asks c asks a: the last of these fails, and all others get their answers."""
    refs: dict[str, ActorRef[Any]] = {}
    follows = {"a": "b", "b": "c", "c": "a"}

    async def pass_on(ctx: Context[Any], request: Any) -> None:
        try:
            ctx.reply(request, await refs[follows[ctx.name]].ask(request))
        except AskCycle as error:
            ctx.reply(request, str(error))

    async with open_system() as system:
        for name in follows:
            refs[name] = await system.spawn(caller, pass_on, name=name)
        assert "/c -> /a -> /b -> /c" in await refs["a"].ask(Double(1), timeout=5)


async def test_one_may_ask_the_asker_after_having_answered() -> None:
    """An answered ask waits for nobody, also before its asker has resumed."""

    async def answer_and_ask(ctx: Context[Any], request: Any) -> None:
        ctx.reply(request, 1)
        assert await refs["back"].ask(Double(4)) == 8
        done.set()

    async def ask_then_serve(ctx: Context[Double], other: ActorRef[Any]) -> None:
        ctx.ready()
        assert await other.ask(Double(1)) == 1
        await doubler(ctx)

    refs: dict[str, ActorRef[Any]] = {}
    done = anyio.Event()
    async with open_system() as system:
        other = await system.spawn(caller, answer_and_ask)
        spec = child(ask_then_serve, other)
        refs["back"] = spec.ref
        await system.spawn(spec)
        with anyio.fail_after(5):
            await done.wait()


async def test_one_may_ask_the_asker_after_having_forwarded() -> None:
    """A forwarded ask waits for the one it was forwarded to."""
    go_on = anyio.Event()
    outcomes: list[int] = []

    async def gated(ctx: Context[Double]) -> None:
        async for request in ctx:
            await go_on.wait()
            ctx.reply(request, 3)

    async def forward_and_ask(ctx: Context[Any], request: Any) -> None:
        ctx.forward(request, refs["gated"])
        go_on.set()
        outcomes.append(await refs["back"].ask(Double(4)))

    async def ask_then_serve(ctx: Context[Double], other: ActorRef[Any]) -> None:
        ctx.ready()
        outcomes.append(await other.ask(Double(1)))
        await doubler(ctx)

    refs: dict[str, ActorRef[Any]] = {}
    async with open_system() as system:
        refs["gated"] = await system.spawn(gated)
        other = await system.spawn(caller, forward_and_ask)
        spec = child(ask_then_serve, other)
        refs["back"] = spec.ref
        await system.spawn(spec)
        await settle()
        assert outcomes == [3, 8]


async def test_a_forward_that_closes_a_circle_fails_its_asker() -> None:
    """a asks b, b forwards to c, and c waits for a: nobody could answer."""

    async def forward_to_c(ctx: Context[Any], request: Any) -> None:
        await go_on.wait()
        ctx.forward(request, refs["c"])

    async def ask_b(ctx: Context[Any], request: Any) -> None:
        with pytest.raises(AskCycle):
            await refs["b"].ask(request)
        caught.set()

    async def ask_a(ctx: Context[Any], request: Any) -> None:
        await refs["a"].ask(request)

    refs: dict[str, ActorRef[Any]] = {}
    go_on, caught = anyio.Event(), anyio.Event()
    with anyio.fail_after(5):
        async with open_system() as system:
            for name, act in (("b", forward_to_c), ("a", ask_b), ("c", ask_a)):
                spec = child(caller, act).options(name=name, stop_timeout=0)
                refs[name] = await system.spawn(spec)
            await refs["a"].send(Double(1))
            await settle()
            await refs["c"].send(Double(1))
            await settle()
            go_on.set()
            await caught.wait()


async def test_requests_that_are_never_answered_do_not_pile_up() -> None:
    """An actor that ignores requests lets go of those whose asker has left, and still knows the others."""

    async def ignores(ctx: Context[Double]) -> None:
        first = await ctx.receive()
        async for request in ctx:
            if request.number < 0:
                ctx.reply(first, 42)

    answers: list[int] = []
    async with open_system() as system, anyio.create_task_group() as tasks:
        ref = await system.spawn(ignores)

        async def ask_first() -> None:
            answers.append(await ref.ask(Double(1)))

        tasks.start_soon(ask_first)
        await settle()
        for number in range(500):
            with anyio.CancelScope() as scope:
                tasks.start_soon(_cancel_soon, scope)
                await ref.ask(Double(number))
        assert ref.statistics().unanswered <= 2 * SWEEP_AT
        await ref.send(Double(-1))
    assert answers == [42]


async def _cancel_soon(scope: anyio.CancelScope) -> None:
    await settle()
    scope.cancel()


@pytest.mark.parametrize("restart", [Restart.TRANSIENT, Restart.TEMPORARY])
async def test_a_child_in_the_queue_of_its_crashing_owner_does_not_hold_it_up(restart: Restart) -> None:
    """Its ask fails before the owner waits for it to end, whether or not the owner starts again."""
    outcomes: list[str] = []

    async def kid(ctx: Context[Any], owner: Any) -> None:
        ctx.ready()
        try:
            await owner.ask(Double(1))
        except ActorStopped:
            outcomes.append("told")

    async def owner(ctx: Context[Double]) -> None:
        ctx.ready()
        if ctx.incarnation == 1:
            await ctx.spawn(child(kid, ctx.self).options(stop_timeout=math.inf))
            await settle()
            raise ValueError("with a child's request unread")
        await ctx.wait_stopping()

    with anyio.fail_after(20):
        async with open_system() as system:
            spec = child(owner).options(restart=restart)
            await system.spawn(spec)
            for _ in range(3):  # the owner settles once before it crashes
                await settle()
            assert outcomes == ["told"]


async def test_an_error_that_was_answered_is_let_go_of_with_its_last_use() -> None:
    """It is part of no circle of references: what its frames hold does not wait for the garbage collector."""

    class RefusedError(Exception):
        pass

    async def refusing(ctx: Context[Double]) -> None:
        async for request in ctx:
            ctx.fail(request, RefusedError("no"))

    seen: weakref.ref[RefusedError] | None = None
    async with open_system() as system:
        ref = await system.spawn(refusing)
        gc.disable()
        try:
            try:
                await ref.ask(Double(1))
            except RefusedError as error:
                seen = weakref.ref(error)
            assert seen is not None
            assert seen() is None
        finally:
            gc.enable()


@pytest.mark.parametrize("moved", [True, False], ids=["moved", "not-moved"])
async def test_nobody_waits_for_ever_whose_deadline_is_moved_while_the_request_is_queued(moved: bool) -> None:
    """The request expires as it was sent; its asker is told, or cancelled by its own scope, as ever."""
    outcomes: list[str] = []

    async def asker(ref: ActorRef[Double], scope: anyio.CancelScope) -> None:
        with scope:
            try:
                await ref.ask(Double(1))
            except AskTimeout as error:
                outcomes.append(str(error))
        outcomes.append("cancelled" if scope.cancelled_caught else "left")

    async with open_system() as system, anyio.create_task_group() as tasks:
        ref = await system.spawn(doubler)
        await ref.pause()
        scope = anyio.CancelScope(deadline=anyio.current_time() + 0.05)
        tasks.start_soon(asker, ref, scope)
        await settle()
        if moved:
            was, scope.deadline = scope.deadline, math.inf
            await anyio.sleep_until(was)
            await ref.resume()
        else:
            await anyio.sleep_until(scope.deadline)
    if moved:
        assert outcomes[1] == "left"
        assert "set it before asking" in outcomes[0]
    else:
        assert outcomes == ["cancelled"]
