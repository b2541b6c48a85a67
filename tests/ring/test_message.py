"""Messages that carry their own identity, urgency and correlation."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from dataclasses import InitVar, dataclass, field
from typing import Any, Generic, TypeVar
from uuid import UUID, uuid4

import attrs
import pytest
from hypothesis import find, given
from hypothesis import strategies as st

from rookery import ring
from rookery.testing.strategies import messages

T = TypeVar("T")


@ring.message
class Add:
    a: float
    b: float = 2


@ring.message
class Scaled(Add):
    factor: int = 1


@ring.message
class Based(ring.Message):
    text: str


@ring.message
@dataclass
class Spelled:
    values: list[int] = field(default_factory=list)
    message_id: UUID = field(default_factory=uuid4)
    priority: int = 200
    correlation_id: UUID | None = None
    label: str = "none"


ALL = [Add(1), Scaled(1, 2, 3), Based("x"), Spelled([1])]


@pytest.mark.parametrize("message", ALL, ids=lambda message: type(message).__name__)
def test_is_a_slotted_attrs_class(message: object) -> None:
    """Nothing but attrs, and no attribute dictionary."""
    assert attrs.has(type(message))
    assert not hasattr(message, "__dict__")
    assert not dataclasses.is_dataclass(message)


@pytest.mark.parametrize("message", ALL, ids=lambda message: type(message).__name__)
def test_has_the_standard_fields(message: ring.Message) -> None:
    """An id, an urgency and a correlation."""
    assert isinstance(message.message_id, UUID)
    assert 0 <= message.priority <= 255
    assert message.correlation_id is None


def test_parentheses_change_nothing() -> None:
    """``@message()`` is ``@message``."""

    @ring.message()
    class Sub:
        a: float

    assert attrs.has(Sub)
    assert isinstance(getattr(Sub(1), "message_id"), UUID)  # noqa: B009  # in no type


def test_a_dataclass_on_a_message_is_none_without_the_decorator() -> None:
    """It would have the fields of a message, and nothing in them."""

    @dataclass
    class Forgotten(ring.Message):
        text: str = ""

    @dataclass
    class WithMore(ring.Message):
        text: str = ""

        def __post_init__(self) -> None:
            self.text += "!"

    with pytest.raises(TypeError, match="Forgotten has the fields of a message and not their values: write `@message`"):
        Forgotten("x")
    with pytest.raises(
        AttributeError, match="WithMore has the fields of a message and not their values: write `@message`"
    ):
        _ = WithMore("x").message_id
    decorated = ring.message(WithMore)
    assert (decorated("x", priority=3).text, decorated("x", priority=3).priority) == ("x!", 3)


@given(st.one_of(messages(Add), messages(Based), messages(Spelled)))
def test_strategies_draw_messages(drawn: ring.Message) -> None:
    """With priorities that there are, and ids."""
    assert isinstance(drawn.message_id, UUID)
    assert 0 <= drawn.priority <= 255


@pytest.mark.parametrize("kind", [Add, Based, Spelled])
def test_strategies_draw_every_priority(kind: type[ring.Message]) -> None:
    """The simplest is the default."""
    assert find(messages(kind), lambda drawn: True).priority == 128
    assert find(messages(kind), lambda drawn: drawn.priority == 255).priority == 255


def test_an_id_is_made_when_it_is_first_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """And only then, and only once."""
    made: list[UUID] = []

    def make() -> UUID:
        made.append(UUID(int=len(made)))
        return made[-1]

    monkeypatch.setattr("rookery.ring._message.uuid4", make)
    message = Scaled(1)
    assert made == []
    assert message.message_id == message.message_id == UUID(int=0)
    assert len(made) == 1


def test_ids_are_unique() -> None:
    """Equal messages are different messages."""
    assert len({Add(1).message_id for _ in range(100)}) == 100


def test_the_standard_fields_are_keyword_only() -> None:
    """They never take a positional argument from the fields of the class."""
    with pytest.raises(TypeError):
        Add(1, 2, uuid4())  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    wanted = uuid4()
    assert Add(1, message_id=wanted).message_id == wanted


@given(st.integers(0, 255))
def test_a_priority_within_the_range_is_taken(priority: int) -> None:
    """0 to 255."""
    assert Add(1, priority=priority).priority == priority
    assert Spelled(priority=priority).priority == priority


@given(st.one_of(st.integers(max_value=-1), st.integers(min_value=256), st.just(1.5)))
def test_a_priority_out_of_range_is_refused_at_construction(priority: int) -> None:
    """The error names the value and the range, for an injected field and for one that was spelled out."""
    for cls in (Add, Based, Spelled):
        with pytest.raises(ValueError, match=r"0 to 255.*got"):
            cls("x", priority=priority)


def test_equality_is_over_the_other_fields() -> None:
    """Two requests for the same thing are equal, whatever their ids and priorities, and however defined."""
    assert Add(1, priority=3, correlation_id=uuid4()) == Add(1)
    assert Add(1) != Add(2)
    assert Spelled([1], priority=1) == Spelled([1])
    assert Spelled([1]) != Spelled([2])


def test_patterns_are_over_the_other_fields() -> None:
    """In the order of the class body, with the standard fields left out."""
    assert Scaled.__match_args__ == ("a", "b", "factor")
    match Spelled([3], label="three"):
        case Spelled([number], label):
            assert (number, label) == (3, "three")
        case _:
            pytest.fail("no match")


def test_patterns_of_the_authors_own_are_kept() -> None:
    """``__match_args__`` in the body is the author's word."""

    @ring.message
    class Own:
        __match_args__ = ("priority",)
        a: int = 0

    assert Own.__match_args__ == ("priority",)


def test_a_definition_in_the_body_takes_the_role() -> None:
    """Its default, its factory and its place among the arguments are the author's."""
    assert Spelled().priority == 200
    wanted = uuid4()
    assert Spelled([], wanted, 7).message_id == wanted


def test_an_inherited_definition_takes_the_role() -> None:
    """A subclass has one set of standard fields, its base's."""
    names = [known.name for known in attrs.fields(Scaled)]
    assert sorted(names) == sorted({*names})
    assert Scaled(1, message_id=(wanted := uuid4())).message_id == wanted


def test_an_id_travels_with_its_message() -> None:
    """Through pickling and copying, also if nobody had read it before."""
    for message in (Add(1), Based("x"), Spelled()):
        for twin in (pickle.loads(pickle.dumps(message)), copy.copy(message)):
            assert twin.message_id == message.message_id
            assert twin == message


def test_a_dataclass_keeps_fields_defaults_and_factories() -> None:
    """And each instance gets a list of its own."""
    first, second = Spelled(), Spelled()
    first.values.append(1)
    assert second.values == []
    assert [known.name for known in attrs.fields(Spelled)] == [
        "values", "message_id", "priority", "correlation_id", "label"
    ]  # fmt: skip


def test_a_dataclass_keeps_its_options() -> None:
    """Frozen, ordered and keyword-only stay so, and what its body defines stays as well."""

    @ring.message
    @dataclass(frozen=True, order=True)
    class Frozen(Generic[T]):
        a: T
        b: int = field(default=0, kw_only=True, repr=False, compare=False)

        def __repr__(self) -> str:
            return f"<{self.a}>"

    one = Frozen(1, b=5)
    assert one < Frozen(2)
    assert hash(one) == hash(Frozen(1))
    assert one == Frozen(1)
    assert repr(one) == "<1>"
    assert one.message_id == one.message_id
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        one.a = 2
    with pytest.raises(TypeError):
        Frozen(1, 2)  # type: ignore[misc]


def test_a_dataclass_keeps_its_post_init() -> None:
    """What it computes is there."""

    @ring.message
    @dataclass
    class Sum:
        a: int
        b: int
        total: int = field(init=False)

        def __post_init__(self) -> None:
            self.total = self.a + self.b

    assert Sum(1, 2).total == 3


def test_methods_in_code_without_a_file_are_the_authors_own() -> None:
    """What was typed at a prompt is not taken for what the dataclass decorator wrote."""
    scope: dict[str, object] = {"message": ring.message, "dataclass": dataclass}
    source = "@message\n@dataclass\nclass M:\n    a: int\n    def __repr__(self): return 'mine'"
    exec(compile(source, "<string>", "exec"), scope)
    assert repr(scope["M"](1)) == "mine"  # type: ignore[operator]


def test_a_body_written_with_dataclass_fields_is_read_as_one() -> None:
    """``@message`` alone is enough above ``dataclasses.field``, and above a subclass of a dataclass."""

    @dataclass
    class Base:
        a: int

    @ring.message
    class Extended(Base):
        values: list[int] = field(default_factory=list)

    assert Extended(1).values == []
    assert Extended(1) == Extended(1, [])
    assert Extended.__match_args__ == ("a", "values")


def test_a_dataclass_may_extend_a_message() -> None:
    """Its base's fields come first, and its base's ids are made when read."""

    @ring.message
    @dataclass
    class More(Add):
        c: int = 0

    assert More(1, 2, 3).c == 3
    assert More(1).message_id != More(1).message_id


def test_what_cannot_be_a_message_is_refused() -> None:
    """With the reason."""
    with pytest.raises(TypeError, match="write `@message` above a class"):
        ring.message(3)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="leave the other decorator out"):
        ring.message(attrs.define(type("A", (), {})))
    with pytest.raises(TypeError, match="InitVar"):

        @ring.message
        @dataclass
        class Init:
            a: InitVar[int]


# ---- helpers and copies


@ring.message
class Question(ring.Message):
    text: str


@ring.message
class Answer(ring.Message):
    text: str
    reply: str = "a field may have the name of a helper"  # type: ignore[assignment]


def test_a_reply_names_what_it_answers() -> None:
    """As if it had been written out."""
    question = Question("why?")
    answer = question.reply(Answer, "because", priority=200)
    assert answer == Answer("because")
    assert (answer.correlation_id, answer.priority) == (question.message_id, 200)
    assert answer.reply == "a field may have the name of a helper"
    with pytest.raises(TypeError, match="correlation_id"):
        question.reply(Answer, "because", correlation_id=None)


def test_a_message_with_another_correlation_is_the_same_message() -> None:
    """The one it was made of is unchanged."""
    question, other = Question("why?", priority=7), Question("who?")
    follow_up = question.with_correlation(other.message_id)
    assert (follow_up.message_id, follow_up.priority, follow_up.text) == (question.message_id, 7, "why?")
    assert (question.correlation_id, follow_up.correlation_id) == (None, other.message_id)


@pytest.mark.parametrize(
    "duplicate",
    [copy.copy, copy.deepcopy, lambda message: pickle.loads(pickle.dumps(message))],
    ids=["copy", "deepcopy", "pickle"],
)
def test_a_copy_of_a_message_is_the_same_message(duplicate: Any) -> None:
    """Also when nobody had read its id before."""
    question = Question("why?", priority=7)
    twin = duplicate(question)
    assert twin == question
    assert (twin.message_id, twin.priority, twin.correlation_id) == (question.message_id, 7, None)
