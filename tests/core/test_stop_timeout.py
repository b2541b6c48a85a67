"""A stop may bring its own limit."""

from __future__ import annotations

import math

import anyio
import pytest

from rookery import Context, child, open_system
from rookery._core.ref import cell_of
from stepped import Backend, jumping


@pytest.fixture(scope="module")
def anyio_backend(anyio_backend: Backend) -> Backend:
    """However slow the machine is: time passes when everybody waits, and not otherwise."""
    return jumping(anyio_backend)


async def deaf(ctx: Context[object], events: list[str]) -> None:
    """Hears no request to stop, only its cancellation."""
    ctx.ready()
    try:
        await anyio.sleep_forever()
    finally:
        events.append("cancelled")


@pytest.mark.parametrize("timeout", [0, 0.01])
async def test_a_stop_with_a_limit_of_its_own_cancels_when_that_is_over(timeout: float) -> None:
    """The limit given to the stop counts, not the spec's, which would never cancel here."""
    events: list[str] = []
    async with open_system() as system:
        ref = await system.spawn(child(deaf, events).options(stop_timeout=math.inf))
        cell = cell_of(ref)
        assert cell is not None
        await cell.stop(drain=False, timeout=timeout)
        assert events == ["cancelled"]


async def test_a_stop_that_is_under_way_keeps_its_limit() -> None:
    """A second stop with another limit waits for the same end."""
    async with open_system() as system:
        ref = await system.spawn(child(deaf, []).options(stop_timeout=math.inf))
        cell = cell_of(ref)
        assert cell is not None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: cell.stop(drain=False, timeout=0.05))
            await anyio.wait_all_tasks_blocked()
            await cell.stop(drain=False, timeout=math.inf)
