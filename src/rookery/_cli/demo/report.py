"""What came out: the checks, and the table that shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

import attrs
import numpy as np
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy.typing as npt

    from .digits import Digits
    from .messages import Ledger
    from .reference import Reference

WANTED: Final = 0.95
"""The least share of held-out images that have to be recognised."""


@final
@attrs.frozen(eq=False)
class Outcome:
    """A run of the demo.

    Attributes:
        digits: The images.
        held_out: int64 (h,), the numbers of those that were not learned from.
        ledger: What the pipeline did.
        reference: What NumPy found.
        weights: The device's two weight matrices at the end.
        restarts: How often each actor was restarted, by its name.
        messages: How many messages the stage and the sink received while images were classified.
        seconds: How long that took.
        device: The device's name, and its driver's.
        peak_bytes: The most device memory that was in use at once.
    """

    digits: Digits
    held_out: npt.NDArray[np.int64]
    ledger: Ledger
    reference: Reference
    weights: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]
    restarts: dict[str, int]
    messages: int
    seconds: float
    device: str
    peak_bytes: int

    def right(self, answers: npt.NDArray[np.int64]) -> int:
        """How many of the held-out images these answers are right about."""
        return int(np.count_nonzero((answers == self.digits.labels)[self.held_out]))


@final
@attrs.frozen
class Row:
    """A line of the table; ``passed`` is None where there is nothing to check."""

    name: str
    value: str
    passed: bool | None = None


def rows(outcome: Outcome) -> Iterator[Row]:
    """Everything there is to say about a run."""
    yield _counted(outcome)
    yield _accuracy(outcome)
    yield _agreement(outcome)
    yield _restarts(outcome)
    yield _redelivery(outcome.ledger)
    yield from _speed(outcome)
    yield Row("device", outcome.device)
    yield Row("peak device memory", f"{outcome.peak_bytes:,} bytes")


def _counted(outcome: Outcome) -> Row:
    total, counted = len(outcome.digits), outcome.ledger.counted
    once = sorted(counted) == list(range(total))
    return Row(
        "images classified", f"{len(counted):,} of {total:,}, each counted {'once' if once else 'NOT once'}", once
    )


def _accuracy(outcome: Outcome) -> Row:
    right, held_out = outcome.right(outcome.ledger.answers), len(outcome.held_out)
    share = right / held_out
    value = f"{share:.2%}, {right} of {held_out}; at least {WANTED:.0%} wanted"
    return Row("held-out accuracy", value, share >= WANTED)


def _agreement(outcome: Outcome) -> Row:
    reference = outcome.reference
    share = outcome.right(reference.answers) / len(outcome.held_out)
    differ = int(np.count_nonzero(outcome.ledger.answers != reference.answers))
    pairs = zip(outcome.weights, (reference.first, reference.second), strict=True)
    apart = max(float(np.abs(ours - theirs).max()) for ours, theirs in pairs)
    answers = f"{differ:,} answers differ" if differ else "same answers"
    weights = f"weights within {apart:.1g}" if apart else "weights equal bit for bit"
    return Row("NumPy reference", f"{share:.2%}; {answers}, {weights}", differ == 0)


def _restarts(outcome: Outcome) -> Row:
    restarted = [f"{count} of the {name}" for name, count in outcome.restarts.items() if count]
    return Row("restarts", ", ".join(restarted) or "none", sum(outcome.restarts.values()) == 1)


def _redelivery(ledger: Ledger) -> Row:
    duplicates = "1 duplicate" if ledger.duplicates == 1 else f"{ledger.duplicates:,} duplicates"
    return Row("redelivery", f"{ledger.asked_again:,} asked again, {duplicates} dropped")


def _speed(outcome: Outcome) -> Iterator[Row]:
    """Nothing is wanted of these: they depend on the machine and on what else it does."""
    yield Row("messages per second", f"{outcome.messages / outcome.seconds:,.0f} while classifying")
    if outcome.ledger.latencies:
        p50, p99 = np.percentile(outcome.ledger.latencies, [50, 99]) * 1000
        yield Row("latency p50 / p99", f"{p50:.1f} / {p99:.1f} ms from reading to counting")


def table(shown: Iterable[Row], title: str) -> Table:
    """The rows as a table for a terminal of 80 columns."""
    grid = Table(show_header=False, title=title, title_justify="left")
    for row in shown:
        verdict = {True: "[green]ok[/]", False: "[bold red]FAILED[/]", None: ""}[row.passed]
        grid.add_row(row.name, Text(row.value), verdict)
    return grid
