"""No operation costs more than it did: instructions, calls and memory, which are the same on a busy machine.

A change that makes something dearer on purpose records the new costs with `nox -s costs`, and the difference in
`costs.json` is read with it.
"""

from __future__ import annotations

import functools

import pytest

from costs import OPERATIONS, PYTHON, TABLE, Costs, Meter, available_loops, measure_in_process, recorded
from rookery._model.queue import PriorityQueue

SLACK = {"instructions": 0.03, "calls": 0.03, "blocks left behind": 0.1, "bytes": 0.05}
"""What an operation may cost more than recorded, as a part of it: other versions of trio and anyio differ by less."""

TRIFLE = {"instructions": 1.0, "calls": 0.5, "blocks left behind": 0.1, "bytes": 0.0}
"""What it may cost more in any case."""

measured = functools.cache(measure_in_process)


@functools.cache
def table() -> dict[str, Costs]:
    """The recorded costs for this Python, for each loop."""
    costs = recorded().get(PYTHON)
    if costs is None:
        pytest.skip(f"no costs are recorded for Python {PYTHON}: run `python tests/costs.py` with it")
    return costs


@pytest.mark.parametrize("operation", [*OPERATIONS, "idle actor"])
@pytest.mark.parametrize("loop", available_loops())
def test_an_operation_costs_no_more_than_recorded(loop: str, operation: str) -> None:
    """Within a few parts in a hundred. Instructions are counted instead of time, so that this holds on a machine that is busy."""
    limits = {
        what: round(cost * (1 + SLACK[what]) + TRIFLE[what], 2) for what, cost in table()[loop][operation].items()
    }
    costs = measured(loop)[operation]
    dearer = [f"{costs[what]:g} {what}, at most {limit:g}" for what, limit in limits.items() if costs[what] > limit]
    assert not dearer, (
        f"{operation} on {loop} costs more than {TABLE.name} says: {'; '.join(dearer)}. If that is meant to be, "
        "record the new costs with `nox -s costs` (this Python alone: `python tests/costs.py`), and commit the table"
    )


def test_the_table_has_every_loop_and_operation() -> None:
    """What is not recorded would not be noticed."""
    wanted = {*OPERATIONS, "idle actor"}
    assert {loop: set(costs) for loop, costs in table().items()} == dict.fromkeys(("trio", "asyncio", "uvloop"), wanted)


def test_more_work_counts_more() -> None:
    """Twice the calls are twice the instructions; what is not rookery's own is not counted."""
    queue: PriorityQueue[int] = PriorityQueue()
    with Meter():
        queue.push(0)
    with Meter() as once:
        queue.push(1)
    with Meter() as twice:
        queue.push(2)
        queue.push(3)
    with Meter() as foreign:
        functools.reduce(lambda total, item: total + item, range(100))
    assert (once.instructions > 0, twice.instructions, foreign) == (True, 2 * once.instructions, Meter())
