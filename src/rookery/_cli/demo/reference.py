"""The same network in NumPy: what the device's answers are compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import attrs
import numpy as np

from .digits import CLASSES

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from .digits import Digits
    from .plan import Course

    Floats = npt.NDArray[np.float32]


@final
@attrs.frozen(eq=False)
class Reference:
    """What NumPy found.

    Attributes:
        answers: int64 (n,), the digit it takes each image for.
        first: float32 (65, u), the weights of the hidden units at the end.
        second: float32 (u, 10), the weights of the scores at the end.
    """

    answers: npt.NDArray[np.int64]
    first: Floats
    second: Floats


def compute(course: Course, digits: Digits, lesson_done: Callable[[], object]) -> Reference:
    """Take the whole course, then classify all images.

    Args:
        course: What the network on the device was taught.
        digits: All images.
        lesson_done: Called after each lesson; what it raises ends the computation.
    """
    first, second = course.first.copy(), course.second.copy()
    for lesson, rate in zip(course.lessons, course.rates, strict=True):
        _learn(first, second, digits.images[lesson], digits.labels[lesson], rate)
        lesson_done()
    _, scores = _forward(first, second, digits.images)
    return Reference(scores.argmax(axis=1), first, second)


def _learn(first: Floats, second: Floats, images: Floats, labels: npt.NDArray[np.int32], rate: np.float32) -> None:
    hidden, scores = _forward(first, second, images)
    sign = np.where(labels[:, None] == np.arange(CLASSES), np.float32(1), np.float32(-1))
    moves = sign * np.maximum(1 - sign * scores, 0) * rate
    hidden_moves = np.where(hidden > 0, _product(moves, second.T), 0)
    second += _product(hidden.T, moves)
    first += _product(images.T, hidden_moves)


def _forward(first: Floats, second: Floats, images: Floats) -> tuple[Floats, Floats]:
    hidden = np.maximum(_product(images, first), 0)
    return hidden, _product(hidden, second)


def _product(left: Floats, right: Floats) -> Floats:
    """The matrix product, summed in the order of the index as in the kernels.

    ``left @ right`` sums in an order of its own, and the rounding of float32 depends on the order.
    """
    total = np.zeros((left.shape[0], right.shape[1]), np.float32)
    for k in range(left.shape[1]):
        total += left[:, k, None] * right[k]
    return total
