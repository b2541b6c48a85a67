"""The two queues of a kernel: types, timeouts, urgency, and what happens when one is full."""

from __future__ import annotations

import math
from typing import Any

import anyio
import pytest

from rookery import MailboxFull, Reason
from rookery.ring import BackpressureStrategy, KernelContext, KernelTimeout, RingKernelRuntime
from support import settle

from .support import Ping, Pong, echo, running, silent


async def test_a_wrong_type_is_refused_where_it_is_sent() -> None:
    """At the input by the caller's error, and nothing was queued."""
    async with RingKernelRuntime() as runtime:
        await runtime.launch("k", silent, input_type=Ping)
        for send in (runtime.send, runtime.send_and_receive):
            with pytest.raises(TypeError, match=r"the kernel 'k' takes Ping, got Pong: Pong\("):
                await send("k", Pong())
        telemetry = runtime.get_telemetry("k")
        assert telemetry is not None
        assert telemetry.queue_depth == 0


async def test_a_kernel_that_sends_a_wrong_type_is_told() -> None:
    """The message does not reach the output queue."""
    refused: list[str] = []

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        with pytest.raises(TypeError) as caught:
            await ctx.send(Ping())
        refused.append(str(caught.value))
        await ctx.send(Pong(1))

    async with RingKernelRuntime() as runtime:
        await runtime.launch("k", kernel, output_type=(Pong, int))
        assert await runtime.receive("k") == Pong(1)
    assert refused[0].startswith("the output queue of the kernel 'k' takes Pong or int, got Ping")


async def test_any_value_is_a_message_where_no_type_is_given() -> None:
    """Not only ring messages."""

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        while True:
            await ctx.send(await ctx.receive())

    async with RingKernelRuntime() as runtime:
        await running(runtime, "k", kernel)
        for value in ("text", None, 3):
            await runtime.send("k", value)
            assert await runtime.receive("k") == value


@pytest.mark.parametrize("timeout", [0, 0.01])
async def test_nothing_received_in_time_is_a_timeout(timeout: float) -> None:
    """It is a ``TimeoutError`` that says where the kernel stands."""
    async with RingKernelRuntime() as runtime:
        await runtime.launch("k", silent)
        await runtime.send("k", Ping())
        with pytest.raises(KernelTimeout, match=r"state: launched, waiting in its input queue: 1") as caught:
            await runtime.receive("k", timeout=timeout)
        assert isinstance(caught.value, TimeoutError)


async def test_no_room_in_time_is_a_timeout() -> None:
    """And the message was not sent."""
    async with RingKernelRuntime() as runtime:
        await runtime.launch("echo", echo, queue_size=1)
        await runtime.send("echo", Ping(1), timeout=1)
        with pytest.raises(KernelTimeout, match=r"input queue of the kernel 'echo' is full \(1 messages, BLOCK\)"):
            await runtime.send("echo", Ping(2), timeout=0.01)
        with pytest.raises(TimeoutError):
            await runtime.send_and_receive("echo", Ping(3), timeout=0.01)
        await runtime.activate("echo")
        assert await runtime.receive("echo") == Pong(1)
        await settle()
        with pytest.raises(TimeoutError):
            await runtime.receive("echo", timeout=0)


async def test_no_reply_in_time_is_a_timeout_and_the_request_is_not_served() -> None:
    """It is skipped when it comes up."""
    async with RingKernelRuntime() as runtime:
        await runtime.launch("echo", echo)
        with pytest.raises(TimeoutError, match=r"echo did not answer Ping within 0.01 s"):
            await runtime.send_and_receive("echo", Ping(), timeout=0.01)
        await runtime.activate("echo")
        await settle()
        assert [letter.reason for letter in runtime.dead_letters.recent] in ([Reason.ABANDONED], [Reason.EXPIRED])
        telemetry = runtime.get_telemetry("echo")
        assert telemetry is not None
        assert telemetry.messages_processed == 0


async def test_urgent_messages_are_handed_over_first() -> None:
    """Larger is more urgent, and order of arrival counts within one urgency; at the output as at the input."""
    numbers: list[int] = []

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        for _ in range(4):
            ping = await ctx.receive()
            numbers.append(ping.number)
        for priority in (1, 128, 255):
            await ctx.send(Pong(priority, priority=priority))

    async with RingKernelRuntime() as runtime:
        await runtime.launch("k", kernel)
        for number, priority in enumerate([128, 10, 250, 128]):
            await runtime.send("k", Ping(number, priority=priority))
        await runtime.activate("k")
        received = [await runtime.receive("k") for _ in range(3)]
    assert numbers == [2, 0, 3, 1]
    assert [pong.number for pong in received] == [255, 128, 1]


async def test_a_priority_spoilt_after_construction_is_refused_at_send() -> None:
    """The queues are never given a level they do not have."""
    ping = Ping()
    ping.priority = 999
    refused: list[str] = []

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        with pytest.raises(ValueError, match="0 to 255") as caught:
            await ctx.send(ping)
        refused.append(str(caught.value))

    async with RingKernelRuntime() as runtime:
        await runtime.launch("k", kernel)
        with pytest.raises(ValueError, match="0 to 255"):
            await runtime.send("k", ping)
        await settle()
    assert len(refused) == 1


async def test_block_lets_the_sender_wait_for_room() -> None:
    """A fast sender goes on when the kernel has taken a message, and nothing is lost."""
    async with RingKernelRuntime() as runtime:
        await runtime.launch("echo", echo, queue_size=2)
        async with anyio.create_task_group() as tasks:

            async def send_all() -> None:
                for number in range(10):
                    await runtime.send("echo", Ping(number))

            tasks.start_soon(send_all)
            await settle()
            telemetry = runtime.get_telemetry("echo")
            assert telemetry is not None
            assert telemetry.queue_depth == 2
            await runtime.activate("echo")
            assert [await runtime.receive("echo") for _ in range(10)] == [Pong(number) for number in range(10)]


async def test_a_full_output_queue_holds_the_kernel_back() -> None:
    """Back-pressure goes through the kernel to whoever sends to it."""
    async with RingKernelRuntime() as runtime:
        await running(runtime, "echo", echo, queue_size=1)
        for number in range(3):  # one in each queue, one in the kernel's hands
            await runtime.send("echo", Ping(number))
            await settle()
        with pytest.raises(TimeoutError):
            await runtime.send("echo", Ping(9), timeout=0.01)
        assert [await runtime.receive("echo") for _ in range(3)] == [Pong(0), Pong(1), Pong(2)]


async def test_reject_refuses_at_once() -> None:
    """With `MailboxFull`, at both queues and for requests too."""
    refused: list[str] = []

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        await ctx.send(Pong())
        with pytest.raises(MailboxFull) as caught:
            await ctx.send(Pong())
        refused.append(str(caught.value))
        await ctx.receive()

    async with RingKernelRuntime() as runtime:
        await runtime.launch("k", kernel, queue_size=1, backpressure=BackpressureStrategy.REJECT)
        await runtime.send("k", Ping())
        for send in (runtime.send, runtime.send_and_receive):
            with pytest.raises(MailboxFull, match=r"input queue of the kernel 'k' is full .*larger `queue_size`"):
                await send("k", Ping())
    assert refused[0].startswith("the output queue of the kernel 'k' is full (1 messages, REJECT)")


async def test_drop_oldest_makes_room_and_tells_who_waits() -> None:
    """The oldest of the least urgent goes, is a dead letter, and fails the caller who waits for its reply."""
    async with RingKernelRuntime() as runtime:
        await runtime.launch("k", silent, queue_size=2, backpressure="drop_oldest")
        async with anyio.create_task_group() as tasks:

            async def ask() -> None:
                with pytest.raises(MailboxFull, match="dropped this request"):
                    await runtime.send_and_receive("k", Ping(0))

            tasks.start_soon(ask)
            await settle()
            await runtime.send("k", Ping(1, priority=255))
            await runtime.send("k", Ping(2))
        assert [letter.message for letter in runtime.dead_letters.recent] == [Ping(0)]


async def test_a_cancelled_send_and_a_cancelled_receive_changed_nothing() -> None:
    """The message is not in the queue, and the message is still in the queue."""

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        await ctx.send(Pong(1))

    async with RingKernelRuntime() as runtime:
        await runtime.launch("full", silent, queue_size=1)
        await runtime.send("full", Ping(1))
        await runtime.launch("k", kernel)
        await settle()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(runtime.send, "full", Ping(2))
            tasks.start_soon(runtime.receive, "full")
            await settle()
            tasks.cancel_scope.cancel()
        telemetry = runtime.get_telemetry("full")
        assert telemetry is not None
        assert telemetry.queue_depth == 1
        assert await runtime.receive("k") == Pong(1)


async def test_what_a_terminated_kernel_sent_can_still_be_received() -> None:
    """Until nothing is left."""
    async with RingKernelRuntime() as runtime:
        await running(runtime, "echo", echo)
        await runtime.send("echo", Ping(1))
        await settle()
        await runtime.terminate("echo")
        assert await runtime.receive("echo") == Pong(1)
        with pytest.raises(Exception, match="everything it sent was received"):
            await runtime.receive("echo")


async def test_messages_unread_at_the_end_are_dead_letters() -> None:
    """Nothing disappears."""
    async with RingKernelRuntime() as runtime:
        await runtime.launch("k", silent)
        await runtime.send("k", Ping(1))
        await runtime.terminate("k")
        assert [(letter.message, letter.reason) for letter in runtime.dead_letters.recent] == [(Ping(1), Reason.UNREAD)]


@pytest.mark.parametrize(("timeout", "error"), [("1", TypeError), (True, TypeError), (math.nan, ValueError)])
async def test_what_is_no_time_to_wait_is_refused(timeout: Any, error: type[Exception]) -> None:
    """Before anything is sent or taken, whether there would have been a wait or not."""
    async with RingKernelRuntime() as runtime:
        await runtime.launch("k", silent)
        for call in (
            runtime.send("k", Ping(), timeout=timeout),
            runtime.receive("k", timeout=timeout),
            runtime.send_and_receive("k", Ping(), timeout=timeout),
        ):
            with pytest.raises(error, match="timeout is a number of seconds"):
                await call
        telemetry = runtime.get_telemetry("k")
        assert telemetry is not None
        assert telemetry.queue_depth == 0
