"""What is learned, in which order, from which random numbers: all that the device and the reference must share."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import attrs
import numpy as np

from .digits import CLASSES, DEPTH

if TYPE_CHECKING:
    import numpy.typing as npt


@final
@attrs.frozen
class Plan:
    """How to train.

    Attributes:
        seed: Of everything random.
        epochs: How often each image is learned from.
        held_out: How many images are not learned from.
        units: Hidden units of the network.
        lesson: How many images are learned from at once.
        rate: How far the first lesson moves the weights; later ones less, down to 0.
    """

    seed: int = 0
    epochs: int = 40
    held_out: int = 360
    units: int = 256
    lesson: int = 32
    rate: float = 0.1


@final
@attrs.frozen(eq=False)
class Course:
    """A plan, drawn up for so many images.

    Attributes:
        held_out: int64 (h,), the numbers of the images that are not learned from.
        lessons: int64 (s, b), the numbers of the images of each lesson.
        rates: float32 (s,), how far each lesson moves the weights.
        first: float32 (65, u), the weights of the hidden units at the start.
        second: float32 (u, 10), the weights of the digits' scores at the start.
    """

    held_out: npt.NDArray[np.int64]
    lessons: npt.NDArray[np.int64]
    rates: npt.NDArray[np.float32]
    first: npt.NDArray[np.float32]
    second: npt.NDArray[np.float32]


def draw_up(plan: Plan, images: int) -> Course:
    """Draw the split, the first weights and the order of lessons from the plan's seed.

    The weights start as in K. He et al., "Delving deep into rectifiers", 2015: so wide that signals neither
    fade nor grow from layer to layer.
    """
    random = np.random.default_rng(plan.seed)
    held_out, rest = np.split(random.permutation(images), [plan.held_out])
    whole = len(rest) // plan.lesson * plan.lesson  # each epoch leaves a few others out
    lessons = np.concatenate([random.permutation(rest)[:whole] for _ in range(plan.epochs)]).reshape(-1, plan.lesson)
    return Course(
        held_out=held_out,
        lessons=lessons,
        rates=(plan.rate / plan.lesson * np.linspace(1, 0, len(lessons), endpoint=False)).astype(np.float32),
        first=_normal(random, (DEPTH, plan.units), np.sqrt(2 / DEPTH)),
        second=_normal(random, (plan.units, CLASSES), np.sqrt(1 / plan.units)),
    )


def _normal(random: np.random.Generator, shape: tuple[int, int], width: float) -> npt.NDArray[np.float32]:
    return (random.standard_normal(shape) * width).astype(np.float32)
