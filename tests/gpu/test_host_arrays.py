"""The host side as an array of other libraries, and what it is worth after a command has failed."""

from __future__ import annotations

import operator
import threading
from typing import TYPE_CHECKING, Any

import anyio
import numpy as np
import pytest

from rookery import gpu

from .support import KERNELS, Gate

if TYPE_CHECKING:
    from collections.abc import Callable

SIDES = [np.asarray, np.from_dlpack]


# --- without a copy ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("view", SIDES)
async def test_a_buffer_is_seen_as_an_array(either: gpu.Device, view: Callable[[Any], np.ndarray]) -> None:
    """Of its shape and dtype, and the same memory as `host`."""
    buffer = await either.upload(np.arange(6, dtype=np.int32).reshape(2, 3))
    array = view(buffer)
    assert array.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert np.shares_memory(array, buffer.host)


@pytest.mark.parametrize("view", SIDES)
async def test_a_stale_side_is_not_shown(either: gpu.Device, view: Callable[[Any], np.ndarray]) -> None:
    """The device side is newer, until it is brought back; nor is what was never written, or was released."""
    increment = await either.kernel(KERNELS, "increment")
    buffer = await either.empty(4)
    with pytest.raises(gpu.NoData):
        view(buffer)
    buffer.copy_from(np.zeros(4, np.float32))
    await increment(buffer)
    with pytest.raises(gpu.StaleHost, match=r"await buffer\.ensure_on_host"):
        view(buffer)
    await buffer.ensure_on_host()
    assert view(buffer).tolist() == [1] * 4
    either.pool.release(buffer)
    with pytest.raises(gpu.BufferReleased):
        view(buffer)


@pytest.mark.parametrize("view", SIDES)
async def test_an_array_outlives_its_buffer(either: gpu.Device, view: Callable[[Any], np.ndarray]) -> None:
    """Its memory is nobody else's before it is gone."""
    buffer = await either.upload(np.full(1000, 7, np.float32))
    array = view(buffer)
    either.pool.release(buffer)
    other = await either.upload(np.zeros(1000, np.float32))
    either.pool.trim()
    assert (array == 7).all()
    assert not np.shares_memory(array, other.host)


async def test_a_copy_or_another_dtype_is_a_copy(either: gpu.Device) -> None:
    """As with any array."""
    buffer = await either.upload(np.arange(3, dtype=np.int32))
    copied, converted = np.array(buffer), np.asarray(buffer, np.float64)
    assert (copied.tolist(), converted.tolist()) == ([0, 1, 2], [0.0, 1.0, 2.0])
    assert not np.shares_memory(copied, buffer.host)
    assert converted.dtype == np.float64


# --- after a failure -----------------------------------------------------------------------------------------


def fail() -> None:
    raise ZeroDivisionError


def failing(buffer: gpu.UnifiedBuffer, work: Callable[[], object] = fail) -> gpu.Operation:
    """An operation that is to write a buffer, and fails. Of the host's: PoCL may abort if a command of its own fails."""
    operation = buffer.owner.copies.submit(work, (buffer,), lambda: "the command")
    buffer.written_by(operation)
    return operation


async def broken(device: gpu.Device) -> gpu.UnifiedBuffer:
    """A buffer that a command failed to write, as somebody knows."""
    buffer = await device.upload(np.zeros(4, np.float32))
    with pytest.raises(gpu.CommandFailed):
        await failing(buffer)
    return buffer


@pytest.mark.parametrize("look", [operator.attrgetter("host"), np.asarray, np.from_dlpack])
async def test_what_a_failed_command_left_is_not_shown(either: gpu.Device, look: Callable[[Any], object]) -> None:
    """The error names the command, and what to do."""
    buffer = await broken(either)
    undefined = r"is not defined, because the command failed .*: write it anew, `await buffer\.write\(array\)`"
    with pytest.raises(gpu.CommandFailed, match=undefined):
        await buffer.read()
    with pytest.raises(gpu.CommandFailed, match=undefined):
        await buffer.ensure_on_host()
    with pytest.raises(gpu.CommandFailed, match=undefined):
        look(buffer)


async def test_what_is_written_anew_is_defined(either: gpu.Device) -> None:
    """From the host, by a launch that was started since, or by commands of one's own."""
    buffer = await broken(either)
    await buffer.write(np.full(4, 3, np.float32))
    assert (await buffer.read()).tolist() == [3] * 4

    fill = await either.kernel(KERNELS, "fill")
    buffer = await broken(either)
    await fill(buffer, 5)
    assert (await buffer.read()).tolist() == [5] * 4

    buffer = await broken(either)
    buffer.mark_device_dirty()
    await buffer.read()


async def test_what_was_launched_before_the_failure_does_not_make_it_good(either: gpu.Device) -> None:
    """Whoever launched it could not know."""
    increment = await either.kernel(KERNELS, "increment")
    buffer = await either.upload(np.zeros(4, np.float32))
    launched = threading.Event()

    def fail_later() -> None:
        launched.wait()
        raise ZeroDivisionError

    operation = failing(buffer, fail_later)
    await increment(buffer)
    launched.set()
    with pytest.raises(gpu.CommandFailed, match="the command failed"):
        await operation
    with pytest.raises(gpu.CommandFailed, match="is not defined"):
        await buffer.read()


async def test_a_command_that_only_reads_a_buffer_does_it_no_harm(either: gpu.Device) -> None:
    """When it fails, what it read is as it was."""
    buffer = await either.upload(np.full(4, 2, np.float32))
    with pytest.raises(gpu.CommandFailed):
        await either.copies.submit(fail, (buffer,), lambda: "the command")
    assert (await buffer.read()).tolist() == [2] * 4


async def test_reading_what_a_failing_command_only_reads_does_not_fail(device: gpu.Device) -> None:
    """Not even while that is in flight."""
    buffer, failing = await device.upload(np.full(4, 2, np.float32)), threading.Event()
    buffer.mark_device_dirty()

    def fail_later() -> None:
        failing.wait()
        raise ZeroDivisionError

    operation = device.copies.submit(fail_later, (buffer,), lambda: "the command")
    async with anyio.create_task_group() as tasks:
        values: list[list[float]] = []

        async def read() -> None:
            values.append((await buffer.read()).tolist())

        tasks.start_soon(read)
        await anyio.wait_all_tasks_blocked()
        failing.set()
    assert values == [[2] * 4]
    with pytest.raises(gpu.CommandFailed):
        await operation


async def test_a_launch_writes_what_is_not_const(either: gpu.Device) -> None:
    """So that is what is undefined if it fails; and a copy on the device writes its target."""
    add = await either.kernel(KERNELS, "add")
    source, out = await either.upload(np.full(4, 2, np.float32)), await either.empty(4)
    with Gate(either.queue):
        operation = add.submit(source, source, out, 4)
        assert ([*source._writers], [*out._writers]) == ([], [operation])
        target = await either.empty(4)
        copying = out.start_copying_to(target, either.queue)
        assert ([*out._writers], [*target._writers]) == ([operation], [copying])
    await copying
    assert ([*out._writers], [*target._writers]) == ([], [])


async def test_a_host_copy_that_fails_leaves_nothing_defined(either: gpu.Device) -> None:
    """Half of it may be there."""
    buffer = await either.upload(np.zeros(4, np.float32))
    with pytest.raises(gpu.CommandFailed):
        await buffer._start_replacing(fail)
    with pytest.raises(gpu.CommandFailed, match=r"because writing <UnifiedBuffer .* failed"):
        _ = buffer.host
