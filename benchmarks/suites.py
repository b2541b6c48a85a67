"""All suites, and the choice among their benchmarks."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

import attrs

import core
import ring_kernels
import savina
import scale

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness import Benchmark, Suite

HAS_DEVICE: Final = all(map(find_spec, ("pyopencl", "pocl_binary_distribution")))
"""Whether there is PoCL, which the suite of the devices runs on."""


def on_devices() -> tuple[Suite, ...]:
    """What needs a device."""
    if not HAS_DEVICE:
        return ()
    import gpu

    return (gpu.benchmarks,)


SUITES: Final[tuple[Suite, ...]] = (
    core.benchmarks,
    savina.benchmarks,
    scale.benchmarks,
    ring_kernels.benchmarks,
    *on_devices(),
)


def chosen(suite: Suite, words: Sequence[str], share: int) -> Suite:
    """A suite of those benchmarks that have one of the words in their title or topic, with a share of the operations."""

    def benchmarks(loop: str) -> list[Benchmark]:
        return [
            attrs.evolve(benchmark, operations=max(benchmark.operations // share, 1))
            for benchmark in suite(loop)
            if any(word in benchmark.title or word in benchmark.topic for word in words)
        ]

    return benchmarks
