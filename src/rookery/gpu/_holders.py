"""Who holds device memory, and where they took it: leaks and deadlocks are reported with it, in debug mode."""

from __future__ import annotations

import contextlib
import inspect
import itertools
import logging
from pathlib import Path
from traceback import StackSummary, walk_stack
from typing import TYPE_CHECKING, Any, Final, final
from weakref import WeakSet, ref

import anyio
import attrs
from anyio.lowlevel import RunVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rookery._core.waiting import Latch

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
    coroutine: ref[Any] | None = attrs.field(repr=False)
    """What the task runs; None if that does not tell whether it has ended, such as the next item of a generator."""

    @property
    def ended(self) -> bool:
        """Whether the task is known to be over. Another one may have its number then."""
        if self.coroutine is None:
            return False
        coroutine = self.coroutine()
        return coroutine is None or inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED

    def __str__(self) -> str:
        ended = ", which has ended" if self.ended else ""
        return f"task {self.name!r}{ended}, at\n{''.join(self.stack.format())}".rstrip()


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
    coroutine: Any = task.coro
    return Origin(task.id, task.name or str(task.id), stack, ref(coroutine) if inspect.iscoroutine(coroutine) else None)


@final
class Watch:
    """Looks out for leaks and deadlocks of a pool, and reports them to the log ``rookery.gpu``.

    The watches of one event loop know each other: tasks may wait for each other's memory of several devices.

    Args:
        device: Whose pool it is.
        held_for_good: What is held, by whom, if nothing of it comes back by itself and nobody was granted more; else None.
    """

    __slots__ = ("__weakref__", "_device", "_held_for_good", "_of_loop", "_reported", "_waiting")

    def __init__(self, device: str, held_for_good: Callable[[], Sequence[Held] | None]) -> None:
        self._device = device
        self._held_for_good = held_for_good
        self._waiting: dict[int, tuple[Held, Latch | None]] = {}
        self._reported: frozenset[int] = frozenset()  # who was in the last deadlock
        of_loop = _watches.get(None)
        if of_loop is None:
            _watches.set(of_loop := WeakSet[Watch]())
        of_loop.add(self)
        self._of_loop = of_loop

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

    def waits(self, wanted: Held, until: Latch | None) -> None:
        """A task is about to wait for memory, or until something has happened."""
        self._waiting[wanted.origin.task] = wanted, until

    def waits_no_more(self, wanted: Held) -> None:
        """The task got it, or gave up."""
        self._waiting.pop(wanted.origin.task, None)

    def look(self) -> None:
        """Report a deadlock if everybody who holds memory waits for more, once for each time that happens."""
        knot = self._knot() if self._waiting else {}
        members = frozenset(map(id, knot))
        if not knot:
            self._reported = members
        if all(watch._reported == members for watch in knot):
            return
        for watch in knot:
            watch._reported = members
        several = len(knot) > 1
        logger.error(
            "%s: deadlock, every task that holds %s memory waits for more of it. Acquire what belongs together in one "
            "order, or release before you wait, or give the device a larger memory_limit.\n%s",
            " and ".join(watch._device for watch in knot),
            "their" if several else "its",
            "\n".join(watch._situation(held, named=several) for watch, held in knot.items()),
        )

    def _knot(self) -> dict[Watch, Sequence[Held]]:
        """What is held here, and where those who hold it wait, and so on; nothing if one of them goes on."""
        knot: dict[Watch, Sequence[Held]] = {}
        to_see = [self]
        while to_see:
            watch = to_see.pop()
            if watch in knot:
                continue
            held = watch._held_for_good()
            # What a task left behind that has ended, others may have, who release it.
            if not held or any(one.origin.ended for one in held):
                return {}
            knot[watch] = held
            for task in {one.origin.task for one in held}:
                waited_for = [other for other in self._of_loop if other._is_waited_for_by(task)]
                if not waited_for:
                    return {}
                to_see += waited_for
        return knot if any(watch._lacks_memory for watch in knot) else {}

    def _is_waited_for_by(self, task: int) -> bool:
        _, until = self._waiting.get(task, (None, None))
        return task in self._waiting and not (until is not None and until.is_set)

    @property
    def _lacks_memory(self) -> bool:
        """Whether anybody waits for memory itself."""
        return any(until is None for _, until in self._waiting.values())

    def _situation(self, held: Sequence[Held], *, named: bool) -> str:
        of = f" of {self._device}" if named else ""
        wanted = [wanted for wanted, _ in self._waiting.values()]
        return f"Held{of}:\n{_listing(held)}\nWaited for{of}:\n{_listing(wanted)}"


_watches: Final[RunVar[WeakSet[Watch]]] = RunVar("rookery.gpu watches")


def _listing(held: Sequence[Held]) -> str:
    more = [f"- and {len(held) - SHOWN} more"] if len(held) > SHOWN else []
    return "\n".join([*(f"- {one}" for one in held[:SHOWN]), *more])
