"""What several test files need."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anyio
from anyio.lowlevel import checkpoint

TICKS = 20
"""More passes of the loop than any chain of wake-ups in the core needs."""


async def settle() -> None:
    """Let every task run until it is parked.

    As `anyio.wait_all_tasks_blocked`, whose asyncio version sleeps a tenth of a second when a task is not
    parked yet.
    """
    for _ in range(TICKS):
        await checkpoint()


async def settle_shielded() -> None:
    """As `settle`, in a cancelled scope."""
    with anyio.CancelScope(shield=True):
        await settle()


@contextmanager
def broken_logging(name: str, part: str) -> Iterator[None]:
    """A logger with a "filter" or a "handler" that raises."""
    logger, broken = logging.getLogger(name), logging.Handler()

    def fail(record: logging.LogRecord) -> bool:
        raise ZeroDivisionError(record.getMessage())

    broken.addFilter(fail)
    put, take = (
        (logger.addFilter, logger.removeFilter) if part == "filter" else (logger.addHandler, logger.removeHandler)
    )
    what: Any = fail if part == "filter" else broken
    put(what)
    try:
        yield
    finally:
        take(what)
