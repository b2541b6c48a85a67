"""Probes: what they record, what they expect, and what they say when it is something else."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest

from rookery import ActorCrashed, Context, DuplicateName, Request, System, message, open_system
from rookery.testing import Probe, crash, settle, spawn_probe


@message
class Note:
    text: str


@message
class Square(Request[int]):
    number: int


@pytest.fixture
async def system() -> AsyncIterator[System]:
    async with open_system() as system:
        yield system


@pytest.fixture
async def probe(system: System) -> Probe[object]:
    return await spawn_probe(system)


async def test_a_message_is_expected_by_its_class(probe: Probe[object]):
    """And returned."""
    await probe.ref.send(Note("a"))
    note: Note = await probe.expect(Note)
    assert note == Note("a")


async def test_a_message_is_expected_by_its_value(probe: Probe[object]):
    """Any value that is equal."""
    await probe.ref.send(Note("a"))
    assert await probe.expect(Note("a")) == Note("a")


async def test_a_message_is_expected_by_a_predicate(probe: Probe[object]):
    """Any function of the message."""
    await probe.ref.send(Note("abc"))
    assert await probe.expect(lambda note: note.text.startswith("a")) == Note("abc")


async def test_messages_are_expected_in_the_order_they_came(probe: Probe[object]):
    """Each once; all of them are in `received`."""
    for text in "abc":
        await probe.ref.send(Note(text))
    for text in "abc":
        await probe.expect(Note(text))
    assert probe.received == [Note("a"), Note("b"), Note("c")]


async def test_a_message_that_is_yet_to_come_is_waited_for(system: System, probe: Probe[object]):
    """From an actor, say."""

    async def late(ctx: Context[object]) -> None:
        ctx.ready()
        await settle()
        await probe.ref.send(Note("late"))

    await system.spawn(late)
    assert probe.received == []
    assert await probe.expect(Note) == Note("late")


async def test_another_message_than_the_expected_one_is_shown(probe: Probe[object]):
    """With all that was received, and it is still to be expected."""
    await probe.ref.send(Note("a"))
    await probe.ref.send(Note("b"))
    await probe.expect(Note("a"))
    with pytest.raises(AssertionError) as failed:
        await probe.expect(Square)
    assert str(failed.value) == (
        "the probe /probe expected Square, got Note(text='b'); "
        "not yet expected: Note(text='b'); expected before: Note(text='a')"
    )
    await probe.expect(Note("b"))


async def test_a_message_that_does_not_come_is_a_failure(probe: Probe[object]):
    """After the timeout, on the loop's clock."""
    with pytest.raises(AssertionError, match=r"expected Note within 0.01 s, not yet expected: nothing"):
        await probe.expect(Note, timeout=0.01)


async def test_a_message_that_is_there_is_expected_without_waiting(probe: Probe[object]):
    """A timeout of 0 is a look."""
    await probe.ref.send(Note("a"))
    await settle()
    await probe.expect(Note, timeout=0)


async def test_a_cancelled_expect_takes_nothing(probe: Probe[object]):
    """What comes later is expected then."""
    with anyio.move_on_after(0.01):
        await probe.expect(Note)
    await probe.ref.send(Note("a"))
    await probe.expect(Note("a"))


async def test_nothing_is_expected_until_everybody_rests(probe: Probe[object]):
    """What is on its way then arrives first."""
    await probe.expect_nothing()
    await probe.ref.send(Note("a"))
    with pytest.raises(AssertionError, match=r"expected nothing, not yet expected: Note\(text='a'\)"):
        await probe.expect_nothing()
    await probe.expect(Note)
    await probe.expect_nothing(seconds=0.001)


async def test_only_the_latest_messages_are_shown(probe: Probe[object]):
    """A long story is cut at its beginning."""
    for number in range(30):
        await probe.ref.send(number)
    await settle()
    with pytest.raises(AssertionError, match=r"\.\.\. \(10 before these\), 10, 11"):
        await probe.expect_nothing()


async def test_a_probe_answers_when_the_test_says_so(probe: Probe[object]):
    """In any order."""
    answers: list[int] = []

    async def ask(number: int) -> None:
        answers.append(await probe.ref.ask(Square(number)))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask, 2)
        first = await probe.expect(Square)
        tasks.start_soon(ask, 3)
        second = await probe.expect(Square)
        await settle()
        assert answers == []
        probe.answer(second, 9)
        await settle()
        probe.answer(first, 4)
    assert answers == [9, 4]


async def test_a_probe_refuses_when_the_test_says_so(probe: Probe[object]):
    """The error is raised in the asker."""
    async with anyio.create_task_group() as tasks:

        async def ask() -> None:
            with pytest.raises(ValueError, match="no"):
                await probe.ref.ask(Square(1))

        tasks.start_soon(ask)
        probe.refuse(await probe.expect(Square), ValueError("no"))


async def test_probes_are_numbered(system: System):
    """A name of one's own has to be free, as for any actor."""
    probes = [await spawn_probe(system) for _ in range(2)]
    named = await spawn_probe(system, name="db")
    assert [probe.ref.path for probe in [*probes, named]] == ["/probe", "/probe-2", "/db"]
    with pytest.raises(DuplicateName):
        await spawn_probe(system, name="db")


async def test_a_probe_goes_on_after_a_crash(probe: Probe[object]):
    """What it has received stays."""
    await probe.ref.send(Note("a"))
    await settle()
    async with anyio.create_task_group() as tasks:

        async def ask() -> None:
            with pytest.raises(ActorCrashed):
                await probe.ref.ask(Square(1))

        tasks.start_soon(ask)
        await settle()
        crash(probe.ref, ValueError("disturbed"))
    await probe.ref.send(Note("b"))
    await settle()
    assert probe.received == [Note("a"), Square(1), Note("b")]


async def test_an_actor_can_have_a_probe(system: System):
    """Under its own path."""
    found: list[Probe[object]] = []

    async def owner(ctx: Context[object]) -> None:
        found.append(await spawn_probe(ctx))
        ctx.ready()
        await ctx.wait_stopping()

    await system.spawn(owner)
    assert found[0].ref.path == "/owner/probe"
