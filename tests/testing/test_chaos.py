"""The storm of `nox -s chaos`, for a moment: its books add up, and would show if they did not."""

from __future__ import annotations

import itertools
from typing import Any

import anyio
import pytest

import chaos
from rookery import Context
from rookery._core.engine import Engine
from rookery._core.mailbox import Mailbox

STRIKES = 300


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Hundreds of crashes need no record each."""
    caplog.set_level("CRITICAL", "rookery")


@pytest.fixture(autouse=True)
def fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Actors than in the session: under coverage a thousand take seconds to start."""
    monkeypatch.setattr(chaos, "ACTORS", 100)


@pytest.mark.parametrize("strikes", [STRIKES, 2, 0])
async def test_a_short_storm_loses_nothing(strikes: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Messages, questions, crashes and tasks are all accounted for, and dead letters are among them; however short."""
    assert await chaos.storm(strikes, seed=1) == []
    assert (" 0 dead letters" in capsys.readouterr().out) == (not strikes)


def test_a_storm_with_few_crashes_is_none() -> None:
    """If it was to last; a short one may be as slow as the machine."""
    books = chaos.Books(strikes=chaos.STORM * chaos.CRASHES, reported=chaos.STORM * chaos.CRASHES)
    books.handed.count = chaos.ACTORS
    assert chaos.closed(books, [], took=1.9 * chaos.STORM) == []
    assert chaos.closed(books, [], took=4 * chaos.STORM) == ["only 250 crashes a second, where 1000 were to be"]
    books.strikes = books.reported = books.strikes - 1
    assert chaos.closed(books, [], took=4 * chaos.STORM) == []


async def test_a_message_that_is_lost_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """One in a hundred is enough."""
    offered = itertools.count(1)
    whole = Mailbox.offer

    def losing(mailbox: Mailbox[Any], item: Any, priority: int = 128) -> bool:
        lost = isinstance(item, chaos.Job) and not item.fatal and next(offered) % 100 == 0
        return lost or whole(mailbox, item, priority)

    monkeypatch.setattr(Mailbox, "offer", losing)
    faults = await chaos.storm(STRIKES, seed=1)
    assert any("messages are lost" in fault for fault in faults)


async def test_a_crash_that_is_not_reported_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A single one."""
    crashes = itertools.count(1)
    whole = Engine.tell

    def forgetful(engine: Engine, event: str, *what: Any) -> None:
        if event != "crashed" or next(crashes) != STRIKES // 2:
            whole(engine, event, *what)

    monkeypatch.setattr(Engine, "tell", forgetful)
    (fault,) = await chaos.storm(STRIKES, seed=1)
    assert fault.startswith(f"{STRIKES} crashes, ")


async def test_a_task_that_is_left_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A further task of one actor, where nothing ends it."""
    worker, left = chaos.worker, list[str]()

    async def leaking(ctx: Context[chaos.Work], books: chaos.Books) -> None:
        if not left:
            left.append(f"{ctx.self.path} task")
            tasks.start_soon(anyio.sleep_forever, name=left[0])
        await worker(ctx, books)

    monkeypatch.setattr(chaos, "worker", leaking)
    async with anyio.create_task_group() as tasks:
        assert await chaos.storm(STRIKES, seed=1) == [f"task left: {left[0]}"]
        tasks.cancel_scope.cancel()
