"""Instruments hear what happens, in order, and harm nobody."""

from __future__ import annotations

import logging
from typing import Any

import anyio
import pytest

from rookery import (
    AskTimeout,
    Context,
    Instrument,
    MailboxFull,
    Overflow,
    Refused,
    Request,
    Terminated,
    child,
    message,
    open_system,
)
from rookery._core.mailbox import Mailbox
from rookery._core.ref import cell_of
from stepped import Backend, jumping
from support import broken_logging, settle


@pytest.fixture(scope="module")
def anyio_backend(anyio_backend: Backend) -> Backend:
    """Time passes when everybody waits."""
    return jumping(anyio_backend)


EVENTS = tuple(name for name in vars(Instrument) if not name.startswith("_"))


@message
class Double(Request[int]):
    number: int


class Recorder(Instrument):
    """Keeps everything, with names for references."""

    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []

    def __getattribute__(self, name: str) -> Any:
        if name not in EVENTS:
            return super().__getattribute__(name)
        return lambda *what: self.heard.append((name, *(getattr(one, "name", one) for one in what)))

    def about(self, *events: str) -> list[tuple[Any, ...]]:
        return [entry for entry in self.heard if entry[0] in events]


async def doubler(ctx: Context[Double | str]) -> None:
    async for item in ctx:
        if isinstance(item, str):
            raise ValueError(item)  # noqa: TRY004  # a crash, and no check of types
        if item.number < 0:
            ctx.fail(item, Refused(ValueError("negative")))
        else:
            ctx.reply(item, 2 * item.number)


async def test_a_life_is_heard_from_start_to_end() -> None:
    """With the crash and what was decided about it."""
    recorder = Recorder()
    async with open_system(instruments=[recorder]) as system:
        ref = await system.spawn(doubler)
        await ref.send("boom")
        await settle()
        await ref.stop()
    crash = ref.statistics().last_crash
    assert repr(crash) == "ValueError('boom')"
    assert recorder.about("started", "ready", "left", "exited", "crashed", "stopping", "ended") == [
        ("started", "doubler", 1),
        ("ready", "doubler", 1),
        ("left", "doubler", 1),
        ("exited", "doubler", 1, crash),
        ("crashed", "doubler", 1, crash, "restarting"),
        ("started", "doubler", 2),
        ("ready", "doubler", 2),
        ("stopping", "doubler"),
        ("left", "doubler", 2),
        ("exited", "doubler", 2, None),
        ("ended", "doubler", None),
    ]


async def test_traffic_is_heard_with_who_sent_it() -> None:
    """Each message when it is in the mailbox, when it is handed out, and when it is answered."""
    recorder = Recorder()

    async def asker(ctx: Context[int], ref: Any) -> None:
        await ref.ask(Double(4))
        await ctx.receive()

    async with open_system(instruments=[recorder]) as system:
        ref = await system.spawn(doubler)
        await ref.ask(Double(1))
        with pytest.raises(Refused):
            await ref.ask(Double(-1))
        await system.spawn(asker, ref)
        await ref.send(Double(3), priority=200)
        await settle()
    traffic = recorder.about("sent", "received", "answered")
    refusal = traffic[5][4]
    assert traffic == [
        ("sent", "doubler", Double(1), 128, None),
        ("received", "doubler", Double(1)),
        ("answered", "doubler", Double(1), 2, None, None),
        ("sent", "doubler", Double(-1), 128, None),
        ("received", "doubler", Double(-1)),
        ("answered", "doubler", Double(-1), None, refusal, None),
        ("sent", "doubler", Double(4), 128, "asker"),
        ("received", "doubler", Double(4)),
        ("answered", "doubler", Double(4), 8, None, "asker"),
        ("sent", "doubler", Double(3), 200, None),
        ("received", "doubler", Double(3)),
        ("answered", "doubler", Double(3), 6, None, None),
    ]
    assert [entry[1].reason.name for entry in recorder.about("dead_letter")] == ["NOT_ASKED"]


async def test_blocked_and_refused_messages_are_heard_when_they_arrive_or_not_at_all() -> None:
    """A sender that waits for room has not sent yet; what the actor is told of others is received too."""
    recorder = Recorder()

    async def slow(ctx: Context[int | Terminated], target: Any) -> None:
        ctx.watch(target)
        async for _ in ctx:
            pass

    async with open_system(instruments=[recorder]) as system:
        target = await system.spawn(doubler)
        ref = await system.spawn(child(slow, target).options(capacity=1, overflow=Overflow.REJECT))
        await ref.pause()
        await ref.send(1)
        with pytest.raises(MailboxFull):
            await ref.send(2)
        await target.stop()
        await ref.resume()
        await settle()
    assert [entry[2] for entry in recorder.about("sent")] == [1]
    assert [type(entry[2]) for entry in recorder.about("received")] == [Terminated, int]


async def test_a_request_that_is_skipped_is_not_received() -> None:
    """Its asker has left, so it is a dead letter instead."""
    recorder = Recorder()
    async with open_system(instruments=[recorder]) as system:
        ref = await system.spawn(doubler)
        await ref.pause()
        with pytest.raises(AskTimeout):
            await ref.ask(Double(1), timeout=0)
        await ref.resume()
        await settle()
    assert [entry[0] for entry in recorder.about("sent", "received", "dead_letter")] == ["sent", "dead_letter"]


async def test_an_instrument_that_raises_hears_no_more(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, and neither the actors nor the other instruments notice."""

    class Broken(Instrument):
        def received(self, ref: Any, message: object) -> None:
            raise OSError(f"{ref.name} {message}")

    recorder, logged = Recorder(), "failed at 'received' and hears no more"
    with caplog.at_level(logging.ERROR, "rookery.instruments"):
        async with open_system(instruments=[Broken(), recorder]) as system:
            ref = await system.spawn(doubler)
            assert await ref.ask(Double(1)) == 2
            assert await ref.ask(Double(2)) == 4
    assert [logged in record.getMessage() for record in caplog.records] == [True]
    assert len(recorder.about("received")) == 2


async def test_an_instrument_that_raises_harms_nobody_if_logging_raises_too(capsys: pytest.CaptureFixture[str]) -> None:
    """That is printed."""

    class Broken(Instrument):
        def received(self, ref: Any, message: object) -> None:
            raise OSError(message)

    with broken_logging("rookery.instruments", "filter"):
        async with open_system(instruments=[Broken()]) as system:
            ref = await system.spawn(doubler)
            assert await ref.ask(Double(1)) == 2
            assert await ref.ask(Double(2)) == 4
    assert capsys.readouterr().err.count("ZeroDivisionError: the instrument") == 1


async def test_only_instruments_are_instruments() -> None:
    """A class, or something else, is named."""
    for wrong in (Recorder, "x"):
        with pytest.raises(TypeError, match=r"derived from `Instrument`, got .*write"):
            open_system(instruments=[wrong])  # type: ignore[list-item]


async def test_an_actor_that_does_not_end_is_heard_and_logged_with_its_stack(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Once; it is waited for all the same, and so is a further task of its. An owner that waits for it is not stuck."""
    release, recorder = anyio.Event(), Recorder()

    async def holding_on() -> None:
        with anyio.CancelScope(shield=True):
            await release.wait()

    async def stubborn(ctx: Context[Any]) -> None:
        ctx.ready()
        ctx.start_soon(holding_on)
        await holding_on()

    async def owner(ctx: Context[Any]) -> None:
        await ctx.spawn(child(stubborn).options(stop_timeout=0))
        await ctx.receive()

    class Releasing(Instrument):
        def stuck(self, ref: Any, error: Exception) -> None:
            tasks.start_soon(release_later)

    async def release_later() -> None:
        await anyio.sleep(1)  # the owner's time is over as well then
        release.set()

    with caplog.at_level(logging.ERROR, "rookery.supervision"):
        async with anyio.create_task_group() as tasks, open_system(instruments=[recorder, Releasing()]) as system:
            ref = await system.spawn(child(owner).options(stop_timeout=0))
            await ref.stop()
    (entry,) = recorder.about("stuck")
    (record,) = caplog.records
    assert record.getMessage() == str(entry[2])
    assert "/owner/stubborn was cancelled 5 s ago and has not ended" in str(entry[2])
    assert str(entry[2]).count("await release.wait()") == 2


async def test_messages_cost_nothing_where_only_lives_are_heard() -> None:
    """The mailbox and the context are those of a system without instruments."""
    ended: list[str] = []

    class Ends(Instrument):
        def ended(self, ref: Any, reason: Exception | None) -> None:
            ended.append(ref.name)

    async with open_system(instruments=[Ends()]) as system:
        ref = await system.spawn(doubler)
        cell = cell_of(ref)
        assert cell is not None
        assert type(cell.mailbox) is Mailbox
        assert await ref.ask(Double(2)) == 4
    assert ended == ["doubler"]
