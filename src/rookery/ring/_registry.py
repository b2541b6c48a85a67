"""Kernels by name: what ``auto_register`` registers, and where.

A kernel that was defined anywhere in the process can be launched by its id from any runtime, on any loop, in
any thread. Yet nothing here owns a kernel: each namespace in which kernels are defined (a module, mostly)
holds the table of its own, under the name ``__ring_kernels__``, and what is kept here is a weak set of those
tables. When the namespace goes, so do its kernels.

Two different functions may be defined under one id, in two test modules, say; nobody is harmed until someone
launches by that id alone. That is where it is ambiguous, and where it is refused. The same function defined
again (a module reloaded, a notebook's cell run twice) replaces its former self.
"""

from __future__ import annotations

import difflib
import threading
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, cast
from weakref import WeakSet

from ._definition import KernelDefinition, plain_function
from ._errors import AmbiguousKernel, UnknownKernel

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMESPACE_KEY: Final = "__ring_kernels__"


class _Table:
    """The kernels of one namespace, by id and origin."""

    __slots__ = ("__weakref__", "kernels")

    def __init__(self) -> None:
        self.kernels: dict[tuple[str, tuple[str, str]], tuple[int, KernelDefinition]] = {}


_lock: Final = threading.Lock()  # definitions may be made, and looked up, in any thread
_tables: Final[WeakSet[_Table]] = WeakSet()
_made = 0


def register(definition: KernelDefinition) -> None:
    """Make a kernel known by its id, for as long as the namespace lives in which its function is defined."""
    global _made  # noqa: PLW0603  # under the lock
    namespace = cast("dict[str, Any]", getattr(plain_function(definition.function), "__globals__", {}))
    with _lock:
        _made += 1
        table = namespace.setdefault(NAMESPACE_KEY, _Table())
        table.kernels[definition.kernel_id, definition.origin] = (_made, definition)
        _tables.add(table)


def registered(kernel_id: str) -> KernelDefinition:
    """The kernel known by this id.

    Raises:
        UnknownKernel: if there is none.
        AmbiguousKernel: if there are several, naming each.
    """
    candidates = _candidates(kernel_id)
    if not candidates:
        raise UnknownKernel(_nothing_registered(kernel_id))
    if len(candidates) > 1:
        places = " and ".join(definition.where for definition in candidates)
        raise AmbiguousKernel(
            f"the id {kernel_id!r} is registered by {places}: say which one, "
            f"`runtime.launch({kernel_id!r}, function)`, or give one of them an id of its own"
        )
    return candidates[0]


def is_registered(kernel_id: str) -> bool:
    """Whether some kernel is known by this id."""
    return bool(_candidates(kernel_id))


def _candidates(kernel_id: str) -> list[KernelDefinition]:
    """The latest definition of each origin, in order of definition."""
    latest: dict[tuple[str, str], tuple[int, KernelDefinition]] = {}
    for number, definition in _all():
        known = latest.get(definition.origin)
        if definition.kernel_id == kernel_id and (known is None or known[0] < number):
            latest[definition.origin] = (number, definition)
    return [definition for _, definition in sorted(latest.values(), key=itemgetter(0))]


def _all() -> Iterator[tuple[int, KernelDefinition]]:
    with _lock:
        return iter([entry for table in _tables for entry in table.kernels.values()])


def _nothing_registered(kernel_id: str) -> str:
    known = sorted({definition.kernel_id for _, definition in _all()})
    close = difflib.get_close_matches(kernel_id, known, n=3)
    if close:
        hint = f"did you mean {' or '.join(map(repr, close))}?"
    elif known:
        hint = f"registered are {', '.join(map(repr, known[:10]))}"
    else:
        hint = "import the module that defines it"
    return f"no kernel is registered as {kernel_id!r}; {hint}; or pass it: `runtime.launch({kernel_id!r}, function)`"
