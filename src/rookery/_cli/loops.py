"""The event loops a command can run on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

import anyio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import TypeVarTuple

    Ts = TypeVarTuple("Ts")

T = TypeVar("T")

LOOPS: Final = ("trio", "asyncio", "uvloop")


def run_on(loop: str, fn: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T:
    """Run ``fn(*args)`` to its end on the loop of that name.

    Raises:
        ModuleNotFoundError: for uvloop, where it is not installed.
        KeyboardInterrupt: after Ctrl-C, once ``fn`` has come down. It comes alone, whatever groups it was in.
    """
    options = {"use_uvloop": loop == "uvloop"} if loop != "trio" else {}
    try:
        return anyio.run(fn, *args, backend="trio" if loop == "trio" else "asyncio", backend_options=options)
    except BaseExceptionGroup as group:
        interrupts, others = group.split(KeyboardInterrupt)
        if interrupts is None or others is not None:
            raise
        raise KeyboardInterrupt from None
