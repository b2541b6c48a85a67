"""What several test files need."""

from __future__ import annotations

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
