"""Kernels by name: launched, activated, paused, terminated."""

from __future__ import annotations

import math
from typing import Any

import anyio
import pytest

from rookery import ActorStopped, Reason, StopFromWithin
from rookery.ring import (
    KernelContext,
    KernelState,
    KernelStateError,
    RingKernelRuntime,
    UnknownKernel,
    _roster,
    ring_kernel,
)
from support import settle

from .support import Ping, Pong, echo, running, silent


async def test_a_life_in_its_states() -> None:
    """Created, launched, active, deactivated, active, terminated, and the state can be asked for after that."""

    @ring_kernel(kernel_id="life")
    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        await ctx.receive()

    async with RingKernelRuntime() as runtime:
        seen = [runtime.get_kernel_state("life")]
        for step in (runtime.launch, runtime.activate, runtime.deactivate, runtime.reactivate, runtime.terminate):
            await step("life")
            seen.append(runtime.get_kernel_state("life"))
    assert [state.value for state in seen] == ["created", "launched", "active", "deactivated", "active", "terminated"]


@pytest.mark.parametrize(
    ("steps", "forbidden", "says"),
    [
        (["launch"], "launch", "is launched and cannot become launched"),
        (["launch"], "deactivate", "is launched and cannot become deactivated"),
        (["launch", "activate"], "activate", "is active and cannot become active"),
        (["launch", "activate"], "launch", "is active and cannot become launched"),
        (["launch", "activate", "deactivate"], "deactivate", "is deactivated and cannot become deactivated"),
        (["launch", "terminate"], "activate", "is terminated and cannot become active"),
        (["launch", "terminate"], "deactivate", "is terminated and cannot become deactivated"),
    ],
)
async def test_a_forbidden_step_raises_and_changes_nothing(steps: list[str], forbidden: str, says: str) -> None:
    """Both states are named."""

    async def step(name: str) -> None:
        await (runtime.launch("k", silent) if name == "launch" else getattr(runtime, name)("k"))

    async with RingKernelRuntime() as runtime:
        for name in steps:
            await step(name)
        before = runtime.get_kernel_state("k")
        with pytest.raises(KernelStateError, match=says):
            await step(forbidden)
        assert runtime.get_kernel_state("k") is before


async def test_what_was_not_launched_says_so() -> None:
    """A registered kernel is created; of any other name nothing is known."""

    @ring_kernel(kernel_id="only_registered")
    async def kernel(ctx: KernelContext[Any, Any]) -> None: ...

    async with RingKernelRuntime() as runtime:
        await runtime.launch("calculator", silent)
        for step in (runtime.activate, runtime.deactivate, runtime.terminate, runtime.receive):
            with pytest.raises(KernelStateError, match=r"is created: .*runtime\.launch\('only_registered'"):
                await step("only_registered")
            with pytest.raises(UnknownKernel, match=r"no kernel 'calculater'.*did you mean 'calculator'"):
                await step("calculater")
        with pytest.raises(UnknownKernel, match="running are"):
            runtime.get_kernel_state("nothing like it")


async def test_a_kernel_that_is_not_active_accepts_messages_and_is_handed_none() -> None:
    """Launched or deactivated; what queued up is handed over in order when it is active."""
    async with RingKernelRuntime() as runtime:
        await runtime.launch("echo", echo)
        await runtime.send("echo", Ping(1))
        await settle()
        with pytest.raises(TimeoutError):
            await runtime.receive("echo", timeout=0)
        await runtime.activate("echo")
        assert await runtime.receive("echo") == Pong(1)
        await runtime.deactivate("echo")
        await runtime.send("echo", Ping(2))
        await runtime.send("echo", Ping(3))
        await settle()
        with pytest.raises(TimeoutError):
            await runtime.receive("echo", timeout=0)
        await runtime.reactivate("echo")
        assert [await runtime.receive("echo"), await runtime.receive("echo")] == [Pong(2), Pong(3)]


async def test_deactivation_keeps_the_kernels_own_state() -> None:
    """It is the same run of the same function."""

    async def counter(ctx: KernelContext[Any, Any]) -> None:
        total = 0
        while True:
            total += (await ctx.receive()).number
            await ctx.send(Pong(total))

    async with RingKernelRuntime() as runtime:
        await running(runtime, "k", counter)
        await runtime.send("k", Ping(1))
        assert await runtime.receive("k") == Pong(1)
        await runtime.deactivate("k")
        await runtime.send("k", Ping(2))
        await runtime.reactivate("k")
        assert await runtime.receive("k") == Pong(3)


async def test_a_kernel_that_returns_is_terminated() -> None:
    """Nobody has to say so, and nobody is left waiting for it."""

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        await ctx.receive()

    async with RingKernelRuntime() as runtime:
        await running(runtime, "k", kernel)
        async with anyio.create_task_group() as tasks:

            async def wait_for_output() -> None:
                with pytest.raises(ActorStopped, match="'k' has ended"):
                    await runtime.receive("k")

            tasks.start_soon(wait_for_output)
            await settle()
            await runtime.send("k", Ping())
        assert runtime.get_kernel_state("k") is KernelState.TERMINATED
        assert runtime.kernel_ids == []
        with pytest.raises(ActorStopped):
            await runtime.send("k", Ping())


async def test_termination_waits_for_the_end_and_cancels_when_its_time_is_over() -> None:
    """The timeout of the call counts, not the five seconds of its default."""
    log: list[str] = []

    async def deaf(ctx: KernelContext[Any, Any]) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            log.append("cancelled")

    async with RingKernelRuntime() as runtime:
        for timeout in (0, 0.01):
            await runtime.launch("k", deaf)
            with anyio.fail_after(4):
                await runtime.terminate("k", timeout)
            assert log.pop() == "cancelled"
            assert runtime.get_kernel_state("k") is KernelState.TERMINATED


async def test_a_second_termination_joins_the_first() -> None:
    """While a kernel is ending, another call waits for the same end."""
    go = anyio.Event()

    async def slow(ctx: KernelContext[Any, Any]) -> None:
        while not ctx.should_terminate:
            await ctx.wait_active()
        await go.wait()

    async with RingKernelRuntime() as runtime:
        await runtime.launch("k", slow)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(runtime.terminate, "k", math.inf)
            tasks.start_soon(runtime.terminate, "k", math.inf)
            await settle()
            assert runtime.get_kernel_state("k") is KernelState.LAUNCHED
            with pytest.raises(ActorStopped):
                await runtime.activate("k")
            go.set()


async def test_terminating_what_has_ended_is_no_error() -> None:
    """A kernel may end by itself at any time, and whoever terminates it cannot know."""

    async def kernel(ctx: KernelContext[Any, Any]) -> None: ...

    async with RingKernelRuntime() as runtime:
        await runtime.launch("k", kernel)
        await runtime.terminate("k")
        await runtime.terminate("k")
        assert runtime.get_kernel_state("k") is KernelState.TERMINATED


async def test_a_kernel_cannot_wait_for_its_own_end() -> None:
    """It ends by returning."""
    refused: list[Exception] = []

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        with pytest.raises(StopFromWithin) as caught:
            await runtime.terminate("k")
        refused.append(caught.value)

    async with RingKernelRuntime() as runtime:
        await runtime.launch("k", kernel)
        await settle()
    assert len(refused) == 1


@pytest.mark.parametrize(
    ("timeout", "error"), [(-1, ValueError), (math.nan, ValueError), (None, TypeError), ("5", TypeError)]
)
async def test_what_is_no_time_to_end_in_is_refused(timeout: Any, error: type[Exception]) -> None:
    """With the unit; the kernel is not touched."""
    async with RingKernelRuntime() as runtime:
        await runtime.launch("k", silent)
        with pytest.raises(error, match=f"in seconds, 0 or more, .* got {timeout!r}$"):
            await runtime.terminate("k", timeout)
        assert runtime.get_kernel_state("k") is KernelState.LAUNCHED


async def test_an_id_can_be_launched_again_after_its_end() -> None:
    """It is another kernel, with queues of its own; what the former left unread is a dead letter."""

    async def says(ctx: KernelContext[Any, Any]) -> None:
        await ctx.send(Pong(7))

    async with RingKernelRuntime() as runtime:
        await runtime.launch("k", says)
        await runtime.terminate("k")
        await runtime.launch("k", silent)
        assert runtime.get_kernel_state("k") is KernelState.LAUNCHED
        assert [(letter.message, letter.reason) for letter in runtime.dead_letters.recent] == [(Pong(7), Reason.UNREAD)]
        with pytest.raises(TimeoutError):
            await runtime.receive("k", timeout=0)


async def test_a_launch_at_the_same_time_under_the_same_id_is_refused() -> None:
    """The first one has the name from its first moment."""
    outcomes: list[str] = []

    async def launch() -> None:
        try:
            await runtime.launch("k", silent)
            outcomes.append("launched")
        except KernelStateError:
            outcomes.append("refused")

    async with RingKernelRuntime() as runtime:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(launch)
            tasks.start_soon(launch)
        assert sorted(outcomes) == ["launched", "refused"]


async def test_an_activation_that_is_cancelled_changed_nothing() -> None:
    """It raised, so it did not happen."""
    async with RingKernelRuntime() as runtime:
        await runtime.launch("k", silent)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await runtime.activate("k")
        assert scope.cancelled_caught
        assert runtime.get_kernel_state("k") is KernelState.LAUNCHED


async def test_a_launch_that_is_cancelled_leaves_no_kernel() -> None:
    """Its id is free again."""
    async with RingKernelRuntime() as runtime:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await runtime.launch("k", silent)
        await settle()
        assert runtime.kernel_ids == []
        await runtime.launch("k", silent)


async def test_ids_are_listed_in_order_of_launch() -> None:
    """Running ones only."""
    async with RingKernelRuntime() as runtime:
        for kernel_id in ("b", "a", "c"):
            await runtime.launch(kernel_id, silent)
        for kernel_id in runtime.kernel_ids:
            await runtime.activate(kernel_id)
        await runtime.terminate("a")
        assert runtime.kernel_ids == ["b", "c"]


async def test_terminated_kernels_are_not_remembered_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """The latest ones are."""
    monkeypatch.setattr(_roster, "KEPT", 2)
    async with RingKernelRuntime() as runtime:
        for number in range(10):
            await runtime.launch(f"job-{number}", echo)
            await runtime.terminate(f"job-{number}")
        assert runtime.get_kernel_state("job-9") is KernelState.TERMINATED
        assert len(runtime.get_all_telemetry()) <= 4
        with pytest.raises(UnknownKernel):
            runtime.get_kernel_state("job-0")


# ---- scopes


async def test_a_scope_is_a_kernels_whole_life() -> None:
    """Launched and active inside, terminated behind it."""
    async with RingKernelRuntime() as runtime:
        async with runtime.kernel_scope("k", echo, queue_size=5) as kernel_id:
            assert kernel_id == "k"
            assert await runtime.send_and_receive("k", Ping(3)) == Pong(3)
        assert runtime.get_kernel_state("k") is KernelState.TERMINATED


async def test_a_scope_waits_for_its_kernel_also_when_it_is_cancelled() -> None:
    """No kernel outlives the block that owns it."""
    log: list[str] = []

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        while not ctx.should_terminate:
            await ctx.wait_active()
            with anyio.move_on_after(0):
                await ctx.receive(timeout=None)
        await settle()
        log.append("cleaned up")

    async with RingKernelRuntime() as runtime:
        with anyio.CancelScope() as scope:
            async with runtime.kernel_scope("k", kernel):
                scope.cancel()
                await anyio.lowlevel.checkpoint()
        assert runtime.get_kernel_state("k") is KernelState.TERMINATED
        assert runtime.kernel_ids == []


async def test_a_scope_whose_kernel_ended_by_itself_ends_well() -> None:
    """There is nothing left to terminate."""

    async def kernel(ctx: KernelContext[Any, Any]) -> None: ...

    async with RingKernelRuntime() as runtime, runtime.kernel_scope("k", silent):
        async with runtime.kernel_scope("gone", silent):
            await runtime.terminate("gone")
        assert runtime.kernel_ids == ["k"]


# ---- the block


async def test_no_kernel_outlives_the_block() -> None:
    """They end one after another, the latest first."""
    ended: list[str] = []

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        while not ctx.should_terminate:
            await ctx.wait_active()
        await settle()
        ended.append(ctx.kernel_id)

    async with RingKernelRuntime() as runtime:
        for kernel_id in ("a", "b", "c"):
            await runtime.launch(kernel_id, kernel)
    assert ended == ["c", "b", "a"]


async def test_nothing_is_launched_while_the_block_ends() -> None:
    """The late one is refused, and leaves no trace."""
    running_then: list[list[str]] = []

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        while not ctx.should_terminate:
            await ctx.wait_active()
        with pytest.raises(ActorStopped):
            await runtime.launch("late", silent)
        running_then.append(runtime.kernel_ids)

    async with RingKernelRuntime() as runtime:
        await runtime.launch("k", kernel)
    assert running_then == [["k"]]


async def test_whoever_waits_for_output_when_the_block_ends_is_told() -> None:
    """A task outside of the block is not left waiting for ever."""
    async with anyio.create_task_group() as tasks, RingKernelRuntime() as runtime:
        await runtime.launch("k", silent)

        async def wait() -> None:
            with pytest.raises(ActorStopped):
                await runtime.receive("k")

        tasks.start_soon(wait)
        await settle()


async def test_a_kernel_without_its_id_is_told_how_to_be_launched() -> None:
    """The function alone says nothing of the name that it is to have."""
    async with RingKernelRuntime() as runtime:
        with pytest.raises(TypeError, match=r'`launch\("id", kernel\)`, got <function silent'):
            await runtime.launch(silent)  # type: ignore[arg-type]
