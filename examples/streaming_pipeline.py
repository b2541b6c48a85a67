"""Parser, aggregator, sink: three ring kernels in a row behind a source, and the slowest sets the pace of all.

They turn 32 years of monthly share prices, a file that comes with matplotlib, into a database with a row for each
share and year. The database is slow and the queues are short, so the source is held back: the picture shows how full
each queue was.
`python examples/streaming_pipeline.py`, or with the path of a picture to be drawn.
"""

# pyright: reportUnknownMemberType=false
# The types of matplotlib's keyword arguments are incomplete.

import functools
import sqlite3
import sys
import time
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from uuid import UUID

import attrs
import trio
from matplotlib import get_data_path
from matplotlib.figure import Figure
from rich import box
from rich.console import Console
from rich.table import Table

from rookery import ActorStopped, ring

STAGES = ("parser", "aggregator", "sink")
PLACES = 8
PICTURE = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).with_name("out") / "streaming_pipeline.png")


@ring.message
class Line(ring.Message):
    text: str


@ring.message
class Price(ring.Message):
    share: str
    year: int
    price: float


@ring.message
class Year(ring.Message):
    """What a share cost first and last in a year. It correlates with the line that completed it."""

    share: str
    year: int
    first: float
    last: float


@ring.message
class End(ring.Message):
    """There is no more: what is done with this passes it on and ends."""


async def parser(ctx: ring.KernelContext[Line | End, Price], shares: list[str]) -> None:
    """A line has a date and a price for each share, or nothing where there was none."""
    while isinstance(line := await ctx.receive(), Line):
        date, *prices = line.text.split(",")
        for share, price in zip(shares, prices, strict=True):
            if price:
                await ctx.send(Price(share, int(date[:4]), float(price), correlation_id=line.message_id))


async def aggregator(ctx: ring.KernelContext[Price | End, Year]) -> None:
    """Keeps one year of each share, until the next one begins."""
    years: dict[str, Year] = {}
    while isinstance(item := await ctx.receive(), Price):
        year = years.get(item.share)
        if year is None or year.year != item.year:
            if year is not None:
                year.correlation_id = item.correlation_id
                await ctx.send(year)
            year = years[item.share] = Year(item.share, item.year, item.price, item.price)
        year.last = item.price
    for year in years.values():
        await ctx.send(year)


async def sink(ctx: ring.KernelContext[Year | End, Year], database: sqlite3.Connection) -> None:
    """Write each row, and wait until it is on the disk; in a thread, so that nobody else has to wait."""

    def write(year: Year) -> None:
        with database:
            database.execute("insert into years values (?, ?, ?, ?)", (year.share, year.year, year.first, year.last))

    while isinstance(year := await ctx.receive(), Year):
        await trio.to_thread.run_sync(write, year)
        await ctx.send(year)


async def pass_on(runtime: ring.RingKernelRuntime, here: str, there: str) -> None:
    """What one kernel sends, the next one gets. When the one has ended, the other is told so."""
    try:
        while True:
            await runtime.send(there, await runtime.receive(here))
    except ActorStopped:
        await runtime.send(there, End())


@attrs.define
class Flow:
    """What was seen of a run.

    Attributes:
        began: When.
        sent: When each line was sent, by its id.
        waited: Seconds that the source waited for room, all in all.
        delays: Seconds from sending the line that completed a year until the row was on the disk.
        depths: When it was looked, how many lines had been sent, and how many messages were queued at each kernel.
    """

    began: float = attrs.field(factory=time.perf_counter)
    sent: dict[UUID, float] = attrs.field(factory=dict[UUID, float])
    waited: float = 0.0
    delays: list[float] = attrs.field(factory=list[float])
    depths: list[tuple[float, int, list[int]]] = attrs.field(factory=list[tuple[float, int, list[int]]])

    async def send(self, runtime: ring.RingKernelRuntime, lines: list[str]) -> None:
        """The source: as fast as the parser lets it."""
        for text in lines:
            line = Line(text)
            self.sent[line.message_id] = began = time.perf_counter()
            await runtime.send("parser", line)
            self.waited += time.perf_counter() - began
        await runtime.send("parser", End())

    async def receive(self, runtime: ring.RingKernelRuntime) -> None:
        """What is on the disk; until the last kernel has ended."""
        while True:
            try:
                year: Year = await runtime.receive("sink")
            except ActorStopped:
                return
            if year.correlation_id is not None:  # the file's last year is completed by its end
                self.delays.append(time.perf_counter() - self.sent[year.correlation_id])

    async def watch(self, runtime: ring.RingKernelRuntime) -> None:
        """How full the queues are."""
        while True:
            telemetry = runtime.get_all_telemetry()
            depths = [telemetry[stage].queue_depth for stage in STAGES]
            self.depths.append((time.perf_counter() - self.began, len(self.sent), depths))
            await trio.sleep(0.002)


async def run(lines: list[str], shares: list[str], database: sqlite3.Connection) -> tuple[Flow, Table]:
    """All of it, and a table of the kernels."""
    async with ring.RingKernelRuntime() as runtime, trio.open_nursery() as nursery:
        await runtime.launch("parser", functools.partial(parser, shares=shares), queue_size=PLACES)
        await runtime.launch("aggregator", aggregator, queue_size=PLACES)
        await runtime.launch("sink", functools.partial(sink, database=database), queue_size=PLACES)
        for stage in STAGES:
            await runtime.activate(stage)
        flow = Flow()
        nursery.start_soon(flow.watch, runtime)
        for here, there in pairwise(STAGES):
            nursery.start_soon(pass_on, runtime, here, there)
        nursery.start_soon(flow.send, runtime, lines)
        await flow.receive(runtime)
        nursery.cancel_scope.cancel()

        table = Table("kernel", "messages", "fullest queue", "median of a message", box=box.SIMPLE)
        for place, (stage, seen) in enumerate(runtime.get_all_telemetry().items()):
            fullest = max(depths[place] for _, _, depths in flow.depths)
            messages, median = f"{seen.messages_processed:,}", f"{seen.p50_latency * 1e6:,.0f} µs"
            table.add_row(stage, messages, f"{fullest} of {PLACES}", median)
    return flow, table


def draw(flow: Flow) -> None:
    """The lines that were sent, and below them the queues."""
    times = [when for when, _, _ in flow.depths]
    figure = Figure(figsize=(11, 7), layout="constrained")
    source, *queues = figure.subplots(1 + len(STAGES), 1, sharex=True, height_ratios=[2, 1, 1, 1])
    source.plot(times, [sent for _, sent, _ in flow.depths], color="#2563eb")
    source.set_title("Lines sent by the source, which the queues hold back", loc="left")
    for place, (stage, axes) in enumerate(zip(STAGES, queues, strict=True)):
        axes.fill_between(times, [depths[place] for _, _, depths in flow.depths], step="post", color="#93c5fd")
        axes.axhline(PLACES, color="#dc2626", linewidth=0.8)
        axes.set_title(f"Queued at the {stage}, of {PLACES} places", loc="left")
        axes.set_ylim(0, PLACES + 1)
    queues[-1].set_xlabel("seconds")
    for axes in (source, *queues):
        axes.spines[["top", "right"]].set_visible(False)
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(PICTURE, dpi=110)


def read() -> tuple[list[str], list[str]]:
    """The lines of the file, and the shares that it has prices of."""
    _, heading, *lines = Path(get_data_path(), "sample_data", "Stocks.csv").read_text().splitlines()
    return lines, heading.split(",")[1:]


def open_database(path: Path) -> sqlite3.Connection:
    """A new one, for use in worker threads, one at a time."""
    database = sqlite3.connect(path, check_same_thread=False)
    database.execute("create table years (share text, year integer, first real, last real)")
    return database


async def main() -> None:
    lines, shares = read()
    with TemporaryDirectory() as folder, closing(open_database(Path(folder, "years.db"))) as database:
        flow, table = await run(lines, shares, database)
        (rows,) = database.execute("select count(*) from years").fetchone()
    columns = zip(shares, zip(*(line.split(",")[1:] for line in lines), strict=True), strict=True)
    years = {(share, line[:4]) for share, prices in columns for line, price in zip(lines, prices, strict=True) if price}
    assert rows == len(years), f"{rows} rows, and {len(years)} years of a share in the file"

    Console().print(table)
    seconds, sent, _ = flow.depths[-1]
    print(
        f"{sent} lines became {rows} rows in {seconds:.1f} s, of which the source waited {flow.waited:.1f} s for room"
    )
    print(f"from a line to the row that it completed, on the disk: {median(flow.delays) * 1e3:.0f} ms")
    draw(flow)
    print(f"picture: {PICTURE}")


if __name__ == "__main__":
    trio.run(main)
