"""The public coroutine methods of a class, and the messages that stand for them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rookery import Request
from rookery._model.messages import WIRE_NAME
from rookery._model.methods import public_methods, request_of

if TYPE_CHECKING:
    from decimal import Decimal


def logged(method: Any) -> Any:
    @functools.wraps(method)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        return await method(*args, **kwargs)

    return wrapper


def bare(method: Any) -> Any:
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        return await method(*args, **kwargs)

    return wrapper


class Mixin:
    async def mixed(self) -> str: ...


class Calculator(Mixin):
    rate = 2

    async def add(self, a: float, b: float = 1.0) -> float: ...
    async def everything(self, a: int, /, b: int, *more: int, c: int, d: int = 4, **others: int) -> None: ...
    async def unresolvable(self, amount: Decimal) -> None: ...

    @logged
    async def decorated(self, a: int) -> None: ...

    @bare
    async def hidden(self, a: int) -> None: ...

    async def on_start(self) -> None: ...
    async def on_stop(self) -> None: ...
    async def _private(self) -> None: ...
    def not_async(self) -> None: ...

    @property
    def value(self) -> int: ...
    @staticmethod
    async def static() -> None: ...
    @classmethod
    async def of_class(cls) -> None: ...


METHODS = public_methods(Calculator)


class Scientific(Calculator):
    async def add(self, a: float, b: float = 2.0) -> float: ...


def test_public_coroutine_methods_are_requests_and_nothing_else_is() -> None:
    """Those of the bases included, also of a mixin; hooks, private, static, class and plain methods are none."""
    assert {method.name for method in METHODS} == {
        "add",
        "everything",
        "unresolvable",
        "decorated",
        "hidden",
        "mixed",
    }


def test_a_method_has_one_message_class_whoever_inherits_it() -> None:
    """An overridden method and what overrides it have one each."""
    inherited = {method.title: method.message for method in METHODS}
    messages = {method.title: method.message for method in public_methods(Scientific)}
    assert messages == inherited | {"Scientific.add": type(request_of(Scientific.add, (1,), {}))}
    assert messages["Calculator.add"] is not messages["Scientific.add"]
    assert public_methods(Calculator) == METHODS


def test_a_request_is_a_message_whose_fields_are_the_parameters() -> None:
    """Frozen, slotted, equal by value, readable, with a wire name and the defaults of the method."""
    request = request_of(Calculator.add, (10,), {})
    assert isinstance(request, Request)
    assert [field.name for field in attrs.fields(type(request))] == ["a", "b"]
    assert repr(request) == "Calculator.add(a=10, b=1.0)"
    assert type(request).__name__ == "Calculator.add"
    assert getattr(type(request), WIRE_NAME) == f"{__name__}.Calculator.add"
    assert request == request_of(Calculator.add, (), {"b": 1.0, "a": 10})
    assert request != request_of(Scientific.add, (10, 1.0), {})
    assert hash(request) == hash(request_of(Calculator.add, (10, 1.0), {}))
    assert not hasattr(request, "__dict__")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        request.a = 2  # type: ignore[attr-defined]


def test_only_what_a_method_takes_in_order_its_message_takes_in_order() -> None:
    """The arguments that a method collects are one field each, whatever their number, and so are given by name."""
    message = type(request_of(Calculator.everything, (1, 2), {"c": 3}))
    parameters = inspect.signature(message).parameters.values()
    by_name = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    assert by_name == ["more", "c", "d", "others"]


def test_a_message_of_a_local_class_is_shown_without_where_it_was_defined() -> None:
    """Its wire name has that."""

    class Local:
        async def work(self, size: int) -> None: ...

    public_methods(Local)
    request = request_of(Local.work, (3,), {})
    assert repr(request) == "Local.work(size=3)"
    assert getattr(type(request), WIRE_NAME).endswith(".<locals>.Local.work")


@given(
    st.tuples(st.integers()),
    st.integers(),
    st.lists(st.integers(), max_size=3),
    st.integers(),
    st.dictionaries(st.sampled_from(["d", "e", "a"]), st.integers()),
)
def test_what_the_method_gets_is_what_was_passed(
    first: tuple[int], b: int, more: list[int], c: int, others: dict[str, int]
) -> None:
    """In order or by name, whatever kinds of parameters it has: as a plain call would bind them."""
    args, kwargs = (*first, b, *more), {"c": c, **others}
    request = request_of(Calculator.everything, args, kwargs)
    received_args, received_kwargs = request.__method__.arguments(request)
    signature = inspect.signature(Calculator.everything)
    expected = signature.bind(None, *args, **kwargs)
    expected.apply_defaults()
    received = signature.bind(None, *received_args, **received_kwargs)
    received.apply_defaults()
    assert received == expected


class OfOneKind:
    async def positional(self, a: int, /) -> None: ...
    async def in_order(self, *more: int) -> None: ...
    async def by_name(self, *, a: int) -> None: ...
    async def named(self, **others: int) -> None: ...


public_methods(OfOneKind)


@pytest.mark.parametrize(
    ("method", "args", "kwargs"),
    [
        (OfOneKind.positional, (1,), {}),
        (OfOneKind.in_order, (1, 2, 3), {}),
        (OfOneKind.in_order, (), {}),
        (OfOneKind.by_name, (), {"a": 1}),
        (OfOneKind.named, (), {"a": 1, "b": 2}),
        (OfOneKind.named, (), {}),
    ],
)
def test_each_kind_of_parameter_may_stand_alone(method: Any, args: Any, kwargs: Any) -> None:
    """What is passed is what arrives."""
    request = request_of(method, args, kwargs)
    assert request.__method__.arguments(request) == ([*args], kwargs)


@pytest.mark.parametrize(
    ("method", "args", "kwargs"),
    [
        (Calculator.add, (), {}),
        (Calculator.add, (1, 2, 3), {}),
        (Calculator.add, (1,), {"a": 1}),
        (Calculator.add, (1,), {"colour": 1}),
        (Calculator.everything, (), {"a": 1, "b": 2, "c": 3}),
        (Calculator.everything, (1, 2), {}),
        (Calculator.decorated, (), {}),
        (Calculator.mixed, (1,), {}),
    ],
)
def test_wrong_arguments_are_refused_where_they_are_passed(method: Any, args: Any, kwargs: Any) -> None:
    """The error shows the signature of the method, without `self`, and what is wrong."""
    with pytest.raises(TypeError, match=r"^(Calculator|Mixin)\.\w+\(.*\) cannot be called with these arguments: \S"):
        request_of(method, args, kwargs)


def test_the_signature_of_a_method_that_hides_it_is_what_it_takes() -> None:
    """A wrapper of `*args` takes any arguments, and passes them on."""
    request = request_of(Calculator.hidden, (1, 2), {"x": 3})
    assert request.__method__.arguments(request) == ([1, 2], {"x": 3})


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (Calculator().add, r"Calculator\.add is the method of one instance: write `Calculator\.add`"),
        (Calculator._private, r"Calculator\._private is private"),
        (Calculator.on_start, r"Calculator\.on_start is called by rookery"),
        (Calculator.not_async, r"Calculator\.not_async is not async: write `async def`"),
        (Calculator.static, r"Calculator\.static is none: write `await ref\.call\(Calculator\.add, 10, 5\)`"),
        (Calculator.of_class, r"Calculator\.of_class is a class method"),
        (logged(Calculator.add), r"Calculator\.add is none"),
        ("add", r"'add' is none: write `await ref\.call"),
        (None, r"None is none"),
    ],
    ids=["bound", "private", "hook", "not async", "static", "class", "wrapped later", "name", "nothing"],
)
def test_what_is_no_request_is_refused_with_the_reason(given: Any, reason: str) -> None:
    """And with what to write instead."""
    with pytest.raises(TypeError, match=f"what is called is a public coroutine method.*{reason}"):
        request_of(given, (), {})


def test_a_class_with_what_cannot_be_a_request_is_refused() -> None:
    """When it is defined: an async generator, no `self` or two, a hook that is not async, an override that is none."""

    class Streaming:
        async def stream(self) -> AsyncIterator[int]:
            yield 1

    class Selfless:
        async def work() -> None: ...  # type: ignore[misc]

    class ByName:
        async def work(*, self: object) -> None: ...  # type: ignore[misc]

    class Twice:
        async def work(this, self: int) -> None: ...  # noqa: N805

    class Sync:
        def on_stop(self) -> None: ...

    class Shadowing(Calculator):
        add = None  # type: ignore[assignment]

    for cls, reason in {
        Streaming: r"Streaming\.stream has a `yield`.*return a list, or make it private, `_stream`",
        Selfless: r"Selfless\.work\(\) has no parameter for the instance",
        ByName: r"ByName\.work\(\*, self\) has no parameter for the instance",
        Twice: r"Twice\.work\(this, self\) has a parameter `self` that is not the instance: call its first one `self`",
        Sync: r"Sync\.on_stop is awaited: write `async def on_stop\(self\) -> None`",
        Shadowing: r"Shadowing\.add takes the place of Calculator\.add.*write `async def add\(self, \.\.\.\)`",
    }.items():
        with pytest.raises(TypeError, match=reason):
            public_methods(cls)


def test_another_name_for_a_method_is_refused() -> None:
    """What overrides the one would not serve requests for the other; both are named, wherever the function is from."""

    class Aliased:
        async def first(self) -> None: ...

        second = first

    class Borrowing:
        total = Calculator.add

    class Renaming(Calculator):
        plus = Calculator.add

    class Earlier(Mixin):
        first = Mixin.mixed

    for cls, reason in {
        Aliased: r"^Aliased\.second is another name of Aliased\.first.*`async def second\(self, \.\.\.\)`.*`_second`",
        Borrowing: r"^Borrowing\.total is another name of Calculator\.add",
        Renaming: r"^Renaming\.plus is another name of Calculator\.add",
        Earlier: r"^Earlier\.first is another name of Mixin\.mixed",
    }.items():
        with pytest.raises(TypeError, match=reason):
            public_methods(cls)
    assert request_of(Calculator.add, (1,), {}).__method__.title == "Calculator.add"


def test_a_method_may_have_private_names_and_be_borrowed_under_its_own() -> None:
    """Then a request for it is served by what each class has under that name."""

    class Borrowing:
        add = Calculator.add
        _plus = Calculator.add

    (method,) = public_methods(Borrowing)
    assert method.title == "Calculator.add"
