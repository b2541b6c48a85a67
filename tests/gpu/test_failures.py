"""What is started after something that has failed: it fails as well, and never waits for ever."""

from __future__ import annotations

import gc
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import pytest

from rookery import gpu
from rookery.gpu import _buffer, _opencl
from rookery.gpu._lane import Lane

from .support import DEVICE, KERNELS, Gate, Unreadable, without_shared_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Generator


async def test_a_launch_behind_a_command_that_has_just_failed_is_refused(
    device: gpu.Device, program: gpu.Program
) -> None:
    """On another queue, before the event loop has heard of the failure: PoCL would never start it."""
    increment = program.kernel("increment")
    x = await device.upload(np.zeros(4, np.float32))
    y = await device.upload(np.zeros(4, np.float32))
    async with device.open_queue() as other:
        with Gate(device.queue) as gate:
            operation = increment.submit(x)
            gate.fail()
            refused = r"kernel 'increment' failed, and this was to run after it: await that first"
            with pytest.raises(gpu.CommandFailed, match=refused):
                increment.submit(x, queue=other)
            with pytest.raises(gpu.CommandFailed, match=refused):
                increment.submit(y, queue=other, after=[operation])
            with pytest.raises(gpu.CommandFailed, match=refused):
                x.start_copying_to(y, other)
            with pytest.raises(gpu.CommandFailed, match=refused):
                await increment.warm_up(x)
        with pytest.raises(gpu.CommandFailed, match="EXEC_STATUS_ERROR"):
            await operation
        await x.write(np.zeros(4, np.float32))
        await increment(x, queue=other)
        assert (await x.read()).tolist() == [1] * 4


async def test_a_launch_behind_a_host_copy_that_has_just_failed_fails_as_well(either: gpu.Device) -> None:
    """Whenever the event loop hears of it."""
    increment = await either.kernel(KERNELS, "increment")
    x = await either.upload(np.zeros(4, np.float32))

    def fail() -> None:
        raise MemoryError("as a copy may")

    copy, done = x._start_replacing(fail), threading.Event()
    either.copies.submit(done.set, (), lambda: "what comes next")
    assert done.wait(30), "the copy has failed by now, and this task keeps the event loop from hearing of it"
    late = increment.submit(x)
    with pytest.raises(gpu.CommandFailed):
        await late
    with pytest.raises(gpu.CommandFailed, match="as a copy may"):
        await copy
    await x.write(np.zeros(4, np.float32))
    await increment(x)
    assert (await x.read()).tolist() == [1] * 4


async def test_a_warm_up_behind_a_command_that_fails_raises(device: gpu.Device, program: gpu.Program) -> None:
    """Whether that fails before the compiler's thread comes to it, or after."""
    increment = program.kernel("increment")
    x = await device.upload(np.zeros(4, np.float32))
    hold = threading.Event()
    device.compiler.lane.submit(hold.wait, (), lambda: "holding the compiler back")
    try:
        with Gate(device.queue) as gate:
            operation = increment.submit(x)
            warming, _ = increment._start_warm_up((x,), None, None)
            late = increment.submit(x)
            gate.fail()
    finally:
        hold.set()
    for failed in (operation, warming, late):
        with pytest.raises(gpu.CommandFailed):
            await failed
    await device.build("kernel void another(global float *x) { x[0] = 3; }")


LARGE = 1 << 18
"""Elements of arrays that a thread copies."""


@contextmanager
def failing_at_the_end(held: threading.Event | None = None) -> Generator[None]:
    """What is launched here runs, fails, and leaves what comes after it to run: not every driver stops there, as PoCL does."""
    follow = Lane.follow

    def follow_and_fail(lane: Lane, operation: gpu.Operation, used: Any, work: Callable[[], object]) -> gpu.Operation:
        def fail() -> None:
            work()
            if held is not None:
                held.wait()
            raise _opencl.OpenCLError("it failed")

        return follow(lane, operation, used, fail)

    with mock.patch.object(Lane, "follow", follow_and_fail):
        yield


async def test_what_uses_what_a_command_fails_to_write_fails_with_it(either: gpu.Device) -> None:
    """However far behind, as long as one needs what the other was to write; and nothing else does."""
    program = await either.build(KERNELS)
    add, fill = program.kernel("add"), program.kernel("fill")
    x, y, z, apart = [await either.upload(np.zeros(4, np.float32)) for _ in range(4)]
    with Gate(either.queue):
        with failing_at_the_end():
            first = fill.submit(x, 1)
        second = add.submit(x, x, y, 4)
        third = y.start_copying_to(z, either.queue)
        beside = fill.submit(apart, 5)
        anew = fill.submit(y, 2)
    await beside
    for operation in (third, second, anew):
        with pytest.raises(
            gpu.CommandFailed, match=r"depends on what kernel 'fill' failed to write \(it failed\): write"
        ):
            await operation
    with pytest.raises(gpu.CommandFailed, match="kernel 'fill' failed: it failed"):
        await first
    for buffer in (x, y, z):
        with pytest.raises(gpu.CommandFailed, match="is not defined"):
            await buffer.read()
    assert (await apart.read()).tolist() == [5] * 4
    await fill(x, 3)
    await add(x, x, y, 4)
    assert (await y.read()).tolist() == [6] * 4


def seen_by_the_driver(operation: gpu.Operation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the driver say that it failed, as the driver knows it first; not to the loop's thread, which starts commands."""
    has_failed, event, loop = _opencl.has_failed, operation.event, threading.get_ident()
    monkeypatch.setattr(
        _opencl, "has_failed", lambda asked: has_failed(asked) or (asked is event and threading.get_ident() != loop)
    )


async def test_a_failure_reaches_what_depends_on_it_in_another_queue(
    device: gpu.Device, program: gpu.Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the driver ran all between, and that queue's thread comes to the end of it first."""
    add, fill = program.kernel("add"), program.kernel("fill")
    x, y, z = [await device.upload(np.zeros(4, np.float32)) for _ in range(3)]
    held = threading.Event()
    async with device.open_queue() as other:
        with Gate(device.queue):
            with failing_at_the_end(held):
                first = fill.submit(x, 1)
            second = add.submit(x, x, y, 4)
            third = add.submit(y, y, z, 4, queue=other)
            seen_by_the_driver(first, monkeypatch)
        try:
            with pytest.raises(gpu.CommandFailed, match=r"kernel 'add' depends on what kernel 'fill' failed to write"):
                await third
        finally:
            held.set()
        with pytest.raises(gpu.CommandFailed, match="kernel 'fill' failed: it failed"):
            await first
        with pytest.raises(gpu.CommandFailed, match="depends on what kernel 'fill' failed to write"):
            await second
        with pytest.raises(gpu.CommandFailed, match="is not defined"):
            await z.read()


async def test_a_long_chain_behind_a_failure_says_what_failed_first_and_nothing_else(
    device: gpu.Device, program: gpu.Program
) -> None:
    """However many launches are between."""
    increment = program.kernel("increment")
    x = await device.upload(np.zeros(4, np.float32))
    with Gate(device.queue):
        with failing_at_the_end():
            increment.submit(x)
        operations = [increment.submit(x) for _ in range(100)]
    with pytest.raises(gpu.CommandFailed) as failed:
        await operations[-1]
    assert len(str(failed.value)) < 200
    assert isinstance(failed.value.__cause__, _opencl.OpenCLError)
    assert failed.value.__cause__.__cause__ is None


async def test_what_cannot_be_flushed_comes_to_its_end_all_the_same() -> None:
    """Although the task that would have awaited it does not."""

    def no_flush(_: object) -> None:
        raise _opencl.OpenCLError("no flush")

    async with gpu.open_device(DEVICE, memory_limit=5000) as device:
        increment = await device.kernel(KERNELS, "increment")
        x = await device.upload(np.zeros(1024, np.float32))
        await increment(x)
        with (
            mock.patch.object(_opencl.RawQueue, "flush", no_flush),
            pytest.raises(_opencl.OpenCLError, match="no flush"),
        ):
            await increment(x)
        device.pool.release(x)
        await device.pool.acquire(1024)  # when that is over, and not before


async def test_nothing_is_computed_from_what_a_command_left_that_failed(either: gpu.Device) -> None:
    """What only reads it is refused; what may write it makes it good."""
    program = await either.build(KERNELS)
    add, fill = program.kernel("add"), program.kernel("fill")
    x, y = [await either.upload(np.zeros(4, np.float32)) for _ in range(2)]
    with failing_at_the_end():
        failed = fill.submit(x, 1)
    with pytest.raises(gpu.CommandFailed, match="it failed"):
        await failed
    undefined = r"what is in <.*> is not defined, because kernel 'fill' failed \(it failed\): write it anew"
    with pytest.raises(gpu.CommandFailed, match=rf"argument 'b' \(.*\) of kernel 'add' is only read: {undefined}"):
        add.submit(y, x, y, 4)
    with pytest.raises(gpu.CommandFailed, match=undefined):
        await add.warm_up(y, x, y, 4)
    with pytest.raises(gpu.CommandFailed, match=undefined):
        await either.copy(x)
    with pytest.raises(gpu.CommandFailed, match=undefined):
        await x.ensure_on_device()
    assert (await y.read()).tolist() == [0] * 4
    await fill(x, 2)
    await add(x, x, y, 4)
    assert (await y.read()).tolist() == [4] * 4


async def test_a_failure_is_told_once(
    device: gpu.Device, program: gpu.Program, caplog: pytest.LogCaptureFixture
) -> None:
    """By what was awaited, if that failed with it, and not once more by what nobody awaited."""
    x = await device.upload(np.zeros(4, np.float32))
    with Gate(device.queue):
        with failing_at_the_end():
            first = program.kernel("fill").submit(x, 1)
        second = program.kernel("increment").submit(x)
    with pytest.raises(gpu.CommandFailed, match="depends on what kernel 'fill' failed to write"):
        await second
    del first, second
    gc.collect()
    assert not caplog.records


async def test_behind_a_driver_that_stops_a_failure_is_told_once_as_well(
    device: gpu.Device, program: gpu.Program, caplog: pytest.LogCaptureFixture
) -> None:
    """As PoCL does: all that is behind a command fails with it."""
    increment = program.kernel("increment")
    x = await device.upload(np.zeros(4, np.float32))
    with Gate(device.queue) as gate:
        operations = [increment.submit(x) for _ in range(3)]
        gate.fail()
    with pytest.raises(gpu.CommandFailed, match="depends on what kernel 'increment' failed to write"):
        await operations[-1]
    del operations
    gc.collect()
    assert not caplog.records


async def test_a_reduction_is_fit_for_use_after_it_has_failed(either: gpu.Device) -> None:
    """Although it keeps a buffer from one launch to the next."""
    total = await either.reduction(np.float32, neutral=0, reduce="a + b", map="x[i]", arguments="const float *x")
    x, out = await either.upload(np.ones(100_000, np.float32)), await either.empty(())
    with failing_at_the_end():
        failed = total.submit(x, out=out)
    with pytest.raises(gpu.CommandFailed):
        await failed
    assert await total(x) == 100_000


async def test_a_warm_up_on_what_a_command_failed_to_write_fails_as_well(
    device: gpu.Device, program: gpu.Program
) -> None:
    """Although it ran: it is told, and its kernel can be warmed up again."""
    increment = program.kernel("increment")
    x = await device.upload(np.zeros(4, np.float32))
    hold = threading.Event()
    device.compiler.lane.submit(hold.wait, (), lambda: "holding the compiler back")
    try:
        with Gate(device.queue):
            with failing_at_the_end():
                first = increment.submit(x)
            warming, _ = increment._start_warm_up((x,), None, None)
        with pytest.raises(gpu.CommandFailed, match="it failed"):
            await first
    finally:
        hold.set()
    with pytest.raises(gpu.CommandFailed, match="depends on what kernel 'increment' failed to write"):
        await warming
    await x.write(np.zeros(4, np.float32))
    await increment.warm_up(x)
    assert (await x.read()).tolist() == [1] * 4


async def test_what_uses_what_was_not_copied_to_the_device_fails(device: gpu.Device) -> None:
    """Also on a driver that goes on after a copy that failed; the host still has the data."""
    own = without_shared_memory(device)
    program = await own.build(KERNELS)
    add, fill = program.kernel("add"), program.kernel("fill")
    x, y = await own.empty(4), await own.empty(4)
    await x.write(np.ones(4, np.float32))
    with Gate(own.queue):
        with failing_at_the_end():
            copied = x.start_upload(own.queue)
        operation = add.submit(x, x, y, 4)
        apart = fill.submit(await own.empty(4), 2)
        assert copied is not None
    with pytest.raises(gpu.CommandFailed, match="it failed"):
        await copied
    with pytest.raises(
        gpu.CommandFailed, match=r"depends on what copying <.*> to the device failed to write \(it failed\)"
    ):
        await operation
    await apart
    await add(x, x, y, 4)
    assert (await y.read()).tolist() == [2] * 4


async def test_what_failed_holds_no_memory(either: gpu.Device) -> None:
    """Whatever was raised of it, and without help of the garbage collector."""
    program = await either.build(KERNELS)
    x, large = await either.upload(np.zeros(4, np.float32)), await either.empty(LARGE)
    gc.collect()
    gc.disable()
    try:
        with Gate(either.queue):
            with failing_at_the_end():
                first = program.kernel("fill").submit(x, 1)
            second = program.kernel("increment").submit(x)
        for _ in range(3):
            with pytest.raises(gpu.CommandFailed, match="depends on what kernel 'fill' failed to write"):
                await second
            with pytest.raises(gpu.CommandFailed, match="depends on what kernel 'fill' failed to write"):
                program.kernel("fill").submit(x, 1, after=[second])
        del first
        with pytest.raises(gpu.CommandFailed, match="not callable"):
            await large.write(np.ones(LARGE, np.float32).view(Unreadable))
        either.pool.release(x)
        either.pool.release(large)
        either.pool.trim()
        assert either.pool.statistics().in_flight_bytes == 0
        assert either.pool._raw.managed_bytes == 0
    finally:
        gc.enable()


async def test_an_error_that_is_kept_keeps_no_memory() -> None:
    """Although the frames of its traceback see what was passed."""
    async with gpu.open_device(DEVICE) as device:
        add = await device.kernel(KERNELS, "add")
        x, empty = await device.upload(np.zeros(1024, np.float32)), await device.empty(1024)
        with pytest.raises(gpu.NoData) as kept:
            add.submit(x, empty, x, 1024)
        for buffer in (x, empty):
            device.pool.release(buffer)
        device.pool.trim()
        assert device.pool._raw.managed_bytes == device.pool.statistics().active_bytes == 0
        assert kept.tb is not None


async def test_a_copy_that_fails_keeps_no_memory_whoever_keeps_its_operation(either: gpu.Device) -> None:
    """As the task does that was cancelled while it waited: its traceback sees the operation."""
    with mock.patch.object(_buffer, "LARGE", 1):
        x = await either.upload(np.zeros(4, np.float32))
        copying = x._start_replacing(x._copying(None, np.zeros(4, np.float32).view(Unreadable)))
        with pytest.raises(gpu.CommandFailed):
            await copying
    either.pool.release(x)
    statistics = either.pool.statistics()
    assert (statistics.in_flight_bytes, copying.failed) == (0, True)
