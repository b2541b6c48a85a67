"""Unified buffers, on a device that shares the host's memory and on one that does not."""

from __future__ import annotations

import threading

import anyio
import anyio.to_thread
import numpy as np
import pytest

from rookery import gpu
from rookery.gpu._buffer import LARGE

from .support import DEVICE, KERNELS, Gate

BIG = LARGE // 4 + 5  # elements of four bytes


@pytest.mark.parametrize("size", [1, 1000, BIG])
async def test_what_is_uploaded_is_read_back(either: gpu.Device, size: int) -> None:
    """Small and large arrays take different ways."""
    array = np.random.default_rng(0).random(size, dtype=np.float32)
    buffer = await either.upload(array)
    assert buffer.state is gpu.BufferState.SYNCHRONIZED
    np.testing.assert_array_equal(array, await buffer.read())


async def test_arrays_need_not_be_contiguous(either: gpu.Device) -> None:
    """What counts is what numpy shows."""
    array = np.arange(60, dtype=np.int16).reshape(6, 10)[::-2, 1::3].T
    buffer = await either.upload(array)
    assert (array.shape, array.dtype, array.nbytes) == (buffer.shape, buffer.dtype, buffer.nbytes)
    np.testing.assert_array_equal(array, await buffer.read())


async def test_the_host_view_is_no_copy_where_memory_is_shared(device: gpu.Device) -> None:
    """Zero copies: the kernel sees what was written through the view, and the view what the kernel wrote."""
    if not device.info.shares_host_memory:
        pytest.skip("the device has memory of its own")
    increment = await device.kernel(KERNELS, "increment")
    buffer = await device.upload(np.zeros(8, np.float32))
    view = buffer.host
    view[:] = 5
    buffer.mark_host_dirty()
    await increment(buffer)
    assert view.tolist() == [6] * 8
    assert device.statistics().uploads == device.statistics().downloads == 0


async def test_a_view_that_outlives_its_buffer_keeps_its_memory(either: gpu.Device) -> None:
    """Nobody else is given memory that an array still looks at, and looking at it is safe after a trim."""
    buffer = await either.upload(np.full(1000, 7, np.float32))
    view = buffer.host
    either.pool.release(buffer)
    other = await either.upload(np.zeros(1000, np.float32))
    either.pool.trim()
    assert (view == 7).all()
    assert (other.host == 0).all()


async def test_reading_waits_for_the_launches_that_write(either: gpu.Device) -> None:
    """Reading needs no await on the operations before."""
    increment = await either.kernel(KERNELS, "increment")
    buffer = await either.upload(np.zeros(100, np.float32))
    with Gate(either.queue) as gate:
        for _ in range(5):
            increment.submit(buffer)
        async with anyio.create_task_group() as tasks:

            async def read() -> None:
                results.append(await buffer.read())

            results: list[np.ndarray] = []
            tasks.start_soon(read)
            tasks.start_soon(read)
            await anyio.wait_all_tasks_blocked()
            assert not results
            gate.open()
    assert [result.tolist() for result in results] == [[5] * 100] * 2


async def test_two_tasks_that_need_the_host_side_share_one_transfer(either: gpu.Device) -> None:
    """Exactly one transfer for each change, also while it is on its way."""
    increment = await either.kernel(KERNELS, "increment")
    buffer = await either.upload(np.zeros(100, np.float32))
    await increment(buffer)
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(buffer.ensure_on_host)
    assert either.statistics().downloads == (0 if either.info.shares_host_memory else 1)


async def test_a_launch_during_a_transfer_makes_it_outdated(either: gpu.Device) -> None:
    """What arrives on the host is not taken for the newest if it no longer is."""
    increment = await either.kernel(KERNELS, "increment")
    buffer = await either.upload(np.zeros(100, np.float32))
    async with anyio.create_task_group() as tasks:
        with Gate(either.queue) as gate:
            increment.submit(buffer)
            tasks.start_soon(buffer.ensure_on_host)
            await anyio.wait_all_tasks_blocked()
            increment.submit(buffer)
            gate.open()
    assert buffer.host.tolist() == [2] * 100


async def test_host_access_during_a_launch_is_refused(either: gpu.Device) -> None:
    """The kernel might see half of it."""
    increment = await either.kernel(KERNELS, "increment")
    buffer = await either.upload(np.zeros(4, np.float32))
    with Gate(either.queue):
        increment.submit(buffer)
        with pytest.raises(gpu.StaleHost, match=r"await buffer\.ensure_on_host\(\)"):
            _ = buffer.host
        with pytest.raises(gpu.BufferBusy, match=r"kernel 'increment': in flight.*`await buffer\.write\(array\)`"):
            buffer.copy_from(np.ones(4, np.float32))
        with pytest.raises(gpu.BufferBusy):
            buffer.mark_host_dirty()


async def test_a_large_array_may_be_reused_when_writing_it_was_cancelled(either: gpu.Device) -> None:
    """It was copied by then, all of it."""
    buffer, copying = await either.empty(BIG), threading.Event()
    array = np.full(BIG, 1, np.float32)
    async with anyio.create_task_group() as tasks:
        either.copies.submit(copying.wait, (), lambda: "what is copied before")
        scope, over = anyio.CancelScope(), anyio.Event()

        async def write() -> None:
            with scope:
                await buffer.write(array)
            assert scope.cancelled_caught
            array[:] = 2
            over.set()

        tasks.start_soon(write)
        await anyio.wait_all_tasks_blocked()
        scope.cancel()
        await anyio.wait_all_tasks_blocked()
        assert not over.is_set()
        copying.set()
    assert set(await buffer.read()) == {1}


async def test_writing_waits_for_the_launches_that_read(either: gpu.Device) -> None:
    """A launch sees the data of the moment it was started."""
    program = await either.build(KERNELS)
    add = program.kernel("add")
    source = await either.upload(np.full(10, 1, np.float32))
    out = await either.empty(10)
    async with anyio.create_task_group() as tasks:
        with Gate(either.queue) as gate:
            add.submit(source, source, out, 10)
            tasks.start_soon(source.write, np.full(10, 100, np.float32))
            await anyio.wait_all_tasks_blocked()
            gate.open()
    assert (await out.read()).tolist() == [2] * 10
    assert (await source.read()).tolist() == [100] * 10


async def test_wrong_arrays_are_refused(device: gpu.Device) -> None:
    """Each with what it is and what was wanted."""
    buffer = await device.empty((2, 3))
    with pytest.raises(
        TypeError, match=r"holds float32, got an array of float64: write `np\.asarray\(x, dtype=np\.flo"
    ):
        await buffer.write(np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"\(2, 3\), got .* \(3, 2\): write `x\.reshape\(\(2, 3\)\)`"):
        buffer.copy_from(np.zeros((3, 2), np.float32))
    with pytest.raises(ValueError, match=r"\(2, 3\), got .* \(7,\): write `await device\.upload\(x\)` for a buffer of"):
        await buffer.write(np.zeros(7, np.float32))
    with pytest.raises(TypeError, match=r"takes a numpy array, got \[1\]: write `np\.asarray\(x, dtype=np\.float32\)`"):
        buffer.copy_from([1])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"takes a numpy array, got \[1, 2\]"):
        await device.upload([1, 2])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([None]), r"not dtype\('O'\); Python objects live on the host"),
        (np.array(["a"]), r"not dtype\('<U1'\); kernels know no text"),
        (np.array([b"a"]), r"not dtype\('S1'\); kernels know no text: write `np\.frombuffer"),
        (np.array(["2020-01-01"], "M8[D]"), r"kernels know no dates: write `x\.astype\(np\.int64\)`"),
        (np.array([1], "m8[s]"), "kernels know no time spans"),
        (np.ma.masked_array([1.0, 2.0], [True, False]), r"mask of a masked array: write `x\.filled\(0\)`"),
        (np.zeros(3, ">f4"), r"the machine's own byte order, not dtype\('>f4'\): write `x\.astype"),
    ],
)
async def test_arrays_that_are_no_plain_numbers_are_refused(
    device: gpu.Device, array: np.ndarray, message: str
) -> None:
    """What a kernel would see of them is not what they mean."""
    with pytest.raises(gpu.ArgumentTypeError, match=message):
        await device.upload(array)
    assert device.pool.statistics().active_bytes == 0


async def test_shapes_are_whole_numbers(device: gpu.Device) -> None:
    """Of Python or numpy, and nothing that merely looks like one."""
    assert (await device.empty(np.int64(5))).shape == (5,)  # type: ignore[arg-type]
    assert (await device.empty((np.int32(5), 2))).shape == (5, 2)  # type: ignore[arg-type]
    for wrong in (5.0, True, "5", (2, 2.0), None):
        with pytest.raises(gpu.ArgumentTypeError, match=r"is a whole number or a tuple of them, got .*: write 1024"):
            await device.empty(wrong)  # type: ignore[arg-type]
    with pytest.raises(
        gpu.ArgumentValueError, match=r"at least one element, got the shape \(0, 3\): make every side 1"
    ):
        await device.empty((0, 3))


async def test_use_after_release_raises(device: gpu.Device) -> None:
    """Whatever the use; the memory may be somebody else's."""
    buffer = await device.upload(np.zeros(4, np.float32))
    device.pool.release(buffer)
    assert buffer.released
    with pytest.raises(gpu.BufferReleased, match=r"was released before: release it once, and let a lease"):
        device.pool.release(buffer)
    with pytest.raises(gpu.BufferReleased, match="was used after its release"):
        _ = buffer.host
    with pytest.raises(gpu.BufferReleased):
        _ = buffer.device
    with pytest.raises(gpu.BufferReleased):
        await buffer.read()
    with pytest.raises(gpu.BufferReleased):
        await buffer.write(np.zeros(4, np.float32))
    with pytest.raises(gpu.BufferReleased):
        buffer.mark_device_dirty()


async def test_a_lease_ends_with_its_block(device: gpu.Device) -> None:
    """Also when the block raises, and when the buffer was released before."""

    async def fail() -> None:
        async with device.pool.lease(100, np.int32) as buffer:
            assert device.pool.statistics().active_bytes == buffer.reserved
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert device.pool.statistics().active_bytes == 0
    async with device.pool.lease(100) as buffer:
        device.pool.release(buffer)


async def test_a_loop_that_never_releases_runs_on() -> None:
    """Buffers that nobody holds any more give their memory back before anybody waits for it."""
    async with gpu.open_device(DEVICE, memory_limit=100_000) as device:
        increment = await device.kernel(KERNELS, "increment")
        with anyio.fail_after(10):
            for _ in range(30):
                buffer = await device.upload(np.zeros(5000, np.float32))
                await increment(buffer)
                assert (await buffer.read() == 1).all()


async def test_a_dropped_buffer_serves_who_waits() -> None:
    """In whichever thread it is dropped."""
    async with gpu.open_device(DEVICE, memory_limit=10_000) as device:
        held = [await device.empty(2000)]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(device.empty, 2000)
            await anyio.wait_all_tasks_blocked()
            assert device.pool.statistics().waiting == 1
            await anyio.to_thread.run_sync(held.clear)


async def test_a_dropped_buffer_stays_reserved_while_a_kernel_uses_it() -> None:
    """A launch holds its buffers."""
    async with gpu.open_device(DEVICE, memory_limit=10_000) as device:
        increment = await device.kernel(KERNELS, "increment")
        with Gate(device.queue) as gate:
            increment.submit(await device.upload(np.zeros(2000, np.float32)))
            assert device.pool.try_acquire(2000) is None
            gate.open()
            await device.synchronize()
        assert device.pool.try_acquire(2000) is not None


async def test_a_dropped_buffer_that_is_looked_at_keeps_its_memory(either: gpu.Device) -> None:
    """The view holds the memory, not the buffer."""
    view = (await either.upload(np.full(1000, 7, np.float32))).host
    other = await either.upload(np.zeros(1000, np.float32))
    either.pool.trim()
    assert (view == 7).all()
    assert (other.host == 0).all()


@pytest.mark.parametrize("released", [True, False])
async def test_memory_that_is_still_looked_at_counts_against_the_limit(released: bool) -> None:
    """Whether its buffer was released or dropped; who waits for it is served when the last array is gone, wherever."""
    async with gpu.open_device(DEVICE, memory_limit=20_000) as device:
        if not device.info.shares_host_memory:
            pytest.skip("the device has memory of its own")
        views: list[np.ndarray] = []
        for _ in range(2):
            buffer = await device.upload(np.full(2000, 7, np.float32))
            views.append(buffer.host[::2])
            if released:
                device.pool.release(buffer)
            del buffer
        device.pool.trim()
        seen = device.pool.statistics()
        assert (seen.active_bytes, seen.held_bytes) == (0, 0)
        assert seen.in_flight_bytes == device.pool._raw.managed_bytes >= 16_000
        assert device.pool.try_acquire(2000) is None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(device.empty, 2000)
            await anyio.wait_all_tasks_blocked()
            assert device.pool.statistics().waiting == 1
            assert [set(view) for view in views] == [{7}, {7}]
            await anyio.to_thread.run_sync(views.clear)
        device.pool.trim()
        seen = device.pool.statistics()
        assert (seen.active_bytes, seen.in_flight_bytes) == (0, 0)
        assert device.pool._raw.managed_bytes == 0


async def test_a_buffer_is_released_to_its_own_pool(device: gpu.Device) -> None:
    """Another pool would count its bytes wrong."""
    async with gpu.open_device(DEVICE) as other:
        buffer = await other.empty(4)
        with pytest.raises(
            ValueError, match=r"belongs to another `open_device\(\)` of .*: write `buffer\.pool\.release\(buffer\)`"
        ):
            device.pool.release(buffer)


async def test_a_failed_transfer_is_made_again(device: gpu.Device) -> None:
    """The device never had the data, so the host side remains the newer one."""
    from .support import without_shared_memory

    without_shared_memory(device)
    buffer = await device.empty(10)
    buffer.copy_from(np.full(10, 3, np.float32))
    with Gate(device.queue) as gate:
        async with anyio.create_task_group() as tasks:

            async def fails() -> None:
                with pytest.raises(gpu.CommandFailed, match=r"copying <UnifiedBuffer .*> to the device failed"):
                    await buffer.ensure_on_device()

            tasks.start_soon(fails)
            await anyio.wait_all_tasks_blocked()
            gate.fail()
    assert buffer.state is gpu.BufferState.HOST_DIRTY
    increment = await device.kernel(KERNELS, "increment")
    await increment(buffer)
    assert (await buffer.read()).tolist() == [4] * 10
