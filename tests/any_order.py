"""A plugin for pytest: all tests of a run in an order of wake-ups drawn from ``ROOKERY_SEED``."""

from __future__ import annotations

import os

import support
from rookery.testing import shuffled

support.TICKS = 300  # to settle takes more passes of the loop, as each wake-up takes several
shuffled(int(os.environ["ROOKERY_SEED"])).__enter__()  # to the end of the run
