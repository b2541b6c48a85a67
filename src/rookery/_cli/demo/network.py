"""The network on the device."""

from __future__ import annotations

import math
from collections import deque
from contextlib import asynccontextmanager
from importlib import resources
from typing import TYPE_CHECKING, Any, Final, final

import attrs
import numpy as np

from .digits import CLASSES, DEPTH

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    import numpy.typing as npt

    from ...gpu import Device, Program, UnifiedBuffer
    from .plan import Course

LOCAL: Final = 64
"""Work items in a group, the same for every launch: PoCL compiles a kernel anew for each size."""


@final
@attrs.frozen(eq=False)
class Bench:
    """Device memory to work in: room for so many images and everything computed from them.

    Attributes:
        rows: How many images.
        images: float32 (rows, 65).
        labels: int32 (rows,).
        hidden: float32 (rows, u), the hidden units.
        scores: float32 (rows, 10), one score for each digit.
        digits: int32 (rows,), the digit of the largest score.
        moves: float32 (rows, 10), how each score should move.
        hidden_moves: float32 (rows, u), how each hidden unit should move.
    """

    rows: int
    images: UnifiedBuffer
    labels: UnifiedBuffer
    hidden: UnifiedBuffer
    scores: UnifiedBuffer
    digits: UnifiedBuffer
    moves: UnifiedBuffer
    hidden_moves: UnifiedBuffer


@final
class Network:
    """The weights, and what can be done with them. Made by `open_network`.

    Attributes:
        first: float32 (65, u), the weights of the hidden units.
        second: float32 (u, 10), the weights of the scores.
        lessons: How many lessons it has had.
        mistakes: The share of images that were mistaken in each of the last lessons, before learning from them.
    """

    def __init__(self, device: Device, program: Program, first: UnifiedBuffer, second: UnifiedBuffer) -> None:
        self.device: Final = device
        self.first: Final = first
        self.second: Final = second
        self.units: Final = second.shape[0]
        self.lessons = 0
        self.mistakes: Final[deque[float]] = deque(maxlen=50)
        self._layer: Final = program.kernel("layer")
        self._choose: Final = program.kernel("choose")
        self._correct: Final = program.kernel("correct")
        self._pass_back: Final = program.kernel("pass_back")
        self._learn: Final = program.kernel("learn")

    @asynccontextmanager
    async def open_bench(self, rows: int) -> AsyncGenerator[Bench]:
        """Device memory for ``rows`` images, until the block is left."""
        lease = self.device.pool.lease
        async with (
            lease((rows, DEPTH)) as images,
            lease((rows,), np.int32) as labels,
            lease((rows, self.units)) as hidden,
            lease((rows, CLASSES)) as scores,
            lease((rows,), np.int32) as digits,
            lease((rows, CLASSES)) as moves,
            lease((rows, self.units)) as hidden_moves,
        ):
            yield Bench(rows, images, labels, hidden, scores, digits, moves, hidden_moves)

    async def classify(self, bench: Bench, images: npt.NDArray[np.float32]) -> npt.NDArray[np.int32]:
        """Which digit it takes each image for.

        Args:
            bench: Memory for at least as many images.
            images: float32 (n, 65).

        Returns:
            int32 (n,).
        """
        await bench.images.write(_padded(images, bench.rows))
        self._forward(bench, len(images))
        return (await bench.digits.read())[: len(images)]

    async def learn(
        self,
        bench: Bench,
        images: npt.NDArray[np.float32],
        labels: npt.NDArray[np.int32],
        rate: float,
    ) -> None:
        """Move the weights so that these images are taken for what they are. If cancelled: all of it or nothing.

        Args:
            bench: Memory for at least as many images.
            images: float32 (n, 65).
            labels: int32 (n,).
            rate: How far.
        """
        rows = len(images)
        await bench.images.write(_padded(images, bench.rows))
        await bench.labels.write(_padded(labels, bench.rows))
        # From here on to the count nothing waits, so no crash and no cancellation can come between: the whole
        # chain is in the device's queue, or none of it.
        self._forward(bench, rows)
        self._backward(bench, rows, rate)
        self.lessons += 1
        digits = await bench.digits.read()
        self.mistakes.append(np.count_nonzero(digits[:rows] != labels) / rows)

    def _forward(self, bench: Bench, rows: int) -> None:
        """Start computing hidden units, scores and digits of the images on the bench."""
        units, cells, rest = self.units, rows * self.units, rows * CLASSES
        b = bench
        self._layer.submit(b.images, self.first, b.hidden, rows, DEPTH, units, 0.0, size=cells, local=LOCAL)
        self._layer.submit(b.hidden, self.second, b.scores, rows, units, CLASSES, -math.inf, size=rest, local=LOCAL)
        self._choose.submit(b.scores, b.digits, rows, CLASSES, size=rows, local=LOCAL)

    def _backward(self, bench: Bench, rows: int, rate: float) -> None:
        """Start moving the weights, from the scores back to the images."""
        units, cells, rest = self.units, rows * self.units, rows * CLASSES
        b = bench
        self._correct.submit(b.scores, b.labels, b.moves, rows, CLASSES, rate, size=rest, local=LOCAL)
        self._pass_back.submit(
            b.moves, self.second, b.hidden, b.hidden_moves, rows, units, CLASSES, size=cells, local=LOCAL
        )
        self._learn.submit(b.hidden, b.moves, self.second, rows, units, CLASSES, size=units * CLASSES, local=LOCAL)
        self._learn.submit(b.images, b.hidden_moves, self.first, rows, DEPTH, units, size=DEPTH * units, local=LOCAL)


async def open_network(device: Device, course: Course) -> Network:
    """The network at the start of a course, on a device. Its weights live as long as the device is open."""
    source = resources.files("rookery._cli.demo").joinpath("classifier.cl").read_text(encoding="utf-8")
    program = await device.build(source)
    return Network(device, program, await device.upload(course.first), await device.upload(course.second))


def _padded(array: npt.NDArray[Any], rows: int) -> npt.NDArray[Any]:
    """The array with zeros behind it, as long as the buffer that it goes to."""
    padded = np.zeros((rows, *array.shape[1:]), array.dtype)
    padded[: len(array)] = array
    return padded
