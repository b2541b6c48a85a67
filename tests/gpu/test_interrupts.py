"""Ctrl-C on trio, where it can arrive between any two lines."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import trio

from rookery import gpu, open_system
from support import settle

from .stages import Asker, Square, row
from .support import DEVICE, KERNELS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import FrameType


def files(*names: str) -> set[str]:
    return {str(Path(gpu.__file__).with_name(name)) for name in names}


INTERNALS = files(
    "_pool.py", "_budget.py", "_buffer.py", "_live.py", "_lane.py", "_operation.py", "_queue.py", "_kernel.py"
)
STAGES = files("_staging.py", "_rows.py")


class Interrupt:
    """Raises SIGINT before the given line, counted among those of some files."""

    def __init__(self, at: int, among: set[str]) -> None:
        self.left = at
        self._among = among

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename not in self._among:
            return None
        if event == "line":
            self.left -= 1
            if self.left == 0:
                signal.raise_signal(signal.SIGINT)
        return self


@pytest.mark.once
@pytest.mark.skipif(sys.platform == "win32", reason="signals are different there")
@pytest.mark.parametrize("start", range(1, 11))
def test_an_interrupt_leaves_the_books_in_order(start: int) -> None:
    """Every byte is accounted for, no operation is forgotten, and the device closes."""

    async def main(at: int) -> bool:
        tracer, before = Interrupt(at, INTERNALS), sys.gettrace()
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

    interrupt_at_every_tenth_line(main, start)


@gpu.batched(max_items=2, max_delay=0, shape=1)
async def same(device: gpu.Device, batch: gpu.Batch[Square]) -> gpu.UnifiedBuffer:
    return batch.rows


@pytest.mark.once
@pytest.mark.skipif(sys.platform == "win32", reason="signals are different there")
@pytest.mark.parametrize("start", range(1, 11))
def test_an_interrupt_ends_a_stage_in_order(start: int) -> None:
    """No byte is kept, and everyone who waits for an answer hears that none will come, or has it."""

    async def main(at: int) -> bool:
        tracer, before = Interrupt(at, STAGES), sys.gettrace()
        async with gpu.open_device(DEVICE) as device:
            askers: list[Asker] = []
            try:
                async with trio.open_nursery() as nursery, open_system() as system:
                    sys.settrace(tracer)
                    stage = await system.spawn(same, device)
                    askers += [Asker(nursery, stage, Square(row(*[0] * n))) for n in (1, 2, 1, 1)]
                    await settle()
                    await stage.stop()
            finally:
                sys.settrace(before)
                assert device.pool.statistics().active_bytes == 0
            assert "none yet" not in {asker.outcome for asker in askers if isinstance(asker.outcome, str)}
        return tracer.left > 0

    interrupt_at_every_tenth_line(main, start)


def interrupt_at_every_tenth_line(main: Callable[[int], Awaitable[bool]], start: int) -> None:
    """Each of the ten takes every tenth line, until there are no more."""
    for at in range(start, 10_000, 10):
        try:
            if trio.run(main, at):
                return
        except KeyboardInterrupt:
            continue
        except BaseExceptionGroup as group:
            if (other := group.split(KeyboardInterrupt)[1]) is not None:
                raise other from None
    pytest.fail("the lines never ended")
