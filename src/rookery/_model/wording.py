"""Showing values in messages."""

from __future__ import annotations

from reprlib import Repr
from typing import Final

_REPR: Final = Repr()
_REPR.maxstring = _REPR.maxother = 200


def brief(value: object) -> str:
    """``repr(value)``, at most some two hundred characters of it, and never an error of its own."""
    return _REPR.repr(value)
