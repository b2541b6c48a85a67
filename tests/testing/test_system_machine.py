"""Whole systems under random use, on each loop; and broken systems, which must not get through."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import anyio
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, run_state_machine_as_test

from rookery import Actor, Context, Request, Strategy, message, request_for
from rookery._core import ref as ref_module
from rookery._core.cell import Cell
from rookery._core.incarnation import Incarnation
from rookery._model.order import StartOrder
from rookery._model.restart import RestartWindow
from rookery.testing._stepped import BACKENDS
from rookery.testing._workers import WORKER, Plan
from rookery.testing.machine import SystemMachine

NIGHTLY = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"

PARTS = range(100 if NIGHTLY else 1)
"""At night there are ten thousand examples on each loop, in parts which end before a test is taken for stuck."""

EXAMPLES = 100 if NIGHTLY else settings.default.max_examples

CAUGHT_WITHIN = 300
"""Examples in which a broken system has to be found out, the same ones each time."""


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Thousands of crashes are nothing to log."""
    logger = logging.getLogger("rookery.supervision")
    logger.disabled = True
    yield
    logger.disabled = False


@pytest.fixture
def loop(request: pytest.FixtureRequest, anyio_backend: Any) -> str:
    """The loop's name, as the machine wants it."""
    return next(name for name in BACKENDS if name in request.node.callspec.id)


def run(machine: type[SystemMachine], loop: str, **options: Any) -> None:
    run_state_machine_as_test(type(machine.__name__, (machine,), {"backend": loop}), settings=settings(**options))


@pytest.mark.parametrize("part", PARTS)
def test_systems_keep_the_rules(loop, part):
    """Whatever happens to them."""
    run(SystemMachine, loop, max_examples=EXAMPLES)


def test_a_supervisor_that_has_to_go_before_it_has_begun_is_not_ready(loop):
    """In a group restart that starts anew at once: the start which counts is the one that follows."""
    plan = Plan(
        strategy=Strategy.ONE_FOR_ALL,
        max_restarts=2,
        children=(WORKER, Plan(max_restarts=0, children=()), WORKER),
    )
    machine = type("Machine", (SystemMachine,), {"backend": loop})()
    try:
        machine.open(plan=plan, cancelled=False)
        machine.crash_together(ats=[0, 0], what="crash")
    finally:
        machine.teardown()


# ---- somebody's own actors


@message
class Put(Request[int]):
    number: int


@message
class Take:
    number: int


async def till(ctx: Context[Put | Take]) -> None:
    """Crashes when there is not enough in it, and returns at zero."""
    total = 0
    ctx.ready()
    async for item in ctx:
        if isinstance(item, Put):
            total += item.number
            ctx.reply(item, total)
        else:
            total -= item.number
        if total < 0:
            raise ValueError(total)
        if isinstance(item, Take) and total == 0:
            return


async def counting(ctx: Context[Take]) -> None:
    """Breaks off now and then."""
    async for item in ctx:
        if item.number == 3:
            raise ValueError(item)


class Counter(Actor):
    """Likewise, as a class."""

    def __init__(self) -> None:
        self.total = 0

    async def add(self, number: int) -> int:
        if number == 0:
            raise ValueError(self.total)
        self.total += number
        return self.total


class TillMachine(SystemMachine):
    behaviours: ClassVar = {
        till: st.builds(Put, st.integers(0, 3)) | st.builds(Take, st.integers(0, 3)),
        counting: st.builds(Take, st.integers(0, 3)),
        Counter: st.integers(0, 3).map(lambda number: request_for(Counter.add, number)),
    }


@pytest.mark.parametrize("part", PARTS[:10])
def test_ones_own_actors_are_driven_too(loop, part):
    """They crash, return and answer as they like, and supervision is as it has to be."""
    run(TillMachine, loop, max_examples=EXAMPLES)


class NobodyCrashes(SystemMachine):
    @invariant()
    def nobody_crashes(self) -> None:
        assert "crashed" not in self.story.mermaid()


def test_a_failure_of_ones_own_invariant_tells_the_story():
    """As short as can be, at night: to make it short takes half a minute. On one loop only."""
    phases = list(Phase) if NIGHTLY else [Phase.generate]
    with pytest.raises(AssertionError) as failure:
        run(NobodyCrashes, "trio", max_examples=CAUGHT_WITHIN, derandomize=True, database=None, phases=phases)
    (story,) = [note for note in failure.value.__notes__ if "sequenceDiagram" in note]
    crashes = story.count("crashed on") + story.count("at the start")
    assert crashes == 1 if NIGHTLY else crashes >= 1
    assert len(story.splitlines()) < 15 or not NIGHTLY


# ---- tests of the test


def losing_its_mailbox(monkeypatch: pytest.MonkeyPatch) -> None:
    def begin(cell: Cell, begin: Callable[[Cell], None] = Cell.begin) -> None:
        begin(cell)
        if cell.incarnations > 1:
            cell.mailbox.withdraw()

    monkeypatch.setattr(Cell, "begin", begin)


def stopping_in_start_order(monkeypatch: pytest.MonkeyPatch) -> None:
    def see_off(order: Any, group: Any, see_off: Any = StartOrder.see_off) -> Any:
        return see_off(order, list(group)[::-1])

    monkeypatch.setattr(StartOrder, "see_off", see_off)


def swallowing_cancellations(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask(*args: Any, ask: Any = ref_module.ask) -> Any:
        try:
            return await ask(*args)
        except anyio.get_cancelled_exc_class():
            return None

    monkeypatch.setattr(ref_module, "ask", ask)


def telling_watchers_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    def tell(cell: Cell, event: Any, tell: Any = Cell._tell_watchers) -> None:
        tell(cell, event)
        tell(cell, event)

    monkeypatch.setattr(Cell, "_tell_watchers", tell)


def telling_no_watchers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cell, "_tell_watchers", lambda cell, event: None)


def never_settling_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Incarnation, "_settle", lambda incarnation, crash: None)


def never_giving_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RestartWindow, "record", lambda window, now, crash: True)


BROKEN = {
    losing_its_mailbox: "messages in its mailbox instead of|does not receive|was first|received .* which nobody had sent|was not in the mailbox",
    stopping_in_start_order: "has 'stopping', and was not to|had no reason to",
    swallowing_cancellations: r"^ask at .* \('returned', None\)",
    telling_watchers_twice: "once too often",
    telling_no_watchers: "was not told",
    never_settling_asks: "^stuck: ",
    never_giving_up: "restarting.* instead of .* gives up|has 'started', and was not to",
}
"""What is broken, and what is to be said about it."""


@pytest.mark.skipif("coverage" in sys.modules, reason="takes minutes under coverage; other Pythons run it")
@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
def test_a_broken_system_is_found_out(broken, loop, monkeypatch):
    """And the story of how is told. At night on every loop, otherwise each on one of them."""
    if not NIGHTLY and list(BACKENDS)[list(BROKEN).index(broken) % len(BACKENDS)] != loop:
        pytest.skip("on another loop")
    broken(monkeypatch)
    with pytest.raises(AssertionError, match=BROKEN[broken]) as failure:
        run(
            SystemMachine,
            loop,
            max_examples=CAUGHT_WITHIN,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        )
    assert any("sequenceDiagram" in note for note in failure.value.__notes__)
