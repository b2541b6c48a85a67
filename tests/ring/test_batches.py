"""Several messages at once: what was sent is known, whatever becomes of the rest."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rookery import ActorStopped, MailboxFull
from rookery.ring import KernelContext, KernelTimeout, RingKernelRuntime
from stepped import Backend, jumping
from support import settle

from .support import Ping, Pong, echo, running, silent


@pytest.fixture(scope="module")
def anyio_backend(anyio_backend: Backend) -> Backend:
    """Time passes when everybody waits."""
    return jumping(anyio_backend)


PINGS = [Ping(number) for number in range(5)]


async def test_a_batch_is_sent_in_order_and_says_how_many_it_was() -> None:
    """From any iterable."""
    async with RingKernelRuntime() as runtime:
        await running(runtime, "echo", echo)
        assert await runtime.send_batch("echo", iter(PINGS)) == 5
        assert await runtime.send_batch("echo", ()) == 0
        assert [await runtime.receive("echo") for _ in PINGS] == [Pong(number) for number in range(5)]


@pytest.mark.parametrize("ends", ["by its timeout", "by a full queue", "by cancellation", "with the kernel"])
async def test_what_was_sent_is_known_when_a_batch_ends(ends: str) -> None:
    """The messages that are not in the queue are those that it says are not."""
    outcome: list[Exception] = []
    strategy = "reject" if ends == "by a full queue" else "block"
    async with RingKernelRuntime() as runtime:
        await runtime.launch("k", silent, queue_size=3, backpressure=strategy)
        batch = runtime.send_batch("k", PINGS, timeout=1 if ends == "by its timeout" else None)
        async with anyio.create_task_group() as tasks:

            async def send() -> None:
                try:
                    await batch
                except (KernelTimeout, MailboxFull, ActorStopped) as error:
                    outcome.append(error)

            tasks.start_soon(send)
            await settle()
            assert (batch.sent, batch.unsent) == (3, PINGS[3:])
            if ends == "by cancellation":
                tasks.cancel_scope.cancel()
            elif ends == "with the kernel":
                await runtime.terminate("k")
        assert (batch.sent, batch.unsent) == (3, PINGS[3:])
        telemetry = runtime.get_telemetry("k")
        assert telemetry is not None
        assert telemetry.queue_depth == (0 if ends == "with the kernel" else 3)
    kind = {"by its timeout": KernelTimeout, "by a full queue": MailboxFull, "with the kernel": ActorStopped}.get(ends)
    assert [type(error) for error in outcome] == ([] if kind is None else [kind])


async def test_nothing_is_sent_of_a_batch_with_a_wrong_message() -> None:
    """It is checked before the first one is sent."""
    async with RingKernelRuntime() as runtime:
        await runtime.launch("k", silent, input_type=Ping)
        for wrong, error in ((Pong(), TypeError), (Ping(), ValueError)):
            object.__setattr__(wrong, "priority", 300 if error is ValueError else 1)
            batch = runtime.send_batch("k", [*PINGS, wrong])
            with pytest.raises(error):
                await batch
            assert batch.sent == 0
        for timeout in (float("nan"), "1"):
            with pytest.raises((TypeError, ValueError), match="timeout is a number of seconds"):
                await runtime.send_batch("k", PINGS, timeout=timeout)  # type: ignore[arg-type]
        telemetry = runtime.get_telemetry("k")
        assert telemetry is not None
        assert telemetry.queue_depth == 0


async def test_a_batch_can_be_a_task_of_its_own() -> None:
    """It is a coroutine, like what any other method gives."""
    async with RingKernelRuntime() as runtime:
        await running(runtime, "echo", echo)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(runtime.send_batch, "echo", PINGS)
        assert await runtime.receive_batch("echo", 5)


async def test_a_batch_that_is_not_awaited_is_reported() -> None:
    """As any coroutine is."""
    async with RingKernelRuntime() as runtime:
        await runtime.launch("k", silent)
        with pytest.warns(RuntimeWarning, match="never awaited"):
            runtime.send_batch("k", PINGS)
        runtime.send_batch("k", PINGS).close()


async def test_a_batch_that_is_received_is_what_is_there() -> None:
    """At least one message, and at most as many as asked for."""
    said = anyio.Event()

    async def says(ctx: KernelContext[Any, Any]) -> None:
        for number in range(5):
            await ctx.send(Pong(number))
        said.set()
        await ctx.receive()

    async with RingKernelRuntime() as runtime:
        await runtime.launch("k", says)
        await said.wait()
        assert await runtime.receive_batch("k", 3) == [Pong(0), Pong(1), Pong(2)]
        assert await runtime.receive_batch("k", 3, timeout=1) == [Pong(3), Pong(4)]
        with pytest.raises(KernelTimeout, match="sent nothing within 1 s"):
            await runtime.receive_batch("k", 3, timeout=1)


async def test_what_is_left_of_a_kernel_can_be_received_as_a_batch() -> None:
    """And then that it has ended."""

    async def says(ctx: KernelContext[Any, Any]) -> None:
        await ctx.send(Pong(1))
        await ctx.send(Pong(2))

    async with RingKernelRuntime() as runtime:
        await runtime.launch("k", says)
        await settle()
        assert await runtime.receive_batch("k", 10) == [Pong(1), Pong(2)]
        with pytest.raises(ActorStopped, match="returned by itself"):
            await runtime.receive_batch("k", 10)


async def test_a_received_batch_that_is_cancelled_has_taken_nothing() -> None:
    """What comes then is for the next one."""
    async with RingKernelRuntime() as runtime:
        await running(runtime, "echo", echo)
        with anyio.move_on_after(1) as scope:
            await runtime.receive_batch("echo", 3)
        assert scope.cancelled_caught
        await runtime.send("echo", Ping(1))
        assert await runtime.receive_batch("echo", 3) == [Pong(1)]


@pytest.mark.parametrize(("count", "error"), [(0, ValueError), (1.5, ValueError), ("3", TypeError), (None, TypeError)])
async def test_a_batch_has_a_size(count: Any, error: type[Exception]) -> None:
    """One or more."""
    async with RingKernelRuntime() as runtime:
        await runtime.launch("k", silent)
        with pytest.raises(error, match="max_count must be 1 or more, got"):
            await runtime.receive_batch("k", count)
        with pytest.raises((TypeError, ValueError), match="timeout is a number of seconds"):
            await runtime.receive_batch("k", 1, timeout=float("nan"))


@given(st.lists(st.integers(1, 4), max_size=10), st.integers(1, 5), st.sampled_from(["block", "reject", "drop_oldest"]))
def test_nothing_is_lost_silently(sizes: list[int], capacity: int, strategy: str) -> None:
    """What was sent is what was processed, dropped or is unread; what was not sent is with the sender."""

    async def scenario() -> None:
        processed: list[int] = []
        unsent: list[Any] = []

        async def kernel(ctx: KernelContext[Any, Any]) -> None:
            while True:
                processed.append((await ctx.receive()).number)

        async with RingKernelRuntime() as runtime:
            await runtime.launch("k", kernel, queue_size=capacity, backpressure=strategy)
            number = 0
            for size in sizes:
                batch = runtime.send_batch("k", [Ping(number + index) for index in range(size)], timeout=0)
                number += size
                try:
                    assert await batch == size
                except (KernelTimeout, MailboxFull):
                    unsent += batch.unsent
            await runtime.activate("k")
            await settle()
            dropped = [letter.message for letter in runtime.dead_letters.recent]
        everything: list[Any] = [*processed, *(ping.number for ping in [*unsent, *dropped])]
        assert sorted(everything) == list(range(number))

    anyio.run(scenario)
