"""Requests and their replies: each caller gets its own, and no other."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rookery import ActorCrashed, ActorStopped, AskCycle, Reason
from rookery.ring import KernelContext, RingKernelRuntime
from support import settle

from .support import Ping, Pong, running, silent

CALLERS = 4


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


async def test_a_message_tried_again_after_its_timeout_gets_the_second_reply() -> None:
    """The first reply is that of the first try, whose caller has left."""
    collector, ping = Collector(), Ping(1)
    async with RingKernelRuntime() as runtime:
        await running(runtime, "k", collector.run)
        with pytest.raises(TimeoutError):
            await runtime.send_and_receive("k", ping, timeout=0.01)
        async with anyio.create_task_group() as tasks:

            async def again() -> None:
                assert await runtime.send_and_receive("k", ping) == Pong(2)

            tasks.start_soon(again)
            await settle()
            for number in (1, 2):
                await collector.context.send(Pong(number, correlation_id=ping.message_id))


async def test_a_reply_without_a_correlation_goes_to_the_output_queue() -> None:
    """It says nothing of the request it would answer."""

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        await ctx.receive()
        await ctx.send(Pong(1))
        await ctx.receive()

    async with RingKernelRuntime() as runtime:
        await running(runtime, "k", kernel)
        with pytest.raises(TimeoutError):
            await runtime.send_and_receive("k", Ping(), timeout=0.01)
        assert await runtime.receive("k") == Pong(1)


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


async def test_several_replies_to_one_request_are_one_reply_and_output() -> None:
    """The first one is the reply."""
    collector = Collector()
    async with RingKernelRuntime() as runtime:
        await running(runtime, "k", collector.run)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(runtime.send_and_receive, "k", Ping(1))
            await settle()
            await collector.answer(1)
            await collector.answer(1)
        assert await runtime.receive("k") == Pong(1)


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
