"""All benchmarks: `python benchmarks [--rounds N] [--quick] [--only WORD] [--json FILE]`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

import core
import harness
import report

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness import Benchmark, Suite

SUITES: Final[tuple[Suite, ...]] = (core.benchmarks,)

QUICK_ROUNDS, QUICK_SHARE = 2, 5
"""A quick run has so many rounds, and this fraction of the operations."""


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python benchmarks", description="rookery beside its limits and its peers.")
    parser.add_argument("--rounds", type=_at_least_one, default=7, metavar="N", help="rounds that count; 7 by default")
    parser.add_argument("--quick", action="store_true", help="2 rounds of a fifth of the operations: to see it work")
    parser.add_argument(
        "--only", action="append", metavar="WORD", help="benchmarks with this in their title or topic; repeatable"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured to a file")
    return parser.parse_args()


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} rounds are no median: give 1 or more")
    return number


def chosen(suite: Suite, words: Sequence[str], share: int) -> Suite:
    """A suite of those benchmarks that have one of the words in their title or topic, with a share of the operations."""

    def benchmarks(loop: str) -> list[Benchmark]:
        return [
            attrs.evolve(benchmark, operations=max(benchmark.operations // share, 1))
            for benchmark in suite(loop)
            if any(word in benchmark.title or word in benchmark.topic for word in words)
        ]

    return benchmarks


def main() -> None:
    """Measure, show, write."""
    options = arguments()
    rounds, share = (QUICK_ROUNDS, QUICK_SHARE) if options.quick else (options.rounds, 1)
    plan = harness.measurements(chosen(suite, options.only or [""], share) for suite in SUITES)
    results = harness.run_rounds(plan, rounds)
    report.show(results)
    if options.json:
        report.write_json(options.json, results, rounds)


if __name__ == "__main__":
    main()
