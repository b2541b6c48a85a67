"""Finding devices, and opening one for the length of a block."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import anyio.to_thread

from . import _opencl
from ._device import Device
from ._errors import ArgumentValueError, DeviceStuck
from ._select import ENVIRONMENT, DeviceInfo, select

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

CLOSE_TIMEOUT: Final = 30.0
"""Seconds that a device is given to finish its commands when it is closed."""


def devices() -> list[DeviceInfo]:
    """Every OpenCL device of this machine, in the order of their indexes; empty if there is no driver.

    Raises:
        ForkedProcess: in a process forked from one that used OpenCL.
    """
    return [_opencl.describe(index, raw) for index, raw in enumerate(_opencl.raw_devices())]


@asynccontextmanager
async def open_device(
    selector: str | int | None = None,
    *,
    memory_limit: int | None = None,
    profile: bool = False,
    debug: bool = False,
    close_timeout: float = CLOSE_TIMEOUT,
) -> AsyncGenerator[Device, None]:
    """Open a device for the length of an ``async with`` block.

    Leaving the block waits for the commands in flight, cancelled or not, and releases every buffer.

    Example:
        >>> async with open_device("gpu") as device:
        ...     a = await device.upload(np.arange(1000, dtype=np.float32))

    Args:
        selector: A name, vendor or platform (or part of one), ``"gpu"``, ``"cpu"``, or an index of `devices`. Else
            what the environment's ``ROOKERY_DEVICE`` says, else the first GPU, else PoCL.
        memory_limit: Bytes that the pool may hand out; 90 % of the device's memory unless given, or half of it where
            that is also the host's.
        profile: Whether operations tell when they ran (`Operation.profile`), kernels how long (`Device.statistics`), and
            the device all of it (`Device.trace`). Some microseconds for each.
        debug: Whether to report, to the log ``rookery.gpu``, buffers that were never released, and deadlocks in which
            every task that holds memory waits for more; each with the tasks and where they acquired what they hold.
            Some tens of microseconds for each buffer.
        close_timeout: Seconds to wait for commands in flight when the block ends; real ones, whatever the loop's clock says.

    Raises:
        NoDevice: if there is no such device; the message says what there is, or what to install.
        ArgumentValueError: for a limit above the device's memory, or a timeout below zero. A `ValueError`.
        ForkedProcess: in a process forked from one that used OpenCL.
        DeviceStuck: from the end of the block, if commands were still in flight after ``close_timeout``.
    """
    _check_close_timeout(close_timeout)
    found = await anyio.to_thread.run_sync(_opencl.raw_devices)  # the first time, drivers take a while to load
    known = [_opencl.describe(index, raw) for index, raw in enumerate(found)]
    info = select(known, selector, os.environ.get(ENVIRONMENT))
    limit = _limit(info, memory_limit)
    device = Device(found[info.index], info, limit, profile=profile, debug=debug, close_timeout=close_timeout)
    try:
        yield device
    except BaseException as error:
        try:
            await device.close()
        except DeviceStuck as stuck:
            error.add_note(str(stuck))  # logged as well; what ended the block is the more important news
        raise
    await device.close()


def _limit(info: DeviceInfo, asked: int | None) -> int:
    if asked is None:
        return info.global_memory // 2 if info.shares_host_memory else info.global_memory * 9 // 10
    if isinstance(asked, bool) or not isinstance(asked, int) or asked <= 0:
        raise ArgumentValueError(
            f"memory_limit is a number of bytes above zero, got {asked!r}: write 256 << 20 for 256 MiB"
        )
    if asked > info.global_memory:
        raise ArgumentValueError(
            f"memory_limit={asked:,} is more than the {info.global_memory:,} bytes of {info.name}: leave it out for a "
            "limit that fits the device, or give a smaller one"
        )
    return asked


def _check_close_timeout(seconds: object) -> None:
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds >= 0:
        raise ArgumentValueError(
            f"close_timeout is a number of seconds, at least 0, got {seconds!r}: write close_timeout=30"
        )
