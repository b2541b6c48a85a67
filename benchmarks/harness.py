"""Run candidates in interleaved rounds, each beside its limit, and report medians and ratios.

A machine that others use too is faster in one second than in the next. So no number here stands alone: in every
round each candidate runs next to its limit, on the same event loop, and what is reported of speed is the ratio of
the two. The absolute times are the medians of the rounds.

A *suite* is a function that returns the benchmarks for one place, which is a loop of `LOOPS` or `NO_LOOP`. All of them
stand in `suites.py`; the harness knows nothing of actors.
"""

from __future__ import annotations

import enum
import gc
import importlib.util
import statistics
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import anyio
import attrs
from rich.progress import track

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

LOOPS: Final[dict[str, dict[str, Any]]] = {
    "trio": {"backend": "trio"},
    "asyncio": {"backend": "asyncio"},
    "uvloop": {"backend": "asyncio", "backend_options": {"use_uvloop": True}},
}
"""The event loops, and what anyio calls them."""

NO_LOOP: Final = "no loop"
"""The place of what runs without an event loop, or brings processes and loops of its own."""


class WrongResultError(Exception):
    """A benchmark did not do the work whose time it measured."""


def expect(actual: object, expected: object, what: str) -> None:
    """Check the result of a benchmark.

    Raises:
        WrongResultError: if it is not the expected one.
    """
    if actual != expected:
        raise WrongResultError(f"{what}: {actual!r}, where {expected!r} was expected")


Measure: TypeAlias = "Callable[[int], Awaitable[float] | float]"
"""Does that many operations, one at least, checks their result, and returns the seconds they took, or the benchmark's
reading. An async function, run on a fresh loop; at `NO_LOOP` a plain one."""


class Kind(enum.StrEnum):
    """Whose way of doing the work a candidate is."""

    ROOKERY = "rookery"
    LOOP = "loop"
    """What the event loop or Python itself offers."""
    PEER = "peer"
    """Another actor library."""


@attrs.frozen
class Candidate:
    """One way to do the work of a benchmark.

    Attributes:
        name: What it is called in the report.
        measure: Does the work.
        kind: Whose way it is.
        note: What a reader of its number has to know, as "its queue is unbounded".
    """

    name: str
    measure: Measure
    kind: Kind = Kind.ROOKERY
    note: str = ""


@attrs.frozen
class Benchmark:
    """The same work, done by several candidates. Less is better, whatever is measured.

    Attributes:
        title: What is measured; one of its kind in all suites.
        unit: What one operation is.
        operations: How many of them one measurement does.
        candidates: Those who are compared.
        limit: What the loop itself offers, if there is such a thing; the others are shown as a part or a multiple of
            its speed.
        topic: What it is shown with, in one picture; the title if nothing else.
        parameters: What else describes the work: sizes, capacities. Printed and stored.
        reading: The unit of what the candidates' `measure` returns, as "bytes per actor", where it is not the seconds
            that all operations took. It is reported as it is, not divided by the operations.
        rounds: At most so many rounds, without one to warm up, for what takes long and varies little.
    """

    title: str
    unit: str
    operations: int
    candidates: tuple[Candidate, ...]
    limit: Candidate | None = None
    topic: str = attrs.field(default=attrs.Factory(lambda self: self.title, takes_self=True))
    parameters: Mapping[str, object] = attrs.field(factory=dict[str, object])
    reading: str = ""
    rounds: int | None = None

    def everyone(self) -> tuple[Candidate, ...]:
        """The limit first, then the others."""
        return (self.limit, *self.candidates) if self.limit else self.candidates


@attrs.frozen
class Result:
    """What was measured of one candidate in one place.

    Attributes:
        benchmark: The benchmark's title.
        topic: What it is shown with.
        unit: What one operation is.
        parameters: What else describes the work.
        loop: Name of the event loop, or `NO_LOOP`.
        candidate: The candidate's name.
        kind: Whose way of doing the work it is.
        note: What a reader of the number has to know.
        is_limit: Whether it is the limit that the others are compared with.
        operations: Operations in each measurement.
        reading: The unit of the values; empty if they are microseconds for one operation.
        values: What was measured, one entry for each round. Less is better.
        speeds: The limit's value in the same round divided by the own, one entry for each round: more is better.
            Empty where there is no limit, or nothing to divide by.
    """

    benchmark: str
    topic: str
    unit: str
    parameters: Mapping[str, object]
    loop: str
    candidate: str
    kind: Kind
    note: str
    is_limit: bool
    operations: int
    reading: str
    values: list[float]
    speeds: list[float]

    def value(self) -> float:
        """The median of the rounds."""
        return statistics.median(self.values)

    def speed(self) -> float | None:
        """The median of the ratios within each round."""
        return statistics.median(self.speeds) if self.speeds else None


Suite: TypeAlias = "Callable[[str], Sequence[Benchmark]]"
"""What is measured in one place: a loop of `LOOPS`, or `NO_LOOP`. Empty where there is nothing."""


def available_loops() -> list[str]:
    """The loops of `LOOPS` that can run here."""
    return [loop for loop in LOOPS if loop != "uvloop" or importlib.util.find_spec("uvloop")]


@attrs.frozen(eq=False)
class Measurement:
    """One candidate's turn in each round."""

    loop: str
    benchmark: Benchmark
    candidate: Candidate

    def is_limit(self) -> bool:
        """Whether the others of the benchmark are compared with it."""
        return self.candidate is self.benchmark.limit

    def take(self) -> float:
        """Measure once, on a fresh event loop, with the garbage of those before swept away."""
        gc.collect()
        if self.loop == NO_LOOP:
            taken = self.candidate.measure(self.benchmark.operations)
            assert isinstance(taken, float), f"{self.candidate.name} is for an event loop"
            return taken
        return anyio.run(self._take, **LOOPS[self.loop])

    async def _take(self) -> float:
        taken = self.candidate.measure(self.benchmark.operations)
        return await taken if isinstance(taken, Awaitable) else taken


def measurements(suites: Iterable[Suite]) -> list[Measurement]:
    """All there is to measure, the places of one benchmark next to each other."""
    plan = [
        Measurement(loop, benchmark, candidate)
        for suite in suites
        for loop in (*available_loops(), NO_LOOP)
        for benchmark in suite(loop)
        for candidate in benchmark.everyone()
    ]
    titles = list(dict.fromkeys(one.benchmark.title for one in plan))
    return sorted(plan, key=lambda one: titles.index(one.benchmark.title))


def run_rounds(plan: Sequence[Measurement], rounds: int) -> list[Result]:
    """Measure everything once in each round, after a round of warming up that does not count.

    Every second round goes backwards, so that a machine that becomes slower meanwhile is unfair to nobody.

    Args:
        plan: What to measure, in the order of the first round.
        rounds: How many rounds count; at least 1.
    """
    taken: dict[Measurement, list[float]] = {one: [] for one in plan}
    gc.freeze()  # else what one peer has imported would be looked through in everybody's collections
    try:
        for number in track(range(rounds + 1), "Rounds", transient=True):
            for one in reversed(plan) if number % 2 else plan:
                if _takes_part(one.benchmark, number):
                    taken[one].append(one.take())
    finally:
        gc.unfreeze()
    return [_result(one, taken) for one in plan]


def _takes_part(benchmark: Benchmark, number: int) -> bool:
    """Whether there is a turn for it in that round; round 0 is to warm up."""
    return benchmark.rounds is None or 1 <= number <= benchmark.rounds


def _result(one: Measurement, taken: Mapping[Measurement, list[float]]) -> Result:
    """The counted rounds of one candidate in one place."""
    benchmark = one.benchmark
    own = _counted(one, taken)
    limits = [_counted(other, taken) for other in taken if other.benchmark is benchmark and other.is_limit()]
    return Result(
        benchmark=benchmark.title,
        topic=benchmark.topic,
        unit=benchmark.unit,
        parameters=dict(benchmark.parameters),
        loop=one.loop,
        candidate=one.candidate.name,
        kind=one.candidate.kind,
        note=one.candidate.note,
        is_limit=one.is_limit(),
        operations=benchmark.operations,
        reading=benchmark.reading,
        values=own,
        speeds=ratios(limits[0], own) if limits else [],
    )


def _counted(one: Measurement, taken: Mapping[Measurement, list[float]]) -> list[float]:
    """Readings as they are, or microseconds for one operation, without the round to warm up."""
    benchmark = one.benchmark
    counted = taken[one][1:] if benchmark.rounds is None else taken[one]
    return counted if benchmark.reading else [seconds / benchmark.operations * 1e6 for seconds in counted]


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """How many times ``ours`` is ``theirs``, round by round; nothing where there is nothing to divide by."""
    return [our / their for our, their in zip(ours, theirs, strict=True)] if all(theirs) else []
