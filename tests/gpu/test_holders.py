"""Debug mode: buffers that were never released, and tasks that wait for each other's memory, are reported."""

from __future__ import annotations

import asyncio
import gc
import logging
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import numpy as np
import pytest

from rookery import gpu
from rookery._core._parking import current_loop
from rookery.gpu import _pool
from support import settle

from .support import DEVICE, KERNELS, Gate

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

HERE = str(Path(__file__))
LIMIT = 20_000
HALF = 2000  # elements of four bytes, of which two fit


def messages(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    return [(record.levelno, record.getMessage()) for record in caplog.records]


async def test_a_buffer_that_was_never_released_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    """With the task, and where it acquired it."""
    async with gpu.open_device(DEVICE, debug=True) as device:

        async def forgetful() -> None:
            await device.empty((10, 5), np.int16)  # this line

        await forgetful()
        gc.collect()
        device.pool.trim()
        ((level, message),) = messages(caplog)
    assert level == logging.WARNING
    assert "a buffer was never released" in message
    assert "int16 (10, 5), " in message
    assert "in forgetful" in message
    assert f'File "{HERE}"' in message
    assert "# this line" in message
    assert "site-packages/rookery" not in message
    assert "_pool.py" not in message, "what is shown ends where the user's code does"
    assert len(caplog.records) == 1


async def test_what_is_held_at_the_end_is_reported_together(caplog: pytest.LogCaptureFixture) -> None:
    """The first few with their places."""
    async with gpu.open_device(DEVICE, debug=True) as device:
        held = [await device.empty(10) for _ in range(7)]
    ((level, message),) = messages(caplog)
    assert level == logging.WARNING
    assert f"was closed with 7 buffers of {sum(one.reserved for one in held)} bytes not released" in message
    assert message.count("float32 (10,)") == 5
    assert "- and 2 more" in message


async def test_a_report_says_whose_task_has_ended(caplog: pytest.LogCaptureFixture) -> None:
    """It will not release anything any more."""
    held: list[gpu.UnifiedBuffer] = []
    async with gpu.open_device(DEVICE, debug=True) as device:

        async def take() -> None:
            held.append(await device.empty(10))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(take, name="short-lived")
        await take()
    ((_, message),) = messages(caplog)
    assert message.count("task 'short-lived', which has ended, at") == 1
    assert message.count("has ended") == 1


async def test_who_has_the_number_of_a_task_that_has_ended_is_not_taken_for_it(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task's number is used again; and what it has left behind, others may release."""
    current = anyio.get_current_task

    def always_the_same() -> anyio.TaskInfo:
        task = current()
        task.id = 1
        return task

    monkeypatch.setattr(anyio, "get_current_task", always_the_same)
    held: list[gpu.UnifiedBuffer] = []
    async with gpu.open_device(DEVICE, memory_limit=LIMIT, debug=True) as device:

        async def take() -> None:
            held.append(await device.empty(2 * HALF))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(take)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(take)
            await settle()
            assert device.pool.statistics().waiting == 1
            device.pool.release(held[0])
        device.pool.release(held[1])
    assert messages(caplog) == []


async def test_a_task_that_runs_no_coroutine_acquires_like_any_other(
    caplog: pytest.LogCaptureFixture, anyio_backend_name: str
) -> None:
    """Whether it has ended is not known, and then not said."""
    if anyio_backend_name == "trio":
        pytest.skip("trio runs coroutines only")
    async with gpu.open_device(DEVICE, debug=True) as device:

        async def buffers() -> AsyncGenerator[gpu.UnifiedBuffer, None]:
            yield await device.empty(10)

        made = buffers()
        # A task may run it, although that is a coroutine to no type checker.
        held = await asyncio.create_task(anext(made), name="of a generator")  # type: ignore[arg-type]
        await made.aclose()
        assert device.pool.statistics().active_bytes == held.reserved
    ((_, message),) = messages(caplog)
    assert "task 'of a generator', at" in message
    assert device.pool.statistics().active_bytes == 0


async def test_what_cannot_be_reported_takes_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does it keep anything from who comes later."""

    def failing() -> None:
        raise ZeroDivisionError

    async with gpu.open_device(DEVICE, memory_limit=LIMIT, debug=True) as device:
        with monkeypatch.context() as patched:
            patched.setattr(_pool, "current_origin", failing)
            with pytest.raises(ZeroDivisionError):
                await device.empty(2 * HALF)
        pool = device.pool.statistics()
        assert (pool.active_bytes, pool.held_bytes) == (0, 0)
        device.pool.release(await device.empty(2 * HALF))


async def test_what_is_released_is_not_reported(caplog: pytest.LogCaptureFixture) -> None:
    """By hand, by a lease, or because a reduction that owned it is gone."""
    async with gpu.open_device(DEVICE, debug=True) as device:
        async with device.pool.lease(10) as x:
            x.copy_from(np.ones(10, np.float32))
            total = await device.reduction(
                np.float32, neutral=0, reduce="a + b", map="x[i]", arguments="const float *x"
            )
            assert await total(x) == 10
            del total
            gc.collect()
        device.pool.release(await device.empty(10))
        device.pool.trim()
    assert messages(caplog) == []


async def test_without_debug_nothing_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    """Collecting is a way to release."""
    async with gpu.open_device(DEVICE) as device:
        await device.empty(10)
        held = await device.empty(10)
    assert held.released
    assert messages(caplog) == []


async def test_a_deadlock_names_those_who_hold(caplog: pytest.LogCaptureFixture) -> None:
    """And what they wait for; when one of them gives up, the other goes on."""
    scope, done = anyio.CancelScope(), []
    async with gpu.open_device(DEVICE, memory_limit=LIMIT, debug=True) as device:
        both = anyio.Event()

        async def greedy(name: str, scope: anyio.CancelScope) -> None:
            with scope:
                async with device.pool.lease(HALF):
                    if device.pool.statistics().active_bytes > LIMIT // 2:
                        both.set()
                    await both.wait()
                    async with device.pool.lease(HALF + 1):
                        done.append(name)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(greedy, "first", scope, name="first task")
            tasks.start_soon(greedy, "second", anyio.CancelScope(), name="second task")
            while device.pool.statistics().waiting < 2:
                await current_loop().checkpoint()
            ((level, message),) = messages(caplog)
            assert level == logging.ERROR
            assert "deadlock, every task that holds its memory waits for more" in message
            held, _, wanted = message.partition("Waited for:")
            for part, what in ((held, f"({HALF},)"), (wanted, f"({HALF + 1},)")):
                assert part.count(what) == 2
                assert "'first task'" in part
                assert "'second task'" in part
                assert f'File "{HERE}"' in part
            scope.cancel()
    assert done == ["second"]
    assert len(caplog.records) == 1


async def test_a_deadlock_across_devices_names_those_who_hold(caplog: pytest.LogCaptureFixture) -> None:
    """Each task holds the memory of one device and waits for that of the next; once one gives up, the others go on."""
    done: list[int] = []
    scopes = [anyio.CancelScope() for _ in range(3)]
    async with AsyncExitStack() as stack:
        devices = [
            await stack.enter_async_context(gpu.open_device(DEVICE, memory_limit=LIMIT, debug=True)) for _ in range(3)
        ]
        tasks = await stack.enter_async_context(anyio.create_task_group())
        everyone = anyio.Event()

        async def greedy(number: int) -> None:
            with scopes[number]:
                async with devices[number].pool.lease(2 * HALF):
                    await everyone.wait()
                    async with devices[(number + 1) % 3].pool.lease(2 * HALF + number):
                        done.append(number)

        async def patient() -> None:
            device = devices[0]
            device.pool.release(await device.empty(HALF))

        for number in range(3):
            tasks.start_soon(greedy, number, name=f"task {number}")
        await anyio.wait_all_tasks_blocked()
        everyone.set()
        while sum(device.pool.statistics().waiting for device in devices) < 3:
            await current_loop().checkpoint()
        tasks.start_soon(patient, name="who holds nothing")
        while devices[0].pool.statistics().waiting < 2:
            await current_loop().checkpoint()
        ((level, message),) = messages(caplog)
        assert level == logging.ERROR
        named = " and ".join([str(devices[0].info)] * 3)
        assert message.startswith(f"{named}: deadlock, every task that holds their memory waits for more")
        assert message.count(f"Held of {devices[0].info}:") == 3
        assert message.count(f"Waited for of {devices[0].info}:") == 3
        for number in range(3):
            assert message.count(f"'task {number}'") == 2
            assert f"({2 * HALF + number},)" in message
        scopes[1].cancel()
    assert sorted(done) == [0, 2]
    assert len(caplog.records) == 1


async def test_waiting_across_devices_for_somebody_who_works_is_no_deadlock(caplog: pytest.LogCaptureFixture) -> None:
    """Nor for one who has been granted what it waits for; and each time that all wait anew is reported."""
    async with (
        gpu.open_device(DEVICE, memory_limit=LIMIT, debug=True) as one,
        gpu.open_device(DEVICE, memory_limit=LIMIT, debug=True) as two,
    ):

        async def greedy(first: gpu.Device, then: gpu.Device, go: anyio.Event) -> None:
            async with first.pool.lease(HALF):
                await go.wait()
                async with then.pool.lease(2 * HALF):
                    pass

        for reports in (1, 2):
            mine, go = await one.empty(HALF), anyio.Event()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(greedy, one, two, go)
                tasks.start_soon(greedy, two, one, go)
                await anyio.wait_all_tasks_blocked()
                go.set()
                await anyio.wait_all_tasks_blocked()
                assert one.pool.statistics().waiting == two.pool.statistics().waiting == 1
                assert len(caplog.records) == reports - 1, "this task might let go of what it has"
                one.pool.release(mine)
                assert len(caplog.records) == reports
                tasks.cancel_scope.cancel()

        third = await one.empty(HALF)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(greedy, two, one, go)
            await anyio.wait_all_tasks_blocked()
            assert one.pool.statistics().waiting == 1
            one.pool.release(third)  # granted to that task, which has not run yet
            async with two.pool.lease(2 * HALF):
                pass
    assert len(caplog.records) == 2


async def test_a_deadlock_is_seen_when_the_last_who_did_not_wait_lets_go(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody has to ask for memory at that moment."""
    async with gpu.open_device(DEVICE, memory_limit=LIMIT, debug=True) as device:
        third = await device.empty(HALF // 10)
        async with anyio.create_task_group() as tasks:

            async def greedy() -> None:
                async with device.pool.lease(HALF), device.pool.lease(2 * HALF):
                    pass

            tasks.start_soon(greedy, name="greedy task")
            await anyio.wait_all_tasks_blocked()
            assert messages(caplog) == [], "this task might let go, and that might do"
            device.pool.release(third)
            ((_, message),) = messages(caplog)
            assert "deadlock" in message
            assert "'greedy task'" in message
            tasks.cancel_scope.cancel()
    assert len(caplog.records) == 1


async def test_who_was_granted_and_did_not_run_yet_is_not_waiting(caplog: pytest.LogCaptureFixture) -> None:
    """It goes on, so there is no deadlock."""
    async with gpu.open_device(DEVICE, memory_limit=LIMIT, debug=True) as device:
        mine, rest = await device.empty(HALF), await device.empty(HALF)

        async def short() -> None:
            device.pool.release(await device.empty(HALF))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(short)
            await anyio.wait_all_tasks_blocked()
            device.pool.release(rest)  # granted to the other, who has not run yet
            more = await device.empty(HALF)
        device.pool.release(mine)
        device.pool.release(more)
    assert messages(caplog) == []


async def test_waiting_for_somebody_who_works_is_no_deadlock(caplog: pytest.LogCaptureFixture) -> None:
    """Nor for memory that comes back when a kernel is done."""
    async with gpu.open_device(DEVICE, memory_limit=LIMIT, debug=True) as device:
        increment = await device.kernel(KERNELS, "increment")
        released = anyio.Event()

        async def working() -> None:
            async with device.pool.lease(HALF):
                await released.wait()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(working)
            await anyio.wait_all_tasks_blocked()
            async with device.pool.lease(HALF) as mine:
                mine.copy_from(np.zeros(HALF, np.float32))

                async def more() -> None:
                    device.pool.release(await device.empty(HALF))

                tasks.start_soon(more)
                await anyio.wait_all_tasks_blocked()
                released.set()
        assert messages(caplog) == []
        mine = await device.upload(np.zeros(2 * HALF, np.float32))
        with Gate(device.queue) as gate:
            increment.submit(mine)
            device.pool.release(mine)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(more)
                await anyio.wait_all_tasks_blocked()
                gate.open()
    assert messages(caplog) == []
