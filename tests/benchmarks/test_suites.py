"""Every benchmark does its work and checks it, with a few operations; nothing here looks at times."""

from __future__ import annotations

import gc
from collections.abc import Generator

import attrs
import pytest

import goals
from harness import NO_LOOP, Measurement, measurements
from suites import SUITES

# Those of one round take long whatever the number of their operations.
PLAN = [one for one in measurements(SUITES) if one.benchmark.rounds is None]


@pytest.fixture(autouse=True, scope="module")
def quick_collections() -> Generator[None]:
    """Each measurement collects garbage first, which is slow with all that a test run has imported."""
    gc.freeze()
    yield
    gc.unfreeze()


def named(one: Measurement) -> str:
    return f"{one.benchmark.title} - {one.loop} - {one.candidate.name}"


@pytest.mark.parametrize("one", PLAN, ids=named)
@pytest.mark.parametrize("operations", [1, 7])
def test_a_few_operations_pass_the_benchmarks_own_check(one: Measurement, operations: int) -> None:
    """A wrong result raises."""
    few = attrs.evolve(one, benchmark=attrs.evolve(one.benchmark, operations=operations))
    assert few.take() >= 0


def test_titles_and_candidates_are_unique_in_each_place() -> None:
    """Results are told apart by them."""
    names = [named(one) for one in measurements(SUITES)]
    assert len(names) == len(set(names))


def test_a_goal_is_about_something_that_is_measured() -> None:
    """A goal with a misspelt name would never be missed."""
    measured = {(one.benchmark.title, one.candidate.name, one.loop) for one in measurements(SUITES)}
    loops = {loop for _, _, loop in measured} | {NO_LOOP}
    wanted = {(goal.benchmark, goal.candidate, goal.loop) for goal in goals.GOALS if goal.loop in loops}
    assert wanted <= measured
