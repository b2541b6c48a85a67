"""What the demo's actors tell each other, and what they write down."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, final

import attrs
import numpy as np

from ... import Request, message
from .reference import Reference

if TYPE_CHECKING:
    import numpy.typing as npt

    from .plan import Course


@message
class Lesson(Request[None]):
    """Images to learn from. Answered when they have been learned.

    Attributes:
        number: From 0; lessons have to be taken in order.
        images: float32 (b, 65).
        labels: int32 (b,).
        rate: How far to move the weights.
    """

    number: int
    images: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int32]
    rate: float


@message
class Image(Request[None]):
    """An image to classify. Answered when the sink has the answer in its mailbox.

    Attributes:
        number: Which of all images.
        pixels: float32 (65,).
        read_at: When it was read, in seconds.
    """

    number: int
    pixels: npt.NDArray[np.float32]
    read_at: float


@message
class Answer:
    """Which digit an image was taken for.

    Attributes:
        number: Which of all images.
        digit: From 0 to 9.
        read_at: When the image was read, in seconds.
    """

    number: int
    digit: int
    read_at: float


@message
class Compute(Request[Reference]):
    """Take this course in NumPy."""

    course: Course


@final
@attrs.define(eq=False)
class Ledger:
    """What the pipeline has done.

    Attributes:
        answers: int64 (n,), the digit each image was taken for; -1 until it is counted.
        counted: The numbers of the images that were counted, in that order.
        latencies: Seconds from reading to counting, one for each counted image.
        duplicates: Answers for images that had been counted already.
        asked_again: Requests that an actor had in hand when it crashed.
    """

    answers: npt.NDArray[np.int64]
    counted: list[int] = attrs.field(factory=list[int])
    latencies: list[float] = attrs.field(factory=list[float])
    duplicates: int = 0
    asked_again: int = 0

    @classmethod
    def of(cls, images: int) -> Ledger:
        """An empty one for so many images."""
        return cls(np.full(images, -1, np.int64))

    def count(self, answer: Answer) -> None:
        """Count an image, unless it was counted before."""
        if self.answers[answer.number] >= 0:
            self.duplicates += 1
            return
        self.answers[answer.number] = answer.digit
        self.counted.append(answer.number)
        self.latencies.append(perf_counter() - answer.read_at)
