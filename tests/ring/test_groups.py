"""Kernels below others: supervised together, ended before their parent, and started again with it."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from rookery import ActorStopped, Intensity, Reason, Restart, RestartIntensityExceeded, StopFromWithin, Strategy
from rookery.ring import KernelContext, KernelState, KernelStateError, RingKernelRuntime, UnknownKernel, ring_kernel
from support import settle

from .support import Ping, Pong, echo, running, silent


class Log:
    """Kernels that say when they begin and end, and crash on 13."""

    def __init__(self) -> None:
        self.entries: list[str] = []

    def taken(self) -> list[str]:
        """What was said since the last time."""
        entries, self.entries = self.entries, []
        return entries

    async def kernel(self, ctx: KernelContext[Any, Any]) -> None:
        self.entries.append(f"{ctx.kernel_id} begins")
        try:
            while True:
                ping = await ctx.receive()
                if ping.number == 13:
                    raise ValueError("unlucky")
                if ping.number == 0:
                    return
                await ctx.send(Pong(ping.number, correlation_id=ping.message_id))
        finally:
            self.entries.append(f"{ctx.kernel_id} ends")


async def family(runtime: RingKernelRuntime, log: Log, parent: str, *children: str) -> None:
    """Launch and activate kernels below something."""
    for kernel_id in children:
        await runtime.launch(kernel_id, log.kernel, parent=parent)
        await runtime.activate(kernel_id)
    log.taken()


# ---- groups


@pytest.mark.parametrize(
    ("strategy", "restarted"),
    [
        (Strategy.ONE_FOR_ONE, ["b ends", "b begins"]),
        (Strategy.REST_FOR_ONE, ["b ends", "c ends", "b begins", "c begins"]),
        (Strategy.ONE_FOR_ALL, ["b ends", "c ends", "a ends", "a begins", "b begins", "c begins"]),
    ],
)
async def test_a_group_restarts_its_kernels_as_its_strategy_says(strategy: Strategy, restarted: list[str]) -> None:
    """All are active again, and only the one that crashed has an error."""
    log = Log()
    async with RingKernelRuntime() as runtime:
        await runtime.supervise("group", strategy=strategy)
        await family(runtime, log, "group", "a", "b", "c")
        await runtime.send("b", Ping(13))
        await settle()
        assert log.taken() == restarted
        for kernel_id in ("a", "b", "c"):
            assert await runtime.send_and_receive(kernel_id, Ping(5)) == Pong(5)
        counted = {kernel_id: seen.error_count for kernel_id, seen in runtime.get_all_telemetry().items()}
        assert counted == {"a": 0, "b": 1, "c": 0}


async def test_the_strategy_of_a_runtime_is_that_of_the_kernels_directly_in_it() -> None:
    """As that of a group."""
    log = Log()
    async with RingKernelRuntime(strategy=Strategy.ONE_FOR_ALL) as runtime:
        for kernel_id in ("a", "b"):
            await running(runtime, kernel_id, log.kernel)
        log.taken()
        await runtime.send("a", Ping(13))
        await settle()
        assert log.taken() == ["a ends", "b ends", "a begins", "b begins"]


async def test_the_intensity_of_a_runtime_is_what_it_tolerates() -> None:
    """None, say."""
    log = Log()
    with pytest.raises(ExceptionGroup) as caught:
        async with RingKernelRuntime(intensity=Intensity(0, per=1.0)) as runtime:
            await running(runtime, "k", log.kernel)
            await runtime.send("k", Ping(13))
            await anyio.sleep_forever()
    assert caught.group_contains(RestartIntensityExceeded)
    assert log.taken() == ["k begins", "k ends"]


async def test_crashes_in_a_group_are_not_counted_in_the_runtime() -> None:
    """Ten of them are for the group alone, which tolerates as many."""
    log = Log()
    async with RingKernelRuntime() as runtime:
        await runtime.supervise("group", intensity=Intensity(10, per=100.0))
        await family(runtime, log, "group", "a")
        for _ in range(10):
            await runtime.send("a", Ping(13))
        assert await runtime.send_and_receive("a", Ping(5)) == Pong(5)


async def test_a_group_that_gives_up_is_started_again_with_its_kernels() -> None:
    """They are active if they were; what was queued for them went with the former ones, and is told of."""
    log = Log()
    async with RingKernelRuntime() as runtime:
        await runtime.supervise("group", intensity=Intensity(1, per=100.0))
        await family(runtime, log, "group", "a", "b")
        await runtime.deactivate("b")
        await runtime.send("b", Ping(7))
        await runtime.send("a", Ping(13))
        await runtime.send("a", Ping(13))
        await settle()
        assert log.taken() == ["a ends", "a begins", "a ends", "b ends", "a begins", "b begins"]
        assert [letter.message for letter in runtime.dead_letters.recent] == [Ping(7)]
        assert runtime.active_kernels == ["a"]
        assert runtime.get_kernel_state("b") is KernelState.DEACTIVATED
        assert await runtime.send_and_receive("a", Ping(5)) == Pong(5)
        await runtime.activate("b")
        assert await runtime.send_and_receive("b", Ping(6)) == Pong(6)
        telemetry = runtime.get_telemetry("a")
        assert telemetry is not None
        assert (telemetry.error_count, str(telemetry.last_error)) == (2, "unlucky")


async def test_what_a_kernel_sent_outlives_a_restart_of_its_group() -> None:
    """And whoever waits for output goes on waiting."""
    log = Log()
    async with RingKernelRuntime() as runtime:
        await runtime.supervise("group", intensity=Intensity(0, per=100.0))
        await family(runtime, log, "group", "a")
        await runtime.send("a", Ping(1))
        await runtime.send("a", Ping(13))
        await settle()
        assert await runtime.receive("a") == Pong(1)
        async with anyio.create_task_group() as tasks:

            async def receive() -> None:
                assert await runtime.receive("a") == Pong(2)

            tasks.start_soon(receive)
            await settle()
            await runtime.send("a", Ping(13))
            await settle()
            await runtime.send("a", Ping(2))


async def test_a_group_that_gives_up_too_often_surfaces_from_the_block() -> None:
    """Each time counts as one restart of the group, where it stands."""
    log = Log()
    with pytest.raises(ExceptionGroup) as caught:
        async with RingKernelRuntime(intensity=Intensity(1, per=100.0)) as runtime:
            await runtime.supervise("group", intensity=Intensity(0, per=100.0))
            await family(runtime, log, "group", "a")
            for _ in range(2):
                await runtime.send("a", Ping(13))
                await settle()
            await anyio.sleep_forever()
    assert caught.group_contains(RestartIntensityExceeded)
    assert log.taken() == ["a ends", "a begins", "a ends"]


async def test_what_ended_by_itself_does_not_come_back_with_its_group() -> None:
    """A kernel that returned, one that was terminated, and one that is never restarted."""
    log = Log()
    async with RingKernelRuntime() as runtime:
        await runtime.supervise("group", strategy=Strategy.ONE_FOR_ALL, intensity=Intensity(1, per=100.0))
        await family(runtime, log, "group", "crashes", "returns", "terminated")
        await runtime.launch("temporary", log.kernel, parent="group", restart=Restart.TEMPORARY)
        await runtime.send("returns", Ping(0))
        await runtime.terminate("terminated")
        await settle()
        for _ in range(2):
            log.taken()
            await runtime.send("crashes", Ping(13))
            await settle()
            assert [entry for entry in log.taken() if entry.endswith("begins")] == ["crashes begins"]
        assert runtime.kernel_ids == ["crashes"]


async def test_groups_may_stand_in_groups() -> None:
    """The inner one comes back with the outer one, and with what is below it."""
    log = Log()
    async with RingKernelRuntime() as runtime:
        await runtime.supervise("outer", strategy=Strategy.ONE_FOR_ALL)
        await runtime.supervise("inner", parent="outer")
        await family(runtime, log, "inner", "a", "b")
        await family(runtime, log, "outer", "c")
        await runtime.send("a", Ping(13))
        await settle()
        assert log.taken() == ["a ends", "a begins"]
        await runtime.send("c", Ping(13))
        await settle()
        assert log.taken() == ["c ends", "b ends", "a ends", "a begins", "b begins", "c begins"]
        await runtime.terminate("outer")
        assert runtime.kernel_ids == []
        with pytest.raises(KernelStateError, match="'outer' is terminated, and nothing can be launched below it"):
            await runtime.launch("d", silent, parent="outer")
        await runtime.supervise("outer")
        await runtime.launch("d", silent, parent="outer")


async def test_ids_of_groups_and_kernels_are_one_set() -> None:
    """So that a parent is one thing; unknown ones are refused, and the launch leaves nothing."""
    async with RingKernelRuntime() as runtime:
        await runtime.supervise("g")
        await runtime.launch("k", silent)
        with pytest.raises(KernelStateError, match="'g' is the id of a group of kernels, which runs"):
            await runtime.launch("g", silent)
        with pytest.raises(KernelStateError, match="'g' is the id of a group of kernels, which runs"):
            await runtime.supervise("g")
        with pytest.raises(KernelStateError, match=r"'k' is the id of a kernel \(.*silent"):
            await runtime.supervise("k")
        for call in (lambda: runtime.launch("l", silent, parent="h"), lambda: runtime.supervise("l", parent="h")):
            with pytest.raises(UnknownKernel, match="there is no kernel 'h'"):
                await call()
        for wrong in ("", "a/b", 3):
            with pytest.raises(ValueError, match="the id of a group is a string of 1 to 255 characters"):
                await runtime.supervise(wrong)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="strategy is one of"):
            await runtime.supervise("h", strategy="one_for_all")  # type: ignore[arg-type]
        await runtime.terminate("g")
        assert runtime.kernel_ids == ["k"]
        await runtime.launch("g", silent)


# ---- kernels below kernels


async def test_what_is_done_to_kernels_cannot_be_done_to_a_group() -> None:
    """It says that it is one, also if a kernel is registered under its id."""

    @ring_kernel(kernel_id="a group of this test")
    async def registered(ctx: KernelContext[Any, Any]) -> None:
        await silent(ctx)

    async with RingKernelRuntime() as runtime:
        for group in ("group", "a group of this test"):
            await runtime.supervise(group)
            for call in (
                lambda: runtime.send(group, Ping()),  # noqa: B023  # called at once
                lambda: runtime.receive(group),  # noqa: B023
                lambda: runtime.activate(group),  # noqa: B023
                lambda: runtime.deactivate(group),  # noqa: B023
            ):
                with pytest.raises(UnknownKernel, match=r"'.*group.*' is a group of kernels, which has no queues"):
                    await call()
            with pytest.raises(UnknownKernel, match="is a group of kernels"):
                runtime.get_kernel_state(group)
            await runtime.terminate(group)
        assert runtime.get_kernel_state("a group of this test") is KernelState.CREATED


async def test_a_kernel_ends_before_the_one_it_was_launched_below() -> None:
    """The latest first, and their own children before them."""
    log = Log()
    async with RingKernelRuntime() as runtime:
        await running(runtime, "top", log.kernel)
        await family(runtime, log, "top", "a", "b")
        await family(runtime, log, "a", "below a")
        await runtime.terminate("top")
        assert log.taken() == ["top ends", "b ends", "a ends", "below a ends"]
        assert set(runtime.get_summary()["states"].values()) == {"terminated"}


async def test_children_are_started_again_with_their_parent() -> None:
    """They are there again before its function runs again; a crash of a child is the child's alone."""
    log = Log()
    async with RingKernelRuntime() as runtime:
        await running(runtime, "top", log.kernel)
        await family(runtime, log, "top", "a", "b")
        await runtime.send("a", Ping(13))
        await settle()
        assert log.taken() == ["a ends", "a begins"]
        await runtime.send("top", Ping(13))
        await settle()
        assert log.taken() == ["top ends", "b ends", "a ends", "a begins", "b begins", "top begins"]
        for kernel_id in ("a", "b", "top"):
            assert await runtime.send_and_receive(kernel_id, Ping(5)) == Pong(5)


async def test_children_that_crash_too_often_are_a_crash_of_their_parent() -> None:
    """As it is for actors."""
    log = Log()
    async with RingKernelRuntime() as runtime:
        await running(runtime, "top", log.kernel)
        await family(runtime, log, "top", "a")
        for _ in range(4):
            await runtime.send("a", Ping(13))
        await settle()
        seen = runtime.get_all_telemetry()
        assert isinstance(seen["top"].last_error, RestartIntensityExceeded)
        assert (seen["top"].error_count, seen["a"].error_count) == (1, 4)
        assert await runtime.send_and_receive("a", Ping(5)) == Pong(5)


async def test_children_end_with_a_parent_that_returns() -> None:
    """For good, as it does itself."""
    log = Log()
    async with RingKernelRuntime() as runtime:
        await running(runtime, "top", log.kernel)
        await family(runtime, log, "top", "a")
        await runtime.send("top", Ping(0))
        await settle()
        assert runtime.get_summary()["states"] == {"top": "terminated", "a": "terminated"}
        with pytest.raises(ActorStopped, match="was terminated"):
            await runtime.send("a", Ping())
        await runtime.launch("a", echo)


async def test_a_kernel_launches_its_own_children() -> None:
    """By the runtime, and in each of its runs anew if it likes: those of the run before are there already."""

    async def boss(ctx: KernelContext[Any, Any]) -> None:
        if "worker" not in runtime.kernel_ids:
            await runtime.launch("worker", echo, parent=ctx.kernel_id)
            await runtime.activate("worker")
        while True:
            ping = await ctx.receive()
            if ping.number == 13:
                raise ValueError("unlucky")
            await ctx.send(await runtime.send_and_receive("worker", ping))
            with pytest.raises(StopFromWithin):
                await runtime.terminate_all()

    async with RingKernelRuntime() as runtime:
        await running(runtime, "boss", boss)
        for number in (1, 13, 2):
            await runtime.send("boss", Ping(number))
        assert [await runtime.receive("boss"), await runtime.receive("boss")] == [Pong(1), Pong(2)]
        await runtime.terminate("boss")
        assert runtime.kernel_ids == []


async def test_a_message_to_a_kernel_between_two_lives_is_refused_at_once() -> None:
    """It has ended with its parent, whose clean-up takes its time, and it will be back."""
    cleaned = anyio.Event()

    async def slow(ctx: KernelContext[Any, Any]) -> None:
        try:
            await ctx.receive()
        finally:
            await cleaned.wait()

    log = Log()
    async with RingKernelRuntime() as runtime:
        await running(runtime, "top", log.kernel)
        await runtime.launch("slow", slow, parent="top")
        await family(runtime, log, "top", "a")
        await runtime.send("top", Ping(13))
        await settle()
        assert runtime.get_kernel_state("a") is KernelState.ACTIVE
        with pytest.raises(ActorStopped, match="started again with 'top', below which it was launched"):
            await runtime.send("a", Ping())
        with pytest.raises(ActorStopped):
            await runtime.launch("b", silent, parent="top")
        await runtime.deactivate("a")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(runtime.terminate, "slow")
            await settle()
            cleaned.set()
        await settle()
        assert log.taken() == ["top ends", "a ends", "a begins", "top begins"]
        assert runtime.get_summary()["states"] == {"top": "active", "slow": "terminated", "a": "deactivated"}


async def test_a_kernel_can_be_terminated_between_two_lives() -> None:
    """It does not come back."""
    cleaned = anyio.Event()

    async def slow(ctx: KernelContext[Any, Any]) -> None:
        try:
            await ctx.receive()
        finally:
            await cleaned.wait()

    log = Log()
    async with RingKernelRuntime() as runtime:
        await running(runtime, "top", log.kernel)
        await runtime.launch("slow", slow, parent="top")
        await family(runtime, log, "top", "a")
        await runtime.send("top", Ping(13))
        await settle()
        await runtime.terminate("a")
        assert runtime.get_kernel_state("a") is KernelState.TERMINATED
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(runtime.terminate, "slow")
            await settle()
            cleaned.set()
        await settle()
        assert log.taken() == ["top ends", "a ends", "top begins"]


# ---- all of them


async def test_all_kernels_end_at_the_same_time() -> None:
    """Groups stay; what waits in their queues is told of."""
    log = Log()
    async with RingKernelRuntime() as runtime:
        await runtime.supervise("group")
        await running(runtime, "top", log.kernel)
        await family(runtime, log, "top", "a")
        await family(runtime, log, "group", "b")
        await runtime.deactivate("b")
        await runtime.send("b", Ping(7))
        await runtime.terminate_all()
        assert sorted(log.taken()) == ["a ends", "b ends", "top ends"]
        assert (runtime.kernel_ids, runtime.active_kernels) == ([], [])
        letters = [(letter.message, letter.reason) for letter in runtime.dead_letters.recent]
        assert letters == [(Ping(7), Reason.UNREAD)]
        await runtime.terminate_all()
        await runtime.launch("b", silent, parent="group")


async def test_all_kernels_have_the_same_time_to_end_in() -> None:
    """Those that have not returned by then are cancelled."""
    log: list[str] = []

    async def deaf(ctx: KernelContext[Any, Any]) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            log.append(ctx.kernel_id)

    async with RingKernelRuntime() as runtime:
        for number in range(3):
            await runtime.launch(f"k{number}", deaf)
        with anyio.fail_after(4):
            await runtime.terminate_all(timeout=0.01)
        assert sorted(log) == ["k0", "k1", "k2"]
        with pytest.raises(ValueError, match=r"in seconds, 0 or more, .* got -1$"):
            await runtime.terminate_all(-1)


@pytest.mark.parametrize("call", ["terminate", "terminate_all"])
async def test_kernels_end_also_if_nobody_waits_for_it(call: str) -> None:
    """A call that is cancelled has begun what it was to do."""
    async with RingKernelRuntime() as runtime:
        await running(runtime, "k", silent)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await (runtime.terminate("k") if call == "terminate" else runtime.terminate_all())
        assert scope.cancelled_caught
        await settle()
        assert runtime.kernel_ids == []
