"""Every benchmark does its work and checks it, with a few operations; nothing here looks at times."""

from __future__ import annotations

import gc
from collections.abc import Generator
from importlib.util import find_spec
from pathlib import Path

import attrs
import pytest

import goals
import idle
from harness import LOOPS, NO_LOOP, Measurement, available_loops, measurements
from peers import PLACES
from suites import HAS_DEVICE, SUITES

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


@pytest.mark.once
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


def test_a_goal_is_about_something_that_is_measured_and_so_is_what_it_is_compared_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A goal with a misspelt name would never be missed. Loops and libraries that are not installed are passed over."""
    monkeypatch.setattr(idle, "MEMORY", Path(__file__))  # planned here, and not run: elsewhere than on Linux, too
    measured = {(one.benchmark.title, one.candidate.name, one.loop) for one in measurements(SUITES)}
    titles = {title for title, _, _ in measured}
    wanted = {
        (goal.benchmark, *one)
        for goal in goals.GOALS
        for one in ((goal.candidate, goal.loop), goal.against)
        if one and (HAS_DEVICE or goal.benchmark in titles)
    }
    assert set() == {one for one in wanted - measured if not is_absent(*one[1:])}


def is_absent(candidate: str, place: str) -> bool:
    """Whether it would be measured, were it installed."""
    is_peer = place in PLACES.get(candidate, ())
    return (place in LOOPS and place not in available_loops()) or (is_peer and find_spec(candidate) is None)


def test_a_loop_or_library_that_is_installed_is_not_passed_over() -> None:
    """What the test before excuses is what is not there, and nothing else."""
    assert not is_absent("ask", "trio")
    assert not is_absent("pykkka", NO_LOOP)
    assert not is_absent("pykka", "trio")
