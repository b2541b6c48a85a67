"""What is shown while the demo runs: bars and the tree of actors on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, final

import anyio
import attrs
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ... import Context  # noqa: TC001  # `child` reads the annotations of behaviours

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

REDRAW: Final = 0.1
"""Seconds between two pictures on a terminal."""
REPEAT: Final = 1.0
"""Seconds between two lines about the same work elsewhere."""


@final
@attrs.frozen
class Work:
    """Something that is being done, looked at from outside: those who do it need not know.

    Attributes:
        name: What is done.
        unit: What is counted.
        total: How many there are.
        done: How many are done so far.
        note: What else there is to say.
    """

    name: str
    unit: str
    total: int
    done: Callable[[], int]
    note: Callable[[], str] = attrs.field(default=lambda: "")

    def __str__(self) -> str:
        return f"{self.name}: {self.done():,} of {self.total:,} {self.unit}  {self.note()}".rstrip()


async def display(ctx: Context[None], console: Console, works: Sequence[Work]) -> None:
    """Show how far the works are, until stopped."""
    ctx.ready()
    if not console.is_terminal:
        await tell(ctx, console, works)
        return
    with Live(console=console, auto_refresh=False) as live:
        while True:
            live.update(picture(works, ctx.system.tree()), refresh=True)
            if await stopping_within(ctx, REDRAW):
                break
        live.update(picture(works), refresh=True)


async def tell(ctx: Context[None], console: Console, works: Sequence[Work]) -> None:
    """A line for each work that got on since the last time."""
    told: dict[str, int] = {work.name: 0 for work in works}
    stopping = False
    while not stopping:
        stopping = await stopping_within(ctx, REPEAT)
        for work in works:
            if work.done() > told[work.name]:
                told[work.name] = work.done()
                console.print(str(work), highlight=False)


async def stopping_within(ctx: Context[None], seconds: float) -> bool:
    """Wait so long, or until the actor is to stop; whether it is."""
    with anyio.move_on_after(seconds):
        await ctx.wait_stopping()
    return ctx.stopping


def picture(works: Sequence[Work], tree: str = "") -> Group:
    """One bar for each work, and the tree."""
    bars = Table.grid(padding=(0, 2))
    for work in works:
        count = Text(f"{work.done():>5,} of {work.total:,} {work.unit}", no_wrap=True)
        bars.add_row(work.name, ProgressBar(work.total, work.done(), width=24), count, work.note())
    return Group(bars, Text(tree, style="dim"))


# --- what is logged --------------------------------------------------------------------------------


@contextmanager
def log_shown_on(console: Console) -> Generator[None]:
    """Show what rookery logs as lines on the console, above the bars, instead of leaving it to the process."""
    logger = logging.getLogger("rookery")
    handler, before = ConsoleHandler(console), (logger.level, logger.propagate)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]


@final
class ConsoleHandler(logging.Handler):
    """One line for each record; of an exception only its own words, for the demo's is made on purpose."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record; what goes wrong with that is no concern of whoever logs."""
        try:
            self._console.print(self._line(record), highlight=False)
        except Exception:  # noqa: BLE001  # as every handler does
            self.handleError(record)

    def _line(self, record: logging.LogRecord) -> Text:
        error = record.exc_info[1] if record.exc_info else None
        words = f"{record.getMessage()} ({error})" if error else record.getMessage()
        return Text(words, style="yellow" if record.levelno >= logging.WARNING else "dim")
