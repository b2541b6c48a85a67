"""What the device tests share: kernels, a gate that holds a queue back, and a loop that is stepped by hand."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Self

import attrs
import numpy as np
import pyopencl as cl

from rookery import gpu

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from types import TracebackType

DEVICE = os.environ.get("ROOKERY_TEST_DEVICE", "pocl")
"""Which device these tests run on; those about PoCL itself need that."""

KERNELS = """
kernel void add(global const float *a, global const float *b, global float *out, int n)
{
    int i = get_global_id(0);
    if (i < n)
        out[i] = a[i] + b[i];
}

kernel void increment(global float *x) { x[get_global_id(0)] += 1; }

kernel void fill(global float *x, float value) { x[get_global_id(0)] = value; }

kernel void everything(float f, int i, uchar u, double d, global const float4 *v, local float *scratch) {}

kernel void group_size(global int *out) { out[get_global_id(0)] = get_local_size(0); }
"""


FAILED: list[Gate] = []
"""PoCL goes on to look at the events of commands that failed, and crashes where they are gone."""


class Gate:
    """Holds an in-order queue back: what is launched behind it stays in flight until it is opened, or fails."""

    def __init__(self, queue: gpu.Queue) -> None:
        self._event = cl.UserEvent(queue.raw.context)
        self._closed = True
        self._marker = cl.enqueue_marker(queue.raw, wait_for=[self._event])

    def open(self) -> None:
        self._end(cl.command_execution_status.COMPLETE)

    def fail(self) -> None:
        self._end(-5)
        FAILED.append(self)

    def _end(self, status: int) -> None:
        if self._closed:
            self._closed = False
            self._event.set_status(status)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.open()


def without_shared_memory(device: gpu.Device) -> gpu.Device:
    """Make a device copy between host and device, as one with memory of its own has to."""
    device.info = attrs.evolve(device.info, shares_host_memory=False)  # type: ignore[misc]
    return device


class Unreadable(np.ndarray):
    """An array whose copy fails."""

    __array_function__ = None  # type: ignore[assignment]


class Stepped:
    """An open device on an event loop that runs only when a stateful test says so."""

    def __init__(self, *, memory_limit: int | None = None) -> None:
        self.loop = asyncio.new_event_loop()
        self.stack = AsyncExitStack()
        self.device = self.run(self.stack.enter_async_context(gpu.open_device(DEVICE, memory_limit=memory_limit)))

    def run(self, awaitable: Awaitable[Any]) -> Any:
        async def wait() -> Any:
            return await awaitable

        return self.loop.run_until_complete(wait())

    def settle(self) -> None:
        """Let every task go as far as it can without the device."""

        async def rounds() -> None:
            for _ in range(5):
                await asyncio.sleep(0)

        self.run(rounds())

    def close(self) -> None:
        self.run(self.stack.aclose())
        self.loop.close()
