"""Anomaly detection on a recorded series: days on which a share's price moved as it had not moved for weeks.

The series is what Google's shares cost from 2004 to 2008, which comes with matplotlib. The detector sees one day after
another and knows only those before: `python examples/anomaly.py`, or with the path of a picture to be drawn.
"""

# pyright: reportUnknownMemberType=false
# The types of matplotlib's keyword arguments are incomplete.

import math
import sys
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import trio
from matplotlib import get_data_path
from matplotlib.figure import Figure
from rich import box
from rich.console import Console
from rich.table import Table

from rookery import ActorStopped, ring

WEEKS = 6
MEMORY = 1 - 1 / (5 * WEEKS)  # how much of what a usual day is like is left after one more day
THRESHOLD = 4.0
PICTURE = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).with_name("out") / "anomaly.png")

# When Google told its quarter's results, after the exchange had closed. Only the table looks at it, not the detector.
REPORTS = """
2004-10-21 2005-02-01 2005-04-21 2005-07-21 2005-10-20 2006-01-31 2006-04-20 2006-07-20
2006-10-19 2007-01-31 2007-04-19 2007-07-19 2007-10-18 2008-01-31 2008-04-17 2008-07-17
"""
REPORTED = {date.fromisoformat(day) for day in REPORTS.split()}


@ring.message
class Day(ring.Message):
    day: date
    price: float


@ring.message
class End(ring.Message):
    """There are no more days."""


@ring.message
class Anomaly(ring.Message):
    """The price moved by ``move``, which is so many times as far as it usually did."""

    day: date
    price: float
    move: float
    times: float


@ring.ring_kernel(kernel_id="detector", input_type=Day | End, output_type=Anomaly, queue_size=16)
async def detector(ctx: ring.KernelContext[Day | End, Anomaly]) -> None:
    """Compare each day's move with the usual one: the root of the mean square of those before, the latest weighing most.

    An unusual day counts as if it had been at the threshold, or the days behind it would all look calm.
    """
    price, square, moves = math.nan, 0.0, 0
    while isinstance(today := await ctx.receive(), Day):
        if price > 0:  # there is a day before
            move = today.price / price - 1
            usual = math.sqrt(square / (1 - MEMORY**moves)) if moves else math.inf
            if moves >= 5 * WEEKS and abs(move) > THRESHOLD * usual:
                times = abs(move) / usual
                await ctx.send(Anomaly(today.day, today.price, move, times, correlation_id=today.message_id))
                move = THRESHOLD * usual
            square, moves = MEMORY * square + (1 - MEMORY) * move**2, moves + 1
        price = today.price


async def detect(series: list[Day]) -> list[Anomaly]:
    """Send all days, and collect what the detector finds meanwhile."""
    found: list[Anomaly] = []

    async def collect() -> None:
        try:
            while True:
                found.append(await runtime.receive("detector"))
        except ActorStopped:
            pass  # it has ended, and everything it sent is here

    async with ring.RingKernelRuntime() as runtime:
        await runtime.launch("detector")
        await runtime.activate("detector")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(collect)
            for day in series:
                await runtime.send("detector", day)  # waits while the detector has 16 days to look at
            await runtime.send("detector", End())
    return found


def table_of(found: list[Anomaly]) -> Table:
    table = Table("day", "price", "moved", "times the usual", "came", box=box.SIMPLE)
    for one in found:
        after = one.day - timedelta(days=1) in REPORTED
        why = "after a quarterly report" if after else ""
        table.add_row(str(one.day), f"${one.price:.2f}", f"{one.move:+.1%}", f"{one.times:.1f}", why)
    return table


def draw(series: list[Day], found: list[Anomaly]) -> None:
    """The prices and the moves, with the anomalies marked."""
    figure = Figure(figsize=(11, 6), layout="constrained")
    prices, moves = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    prices.plot([one.day for one in series], [one.price for one in series], color="#334155", linewidth=1)
    moved = [(today.day, today.price / before.price - 1) for before, today in pairwise(series)]
    moves.bar([day for day, _ in moved], [100 * move for _, move in moved], width=1.5, color="#94a3b8")
    for one in found:
        prices.plot(one.day, one.price, "o", color="#dc2626")
        beside = (-7, 5 if one.move > 0 else -13)  # where the price was not before
        prices.annotate(
            f"{one.move:+.0%}", (one.day, one.price), beside, textcoords="offset points", ha="right", color="#dc2626"
        )
        moves.bar(one.day, 100 * one.move, width=5, color="#dc2626")
    prices.set_title(f"Google's shares: moves of more than {THRESHOLD:g} times the usual of {WEEKS} weeks", loc="left")
    prices.set_ylabel("$")
    moves.set_ylabel("% in a day")
    for axes in (prices, moves):
        axes.spines[["top", "right"]].set_visible(False)
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(PICTURE, dpi=110)


async def main() -> None:
    data = np.load(Path(get_data_path(), "sample_data", "goog.npz"))["price_data"]
    series = [Day(day, price) for day, price in zip(data["date"].tolist(), data["adj_close"].tolist(), strict=True)]
    found = await detect(series)
    Console().print(table_of(found))
    explained = sum(one.day - timedelta(days=1) in REPORTED for one in found)
    print(f"{len(found)} of {len(series):,} days; {explained} came after one of {len(REPORTED)} quarterly reports")
    draw(series, found)
    print(f"picture: {PICTURE}")


if __name__ == "__main__":
    trio.run(main)
