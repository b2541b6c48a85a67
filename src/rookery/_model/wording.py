"""Showing values in messages, and names as people import them."""

from __future__ import annotations

from enum import Enum
from reprlib import Repr
from typing import TYPE_CHECKING, Any, Final, final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@final
class _Brief(Repr):
    """As code where there is code for it."""

    def repr1(self, x: Any, level: int) -> str:
        return str(x) if isinstance(x, Enum) and type(x).__str__ is Enum.__str__ else super().repr1(x, level)


_REPR: Final = _Brief()
_REPR.maxstring = _REPR.maxother = 200


def at_home(namespace: Mapping[str, Any], public: Iterable[str]) -> None:
    """Have public classes and functions say that they live where they are imported from, in tracebacks above all."""
    for name in public:
        namespace[name].__module__ = namespace["__name__"]


def brief(value: object) -> str:
    """``repr(value)``, at most some two hundred characters of it, and never an error of its own."""
    return _REPR.repr(value)
