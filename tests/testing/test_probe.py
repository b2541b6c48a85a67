"""Probes: what they record, what they expect, and what they say when it is something else."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from functools import partial
from typing import Any, Generic, TypeVar, Union

import anyio
import pytest

from rookery import (
    ActorCrashed,
    ActorRef,
    ActorStopped,
    Context,
    DuplicateName,
    Instrument,
    Request,
    Restarted,
    System,
    Terminated,
    message,
    open_system,
)
from rookery.testing import Probe, crash, settle, spawn_probe, virtual_clock

T = TypeVar("T")


@message
class Note:
    text: str


@message
class Square(Request[int]):
    number: int


@message
class Box(Generic[T]):
    content: T


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


class LongerThan:
    def __init__(self, length: int) -> None:
        self.length = length

    def __call__(self, note: Note) -> bool:
        return len(note.text) > self.length


def longer_than(length: int, note: Note) -> bool:
    return len(note.text) > length


@pytest.mark.parametrize(
    ("wanted", "other"),
    [
        (Note | Square, int | str),
        (Note | None, Square | None),
        (Union[Note, int], Union[str, int]),  # noqa: UP007  # its type is another one
        ((Note, Square), (int, (str, Square))),
        (Box[int] | Note, Box[int]),
        (LongerThan(2), LongerThan(3)),
        (partial(longer_than, 2), partial(longer_than, 3)),
    ],
    ids=["union", "optional", "old union", "tuple", "generic", "object", "partial"],
)
async def test_a_message_is_expected_by_whatever_says_it(probe: Probe[object], wanted: Any, other: Any):
    """Some classes, or anything that can be called; what is another's is refused."""
    await probe.ref.send(Note("abc"))
    with pytest.raises(AssertionError, match="expected"):
        await probe.expect(other)
    assert await probe.expect(wanted) == Note("abc")


async def test_a_tuple_of_values_is_a_value(probe: Probe[object]):
    """Only a tuple of classes stands for them."""
    for value in ((), (1, int), (1, 2)):
        await probe.ref.send(value)
        assert await probe.expect(value) == value


@pytest.mark.parametrize(
    ("wanted", "shown"),
    [
        (Square | int, "Square | int"),
        ((Square, int), "Square | int"),
        (partial(longer_than, 9), "a message for which functools.partial"),
        (LongerThan(9), "a message for which <tests.testing.test_probe.LongerThan object"),
        (longer_than, "a message for which longer_than is true"),
    ],
)
async def test_what_was_expected_is_shown(probe: Probe[object], wanted: Any, shown: str):
    """As one would write it."""
    await probe.ref.send(Note("a"))
    with pytest.raises(AssertionError, match=re.escape(shown)):
        await probe.expect(wanted)


async def test_a_predicate_that_raises_is_a_failure(probe: Probe[object]):
    """The message was another than it is meant for; it is shown, and still to be expected."""
    await probe.ref.send(Square(2))
    with pytest.raises(AssertionError, match=r"which raised AttributeError.*, got Square\(number=2\); ") as failed:
        await probe.expect(lambda note: note.text == "a")
    assert isinstance(failed.value.__cause__, AttributeError)
    await probe.expect(Square(2))


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


@pytest.mark.parametrize("at", [1, 2], ids=["cancelled first", "received first"])
async def test_a_message_that_comes_as_an_expect_is_cancelled_is_not_lost(at: int):
    """Both in one step: it was returned, or is still to be expected."""

    class Cancelling(Instrument):
        def received(self, ref: ActorRef[Any], message: object) -> None:
            if message == at:
                scope.cancel()

    taken: list[int] = []
    scope = anyio.CancelScope()
    async with open_system(instruments=[Cancelling()]) as system, anyio.create_task_group() as tasks:
        probe = await spawn_probe(system)

        async def expecting() -> None:
            with scope:
                taken.append(await probe.expect(int))

        tasks.start_soon(expecting)
        await settle()
        for number in (1, 2):
            probe.ref.send_nowait(number)
        await settle()
        assert probe.received == [1, 2]
        left = [await probe.expect(int, timeout=0) for _ in range(2 - len(taken))]
        assert taken + left == [1, 2]


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_an_expect_gives_up_after_ten_seconds(backend: str):
    """Unless it is told otherwise: long enough for a slow machine, and no test hangs."""

    async def main() -> float:
        async with open_system() as system:
            probe = await spawn_probe(system)
            began = anyio.current_time()
            with pytest.raises(AssertionError, match="expected Note within"):
                await probe.expect(Note)
            return anyio.current_time() - began

    name, options = virtual_clock(backend)
    assert anyio.run(main, backend=name, backend_options=options) == pytest.approx(10)


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


async def test_a_probe_watches(system: System, probe: Probe[object]):
    """It is told of restarts, and of the end, also of one that has ended before."""
    other, ended = await spawn_probe(system), await spawn_probe(system)
    await ended.ref.stop()
    probe.watch(other.ref)
    boom = ValueError("boom")
    crash(other.ref, boom)
    assert await probe.expect(Restarted) == Restarted(other.ref, 2, boom)
    await other.ref.stop()
    assert await probe.expect(Restarted | Terminated) == Terminated(other.ref, None)
    probe.watch(ended.ref)
    await probe.expect(Terminated(ended.ref, None))
    await probe.expect_nothing()


async def test_a_probe_that_has_ended_watches_nobody(system: System, probe: Probe[object]):
    """As any actor."""
    other = await spawn_probe(system)
    await probe.ref.stop()
    with pytest.raises(ActorStopped, match="/probe has ended"):
        probe.watch(other.ref)
