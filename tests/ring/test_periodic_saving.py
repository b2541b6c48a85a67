"""States that are saved while their kernels run, on a virtual clock."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from rookery.ring import KernelContext, KernelPersistence, RingKernelRuntime, StateFile
from rookery.ring._snapshot import unpack
from rookery.testing import virtual_clock
from support import settle

from .support import Ping, running


@pytest.fixture(scope="module", params=["trio", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Loops whose time jumps."""
    return virtual_clock(request.param)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.json"


def on_disk(path: Path) -> Any:
    return json.loads(unpack(path.read_bytes())) if path.exists() else None


def blocker(path: Path) -> Path:
    """A folder of this name, and nothing can be saved."""
    return path.with_name(f"{path.name}.partial")


def persistence(runtime: RingKernelRuntime) -> KernelPersistence:
    found = runtime.get_persistence("k")
    assert found is not None
    return found


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a thread, and let time pass: it does so while threads work, so that nobody knows how much has."""
    while not condition():  # noqa: ASYNC110  # virtual seconds
        await anyio.sleep(1)


async def remember(ctx: KernelContext[Any, Any]) -> None:
    """Keeps the last number."""
    while True:
        ctx.state["last"] = (await ctx.receive()).number


async def idiomatic(ctx: KernelContext[Any, Any]) -> None:
    """The same in the loop that people write."""
    while not ctx.should_terminate:
        if not ctx.is_active:
            await ctx.wait_active()
            continue
        try:
            ctx.state["last"] = (await ctx.receive(timeout=0.1)).number
        except TimeoutError:
            continue


@pytest.mark.parametrize("kernel", [remember, idiomatic])
async def test_a_state_is_saved_every_so_often(path: Path, kernel: Any) -> None:
    """Not before, and also while nothing arrives; one that has not changed is not written again."""
    async with RingKernelRuntime() as runtime:
        await running(runtime, "k", kernel, state=StateFile(path, every=60))
        await runtime.send("k", Ping(5))
        await anyio.sleep(59)
        assert on_disk(path) is None
        await anyio.sleep(2)
        await until(lambda: persistence(runtime).saves == 1)
        assert on_disk(path) == {"last": 5}
        for _ in range(5):
            await anyio.sleep(61)
        assert persistence(runtime).saves == 1
        await runtime.send("k", Ping(6))
        await anyio.sleep(61)
        await until(lambda: persistence(runtime).saves == 2)
        assert on_disk(path) == {"last": 6}


async def test_a_state_is_saved_of_a_kernel_that_is_not_active(path: Path) -> None:
    """It rests where it waits to be activated."""

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        ctx.state["begun"] = True
        await ctx.wait_active()

    async with RingKernelRuntime() as runtime:
        await runtime.launch("k", kernel, state=StateFile(path, every=60))
        await anyio.sleep(61)
        await until(lambda: persistence(runtime).saves == 1)
        assert on_disk(path) == {"begun": True}


async def test_no_message_is_half_in_what_is_saved(path: Path) -> None:
    """A save that is due waits until the kernel has come back for the next message."""
    seen: list[bytes] = []

    def encode(state: Any) -> bytes:
        seen.append(json.dumps(state).encode())
        return seen[-1]

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        while True:
            ping = await ctx.receive()
            ctx.state["from"] = ping.number
            await anyio.sleep(100)  # several saves would be due
            ctx.state["to"] = ping.number

    async with RingKernelRuntime() as runtime:
        await running(runtime, "k", kernel, state=StateFile(path, every=30, encode=encode))
        for number in range(1, 4):
            await runtime.send("k", Ping(number))
            await anyio.sleep(99)
            assert persistence(runtime).saves == number - 1
            await anyio.sleep(2)
            await until(lambda saves=number: persistence(runtime).saves == saves)  # type: ignore[misc]
        assert len(seen) >= 3
        states = [json.loads(one) for one in seen]
    assert [one for one in states if one.get("from") != one.get("to")] == []


async def test_no_message_is_half_in_what_is_saved_while_other_tasks_receive(path: Path) -> None:
    """A kernel with several tasks that receive is saved when none of them is at work."""

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        ctx.state.update(begun=0, done=0)

        async def work() -> None:
            while not ctx.should_terminate:
                try:
                    ping = await ctx.receive(timeout=7)
                except TimeoutError:
                    continue
                ctx.state["begun"] += 1
                await anyio.sleep(ping.number)
                ctx.state["done"] += 1

        async with anyio.create_task_group() as tasks:
            for _ in range(2):
                tasks.start_soon(work)

    async with RingKernelRuntime() as runtime:
        await running(runtime, "k", kernel, state=StateFile(path, every=30))
        await anyio.sleep(1)
        await runtime.send("k", Ping(100))
        await anyio.sleep(99)
        assert on_disk(path) is None
        await anyio.sleep(10)
        await until(lambda: persistence(runtime).saves == 1)
        assert on_disk(path) == {"begun": 1, "done": 1}


async def test_a_task_that_has_ended_has_nothing_in_hand(path: Path) -> None:
    """Whatever it has received last: the kernel is saved when another one comes back."""

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        async def take_one() -> None:
            ctx.state["last"] = (await ctx.receive()).number

        while True:
            async with anyio.create_task_group() as tasks:
                for _ in range(100):
                    tasks.start_soon(take_one)

    async with RingKernelRuntime() as runtime:
        await running(runtime, "k", kernel, state=StateFile(path, every=30))
        for number in range(150):
            await runtime.send("k", Ping(number))
        await anyio.sleep(31)
        assert on_disk(path) is None
        for number in range(50):
            await runtime.send("k", Ping(number))
        await until(lambda: persistence(runtime).saves >= 1)
        assert on_disk(path) == {"last": 49}


async def test_a_save_that_fails_is_reported_and_tried_again(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The kernel works on; the next save is as good as any."""
    async with RingKernelRuntime() as runtime:
        await running(runtime, "k", remember, state=StateFile(path, every=60))
        await runtime.send("k", Ping(5))
        await settle()
        blocker(path).mkdir()
        await anyio.sleep(61)
        await until(lambda: persistence(runtime).failed_saves == 1)
        assert persistence(runtime).last_error is not None
        blocker(path).rmdir()
        await anyio.sleep(61)
        await until(lambda: persistence(runtime).saves == 1)
        assert on_disk(path) == {"last": 5}
        assert [record.name for record in caplog.records] == ["rookery.ring"]


async def test_a_crash_while_a_save_is_due_ends_it(path: Path) -> None:
    """What the kernel crashed with is not saved; its next run is saved as ever."""

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        while True:
            ping = await ctx.receive()
            ctx.state["last"] = ping.number
            if ping.number == 13:
                await anyio.sleep(100)
                raise ValueError("unlucky")

    async with RingKernelRuntime() as runtime:
        await running(runtime, "k", kernel, state=StateFile(path, every=30))
        await runtime.send("k", Ping(13))
        await anyio.sleep(101)
        assert on_disk(path) is None
        await runtime.send("k", Ping(1))
        await anyio.sleep(31)
        await until(lambda: persistence(runtime).saves == 1)
        assert on_disk(path) == {"last": 1}
