"""Copying buffers: within a device, between devices, and with several devices at once."""

from __future__ import annotations

import os
import subprocess
import sys

import anyio
import numpy as np
import pytest

from rookery import gpu

from .support import DEVICE, KERNELS, Gate

TWO_DEVICES = """
import anyio
import numpy as np
from rookery import gpu

SOURCE = "kernel void increment(global float *x) { x[get_global_id(0)] += 1; }"

async def main():
    first, second = [info for info in gpu.devices() if info.is_pocl]
    async with gpu.open_device(first.index) as a, gpu.open_device(second.index) as b:
        assert (a.info, b.info) == (first, second)
        kernels = [await device.kernel(SOURCE, "increment") for device in (a, b)]
        buffers = [await device.upload(np.full(1000, value, np.float32)) for device, value in ((a, 10), (b, 20))]
        async with anyio.create_task_group() as tasks:
            for kernel, buffer in zip(kernels, buffers):
                tasks.start_soon(kernel, buffer)
        assert [float((await buffer.read())[0]) for buffer in buffers] == [11, 21]
        moved = await b.copy(buffers[0])
        assert moved.owner is b
        await kernels[1](moved)
        assert (await moved.read() == 12).all() and (await buffers[0].read() == 11).all()
        try:
            await kernels[1](buffers[0])
        except gpu.ArgumentValueError as error:
            print(error)
        await kernels[1](buffers[1])
        assert (await buffers[1].read() == 22).all()

for backend in ("trio", "asyncio"):
    anyio.run(main, backend=backend)
"""


def test_two_devices_work_side_by_side() -> None:
    """Each with its own kernels and buffers; what is the other's is refused, or copied."""
    done = subprocess.run(
        [sys.executable, "-c", TWO_DEVICES],
        env=os.environ | {"POCL_DEVICES": "pthread pthread"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.count("needs a buffer of its own device, got one of another `open_device()`") == 2
    assert done.stdout.count("copy it with `await device.copy(buffer)`") == 2


async def test_a_copy_has_what_was_started_before_and_nothing_later(either: gpu.Device) -> None:
    """The order of starting is the order of seeing, as for kernels."""
    increment = await either.kernel(KERNELS, "increment")
    buffer = await either.upload(np.zeros(100, np.float32))
    copies: list[gpu.UnifiedBuffer] = []

    async def copy() -> None:
        copies.append(await either.copy(buffer))

    async with anyio.create_task_group() as tasks:
        with Gate(either.queue) as gate:
            increment.submit(buffer)
            tasks.start_soon(copy)
            await anyio.wait_all_tasks_blocked()
            assert not copies
            increment.submit(buffer)
            gate.open()
    assert (copies[0].shape, copies[0].dtype) == (buffer.shape, buffer.dtype)
    assert (await copies[0].read()).tolist() == [1] * 100
    assert (await buffer.read()).tolist() == [2] * 100


async def test_a_copy_within_a_device_stays_there(either: gpu.Device) -> None:
    """Nothing goes by way of the host."""
    buffer = await either.upload(np.arange(12, dtype=np.int16).reshape(3, 4))
    before = either.statistics()
    copied = await either.copy(buffer)
    assert copied.state is gpu.BufferState.DEVICE_ONLY
    after = either.statistics()
    assert (after.uploads, after.downloads) == (before.uploads, before.downloads)
    either.pool.release(buffer)
    assert (await copied.read()).tolist() == np.arange(12).reshape(3, 4).tolist()


async def test_a_copy_of_another_opening_goes_by_way_of_the_host(device: gpu.Device) -> None:
    """Two openings of one device are as separate as two devices."""
    async with gpu.open_device(DEVICE) as other:
        copied = await device.copy(await other.upload(np.arange(5.0)))
    assert copied.owner is device
    assert (await copied.read()).tolist() == [0, 1, 2, 3, 4]


async def test_nothing_to_copy_leaves_nothing_behind(either: gpu.Device) -> None:
    """Also where the copy is cancelled."""
    buffer = await either.empty(10)
    with pytest.raises(gpu.NoData, match="nothing was written"):
        await either.copy(buffer)
    await buffer.write(np.zeros(10, np.float32))
    with Gate(either.queue) as gate, anyio.CancelScope() as scope:
        scope.cancel()
        await either.copy(buffer)
    gate.open()
    assert scope.cancelled_caught
    await either.synchronize()
    assert either.pool.statistics().active_bytes == buffer.reserved
    either.pool.release(buffer)
    with pytest.raises(gpu.BufferReleased):
        await either.copy(buffer)
