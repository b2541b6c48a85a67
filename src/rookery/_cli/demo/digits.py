"""The images: scans of handwritten digits that ship inside scikit-learn's wheel."""

from __future__ import annotations

from typing import Any, Final, cast, final

import attrs
import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_digits

CLASSES: Final = 10
DEPTH: Final = 65
"""Numbers for each image: 8 x 8 grey values, and a constant 1 whose weight is the bias."""


@final
@attrs.frozen(eq=False)
class Digits:
    """Scanned digits, each 8 x 8 grey values; E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, 1998.

    Attributes:
        images: float32 (n, 65), from 0 to 1. The scans have 17 levels, so each value is exact.
        labels: int32 (n,), from 0 to 9.
    """

    images: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.labels)


def read_digits() -> Digits:
    """Read all 1,797 images from the installed package; nothing is downloaded."""
    bunch = cast("Any", load_digits())
    ones = np.ones((len(bunch.data), 1))
    images = np.hstack([bunch.data / 16, ones])
    return Digits(images.astype(np.float32), bunch.target.astype(np.int32))
