"""Lines and latches: grants are served in turn and never lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rookery._core._parking import Loop, current_loop
from rookery._core.waiting import Latch, Place, WaitingLine
from support import settle


@pytest.fixture
async def loop() -> Loop:
    return current_loop()


class Counter:
    """An owner with one kind of reservation: grants given must equal grants used, always."""

    def __init__(self) -> None:
        self.line = WaitingLine(current_loop())
        self.served: list[int] = []
        self.spare = 0
        self.scopes: list[anyio.CancelScope] = []

    def give(self) -> None:
        if not self.line.grant():
            self.spare += 1

    async def take(self, number: int) -> None:
        with self.scopes[number]:
            await self.line.wait(self.give)
            self.served.append(number)


STEPS = st.lists(st.one_of(st.just("give"), st.just("settle"), st.integers(0, 4)), max_size=20)


@given(steps=STEPS)
async def test_every_grant_is_used_once_or_passed_on(steps: list[str | int]):
    """Whatever is cancelled in whichever tick, grants given = tasks served + grants nobody waited for."""
    owner = Counter()
    given = 0
    cancelled: set[int] = set()
    async with anyio.create_task_group() as tasks:
        for number in range(5):
            owner.scopes.append(anyio.CancelScope())
            tasks.start_soon(owner.take, number)
            await settle()
        for step in steps:
            match step:
                case "give":
                    owner.give()
                    given += 1
                case int(number):
                    owner.scopes[number].cancel()
                    cancelled.add(number)
                case _:
                    await settle()
        await settle()
        assert given == len(owner.served) + owner.spare
        waiting = set(range(5)) - cancelled - set(owner.served)
        assert len(waiting) == len(owner.line)
        assert not (waiting and owner.spare)
        tasks.cancel_scope.cancel()


async def test_the_line_is_served_in_turn(loop: Loop):
    """First come, first served; one who left has no place any more."""
    owner = Counter()
    async with anyio.create_task_group() as tasks:
        for number in range(4):
            owner.scopes.append(anyio.CancelScope())
            tasks.start_soon(owner.take, number)
            await settle()
        owner.scopes[1].cancel()
        for _ in range(3):
            await settle()
            owner.give()
    assert owner.served == [0, 2, 3]


async def test_a_place_that_is_vacated_ends_the_wait(loop: Loop):
    """`wait` returns False when the task is to leave, and it has left the line."""
    line = WaitingLine(loop)
    place = Place(line)
    place.vacate()
    assert not await place.wait(pytest.fail)
    assert len(line) == 0


async def test_a_grant_beats_a_later_vacate(loop: Loop):
    """`wait` returns True when granted first, and there is nothing left to vacate."""
    line = WaitingLine(loop)
    place = Place(line)
    line.grant()
    place.vacate()
    assert await place.wait(pytest.fail)


@pytest.mark.parametrize("order", ["grant, cancel", "cancel, grant"])
async def test_a_place_passes_a_grant_on_as_well(loop: Loop, order: str):
    """A task that is cancelled with a grant in hand gives it back."""
    line = WaitingLine(loop)
    outcomes: list[str] = []
    scope = anyio.CancelScope()

    async def wait() -> None:
        with scope:
            await Place(line).wait(lambda: outcomes.append("passed on"))
            outcomes.append("served")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await settle()
        calls: dict[str, Callable[[], object]] = {"grant": line.grant, "cancel": scope.cancel}
        for name in order.split(", "):
            calls[name]()
    assert len(outcomes) == 1


async def test_a_latch_releases_everyone_before_and_after(loop: Loop):
    """Who waits when it is set goes on, and so does who comes later."""
    latch = Latch(loop)
    passed: list[str] = []

    async def wait(name: str) -> None:
        await latch.wait()
        passed.append(name)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait, "early")
        await settle()
        assert passed == []
        latch.set()
        latch.set()
        await wait("late")
    assert sorted(passed) == ["early", "late"]


async def test_outlasting_a_latch_ignores_cancel_scopes(loop: Loop):
    """`outlast` waits on through a cancellation that a shield keeps out, and reports nothing."""
    latch = Latch(loop)
    reported: list[BaseException | None] = []

    async def outlast() -> None:
        reported.append(await latch.outlast())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(outlast)
        await settle()
        tasks.cancel_scope.cancel()
        await anyio.lowlevel.cancel_shielded_checkpoint()
        assert reported == []
        latch.set()
    assert reported == [None]


async def test_outlasting_a_latch_remembers_what_pierces_shields(loop: Loop, anyio_backend_name: str):
    """A native `Task.cancel()` does not end the wait; it is told each time, and returned once."""
    if anyio_backend_name != "asyncio":
        return
    latch = Latch(loop)
    pierced: list[str] = []
    task = asyncio.create_task(latch.outlast(lambda: pierced.append("pierced")))
    for _ in range(2):
        await settle()
        task.cancel()
    await settle()
    assert pierced == ["pierced", "pierced"]
    latch.set()
    assert isinstance(await task, asyncio.CancelledError)


async def test_what_pierces_a_shield_may_be_told_to_nobody(loop: Loop, anyio_backend_name: str):
    """It is returned in any case."""
    if anyio_backend_name != "asyncio":
        return
    latch = Latch(loop)
    task = asyncio.create_task(latch.outlast())
    await settle()
    task.cancel()
    await settle()
    latch.set()
    assert isinstance(await task, asyncio.CancelledError)
