"""What was measured, as tables for people, as JSON, and as Markdown for the documentation."""

from __future__ import annotations

import json
import os
import platform
import tomllib
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import rich
from rich.table import Table

import rookery

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness import Result

PACKAGES = ("trio", "anyio", "uvloop", "pykka", "xoscar", "thespian")
"""Whose versions belong to the numbers."""


def show(results: Sequence[Result]) -> None:
    """Print a table for each place, with the limit as the first row of each benchmark, and the versions."""
    for loop in dict.fromkeys(result.loop for result in results):
        rich.print(_table(loop, [result for result in results if result.loop == loop]))
    for note in notes(results):
        rich.print(note)
    rich.print(", ".join(f"{name} {value}" for name, value in environment().items()))


def notes(results: Sequence[Result]) -> list[str]:
    """What readers of the numbers have to know, each thing once."""
    return list(dict.fromkeys(f"{result.candidate}: {result.note}" for result in results if result.note))


def _table(loop: str, results: Sequence[Result]) -> Table:
    table = Table(title=f"on {loop}", title_justify="left")
    table.add_column("benchmark")
    table.add_column("candidate")
    for heading in ("µs each", "per second", "speed", "in the rounds"):
        table.add_column(heading, justify="right")
    for title in dict.fromkeys(result.benchmark for result in results):
        rows = [result for result in results if result.benchmark == title]
        labels = [title, *_small_print(rows[0]), *[""] * len(rows)]
        width = max(len(rows), 1 + len(_small_print(rows[0])))
        for label, cells in zip(labels, [*map(_cells, rows), *[()] * (width - len(rows))], strict=False):
            table.add_row(label, *cells)
        table.add_section()
    return table


def _small_print(result: Result) -> list[str]:
    """What an operation is, how many there were, and the parameters, line by line."""
    lines = [f"{result.operations:,} of: {result.unit}"]
    return [f"  {line}" for line in lines + [f"{name}: {value}" for name, value in result.parameters.items()]]


def _cells(result: Result) -> tuple[str, ...]:
    """One row of the table, without the benchmark's title."""
    value, speed = result.value(), result.speed()
    absolute = (f"{value:.3g}", result.reading) if result.reading else (f"{value:.2f}", f"{1e6 / value:,.0f}")
    if result.is_limit:
        return (result.candidate, *absolute, "1", "")
    if speed is None:
        return (result.candidate, *absolute, "", "")
    return (result.candidate, *absolute, f"{speed:.2f}", f"{min(result.speeds):.2f} to {max(result.speeds):.2f}")


def write_json(path: Path, results: Sequence[Result], rounds: int) -> None:
    """Write everything that was measured, with the versions it was measured with."""
    content = {
        "environment": environment(),
        "rounds": rounds,
        "results": [result.as_json() for result in results],
    }
    path.write_text(json.dumps(content, indent=2) + "\n")


def environment() -> Mapping[str, str | int | None]:
    """The versions and the machine."""
    return {
        "rookery": rookery_version(),
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        **{name: installed_version(name) for name in PACKAGES},
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
