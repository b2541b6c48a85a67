"""The host side of devices with memory of their own: pinned where that pays, kept for the next buffer, never shared."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from rookery import gpu
from rookery.gpu import _opencl
from rookery.gpu._pool import PINNED

from .support import DEVICE, KERNELS, without_shared_memory

MANY = PINNED // 4


@pytest.fixture
async def own(device: gpu.Device) -> gpu.Device:
    """A device that does not share the host's memory."""
    return without_shared_memory(device)


def is_pinned(array: np.ndarray) -> bool:
    while isinstance(array.base, np.ndarray):
        array = array.base
    return isinstance(array.base, _opencl._PinnedMemory)


@pytest.mark.parametrize(("size", "pinned"), [(MANY - 1, False), (MANY, True)])
async def test_what_is_large_is_pinned(own: gpu.Device, size: int, pinned: bool) -> None:
    """And goes to the device and back unharmed, whatever its dtype and shape."""
    increment = await own.kernel(KERNELS, "increment")
    buffer = await own.upload(np.arange(size, dtype=np.float32))
    assert is_pinned(buffer.host) is pinned
    await increment(buffer)
    np.testing.assert_array_equal(np.arange(1, size + 1, dtype=np.float32), await buffer.read())
    records = np.zeros((2, size), [("a", np.int16), ("b", np.int32)])
    records["b"] = 7
    np.testing.assert_array_equal(records, await (await own.upload(records)).read())


async def test_pinned_memory_is_kept_for_the_next_buffer(own: gpu.Device) -> None:
    """Pinning takes long; `trim` gives it back."""
    for _ in range(3):
        buffer = await own.upload(np.zeros(MANY, np.float32))
        own.pool.release(buffer)
    del buffer
    gc.collect()
    pinned = own.pool._pinned
    assert (pinned.active_blocks, pinned.held_blocks) == (0, 1)
    own.pool.trim()
    assert (pinned.active_blocks, pinned.held_blocks) == (0, 0)


async def test_what_is_kept_pinned_is_within_the_limit() -> None:
    """Of whatever sizes."""
    async with gpu.open_device(DEVICE, memory_limit=4 * PINNED) as device:
        without_shared_memory(device)
        for more in range(0, 2 * MANY, MANY // 4):
            device.pool.release(await device.upload(np.zeros(MANY + more, np.float32)))
            assert device.pool._pinned.managed_bytes <= 4 * PINNED
        assert device.pool._pinned.managed_bytes > 0


async def test_an_array_of_the_host_side_keeps_its_pinned_memory(own: gpu.Device) -> None:
    """After the buffer's release, and after a trim."""
    buffer = await own.upload(np.full(MANY, 7, np.float32))
    view = buffer.host
    own.pool.release(buffer)
    other = await own.upload(np.zeros(MANY, np.float32))
    own.pool.trim()
    assert (view == 7).all()
    assert not np.shares_memory(view, other.host)


async def test_an_array_outlives_the_device() -> None:
    """Its memory is there as long as it is."""
    async with gpu.open_device(DEVICE) as device:
        view = (await without_shared_memory(device).upload(np.full(MANY, 7, np.float32))).host
    assert (view == 7).all()
    del view


async def test_where_nothing_can_be_pinned_plain_memory_does(own: gpu.Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is slower, and that is all."""

    class Full:
        managed_bytes = 0

        def allocate(self, nbytes: int) -> None:
            raise _opencl.OpenCLError("none left")

        def free_held(self) -> None: ...

    monkeypatch.setattr(own.pool, "_pinned", Full())
    buffer = await own.upload(np.ones(MANY, np.float32))
    assert not is_pinned(buffer.host)
    assert (await buffer.read() == 1).all()
