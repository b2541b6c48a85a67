"""When commands ran, how often kernels did, and a trace of it all. No OpenCL in here."""

from __future__ import annotations

import itertools
import math
from collections import deque
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, final

import attrs

from rookery._core.within import within_actor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from ._operation import Operation

KEPT: Final = 100_000
"""Operations that a trace goes back."""
ACTORS: Final = 1000
"""Actors whose launches of a kernel are counted apart at least: those that launched it last."""
OUTSIDE: Final = ""
"""Where launches are counted that no actor made."""
OTHERS: Final = "(others)"
"""Where those are counted of actors that have not launched the kernel for long. No path: these begin with a slash."""
MICROSECONDS: Final = 1e6


@attrs.frozen
class OperationProfile:
    """When an operation was where, in seconds on the clock of `time.perf_counter`, as far as the device tells."""

    queued: float
    """When it was put into its queue."""
    submitted: float
    """When the driver gave it to the device."""
    started: float
    ended: float

    @property
    def seconds(self) -> float:
        """How long it ran."""
        return self.ended - self.started

    @property
    def waited(self) -> float:
        """How long it stood in its queue, in seconds."""
        return self.started - self.queued


@attrs.frozen
class KernelStatistics:
    """What became of the launches of a kernel, or of all kernels of one name; warm-ups are not among them."""

    launched: int
    completed: int
    failed: int
    seconds: float | None
    """How long all that are completed ran on the device; only with ``open_device(profile=True)``."""


@final
class Tally:
    """Counts the launches of one kernel by one actor; something that its operations use, and hears of them so."""

    __slots__ = ("completed_well", "failed", "launched", "seconds", "seen")

    def __init__(self) -> None:
        self.launched: int = 0
        self.completed_well: int = 0
        self.failed: int = 0
        self.seconds: float = 0.0
        self.seen: int = 0
        """What had been launched when that was last looked at."""

    @property
    def rests(self) -> bool:
        """Whether nothing was launched since then, and nothing is on its way, so that it hears of nothing more."""
        return self.launched == self.seen == self.completed_well + self.failed

    def add(self, other: Tally) -> None:
        """Count what another one has counted."""
        self.launched += other.launched
        self.completed_well += other.completed_well
        self.failed += other.failed
        self.seconds += other.seconds

    def started(self, operation: Operation) -> None:  # noqa: ARG002 - part of the protocol
        """A launch is on its way."""
        self.launched += 1

    def completed(self, operation: Operation) -> None:
        """A launch is over."""
        if operation.failed:
            self.failed += 1
            return
        self.completed_well += 1
        if operation.profile is not None:
            self.seconds += operation.profile.seconds

    def statistics(self, *, timed: bool) -> KernelStatistics:
        """The counts at this moment."""
        return KernelStatistics(self.launched, self.completed_well, self.failed, self.seconds if timed else None)


@final
class Tallies:
    """Counts the launches of one kernel, apart for each actor that launches it."""

    __slots__ = ("_by_actor", "_enough", "_others")

    def __init__(self) -> None:
        self._by_actor: dict[str, Tally] = {}
        self._others = Tally()
        self._enough = ACTORS

    def mine(self) -> Tally:
        """Where a launch is counted that the running code makes."""
        actor = within_actor.get()
        path = OUTSIDE if actor is None else actor.path
        tally = self._by_actor.get(path)
        return self._add(path) if tally is None else tally

    def _add(self, path: str) -> Tally:
        if len(self._by_actor) >= self._enough:
            self._fold()
            self._enough = len(self._by_actor) + ACTORS
        tally = self._by_actor[path] = Tally()
        return tally

    def _fold(self) -> None:
        """Count those together who have not launched it since this was last done, which is so many actors ago."""
        for path, tally in [*self._by_actor.items()]:
            if tally.rests and path != OUTSIDE:
                self._others.add(self._by_actor.pop(path))
            tally.seen = tally.launched

    def each(self) -> Iterator[tuple[str, Tally]]:
        """Each actor that launched it, by its path, and what was counted."""
        yield from self._by_actor.items()
        if self._others.launched:
            yield OTHERS, self._others

    def total(self) -> Tally:
        """All launches, whoever made them."""
        total = Tally()
        for _, tally in self.each():
            total.add(tally)
        return total


def count_by_actor(tallies: Mapping[str, Tallies], *, timed: bool) -> dict[str, dict[str, KernelStatistics]]:
    """What each actor launched: counts by its path and the name of the kernel.

    Args:
        tallies: Those of each kernel, by its name.
        timed: Whether times were taken.
    """
    counted: dict[str, dict[str, KernelStatistics]] = {}
    for kernel, by_actor in tallies.items():
        for path, tally in by_actor.each():
            counted.setdefault(path, {})[kernel] = tally.statistics(timed=timed)
    return counted


@attrs.frozen
class Record:
    """An operation that is over."""

    row: str
    name: str
    profile: OperationProfile
    actor: str | None
    """The path of the actor that started it; None if it was started outside of all."""


@final
class Recorder:
    """Remembers the latest operations of a device, for a trace."""

    __slots__ = ("records",)

    def __init__(self) -> None:
        self.records: deque[Record] = deque(maxlen=KEPT)

    def command(self, row: str) -> Recording:
        """What a command of a queue uses in order to be remembered, in that row."""
        return Recording(self, row)

    def host_work(self, row: str, work: Callable[[], object]) -> HostWork:
        """Work of the host's own that takes its time, and what its operation uses in order to be remembered."""
        return HostWork(self, row, work)


class Recording:
    """Something that an operation uses, in order to be remembered."""

    __slots__ = ("_actor", "_recorder", "_row")

    def __init__(self, recorder: Recorder, row: str) -> None:
        self._recorder = recorder
        self._row = row
        actor = within_actor.get()
        self._actor = None if actor is None else actor.path

    def started(self, operation: Operation) -> None:
        """It is on its way."""

    def completed(self, operation: Operation) -> None:
        """It is over, and remembered unless it failed: then there are no times."""
        if operation.profile is not None:
            self._recorder.records.append(Record(self._row, operation.label, operation.profile, self._actor))


@final
class HostWork(Recording):
    """Work that takes its time, because no device does."""

    __slots__ = ("_ended", "_queued", "_started", "_work")

    def __init__(self, recorder: Recorder, row: str, work: Callable[[], object]) -> None:
        super().__init__(recorder, row)
        self._work = work
        self._queued = self._started = self._ended = perf_counter()

    def __call__(self) -> None:
        """Do it, in a thread."""
        self._started = perf_counter()
        self._work()
        self._ended = perf_counter()

    def completed(self, operation: Operation) -> None:
        """It is over."""
        if not operation.failed:
            operation.profile = OperationProfile(self._queued, self._started, self._started, self._ended)
        super().completed(operation)


def chrome_trace(process: int, name: str, records: Iterable[Record]) -> dict[str, Any]:
    """Records in Chrome's Trace Event Format, which chrome://tracing and ui.perfetto.dev show.

    Args:
        process: The number of the group of rows.
        name: What to call it.
        records: What is shown: there is one row for each `Record.row`, and for each actor, with the same operations.
    """
    rows: dict[str, int] = {}
    events: list[dict[str, Any]] = []
    ends: dict[str, float] = {}
    for record in sorted(records, key=lambda one: one.profile.started):
        shown = [record.row] if record.actor is None else [record.row, _free_row(record, ends)]
        events += [_shown(record, process, rows.setdefault(row, len(rows))) for row in shown]
    named = [
        _named("process_name", process, 0, name),
        *(_named("thread_name", process, rows[row], row) for row in rows),
    ]
    return {"traceEvents": named + events, "displayTimeUnit": "ms"}


def _free_row(record: Record, ends: dict[str, float]) -> str:
    """A row of the actor's in which nothing else runs then: what overlaps in one row cannot be shown."""
    first = f"actor {record.actor}"
    names = itertools.chain([first], (f"{first} ({number})" for number in itertools.count(2)))
    row = next(name for name in names if ends.get(name, -math.inf) <= record.profile.started)
    ends[row] = record.profile.ended
    return row


def _shown(record: Record, process: int, row: int) -> dict[str, Any]:
    times = record.profile
    told = {"queued": times.queued * MICROSECONDS, "submitted": times.submitted * MICROSECONDS}
    return {
        "ph": "X",
        "pid": process,
        "tid": row,
        "name": record.name,
        "ts": times.started * MICROSECONDS,
        "dur": times.seconds * MICROSECONDS,
        "args": told if record.actor is None else {**told, "actor": record.actor},
    }


def _named(what: str, process: int, row: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "pid": process, "tid": row, "name": what, "args": {"name": name}}
