"""Ctrl-C on trio, where it can arrive between any two lines."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import trio

from rookery import gpu

from .support import DEVICE, KERNELS

if TYPE_CHECKING:
    from types import FrameType

INTERNALS = {
    str(Path(gpu.__file__).with_name(name))
    for name in ("_pool.py", "_budget.py", "_buffer.py", "_live.py", "_lane.py", "_queue.py", "_kernel.py")
}


class Interrupt:
    """Raises SIGINT before the given line, counted among those of the pool, buffers and queues."""

    def __init__(self, at: int) -> None:
        self.left = at

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename not in INTERNALS:
            return None
        if event == "line":
            self.left -= 1
            if self.left == 0:
                signal.raise_signal(signal.SIGINT)
        return self


@pytest.mark.skipif(sys.platform == "win32", reason="signals are different there")
@pytest.mark.parametrize("start", range(1, 11))
def test_an_interrupt_leaves_the_books_in_order(start: int) -> None:
    """Every byte is accounted for, no operation is forgotten, and the device closes."""

    async def main(at: int) -> bool:
        tracer, before = Interrupt(at), sys.gettrace()
        async with gpu.open_device(DEVICE, memory_limit=100_000) as device:
            increment = await device.kernel(KERNELS, "increment")
            first = await device.upload(np.zeros(100, np.float32))
            try:
                sys.settrace(tracer)
                buffer = await device.empty(1000)
                operation = increment.submit(first)
                device.pool.release(buffer)
                await operation
                sys.settrace(before)
                await trio.lowlevel.checkpoint()  # where it arrives if all of that was protected
            finally:
                sys.settrace(before)
                device.pool.trim()  # what nobody holds any more is reclaimed at the latest now
                seen = device.pool.statistics()
                assert seen.active_bytes == sum(buffer.reserved for buffer in device.pool._live)
                assert seen.active_bytes + seen.held_bytes == device.pool._raw.managed_bytes
        assert device.queue.in_flight == 0
        return tracer.left > 0

    # Each of the ten takes every tenth line, until there are no more.
    for at in range(start, 10_000, 10):
        try:
            if trio.run(main, at):
                return
        except KeyboardInterrupt:
            continue
    pytest.fail("the lines never ended")
