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
    from collections.abc import Callable, Iterable

    from ._lane import Operation

KEPT: Final = 100_000
"""Operations that a trace goes back."""
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
    """What became of the launches of a kernel, or of all kernels of one name."""

    launched: int
    completed: int
    failed: int
    seconds: float | None
    """How long all that are completed ran on the device; only with ``open_device(profile=True)``."""


@final
class Tally:
    """Counts the launches of one kernel; something that its operations use, and hears of them so."""

    __slots__ = ("completed_well", "failed", "launched", "seconds")

    def __init__(self) -> None:
        self.launched: int = 0
        self.completed_well: int = 0
        self.failed: int = 0
        self.seconds: float = 0.0

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
