"""Kernels whose state outlives them."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from rookery import ActorCrashed, Restart
from rookery._core._parking import current_loop
from rookery.ring import (
    KernelContext,
    KernelState,
    KernelStateError,
    RingKernelRuntime,
    StateDamaged,
    StateFile,
    StateFileError,
    StateNotSaved,
    ring_kernel,
)
from rookery.ring._persistence import Keeper
from rookery.ring._snapshot import Generations, unpack
from support import settle

from .support import Ping, Pong, running, silent

FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is full")


async def counter(ctx: KernelContext[Any, Any]) -> None:
    """Adds up what it is sent; 13 makes it crash half way, 0 makes it return."""
    while True:
        ping = await ctx.receive()
        if ping.number == 0:
            return
        ctx.state["total"] = ctx.state.get("total", 0) + ping.number
        if ping.number == 13:
            raise ValueError("unlucky")
        await ctx.send(Pong(ctx.state["total"], correlation_id=ping.message_id))


async def add(runtime: RingKernelRuntime, number: int) -> int:
    """What the kernel has then."""
    pong = await runtime.send_and_receive("k", Ping(number))
    assert isinstance(pong, Pong)
    return pong.number


def on_disk(path: Path) -> Any:
    return json.loads(unpack(path.read_bytes())) if path.exists() else None


def cut_off(path: Path) -> None:
    """Damage a file."""
    path.write_bytes(path.read_bytes()[:-1])


def write_nonsense(path: Path) -> None:
    path.write_bytes(b"nonsense")


def natively() -> None:
    """Only asyncio has a cancellation that pierces shields."""
    if current_loop().name == "trio":
        pytest.skip("there is no such cancellation on trio")


def block(path: Path) -> None:
    """Nothing can take the place of a folder."""
    path.mkdir()


def take_away(path: Path, contents: bytes) -> None:
    """A file that is as it was."""
    assert path.read_bytes() == contents
    path.unlink()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.json"


@pytest.fixture
def file(path: Path) -> StateFile:
    return StateFile(path, every=float("inf"))


# ---- kept


async def test_a_state_is_there_at_the_next_launch(path: Path, file: StateFile) -> None:
    """In the same runtime and in another one; it begins as an empty dict."""
    async with RingKernelRuntime() as runtime:
        await running(runtime, "k", counter, state=file)
        assert await add(runtime, 5) == 5
        await runtime.terminate("k")
        assert on_disk(path) == {"total": 5}
        await running(runtime, "k", counter, state=file)
        assert await add(runtime, 2) == 7
    async with RingKernelRuntime() as runtime:
        await running(runtime, "k", counter, state=file)
        assert await add(runtime, 1) == 8
        persistence = runtime.get_persistence("k")
    assert persistence is not None
    assert (persistence.path, persistence.restored_from, persistence.damage) == (path, path, None)


async def test_the_decorator_says_where_it_is_kept(tmp_path: Path) -> None:
    """One decorator serves several kernels, each with a file of its own."""

    @ring_kernel(kernel_id="counter", state=StateFile(tmp_path / "{kernel_id}.json"), auto_register=False)
    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        ctx.state = {"I am": ctx.kernel_id}

    async with RingKernelRuntime() as runtime:
        await runtime.launch("a", kernel)
        await runtime.launch("b", kernel)
    assert on_disk(tmp_path / "a.json") == {"I am": "a"}
    assert on_disk(tmp_path / "b.json") == {"I am": "b"}


async def test_a_state_of_any_kind_is_kept_by_functions_of_ones_own(path: Path) -> None:
    """What is restored is what ``decode`` makes of what ``encode`` made."""
    file = StateFile(path, initial=set, encode=lambda state: bytes(sorted(state)), decode=set)

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        ctx.state.add(len(ctx.state))

    def saved() -> bytes:
        return unpack(path.read_bytes())

    async with RingKernelRuntime() as runtime:
        for _ in range(3):
            await runtime.launch("k", kernel, state=file)
            await settle()
            await runtime.terminate("k")
    assert saved() == bytes([0, 1, 2])


async def test_what_was_confirmed_by_saving_is_on_the_disk(path: Path, file: StateFile) -> None:
    """A kernel can save before it replies."""

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        while True:
            ping = await ctx.receive()
            ctx.state["last"] = ping.number
            await ctx.save_state()
            await ctx.send(Pong(correlation_id=ping.message_id))

    async with RingKernelRuntime() as runtime:
        await running(runtime, "k", kernel, state=file)
        for number in range(1, 4):
            await runtime.send_and_receive("k", Ping(number))
            assert on_disk(path) == {"last": number}
        persistence = runtime.get_persistence("k")
    assert persistence is not None
    assert persistence.saves == 3


# ---- ends


@pytest.mark.parametrize("end", ["terminate", "the block", "cancelled block", "return"])
async def test_a_state_is_saved_however_a_kernel_ends(path: Path, file: StateFile, end: str) -> None:
    """Asked to, with its runtime, with a block that is cancelled, or by itself."""
    with anyio.CancelScope() as scope:
        async with RingKernelRuntime() as runtime:
            await running(runtime, "k", counter, state=file)
            await add(runtime, 5)
            match end:
                case "terminate":
                    await runtime.terminate("k")
                    assert on_disk(path) == {"total": 5}
                case "cancelled block":
                    scope.cancel()
                case "return":
                    await runtime.send("k", Ping(0))
                    while runtime.get_kernel_state("k") is not KernelState.TERMINATED:
                        await checkpoint()
                    assert on_disk(path) == {"total": 5}
                case _:
                    pass
    assert on_disk(path) == {"total": 5}


@pytest.mark.parametrize("in_tasks", [False, True])
async def test_a_kernel_that_is_cancelled_because_its_time_is_over_is_saved(
    path: Path, file: StateFile, in_tasks: bool
) -> None:
    """As its cleanup leaves the state."""

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        try:
            if in_tasks:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(anyio.sleep_forever)
                    tasks.start_soon(anyio.sleep_forever)
            await anyio.sleep_forever()
        finally:
            ctx.state["cleaned"] = "up"

    async with RingKernelRuntime() as runtime:
        await running(runtime, "k", kernel, state=file)
        await settle()
        await runtime.terminate("k", timeout=0)
        assert on_disk(path) == {"cleaned": "up"}


async def test_after_a_crash_it_goes_on_from_what_was_saved(path: Path, file: StateFile) -> None:
    """The state that it crashed with may be half changed, and is not saved."""
    async with RingKernelRuntime() as runtime:
        await running(runtime, "k", counter, state=file)
        await add(runtime, 5)
        await runtime.terminate("k")
        await running(runtime, "k", counter, state=file)
        assert await add(runtime, 1) == 6
        await runtime.send("k", Ping(13))
        assert await add(runtime, 2) == 7
        await runtime.send("k", Ping(13))
        await settle()
        assert on_disk(path) == {"total": 5}
    assert on_disk(path) == {"total": 5}


async def test_a_state_is_kept_when_the_kernel_above_begins_anew(path: Path, file: StateFile) -> None:
    """It is saved when the kernel is ended with its parent, and restored when it is started again with it."""
    async with RingKernelRuntime() as runtime:
        await running(runtime, "top", counter, state=StateFile(path.with_name("top.json"), every=float("inf")))
        await running(runtime, "k", counter, state=file, parent="top")
        assert await add(runtime, 5) == 5
        assert on_disk(path) is None
        with pytest.raises(ActorCrashed):
            await runtime.send_and_receive("top", Ping(13))
        await runtime.send_and_receive("top", Ping(1))  # when this is answered, its children are there again
        assert on_disk(path) == {"total": 5}
        assert await add(runtime, 2) == 7
        persistence = runtime.get_persistence("k")
    assert persistence is not None
    assert persistence.saves == 1
    assert on_disk(path) == {"total": 7}


async def test_before_the_first_save_a_crash_begins_anew(file: StateFile) -> None:
    """From what ``initial`` makes, once more."""
    async with RingKernelRuntime() as runtime:
        await running(runtime, "k", counter, state=file)
        await add(runtime, 5)
        await runtime.send("k", Ping(13))
        assert await add(runtime, 2) == 2


async def test_a_deactivated_kernel_keeps_its_state(path: Path, file: StateFile) -> None:
    """Nothing about it is restored when it is active again."""
    async with RingKernelRuntime() as runtime:
        await running(runtime, "k", counter, state=file)
        await add(runtime, 5)
        await runtime.deactivate("k")
        await runtime.reactivate("k")
        assert await add(runtime, 5) == 10
        assert on_disk(path) is None


# ---- what goes wrong at a launch


async def test_a_damaged_file_is_reported_and_the_one_before_it_is_used(
    path: Path, file: StateFile, caplog: pytest.LogCaptureFixture
) -> None:
    """In the log, and in what can be asked for."""
    async with RingKernelRuntime() as runtime:
        for number in (5, 2):
            await running(runtime, "k", counter, state=file)
            await add(runtime, number)
            await runtime.terminate("k")
        cut_off(path)
        with caplog.at_level(logging.WARNING, "rookery.ring"):
            await running(runtime, "k", counter, state=file)
        assert await add(runtime, 1) == 6
        persistence = runtime.get_persistence("k")
    assert persistence is not None
    assert persistence.restored_from == Generations(path).previous
    assert persistence.damage is not None
    assert "cut off" in persistence.damage
    (record,) = caplog.records
    assert (record.name, record.damage) == ("rookery.ring", persistence.damage)  # type: ignore[attr-defined]
    assert f"{path} is damaged (it is cut off" in record.getMessage()


async def test_where_nothing_is_good_a_launch_fails_and_changes_nothing(path: Path, file: StateFile) -> None:
    """It does not begin anew without a word; once the files are out of the way, it can be launched."""
    write_nonsense(path)
    async with RingKernelRuntime() as runtime:
        for _ in range(2):
            with pytest.raises(StateDamaged, match="to begin anew, move"):
                await runtime.launch("k", counter, state=file)
            assert runtime.kernel_ids == []
        take_away(path, b"nonsense")
        await running(runtime, "k", counter, state=file)


async def test_a_state_that_cannot_be_decoded_is_no_damage(path: Path, file: StateFile) -> None:
    """The code is wrong, not the file: what was saved last is not given up for what was saved before."""

    def decode(data: bytes) -> Any:
        raise KeyError("version")

    async with RingKernelRuntime() as runtime:
        await running(runtime, "k", counter, state=file)
        await add(runtime, 5)
        await runtime.terminate("k")
        with pytest.raises(KeyError, match="version"):
            await runtime.launch("k", counter, state=StateFile(path, decode=decode))
        await running(runtime, "k", counter, state=file)
        assert await add(runtime, 1) == 6


@pytest.mark.parametrize("where", ["missing/state.json", "file/state.json", "folder"])
async def test_a_folder_that_cannot_be_written_is_an_error_at_the_launch(tmp_path: Path, where: str) -> None:
    """Not at the first save, when there is something to lose."""
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    async with RingKernelRuntime() as runtime:
        with pytest.raises(StateFileError, match="in a folder that exists"):
            await runtime.launch("k", counter, state=StateFile(tmp_path / where))
        assert runtime.kernel_ids == []


async def test_two_kernels_cannot_share_a_file(path: Path, file: StateFile) -> None:
    """Neither in one runtime nor in two; both are named. When the first has ended, the second can have it."""
    async with RingKernelRuntime() as runtime, RingKernelRuntime() as another:
        await runtime.launch("first", counter, state=file)
        for place in (runtime, another):
            with pytest.raises(StateFileError) as caught:
                await place.launch("second", counter, state=StateFile(path.parent / "." / path.name))
            assert "the kernel 'first' (process" in str(caught.value)
            assert "the kernel 'second' (process" in str(caught.value)
        await runtime.terminate("first")
        await another.launch("second", counter, state=file)


async def test_what_ended_by_itself_lets_its_successor_have_the_file(file: StateFile) -> None:
    """Also one under another id."""
    async with RingKernelRuntime() as runtime:
        await running(runtime, "k", counter, state=file)
        await runtime.send("k", Ping(0))
        while runtime.get_kernel_state("k") is not KernelState.TERMINATED:
            await checkpoint()
        await runtime.launch("another", counter, state=file)


async def test_of_two_launches_at_once_one_succeeds(path: Path, file: StateFile) -> None:
    """The other is refused, whichever file it has."""
    refused: list[Exception] = []

    async def launch(runtime: RingKernelRuntime, state: StateFile) -> None:
        try:
            await runtime.launch("k", counter, state=state)
        except (KernelStateError, StateFileError) as error:
            refused.append(error)

    async with RingKernelRuntime() as runtime:
        for other in (file, StateFile(path.with_name("other"))):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(launch, runtime, file)
                tasks.start_soon(launch, runtime, other)
            assert runtime.kernel_ids == ["k"]
            await runtime.terminate("k")
    assert len(refused) == 2


async def test_a_launch_that_is_cancelled_leaves_nothing_behind(file: StateFile) -> None:
    """Whoever comes next can have the file."""
    async with RingKernelRuntime() as runtime:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await runtime.launch("k", counter, state=file)
        await settle()
        await runtime.launch("k", counter, state=file)


async def test_a_launch_that_is_cancelled_natively_leaves_nothing_behind(
    file: StateFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends when the thread that takes the file is done: whoever comes next can have it, and is alone with it."""
    natively()
    gate = Gate(monkeypatch, "ftruncate")
    async with RingKernelRuntime() as runtime:
        task = asyncio.ensure_future(runtime.launch("k", counter, state=file))
        await gate.wait_reached()
        for _ in range(3):
            task.cancel()
            await settle()
            assert not task.done()
        gate.open.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert runtime.kernel_ids == []
        await runtime.launch("k", counter, state=file)


async def test_a_kernel_without_a_state_file_has_no_state() -> None:
    """And is told how to have one."""
    errors: list[Exception] = []

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        for use in (lambda: ctx.state, lambda: setattr(ctx, "state", 5)):
            with pytest.raises(KernelStateError, match=r"write `@ring_kernel\(..., state=StateFile\(") as caught:
                use()
            errors.append(caught.value)
        with pytest.raises(KernelStateError):
            await ctx.save_state()

    async with RingKernelRuntime() as runtime:
        await runtime.launch("k", kernel)
        await settle()
        assert runtime.get_persistence("k") is None
        with pytest.raises(TypeError, match="state says where a kernel's state is kept"):
            await runtime.launch("j", kernel, state="state.json")  # type: ignore[arg-type]
    assert len(errors) == 2


# ---- what goes wrong at a save


def fill_disk(path: Path) -> None:
    """The next save finds no room."""
    path.with_name(f"{path.name}.partial").symlink_to("/dev/full")


@FULL
async def test_who_terminates_a_kernel_is_told_that_its_state_was_not_saved(
    path: Path, file: StateFile, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged and counted, what was saved before is as it was, and the kernel has ended."""
    async with RingKernelRuntime() as runtime:
        await running(runtime, "k", counter, state=file)
        await add(runtime, 5)
        await runtime.terminate("k")
        await running(runtime, "k", counter, state=file)
        await add(runtime, 2)
        fill_disk(path)
        with pytest.raises(StateNotSaved, match="No space left") as caught:
            await runtime.terminate("k")
        assert isinstance(caught.value.__cause__, OSError)
        assert runtime.get_kernel_state("k") is KernelState.TERMINATED
        persistence = runtime.get_persistence("k")
        assert persistence is not None
        assert (persistence.saves, persistence.failed_saves) == (0, 1)
        assert persistence.last_error is caught.value
    assert [record.name for record in caplog.records] == ["rookery.ring"]
    assert on_disk(path) == {"total": 5}


@FULL
async def test_who_terminates_all_is_told_of_each_state_that_was_not_saved(tmp_path: Path) -> None:
    """All have ended, those whose states were saved too."""
    async with RingKernelRuntime() as runtime:
        for kernel_id in ("a", "b", "c"):
            path = tmp_path / f"{kernel_id}.json"
            await running(runtime, kernel_id, counter, state=StateFile(path, every=float("inf")))
            await runtime.send_and_receive(kernel_id, Ping(5))
            if kernel_id != "b":
                fill_disk(path)
        with pytest.raises(ExceptionGroup) as caught:
            await runtime.terminate_all()
        assert sorted(str(error).split("'")[1] for error in caught.value.exceptions) == ["a", "c"]
        assert {type(error) for error in caught.value.exceptions} == {StateNotSaved}
        assert runtime.kernel_ids == []
    assert on_disk(tmp_path / "b.json") == {"total": 5}


@FULL
@pytest.mark.parametrize("end", ["the block", "return"])
async def test_what_nobody_was_told_leaves_the_block(path: Path, file: StateFile, end: str) -> None:
    """A kernel that has returned does not run once more because of it."""
    runs: list[str] = []

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        runs.append(ctx.kernel_id)
        await counter(ctx)

    with pytest.raises(ExceptionGroup) as caught:
        async with RingKernelRuntime() as runtime:
            await running(runtime, "k", kernel, state=file)
            await add(runtime, 5)
            fill_disk(path)
            if end == "return":
                await runtime.send("k", Ping(0))
                while runtime.get_kernel_state("k") is not KernelState.TERMINATED:
                    await checkpoint()
    (error,) = caught.value.exceptions
    assert isinstance(error, StateNotSaved)
    assert runs == ["k"]


@FULL
async def test_a_kernel_is_told_that_its_save_failed_and_can_try_again(path: Path, file: StateFile) -> None:
    """When there is room again."""
    outcomes: list[object] = []

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        ctx.state["a"] = 1
        fill_disk(path)
        with pytest.raises(StateNotSaved) as caught:
            await ctx.save_state()
        outcomes.append(caught.value)
        await ctx.save_state()
        outcomes.append(on_disk(path))

    async with RingKernelRuntime() as runtime:
        await runtime.launch("k", kernel, state=file)
    assert len(outcomes) == 2
    assert outcomes[1] == {"a": 1}


@pytest.mark.parametrize("bad", [{1: 2}, (1,), object()])
async def test_a_state_that_json_would_change_is_not_saved(file: StateFile, bad: object) -> None:
    """It would come back as something else, which nobody would notice before the next launch."""

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        ctx.state = bad
        with pytest.raises(StateNotSaved) as caught:
            await ctx.save_state()
        assert isinstance(caught.value.__cause__, TypeError)
        ctx.state = {}

    async with RingKernelRuntime() as runtime:
        await runtime.launch("k", kernel, state=file)
        await runtime.terminate("k")


async def test_encode_makes_bytes(path: Path) -> None:
    """Anything else is refused before it reaches the disk."""
    file = StateFile(path, encode=str)  # type: ignore[arg-type]
    async with RingKernelRuntime() as runtime:
        await runtime.launch("k", silent, state=file)
        with pytest.raises(StateNotSaved, match="which is no bytes"):
            await runtime.terminate("k")
    assert on_disk(path) is None


# ---- a slow disk


class Gate:
    """Holds up whoever asks for what is on its way to the disk."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, call: str = "fsync") -> None:
        self.reached = threading.Event()
        self.open = threading.Event()
        self.waiting = 0
        self.most = 0
        self._lock = threading.Lock()
        self._call = getattr(os, call)
        monkeypatch.setattr(os, call, self._wait)

    def _wait(self, *args: int) -> None:
        with self._lock:
            self.waiting += 1
            self.most = max(self.most, self.waiting)
        self.reached.set()
        self.open.wait()
        self._call(*args)
        with self._lock:
            self.waiting -= 1

    async def wait_reached(self) -> None:
        while not self.reached.is_set():
            await checkpoint()


async def test_a_slow_disk_holds_nobody_up_and_the_last_state_is_what_stays(
    path: Path, file: StateFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one save is on its way others wait their turn, and the kernel works on."""

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        async with anyio.create_task_group() as tasks:
            for number in range(3):
                ctx.state["number"] = number
                tasks.start_soon(ctx.save_state)
                await settle()
            await counter(ctx)

    async with RingKernelRuntime() as runtime:
        gate = Gate(monkeypatch)
        await running(runtime, "k", kernel, state=file)
        await gate.wait_reached()
        assert await add(runtime, 5) == 5
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(runtime.terminate, "k")
            await settle()
            assert on_disk(path) is None
            gate.open.set()
        assert on_disk(path) == {"number": 2, "total": 5}
    assert gate.most == 1


async def test_what_was_taken_first_is_not_written_last(path: Path, file: StateFile) -> None:
    """A periodic save that one of the kernel's own has overtaken on the way to the thread is left out."""
    keeper = Keeper("k", file, current_loop())
    await keeper.open()
    keeper.value = {"step": 1}
    first = keeper._take()
    keeper.value = {"step": 2}
    second = keeper._take()
    assert await keeper._keep(second) == (None, None)
    assert await keeper._keep(first) == (None, None)
    keeper.close()
    assert (on_disk(path), keeper.statistics().saves) == ({"step": 2}, 1)


# ---- cancelled by what pierces shields


class Impatient:
    """A kernel that has its own save cancelled natively while the disk is slow, and ends by that."""

    def __init__(self) -> None:
        self.began_with: list[Any] = []
        self.task: asyncio.Task[Any] | None = None

    async def __call__(self, ctx: KernelContext[Any, Any]) -> None:
        self.began_with.append(dict(ctx.state))
        if len(self.began_with) == 1:
            ctx.state["paid"] = 1
            self.task = asyncio.current_task()
            try:
                await ctx.save_state()
            except asyncio.CancelledError:
                raise ValueError("it took too long") from None
        await counter(ctx)

    def cancel(self) -> None:
        assert self.task is not None
        self.task.cancel()


@pytest.mark.parametrize("restart", [Restart.TRANSIENT, Restart.TEMPORARY])
async def test_a_save_that_is_cancelled_natively_is_waited_for(
    path: Path, file: StateFile, monkeypatch: pytest.MonkeyPatch, restart: Restart
) -> None:
    """The kernel neither crashes nor lets go of its file while it is written; what comes next begins with that."""
    natively()
    gate, kernel = Gate(monkeypatch), Impatient()
    async with RingKernelRuntime() as runtime:
        await running(runtime, "k", kernel, state=file, restart=restart)
        await gate.wait_reached()
        for _ in range(3):
            kernel.cancel()
            await settle()
        assert kernel.began_with == [{}]
        with pytest.raises(StateFileError):
            await runtime.launch("another", counter, state=file)
        gate.open.set()
        if restart is Restart.TEMPORARY:
            while runtime.get_kernel_state("k") is not KernelState.TERMINATED:
                await checkpoint()
            await running(runtime, "k", kernel, state=file)
        await add(runtime, 2)
        assert kernel.began_with == [{}, {"paid": 1}]
    assert on_disk(path) == {"paid": 1, "total": 2}


async def test_a_last_save_that_is_cancelled_natively_is_reported_all_the_same(
    path: Path, file: StateFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever terminates the kernel is told that its state was not saved, when that is known."""
    natively()
    tasks: list[asyncio.Task[Any] | None] = []
    gate = Gate(monkeypatch)

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        tasks.append(asyncio.current_task())
        await counter(ctx)

    async with RingKernelRuntime() as runtime:
        await running(runtime, "k", kernel, state=file)
        await add(runtime, 5)
        end = asyncio.ensure_future(runtime.terminate("k"))
        await gate.wait_reached()
        assert tasks[0] is not None
        tasks[0].cancel()
        await settle()
        assert not end.done()
        block(path)
        gate.open.set()
        with pytest.raises(StateNotSaved):
            await end


async def test_what_somebody_else_has_begun_to_save_is_waited_for(
    path: Path, file: StateFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task that is not the kernel's saves while the kernel crashes, and while it ends: its file is not let go."""
    contexts: list[KernelContext[Any, Any]] = []
    began_with: list[Any] = []

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        contexts.append(ctx)
        began_with.append(dict(ctx.state))
        await counter(ctx)

    async with RingKernelRuntime() as runtime, anyio.create_task_group() as tasks:
        await running(runtime, "k", kernel, state=file, restart=Restart.TRANSIENT)
        await add(runtime, 5)
        gate = Gate(monkeypatch)
        tasks.start_soon(contexts[0].save_state)
        await gate.wait_reached()
        await runtime.send("k", Ping(13))
        await settle()
        assert began_with == [{}]
        gate.open.set()
        assert await add(runtime, 1) == 6
        assert began_with == [{}, {"total": 5}]


async def test_a_file_is_not_let_go_while_somebody_else_saves_to_it(
    path: Path, file: StateFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel has crashed for good meanwhile; when the save is done, others can have the file."""
    contexts: list[KernelContext[Any, Any]] = []

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        contexts.append(ctx)
        await counter(ctx)

    async with RingKernelRuntime() as runtime:
        await running(runtime, "k", kernel, state=file, restart=Restart.TEMPORARY)
        await add(runtime, 5)
        gate = Gate(monkeypatch)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(contexts[0].save_state)
            await gate.wait_reached()
            await runtime.send("k", Ping(13))
            while runtime.get_kernel_state("k") is not KernelState.TERMINATED:
                await checkpoint()
            with pytest.raises(StateFileError):
                await runtime.launch("another", counter, state=file)
            gate.open.set()
        assert on_disk(path) == {"total": 5}
        await runtime.launch("another", counter, state=file)
        with pytest.raises(StateNotSaved, match=r"'k' was not saved.*has ended"):
            await contexts[0].save_state()


# ---- killed

CHILD = """
import asyncio, sys
from rookery import ring

async def kernel(ctx):
    while True:
        ctx.state["number"] = ctx.state.get("number", 0) + 1
        await ctx.save_state()
        print(ctx.state["number"], flush=True)

async def main():
    async with ring.RingKernelRuntime() as runtime:
        await runtime.launch("k", kernel, state=ring.StateFile(sys.argv[1]))
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_process_that_is_killed_leaves_what_it_has_saved(path: Path) -> None:
    """All that was confirmed, at most one more, and a file that the next one can have."""
    confirmed = 0
    for lines in (1, 7, 30):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        with child:
            assert child.stdout is not None
            numbers = [int(child.stdout.readline()) for _ in range(lines)]
            child.send_signal(signal.SIGKILL)
            numbers += [int(line) for line in child.stdout]
        assert numbers[0] in {confirmed + 1, confirmed + 2}
        confirmed = numbers[-1]
        restored = Generations(path).read()
        assert restored.payload is not None
        assert json.loads(restored.payload)["number"] in {confirmed, confirmed + 1}
