"""A run as tables in the terminal: one for each benchmark, and one of the goals."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from rich import box
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from goals import Verdict
    from harness import Result
    from record import Run


WIDTH: Final = 120
"""Columns of what is no terminal."""


def show(run: Run, verdicts: Sequence[Verdict]) -> None:
    """Print a table for each benchmark, its limits first on each loop; what to know of them; goals; versions."""
    console = Console()
    if not console.is_terminal:
        console.width = WIDTH
    for title in dict.fromkeys(result.benchmark for result in run.results):
        console.print(_table([result for result in run.results if result.benchmark == title]))
    for note in notes(run.results):
        console.print(note)
    if verdicts:
        console.print(_goals(verdicts))
    console.print(", ".join(f"{name} {value}" for name, value in run.environment.items() if value))


def notes(results: Sequence[Result]) -> list[str]:
    """What readers of the numbers have to know, each thing once."""
    return list(dict.fromkeys(f"{result.candidate}: {result.note}." for result in results if result.note))


def small_print(result: Result) -> str:
    """What an operation is, how many there are in a measurement, how often it was measured, and the parameters."""
    rounds = len(result.values)
    times = "one measurement" if rounds == 1 else f"each of {rounds} measurements"
    parameters = "".join(f"; {name}: {described(value)}" for name, value in result.parameters.items())
    return f"{result.unit}, {result.operations:,} in {times}{parameters}"


def described(value: object) -> str:
    """A parameter; whole numbers with their thousands apart."""
    return f"{value:,}" if isinstance(value, int) else str(value)


def amount(value: float, unit: str) -> str:
    """Three digits that count, and the unit."""
    digits = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
    return f"{value:,.{digits}f} {unit}"


def _table(results: Sequence[Result]) -> Table:
    """All of one benchmark."""
    first = results[0]
    table = Table(title=f"[bold]{first.benchmark}[/]  {small_print(first)}", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("on")
    table.add_column("candidate")
    for heading in (first.reading or "each", "" if first.reading else "per second", "speed", "in the rounds"):
        table.add_column(heading, justify="right")
    for loop in dict.fromkeys(result.loop for result in results):
        rows = [result for result in results if result.loop == loop]
        for label, result in zip([loop, *[""] * len(rows)], rows, strict=False):
            table.add_row(label, *_cells(result))
        table.add_section()
    return table


def _cells(result: Result) -> tuple[str, ...]:
    """One row, without its place."""
    value, speed = result.value(), result.speed()
    absolute = (amount(value, ""), "") if result.reading else (amount(value, "µs"), f"{1e6 / value:,.0f}")
    if result.is_limit:
        return (result.candidate, *absolute, "1", "")
    if speed is None:
        return (result.candidate, *absolute, "", "")
    apart = f"{min(result.speeds):.2f} to {max(result.speeds):.2f}" if len(result.speeds) > 1 else "once"
    return (result.candidate, *absolute, f"{speed:.2f}", apart)


def _goals(verdicts: Sequence[Verdict]) -> Table:
    table = Table(title="[bold]goals[/]", title_justify="left", box=box.SIMPLE_HEAD)
    for heading in ("benchmark", "candidate", "compared with", "goal", "measured", ""):
        table.add_column(heading)
    for verdict in verdicts:
        table.add_row(*goal_cells(verdict))
    return table


def goal_cells(verdict: Verdict) -> tuple[str, str, str, str, str, str]:
    """One goal: what, who, beside whom, the bound, what was measured, and whether that is enough."""
    goal, measured = verdict.goal, verdict.measured
    who = f"{goal.candidate}, {goal.loop}"
    beside = f"{goal.against[0]}, {goal.against[1]}" if goal.against else ""
    if measured is None:
        return (goal.benchmark, who, beside, _bound(verdict), "", "not measured")
    value = amount(measured, verdict.unit) if verdict.unit else f"{measured:.2f}"
    return (goal.benchmark, who, beside, _bound(verdict), value, _outcome(verdict))


def _outcome(verdict: Verdict) -> str:
    """In a word, and of a quick run not even that."""
    if verdict.share > 1:
        return f"not judged: a {verdict.share}th of the size"
    return "met" if verdict.met() else "missed"


def _bound(verdict: Verdict) -> str:
    goal = verdict.goal
    if goal.at_least is not None:
        return f"at least {goal.at_least:g}"
    return "handled next" if goal.at_most is None else f"at most {goal.at_most:,g} {verdict.unit}".rstrip()
