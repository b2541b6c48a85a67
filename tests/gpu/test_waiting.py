"""How the event loop hears that something is over: by the task that looks for a moment, or by the queue's thread."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING
from unittest import mock

import anyio
import pytest
from anyio.lowlevel import checkpoint

from rookery import gpu
from rookery.gpu import _lane  # pyright: ignore[reportPrivateUsage]

from .support import DEVICE, Gate

if TYPE_CHECKING:
    from collections.abc import Generator


@contextmanager
def looking_for(seconds: float) -> Generator[None]:
    """Have tasks look that long, or not at all."""
    with mock.patch.object(_lane, "WATCH_FOR", seconds):
        yield


async def zeros(device: gpu.Device, program: gpu.Program) -> gpu.UnifiedBuffer:
    """A buffer whose data is on the device, so that a launch starts nothing but itself."""
    x = await device.empty(4)
    with looking_for(60):
        await program.kernel("fill")(x, 0)
    return x


async def watched(device: gpu.Device) -> None:
    """Wait until a task looks."""
    while device.queue.lane.watched is None:
        await checkpoint()


async def test_what_is_short_is_over_before_a_thread_is_asked(device: gpu.Device, program: gpu.Program) -> None:
    """The task that awaits a launch sees it end."""
    x = await zeros(device, program)
    with looking_for(60):
        await program.kernel("increment")(x)
    assert not any(device.queue.name in thread.name for thread in threading.enumerate())
    assert (await x.read()).tolist() == [1] * 4
    assert device.statistics().kernels["increment"].completed == 1


async def test_what_takes_longer_is_left_to_the_thread(device: gpu.Device, program: gpu.Program) -> None:
    """And what comes next as well, until something was short again."""
    increment, x = program.kernel("increment"), await zeros(device, program)
    with mock.patch.object(_lane.Lane, "watch", autospec=True, side_effect=_lane.Lane.watch) as watch:
        for seconds, looks in ((60, 1), (0, 2), (60, 2), (60, 3)):
            with looking_for(seconds):
                await increment(x)
            assert watch.call_count == looks
    assert (await x.read()).tolist() == [4] * 4


async def test_the_loop_goes_on_while_a_task_looks(device: gpu.Device, program: gpu.Program) -> None:
    """What others launch meanwhile comes behind, and all of it is over in that order."""
    increment, x = program.kernel("increment"), await zeros(device, program)
    settle = mock.patch.object(gpu.Operation, "settle", autospec=True, side_effect=gpu.Operation.settle)
    with looking_for(60), Gate(device.queue) as gate, settle as settled:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(program.kernel("fill"), x, 5)
            await watched(device)
            behind = increment.submit(x)
            assert device.queue.lane.watched is None
            gate.open()
            await behind
    assert [call.args[0].label for call in settled.call_args_list] == ["kernel 'fill'", "kernel 'increment'"]
    assert (await x.read()).tolist() == [6] * 4


async def test_several_may_wait_for_what_a_task_looks_at(device: gpu.Device, program: gpu.Program) -> None:
    """As one that synchronizes does."""
    increment, x = program.kernel("increment"), await zeros(device, program)
    with looking_for(60), Gate(device.queue) as gate:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(increment, x)
            await watched(device)
            tasks.start_soon(device.synchronize)
            tasks.start_soon(device.queue.synchronize)
            for _ in range(5):
                await checkpoint()
            gate.open()
    assert device.queue.in_flight == 0
    assert (await x.read()).tolist() == [1] * 4


async def test_a_task_that_looks_is_cancelled_at_once() -> None:
    """The thread waits in its place, and the memory stays reserved until then."""
    async with gpu.open_device(DEVICE, memory_limit=10_000) as device:
        fill = await device.kernel("kernel void fill(global float *x) { x[get_global_id(0)] = 5; }", "fill")
        with looking_for(60), Gate(device.queue) as gate:
            scope = anyio.CancelScope()

            async def launch() -> None:
                with scope:
                    async with device.pool.lease(2000) as buffer:
                        await fill(buffer)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(launch)
                await watched(device)
                scope.cancel()
            assert scope.cancelled_caught
            assert device.queue.in_flight == 1
            assert device.pool.try_acquire(2000) is None
            gate.open()
            device.pool.release(await device.pool.acquire(2000))
        assert device.queue.in_flight == 0


async def test_a_device_is_closed_while_a_task_looks() -> None:
    """The block waits for what is under way, also if that task is cancelled meanwhile."""
    async with anyio.create_task_group() as tasks:
        with looking_for(60):
            async with gpu.open_device(DEVICE) as device:
                fill = await device.kernel("kernel void fill(global float *x) { x[get_global_id(0)] = 5; }", "fill")
                x, gate, scope = await device.empty(4), Gate(device.queue), anyio.CancelScope()

                async def launch() -> None:
                    with scope:
                        await fill(x)

                async def cancel() -> None:
                    assert device.queue.lane.closed
                    scope.cancel()
                    for _ in range(5):
                        await checkpoint()
                    gate.open()

                tasks.start_soon(launch)
                await watched(device)
                tasks.start_soon(cancel)
            assert scope.cancelled_caught
            assert not device.queue.in_flight


async def test_nobody_looks_where_something_is_under_way(device: gpu.Device, program: gpu.Program) -> None:
    """The thread has that first; or another one has, whose failure would be this one's."""
    increment, x = program.kernel("increment"), await zeros(device, program)
    async with device.open_queue() as other:
        for queue, in_flight in ((device.queue, 2), (other, 1)):
            with looking_for(60), Gate(queue) as gate:
                increment.submit(x, queue=queue)
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(increment, x)
                    await anyio.wait_all_tasks_blocked()
                    assert (device.queue.in_flight, device.queue.lane.watched) == (in_flight, None)
                    gate.open()
    assert (await x.read()).tolist() == [4] * 4


async def test_what_fails_while_a_task_looks_is_raised_there(device: gpu.Device, program: gpu.Program) -> None:
    """As by the thread."""
    increment, x = program.kernel("increment"), await zeros(device, program)

    async def launch() -> None:
        with pytest.raises(gpu.CommandFailed, match="kernel 'increment' failed"):
            await increment(x)

    with looking_for(60), Gate(device.queue) as gate:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(launch)
            await watched(device)
            gate.fail()
    assert device.statistics().kernels["increment"].failed == 1


async def test_the_loop_runs_between_many_that_are_over_together(device: gpu.Device, program: gpu.Program) -> None:
    """So that its timers are on time, whoever is woken and launches again."""
    increment, x = program.kernel("increment"), await zeros(device, program)
    operations = [increment.submit(x) for _ in range(100)]
    last = threading.Event()
    device.queue.lane.submit(last.set, (), lambda: "what comes last")
    assert last.wait(30), "all are over by now, and this task keeps the event loop from hearing of it"
    settled = [0]
    while settled[-1] < len(operations):
        await checkpoint()
        settled.append(sum(operation.done for operation in operations))
    # Twice that, where this task is the first in one pass and the last in the next.
    assert max(later - before for before, later in pairwise(settled)) <= 2 * _lane.SETTLED_AT_ONCE
    assert (await x.read()).tolist() == [100] * 4
