"""Cancelled at each await: the state is unchanged, or the operation is completed, and nothing in flight is freed."""

from __future__ import annotations

import asyncio
import gc
import threading

import anyio
import numpy as np
import pytest

from rookery import gpu
from rookery.gpu._buffer import LARGE
from support import settle

from .support import DEVICE, KERNELS, Gate, Unreadable, without_shared_memory


async def test_cancelled_while_waiting_for_memory() -> None:
    """The place in line is given up, and whoever is next is served at once."""
    async with gpu.open_device(DEVICE, memory_limit=10_000) as device:
        first = await device.empty(2000)
        async with anyio.create_task_group() as tasks:
            scope = anyio.CancelScope()
            got: list[gpu.UnifiedBuffer] = []

            async def large() -> None:
                with scope:
                    await device.empty(2400)

            async def small() -> None:
                got.append(await device.empty(100))

            tasks.start_soon(large)
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(small)
            await anyio.wait_all_tasks_blocked()
            assert (device.pool.statistics().waiting, got) == (2, [])
            scope.cancel()
        assert device.pool.statistics().waiting == 0
        assert device.pool.statistics().active_bytes == first.reserved + got[0].reserved


async def test_cancelled_in_the_tick_of_the_grant() -> None:
    """What was granted is passed on; no byte is lost."""
    async with gpu.open_device(DEVICE, memory_limit=10_000) as device:
        first = await device.empty(2000)
        async with anyio.create_task_group() as tasks:
            scope = anyio.CancelScope()
            served: list[int] = []

            async def acquire(number: int, scope: anyio.CancelScope) -> None:
                with scope:
                    async with device.pool.lease(2000):
                        served.append(number)

            tasks.start_soon(acquire, 1, scope)
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(acquire, 2, anyio.CancelScope())
            await anyio.wait_all_tasks_blocked()
            device.pool.release(first)
            scope.cancel()
        # On trio a task that was woken is not cancelled before it waits again; on asyncio it is.
        assert served in ([2], [1, 2])
        assert device.pool.statistics().active_bytes == 0


@pytest.mark.parametrize("cancelled", [False, True])
async def test_what_was_granted_while_its_device_closes_is_not_counted_for_ever(cancelled: bool) -> None:
    """Whoever was to have it has no use for it any more."""
    outcome: list[BaseException | gpu.UnifiedBuffer] = []
    scope = anyio.CancelScope()

    async def acquire() -> None:
        with scope:
            try:
                outcome.append(await device.empty(2000))
            except gpu.DeviceClosed as error:
                outcome.append(error)

    async with anyio.create_task_group() as tasks:
        async with gpu.open_device(DEVICE, memory_limit=10_000) as device:
            first = await device.empty(2000)
            tasks.start_soon(acquire)
            await anyio.wait_all_tasks_blocked()
            device.pool.release(first)
            if cancelled:
                scope.cancel()
        assert (device.closed, outcome) == (True, [])
    assert [type(error) for error in outcome] in ([gpu.DeviceClosed], [] if cancelled else None)
    assert device.pool.statistics().active_bytes == 0


async def test_cancelled_while_a_kernel_runs() -> None:
    """The task is cancelled at once; the memory stays charged until the kernel is done, then it is reused."""
    async with gpu.open_device(DEVICE, memory_limit=10_000) as device:
        increment = await device.kernel(KERNELS, "increment")
        with Gate(device.queue) as gate:
            with anyio.CancelScope() as scope:
                async with device.pool.lease(2000) as buffer:
                    buffer.copy_from(np.zeros(2000, np.float32))
                    handle = buffer.device.int_ptr
                    scope.cancel()
                    await increment(buffer)
            assert scope.cancelled_caught
            seen = device.pool.statistics()
            assert (seen.active_bytes, seen.in_flight_bytes) == (0, buffer.reserved)
            assert device.pool.try_acquire(2000) is None, "its memory is still in use"
            async with anyio.create_task_group() as tasks:
                got: list[gpu.UnifiedBuffer] = []

                async def next_one() -> None:
                    got.append(await device.empty(2000))

                tasks.start_soon(next_one)
                await anyio.wait_all_tasks_blocked()
                assert got == []
                gate.open()
        assert got[0].device.int_ptr == handle
        assert device.pool.statistics().in_flight_bytes == 0


async def test_cancelled_while_reading(either: gpu.Device) -> None:
    """The transfer goes on, once, and the buffer is as it should be."""
    increment = await either.kernel(KERNELS, "increment")
    buffer = await either.upload(np.zeros(10, np.float32))
    with Gate(either.queue) as gate:
        increment.submit(buffer)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await buffer.read()
        assert scope.cancelled_caught
        gate.open()
    assert (await buffer.read()).tolist() == [1] * 10
    assert either.statistics().downloads <= 1


async def test_cancelled_while_writing(either: gpu.Device) -> None:
    """Waiting for a launch that reads it: nothing was written."""
    program = await either.build(KERNELS)
    buffer, out = await either.upload(np.zeros(10, np.float32)), await either.empty(10)
    with Gate(either.queue) as gate:
        program.kernel("add").submit(buffer, buffer, out, 10)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await buffer.write(np.ones(10, np.float32))
        assert scope.cancelled_caught
        gate.open()
    assert (await buffer.read()).tolist() == [0] * 10


async def test_cancelled_while_a_large_array_is_copied(device: gpu.Device) -> None:
    """All of it will be there; until then the host side is left alone, and a launch waits for it by itself."""
    increment = await device.kernel(KERNELS, "increment")
    buffer = await device.empty(LARGE)
    hold = threading.Event()
    device.copies.submit(hold.wait, (), lambda: "holding copies back")
    scope = anyio.CancelScope()

    async def write() -> None:
        with scope:
            await buffer.write(np.full(LARGE, 5, np.float32))
        assert scope.cancelled_caught

    async with anyio.create_task_group() as tasks:
        try:
            scope.cancel()
            tasks.start_soon(write)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(
                gpu.BufferBusy, match=r"is being written.*write `await buffer\.ensure_on_host\(\)` first"
            ):
                _ = buffer.host
            operation = increment.submit(buffer)
            async with device.open_queue() as beside:
                await increment(
                    await device.upload(np.zeros(4, np.float32)), queue=beside
                )  # the device runs what it may
            assert not operation.done
        finally:
            hold.set()  # what is being written is waited for
    assert (await buffer.read() == 6).all()
    assert operation.done


async def test_a_launch_waits_for_a_copy_that_was_cancelled(either: gpu.Device) -> None:
    """The copy gets what was there before the launch, although nobody awaits it any more."""
    increment = await either.kernel(KERNELS, "increment")
    buffer = await either.upload(np.full(LARGE, 5, np.float32))
    hold = threading.Event()
    either.copies.submit(hold.wait, (), lambda: "holding copies back")
    try:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await buffer.read()
        assert scope.cancelled_caught
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(increment, buffer)
            await anyio.wait_all_tasks_blocked()
            hold.set()
    finally:
        hold.set()
    assert (await buffer.read() == 6).all()


async def test_a_large_write_is_waited_for_however_often_it_is_cancelled(
    device: gpu.Device, anyio_backend_name: str
) -> None:
    """Natively as well, which pierces shields: the array is the caller's own again only then."""
    if anyio_backend_name == "trio":
        pytest.skip("there is no such cancellation on trio")
    buffer = await device.empty(LARGE)
    hold = threading.Event()
    device.copies.submit(hold.wait, (), lambda: "holding copies back")
    try:
        task = asyncio.get_running_loop().create_task(buffer.write(np.full(LARGE, 5, np.float32)))
        for _ in range(3):
            await anyio.wait_all_tasks_blocked()
            assert not task.done()
            task.cancel()
    finally:
        hold.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await buffer.read() == 5).all()


@pytest.mark.parametrize("times", [1, 2])
async def test_a_cancelled_write_that_fails_holds_no_memory(
    device: gpu.Device, anyio_backend_name: str, times: int
) -> None:
    """Without help of the garbage collector: neither by what was raised, nor by the task."""
    if anyio_backend_name == "trio":
        pytest.skip("there is no such cancellation on trio")
    buffer = await device.empty(LARGE)
    hold = threading.Event()
    device.copies.submit(hold.wait, (), lambda: "holding copies back")
    gc.collect()
    gc.disable()
    try:
        task = asyncio.get_running_loop().create_task(buffer.write(np.ones(LARGE, np.float32).view(Unreadable)))
        await anyio.wait_all_tasks_blocked()
        device.pool.release(buffer)
        for _ in range(times):
            task.cancel()
            await anyio.wait_all_tasks_blocked()
        hold.set()
        await asyncio.wait([task])
        assert task.cancelled()
        del task
        await settle()
        assert device.pool.statistics().in_flight_bytes == 0
    finally:
        gc.enable()
        hold.set()


async def test_tasks_that_read_and_launch_see_the_order_in_which_they_began(either: gpu.Device) -> None:
    """A large copy is made before the launch that follows it changes the data."""
    increment = await either.kernel(KERNELS, "increment")
    buffer = await either.upload(np.full(LARGE, 5, np.float32))
    seen: list[float] = []

    async def read() -> None:
        seen.append(float((await buffer.read()).max()))

    hold = threading.Event()
    either.copies.submit(hold.wait, (), lambda: "holding copies back")
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            await anyio.wait_all_tasks_blocked()
            increment.submit(buffer)
            increment.submit(buffer)
            tasks.start_soon(read)
            hold.set()
    finally:
        hold.set()
    assert sorted(seen) == [5, 7]


async def test_synchronize_waits_for_host_copies(device: gpu.Device) -> None:
    """Whoever awaits them."""
    buffer = await device.empty(LARGE)
    hold = threading.Event()
    device.copies.submit(hold.wait, (), lambda: "holding copies back")
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(buffer.write, np.full(LARGE, 5, np.float32))
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(device.synchronize)
            await anyio.wait_all_tasks_blocked()
            assert device.copies.in_flight
            hold.set()
    finally:
        hold.set()
    assert not device.copies.in_flight
    assert (buffer.host == 5).all()


async def test_a_released_buffer_is_not_reused_while_it_is_copied() -> None:
    """A copy counts as much as a command."""
    async with gpu.open_device(DEVICE, memory_limit=5 << 20) as device:
        hold = threading.Event()
        try:
            with anyio.CancelScope() as scope:
                async with device.pool.lease(LARGE) as buffer:
                    await buffer.write(np.full(LARGE, 5, np.float32))
                    device.copies.submit(hold.wait, (), lambda: "holding copies back")
                    scope.cancel()
                    await buffer.read()
            assert device.pool.statistics().in_flight_bytes == buffer.reserved
            assert device.pool.try_acquire(LARGE) is None
        finally:
            hold.set()
        device.pool.release(await device.empty(LARGE))


async def test_cancelled_upload_gives_its_buffer_back(either: gpu.Device) -> None:
    """At whichever await it happens; a small one may be through before it first waits."""
    for size in (10, LARGE):
        with anyio.CancelScope() as scope:
            scope.cancel()
            either.pool.release(await either.upload(np.zeros(size, np.float32)))
        await either.copies.drain()
        await either.synchronize()
        assert scope.cancelled_caught or size == 10
        assert either.pool.statistics().active_bytes == either.pool.statistics().in_flight_bytes == 0


async def test_cancelled_transfer_to_the_device_goes_on(device: gpu.Device) -> None:
    """And is not made twice."""
    without_shared_memory(device)
    buffer = await device.empty(10)
    buffer.copy_from(np.ones(10, np.float32))
    with Gate(device.queue) as gate:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await buffer.ensure_on_device()
        gate.open()
    await buffer.ensure_on_device()
    assert scope.cancelled_caught
    assert buffer.state is gpu.BufferState.SYNCHRONIZED
    assert device.statistics().uploads == 1


async def test_cancelled_while_compiling(device: gpu.Device) -> None:
    """The compiler finishes what it began before the device is closed."""
    with anyio.CancelScope() as scope:
        scope.cancel()
        await device.build(KERNELS)
    assert scope.cancelled_caught
    await device.build(KERNELS)


async def test_cancelled_while_synchronizing(device: gpu.Device) -> None:
    """Nothing happens to what it waited for."""
    increment = await device.kernel(KERNELS, "increment")
    buffer = await device.upload(np.zeros(10, np.float32))
    with Gate(device.queue) as gate:
        operation = increment.submit(buffer)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await device.synchronize()
        assert scope.cancelled_caught
        assert not operation.done
        gate.open()
    await device.synchronize()
    assert operation.done


async def test_a_cancelled_block_waits_for_its_kernels() -> None:
    """No kernel outlives the block."""
    with anyio.CancelScope() as scope:
        async with gpu.open_device(DEVICE) as device:
            increment = await device.kernel(KERNELS, "increment")
            buffer = await device.upload(np.zeros(10, np.float32))
            gate = Gate(device.queue)
            operation = increment.submit(buffer)
            async with anyio.create_task_group() as tasks:

                async def cancel() -> None:
                    scope.cancel()
                    gate.open()

                tasks.start_soon(cancel)
                await operation
    assert scope.cancelled_caught
    assert operation.done


async def test_acquiring_yields_now_and_then(device: gpu.Device) -> None:
    """A task that never has to wait for memory lets the others run, and can be cancelled."""
    with anyio.CancelScope() as scope:
        scope.cancel()
        for _ in range(1000):
            device.pool.release(await device.pool.acquire(10))
    assert scope.cancelled_caught
    assert device.pool.statistics().active_bytes == 0
