"""The loops that people write, and what termination does to each."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from rookery import StopRequested
from rookery.ring import KernelContext, KernelState, RingKernelRuntime
from support import settle

from .support import Ping, Pong, running

Kernel = Callable[[KernelContext[Any, Any]], Awaitable[None]]


def loop_catching(what: str, log: list[str]) -> Kernel:
    """The idiomatic loop, with one of the three ways to skip a receive that timed out."""

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        while not ctx.should_terminate:
            if not ctx.is_active:
                await ctx.wait_active()
                continue
            try:
                message = await receive(ctx)
                await ctx.send(Pong(message.number, correlation_id=message.message_id))
            except NothingCame:
                continue
        log.append("behind the loop")
        await anyio.lowlevel.checkpoint()  # it is not cancelled: here is time to clean up
        log.append("cleaned up")

    class NothingCame(Exception):
        pass

    async def receive(ctx: KernelContext[Any, Any]) -> Any:
        if what == "asyncio.TimeoutError":
            try:
                return await ctx.receive(timeout=0.1)
            except asyncio.TimeoutError:  # noqa: UP041  # as people write it
                raise NothingCame from None
        if what == "Exception":
            try:
                return await ctx.receive(timeout=0.1)
            except Exception:  # noqa: BLE001
                raise NothingCame from None
        try:
            return await ctx.receive(timeout=0.1)
        except:  # noqa: E722
            raise NothingCame from None

    return kernel


LOOPS = ["asyncio.TimeoutError", "Exception", "a bare except"]


@pytest.mark.parametrize("catching", LOOPS)
async def test_the_idiomatic_loop_answers(catching: str) -> None:
    """On every loop, whichever exceptions it swallows."""
    async with RingKernelRuntime() as runtime:
        await running(runtime, "k", loop_catching(catching, []))
        for number in range(5):
            assert await runtime.send_and_receive("k", Ping(number)) == Pong(number)


@pytest.mark.parametrize("state", [KernelState.LAUNCHED, KernelState.ACTIVE, KernelState.DEACTIVATED])
@pytest.mark.parametrize("catching", LOOPS)
async def test_the_idiomatic_loop_is_left_at_termination(catching: str, state: KernelState) -> None:
    """At once, from every state, and the code behind it runs uncancelled."""
    log: list[str] = []
    async with RingKernelRuntime() as runtime:
        await runtime.launch("k", loop_catching(catching, log))
        if state is not KernelState.LAUNCHED:
            await runtime.activate("k")
        if state is KernelState.DEACTIVATED:
            await settle()
            await runtime.deactivate("k")
        await settle()
        await runtime.terminate("k", timeout=math.inf)
        assert log == ["behind the loop", "cleaned up"]


@pytest.mark.parametrize("catching", LOOPS)
async def test_the_idiomatic_loop_is_left_when_the_block_ends(catching: str) -> None:
    """The same without anybody calling ``terminate``."""
    log: list[str] = []
    async with RingKernelRuntime() as runtime:
        await running(runtime, "k", loop_catching(catching, log))
        await settle()
    assert log == ["behind the loop", "cleaned up"]


async def test_a_loop_that_swallows_its_cancellation_sees_that_it_is_to_terminate() -> None:
    """By the time a kernel is cancelled, ``should_terminate`` is true, so that it leaves."""
    seen: list[bool] = []

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        while not ctx.should_terminate:
            try:
                await anyio.sleep_forever()
            except:  # noqa: E722
                seen.append(ctx.should_terminate)

    async with RingKernelRuntime() as runtime:
        await running(runtime, "k", kernel)
        await settle()
        await runtime.terminate("k", timeout=0)
    assert seen == [True]


async def test_a_parked_receive_with_a_timeout_raises_timeout_error_at_termination() -> None:
    """At once, however long the timeout."""
    raised: list[BaseException] = []

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        try:
            await ctx.receive(timeout=1e9)
        except BaseException as error:  # noqa: BLE001
            raised.append(error)

    async with RingKernelRuntime() as runtime:
        await running(runtime, "k", kernel)
        await settle()
        await runtime.terminate("k", timeout=math.inf)
    assert [type(error) for error in raised] == [TimeoutError]


async def waits_for_a_message(ctx: KernelContext[Any, Any]) -> None:
    while True:
        await ctx.receive()


async def waits_for_room(ctx: KernelContext[Any, Any]) -> None:
    while True:
        await ctx.send(Pong())


async def waits_for_room_in_a_task_group(ctx: KernelContext[Any, Any]) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(waits_for_room, ctx)
        tasks.start_soon(waits_for_a_message, ctx)


@pytest.mark.parametrize("kernel", [waits_for_a_message, waits_for_room, waits_for_room_in_a_task_group])
async def test_a_plain_loop_ends_cleanly_at_termination(kernel: Kernel) -> None:
    """A ``receive`` without a timeout, and a ``send`` blocked on a full output queue, end the kernel without a crash."""
    async with RingKernelRuntime() as runtime:
        await running(runtime, "k", kernel, queue_size=2)
        await settle()
        await runtime.terminate("k", timeout=math.inf)
        telemetry = runtime.get_telemetry("k")
        assert telemetry is not None
        assert (telemetry.error_count, telemetry.last_error) == (0, None)
        assert runtime.get_kernel_state("k") is KernelState.TERMINATED


async def test_what_fits_can_still_be_sent_behind_the_loop() -> None:
    """Last words reach the output queue, and whoever receives from it."""

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        while not ctx.should_terminate:
            await ctx.wait_active()
        await ctx.send(Pong(1))
        await ctx.send(Pong(2))
        await ctx.send(Pong(3))

    async with RingKernelRuntime() as runtime:
        await runtime.launch("k", kernel, queue_size=2)
        await runtime.terminate("k", timeout=math.inf)
        assert [await runtime.receive("k"), await runtime.receive("k")] == [Pong(1), Pong(2)]


# ---- no path that raises skips the checkpoint

RAISING: dict[str, Callable[[KernelContext[Any, Any]], Awaitable[object]]] = {
    "receive": lambda ctx: ctx.receive(),
    "receive with a timeout": lambda ctx: ctx.receive(timeout=0.1),
    "receive with no time": lambda ctx: ctx.receive(timeout=0),
    "receive with nonsense": lambda ctx: ctx.receive(timeout="soon"),  # type: ignore[arg-type]
    "send of a wrong type": lambda ctx: ctx.send(Ping()),
    "send of a wrong priority": lambda ctx: ctx.send(Wrong()),
    "send to a full queue": lambda ctx: ctx.send(Pong()),
    "wait_active": lambda ctx: ctx.wait_active(),
}


class Wrong(Pong):
    """A message whose urgency was spoilt after it was made."""

    def __init__(self) -> None:
        super().__init__()
        self.priority = 1000


@pytest.mark.parametrize("backpressure", ["block", "reject"])
@pytest.mark.parametrize("what", RAISING)
async def test_a_loop_that_swallows_everything_still_lets_others_run(what: str, backpressure: str) -> None:
    """Each turn of it is a checkpoint, while it runs and when it is to terminate."""
    done = anyio.Event()
    turns = 0

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        nonlocal turns
        while not done.is_set():
            turns += 1
            assert turns < 200, "the others had fewer turns than it had"
            try:
                await RAISING[what](ctx)
            except Exception:  # noqa: BLE001
                continue

    async with RingKernelRuntime() as runtime:
        await running(runtime, "k", kernel, output_type=Pong, queue_size=1, backpressure=backpressure)
        await settle()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(runtime.terminate, "k", math.inf)
            await settle()
            assert turns > 0
            done.set()


async def test_a_kernel_that_only_sends_lets_others_run() -> None:
    """Also where sending never waits."""
    done = anyio.Event()

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        for number in range(100_000):
            if done.is_set():
                return
            await ctx.send(Pong(number))
        pytest.fail("nobody else had a turn")

    async with RingKernelRuntime() as runtime:
        await runtime.launch("k", kernel, queue_size=1, backpressure="drop_oldest")
        await settle()
        done.set()


# ---- being active


async def test_a_kernel_sees_whether_it_is_active() -> None:
    """In its first step it is not, and after each change it is told at once."""
    seen: list[bool] = []

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        while not ctx.should_terminate:
            seen.append(ctx.is_active)
            if ctx.is_active:
                await ctx.receive()
            else:
                await ctx.wait_active()

    async with RingKernelRuntime() as runtime:
        await runtime.launch("k", kernel)
        assert seen == [False]
        await settle()
        await runtime.activate("k")
        await settle()
        assert seen == [False, True]
        await runtime.deactivate("k")
        await runtime.send("k", Ping())
        await settle()
        assert seen == [False, True]
        await runtime.reactivate("k")
        await settle()
        assert seen == [False, True, True]


async def test_a_kernel_knows_its_name() -> None:
    """The one it was launched under."""
    names: list[str] = []

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        names.append(ctx.kernel_id)

    async with RingKernelRuntime() as runtime:
        await runtime.launch("one", kernel)
        await runtime.launch("two", kernel)
    assert names == ["one", "two"]


async def test_a_blocked_send_that_is_cancelled_by_its_own_kernel_was_not_sent() -> None:
    """A kernel may bound its own waits, and what it gave up is not in the queue."""
    gave_up = anyio.Event()

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        await ctx.send(Pong(1))
        with anyio.CancelScope() as scope:
            scope.cancel()
            await ctx.send(Pong(2))
        gave_up.set()
        with pytest.raises(StopRequested):
            await ctx.receive()

    async with RingKernelRuntime() as runtime:
        await runtime.launch("k", kernel, queue_size=1)
        await gave_up.wait()
        assert await runtime.receive("k") == Pong(1)
        with pytest.raises(TimeoutError):
            await runtime.receive("k", timeout=0)
