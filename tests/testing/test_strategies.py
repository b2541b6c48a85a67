"""Strategies for messages: they build what actors accept, and all of it."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar

import attrs
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

from rookery import Actor, Context, Request, child, message, open_system
from rookery.testing.strategies import messages, messages_of, priorities

if TYPE_CHECKING:
    from decimal import Decimal as Unseen

T = TypeVar("T")


@message
class Add(Request[int]):
    a: int
    b: int = 0


@message
class Note:
    text: str
    tags: tuple[str, ...] = ()
    _secret: bool = False


@message
class Tree:
    value: int
    left: Tree | None = None
    right: Tree | None = None


@message
class Digit:
    value: Annotated[int, st.integers(0, 9)]


@message
class Box(Generic[T]):
    content: T
    more: tuple[T, ...] = ()


@message
class Unresolved:
    what: Unseen


@attrs.frozen
class Computed:
    number: int
    double: int = attrs.field(init=False)

    @double.default
    def _doubled(self) -> int:
        return 2 * self.number


class Calculator(Actor):
    async def add(self, a: int, b: int = 1) -> int:
        return a + b

    async def negate(self, *, number: int, loud=False) -> int:  # type: ignore[no-untyped-def]
        return -number

    async def total(self, *numbers: int) -> int:
        return sum(numbers)


async def takes_both(ctx: Context[Add | Note]) -> None:
    async for _ in ctx:
        pass


@given(messages(Add))
def test_a_message_has_fields_of_its_annotations(drawn: Add):
    """And is of its class."""
    assert type(drawn) is Add
    assert isinstance(drawn.a, int)
    assert isinstance(drawn.b, int)


def test_fields_with_defaults_are_drawn_as_well():
    """They are not always their default."""
    assert find(messages(Add), lambda drawn: drawn.b > 5).b == 6
    assert find(messages(Note), lambda drawn: drawn._secret)


@given(messages(Add | Note | int))
def test_of_a_union_each_type_is_drawn(drawn: object):
    """And nothing else."""
    assert isinstance(drawn, (Add, Note, int))


@pytest.mark.parametrize("wanted", [Add, Note])
def test_every_type_that_a_behaviour_accepts_is_drawn(wanted: type):
    """From the annotation of its context."""
    assert isinstance(find(messages_of(takes_both), lambda drawn: isinstance(drawn, wanted)), wanted)


@given(messages(Tree))
def test_a_message_may_hold_others_of_its_type(drawn: Tree):
    """To any depth, which is finite."""
    assert isinstance(drawn.value, int)


def test_deep_messages_are_drawn():
    """Not only their leaves."""
    as_found = settings(phases=[Phase.generate], max_examples=1000)  # to make it smaller takes ten seconds
    drawn = find(
        messages(Tree),
        lambda tree: tree.left is not None and tree.left.right is not None,
        settings=as_found,
        random=Random(0),
    )
    assert isinstance(drawn.left.right, Tree)


@given(messages(Digit))
def test_annotated_strategies_are_heeded(drawn: Digit):
    """What Hypothesis reads, we pass on."""
    assert 0 <= drawn.value <= 9


@given(messages(Computed))
def test_fields_that_are_not_arguments_are_left_to_the_class(drawn: Computed):
    """`init=False`."""
    assert drawn.double == 2 * drawn.number


@given(messages(Box[int]))
def test_type_arguments_are_heeded(drawn: Box[int]):
    """Of a generic message."""
    assert all(isinstance(each, int) for each in (drawn.content, *drawn.more))


@given(messages_of(takes_both), priorities())
async def test_an_actor_accepts_what_is_drawn_for_it(drawn: Any, priority: int):
    """With any priority that is drawn."""
    async with open_system() as system:
        ref = await system.spawn(takes_both)
        await ref.send(drawn, priority=priority)


@given(messages_of(Calculator))
async def test_an_actor_class_accepts_the_calls_that_are_drawn_for_it(drawn: Any):
    """Each of its methods can be called with them."""
    async with open_system() as system:
        ref = await system.spawn(child(Calculator))
        assert isinstance(await ref.ask(drawn), int)


@pytest.mark.parametrize("name", ["add", "negate", "total"])
def test_every_method_is_drawn(name: str):
    """With its own message."""
    assert find(messages_of(Calculator), lambda drawn: drawn.__method__.name == name)


@given(priorities())
def test_priorities_are_those_there_are(priority: int):
    """0 to 255."""
    assert 0 <= priority <= 255


def test_every_priority_is_drawn():
    """Both ends, and the default is simplest."""
    assert find(priorities(), lambda _: True) == 128
    assert find(priorities(), lambda priority: priority == 255) == 255
    assert find(priorities(), lambda priority: priority == 0) == 0
    with pytest.raises(NoSuchExample):
        find(priorities(), lambda priority: priority > 255)


def test_a_behaviour_that_accepts_anything_tells_nothing():
    """The error says what to annotate."""

    async def anything(ctx) -> None: ...  # type: ignore[no-untyped-def]

    with pytest.raises(TypeError, match=r"accepts anything.*Context\[Add \| Note\]"):
        messages_of(anything)


def test_an_annotation_that_cannot_be_resolved_is_an_error():
    """At once, not when the first message is drawn."""
    with pytest.raises(TypeError, match=r"an annotation of Unresolved cannot be resolved.*Unseen"):
        messages(Unresolved)


def test_a_parameter_without_annotation_or_default_is_an_error():
    """There is nothing to draw from."""

    class Vague(Actor):
        async def do(self, what) -> None: ...  # type: ignore[no-untyped-def]

    with pytest.raises(TypeError, match=r"'what' of Vague\.do has no annotation"):
        messages_of(Vague)


def test_a_class_without_methods_has_no_calls():
    """Nor messages."""

    class Mute(Actor):
        pass

    with pytest.raises(TypeError, match="Mute has no public coroutine method"):
        messages_of(Mute)
