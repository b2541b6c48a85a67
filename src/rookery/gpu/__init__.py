"""Kernels on the GPU, awaited like functions.

    async with gpu.open_device() as device:
        add = await device.kernel(SOURCE, "add")
        a = await device.upload(np.arange(1000, dtype=np.float32))
        out = await device.empty(a.shape)
        await add(a, a, out, 1000)
        print(await out.read())

Needs the ``gpu`` extra: ``pip install "rookery[gpu]"``, or ``"rookery[pocl]"`` to have a driver for the processor.
"""

from __future__ import annotations

# First, because this is the module that says what to install.
from . import _opencl as _opencl

# isort: split
from ._arguments import LocalMemory, Parameter, Signature
from ._batched import Batch, Rows, Stage, batched
from ._buffer import UnifiedBuffer
from ._device import Device, DeviceStatistics
from ._errors import (
    ArgumentTypeError,
    ArgumentValueError,
    BufferBusy,
    BufferReleased,
    BuildFailed,
    CommandFailed,
    DeviceClosed,
    DeviceStuck,
    ForkedProcess,
    GpuUnavailable,
    NoData,
    NoDevice,
    OutOfDeviceMemory,
    StaleHost,
)
from ._generated import Elementwise, Reduction
from ._kernel import Kernel, Program
from ._open import devices, open_device
from ._operation import Operation
from ._pipeline import Pipeline, Step, pipeline, step
from ._pool import BufferPool, PoolStatistics
from ._profile import KernelStatistics, OperationProfile
from ._queue import Queue
from ._select import DeviceInfo
from ._states import BufferState

__all__ = [
    "ArgumentTypeError",
    "ArgumentValueError",
    "Batch",
    "BufferBusy",
    "BufferPool",
    "BufferReleased",
    "BufferState",
    "BuildFailed",
    "CommandFailed",
    "Device",
    "DeviceClosed",
    "DeviceInfo",
    "DeviceStatistics",
    "DeviceStuck",
    "Elementwise",
    "ForkedProcess",
    "GpuUnavailable",
    "Kernel",
    "KernelStatistics",
    "LocalMemory",
    "NoData",
    "NoDevice",
    "Operation",
    "OperationProfile",
    "OutOfDeviceMemory",
    "Parameter",
    "Pipeline",
    "PoolStatistics",
    "Program",
    "Queue",
    "Reduction",
    "Rows",
    "Signature",
    "Stage",
    "StaleHost",
    "Step",
    "UnifiedBuffer",
    "batched",
    "devices",
    "open_device",
    "pipeline",
    "step",
]
