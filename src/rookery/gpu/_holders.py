"""Who holds device memory, and where they took it: leaks and deadlocks are reported with it, in debug mode."""

from __future__ import annotations

import contextlib
import inspect
import itertools
import logging
from pathlib import Path
from traceback import StackSummary, walk_stack
from typing import TYPE_CHECKING, Final, final

import anyio
import attrs

if TYPE_CHECKING:
    from collections.abc import Sequence

logger: Final = logging.getLogger("rookery.gpu")

FRAMES: Final = 8
"""Lines of a traceback that are shown, the innermost ones."""
SHOWN: Final = 5
"""Buffers that one report shows; the others are counted."""
_OURS: Final = str(Path(__file__).parent)
_BETWEEN: Final = (_OURS, contextlib.__file__)


@attrs.frozen
class Origin:
    """Who acquired a buffer, and where."""

    task: int
    """The number that anyio gives the task."""
    name: str
    stack: StackSummary = attrs.field(repr=False)

    def __str__(self) -> str:
        return f"task {self.name!r}, at\n{''.join(self.stack.format())}".rstrip()


@attrs.frozen
class Held:
    """What somebody holds or waits for."""

    what: str
    nbytes: int
    origin: Origin

    def __str__(self) -> str:
        return f"{self.what}, {self.nbytes:,} bytes: {self.origin}"


def current_origin() -> Origin:
    """The task that runs now, and what it is doing."""
    frames = walk_stack(inspect.currentframe())
    outside = itertools.dropwhile(lambda frame: frame[0].f_code.co_filename.startswith(_BETWEEN), frames)
    # The lines themselves are read only when they are shown.
    stack = StackSummary.extract(itertools.islice(outside, FRAMES), lookup_lines=False)
    stack.reverse()
    task = anyio.get_current_task()
    return Origin(task.id, task.name or str(task.id), stack)


@final
class Watch:
    """Looks out for leaks and deadlocks of a pool, and reports them to the log ``rookery.gpu``."""

    __slots__ = ("_device", "_reported", "_waiting")

    def __init__(self, device: str) -> None:
        self._device = device
        self._waiting: dict[int, Held] = {}
        self._reported = False

    def leaked(self, lost: Held) -> None:
        """A buffer was collected that nobody had released."""
        logger.warning(
            "%s: a buffer was never released, its memory came back when it was collected: release it, or lease it with "
            "`async with pool.lease(shape)`. It was acquired as %s",
            self._device,
            lost,
        )

    def closed(self, held: Sequence[Held]) -> None:
        """The device was closed while buffers were not released."""
        if held:
            logger.warning(
                "%s was closed with %s of %s bytes not released:\n%s",
                self._device,
                "1 buffer" if len(held) == 1 else f"{len(held)} buffers",
                f"{sum(one.nbytes for one in held):,}",
                _listing(held),
            )

    def waits(self, wanted: Held) -> None:
        """A task is about to wait for memory."""
        self._waiting[wanted.origin.task] = wanted

    def waits_no_more(self, wanted: Held) -> None:
        """The task got it, or gave up."""
        self._waiting.pop(wanted.origin.task, None)
        self._reported = False

    def look(self, holding: Sequence[Held]) -> None:
        """Report a deadlock if everybody who holds memory waits for more, once for each time that happens.

        Args:
            holding: What is held, by whom. Nothing of it comes back by itself, and nobody was granted more.
        """
        if self._reported or not holding or not {one.origin.task for one in holding} <= self._waiting.keys():
            return
        self._reported = True
        logger.error(
            "%s: deadlock, every task that holds its memory waits for more of it. Acquire what belongs together in one "
            "order, or release before you wait, or give the device a larger memory_limit.\nHeld:\n%s\nWaited for:\n%s",
            self._device,
            _listing(holding),
            _listing(list(self._waiting.values())),
        )


def _listing(held: Sequence[Held]) -> str:
    more = [f"- and {len(held) - SHOWN} more"] if len(held) > SHOWN else []
    return "\n".join([*(f"- {one}" for one in held[:SHOWN]), *more])
