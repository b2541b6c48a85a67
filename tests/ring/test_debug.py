"""A runtime in the debug mode watches its event loop."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from rookery.ring import KernelContext, RingKernelRuntime
from support import settle

from .support import Ping, running


class Seen(logging.Handler):
    """Tells when somebody has looked at the kernel that holds the loop."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.event = threading.Event()
        self.reported: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        told: Any = record
        if told.actor == "/miner" and "seen.event.wait()" in told.stack:
            self.event.set()
            self.reported.add(f"{told.actor} {told.in_hand} {told.levelname}")


@pytest.fixture
def seen() -> Iterator[Seen]:
    seen, logger = Seen(), logging.getLogger("rookery.debug")
    logger.addHandler(seen)
    logger.setLevel(logging.DEBUG)
    yield seen
    logger.setLevel(logging.NOTSET)
    logger.removeHandler(seen)


async def test_a_kernel_that_holds_the_loop_is_reported(seen: Seen) -> None:
    """By the path of its actor, which is its id, with the type of the message it has in hand."""

    async def miner(ctx: KernelContext[Any, Any]) -> None:
        await ctx.receive()
        seen.event.wait()

    async with RingKernelRuntime(debug=True) as runtime:
        await running(runtime, "miner", miner)
        await runtime.send("miner", Ping())
        await settle()
    assert seen.reported >= {"/miner Ping WARNING"}


def test_debug_is_checked_where_it_is_written() -> None:
    """Not at the block."""
    with pytest.raises(TypeError, match="debug is True, False, or None"):
        RingKernelRuntime(debug="no")  # type: ignore[arg-type]
