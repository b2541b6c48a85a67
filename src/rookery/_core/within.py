"""Whose code is running, and where in the tree that is."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .cell import Cell

within_actor: Final[ContextVar[Cell | None]] = ContextVar("within_actor", default=None)
"""The actor in whose main task, or in a task started from there, the code runs."""


def lies_within(path: str, above: str) -> bool:
    """Whether a path is that of an actor or of one below it."""
    return f"{path}/".startswith(f"{above}/")
