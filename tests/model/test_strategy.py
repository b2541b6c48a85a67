"""Whom a failure concerns."""

from __future__ import annotations

import pytest

from rookery._model.restart import Restart
from rookery._model.strategy import AutoShutdown, Strategy


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [(Strategy.ONE_FOR_ONE, "c"), (Strategy.ONE_FOR_ALL, "abcd"), (Strategy.REST_FOR_ONE, "cd")],
)
def test_a_strategy_says_who_restarts_together(strategy: Strategy, expected: str) -> None:
    """The child itself; everybody; the child and those started after it."""
    assert list(expected) == list(strategy.affected(list("abcd"), "c"))


@pytest.mark.parametrize(
    ("auto_shutdown", "while_others_left", "after_the_last"),
    [(AutoShutdown.NEVER, False, False), (AutoShutdown.ANY, True, True), (AutoShutdown.ALL, False, True)],
)
def test_a_significant_end_stops_the_supervisor(
    auto_shutdown: AutoShutdown, while_others_left: bool, after_the_last: bool
) -> None:
    """ANY at the first, ALL at the last, NEVER at none."""
    assert while_others_left == auto_shutdown.applies(others_left=True)
    assert after_the_last == auto_shutdown.applies(others_left=False)


@pytest.mark.parametrize("restart", list(Restart))
def test_nobody_is_significant_under_never(restart: Restart) -> None:
    """The error names what to declare the supervisor with."""
    with pytest.raises(ValueError, match=r"auto_shutdown=AutoShutdown\.ANY"):
        AutoShutdown.NEVER.check_significant(restart)


@pytest.mark.parametrize("auto_shutdown", [AutoShutdown.ANY, AutoShutdown.ALL])
def test_a_significant_child_is_not_permanent(auto_shutdown: AutoShutdown) -> None:
    """It would never have ended; the other restart types are fine."""
    with pytest.raises(ValueError, match=r"restart=Restart\.TRANSIENT"):
        auto_shutdown.check_significant(Restart.PERMANENT)
    auto_shutdown.check_significant(Restart.TRANSIENT)
    auto_shutdown.check_significant(Restart.TEMPORARY)
