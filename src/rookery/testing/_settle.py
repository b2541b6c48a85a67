"""Until everybody rests."""

from __future__ import annotations

import asyncio
from typing import Any, Final
from weakref import WeakSet

import anyio.lowlevel
import trio

from ._order import shuffle_in_force

RESTING_PASSES: Final = 3
"""Passes of asyncio's loop without anybody running, as callbacks run between tasks."""

_settling: Final[WeakSet[asyncio.Task[Any]]] = WeakSet()
"""Tasks that are in `settle` themselves, so that two of them do not wait for each other."""


async def settle() -> None:
    """Wait until every other task of the loop waits for something, and no wake-up of a `shuffled` order is pending.

    What waits for time, for threads or for sockets counts as resting. As `anyio.wait_all_tasks_blocked`, whose
    asyncio version sleeps a tenth of a second when somebody runs, and knows nothing of pending wake-ups. If
    cancelled, nothing has changed.
    """
    if trio.lowlevel.in_trio_task():
        from trio.testing import wait_all_tasks_blocked  # which imports pytest, where that is installed

        await wait_all_tasks_blocked()
    else:
        await _settle_on_asyncio()


async def _settle_on_asyncio() -> None:
    this = asyncio.current_task()
    assert this is not None
    _settling.add(this)
    resting = 0
    try:
        while resting < RESTING_PASSES:
            await anyio.lowlevel.checkpoint()
            resting = resting + 1 if _all_rest() else 0
    finally:
        _settling.discard(this)


def _all_rest() -> bool:
    shuffle = shuffle_in_force()
    if shuffle is not None and shuffle.pending:
        return False
    return all(task in _settling or _rests(task) for task in asyncio.all_tasks())


def _rests(task: asyncio.Task[Any]) -> bool:
    """Whether it waits for a future that nobody has completed; asyncio tells in no other way."""
    future: asyncio.Future[Any] | None = getattr(task, "_fut_waiter", None)
    return future is not None and not future.done()
