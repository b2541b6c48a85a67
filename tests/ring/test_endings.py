"""How kernels end, and that nobody is left waiting for one that has."""

from __future__ import annotations

import math
from typing import Any

import anyio
import pytest

from rookery import (
    ActorCrashed,
    ActorStopped,
    Backoff,
    Context,
    Restart,
    Restarted,
    RestartIntensityExceeded,
    Terminated,
    open_system,
)
from rookery.ring import KernelContext, KernelState, KernelStateError, RingKernelRuntime, UnknownKernel, ring_kernel
from rookery.testing import crash
from stepped import Backend, jumping
from support import settle

from .support import Ping, Pong, running


@pytest.fixture(scope="module")
def anyio_backend(anyio_backend: Backend) -> Backend:
    """Time passes when everybody waits."""
    return jumping(anyio_backend)


async def ends(ctx: KernelContext[Any, Any]) -> None:
    """Returns at 0, crashes on 13, echoes the rest."""
    while True:
        ping = await ctx.receive()
        if ping.number == 0:
            return
        if ping.number == 13:
            raise ValueError("unlucky")
        await ctx.send(Pong(ping.number, correlation_id=ping.message_id))


async def test_a_kernel_has_a_reference_to_watch_it_and_to_make_it_crash() -> None:
    """The same across restarts; who watches is told of them, and of the end."""
    told: list[Any] = []

    async def watcher(ctx: Context[Restarted | Terminated]) -> None:
        ctx.watch(runtime.ref("k"))
        while True:
            event = await ctx.receive()
            told.append((type(event), event.ref))

    async with open_system() as system, RingKernelRuntime() as runtime:
        with pytest.raises(UnknownKernel):
            runtime.ref("k")
        await running(runtime, "k", ends)
        ref = runtime.ref("k")
        await system.spawn(watcher)
        await settle()
        crash(ref, ConnectionResetError("by peer"))
        await settle()
        assert runtime.ref("k") is ref
        telemetry = runtime.get_telemetry("k")
        assert telemetry is not None
        assert repr(telemetry.last_error) == "ConnectionResetError('by peer')"
        assert await runtime.send_and_receive("k", Ping(5)) == Pong(5)
        await runtime.terminate("k")
        await settle()
    assert told == [(Restarted, ref), (Terminated, ref)]


ENDINGS = {
    "returns": (0, "its function has returned by itself, .*launch.*loop `while not ctx.should_terminate`"),
    "crashes": (13, "it crashed and was not restarted: .*launch"),
    "is terminated": (1, "it was terminated: .*launch"),
}


async def end(runtime: RingKernelRuntime, how: str) -> None:
    """End the kernel."""
    if how == "is terminated":
        await runtime.terminate("k")
    else:
        await runtime.activate("k")
        await settle()


@pytest.mark.parametrize("how", ENDINGS)
async def test_a_send_to_a_kernel_that_has_ended_fails_at_once_and_says_why(how: str) -> None:
    """Whatever it is sent by; and so does receiving, once everything was received."""
    async with RingKernelRuntime() as runtime:
        await runtime.launch("k", ends, restart=Restart.TEMPORARY)
        await runtime.send("k", Ping(ENDINGS[how][0]))
        await end(runtime, how)
        assert runtime.get_kernel_state("k") is KernelState.TERMINATED
        for call in (
            lambda: runtime.send("k", Ping()),
            lambda: runtime.send("k", Ping(), timeout=5),
            lambda: runtime.send_batch("k", [Ping()]),
            lambda: runtime.send_and_receive("k", Ping()),
            lambda: runtime.receive("k"),
            lambda: runtime.receive_batch("k", 3),
        ):
            with pytest.raises(ActorStopped, match=ENDINGS[how][1]) as caught:
                await call()
            assert (str(caught.value.__cause__) == "unlucky") == (how == "crashes")
        with pytest.raises(KernelStateError, match="is terminated and cannot become active"):
            await runtime.activate("k")


@pytest.mark.parametrize("how", ENDINGS)
async def test_whoever_waits_when_a_kernel_ends_is_told(how: str) -> None:
    """Senders for room, askers for a reply, receivers for output."""
    told: list[Exception] = []

    async def wait(call: Any, *args: Any) -> None:
        with pytest.raises((ActorStopped, ActorCrashed)) as caught:
            await call(*args)
        told.append(caught.value)

    async with RingKernelRuntime() as runtime:
        await runtime.launch("k", ends, queue_size=2, restart=Restart.TEMPORARY)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait, runtime.send_and_receive, "k", Ping(ENDINGS[how][0]))
            await settle()
            tasks.start_soon(wait, runtime.send_and_receive, "k", Ping(1))
            tasks.start_soon(wait, runtime.receive, "k")
            await settle()
            if how == "is terminated":  # otherwise the kernel would make room, and take the message, before it ends
                tasks.start_soon(wait, runtime.send, "k", Ping(2))
                await settle()
            await end(runtime, how)
    assert len(told) == (4 if how == "is terminated" else 3)
    if how == "crashes":
        assert [type(error) for error in told].count(ActorCrashed) == 1


async def test_a_sender_that_is_blocked_when_a_kernel_crashes_for_good_is_told() -> None:
    """There will be no room."""
    crash = anyio.Event()

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        await crash.wait()
        raise ValueError("unlucky")

    async with RingKernelRuntime() as runtime:
        await running(runtime, "k", kernel, queue_size=1, restart=Restart.TEMPORARY)
        await runtime.send("k", Ping())
        async with anyio.create_task_group() as tasks:

            async def send() -> None:
                with pytest.raises(ActorStopped, match="it crashed and was not restarted"):
                    await runtime.send("k", Ping())

            tasks.start_soon(send)
            await settle()
            crash.set()
        assert runtime.dead_letters.statistics().total == 1


async def test_a_permanent_kernel_is_started_again_when_it_returns() -> None:
    """Its output goes on, and a return is no error."""
    async with RingKernelRuntime() as runtime:
        await running(runtime, "k", ends, restart=Restart.PERMANENT)
        for number in (1, 0, 2):
            await runtime.send("k", Ping(number))
        assert [await runtime.receive("k"), await runtime.receive("k")] == [Pong(1), Pong(2)]
        telemetry = runtime.get_telemetry("k")
        assert telemetry is not None
        assert (telemetry.error_count, telemetry.last_error, telemetry.messages_processed) == (0, None, 3)
        await runtime.terminate("k")
        assert runtime.get_kernel_state("k") is KernelState.TERMINATED


async def test_a_temporary_kernel_is_never_started_again() -> None:
    """Its crash is recorded, and costs the runtime nothing."""
    async with RingKernelRuntime() as runtime:
        for _ in range(9):
            await running(runtime, "k", ends, restart=Restart.TEMPORARY)
            await runtime.send("k", Ping(13))
            await settle()
            telemetry = runtime.get_telemetry("k")
            assert telemetry is not None
            assert (telemetry.error_count, str(telemetry.last_error)) == (1, "unlucky")


async def test_the_policy_of_a_kernel_is_that_of_its_decorator_unless_a_launch_says_otherwise() -> None:
    """Restart and backoff alike."""

    @ring_kernel(kernel_id="k", restart=Restart.TEMPORARY, backoff=Backoff(60.0), auto_register=False)
    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        await ends(ctx)

    async with RingKernelRuntime() as runtime:
        await running(runtime, "k", kernel)
        await running(runtime, "l", kernel, restart=Restart.TRANSIENT)
        await running(runtime, "m", kernel, restart=Restart.TRANSIENT, backoff=None)
        for kernel_id in ("k", "l", "m"):
            await runtime.send(kernel_id, Ping(13))
        await settle()
        assert runtime.kernel_ids == ["l", "m"]
        for kernel_id in ("l", "m"):
            await runtime.send(kernel_id, Ping(1))
        assert await runtime.receive("m") == Pong(1)
        began = anyio.current_time()
        assert await runtime.receive("l") == Pong(1)
        assert anyio.current_time() - began > 30


async def test_a_kernel_that_gave_up_surfaces_also_when_nobody_sends() -> None:
    """A crash at its start, say."""

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        await ctx.wait_active()
        raise ValueError("unlucky")

    with pytest.raises(ExceptionGroup) as caught:
        async with RingKernelRuntime() as runtime:
            await running(runtime, "k", kernel)
            await anyio.sleep_forever()
    assert caught.group_contains(RestartIntensityExceeded)


async def test_a_second_kernel_under_the_id_of_a_running_one_is_refused() -> None:
    """Both definitions are named, with where they are."""

    async def another(ctx: KernelContext[Any, Any]) -> None: ...

    async with RingKernelRuntime() as runtime:
        await runtime.launch("k", ends)
        with pytest.raises(
            KernelStateError, match=r"'k' is launched .*test_endings.ends \(.*py:\d+\).*another \(.*py:\d+"
        ):
            await runtime.launch("k", another)
        assert runtime.kernel_ids == ["k"]


@pytest.mark.parametrize("parent", ["kernel", "group"])
@pytest.mark.parametrize(
    ("timeout", "ended"),
    [
        (1, ["b is cancelled at 1", "a is cancelled at 1"]),
        (5, ["b ends at 3", "a is cancelled at 5"]),
        (math.inf, ["b ends at 3", "a ends at 6"]),
    ],
)
async def test_the_time_to_end_in_is_that_of_all_that_is_below_together(
    parent: str, timeout: float, ended: list[str]
) -> None:
    """One after another, the latest first; none has more than five seconds."""
    log: list[str] = []

    async def slow(ctx: KernelContext[Any, Any]) -> None:
        try:
            await ctx.receive()
        finally:
            how = "is cancelled"
            try:
                await anyio.sleep(3)
                how = "ends"
            finally:
                log.append(f"{ctx.kernel_id} {how} at {anyio.current_time() - began:g}")

    async def deaf(ctx: KernelContext[Any, Any]) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            log.append(f"{ctx.kernel_id} is cancelled after {anyio.current_time() - began:g}")

    async with RingKernelRuntime() as runtime:
        await (runtime.supervise("top") if parent == "group" else running(runtime, "top", ends))
        for child in "ab":
            await running(runtime, child, slow, parent="top")
        await settle()
        began = anyio.current_time()
        await runtime.terminate("top", timeout)
        assert log == ended
        log.clear()
        await runtime.supervise("next")
        await running(runtime, "deaf", deaf, parent="next")
        began = anyio.current_time()
        await runtime.terminate("next", math.inf)
        assert log == ["deaf is cancelled after 5"]
