"""What is started after something that has failed: it fails as well, and never waits for ever."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from rookery import gpu

from .support import KERNELS, Gate


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
