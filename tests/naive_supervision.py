"""Supervision, naively: the test kit's own model of it, which `SystemMachine` holds systems against."""

from __future__ import annotations

from rookery.testing._naive import NaiveChild, NaiveSupervisor

__all__ = ["NaiveChild", "NaiveSupervisor"]
