"""A loop that goes on only when a test says so: the test kit's own."""

from __future__ import annotations

from rookery.testing._stepped import LONG, PATIENCE, TICKS, Job, Stepped

__all__ = ["LONG", "PATIENCE", "TICKS", "Job", "Stepped"]
