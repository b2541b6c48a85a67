"""The gate of instructions: what it compares, and what it refuses to compare. Nothing here counts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import instructions
from instructions import CannotCompareError, build, dearer, read_baseline

COUNTS = {"trio": {"ask": 1_000, "send": 100}}


@pytest.fixture
def baseline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the baseline is to be."""
    path = tmp_path / "instructions.json"
    monkeypatch.setattr(instructions, "BASELINE", path)
    return path


def test_a_baseline_of_this_build_and_these_versions_is_read(baseline: Path) -> None:
    baseline.write_text(json.dumps({"build": build(), "instructions": COUNTS}))
    assert read_baseline() == COUNTS


@pytest.mark.parametrize("what", ["python", "trio", "anyio", "attrs"])
def test_a_baseline_of_something_else_is_refused_and_the_message_says_what_differs(baseline: Path, what: str) -> None:
    baseline.write_text(json.dumps({"build": build() | {what: "0.1"}, "instructions": COUNTS}))
    with pytest.raises(CannotCompareError, match=rf"recorded with {what} 0\.1, here .*: nothing is compared"):
        read_baseline()


def test_a_baseline_that_names_no_versions_is_refused(baseline: Path) -> None:
    baseline.write_text(json.dumps({"build": {**build(), "trio": None}, "instructions": COUNTS}))
    with pytest.raises(CannotCompareError, match="trio None, here"):
        read_baseline()


def test_without_a_baseline_the_message_says_how_to_record_one(baseline: Path) -> None:
    with pytest.raises(CannotCompareError, match=r"no instructions\.json: record it with --record"):
        read_baseline()


def test_what_costs_more_than_the_tolerance_is_told_and_nothing_else() -> None:
    counts = {"trio": {"ask": 1_021, "send": 102}}
    assert dearer(counts, COUNTS) == ["ask on trio: 1,021 instructions, +2.1%"]
