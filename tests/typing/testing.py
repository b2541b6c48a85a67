"""What type checkers know of `rookery.testing`; run by mypy and pyright, never executed."""

from __future__ import annotations

from typing import Any, assert_type

from hypothesis import strategies as st

from rookery import Actor, ChildSpec, Context, Request, System, child, message
from rookery.testing import Faults, Probe, shuffled, spawn_probe, virtual_clock
from rookery.testing.strategies import messages, messages_of, priorities


@message
class Note:
    text: str


@message
class Add(Request[int]):
    a: int


class Store(Actor):
    async def put(self, key: str) -> None: ...


async def adder(ctx: Context[Add]) -> None:
    del ctx


def is_note(received: Note | Add) -> bool:
    return isinstance(received, Note)


async def probes(system: System) -> None:
    probe: Probe[Note | Add] = await spawn_probe(system)
    await probe.ref.send(Note("a"))
    await probe.ref.send(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(await probe.expect(Note), Note)
    assert_type(await probe.expect(Note("a")), Note)
    assert_type(await probe.expect(is_note), Note | Add)
    assert_type(await probe.expect(Note | Add), Note | Add)
    assert_type(await probe.expect((Note,)), Note)
    request = await probe.expect(Add)
    probe.answer(request, 3)
    probe.answer(request, "3")  # type: ignore[misc]  # pyright: ignore[reportArgumentType]
    assert_type(probe.received, list[Note | Add])


def faults() -> None:
    with Faults() as plan:
        plan.at("receive", nth=2)
        plan.at("send")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        assert_type(plan.wrap(child(adder)), ChildSpec[Add])
        assert_type(plan.wrap(child(Store)), ChildSpec[Store])


def order() -> None:
    with shuffled() as shuffle:
        assert_type(shuffle.seed, int)
    assert_type(virtual_clock("trio"), tuple[str, dict[str, Any]])


def drawn() -> None:
    assert_type(messages(Add), st.SearchStrategy[Add])
    assert_type(messages(Add | Note), st.SearchStrategy[Any])
    assert_type(messages_of(adder), st.SearchStrategy[Any])
    assert_type(messages_of(Store), st.SearchStrategy[Any])
    assert_type(priorities(), st.SearchStrategy[int])
