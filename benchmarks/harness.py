"""Run candidates in interleaved rounds, each beside its limit, and report medians and ratios.

A machine that others use too is faster in one second than in the next. So no number here stands alone: in every
round each candidate runs next to its limit, on the same event loop, and what is reported of speed is the ratio of
the two. The absolute times are the medians of the rounds.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import statistics
import tomllib
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio
import attrs
import rich
from rich.progress import track
from rich.table import Table

import rookery

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence

LOOPS: Final[dict[str, dict[str, Any]]] = {
    "trio": {"backend": "trio"},
    "asyncio": {"backend": "asyncio"},
    "uvloop": {"backend": "asyncio", "backend_options": {"use_uvloop": True}},
}
"""The event loops, and what anyio calls them."""


class WrongResultError(Exception):
    """A benchmark did not do the work whose time it measured."""


def expect(actual: object, expected: object, what: str) -> None:
    """Check the result of a benchmark.

    Raises:
        WrongResultError: if it is not the expected one.
    """
    if actual != expected:
        raise WrongResultError(f"{what}: {actual!r}, where {expected!r} was expected")


@attrs.frozen
class Candidate:
    """One way to do the work of a benchmark.

    Attributes:
        name: What it is called in the report.
        measure: Does that many operations, checks their result, and returns the seconds they took.
    """

    name: str
    measure: Callable[[int], Awaitable[float]]


@attrs.frozen
class Benchmark:
    """The same work, done by several candidates.

    Attributes:
        title: What is measured.
        unit: What one operation is.
        operations: How many of them one measurement does.
        limit: What the loop itself offers; the others are shown as a part or a multiple of its speed.
        candidates: Those who are compared with it.
    """

    title: str
    unit: str
    operations: int
    limit: Candidate
    candidates: tuple[Candidate, ...]

    def everyone(self) -> tuple[Candidate, ...]:
        """The limit first, then the others."""
        return (self.limit, *self.candidates)


@attrs.frozen
class Result:
    """What was measured of one candidate on one loop.

    Attributes:
        benchmark: The benchmark's title.
        unit: What one operation is.
        loop: Name of the event loop.
        candidate: The candidate's name.
        is_limit: Whether it is the limit that the others are compared with.
        operations: Operations in each measurement.
        microseconds: Time for one operation, one entry for each round.
        speeds: Speed as a multiple of the limit's in the same round, one entry for each round.
    """

    benchmark: str
    unit: str
    loop: str
    candidate: str
    is_limit: bool
    operations: int
    microseconds: list[float]
    speeds: list[float]

    def as_json(self) -> dict[str, Any]:
        """All of it, and the medians."""
        medians = {
            "median_microseconds": statistics.median(self.microseconds),
            "median_speed": statistics.median(self.speeds),
        }
        return attrs.asdict(self) | medians


def available_loops() -> list[str]:
    """The loops of `LOOPS` that can run here."""
    return [loop for loop in LOOPS if loop != "uvloop" or installed_version("uvloop")]


def run_rounds(benchmarks: Mapping[str, Sequence[Benchmark]], rounds: int) -> list[Result]:
    """Measure everything once in each round, after a round of warming up that does not count.

    Every second round goes backwards, so that a machine that becomes slower meanwhile is unfair to nobody.

    Args:
        benchmarks: For each loop, what to run on it.
        rounds: How many rounds count; at least 1.
    """
    work = [(loop, benchmark) for loop, on_loop in benchmarks.items() for benchmark in on_loop]
    seconds: dict[tuple[str, str, str], list[float]] = {}
    for number in track(range(rounds + 1), "Rounds", transient=True):
        for loop, benchmark, candidate in _in_order(work, backwards=number % 2 == 1):
            taken = measure_once(loop, candidate, benchmark.operations)
            seconds.setdefault((loop, benchmark.title, candidate.name), []).append(taken)
    return [result for loop, benchmark in work for result in _results(loop, benchmark, seconds)]


def measure_once(loop: str, candidate: Candidate, operations: int) -> float:
    """Seconds that the operations take on a fresh event loop, with the garbage of those before swept away."""
    gc.collect()
    return anyio.run(candidate.measure, operations, **LOOPS[loop])


def _in_order(work: list[tuple[str, Benchmark]], *, backwards: bool) -> Iterable[tuple[str, Benchmark, Candidate]]:
    order = [(loop, benchmark, candidate) for loop, benchmark in work for candidate in benchmark.everyone()]
    return reversed(order) if backwards else order


def _results(loop: str, benchmark: Benchmark, seconds: dict[tuple[str, str, str], list[float]]) -> Iterator[Result]:
    """The counted rounds of one benchmark on one loop."""
    limit = seconds[loop, benchmark.title, benchmark.limit.name][1:]
    for candidate in benchmark.everyone():
        own = seconds[loop, benchmark.title, candidate.name][1:]
        yield Result(
            benchmark=benchmark.title,
            unit=benchmark.unit,
            loop=loop,
            candidate=candidate.name,
            is_limit=candidate is benchmark.limit,
            operations=benchmark.operations,
            microseconds=[taken / benchmark.operations * 1e6 for taken in own],
            speeds=[least / taken for least, taken in zip(limit, own, strict=True)],
        )


# ---- the report


def show(results: Sequence[Result]) -> None:
    """Print a table for each loop, with the limit as the first row of each benchmark, and the versions."""
    for loop in dict.fromkeys(result.loop for result in results):
        rich.print(_table(loop, [result for result in results if result.loop == loop]))
    rich.print(", ".join(f"{name} {value}" for name, value in environment().items()))


def _table(loop: str, results: Sequence[Result]) -> Table:
    table = Table(title=f"on {loop}", title_justify="left")
    table.add_column("benchmark")
    table.add_column("candidate")
    for heading in ("µs each", "per second", "speed", "in the rounds"):
        table.add_column(heading, justify="right")
    for title in dict.fromkeys(result.benchmark for result in results):
        rows = [result for result in results if result.benchmark == title]
        labels = [title, f"  per {rows[0].unit}", *[""] * len(rows)]
        for label, result in zip(labels, rows, strict=False):
            table.add_row(label, *_cells(result))
        table.add_section()
    return table


def _cells(result: Result) -> tuple[str, ...]:
    """One row of the table, without the benchmark's title."""
    median = statistics.median(result.microseconds)
    speed, slowest, fastest = statistics.median(result.speeds), min(result.speeds), max(result.speeds)
    if result.is_limit:
        return (result.candidate, f"{median:.2f}", f"{1e6 / median:,.0f}", "1", "")
    return (
        result.candidate,
        f"{median:.2f}",
        f"{1e6 / median:,.0f}",
        f"{speed:.2f}",
        f"{slowest:.2f} to {fastest:.2f}",
    )


def write_json(path: Path, results: Sequence[Result], rounds: int) -> None:
    """Write everything that was measured, with the versions it was measured with."""
    content = {
        "environment": environment(),
        "rounds": rounds,
        "results": [result.as_json() for result in results],
    }
    path.write_text(json.dumps(content, indent=2) + "\n")


def environment() -> dict[str, str | int | None]:
    """The versions and the machine."""
    packages = ("trio", "anyio", "uvloop")
    return {
        "rookery": rookery_version(),
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        **{name: installed_version(name) for name in packages},
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
    }


def installed_version(package: str) -> str | None:
    """The version of an installed distribution; None if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def rookery_version() -> str | None:
    """The version of the rookery that is imported, also when it runs from its sources."""
    project = Path(rookery.__file__).parents[2] / "pyproject.toml"
    if not project.exists():
        return installed_version("rookery")
    version: str = tomllib.loads(project.read_text())["project"]["version"]
    return version
