"""Hypothesis strategies for messages, built from their annotations."""

from __future__ import annotations

import types
import typing
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

import attrs

from .._core.behaviour import read
from .._core.serving import class_behaviour
from .._model.messages import HOLDS_PRIORITY
from .._model.wording import brief
from ._extra import missing_extra

try:
    from hypothesis import strategies as st
except ImportError as _error:
    raise missing_extra(__name__, "hypothesis", _error) from _error

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .._model.methods import Method

M = TypeVar("M")

__all__ = ["messages", "messages_of", "priorities"]


@overload
def messages(of: type[M], /) -> st.SearchStrategy[M]: ...
@overload
def messages(of: object, /) -> st.SearchStrategy[Any]: ...


def messages(of: object, /) -> st.SearchStrategy[Any]:
    """Messages of a type, or of one of the types of a union.

    Every field of an attrs class is drawn from the strategy of its annotation, fields with a default included, and
    ``Annotated[int, st.integers(0, 9)]`` is heeded. The ``priority`` of a ring message is one of `priorities`. What an annotation does not say, a validator for example, say to
    Hypothesis: ``st.register_type_strategy``, or ``messages(Add).filter(...)``.

    Args:
        of: What one would write in ``Context[...]``: ``Add``, ``Add | Note``, ``Box[int]``, ``int``.

    Raises:
        TypeError: if an annotation of a field cannot be resolved.

    Example:
        >>> @given(messages(Add | Note))
        ... async def test_any_message_is_counted(message): ...
    """
    return _strategy(of, {})


def messages_of(behaviour: Callable[..., Awaitable[object]] | type[Any], /) -> st.SearchStrategy[Any]:
    """Messages that an actor accepts: those of its annotation, or the calls of an `Actor` class.

    Args:
        behaviour: An async function whose context is annotated, ``ctx: Context[Add | Note]``, or an `Actor` class.

    Raises:
        TypeError: if it accepts anything, or nothing, so that there is nothing to build messages from.
        UnresolvedAnnotation: if the annotation does not lead to types.
    """
    of_class = class_behaviour(behaviour)
    if of_class is not None:
        return _calls(cast("type[Any]", typing.get_origin(behaviour) or behaviour))
    accepted = read(behaviour).accepted
    if not accepted:
        raise TypeError(
            f"{brief(behaviour)} accepts {'anything' if accepted is None else 'nothing'}, which says nothing about its "
            "messages: annotate it, `ctx: Context[Add | Note]`, or write `messages(Add | Note)`"
        )
    classes: tuple[type[Any], ...] = accepted
    return st.one_of([messages(cls) for cls in classes])


def priorities() -> st.SearchStrategy[int]:
    """Every priority there is, 0 to 255; simplest is the default, 128."""
    return st.one_of(st.just(128), st.integers(0, 255))


def _strategy(of: Any, known: dict[object, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    """The strategy of an annotation.

    Args:
        of: The annotation.
        known: Those of the classes that it is part of: a message may hold others of its own type.
    """
    cls: Any = typing.get_origin(of) or of
    if cls in (typing.Union, types.UnionType):
        # The first is taken to be the simplest: one that is known already, and so begins anew, would have no end.
        members = sorted(typing.get_args(of), key=_is_message)
        return st.one_of([_strategy(member, known) for member in members])
    if not _is_message(of):
        return st.from_type(of)
    if of not in known:
        known[of] = st.deferred(lambda: built)
        hints = _hints(cls)
        fields: dict[str, st.SearchStrategy[Any]] = {
            field.alias or field.name: (
                priorities()
                if HOLDS_PRIORITY in field.metadata
                else _strategy(_applied(hints.get(field.name, field.type or Any), of, cls), known)
            )
            for field in attrs.fields(cls)
            if field.init
        }
        made: Callable[..., Any] = cls
        built: st.SearchStrategy[Any] = st.builds(made, **fields)
    return known[of]


def _is_message(of: Any) -> bool:
    cls: Any = typing.get_origin(of) or of
    return isinstance(cls, type) and attrs.has(cls)


def _applied(hint: Any, of: Any, cls: Any) -> Any:
    """The annotation of a field of ``Box[int]``, which is ``T`` in the class."""
    given: dict[Any, Any] = dict(zip(getattr(cls, "__parameters__", ()), typing.get_args(of), strict=False))
    if isinstance(hint, TypeVar):
        return given.get(hint, hint)
    parameters = getattr(hint, "__parameters__", ())
    return hint[tuple(given.get(each, each) for each in parameters)] if parameters and given else hint


def _calls(actor: type[Any]) -> st.SearchStrategy[Any]:
    """The requests of a class. What `*args` and `**kwargs` take, they are not given."""
    methods: tuple[Method, ...] = actor.__methods__
    if not methods:
        raise TypeError(f"{actor.__name__} has no public coroutine method, so that there is nothing to call")
    return st.one_of([_call(method) for method in methods])


def _call(method: Method) -> st.SearchStrategy[Any]:
    hints = _hints(method.function)
    arguments: dict[str, st.SearchStrategy[Any]] = {}
    for name, parameter in method.signature.parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if name in hints:
            arguments[name] = _strategy(hints[name], {})
        elif parameter.default is parameter.empty:
            raise TypeError(f"the parameter {name!r} of {method.title} has no annotation to draw from: annotate it")
    return st.builds(method.message, **arguments)


def _hints(thing: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(thing, include_extras=True)
    except NameError as error:
        raise TypeError(
            f"an annotation of {thing.__qualname__} cannot be resolved ({error}): define or import its names at module "
            "level, outside of `if TYPE_CHECKING`, or build such messages with `st.builds`"
        ) from error
