"""What goes wrong when kernels end together is told to whoever ends them, and counted where it went wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from rookery import ActorStopped, Backoff, Reason, Strategy
from rookery.ring import KernelContext, KernelState, RingKernelRuntime, StateFile, StateNotSaved
from support import settle

from .support import Ping, running, silent


@pytest.fixture
def file(tmp_path: Path) -> StateFile:
    return StateFile(tmp_path / "{kernel_id}.json")


async def unsavable(ctx: KernelContext[Any, Any]) -> None:
    """Ends with a state that JSON would change, which is refused."""
    ctx.state = {1: 2}
    await silent(ctx)


async def fails_at_its_end(ctx: KernelContext[Any, Any]) -> None:
    """In its cleanup."""
    try:
        await silent(ctx)
    finally:
        raise ValueError(ctx.kernel_id)


class Patient:
    """A kernel that takes its time to end."""

    def __init__(self) -> None:
        self.may_end = anyio.Event()
        self.ended = False

    async def __call__(self, ctx: KernelContext[Any, Any]) -> None:
        try:
            await silent(ctx)
        finally:
            with anyio.CancelScope(shield=True):
                await self.may_end.wait()
            self.ended = True


async def opened(runtime: RingKernelRuntime, parent: str) -> None:
    """A kernel or a group."""
    await (runtime.supervise("group") if parent == "group" else running(runtime, "kernel", silent))


async def until_unsaved(runtime: RingKernelRuntime, kernel_id: str) -> None:
    """Wait for its last save."""
    while True:
        persistence = runtime.get_persistence(kernel_id)
        assert persistence is not None
        if persistence.failed_saves:
            return
        await anyio.lowlevel.checkpoint()


def unsaved(error: Any) -> list[str]:
    """Whose state it was."""
    errors = getattr(error, "exceptions", [error])
    assert all(isinstance(one, StateNotSaved) for one in errors)
    return sorted(str(one).split("'")[1] for one in errors)


async def test_all_kernels_are_waited_for_also_if_a_state_could_not_be_saved(file: StateFile) -> None:
    """One group tells of all of them, once all have ended."""
    patient = Patient()
    with pytest.raises(ExceptionGroup) as caught:
        async with RingKernelRuntime() as runtime, anyio.create_task_group() as tasks:
            await running(runtime, "patient", patient)
            await running(runtime, "a", unsavable, state=file)
            await running(runtime, "b", unsavable, state=file)
            await settle()

            async def end() -> None:
                with pytest.raises(ExceptionGroup) as caught:
                    await runtime.terminate_all()
                assert unsaved(caught.value) == ["a", "b"]
                assert patient.ended
                raise caught.value

            tasks.start_soon(end)
            try:
                while runtime.kernel_ids != ["patient"]:
                    await anyio.lowlevel.checkpoint()
                await settle()
            finally:
                patient.may_end.set()
    (told,) = caught.value.exceptions  # and the block has nothing to add
    assert unsaved(told) == ["a", "b"]


@pytest.mark.parametrize("parent", ["kernel", "group"])
@pytest.mark.parametrize("children", [["a"], ["a", "b"]])
async def test_who_terminates_a_parent_is_told_of_states_below_it(
    file: StateFile, parent: str, children: list[str]
) -> None:
    """One error itself, several in a group; however far below. The block has nothing to add."""
    async with RingKernelRuntime() as runtime:
        await opened(runtime, parent)
        await runtime.supervise("inner", parent=parent)
        for child in children:
            await running(runtime, child, unsavable, parent="inner", state=file)
        await settle()
        with pytest.raises((StateNotSaved, ExceptionGroup)) as caught:
            await runtime.terminate(parent)
        assert isinstance(caught.value, StateNotSaved) == (len(children) == 1)
        assert unsaved(caught.value) == children
        assert runtime.kernel_ids == []
        assert runtime.get_summary()["total_errors"] == 0


async def test_what_nobody_waited_for_leaves_the_block(file: StateFile) -> None:
    """Also what was known when the wait was cancelled; and it is no crash of the parent's."""
    patient = Patient()
    with pytest.raises(ExceptionGroup) as caught:
        async with RingKernelRuntime() as runtime:
            await running(runtime, "top", silent)
            await running(runtime, "late", unsavable, parent="top", state=file)
            await running(runtime, "patient", patient, parent="top")
            await running(runtime, "early", unsavable, parent="top", state=file)
            await settle()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(runtime.terminate, "top")
                await until_unsaved(runtime, "early")
                await settle()
                tasks.cancel_scope.cancel()
            patient.may_end.set()
            await until_unsaved(runtime, "late")
            await settle()
            telemetry = runtime.get_telemetry("top")
            assert telemetry is not None
            assert telemetry.error_count == 0
    assert unsaved(caught.value) == ["early", "late"]


async def test_what_children_crash_with_at_their_end_is_not_counted_above_them() -> None:
    """Once each, with the one that it went wrong in; whoever it was below was terminated."""
    async with RingKernelRuntime() as runtime:
        await running(runtime, "top", silent)
        await runtime.supervise("group", parent="top")
        await running(runtime, "middle", fails_at_its_end, parent="group")
        for child in ("a", "b"):
            await running(runtime, child, fails_at_its_end, parent="middle")
        await settle()
        await runtime.terminate("top")
        measured = runtime.get_all_telemetry()
        assert {name: one.error_count for name, one in measured.items()} == {"top": 0, "middle": 1, "a": 1, "b": 1}
        assert [str(one.last_error) for one in measured.values()] == ["None", "middle", "a", "b"]
        assert runtime.get_summary()["total_errors"] == 3
        for call in (runtime.send, runtime.send_and_receive):
            with pytest.raises(
                ActorStopped, match=r"^/top has ended and takes no more messages; it was terminated: "
            ) as told:
                await call("top", Ping())
            assert told.value.__cause__ is None


async def test_a_parent_that_crashes_is_counted_without_what_its_children_make_of_it() -> None:
    """They end because of it, and what goes wrong then is theirs."""
    crashes: list[Exception] = []

    async def crashing(ctx: KernelContext[Any, Any]) -> None:
        crashes.append(KeyError(ctx.kernel_id))
        await ctx.receive()
        raise crashes[-1]

    async with RingKernelRuntime() as runtime:
        await running(runtime, "top", crashing)
        await running(runtime, "child", fails_at_its_end, parent="top")
        await runtime.send("top", 1)
        await settle()
        top, child = runtime.get_all_telemetry().values()
        assert (top.error_count, top.last_error) == (1, crashes[0])
        assert (child.error_count, str(child.last_error)) == (1, "child")
        assert runtime.active_kernels == ["top", "child"]
        await runtime.terminate("child")


# ---- launches that come to nothing


async def test_a_launch_that_is_refused_leaves_what_was_there() -> None:
    """The terminated kernel of that id, its state, and what it sent; which a launch that succeeds takes the place of."""

    async def says(ctx: KernelContext[Any, Any]) -> None:
        await ctx.send("left")
        await ctx.send("right")
        await silent(ctx)

    patient = Patient()
    async with RingKernelRuntime() as runtime, anyio.create_task_group() as tasks:
        await running(runtime, "ending", patient)
        await running(runtime, "k", says)
        await settle()
        await runtime.terminate("k")
        tasks.start_soon(runtime.terminate, "ending")
        await settle()
        try:
            with pytest.raises(ActorStopped):
                await runtime.launch("k", says, parent="ending")
            assert runtime.get_kernel_state("k") is KernelState.TERMINATED
            assert await runtime.receive("k") == "left"
        finally:
            patient.may_end.set()
        await runtime.launch("k", silent)
        assert [(one.message, one.reason) for one in runtime.dead_letters.recent] == [("right", Reason.UNREAD)]


@pytest.mark.parametrize("ender", ["kernel", "group"])
@pytest.mark.parametrize("what", ["kernel", "group"])
async def test_a_launch_that_is_overtaken_by_a_termination_says_so(ender: str, what: str) -> None:
    """It waits for its turn in a group that is being restarted, and is ended there."""

    async def crashes(ctx: KernelContext[Any, Any]) -> None:
        await ctx.receive()
        raise ValueError

    told: list[str] = []
    async with RingKernelRuntime() as runtime, anyio.create_task_group() as tasks:
        await runtime.supervise("the group", strategy=Strategy.ONE_FOR_ALL)
        await running(runtime, "a", crashes, parent="the group", backoff=Backoff(initial=1000, maximum=1000))
        await runtime.send("a", Ping())
        await settle()

        async def launch() -> None:
            with pytest.raises(ActorStopped, match=r"^'new' was ended before it had started: ") as caught:
                await (
                    runtime.launch("new", silent, parent="the group")
                    if what == "kernel"
                    else runtime.supervise("new", parent="the group")
                )
            told.append(str(caught.value))

        tasks.start_soon(launch)
        await settle()
        assert told == []
        await runtime.terminate("new" if ender == "kernel" else "the group")
        await settle()
        assert len(told) == 1
