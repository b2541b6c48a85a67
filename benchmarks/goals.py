"""What is to be reached, as data: each goal is about one candidate, alone or beside another of the same benchmark."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Final

import attrs

from harness import NO_LOOP, ratios

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness import Result


@attrs.frozen
class Goal:
    """A bound for one candidate.

    Attributes:
        benchmark: The benchmark's title.
        candidate: Who is to reach it.
        loop: Where.
        against: The candidate that it is compared with, and where that runs. None: its own value is bounded.
        at_least: How many times as fast it has to be; for a goal against another.
        at_most: What its value may be, for a goal of its own: the benchmark's reading, or the seconds that all
            operations of a measurement take together. None in both: that it has been measured is enough, as the
            measurement itself checks the goal.
    """

    benchmark: str
    candidate: str
    loop: str
    against: tuple[str, str] | None = None
    at_least: float | None = None
    at_most: float | None = None


LOOPS: Final = ("trio", "asyncio", "uvloop")

GOALS: Final = (
    Goal("ask", "ask inside a deadline", "trio", ("wait_task_rescheduled", "trio"), at_least=0.65),
    Goal("ask", "ask(timeout=)", "trio", ("wait_task_rescheduled", "trio"), at_least=0.5),
    Goal("ask", "ask", "uvloop", ("pykka", NO_LOOP), at_least=2),
    Goal("ask", "ask", "uvloop", ("xoscar", "uvloop"), at_least=8),
    Goal("send, one object", "send", "trio", ("trio memory channel", "trio"), at_least=9),
    Goal("send, one object", "send", "trio", ("pykka", NO_LOOP), at_least=3),
    Goal("send, a fresh message each", "send", "trio", ("trio memory channel", "trio"), at_least=5),
    Goal("spawn until ready", "spawn", "trio", ("nursery.start_soon", "trio"), at_least=0.22),
    Goal("spawn until ready", "spawn", "trio", ("pykka", NO_LOOP), at_least=4),
    Goal("spawn until ready", "spawn", "uvloop", ("xoscar", "uvloop"), at_least=4),
    Goal("spawn until ready", "spawn", "trio", ("thespian", NO_LOOP), at_least=4),
    # 5 KiB each, 1 % of an idle second for all of them together, and 0.1 s for the end of all 1,000.
    *(Goal("memory of idle actors", "actors", loop, at_most=5 * 1024) for loop in LOOPS),
    *(Goal("processor time of idle actors", "actors", loop, at_most=10) for loop in LOOPS),
    *(Goal("stop of idle actors", "leaving the system", loop, at_most=0.1) for loop in LOOPS),
    # The measurement itself checks that it is handled next.
    *(Goal("urgent until taken up", "send_nowait, 100,000 queued", loop) for loop in LOOPS),
    # The best that an asyncio ring-kernel library publishes, of another machine: the median and the 99th percentile
    # of its round trips, and 76,000 messages of ten floats in a second, which is 5,000 in 0.0658 s.
    *(
        Goal(f"round trip of a ring kernel, p{percent}", candidate, loop, at_most=microseconds)
        for percent, microseconds in ((50, 21), (99, 131))
        for candidate in ("send_and_receive", "send, receive")
        for loop in LOOPS
    ),
    *(Goal("stream through a ring kernel", "send, receive", loop, at_most=0.0658) for loop in LOOPS),
    # Telemetry costs 5 % at most; 10,000 looks around in a second a tenth of a core, no looks nothing.
    *(
        Goal("telemetry of a ring kernel", work, loop, at_most=1.05)
        for work in ("ping-pong", "counting")
        for loop in LOOPS
    ),
    *(Goal("idle ring kernels, with timeouts", "receive(timeout=0.1)", loop, at_most=0.1) for loop in LOOPS),
    *(Goal("idle ring kernels, no timeouts", "receive()", loop, at_most=0.001) for loop in LOOPS),
    *(Goal("stop of idle ring kernels", "leaving the runtime", loop, at_most=1) for loop in LOOPS),
    # Devices: 10 µs of host work, 1.05 times a blocking wait, 5 ms, 3 µs, 1.03 times pyopencl, 0.3 times NumPy.
    *(Goal("host work per launch", "submit", loop, at_most=10) for loop in LOOPS),
    Goal("awaited launch", "await kernel", "trio", ("bare pyopencl, blocking", "trio"), at_least=1 / 1.05),
    *(
        Goal("200 tasks launching", "await kernel", loop, ("polling from checkpoints", loop), at_least=0.75)
        for loop in LOOPS
    ),
    *(Goal("loop beside 200 tasks launching", "a ticker of 1 ms", loop, at_most=5) for loop in LOOPS),
    *(Goal("memory that is reused", "pool", loop, at_most=0.03) for loop in LOOPS),
    Goal("ten saxpy on 16 M floats", "submit", "trio", ("bare pyopencl", "trio"), at_least=1 / 1.03),
    Goal("ten saxpy on 16 M floats", "submit", "trio", ("NumPy", "trio"), at_least=1 / 0.3),
    *(Goal("small messages", "batched stage", loop, ("a launch for each", loop), at_least=8) for loop in LOOPS),
    Goal("streaming beside its parts", "stage", "trio", at_most=1.05),
)


@attrs.frozen
class Verdict:
    """What came of a goal.

    Attributes:
        goal: Which.
        measured: The median of the rounds: of the ratios within each round, or of the values. None if not measured.
        unit: What a value is in; empty for a ratio.
        share: The operations were divided by this. A goal is one for the full size: at another, `met` says nothing.
    """

    goal: Goal
    measured: float | None = None
    unit: str = ""
    share: int = 1

    def met(self) -> bool:
        """Whether it has been reached."""
        if self.measured is None:
            return False
        if self.goal.at_least is not None:
            return self.measured >= self.goal.at_least
        return self.goal.at_most is None or self.measured <= self.goal.at_most


def judge(results: Sequence[Result], goals: Sequence[Goal] = GOALS, *, share: int = 1) -> list[Verdict]:
    """What came of each goal whose benchmark has been run, with that share of the operations."""
    run = {result.benchmark for result in results}
    found = {(result.benchmark, result.candidate, result.loop): result for result in results}
    return [Verdict(goal, *_measured(goal, found), share) for goal in goals if goal.benchmark in run]


def _measured(goal: Goal, found: dict[tuple[str, str, str], Result]) -> tuple[float | None, str]:
    """What the goal is about, and its unit."""
    own = found.get((goal.benchmark, goal.candidate, goal.loop))
    if own is None:
        return None, ""
    if goal.against is None:
        return _value(own, goal)
    other = found.get((goal.benchmark, *goal.against))
    speeds = ratios(other.values, own.values) if other else []
    return statistics.median(speeds) if speeds else None, ""


def _value(own: Result, goal: Goal) -> tuple[float, str]:
    """In the unit of the bound; microseconds for one operation where there is none."""
    if own.reading or goal.at_most is None:
        return own.value(), own.reading or "µs"
    return own.value() * own.operations / 1e6, f"s for {own.operations:,}"
