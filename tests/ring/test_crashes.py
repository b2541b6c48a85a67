"""Kernels that crash: restarted, recorded, and at last given up."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from rookery import ActorStopped, RestartIntensityExceeded
from rookery.ring import KernelContext, KernelState, RingKernelRuntime
from support import settle

from .support import Ping, Pong, running


async def crashes_on_13(ctx: KernelContext[Any, Any]) -> None:
    """Echoes, in the plain loop."""
    while True:
        ping = await ctx.receive()
        if ping.number == 13:
            raise ValueError("unlucky")
        await ctx.send(Pong(ping.number, correlation_id=ping.message_id))


async def test_a_crashed_kernel_comes_back_active() -> None:
    """What was queued is processed by the next run; what it crashed on is not handed over again."""
    async with RingKernelRuntime() as runtime:
        await running(runtime, "k", crashes_on_13)
        for number in (1, 13, 2):
            await runtime.send("k", Ping(number))
        assert [await runtime.receive("k"), await runtime.receive("k")] == [Pong(1), Pong(2)]
        assert runtime.get_kernel_state("k") is KernelState.ACTIVE


async def test_a_kernel_that_crashes_while_it_is_not_active_comes_back_so() -> None:
    """Launched stays launched, deactivated stays deactivated."""
    crash = anyio.Event()
    active: list[bool] = []

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        active.append(ctx.is_active)
        if len(active) in (1, 3):
            await crash.wait()
            raise ValueError
        await ctx.receive()
        await ctx.send(Pong())

    async with RingKernelRuntime() as runtime:
        await runtime.launch("k", kernel)
        crash.set()
        await settle()
        assert (active, runtime.get_kernel_state("k")) == ([False, False], KernelState.LAUNCHED)
        await runtime.send("k", Ping())
        await settle()
        with pytest.raises(TimeoutError):
            await runtime.receive("k", timeout=0)
        await runtime.activate("k")
        assert await runtime.receive("k") == Pong()

        crash = anyio.Event()
        await runtime.launch("k", kernel)
        await runtime.activate("k")
        await runtime.deactivate("k")
        crash.set()
        await settle()
        assert active[2:] == [False, False]
        assert runtime.get_kernel_state("k") is KernelState.DEACTIVATED


async def test_output_that_was_sent_before_a_crash_is_there_after_it() -> None:
    """And whoever waits for output goes on waiting through the restart."""
    async with RingKernelRuntime() as runtime:
        await running(runtime, "k", crashes_on_13)
        await runtime.send("k", Ping(1))
        await runtime.send("k", Ping(13))
        await settle()
        assert await runtime.receive("k") == Pong(1)
        async with anyio.create_task_group() as tasks:

            async def receive() -> None:
                assert await runtime.receive("k") == Pong(2)

            tasks.start_soon(receive)
            await settle()
            await runtime.send("k", Ping(13))
            await runtime.send("k", Ping(2))


async def test_giving_up_surfaces_from_the_block() -> None:
    """With the crashes as its cause, after the block's body was cancelled."""
    with pytest.raises(ExceptionGroup) as caught:
        async with RingKernelRuntime() as runtime:
            await running(runtime, "k", crashes_on_13)
            for _ in range(4):
                await runtime.send("k", Ping(13))
            await anyio.sleep_forever()
    given_up = caught.value.exceptions[0]
    assert isinstance(given_up, RestartIntensityExceeded)
    assert isinstance(given_up.__cause__, ExceptionGroup)
    assert [str(crash) for crash in given_up.__cause__.exceptions] == ["unlucky"] * 4


async def test_whoever_waits_outside_of_the_block_is_told_of_giving_up() -> None:
    """A receive in a task of somebody else's does not wait for ever."""
    told: list[Exception] = []

    async def receive() -> None:
        with pytest.raises(ActorStopped) as caught:
            await runtime.receive("k")
        told.append(caught.value)

    async with anyio.create_task_group() as tasks:
        with pytest.raises(ExceptionGroup):
            async with RingKernelRuntime() as runtime:
                await running(runtime, "k", crashes_on_13)
                tasks.start_soon(receive)
                await settle()
                for _ in range(4):
                    await runtime.send("k", Ping(13))
                await anyio.sleep_forever()
    assert len(told) == 1


async def test_an_exception_of_the_body_leaves_the_block_as_it_is() -> None:
    """The runtime adds nothing to it."""
    with pytest.raises(LookupError, match="mine"):
        async with RingKernelRuntime() as runtime:
            await running(runtime, "k", crashes_on_13)
            raise LookupError("mine")


async def test_a_crash_beside_a_stop_is_a_crash() -> None:
    """A group that holds more than the request to stop is not taken for a clean end."""

    async def cleans_up_badly(ctx: KernelContext[Any, Any]) -> None:
        async def fails() -> None:
            try:
                await ctx.receive()
            finally:
                raise ValueError("in the clean-up")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ctx.receive)
            tasks.start_soon(fails)

    async with RingKernelRuntime() as runtime:
        await running(runtime, "k", cleans_up_badly)
        await settle()
        await runtime.terminate("k")
        telemetry = runtime.get_telemetry("k")
        assert telemetry is not None
        assert telemetry.error_count == 1


async def test_the_crashes_of_all_kernels_count_together() -> None:
    """Four kernels that crash once each are four crashes of their runtime."""

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        await ctx.receive()
        raise ValueError("unlucky")

    with pytest.raises(ExceptionGroup) as caught:
        async with RingKernelRuntime() as runtime:
            for number in range(4):
                await running(runtime, f"k{number}", kernel)
                await runtime.send(f"k{number}", Ping())
            await anyio.sleep(10)
    assert caught.group_contains(RestartIntensityExceeded)
