"""The harness: rounds, ratios, goals, and what becomes of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest

import goals
import page
import record
import report
from goals import Goal
from harness import NO_LOOP, Benchmark, Candidate, Kind, Measurement, Result, WrongResultError, expect, run_rounds


def taking(seconds: list[float], turns: list[str], name: str) -> Candidate:
    """A candidate whose measurements take what the list says, in turn."""
    left = iter(seconds)

    def measure(_count: int) -> float:
        turns.append(name)
        return next(left)

    return Candidate(name, measure)


def run(limit: list[float], other: list[float], *, turns: list[str] | None = None, **options: Any) -> list[Result]:
    """Two candidates of ten operations each, in as many rounds as there are entries, less one to warm up."""
    turns = [] if turns is None else turns
    slow, quick = taking(limit, turns, "limit"), taking(other, turns, "other")
    benchmark = Benchmark(title="work", unit="piece", operations=10, limit=slow, candidates=(quick,), **options)
    return run_rounds([Measurement(NO_LOOP, benchmark, one) for one in benchmark.everyone()], len(limit) - 1)


def test_the_round_that_warms_up_does_not_count_and_ratios_are_taken_within_each_round() -> None:
    limit, other = run([99.0, 2.0, 4.0, 9.0], [99.0, 1.0, 4.0, 3.0])
    assert limit.values == [200_000.0, 400_000.0, 900_000.0]
    assert other.speeds == [2.0, 1.0, 3.0]
    assert other.speed() == 2.0
    assert limit.is_limit
    assert not other.is_limit


def test_every_second_round_goes_backwards() -> None:
    turns: list[str] = []
    run([1.0, 1.0, 1.0], [1.0, 1.0, 1.0], turns=turns)
    assert turns == ["limit", "other", "other", "limit", "limit", "other"]


def test_a_benchmark_with_few_rounds_is_not_warmed_up() -> None:
    turns: list[str] = []
    limit, _ = run([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], turns=turns, rounds=1)
    assert turns == ["other", "limit"]
    assert limit.values == [100_000.0]


def test_a_reading_is_reported_as_it_is() -> None:
    limit, other = run([9.0, 2.0, 2.0], [9.0, 4.0, 4.0], reading="KiB")
    assert limit.values == [2.0, 2.0]
    assert other.speed() == 0.5


def test_nothing_is_divided_by_a_reading_of_nothing() -> None:
    _, other = run([0.0, 0.0], [0.0, 0.0], reading="CPU seconds")
    assert other.speed() is None


def test_a_wrong_result_is_an_error_that_shows_both() -> None:
    with pytest.raises(WrongResultError, match="answers: 3, where 4 was expected"):
        expect(3, 4, "answers")


@pytest.mark.parametrize(
    ("goal", "met"),
    [
        (Goal("work", "other", NO_LOOP, ("limit", NO_LOOP), at_least=2), True),
        (Goal("work", "other", NO_LOOP, ("limit", NO_LOOP), at_least=2.1), False),
        (Goal("work", "other", NO_LOOP, at_most=3), True),
        (Goal("work", "other", NO_LOOP, at_most=2.9), False),
        (Goal("work", "other", NO_LOOP), True),
        (Goal("work", "other", NO_LOOP, ("absent", NO_LOOP), at_least=0), False),
        (Goal("work", "absent", NO_LOOP), False),
    ],
)
def test_a_goal_is_met_by_what_was_measured_and_by_nothing_else(goal: Goal, met: bool) -> None:
    results = run([9.0, 2.0, 4.0, 9.0], [9.0, 1.0, 4.0, 3.0])
    [verdict] = goals.judge(results, [goal])
    assert verdict.met() is met


def test_a_bound_in_time_is_for_all_operations_of_a_measurement_together() -> None:
    [verdict] = goals.judge(run([9.0, 2.0], [9.0, 1.0]), [Goal("work", "other", NO_LOOP, at_most=1.5)])
    assert report.goal_cells(verdict)[3:] == ("at most 1.5 s for 10", "1.00 s for 10", "met")


def test_a_run_of_another_size_judges_nothing() -> None:
    [verdict] = goals.judge(run([9.0, 2.0], [9.0, 1.0]), [Goal("work", "other", NO_LOOP, at_most=1.5)], share=5)
    assert report.goal_cells(verdict)[5] == "not judged: a 5th of the size"


def test_what_was_measured_once_says_so() -> None:
    few, _ = run([1.0, 1.0, 1.0], [1.0, 1.0, 1.0], rounds=1)
    many, _ = run([1.0, 1.0, 1.0], [1.0, 1.0, 1.0])
    assert report.small_print(few) == "piece, 10 in one measurement"
    assert report.small_print(many) == "piece, 10 in each of 2 measurements"
    assert page.environment(record.Run(record.environment(), 2, 1, [few])).endswith("; 2 rounds, fewer for work.")


def test_a_library_that_is_faster_is_named_beside_what_rookery_does_fastest() -> None:
    results = run([9.0, 2.0, 4.0], [9.0, 1.0, 4.0])
    _, own = (attrs.evolve(one, loop="trio") for one in results)
    slow = attrs.evolve(own, candidate="slow", values=[one * 2 for one in own.values])
    peer = attrs.evolve(own, candidate="peer", loop=NO_LOOP, kind=Kind.PEER, values=[one / 4 for one in own.values])
    assert page.ahead([own, slow, peer]) == "- work: peer is 4.00 times as fast as other on trio."
    assert page.ahead([own, slow, attrs.evolve(peer, values=slow.values)]) == "Nowhere in this run."
    assert page.ahead([own, attrs.evolve(peer, loop="asyncio")]) == "Nowhere in this run."


def a_run() -> record.Run:
    return record.Run(record.environment(), 2, 1, run([9.0, 2.0, 4.0], [9.0, 1.0, 4.0]))


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    measured = a_run()
    record.write(measured, tmp_path / "run.json")
    assert record.read(tmp_path / "run.json") == measured


def test_a_page_is_changed_between_its_marks_only(tmp_path: Path) -> None:
    place = tmp_path / "page.md"
    place.write_text("before\n<!-- begin: work -->\nold\n<!-- end: work -->\nafter\n")
    page.refresh(place, a_run(), [])
    before, table, after = place.read_text().partition(page.table(a_run().results))
    assert (before, after) == ("before\n<!-- begin: work -->\n", "\n<!-- end: work -->\nafter\n")
    assert "| work | *limit* | 300,000 µs |" in table


def test_a_page_that_asks_for_what_was_not_measured_stays_as_it_is(tmp_path: Path) -> None:
    place = tmp_path / "page.md"
    place.write_text("<!-- begin: leisure -->\nold\n<!-- end: leisure -->\n")
    with pytest.raises(page.UnknownMarkError, match="leisure"):
        page.refresh(place, a_run(), [])
    assert "old" in place.read_text()


def test_a_picture_is_drawn_for_each_topic(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    import plots

    [drawn] = plots.draw(a_run(), tmp_path)
    assert drawn.name == "work.svg"
    assert drawn.read_text().rstrip().endswith("</svg>")


def test_kinds_are_told_apart_in_a_record(tmp_path: Path) -> None:
    measured = a_run()
    record.write(measured, tmp_path / "run.json")
    assert {type(result.kind) for result in record.read(tmp_path / "run.json").results} == {Kind}
