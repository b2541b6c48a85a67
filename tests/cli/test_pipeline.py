"""The demo's pipeline on all loops: wherever an actor crashes, every image is counted once and learned from once."""

from __future__ import annotations

import io
import logging
from typing import TYPE_CHECKING, Any

import anyio
import numpy as np
import pytest
from rich.console import Console

from rookery import ActorState, child, open_system
from rookery._cli.demo.job import run
from rookery._cli.demo.messages import Answer, Compute, Ledger
from rookery._cli.demo.pipeline import LAUNCH, mathematician
from rookery._cli.demo.plan import Plan, draw_up
from rookery._cli.demo.sabotage import Moment, Sabotage

if TYPE_CHECKING:
    from rookery._cli.demo.digits import Digits
    from rookery._cli.demo.report import Outcome

SHORT = Plan(epochs=1)


async def run_short(digits: Digits, sabotage: Any) -> Outcome:
    return await run(SHORT, digits, "pocl", Console(file=io.StringIO()), sabotage)


@pytest.mark.once
@pytest.mark.parametrize(
    ("moment", "times", "who"),
    [
        (Moment.LEARNED, 10, "network"),
        (Moment.ANSWERING, 1, "network"),  # all but one answer of the launch are lost
        (Moment.ANSWERING, 900, "network"),
        (Moment.READING, 10, "reader"),  # among the lessons
        (Moment.READING, 1000, "reader"),  # among the images
    ],
)
async def test_a_crash_anywhere_changes_nothing(digits: Digits, moment: Moment, times: int, who: str) -> None:
    """The answers, and the weights to the last bit, are those of a computation without any crash."""
    outcome = await run_short(digits, Sabotage(moment, times))
    assert outcome.restarts == {"network": 0, "reader": 0, "sink": 0} | {who: 1}
    assert sorted(outcome.ledger.counted) == list(range(len(digits)))
    assert np.array_equal(outcome.ledger.answers, outcome.reference.answers)
    np.testing.assert_array_equal(outcome.weights[0], outcome.reference.first)
    np.testing.assert_array_equal(outcome.weights[1], outcome.reference.second)


async def test_what_the_stage_had_in_hand_is_asked_again(digits: Digits) -> None:
    """Answers that had gone to the sink come twice, the others of the launch for the first time."""
    outcome = await run_short(digits, Sabotage(Moment.ANSWERING, 3))
    assert outcome.ledger.duplicates == 3
    assert 3 <= outcome.ledger.asked_again <= LAUNCH


async def test_nothing_is_asked_again_without_a_crash(digits: Digits) -> None:
    """Nor restarted, nor answered twice; each image is one message to the stage and one to the sink."""
    never = Sabotage(Moment.ANSWERING, 1_000_000)
    outcome = await run_short(digits, never)
    assert (outcome.ledger.asked_again, outcome.ledger.duplicates) == (0, 0)
    assert sum(outcome.restarts.values()) == 0
    assert outcome.messages == 2 * len(digits)


class CancelsAt:
    """Cancels the job after its first lesson, where a `Sabotage` would let an actor crash."""

    def __init__(self, scope: anyio.CancelScope) -> None:
        self._scope = scope

    def at(self, moment: Moment) -> None:
        if moment is Moment.LEARNED:
            self._scope.cancel()


async def test_the_device_is_released_when_the_job_is_cancelled(
    digits: Digits, caplog: pytest.LogCaptureFixture
) -> None:
    """In the midst of training: the actors stop before it, in order."""
    caplog.set_level(logging.INFO, "rookery")
    with anyio.CancelScope() as scope:
        await run_short(digits, CancelsAt(scope))
    assert scope.cancelled_caught
    assert [message.replace(" stopped", "").split()[0] for message in caplog.messages] == [
        "opened",
        "reader",
        "network",
        "sink",
        "released",
    ]


async def test_the_reference_leaves_off_when_it_is_stopped(digits: Digits) -> None:
    """Its thread is not left behind: it ends after the lesson it is at."""
    course = draw_up(Plan(epochs=1000), len(digits))
    started, done = anyio.Event(), 0

    def lesson_done() -> None:
        nonlocal done
        done += 1
        if done == 3:
            anyio.from_thread.run_sync(started.set)

    async with open_system() as system:
        spec = child(mathematician, digits, lesson_done).options(stop_timeout=0)
        answers = await system.spawn(spec)
        await answers.send(Compute(course))
        await started.wait()
        await answers.stop()
        ended_after = done
    assert answers.state is ActorState.STOPPED
    assert ended_after < len(course.lessons)
    assert done == ended_after


def test_the_first_answer_for_an_image_stands() -> None:
    """Another one is a duplicate, whatever it says."""
    ledger = Ledger.of(3)
    for number, digit in ((2, 7), (0, 1), (2, 8)):
        ledger.count(Answer(number, digit, read_at=0.0))
    assert ledger.answers.tolist() == [1, -1, 7]
    assert (ledger.counted, ledger.duplicates, len(ledger.latencies)) == ([2, 0], 1, 2)
