"""The course is what the plan says, and the reference does what it claims: gradient descent on the hinge loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np
import pytest

from rookery._cli.demo.plan import Plan, draw_up
from rookery._cli.demo.reference import compute

if TYPE_CHECKING:
    import numpy.typing as npt

    from rookery._cli.demo.digits import Digits
    from rookery._cli.demo.plan import Course


def test_the_images_are_the_real_ones(digits: Digits) -> None:
    """1,797 scans with values from 0 to 1, and the constant behind each."""
    assert digits.images.shape == (1797, 65)
    assert (digits.images.min(), digits.images.max()) == (0, 1)
    assert set(digits.images[:, 64]) == {1}
    assert np.bincount(digits.labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


@pytest.mark.parametrize("seed", range(3))
def test_no_held_out_image_is_learned_from(digits: Digits, seed: int) -> None:
    """And in each epoch no other is learned from twice."""
    plan = Plan(seed=seed, epochs=2)
    course = draw_up(plan, len(digits))
    assert len(set(course.held_out)) == plan.held_out
    assert not set(course.held_out) & set(course.lessons.flat)
    for epoch in np.split(course.lessons, plan.epochs):
        assert len(set(epoch.flat)) == epoch.size


def test_the_seed_decides_everything(digits: Digits) -> None:
    """The same seed draws the same course; another seed another one, in each of its parts."""

    def drawn(seed: int) -> dict[str, npt.NDArray[np.generic]]:
        return attrs.asdict(draw_up(Plan(seed=seed), len(digits)))

    same, other = drawn(1), drawn(2)
    for name, part in drawn(1).items():
        assert np.array_equal(part, same[name])
        assert name == "rates" or not np.array_equal(part, other[name])


def test_a_lesson_goes_down_the_gradient_of_the_loss(digits: Digits) -> None:
    """Compared with differences of the loss itself, in float64."""
    course = draw_up(Plan(epochs=1), len(digits))
    one = attrs.evolve(course, lessons=course.lessons[:1], rates=course.rates[:1])
    after = compute(one, digits, lambda: None)
    random = np.random.default_rng(0)
    for before, learned, position in ((one.first, after.first, 0), (one.second, after.second, 1)):
        step = (learned - before) / -one.rates[0]
        for row, column in zip(*(random.integers(side, size=5) for side in before.shape), strict=True):
            assert step[row, column] == pytest.approx(slope(one, digits, position, (row, column)), rel=1e-3, abs=1e-3)


def slope(course: Course, digits: Digits, position: int, cell: tuple[int, int]) -> float:
    """How fast the loss of a course's only lesson grows with one weight."""
    losses: list[float] = []
    for nudge in (1e-6, -1e-6):
        weights = [course.first.astype(np.float64), course.second.astype(np.float64)]
        weights[position][cell] += nudge
        scores = np.maximum(digits.images[course.lessons[0]] @ weights[0], 0) @ weights[1]
        sign = np.where(digits.labels[course.lessons[0]][:, None] == np.arange(10), 1, -1)
        losses.append(float((np.maximum(1 - sign * scores, 0) ** 2).sum() / 2))
    return (losses[0] - losses[1]) / 2e-6
