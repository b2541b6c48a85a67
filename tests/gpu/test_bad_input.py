"""Bad input: one clear error for each, nothing left behind, and the device is usable afterwards."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from rookery import gpu

from .support import DEVICE, KERNELS, Gate

LIMIT = 1 << 20

Misuse = Callable[[gpu.Device], Awaitable[Any]]


async def wrong_dtype(device: gpu.Device) -> None:
    await (await device.kernel(KERNELS, "increment"))(await device.upload(np.zeros(4, np.int32)))


async def wrong_dtype_written(device: gpu.Device) -> None:
    await (await device.empty(4)).write(np.zeros(4))


async def wrong_shape(device: gpu.Device) -> None:
    await (await device.empty((2, 3))).write(np.zeros((3, 2), np.float32))


async def wrong_lengths(device: gpu.Device) -> None:
    a, b = await device.upload(np.zeros(4, np.float32)), await device.upload(np.zeros(5, np.float32))
    await (await device.kernel(KERNELS, "add"))(a, b, b, 4)


async def no_elements(device: gpu.Device) -> None:
    await device.upload(np.zeros(0, np.float32))


async def no_work_items(device: gpu.Device) -> None:
    await (await device.kernel(KERNELS, "fill"))(await device.empty(4), 1, size=0)


async def above_the_limit(device: gpu.Device) -> None:
    await device.upload(np.zeros(LIMIT, np.float32))


async def above_what_the_device_allocates(device: gpu.Device) -> None:
    await device.empty(device.info.max_allocation + 1, np.int8)


async def closed_device(device: gpu.Device) -> None:
    async with gpu.open_device(DEVICE) as other:
        buffer = await other.upload(np.zeros(4, np.float32))
    await buffer.read()


async def copy_of_a_closed_device(device: gpu.Device) -> None:
    async with gpu.open_device(DEVICE) as other:
        buffer = await other.upload(np.zeros(4, np.float32))
    await device.copy(buffer)


async def foreign_buffer(device: gpu.Device) -> None:
    async with gpu.open_device(DEVICE) as other:
        await (await device.kernel(KERNELS, "increment"))(await other.upload(np.zeros(4, np.float32)))


async def foreign_release(device: gpu.Device) -> None:
    async with gpu.open_device(DEVICE) as other:
        device.pool.release(await other.empty(4))


async def released_buffer(device: gpu.Device) -> None:
    buffer = await device.upload(np.zeros(4, np.float32))
    device.pool.release(buffer)
    await device.copy(buffer)


async def unwritten_buffer(device: gpu.Device) -> None:
    await (await device.empty(4)).read()


async def broken_source(device: gpu.Device) -> None:
    await device.build("kernel void f(global float *x) { x[0] = ; }")


async def failing_kernel(device: gpu.Device) -> None:
    fill, x = await device.kernel(KERNELS, "fill"), await device.empty(4)
    with Gate(device.queue) as gate:
        operation = fill.submit(x, 1)
        gate.fail()
        await operation


@pytest.mark.parametrize(
    ("misuse", "error", "builtin", "instead"),
    [
        (wrong_dtype, gpu.ArgumentTypeError, TypeError, "make it with dtype=np.float32"),
        (wrong_dtype_written, gpu.ArgumentTypeError, TypeError, "`np.asarray(x, dtype=np.float32)`"),
        (wrong_shape, gpu.ArgumentValueError, ValueError, "`x.reshape((2, 3))`"),
        (wrong_lengths, gpu.ArgumentValueError, ValueError, "size=..."),
        (no_elements, gpu.ArgumentValueError, ValueError, "make every side 1 or more"),
        (no_work_items, gpu.ArgumentValueError, ValueError, "size=1024"),
        (above_the_limit, gpu.OutOfDeviceMemory, MemoryError, "a larger memory_limit"),
        (above_what_the_device_allocates, gpu.OutOfDeviceMemory, MemoryError, "split it"),
        (closed_device, gpu.DeviceClosed, RuntimeError, "`async with open_device()` block"),
        (copy_of_a_closed_device, gpu.DeviceClosed, RuntimeError, "`async with open_device()` block"),
        (foreign_buffer, gpu.ArgumentValueError, ValueError, "`await device.copy(buffer)`"),
        (foreign_release, gpu.ArgumentValueError, ValueError, "`buffer.pool.release(buffer)`"),
        (released_buffer, gpu.BufferReleased, RuntimeError, "acquire another"),
        (unwritten_buffer, gpu.NoData, ValueError, "`await buffer.write(array)` first"),
        (broken_source, gpu.BuildFailed, ValueError, "x[0] = ;"),
        (failing_kernel, gpu.CommandFailed, RuntimeError, "kernel 'fill' failed"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_bad_input_is_one_error_after_which_the_device_works(
    misuse: Misuse, error: type[Exception], builtin: type[Exception], instead: str
) -> None:
    """It is also the built-in that fits, says what to write instead, and takes no memory with it."""
    async with gpu.open_device(DEVICE, memory_limit=LIMIT) as device:
        with pytest.raises(error) as caught:
            await misuse(device)
        assert isinstance(caught.value, builtin)
        assert instead in str(caught.value)
        del caught
        increment = await device.kernel(KERNELS, "increment")
        x = await device.upload(np.zeros(100, np.float32))
        await increment(x)
        assert (await x.read() == 1).all()
        whole = LIMIT * 15 // 16 - 2 * x.reserved  # what rounding leaves of it
        device.pool.release(x)
        device.pool.trim()
        device.pool.release(await device.empty(whole, np.int8))
        assert device.pool.statistics().active_bytes == 0
