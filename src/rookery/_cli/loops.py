"""The event loops a command can run on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

import anyio
import trio

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
        KeyboardInterrupt: after Ctrl-C, once ``fn`` has come down. It comes alone, also when it was pressed twice.
    """
    try:
        if loop == "trio":
            # Ctrl-C reaches the main task at its next checkpoint, as on asyncio, and not whichever actor happens to
            # run: so the tree comes down in order. (Not by anyio.run: its versions before 4.14 drop the option.)
            return trio.run(fn, *args, restrict_keyboard_interrupt_to_checkpoints=True)
        return anyio.run(fn, *args, backend="asyncio", backend_options={"use_uvloop": loop == "uvloop"})
    except BaseExceptionGroup as group:
        _, others = group.split(KeyboardInterrupt)
        if others is not None:
            raise
        raise KeyboardInterrupt from None
