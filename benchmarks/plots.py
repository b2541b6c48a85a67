"""A run as pictures, one for each topic: a panel for each benchmark, bars grouped by loop, longer is faster."""

# pyright: reportUnknownMemberType=false
# The types of matplotlib's keyword arguments are incomplete.

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch

import report
from harness import Kind

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from harness import Result
    from record import Run

INK, PALE, BACKGROUND = "#1f2937", "#6b7280", "#ffffff"
LIMIT: Final = "#6b7280"
COLOURS: Final = {Kind.ROOKERY: "#2563eb", Kind.LOOP: "#b6bdc8", Kind.PEER: "#f59e0b"}
LEGEND: Final = (
    (COLOURS[Kind.ROOKERY], "rookery"),
    (LIMIT, "the limit; in brackets the speed beside it"),
    (COLOURS[Kind.LOOP], "what else the loop offers"),
    (COLOURS[Kind.PEER], "another actor library"),
)
COLUMNS: Final = 3
"""Panels side by side, at most."""
CUT: Final = 1.7
"""Where bars are cut, as a multiple of the longest of rookery, the limits and the peers."""
ROW: Final = 0.25
"""The height of a bar with what belongs to it, in inches."""


def draw(run: Run, folder: Path) -> list[Path]:
    """Draw every topic into a folder, as SVG; the files."""
    folder.mkdir(parents=True, exist_ok=True)
    mpl.rcParams.update({"svg.hashsalt": "rookery", "svg.fonttype": "none", "font.size": 9})
    return [_draw_topic(results, folder / f"{_slug(topic)}.svg") for topic, results in run.topics().items()]


def _slug(topic: str) -> str:
    return "-".join(topic.lower().replace(",", "").split())


def _draw_topic(results: Sequence[Result], path: Path) -> Path:
    """One picture."""
    titles = list(dict.fromkeys(result.benchmark for result in results))
    panels = [[result for result in results if result.benchmark == title] for title in titles]
    columns = min(len(panels), COLUMNS)
    lines = [panels[start : start + columns] for start in range(0, len(panels), columns)]
    heights = [max(map(_rows_of, line)) for line in lines]  # panels side by side have bars of the same height
    size = (max(5.2 * columns, 8.0), sum(rows * ROW + 0.8 for rows in heights) + 0.4)
    figure = Figure(figsize=size, facecolor=BACKGROUND, layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1))
    FigureCanvasSVG(figure)
    grid = figure.subplots(len(lines), columns, squeeze=False, height_ratios=heights)
    for row, (line, height) in enumerate(zip(lines, heights, strict=True)):
        for axes, panel in zip(grid[row], line, strict=False):
            _draw_panel(axes, panel, height)
        for axes in grid[row][len(line) :]:
            axes.set_axis_off()
    used = {_colour(result) for result in results}
    handles = [Patch(color=colour, label=label) for colour, label in LEGEND if colour in used]
    figure.legend(handles=handles, loc="outside lower left", ncols=len(handles), frameon=False, labelcolor=INK)
    figure.savefig(path, metadata={"Date": None})
    return path


def _rows_of(panel: Sequence[Result]) -> int:
    """Bars, and a heading for each loop."""
    return len(panel) + len({result.loop for result in panel})


def _draw_panel(axes: Axes, panel: Sequence[Result], rows: int) -> None:
    """One benchmark: from the top down, each loop's name and then its bars."""
    ticks: list[tuple[float, str]] = []
    widest = _widest(panel)
    position = 0.0
    loop = ""
    for result in panel:
        if result.loop != loop:
            loop = result.loop
            axes.text(0, position, f" {loop}", color=INK, weight="bold", va="center")
            position += 1
        _draw_bar(axes, position, result, widest)
        ticks.append((position, result.candidate))
        position += 1
    axes.set_ylim(rows - 0.4, -0.6)
    axes.set_xlim(0, widest * 1.3)
    _dress(axes, panel[0], ticks)


def _widest(panel: Sequence[Result]) -> float:
    """The longest that a bar can be: of those that the loop offers besides, none makes the others unreadable."""
    alike = [result for result in panel if result.is_limit or result.kind is not Kind.LOOP]
    longest = max(_length_of(value, result) for result in panel for value in result.values)
    return min(longest, CUT * max(map(_length, alike))) if alike else longest


def _draw_bar(axes: Axes, position: float, result: Result, widest: float) -> None:
    """A bar, how far the rounds were apart, and the number; a bar that would be too long ends with an arrow."""
    length = _length(result)
    shown = min(length, widest)
    axes.barh(position, shown, height=0.72, color=_colour(result))
    rounds = [min(_length_of(value, result), widest) for value in result.values]
    axes.plot([min(rounds), max(rounds)], [position, position], color=INK, linewidth=0.9)
    speed = result.speed()
    beside = "" if speed is None or result.is_limit else f"  ({speed:.2f})"
    text = f"{'' if shown == length else '→ '}{_number(length, result)}{beside}"
    axes.text(max(*rounds, shown) + widest * 0.015, position, text, color=INK, va="center")


def _dress(axes: Axes, first: Result, ticks: Sequence[tuple[float, str]]) -> None:
    """Title, names, and nothing that is not needed."""
    unit = f"{first.reading}; shorter is better" if first.reading else f"{first.unit}: so many in a second"
    axes.set_title(first.benchmark, loc="left", color=INK, weight="bold")
    axes.set_xlabel(unit, color=PALE, loc="left")
    axes.set_yticks([position for position, _ in ticks], [name for _, name in ticks], color=INK)
    axes.set_xticks([])
    axes.tick_params(length=0)
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)
    axes.spines["left"].set_color("#d1d5db")


def _colour(result: Result) -> str:
    return LIMIT if result.is_limit else COLOURS[result.kind]


def _length(result: Result) -> float:
    return _length_of(result.value(), result)


def _length_of(value: float, result: Result) -> float:
    """Operations in a second; a reading as it is."""
    return value if result.reading else 1e6 / value


def _number(length: float, result: Result) -> str:
    """The length in words."""
    if result.reading or length < 1000:
        return report.amount(length, "").strip()
    return report.amount(length / 1000, "k") if length < 1e6 else report.amount(length / 1e6, "M")
