"""Time that jumps: a clock that goes on to the next timer when everybody sleeps."""

from __future__ import annotations

import asyncio
import selectors
from functools import partial
from typing import Any, final


def virtual_clock(backend: str, *, threshold: float = 0.0, debug: bool = False) -> tuple[str, dict[str, Any]]:
    """A backend for anyio whose time stands still while anybody can run, and jumps when everybody sleeps.

    All that is timed by the loop follows: `anyio.sleep`, cancel scopes, ``asyncio.timeout``, rookery's timeouts and
    backoffs. A test of a minute's timeout takes no time, and never runs out of it because the machine is slow.

    Time does not stand still while threads or other processes work: nobody on the loop can run then, so it jumps
    to the next timer, a timeout of that very work included. Give it a ``threshold`` longer than the work takes, or
    wait for such work without a timeout.

    Args:
        backend: ``"trio"`` or ``"asyncio"``.
        threshold: Real seconds for which everything has to rest before time jumps.
        debug: asyncio's debug mode.

    Returns:
        The name and options of an anyio backend with a clock of its own that begins at 0: a value for the
        ``anyio_backend`` fixture, and ``anyio.run(main, backend=name, backend_options=options)``.

    Raises:
        ValueError: for uvloop, whose timers are libuv's, and other backends.

    Example:
        >>> name, options = virtual_clock("asyncio")
        >>> anyio.run(anyio.sleep, 3600, backend=name, backend_options=options)
    """
    if not threshold >= 0:
        raise ValueError(f"a threshold is 0 seconds or more, got {threshold!r}")
    match backend:
        case "trio":
            from trio.testing import MockClock  # which imports pytest, where that is installed

            return "trio", {"clock": MockClock(autojump_threshold=threshold)}
        case "asyncio":
            return "asyncio", {"debug": debug, "loop_factory": partial(VirtualTimeLoop, threshold)}
        case "uvloop":
            raise ValueError("uvloop's timers are libuv's, whose time cannot jump: write `virtual_clock('asyncio')`")
        case _:
            raise ValueError(
                f"there is a virtual clock for 'trio' and for 'asyncio', got {backend!r}: write `virtual_clock('trio')`"
            )


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """asyncio's own loop on a virtual time.

    Before it sleeps until the next timer the loop asks its selector whether anything happens until then. That is
    where time jumps.
    """

    def __init__(self, threshold: float = 0.0) -> None:
        self._clock = _JumpingSelector(threshold)
        super().__init__(self._clock)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._clock.now

    async def shutdown_default_executor(self, *args: Any, **kwargs: Any) -> None:
        """As ever, in real time: threads are at work, and they are to be waited for."""
        self._clock.jumps = False
        await super().shutdown_default_executor(*args, **kwargs)


@final
class _JumpingSelector(selectors.DefaultSelector):
    """A selector that does not wait for timers."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.now = 0.0
        self.jumps = True
        self._threshold = threshold

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= 0 or not self.jumps:
            return super().select(timeout)
        events = super().select(self._threshold)
        if not events:
            self.now += timeout
        return events
