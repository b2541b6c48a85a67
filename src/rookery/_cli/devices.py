"""``python -m rookery devices``: what there is to compute on, whether it works, and what is missing."""

from __future__ import annotations

import os
import warnings
from time import perf_counter
from typing import TYPE_CHECKING, Final

from rookery import gpu  # before numpy, because this says what to install

# isort: split
import numpy as np

from rookery._model.errors import RookeryError
from rookery.gpu._select import ENVIRONMENT, INSTALL, select

from .drivers import Machine, diagnose
from .loops import run_on

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TRIAL: Final = "kernel void twice(global float *x) { x[get_global_id(0)] *= 2; }"


def main() -> int:
    """List the devices, try each, and say what is missing.

    Returns:
        0 if every device works, and `open_device` takes one where nothing else is said; else 1.
    """
    # Some compilers talk when all is well, of which pyopencl warns.
    warnings.filterwarnings("ignore", category=UserWarning, module=r"pyopencl\.")
    # Seen before OpenCL is used: what it needs may be put right for this process only.
    machine = Machine(dict(os.environ))
    found = gpu.devices()
    well = [_show(info) for info in found]
    if found:
        well.append(_choose(found, machine))
    for line in _complaints(found, machine):
        print(line)
    return 0 if well and all(well) else 1


def _show(info: gpu.DeviceInfo) -> bool:
    """Print what is known of a device, and whether it works."""
    for line in described(info):
        print(line)
    # Shown before it is tried, so that one sees which driver hangs or crashes.
    print("    trial          ", end="", flush=True)
    works, result = run_on("trio", _try, info)
    print(result, end="\n\n", flush=True)
    return works


def described(info: gpu.DeviceInfo) -> Iterator[str]:
    """A device, in lines."""
    yield f"[{info.index}] {info.name}"
    place = "the processor's own" if info.host_unified_memory else "its own"
    rows = {
        "kind": f"{info.kind}, by {info.vendor}",
        "platform": f"{info.platform}, {info.platform_version}",
        "driver": f"{info.driver}, {info.version}",
        "memory": f"{size(info.global_memory)}, {place}; one buffer up to {size(info.max_allocation)}",
        "compute units": f"{info.compute_units}; groups of up to {info.max_work_group_size:,} work items, which share "
        f"{size(info.local_memory)}",
        "numbers": f"fp64 {_yes(info.fp64)}, fp16 {_yes(info.fp16)}",
        "SVM": ", ".join(info.svm) or "none",
    }
    for name, value in rows.items():
        yield f"    {name:<15}{value}"


def _yes(has: bool) -> str:
    return "yes" if has else "no"


def size(nbytes: int) -> str:
    """A number of bytes for people."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if nbytes >= unit:
            return f"{nbytes / unit:.4g} {name}"
    return f"{nbytes} bytes"


async def _try(info: gpu.DeviceInfo) -> tuple[bool, str]:
    """Compile and run a kernel; whether that worked, and how it went."""
    began = perf_counter()
    try:
        async with gpu.open_device(info.index) as device:
            twice = await device.kernel(TRIAL, "twice")
            x = await device.upload(np.arange(1000, dtype=np.float32))
            await twice(x)
            right = bool((await x.read() == np.arange(1000) * 2).all())
    except Exception as error:  # noqa: BLE001 - whatever a driver does is told, and the next device is tried
        return False, f"FAILED: {error}" if isinstance(error, RookeryError) else f"FAILED: {error!r}"
    if not right:
        return False, "FAILED: a kernel computed wrong numbers"
    return True, f"compiled and ran a kernel in {perf_counter() - began:.2f} s"


def _choose(found: Sequence[gpu.DeviceInfo], machine: Machine) -> bool:
    """Print what `open_device` takes where nothing else is said, and whether that is any."""
    environment = machine.environment.get(ENVIRONMENT)
    try:
        chosen = select(found, None, environment)
    except gpu.NoDevice as error:
        print(f"open_device() takes none: {error}")
        return False
    reason = f"{ENVIRONMENT}={environment}" if (environment or "").strip() else f"{ENVIRONMENT} is not set"
    print(f"open_device() takes {chosen} ({reason})")
    return True


def _complaints(found: Sequence[gpu.DeviceInfo], machine: Machine) -> Iterator[str]:
    missing = diagnose(found, machine)
    if not found:
        missing.insert(0, f"no OpenCL device was found: {INSTALL}")
    elif not any(info.kind == "gpu" for info in found) and not missing:
        yield "no GPU was found, and nothing hints at one without a driver"
    for line in missing:
        yield f"missing: {line}"
