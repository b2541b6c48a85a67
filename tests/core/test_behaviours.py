"""Declaring children: what is a behaviour, what it accepts, with what it is started, how it is named."""

from __future__ import annotations

import functools
import inspect
import sys
from typing import TYPE_CHECKING, Annotated, Any, Literal, Never, NewType, TypeVar

import pytest

from rookery import (
    Backoff,
    ChildSpec,
    Context,
    Overflow,
    Request,
    Restart,
    UnresolvedAnnotation,
    child,
    message,
    open_system,
)

if TYPE_CHECKING:
    from decimal import Decimal

T = TypeVar("T")
Bounded = TypeVar("Bounded", bound=str)
UserId = NewType("UserId", int)
Nothing = NewType("Nothing", None)


@message
class Add(Request[float]):
    a: float


@message
class Note:
    text: str


async def typed(ctx: Context[Add]) -> None: ...
async def union(ctx: Context[Add | Note]) -> None: ...
async def nothing_said(ctx) -> None: ...  # type: ignore[no-untyped-def]
async def bare(ctx: Context) -> None: ...  # type: ignore[type-arg]
async def anything(ctx: Context[Any]) -> None: ...
async def objects(ctx: Context[object]) -> None: ...
async def real(ctx: Context[float]) -> None: ...
async def imaginary(ctx: Context[complex]) -> None: ...
async def optional(ctx: Context[Note | None]) -> None: ...
async def literal(ctx: Context[Literal["go", 1]]) -> None: ...
async def annotated(ctx: Context[Annotated[Note, "by hand"]]) -> None: ...
async def generic(ctx: Context[list[int]]) -> None: ...
async def any_type(ctx: Context[T]) -> None: ...
async def bounded(ctx: Context[Bounded]) -> None: ...
async def ids(ctx: Context[UserId]) -> None: ...
async def nothing(ctx: Context[Nothing]) -> None: ...
async def other_names_unresolvable(ctx: Context[Note], amount: Decimal) -> None: ...
async def keyword(ctx: Context[Note], *, size: int = 1) -> None: ...
async def star(*args: Any) -> None: ...
async def simply_any(ctx: Any) -> None: ...
async def unresolvable(ctx: Context[Decimal]) -> None: ...
async def not_a_context(ctx: Note) -> None: ...
async def not_checkable(ctx: Context[Literal["a"] | type[Note] | 3]) -> None: ...  # type: ignore[valid-type]
async def no_parameter() -> None: ...
async def keyword_only(*, ctx: Context[Note]) -> None: ...
def not_async(ctx: Context[Note]) -> None: ...
async def with_arguments(ctx: Context[Note], number: int, *, size: int = 1) -> None: ...


class Callable:
    """An object that is called like a behaviour."""

    async def __call__(self, ctx: Context[Note]) -> None: ...

    async def method(self, ctx: Context[Add]) -> None: ...

    @classmethod
    async def of_class(cls, ctx: Context[Add]) -> None: ...

    @staticmethod
    async def static(ctx: Context[Add]) -> None: ...


def decorated(behaviour: Any) -> Any:
    @functools.wraps(behaviour)
    async def wrapper(*args: Any, **kwargs: Any) -> None:
        await behaviour(*args, **kwargs)

    return wrapper


@pytest.mark.parametrize(
    ("behaviour", "expected"),
    [
        (typed, (Add,)),
        (union, (Add, Note)),
        (nothing_said, None),
        (bare, None),
        (anything, None),
        (objects, None),
        (real, (float, int)),
        (imaginary, (complex, float, int)),
        (optional, (Note, type(None))),
        (annotated, (Note,)),
        (generic, (list,)),
        (any_type, None),
        (bounded, (str,)),
        (ids, (int,)),
        (nothing, (type(None),)),
        (other_names_unresolvable, (Note,)),
        (keyword, (Note,)),
        (star, None),
        (simply_any, None),
        (Callable(), (Note,)),
        (Callable().method, (Add,)),
        (Callable.of_class, (Add,)),
        (Callable.static, (Add,)),
        (functools.partial(keyword, size=2), (Note,)),
        (functools.partial(functools.partial(keyword), size=2), (Note,)),
        (functools.partial(Callable().method), (Add,)),
        (decorated(typed), (Add,)),
        (decorated(Callable().method), (Add,)),
    ],
    ids=lambda value: getattr(value, "__qualname__", None),
)
def test_what_an_annotation_accepts(behaviour: Any, expected: tuple[type, ...] | None) -> None:
    """The classes to check at send; None for anything. Names elsewhere in the signature need not resolve."""
    arguments = (1,) if behaviour is other_names_unresolvable else ()
    assert child(behaviour, *arguments).accepted == expected


def test_literals_accept_their_types() -> None:
    """Values are not checked, types are."""
    assert set(child(literal).accepted or ()) == {str, int}


def test_a_local_class_is_found_when_the_function_closes_over_it() -> None:
    """And one that cannot be found is an error that names it and the way out."""

    class Local:
        pass

    class Hidden:
        pass

    async def closes_over(ctx: Context[Local]) -> None:
        assert Local

    async def does_not(ctx: Context[Hidden]) -> None: ...

    assert child(closes_over).accepted == (Local,)
    with pytest.raises(UnresolvedAnnotation, match=r"does_not.*'Hidden' is not defined.*outside of `if TYPE_CHECKING`"):
        child(does_not)


@pytest.mark.parametrize(
    ("behaviour", "expected"),
    [
        (unresolvable, r"'Context\[Decimal\]' of unresolvable cannot be resolved .*`if TYPE_CHECKING`"),
        (not_a_context, r"not_a_context is its context, but is annotated .*Note.*: write `ctx: Context\[Message\]`"),
        (not_checkable, r"write classes, such as attrs classes made with @message|cannot be resolved"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_an_annotation_that_leads_nowhere_is_an_error_at_child(behaviour: Any, expected: str) -> None:
    """Not at the first send: with the annotation, the reason and what to write."""
    with pytest.raises(UnresolvedAnnotation, match=expected):
        child(behaviour)


@pytest.mark.parametrize(
    "behaviour",
    [not_async, no_parameter, keyword_only, 3, "name", Note, Callable, None],
    ids=lambda given: getattr(given, "__name__", str(given)),
)
def test_what_is_no_behaviour_is_refused(behaviour: Any) -> None:
    """With the line to write."""
    with pytest.raises(TypeError, match=r"write `async def behaviour\(ctx: Context\[Message\]\) -> None`"):
        child(behaviour)


@pytest.mark.parametrize(
    ("args", "kwargs", "expected"),
    [
        ((), {}, "number"),
        ((1, 2), {}, "too many"),
        ((1,), {"colour": 2}, "colour"),
    ],
    ids=["missing", "too many", "unknown"],
)
def test_arguments_are_checked_at_child(args: Any, kwargs: Any, expected: str) -> None:
    """The error shows the signature, what is wrong, and that the context is passed by rookery."""
    with pytest.raises(TypeError, match=expected) as raised:
        child(with_arguments, *args, **kwargs)
    assert "with_arguments(ctx" in str(raised.value)
    assert "the context is passed by rookery" in str(raised.value)
    child(with_arguments, 1, size=2)


@pytest.mark.parametrize(
    ("behaviour", "expected"),
    [
        (typed, "typed"),
        (functools.partial(functools.partial(keyword), size=2), "keyword"),
        (Callable(), "Callable"),
        (Callable().method, "method"),
        (decorated(typed), "typed"),
    ],
    ids=["function", "partial", "object", "method", "decorated"],
)
def test_an_unnamed_child_is_named_after_its_behaviour(behaviour: Any, expected: str) -> None:
    """Whatever kind of behaviour that is."""
    spec = child(behaviour)
    assert (spec.name, spec.ref.name) == (expected, expected)


def test_options_change_only_what_is_given() -> None:
    """The copy is a different child with its own reference; the original stays as it is."""
    spec = child(keyword, size=3)
    tuned = spec.options(
        name="tuned",
        restart=Restart.PERMANENT,
        start_timeout=1,
        stop_timeout=2,
        capacity=3,
        overflow=Overflow.REJECT,
        backoff=Backoff(1.0),
    )
    again = tuned.options(capacity=4)
    assert (spec.name, tuned.name, again.name) == ("keyword", "tuned", "tuned")
    assert (again.settings.capacity, again.settings.overflow, again.settings.backoff) == (
        4,
        Overflow.REJECT,
        Backoff(1.0),
    )
    assert tuned.options(name=None, backoff=None).name == "keyword"
    assert (tuned.behaviour, tuned.kwargs, tuned.accepted) == (spec.behaviour, spec.kwargs, spec.accepted)
    assert len({spec.ref, tuned.ref, again.ref}) == 3
    assert repr(tuned) == "<ChildSpec tuned>"


def test_wrong_options_are_refused_where_they_are_written() -> None:
    """With the option and the value."""
    spec: ChildSpec[Any] = child(typed)
    with pytest.raises(ValueError, match=r"capacity .* got 0"):
        spec.options(capacity=0)
    with pytest.raises(ValueError, match="'a/b'"):
        spec.options(name="a/b")
    with pytest.raises(TypeError, match=r"restart is one of Restart\.PERMANENT, .* got 'always'"):
        spec.options(restart="always")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="significance"):
        spec.options(significance=True)  # type: ignore[call-arg]


async def test_spawn_takes_a_spec_or_a_behaviour_and_not_both() -> None:
    """Arguments beside a spec have nowhere to go."""
    async with open_system() as system:
        spec = child(typed)
        for wrong in (lambda: system.spawn(spec, 1), lambda: system.spawn(spec, name="x")):  # type: ignore[call-overload]
            with pytest.raises(TypeError, match=r"<ChildSpec typed> already says .* write `spawn\(spec\)`"):
                await wrong()
        coroutine = typed(None)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="a behaviour is an async function"):
            await system.spawn(coroutine)  # type: ignore[call-overload]
        coroutine.close()
        await system.spawn(functools.partial(with_arguments, size=3), 1, name="x")


async def test_every_kind_of_behaviour_runs() -> None:
    """With its context first, then its arguments."""
    log: list[Any] = []

    class Stateful:
        async def __call__(self, ctx: Context[Any], *args: Any, **kwargs: Any) -> None:
            log.append((ctx.name, args, kwargs))

        async def method(self, ctx: Context[Any], *args: Any, **kwargs: Any) -> None:
            log.append((ctx.name, args, kwargs))

    async with open_system() as system:
        instance = Stateful()
        for behaviour in (instance, instance.method, functools.partial(instance.method, b=2)):
            await system.spawn(child(behaviour, 1))
    assert log == [("Stateful", (1,), {}), ("method", (1,), {}), ("method", (1,), {"b": 2})]


async def test_an_actor_annotated_never_accepts_nothing():
    """`Context[Never]` is a behaviour that is only stopped; sending to it is an error that says so."""
    async with open_system() as system:
        ref = await system.spawn(_deaf)
        with pytest.raises(TypeError, match=r"/_deaf accepts no messages, not int \(1\).*Context\[int\]"):
            await ref.send(1)


async def _deaf(ctx: Context[Never]) -> None:
    await ctx.wait_stopping()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the syntax is new in 3.12")
def test_a_generic_behaviour_accepts_what_its_type_parameter_is_bound_to() -> None:
    """`async def generic[T: int](ctx: Context[T])`, with annotations as strings and as objects."""
    for future in ("from __future__ import annotations\n", ""):
        generic = compiled(f"{future}async def generic[T: int](ctx: Context[T]) -> None: ...")
        assert child(generic).accepted == (int,)


def test_annotations_that_are_objects_are_as_good_as_strings() -> None:
    """Without `from __future__ import annotations` there is nothing left to evaluate, up to 3.13 at least."""
    assert child(compiled("async def typed(ctx: Context[int]) -> None: ...")).accepted == (int,)
    assert child(compiled("async def bare(ctx: Context) -> None: ...")).accepted is None


def compiled(source: str) -> Any:
    """A behaviour in a module of its own, which does not inherit this one's annotations."""
    namespace: dict[str, Any] = {"Context": Context}
    exec(compile(source, "<behaviour>", "exec", dont_inherit=True), namespace)
    (behaviour,) = (
        value
        for name, value in namespace.items()
        if not name.startswith("__") and name not in {"Context", "annotations"}
    )
    return behaviour


def test_what_options_change_reads_well() -> None:
    """`help(spec.options)` says which of them are left as they are: all that are not given."""
    assert "capacity: 'int' = unchanged" in str(inspect.signature(child(typed).options))
