"""A run as Markdown tables, put between the marks of a page: nobody types a number.

A page has ``<!-- begin: NAME -->`` and ``<!-- end: NAME -->``, each on a line of its own, where NAME is a topic (``send``),
``goals``, ``notes``, ``ahead`` or ``environment``. What stands between them is replaced.
"""

from __future__ import annotations

import re
import statistics
from typing import TYPE_CHECKING

import report
from harness import NO_LOOP, Kind, Result, ratios

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from goals import Verdict
    from record import Run

MARKED = re.compile(r"(<!-- begin: (?P<name>[^\n]+?) -->\n).*?(<!-- end: (?P=name) -->)", re.DOTALL)


class UnknownMarkError(Exception):
    """A page asks for what the run does not have."""


def refresh(path: Path, run: Run, verdicts: Sequence[Verdict]) -> None:
    """Replace everything between the marks of a page.

    Raises:
        UnknownMarkError: if the run has nothing of a name; the page is left as it is.
    """
    parts = {name: table(results) for name, results in run.topics().items()}
    parts |= {
        "environment": environment(run),
        "goals": goals(verdicts),
        "notes": notes(run.results),
        "ahead": ahead(run.results),
    }

    def replaced(match: re.Match[str]) -> str:
        name = match["name"]
        if name not in parts:
            raise UnknownMarkError(f"{path} asks for {name!r}; this run has {', '.join(sorted(parts))}")
        return f"{match[1]}{parts[name]}\n{match[3]}"

    path.write_text(MARKED.sub(replaced, path.read_text()))


def table(results: Sequence[Result]) -> str:
    """One topic: a row for each candidate, a column for each place."""
    places = list(dict.fromkeys(result.loop for result in results))
    cells = {(result.benchmark, result.candidate, result.loop): _cell(result) for result in results}
    lines = [_line(["benchmark", "candidate", *places]), _line(["---", "---", *["---:"] * len(places)])]
    labels = {result.benchmark: _label(result) for result in results}
    for title, candidate, is_limit in _rows(results):
        values = [cells.get((title, candidate, place), "") for place in places]
        name = f"*{candidate}*" if is_limit else candidate
        lines.append(
            _line([labels.pop(title, ""), name, *values])
        )  # each benchmark's name stands in its first row only
    return "\n".join([*lines, "", *_small_print(results)])


def _rows(results: Sequence[Result]) -> list[tuple[str, str, bool]]:
    """Benchmark by benchmark, the candidates of all places, the limits first."""
    titles = list(dict.fromkeys(result.benchmark for result in results))
    rows = dict.fromkeys((result.benchmark, result.candidate, result.is_limit) for result in results)
    return sorted(rows, key=lambda row: (titles.index(row[0]), not row[2]))


def _label(result: Result) -> str:
    return f"{result.benchmark} ({result.reading})" if result.reading else result.benchmark


def _small_print(results: Sequence[Result]) -> list[str]:
    """What the operations are, a line for each benchmark."""
    firsts = {result.benchmark: result for result in reversed(results)}
    return [f"- {title}: {report.small_print(firsts[title])}" for title in reversed(firsts)]


def _cell(result: Result) -> str:
    value = report.amount(result.value(), "" if result.reading else "µs").strip()
    speed = result.speed()
    return value if speed is None or result.is_limit else f"{value}, **{speed:.2f}**"


def goals(verdicts: Sequence[Verdict]) -> str:
    """What was to be reached, and what was."""
    heading = ["benchmark", "candidate", "compared with", "goal", "measured", ""]
    rows = [[*report.goal_cells(verdict)] for verdict in verdicts]
    return "\n".join([_line(heading), _line(["---", "---", "---", "---:", "---:", "---"]), *map(_line, rows)])


def notes(results: Sequence[Result]) -> str:
    """What to know of some candidates."""
    return "\n".join(f"- {note}" for note in report.notes(results))


def ahead(results: Sequence[Result]) -> str:
    """Where another library is faster than rookery, a line for each benchmark and library, and by how much."""
    lines: dict[tuple[str, str], list[str]] = {}
    for peer in results:
        if peer.kind is Kind.PEER:
            for own in _fastest_beside(peer, results):
                times = statistics.median(ratios(own.values, peer.values))
                if times > 1:
                    beside = f"{times:.2f} times as fast as {own.candidate} on {own.loop}"
                    lines.setdefault((peer.benchmark, peer.candidate), []).append(beside)
    said = [f"- {title}: {name} is {', '.join(beside)}." for (title, name), beside in lines.items()]
    return "\n".join(said or ["Nowhere in this run."])


def _fastest_beside(peer: Result, results: Sequence[Result]) -> list[Result]:
    """What rookery does fastest on the peer's loop, or on each loop if the peer has none."""
    own = [one for one in results if one.kind is Kind.ROOKERY and one.benchmark == peer.benchmark and not one.is_limit]
    places = dict.fromkeys(one.loop for one in own if peer.loop in {one.loop, NO_LOOP})
    return [min((one for one in own if one.loop == place), key=Result.value) for place in places]


def environment(run: Run) -> str:
    """The machine, the commit and the versions, the number of rounds."""
    known = run.environment
    versions = ", ".join(f"{name} {value}" for name, value in known.items() if name not in MACHINE and value)
    quick = f", with a {run.share}th of the operations" if run.share > 1 else ""
    few = " and ".join(dict.fromkeys(result.benchmark for result in run.results if len(result.values) < run.rounds))
    rounds = f"{run.rounds} rounds{f', fewer for {few}' if few else ''}{quick}"
    return f"{known['system']}, {known['cpu_count']} cores ({known['processor']}); {versions}; {rounds}."


MACHINE = ("system", "processor", "cpu_count")


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
