"""Telemetry that is true."""

from __future__ import annotations

import math
from itertools import count
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rookery.ring import KernelContext, RingKernelRuntime
from rookery.ring._telemetry import WINDOW, Meter, nearest_rank
from support import settle

from .support import Ping, Pong, echo, running, silent

IDLE: Any = {"processed": 0, "queued": 0, "dropped": 0, "errors": 0, "last_error": None}


def processed(runtime: RingKernelRuntime, kernel_id: str) -> int:
    """How many messages the kernel has processed."""
    telemetry = runtime.get_telemetry(kernel_id)
    assert telemetry is not None
    return telemetry.messages_processed


# ---- the meter


class Clock:
    """A clock that is set by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_latencies_are_what_the_clock_says() -> None:
    """Smallest, mean, largest and nearest ranks, in seconds."""
    clock = Clock()
    meter = Meter(clock)
    for latency in range(1, 101):
        clock.now += latency
        meter.latencies.append(latency)
    seen = meter.snapshot("k", **{**IDLE, "processed": 100})
    assert (seen.min_latency, seen.avg_latency, seen.max_latency) == (1, 50.5, 100)
    assert (seen.p50_latency, seen.p99_latency) == (50, 99)
    assert (seen.messages_processed, seen.uptime_seconds) == (100, 5050)
    assert seen.throughput == 100 / 5050


def test_latencies_are_over_a_bounded_window() -> None:
    """The oldest go."""
    meter = Meter(Clock())
    meter.latencies.append(1000)
    for _ in range(WINDOW):
        meter.latencies.append(1)
    seen = meter.snapshot("k", **IDLE)
    assert seen.max_latency == 1


def test_uptime_ends_with_the_kernel() -> None:
    """And nothing is divided by zero before it begins."""
    clock = Clock()
    meter = Meter(clock)
    assert meter.snapshot("k", **IDLE).throughput == 0
    clock.now += 5
    meter.end()
    clock.now += 5
    meter.end()
    assert meter.snapshot("k", **IDLE).uptime_seconds == 5


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.001, 1))
def test_the_nearest_rank_covers_its_share_and_no_more_than_needed(values: list[float], share: float) -> None:
    """At least that share of the values is not above it, and it is the smallest value for which that holds."""
    ordered = sorted(values)
    found = nearest_rank(ordered, share)
    assert sum(value <= found for value in ordered) >= math.ceil(share * len(ordered))
    assert sum(value < found for value in ordered) < math.ceil(share * len(ordered))


# ---- what counts as processed


async def test_five_requests_and_their_replies_are_five_messages() -> None:
    """Counted by the time the last reply is there."""
    async with RingKernelRuntime() as runtime:
        await running(runtime, "echo", echo)
        for number in range(5):
            reply = await runtime.send_and_receive("echo", Ping(number))
            assert reply == Pong(number)
            assert processed(runtime, "echo") == number + 1


async def test_five_messages_through_the_queues_are_five_messages() -> None:
    """The same by ``send`` and ``receive``."""
    async with RingKernelRuntime() as runtime:
        await running(runtime, "echo", echo)
        for number in range(5):
            await runtime.send("echo", Ping(number))
            assert await runtime.receive("echo") == Pong(number)
        assert processed(runtime, "echo") == 5


async def test_a_message_is_processed_when_the_kernel_comes_back_for_the_next() -> None:
    """Not when it takes it, and however many uncorrelated messages it sends meanwhile."""
    go = anyio.Event()

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        await ctx.receive()
        await ctx.send(Pong())
        await go.wait()
        await ctx.receive()

    async with RingKernelRuntime() as runtime:
        await running(runtime, "k", kernel)
        await runtime.send("k", Ping())
        await runtime.receive("k")
        await settle()
        assert processed(runtime, "k") == 0
        go.set()
        await settle()
        assert processed(runtime, "k") == 1


async def test_waiting_to_be_active_again_is_coming_back_too() -> None:
    """A kernel that was deactivated while it worked has processed what it worked on."""
    started, go = anyio.Event(), anyio.Event()

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        await ctx.receive()
        started.set()
        await go.wait()
        await ctx.wait_active()

    async with RingKernelRuntime() as runtime:
        await running(runtime, "k", kernel)
        await runtime.send("k", Ping())
        await started.wait()
        await runtime.deactivate("k")
        assert processed(runtime, "k") == 0
        go.set()
        await settle()
        assert processed(runtime, "k") == 1


async def test_a_correlated_reply_counts_once() -> None:
    """When it is sent, and not again when the kernel comes back after it."""
    go = anyio.Event()

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        ping = await ctx.receive()
        await ctx.send(Pong(correlation_id=ping.message_id))
        await go.wait()
        await ctx.receive()

    async with RingKernelRuntime() as runtime:
        await running(runtime, "k", kernel)
        await runtime.send_and_receive("k", Ping())
        assert processed(runtime, "k") == 1
        go.set()
        await settle()
        assert processed(runtime, "k") == 1


@pytest.mark.parametrize("ends", ["cleanly", "by a crash"])
async def test_the_message_in_work_counts_at_a_clean_end_only(ends: str) -> None:
    """What a kernel crashed on was not processed."""

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        await ctx.receive()
        if ends == "by a crash":
            raise ValueError("bad message")

    async with RingKernelRuntime() as runtime:
        await running(runtime, "k", kernel)
        await runtime.send("k", Ping())
        await settle()
        assert processed(runtime, "k") == (1 if ends == "cleanly" else 0)


async def test_a_group_of_requests_to_stop_is_a_clean_end() -> None:
    """A kernel with tasks of its own ends in an ``ExceptionGroup``, and what it worked on counts."""

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        await ctx.receive()
        await ctx.send(Pong())
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ctx.send, Pong())
            tasks.start_soon(ctx.send, Pong())

    async with RingKernelRuntime() as runtime:
        await running(runtime, "k", kernel, queue_size=1)
        await runtime.send("k", Ping())
        await settle()
        assert processed(runtime, "k") == 0
        await runtime.terminate("k")
        assert processed(runtime, "k") == 1


# ---- the rest of it


async def test_telemetry_that_is_off_is_none() -> None:
    """And empty for all; the summary tells what it knows."""
    async with RingKernelRuntime(enable_telemetry=False) as runtime:
        await running(runtime, "echo", echo)
        await runtime.send_and_receive("echo", Ping())
        assert runtime.get_telemetry("echo") is None
        assert runtime.get_all_telemetry() == {}
        summary = runtime.get_summary()
        assert summary["total_messages_processed"] is None
        assert (summary["kernel_count"], summary["states"]) == (1, {"echo": "active"})


async def test_the_queue_depth_is_what_waits_in_the_input_queue() -> None:
    """Messages to a kernel that is not active yet."""
    async with RingKernelRuntime() as runtime:
        await runtime.launch("k", silent)
        for _ in range(3):
            await runtime.send("k", Ping())
        telemetry = runtime.get_telemetry("k")
        assert telemetry is not None
        assert telemetry.queue_depth == 3


async def test_drops_are_counted_at_both_queues() -> None:
    """Each is a dead letter, too."""

    async def chatty(ctx: KernelContext[Any, Any]) -> None:
        for number in range(5):
            await ctx.send(Pong(number))

    async with RingKernelRuntime() as runtime:
        await runtime.launch("in", silent, queue_size=1, backpressure="drop_oldest")
        for number in range(4):
            await runtime.send("in", Ping(number))
        await runtime.launch("out", chatty, queue_size=2, backpressure="drop_oldest")
        assert await runtime.receive("out") == Pong(3)
        counted = {kernel_id: seen.messages_dropped for kernel_id, seen in runtime.get_all_telemetry().items()}
        assert counted == {"in": 3, "out": 3}
        assert runtime.get_summary()["total_messages_dropped"] == 6
        assert runtime.dead_letters.statistics().total == 6


async def test_crashes_are_counted_and_the_last_one_is_told() -> None:
    """Each of them, across restarts."""
    number = count(1)

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        await ctx.receive()
        raise ValueError(f"crash {next(number)}")

    async with RingKernelRuntime() as runtime:
        await running(runtime, "k", kernel)
        for _ in range(3):
            await runtime.send("k", Ping())
        await settle()
        telemetry = runtime.get_telemetry("k")
        assert telemetry is not None
        assert telemetry.error_count == 3
        assert str(telemetry.last_error) == "crash 3"


async def test_a_crash_while_it_terminates_is_counted_as_well() -> None:
    """It is not restarted, and the count is no guess from restarts alone."""

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        while not ctx.should_terminate:
            await ctx.wait_active()
        raise ValueError("in the clean-up")

    async with RingKernelRuntime() as runtime:
        await runtime.launch("k", kernel)
        await runtime.terminate("k")
        telemetry = runtime.get_telemetry("k")
        assert telemetry is not None
        assert telemetry.error_count == 1
        assert str(telemetry.last_error) == "in the clean-up"


async def test_a_summary_sums() -> None:
    """Over every kernel, a terminated one included."""
    async with RingKernelRuntime() as runtime:
        for kernel_id in ("one", "two"):
            await running(runtime, kernel_id, echo)
            await runtime.send_and_receive(kernel_id, Ping())
        await runtime.terminate("one")
        summary = runtime.get_summary()
        assert summary["kernel_count"] == 1
        assert summary["states"] == {"one": "terminated", "two": "active"}
        assert summary["total_messages_processed"] == 2
        assert summary["total_errors"] == 0
        assert list(runtime.get_all_telemetry()) == ["one", "two"]
