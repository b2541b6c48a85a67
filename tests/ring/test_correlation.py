"""Requests and their replies: each caller gets its own, and no other."""

from __future__ import annotations

import gc
from contextlib import suppress
from typing import Any
from uuid import uuid4
from weakref import ref

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rookery import ActorCrashed, ActorStopped, AskCycle, Reason
from rookery.ring import KernelContext, RingKernelRuntime
from rookery.ring._callers import SETTLED, Callers
from stepped import Backend, jumping
from support import settle

from .support import Ping, Pong, echo, running, silent

CALLERS = 4


@pytest.fixture(scope="module")
def anyio_backend(anyio_backend: Backend) -> Backend:
    """Time passes when everybody waits."""
    return jumping(anyio_backend)


class Collector:
    """A kernel that keeps every request; the test answers in its place, when and as it likes."""

    def __init__(self) -> None:
        self.requests: list[Ping] = []
        self.context: KernelContext[Any, Any]

    async def run(self, ctx: KernelContext[Any, Any]) -> None:
        self.context = ctx
        while True:
            self.requests.append(await ctx.receive())

    async def answer(self, number: int) -> None:
        """Reply to the request of this number."""
        request = next(one for one in self.requests if one.number == number)
        await self.context.send(Pong(number, correlation_id=request.message_id))


def late_replies(runtime: RingKernelRuntime) -> list[Any]:
    """The dead letters that came too late."""
    return [letter.message for letter in runtime.dead_letters.recent if letter.reason is Reason.LATE_REPLY]


@st.composite
def interleavings(draw: st.DrawFn) -> list[tuple[str, int]]:
    """Each caller may be answered once and may leave, in any order, with other messages and pauses between."""
    answers = [("answer", number) for number in draw(st.sets(st.integers(0, CALLERS - 1)))]
    leaving = [("leave", number) for number in draw(st.sets(st.integers(0, CALLERS - 1)))]
    others = draw(st.lists(st.sampled_from([("other", -1), ("pause", -1)]), max_size=6))
    return draw(st.permutations([*answers, *leaving, *others]))


@given(interleavings())
async def test_each_caller_gets_its_own_reply_and_no_other(steps: list[tuple[str, int]]) -> None:
    """Whoever leaves whenever: replies go to their callers, everything else to the output queue, in order."""
    collector, got = Collector(), dict[int, Pong]()
    scopes = [anyio.CancelScope() for _ in range(CALLERS)]

    async def call(number: int) -> None:
        with scopes[number]:
            got[number] = await runtime.send_and_receive("k", Ping(number))

    async with RingKernelRuntime() as runtime:
        await running(runtime, "k", collector.run)
        async with anyio.create_task_group() as tasks:
            for number in range(CALLERS):
                tasks.start_soon(call, number)
            await settle()
            for step, number in steps:
                match step:
                    case "answer":
                        await collector.answer(number)
                    case "leave":
                        scopes[number].cancel()
                    case "other":
                        await collector.context.send(Pong(number))
                    case _:
                        await settle()
            await settle()
            tasks.cancel_scope.cancel()

        assert got == {number: Pong(number) for number in got}
        answered = [number for step, number in steps if step == "answer"]
        left = [number for step, number in steps if step == "leave"]
        assert {number for number in answered if number not in left} <= set(got) <= set(answered)
        others = sum(step == "other" for step, _ in steps)
        assert [await runtime.receive("k") for _ in range(others)] == [Pong(-1)] * others
        with pytest.raises(TimeoutError):
            await runtime.receive("k", timeout=0)


async def test_a_late_reply_reaches_nobody() -> None:
    """Not the next caller, and not whoever receives from the output queue; it is a dead letter."""
    collector = Collector()
    async with RingKernelRuntime() as runtime:
        await running(runtime, "k", collector.run)
        with pytest.raises(TimeoutError):
            await runtime.send_and_receive("k", Ping(1), timeout=0.01)
        async with anyio.create_task_group() as tasks:

            async def next_caller() -> None:
                assert await runtime.send_and_receive("k", Ping(2)) == Pong(2)

            tasks.start_soon(next_caller)
            await settle()
            await collector.answer(1)
            await settle()
            await collector.answer(2)
        assert [(letter.message, letter.reason) for letter in runtime.dead_letters.recent] == [
            (Pong(1), Reason.LATE_REPLY)
        ]
        with pytest.raises(TimeoutError):
            await runtime.receive("k", timeout=0)


async def test_a_message_tried_again_after_its_timeout_gets_the_first_reply_that_comes() -> None:
    """Both replies are replies to that message; the other one is of no use to anybody."""
    collector, ping = Collector(), Ping(1)
    async with RingKernelRuntime() as runtime:
        await running(runtime, "k", collector.run)
        with pytest.raises(TimeoutError):
            await runtime.send_and_receive("k", ping, timeout=0.01)
        async with anyio.create_task_group() as tasks:

            async def again() -> None:
                assert await runtime.send_and_receive("k", ping, timeout=10) == Pong(1)

            tasks.start_soon(again)
            await settle()
            assert collector.requests == [ping, ping]
            for number in (1, 2):
                await collector.context.send(Pong(number, correlation_id=ping.message_id))
        assert late_replies(runtime) == [Pong(2)]


async def test_a_message_tried_again_after_a_late_reply_gets_its_own() -> None:
    """That the first try was never answered in time does not stand in the way of the second."""
    collector, ping = Collector(), Ping(1)
    async with RingKernelRuntime() as runtime:
        await running(runtime, "k", collector.run)
        with pytest.raises(TimeoutError):
            await runtime.send_and_receive("k", ping, timeout=0.01)
        await collector.answer(1)
        async with anyio.create_task_group() as tasks:

            async def again() -> None:
                assert await runtime.send_and_receive("k", ping, timeout=10) == Pong(1)

            tasks.start_soon(again)
            await settle()
            await collector.answer(1)
        assert late_replies(runtime) == [Pong(1)]


async def test_a_message_sent_and_asked_is_no_reason_to_crash() -> None:
    """The reply to what was sent comes before what was asked is received: it is nobody's."""
    go, ping = anyio.Event(), Ping(1)

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        for number in (1, 2):
            request = await ctx.receive()
            await go.wait()
            await ctx.send(Pong(number, correlation_id=request.message_id))

    async with RingKernelRuntime() as runtime:
        await running(runtime, "k", kernel)
        await runtime.send("k", ping)
        async with anyio.create_task_group() as tasks:

            async def ask() -> None:
                assert await runtime.send_and_receive("k", ping, timeout=10) == Pong(2)

            tasks.start_soon(ask)
            await settle()
            go.set()
        assert late_replies(runtime) == [Pong(1)]


class Request:
    """A request that tells when it is gone."""

    def __init__(self) -> None:
        self.message_id = uuid4()


async def test_requests_that_are_never_answered_are_forgotten() -> None:
    """When their callers have left: a kernel that lives long does not keep them all."""
    received: list[ref[Request]] = []

    async def deaf(ctx: KernelContext[Request, Any]) -> None:
        while True:
            received.append(ref(await ctx.receive()))

    async with RingKernelRuntime() as runtime:
        await running(runtime, "k", deaf)
        for _ in range(300):
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(runtime.send_and_receive, "k", Request())
                    await settle()
                    scope.cancel()
        gc.collect()
        assert len(received) == 300
        assert sum(request() is not None for request in received) <= 100


def test_only_so_many_ids_are_remembered() -> None:
    """The latest ones."""
    callers, messages = Callers(), [Ping(number) for number in range(SETTLED + 2)]
    for message in messages:
        callers.begin(message)
        callers.end(message.message_id)
    assert [callers.knows(message.message_id) for message in messages[:3]] == [False, False, True]
    assert callers.knows(messages[-1].message_id)


async def test_a_reply_without_a_correlation_goes_to_the_output_queue() -> None:
    """It says nothing of the request it would answer; its caller is told what is missing."""

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        await ctx.receive()
        await ctx.send(Pong(1))
        while True:
            await ctx.receive()

    async with RingKernelRuntime() as runtime:
        await running(runtime, "k", kernel)
        with pytest.raises(TimeoutError, match=r"for a reply write `correlation_id=request\.message_id`$"):
            await runtime.send_and_receive("k", Ping(), timeout=0.01)
        assert await runtime.receive("k") == Pong(1)
        with pytest.raises(TimeoutError) as caught:
            await runtime.send_and_receive("k", Ping(), timeout=0.01)
        assert "correlation_id" not in str(caught.value)


async def test_correlated_replies_to_what_was_only_sent_are_output() -> None:
    """Nobody waits for them but whoever receives, also while others wait for replies of theirs."""
    collector = Collector()
    async with RingKernelRuntime() as runtime:
        await running(runtime, "k", collector.run)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(runtime.send_and_receive, "k", Ping(1))
            await settle()
            await runtime.send("k", Ping(5))
            await settle()
            await collector.answer(5)
            reply = await runtime.receive("k")
            assert reply.correlation_id == collector.requests[1].message_id
            await collector.answer(1)


@pytest.mark.parametrize("timeout", [0.01, 10])
async def test_several_replies_to_one_request_are_one_reply_at_most(timeout: float) -> None:
    """The first one, if it comes in time. The others reach nobody, not even whoever receives next."""
    collector = Collector()
    async with RingKernelRuntime() as runtime:
        await running(runtime, "k", collector.run)
        async with anyio.create_task_group() as tasks:

            async def call() -> None:
                with suppress(TimeoutError):
                    await runtime.send_and_receive("k", Ping(1), timeout=timeout)
                left.set()

            left = anyio.Event()
            tasks.start_soon(call)
            await settle()
            if timeout < 1:
                await left.wait()
            for _ in range(3):
                await collector.answer(1)
        assert len(late_replies(runtime)) == (2 if timeout == 10 else 3)
        with pytest.raises(TimeoutError):
            await runtime.receive("k", timeout=0)


async def test_one_message_is_not_asked_twice_at_a_time() -> None:
    """Its reply would say nothing of which caller it is for."""
    ping = Ping(1)
    async with RingKernelRuntime() as runtime:
        await runtime.launch("k", silent)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(runtime.send_and_receive, "k", ping)
            await settle()
            with pytest.raises(ValueError, match="make a message for each request"):
                await runtime.send_and_receive("k", ping)
            tasks.cancel_scope.cancel()


async def test_a_request_needs_an_id() -> None:
    """The error says how to give it one."""
    async with RingKernelRuntime() as runtime:
        await runtime.launch("k", silent)
        with pytest.raises(TypeError, match=r"'text' does not have: decorate its class with `@ring.message`"):
            await runtime.send_and_receive("k", "text")


async def test_callers_learn_of_the_kernels_end_at_once() -> None:
    """A crash on their request is its cause; a kernel that ends without answering says so."""

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        if (await ctx.receive()).number == 13:
            raise ValueError("unlucky")

    async with RingKernelRuntime() as runtime:
        await running(runtime, "k", kernel)
        with pytest.raises(ActorCrashed) as caught:
            await runtime.send_and_receive("k", Ping(13))
        assert str(caught.value.__cause__) == "unlucky"
        with pytest.raises(ActorStopped):
            await runtime.send_and_receive("k", Ping(1))
        with pytest.raises(ActorStopped):
            await runtime.send_and_receive("k", Ping(1))


async def test_kernels_that_wait_for_each_other_in_a_circle_are_told() -> None:
    """Instead of waiting for ever."""
    told: list[Exception] = []

    async def asks_itself(ctx: KernelContext[Any, Any]) -> None:
        await ctx.receive()
        with pytest.raises(AskCycle) as caught:
            await runtime.send_and_receive("k", Ping())
        told.append(caught.value)

    async with RingKernelRuntime() as runtime:
        await running(runtime, "k", asks_itself)
        await runtime.send("k", Ping())
        await settle()
    assert len(told) == 1


async def test_a_request_is_one_for_ever() -> None:
    """Sent once more, nobody is told of its reply, which is a dead letter; `receive` has those of other messages."""
    async with RingKernelRuntime() as runtime:
        await running(runtime, "echo", echo)
        request = Ping(1)
        await runtime.send_and_receive("echo", request)
        await runtime.send("echo", request)
        await runtime.send("echo", Ping(2))
        assert (await runtime.receive("echo")).number == 2
        assert [letter.message.number for letter in runtime.dead_letters.recent] == [1]
