"""The storm of `nox -s chaos`, for a moment: its books add up, and would show if they did not."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

import chaos
from rookery._core.mailbox import Mailbox

STRIKES = 300


async def test_a_short_storm_loses_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Messages, questions, crashes and tasks are all accounted for."""
    caplog.set_level("CRITICAL", "rookery")
    assert await chaos.storm(STRIKES, seed=1) == []


async def test_a_message_that_is_lost_is_seen(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One in a hundred is enough."""
    caplog.set_level("CRITICAL", "rookery")
    offered = itertools.count(1)
    whole = Mailbox.offer

    def losing(mailbox: Mailbox[Any], item: Any, priority: int = 128) -> bool:
        lost = isinstance(item, chaos.Job) and not item.fatal and next(offered) % 100 == 0
        return lost or whole(mailbox, item, priority)

    monkeypatch.setattr(Mailbox, "offer", losing)
    faults = await chaos.storm(STRIKES, seed=1)
    assert any("messages are lost" in fault for fault in faults)
