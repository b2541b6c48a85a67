"""All suites, and the choice among their benchmarks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

import core
import ring_kernels
import savina
import scale

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness import Benchmark, Suite

SUITES: Final[tuple[Suite, ...]] = (core.benchmarks, savina.benchmarks, scale.benchmarks, ring_kernels.benchmarks)


def chosen(suite: Suite, words: Sequence[str], share: int) -> Suite:
    """A suite of those benchmarks that have one of the words in their title or topic, with a share of the operations."""

    def benchmarks(loop: str) -> list[Benchmark]:
        return [
            attrs.evolve(benchmark, operations=max(benchmark.operations // share, 1))
            for benchmark in suite(loop)
            if any(word in benchmark.title or word in benchmark.topic for word in words)
        ]

    return benchmarks
