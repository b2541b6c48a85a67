"""One timer for all deadlines of a system."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rookery._core._parking import current_loop
from rookery._core.deadlines import SWEEP_ABOVE, Deadlines
from stepped import Backend, jumping
from support import settle


@pytest.fixture(scope="module")
def anyio_backend(anyio_backend: Backend) -> Backend:
    """However slow the machine is: time passes when everybody waits, and not otherwise."""
    return jumping(anyio_backend)


@pytest.fixture
async def deadlines() -> AsyncGenerator[Deadlines]:
    made = Deadlines(current_loop())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(made.run)
        yield made
        made.close()


async def test_an_alarm_rings_once_its_time_has_come(deadlines: Deadlines):
    """The call is made at its time, not before."""
    rang = anyio.Event()
    now = anyio.current_time()
    when: list[float] = []
    deadlines.at(now + 0.01, lambda: (when.append(anyio.current_time()), rang.set()))
    await rang.wait()
    assert when[0] >= now + 0.01


async def test_an_earlier_alarm_overtakes(deadlines: Deadlines):
    """A new earliest alarm wakes the sleeper; order is by time, not by arrival."""
    order: list[str] = []
    rang = anyio.Event()
    now = anyio.current_time()
    deadlines.at(now + 0.02, lambda: (order.append("later"), rang.set()))
    await settle()
    deadlines.at(now + 0.01, lambda: order.append("sooner"))
    await rang.wait()
    assert order == ["sooner", "later"]


async def test_a_cancelled_alarm_does_not_ring(deadlines: Deadlines):
    """`cancel` is idempotent, and harmless after the call."""
    order: list[str] = []
    rang = anyio.Event()
    now = anyio.current_time()
    cancelled = deadlines.at(now, lambda: order.append("cancelled"))
    cancelled.cancel()
    cancelled.cancel()
    last = deadlines.at(now + 0.001, rang.set)
    await rang.wait()
    last.cancel()
    assert order == []


async def test_alarms_ring_inside_a_cancelled_block(deadlines: Deadlines):
    """Stop timeouts matter most when everything around is being cancelled."""
    rang = anyio.Event()
    async with anyio.create_task_group() as tasks:
        made = Deadlines(current_loop())
        tasks.start_soon(made.run)
        await settle()
        tasks.cancel_scope.cancel()
        made.at(anyio.current_time(), rang.set)
        with anyio.CancelScope(shield=True):
            await rang.wait()
        made.close()


@given(st.lists(st.booleans(), max_size=4 * SWEEP_ABOVE))
async def test_cancelled_alarms_do_not_pile_up(kept: list[bool]):
    """The heap is never much longer than twice the alarms in use."""
    made = Deadlines(current_loop())
    alarms = [made.at(1e12 + number, pytest.fail) for number in range(len(kept))]
    for alarm, keep in zip(alarms, kept, strict=True):
        if not keep:
            alarm.cancel()
    assert len(made._heap) <= max(2 * sum(kept), SWEEP_ABOVE + sum(kept))
