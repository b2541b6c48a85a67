"""All benchmarks: `python benchmarks --help` says what can be chosen, and where the numbers can go."""

from __future__ import annotations

import argparse
from pathlib import Path

import goals
import harness
import page
import record
import report
import suites

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
    parser.add_argument("--from", type=Path, metavar="FILE", dest="stored", help="show a stored run; measure nothing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured to a file")
    parser.add_argument("--plot", type=Path, metavar="FOLDER", help="draw a picture of each topic into a folder")
    parser.add_argument(
        "--markdown", type=Path, metavar="FILE", help="replace the tables of a page, between its <!-- begin --> marks"
    )
    return parser.parse_args()


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} rounds are no median: give 1 or more")
    return number


def measure(options: argparse.Namespace) -> record.Run:
    """What the command line asks for."""
    rounds, share = (QUICK_ROUNDS, QUICK_SHARE) if options.quick else (options.rounds, 1)
    plan = harness.measurements(suites.chosen(suite, options.only or [""], share) for suite in suites.SUITES)
    if not plan:
        raise SystemExit(f"no benchmark has {' or '.join(options.only)} in its title or topic")
    return record.Run(record.environment(), rounds, share, harness.run_rounds(plan, rounds))


def main() -> None:
    """Measure, or read; show; write."""
    options = arguments()
    run = record.read(options.stored) if options.stored else measure(options)
    verdicts = goals.judge(run.results, share=run.share)
    report.show(run, verdicts)
    if options.json:
        record.write(run, options.json)
    if options.markdown:
        page.refresh(options.markdown, run, verdicts)
    if options.plot:
        import plots

        plots.draw(run, options.plot)


if __name__ == "__main__":
    main()
