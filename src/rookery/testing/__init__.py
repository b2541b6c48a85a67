"""Tools for testing actors."""

from __future__ import annotations

from .story import Story

__all__ = ["Story"]
