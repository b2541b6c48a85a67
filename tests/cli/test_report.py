"""The checks notice what they are there for, and the table and the bars fit into 80 columns."""

from __future__ import annotations

import io
from collections import Counter

import attrs
import numpy as np
import pytest
from rich.console import Console

from rookery._cli.demo.digits import Digits
from rookery._cli.demo.display import Work, picture
from rookery._cli.demo.messages import Ledger
from rookery._cli.demo.reference import Reference
from rookery._cli.demo.report import Outcome, rows, table


@pytest.fixture
def outcome() -> Outcome:
    """A run on ten images, of which the last five are held out, in which all went well."""
    labels = np.arange(10)
    first, second = np.ones((65, 4), np.float32), np.ones((4, 10), np.float32)
    return Outcome(
        digits=Digits(np.zeros((10, 65), np.float32), labels.astype(np.int32)),
        held_out=labels[5:],
        ledger=Ledger(labels.copy(), list(range(10)), [0.001] * 10, duplicates=1, asked_again=2),
        reference=Reference(labels.copy(), first, second),
        weights=(first.copy(), second.copy()),
        restarts=Counter(network=1, sink=0),
        messages=20,
        seconds=0.5,
        device="A device with a rather long name, as the makers of devices like (Some Platform)",
        peak_bytes=123_456,
    )


def failed(outcome: Outcome) -> list[str]:
    return [row.name for row in rows(outcome) if row.passed is False]


def test_all_went_well(outcome: Outcome) -> None:
    """Then no check fails, and the numbers are those of the run."""
    shown = {row.name: row.value for row in rows(outcome)}
    assert failed(outcome) == []
    assert shown["messages per second"].startswith("40 ")
    assert shown["latency p50 / p99"].startswith("1.0 / 1.0 ms")


@pytest.mark.parametrize(("duplicates", "words"), [(0, "0 duplicates"), (1, "1 duplicate"), (2, "2 duplicates")])
def test_one_duplicate_is_singular(outcome: Outcome, duplicates: int, words: str) -> None:
    """Which it is depends on where the crash falls in its launch."""
    outcome.ledger.duplicates = duplicates
    (value,) = (row.value for row in rows(outcome) if row.name == "redelivery")
    assert value == f"2 asked again, {words} dropped"


def test_a_lost_image(outcome: Outcome) -> None:
    """Is noticed by its number."""
    outcome.ledger.counted.remove(3)
    assert failed(outcome) == ["images classified"]


def test_an_image_counted_twice(outcome: Outcome) -> None:
    """Is noticed even where another one is missing, so that the count is right."""
    outcome.ledger.counted[3] = 4
    assert failed(outcome) == ["images classified"]


def test_too_many_mistakes(outcome: Outcome) -> None:
    """Also where the reference makes the same: 4 of 5 is below 95 %."""
    outcome.ledger.answers[9] = outcome.reference.answers[9] = 0
    assert failed(outcome) == ["held-out accuracy"]


def test_another_answer_than_the_reference(outcome: Outcome) -> None:
    """Even for an image that was learned from, which does not touch the accuracy."""
    outcome.ledger.answers[0] = 5
    assert failed(outcome) == ["NumPy reference"]


def test_weights_that_differ_are_told_and_no_failure(outcome: Outcome) -> None:
    """A device may round differently; what counts are the answers."""
    outcome.weights[0][0, 0] += np.float32(1e-3)
    (value,) = (row.value for row in rows(outcome) if row.name == "NumPy reference")
    assert failed(outcome) == []
    assert "weights within 0.001" in value


@pytest.mark.parametrize("restarts", [Counter(network=0), Counter(network=2), Counter(network=1, reader=1)])
def test_another_number_of_restarts_than_one(outcome: Outcome, restarts: Counter[str]) -> None:
    """One actor was made to crash, once: more or less is wrong."""
    assert failed(attrs.evolve(outcome, restarts=restarts)) == ["restarts"]


def test_the_table_of_a_run_that_counted_nothing(outcome: Outcome) -> None:
    """It can still be shown."""
    nothing = attrs.evolve(outcome, ledger=Ledger.of(10))
    assert failed(nothing) == ["images classified", "held-out accuracy", "NumPy reference"]
    assert "FAILED" in shown_on_80_columns(table(rows(nothing), "title"))


def test_the_table_fits(outcome: Outcome) -> None:
    """Long names are wrapped, not cut."""
    shown = shown_on_80_columns(table(rows(outcome), "title"))
    assert max(map(len, shown.splitlines())) <= 80
    assert "Platform)" in shown


def test_each_bar_is_one_line() -> None:
    """With the longest words and largest numbers that the demo shows."""
    works = [
        Work("classifying", "lessons", 99_999, lambda: 88_888, lambda: "99.9% mistaken"),
        Work("training", "images", 1797, lambda: 0),
    ]
    shown = shown_on_80_columns(picture(works, "tree\n└── leaf")).splitlines()
    assert [line.split()[0] for line in shown] == ["classifying", "training", "tree", "└──"]
    assert "88,888 of 99,999 lessons" in shown[0]
    assert shown[0].endswith("99.9% mistaken")


def shown_on_80_columns(renderable: object) -> str:
    console = Console(file=io.StringIO(), width=80, legacy_windows=False)
    with console.capture() as capture:
        console.print(renderable)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())
