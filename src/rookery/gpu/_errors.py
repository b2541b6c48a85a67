"""What the device side raises on purpose, under rookery's one root."""

from __future__ import annotations

from rookery._model.errors import RookeryError


class GpuUnavailable(RookeryError, ImportError):
    """pyopencl or numpy cannot be imported: the ``gpu`` extra is missing."""


class NoDevice(RookeryError, LookupError):
    """No OpenCL device is there, or none is called what was asked for."""


class ForkedProcess(RookeryError, RuntimeError):
    """OpenCL was used before this process was forked; drivers hang in a forked child."""


class DeviceClosed(RookeryError, RuntimeError):
    """The ``async with open_device()`` block that this belongs to has ended."""


class DeviceStuck(RookeryError, TimeoutError):
    """A device had not finished its commands when the deadline for closing it passed."""


class OutOfDeviceMemory(RookeryError, MemoryError):
    """More device memory was asked for than the limit, or the device itself, allows."""


class BufferReleased(RookeryError, RuntimeError):
    """A buffer was used, or released again, after it was given back to its pool."""


class BufferBusy(RookeryError, RuntimeError):
    """A buffer's host side was to be changed or looked at while a command or a copy is using it."""


class StaleHost(RookeryError, RuntimeError):
    """The device side of a buffer is newer than the host side that was asked for."""


class NoData(RookeryError, ValueError):
    """A buffer was read before anything was written to it."""


class BuildFailed(RookeryError, ValueError):
    """OpenCL source did not compile.

    Attributes:
        log: What the compiler said.
    """

    def __init__(self, message: str, log: str) -> None:
        super().__init__(message)
        self.log = log


class ArgumentTypeError(RookeryError, TypeError):
    """A kernel, a buffer or a device was given the wrong number of arguments, or one of the wrong kind or dtype."""


class ArgumentValueError(RookeryError, ValueError):
    """A kernel, a buffer or a device was given an argument or a size that is of the right type and cannot be meant."""


class CommandFailed(RookeryError, RuntimeError):
    """A command failed on the device. The device remains usable."""
