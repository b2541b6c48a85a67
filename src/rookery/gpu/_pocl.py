"""Making PoCL, the OpenCL driver for processors, work where it would silently not.

Two things stop PoCL on machines that are otherwise fine. Both are put right before and after its devices are
first listed, for this process only:

* It finds no device at all when its cache folder cannot be written (`ensure_cache`).
* The LLVM inside an older PoCL does not know processors that are newer than itself, calls them ``generic``, and
  then refuses to compile for that name (`name_processor`; https://github.com/pocl/pocl/issues/1049).
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

CACHE_VARIABLE: Final = "POCL_CACHE_DIR"
UNKNOWN_PROCESSOR: Final = "-generic"
"""How the version string of a device ends when LLVM does not know its processor."""

_SSE4 = {"cx16", "lahf_lm", "sse4_1", "ssse3"}
_AVX2 = _SSE4 | {"abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "popcnt", "sse4_2"}
_AVX512 = _AVX2 | {"avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl"}


# --- the cache folder ------------------------------------------------------------------------------


def ensure_cache() -> tempfile.TemporaryDirectory[str] | None:
    """Point PoCL to a temporary cache folder if it could not write to its own.

    Returns:
        The temporary folder, to be kept as long as PoCL is used; it is removed at exit.
    """
    if not os.environ.get(CACHE_VARIABLE):
        os.environ.pop(CACHE_VARIABLE, None)  # one that is empty is a folder to PoCL, which cannot be written
    if writable(cache_folder(os.environ)):
        return None
    temporary = tempfile.TemporaryDirectory(prefix="rookery-pocl-", ignore_cleanup_errors=True)
    os.environ[CACHE_VARIABLE] = temporary.name
    return temporary


def cache_folder(environment: Mapping[str, str]) -> Path:
    """Where PoCL keeps what it compiled."""
    if chosen := environment.get(CACHE_VARIABLE):
        return Path(chosen)
    if caches := environment.get("XDG_CACHE_HOME"):
        return Path(caches, "pocl", "kcache")
    home = environment.get("HOME")
    return Path(home, ".cache", "pocl", "kcache") if home else Path("/tmp/pocl/kcache")  # noqa: S108 - PoCL's own rule


def writable(folder: Path) -> bool:
    """Whether files can be made in a folder, which is made if there is none."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


# --- the processor's name --------------------------------------------------------------------------


def name_processor(device: int, version: str) -> bool:
    """Give PoCL a processor it can compile for, where its LLVM does not know this one.

    There is no setting for it, so the name is put where PoCL keeps it: in the device's structure, the pointer
    that follows the one to the target triple. It is replaced only if both are found as expected; everything is
    read through the kernel, so that a wrong guess cannot crash. Nothing happens on processors that LLVM knows.

    Args:
        device: The address of the device, its ``cl_device_id``.
        version: Its version string, which ends in the name that LLVM gave the processor.

    Returns:
        Whether the name was replaced.
    """
    if not version.endswith(UNKNOWN_PROCESSOR) or (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return False
    with Path("/proc/self/mem").open("rb", buffering=0) as memory:
        place = _find_processor_name(memory.fileno(), device)
    if place is None:
        return False
    strdup = ctypes.CDLL(None).strdup  # PoCL frees the name, so it has to come from the same allocator
    strdup.restype = ctypes.c_void_p
    name = known_processor(_processor_flags())
    ctypes.c_void_p.from_address(place).value = strdup(name.encode())
    return True


def _find_processor_name(memory: int, device: int) -> int | None:
    """The address of the pointer to ``"generic"`` that follows the pointer to the triple."""
    words = [word for (word,) in struct.iter_unpack("Q", _peek(memory, device, 2048))]
    for place, (triple, name) in enumerate(pairwise(words), start=1):
        if _peek(memory, triple, 7) == b"x86_64-" and _peek(memory, name, 8) == b"generic\0":
            return device + place * 8
    return None


def _peek(memory: int, address: int, size: int) -> bytes:
    """Read this process's memory; empty where there is none."""
    try:
        return os.pread(memory, size, address)
    except (OSError, OverflowError):
        return b""


def _processor_flags() -> Iterable[str]:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("flags"):
            return line.partition(":")[2].split()
    return ()


def known_processor(flags: Iterable[str]) -> str:
    """The name of a processor that can run here, from these ``/proc/cpuinfo`` flags.

    Of each generation it is the one that PoCL built its library of built-in functions for. Under any other name,
    the generation's own (``x86-64-v4``) included, LLVM does not inline them: ``exp(sqrt(x))`` took 12 ms for a
    million floats instead of 0.5.
    """
    has = set(flags)
    for needed, name in ((_AVX512, "skylake-avx512"), (_AVX2, "haswell"), (_SSE4, "penryn")):
        if needed <= has:
            return name
    return "x86-64"
