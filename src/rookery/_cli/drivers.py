"""What is missing on this machine: hardware without an OpenCL driver, drivers that do not load, and other hindrances."""

from __future__ import annotations

import ctypes
import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from rookery.gpu._opencl import invoker_folder
from rookery.gpu._pocl import CACHE_VARIABLE, cache_folder, writable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from rookery.gpu import DeviceInfo

VENDORS_VARIABLE: Final = "OCL_ICD_VENDORS"
NO_CACHE_VARIABLE: Final = "PYOPENCL_NO_CACHE"


@attrs.frozen
class Maker:
    """A maker of GPUs, and how its OpenCL driver is called where one installs it."""

    name: str
    pci: str
    """Its number among the makers of PCI devices, as the kernel shows it."""
    packages: str


MAKERS: Final = (
    Maker(
        "NVIDIA",
        "0x10de",
        "nvidia-opencl-icd on Debian, libnvidia-compute-NNN of your driver's NNN on Ubuntu, xorg-x11-drv-nvidia-cuda on "
        "Fedora, opencl-nvidia on Arch; a container also needs NVIDIA_DRIVER_CAPABILITIES=compute,utility",
    ),
    Maker(
        "AMD",
        "0x1002",
        "rocm-opencl-icd on Debian, rocm-opencl-runtime of AMD's packages on Ubuntu, rocm-opencl on Fedora, "
        "rocm-opencl-runtime on Arch",
    ),
    Maker("Intel", "0x8086", "intel-opencl-icd on Debian and Ubuntu, intel-compute-runtime on Fedora and Arch"),
)


@attrs.frozen
class Machine:
    """Where to look. Tests look elsewhere."""

    environment: Mapping[str, str]
    root: Path = Path("/")
    load: Callable[[str], object] = ctypes.CDLL
    """Loads a library, or raises an `OSError`."""
    invokers: Path | None = attrs.field(factory=invoker_folder)
    """The cache folder of pyopencl; None where there is no home folder."""


def diagnose(found: Sequence[DeviceInfo], machine: Machine) -> list[str]:
    """What is missing, each with what to do about it; empty if nothing is.

    Args:
        found: The devices there are.
        machine: Where to look.
    """
    return [
        *_broken_drivers(machine),
        *_gpus_without_driver(found, machine),
        *_closed_nodes(machine),
        *_hindrances(found, machine),
    ]


def _broken_drivers(machine: Machine) -> Iterator[str]:
    """Drivers that are announced and cannot be loaded; OpenCL passes over them silently."""
    for file in _announcements(machine):
        library = file.read_text(encoding="utf-8", errors="replace").strip()
        try:
            machine.load(library)
        except OSError as error:
            yield f"{file} announces a driver that does not load ({error}): reinstall it, or remove that file"


def _announcements(machine: Machine) -> list[Path]:
    chosen = machine.environment.get(VENDORS_VARIABLE)
    place = Path(chosen) if chosen else machine.root / "etc/OpenCL/vendors"
    return [place] if place.is_file() else sorted(place.glob("*.icd"))


def _gpus_without_driver(found: Sequence[DeviceInfo], machine: Machine) -> Iterator[str]:
    seen = _makers_of_gpus(machine)
    for maker in MAKERS:
        if maker.pci in seen and not any(_made_by(maker, info) for info in found):
            yield f"there is a GPU of {maker.name} ({seen[maker.pci]}) and no OpenCL driver for it: install {maker.packages}"


def _made_by(maker: Maker, info: DeviceInfo) -> bool:
    names = ("amd", "advanced micro") if maker.name == "AMD" else (maker.name.casefold(),)
    return info.kind == "gpu" and any(name in info.vendor.casefold() for name in names)


def _makers_of_gpus(machine: Machine) -> dict[str, Path]:
    """The number of each maker of a GPU, and where the kernel says so."""
    seen: dict[str, Path] = {}
    for file in sorted(machine.root.glob("sys/class/drm/renderD*/device/vendor")):
        seen.setdefault(file.read_text(encoding="ascii", errors="replace").strip(), file)
    # In a container, a GPU may be there without a node for drawing.
    if (version := machine.root / "proc/driver/nvidia/version").exists():
        seen.setdefault(MAKERS[0].pci, version)
    return seen


def _closed_nodes(machine: Machine) -> Iterator[str]:
    """Device nodes that this user may not open: then a driver shows no devices."""
    for node in sorted([*machine.root.glob("dev/dri/renderD*"), *machine.root.glob("dev/kfd")]):
        if not os.access(node, os.R_OK | os.W_OK):
            yield f"this user may not open {node}: add it to the group that owns it, often `sudo usermod -aG render $USER`"


def _hindrances(found: Sequence[DeviceInfo], machine: Machine) -> Iterator[str]:
    folder = cache_folder(machine.environment)
    if any(info.is_pocl for info in found) and not writable(folder):
        yield (
            f"PoCL cannot write to its cache, {folder}, so every process compiles anew: set {CACHE_VARIABLE} to a "
            "folder that can be written"
        )
    if NO_CACHE_VARIABLE in machine.environment:
        pass
    elif machine.invokers is None:
        yield (
            "pyopencl has no cache, because this user has no home folder: set HOME, or XDG_CACHE_HOME, to a folder that "
            f"can be written, or {NO_CACHE_VARIABLE}=1"
        )
    elif not writable(machine.invokers):
        yield (
            f"pyopencl cannot write to its cache, {machine.invokers}, and does without: set XDG_CACHE_HOME to a folder "
            f"that can be written, or {NO_CACHE_VARIABLE}=1"
        )
    if importlib.util.find_spec("mako") is None:
        yield 'reductions need mako, which is not installed: pip install "rookery[gpu]"'
