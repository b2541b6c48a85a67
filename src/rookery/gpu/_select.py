"""Which device is meant: what is known of each, and the rule that picks one. No OpenCL in here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import attrs

from ._errors import ArgumentTypeError, NoDevice

if TYPE_CHECKING:
    from collections.abc import Sequence

ENVIRONMENT: Final = "ROOKERY_DEVICE"
INSTALL: Final = (
    'install a driver for your GPU, or the processor\'s own: pip install "rookery[pocl]" (Linux on x86_64; '
    "elsewhere PoCL comes from conda-forge or your system's packages)"
)

Kind = Literal["gpu", "cpu", "accelerator", "other"]
Svm = Literal["coarse buffer", "fine buffer", "fine system", "atomics"]


@attrs.frozen
class DeviceInfo:
    """What is known of an OpenCL device before it is opened."""

    index: int
    """Its place in `devices()`; a selector."""
    name: str
    vendor: str
    platform: str
    """The name of its OpenCL platform, that is of its driver."""
    platform_version: str
    """The OpenCL version of the platform, and what its maker says about it."""
    kind: Kind
    version: str
    """The OpenCL version of the device, and what its maker says about it."""
    driver: str
    """The driver's version."""
    global_memory: int
    """Bytes of device memory."""
    max_allocation: int
    """The largest single buffer, in bytes."""
    local_memory: int
    """Bytes that the work items of a group share, for each group."""
    compute_units: int
    max_work_group_size: int
    host_unified_memory: bool
    """Whether its memory is the processor's own, as the driver has it; so it may be on an integrated GPU."""
    shares_host_memory: bool
    """Whether buffers are used by both in place, so that nothing is copied."""
    fp64: bool
    """Whether it computes with ``double``."""
    fp16: bool
    """Whether it computes with ``half``."""
    svm: tuple[Svm, ...]
    """The kinds of shared virtual memory that it has."""

    @property
    def is_pocl(self) -> bool:
        """Whether PoCL drives it."""
        return self.platform == "Portable Computing Language"

    def __str__(self) -> str:
        return f"[{self.index}] {self.name} ({self.kind}, {self.platform})"

    def answers_to(self, selector: str) -> bool:
        """Whether ``selector`` is its kind, or part of its name, vendor or platform, in any case."""
        wanted = selector.casefold()
        if wanted in ("gpu", "cpu", "accelerator"):
            return self.kind == wanted
        if wanted == "pocl":
            return self.is_pocl
        return any(wanted in text.casefold() for text in (self.name, self.vendor, self.platform))


def select(found: Sequence[DeviceInfo], selector: str | int | None, environment: str | None) -> DeviceInfo:
    """Pick the device that is meant.

    Args:
        found: All devices, in the order of their indexes.
        selector: A name, vendor or platform (or part of one), ``"gpu"``, ``"cpu"``, or an index.
        environment: The value of ``ROOKERY_DEVICE``, which counts where ``selector`` is None. Blank is not given.

    Returns:
        The first that answers to the selector; without one the first GPU, else PoCL.

    Raises:
        NoDevice: if there is none, naming what was asked for and what there is.
        ArgumentTypeError: if the selector is neither text nor an index.
    """
    if not found:
        raise NoDevice(f"no OpenCL device was found: {INSTALL}")
    if selector is None and environment and environment.strip():
        return _selected(found, environment, f"{ENVIRONMENT}={environment}")
    if selector is None:
        return _default(found)
    if isinstance(selector, bool) or not isinstance(selector, (str, int)):
        raise ArgumentTypeError(
            f'a device is selected by name, vendor, "gpu", "cpu" or index, got {selector!r}: write open_device("gpu"), or '
            f"open_device(0); there is {_listing(found)}"
        )
    if isinstance(selector, str) and not selector.strip():
        raise NoDevice(
            f'{selector!r} names no device: write open_device() for the default, or one of "gpu", "cpu", "pocl"; '
            f"there is {_listing(found)}"
        )
    return _selected(found, selector, repr(selector))


def _selected(found: Sequence[DeviceInfo], selector: str | int, shown: str) -> DeviceInfo:
    if isinstance(selector, int) or selector.strip().isdecimal():
        index = int(selector)
        chosen = found[index] if 0 <= index < len(found) else None
    else:
        chosen = next((device for device in found if device.answers_to(selector.strip())), None)
    if chosen is None:
        hint = f"; for a GPU, {INSTALL}" if shown == "'gpu'" else ""
        raise NoDevice(
            f"no OpenCL device answers to {shown}; there is {_listing(found)}: write open_device({found[0].index}) for that "
            f"one{hint}"
        )
    return chosen


def _default(found: Sequence[DeviceInfo]) -> DeviceInfo:
    gpu = next((device for device in found if device.kind == "gpu"), None)
    chosen = gpu or next((device for device in found if device.is_pocl), None)
    if chosen is None:
        # Never silently the first platform: it may be an emulator.
        raise NoDevice(
            f"there is neither a GPU nor PoCL, only {_listing(found)}: "
            f"name the one you want, open_device({found[0].index}), or {INSTALL}"
        )
    return chosen


def _listing(found: Sequence[DeviceInfo]) -> str:
    return ", ".join(map(str, found))
