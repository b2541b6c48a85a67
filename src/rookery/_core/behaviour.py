"""Reading a behaviour: which messages it accepts."""

from __future__ import annotations

import functools
import inspect
import math
import types
import typing
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, final, get_args, get_origin
from weakref import WeakKeyDictionary

import attrs

from .._model.checks import called_already
from .._model.errors import UnresolvedAnnotation
from .._model.signatures import AS_WRITTEN
from .._model.wording import brief
from .context import Context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .._model.checks import Accepted

MEANT_BY: Final[dict[object, Callable[[Any], object]]] = {
    typing.TypeVar: lambda variable: variable.__bound__ or object,
    typing.NewType: attrgetter("__supertype__"),
    getattr(typing, "TypeAliasType", None): attrgetter("__value__"),  # new in 3.12
}
"""By the class of an annotation that is a name for another one: what it is a name for."""


@final
@attrs.frozen
class Reading:
    """What there is to know of a behaviour before it runs.

    Attributes:
        signature: Its signature, annotations as written.
        accepted: What may be sent to it; None for anything.
        least: With fewer positional arguments after the context it cannot be called, ...
        most: ... nor with more; and with any number in between it can, if there are no others.
    """

    signature: inspect.Signature
    accepted: Accepted
    least: float
    most: float


_read_before: Final[WeakKeyDictionary[object, Reading]] = WeakKeyDictionary()
"""Functions do not change, and reading one takes four times as long as starting an actor."""


def read(behaviour: Callable[..., Any]) -> Reading:
    """Read a behaviour; a function is read once.

    Args:
        behaviour: An async function whose first parameter is the context.

    Raises:
        TypeError: if it is no async function, or has no parameter for the context.
        UnresolvedAnnotation: if the annotation does not lead to classes that can be checked at send.
    """
    if not isinstance(behaviour, types.FunctionType):
        return _read(behaviour)
    known = _read_before.get(behaviour)
    if known is None:
        known = _read_before[behaviour] = _read(behaviour)
    return known


def _read(behaviour: Callable[..., Any]) -> Reading:
    accepts = signature(behaviour)
    return reading(accepts, accepted_messages(behaviour, accepts))


def reading(accepts: inspect.Signature, accepted: Accepted) -> Reading:
    """What there is to know, from the signature, whose first parameter rookery passes, and what may be sent."""
    least, most = _positional_arguments(accepts)
    return Reading(accepts, accepted, least - 1, most - 1)


def _positional_arguments(accepts: inspect.Signature) -> tuple[float, float]:
    """How many positional arguments it takes at least and at most, if it needs no others."""
    least = most = 0.0
    for parameter in accepts.parameters.values():
        required = parameter.default is parameter.empty
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            least, most = least + required, most + 1
        elif parameter.kind is parameter.VAR_POSITIONAL:
            most = math.inf
        elif parameter.kind is parameter.KEYWORD_ONLY and required:
            least = math.inf
    return least, most


def accepted_messages(behaviour: Callable[..., Any], accepts: inspect.Signature) -> Accepted:
    """The types in the ``Context[...]`` annotation of a behaviour's first parameter.

    Args:
        behaviour: An async function whose first parameter is the context.
        accepts: Its signature.

    Returns:
        What may be sent to it; None, which is anything, if the parameter is not annotated.

    Raises:
        TypeError: if it has no parameter for the context.
        UnresolvedAnnotation: if the annotation does not lead to classes that can be checked at send.
    """
    parameter = _context_parameter(behaviour, accepts)
    annotation = parameter.annotation
    if annotation is inspect.Parameter.empty or parameter.kind is parameter.VAR_POSITIONAL:
        return None  # `*args` are a wrapper's, whose annotation says nothing about the context
    if isinstance(annotation, str):
        annotation = evaluate(annotation, behaviour)
    if annotation is Context or annotation is Any:
        return None
    if get_origin(annotation) is not Context:
        raise UnresolvedAnnotation(
            f"the first parameter of {_name(behaviour)} is its context, but is annotated {annotation!r}: "
            f"write `{parameter.name}: Context[Message]`, or adopt a function that takes none, `child(task(fn, ...))`"
        )
    (messages,) = get_args(annotation)
    classes = tuple(_classes(messages, behaviour))
    return None if object in classes else classes


def _context_parameter(behaviour: Callable[..., Any], accepts: inspect.Signature) -> inspect.Parameter:
    for parameter in accepts.parameters.values():
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD, parameter.VAR_POSITIONAL):
            return parameter
        break
    raise TypeError(
        f"{_name(behaviour)} has no parameter for its context: "
        "write `async def behaviour(ctx: Context[Message]) -> None`, or adopt it as it is, `child(task(fn, ...))`"
    )


def _no_behaviour(given: object) -> TypeError:
    wanted = "a behaviour is an async function whose first parameter is the context"
    if inspect.iscoroutine(given):
        return called_already(given, wanted, f"write `child({given.__name__}, ...)`")
    if inspect.isasyncgenfunction(_function(given)):
        why = ", which has a `yield` in it and so makes an async generator: take that out, and "
    elif inspect.isclass(given):
        why = ", a class: derive it from `Actor`, pass an instance whose `__call__` is async, or "
    elif callable(given):
        why = ", which is not async: "
    else:
        why = ": "
    return TypeError(f"{wanted}, got {brief(given)}{why}write `async def behaviour(ctx: Context[Message]) -> None`")


def _function(behaviour: object) -> object:
    """What is called in the end, below decorators, partials, methods and callable objects."""
    while True:
        if isinstance(behaviour, functools.partial):
            behaviour = typing.cast("object", behaviour.func)
        elif inspect.ismethod(behaviour):
            behaviour = behaviour.__func__
        elif (wrapped := getattr(behaviour, "__wrapped__", None)) is not None:
            behaviour = typing.cast("object", wrapped)
        elif inspect.isroutine(behaviour) or inspect.isclass(behaviour) or not callable(behaviour):
            return behaviour
        else:
            behaviour = type(behaviour).__call__


def signature(behaviour: Callable[..., Any]) -> inspect.Signature:
    """The signature with annotations as written, whatever cannot be evaluated included.

    Raises:
        TypeError: if it is not an async function.
    """
    if not inspect.iscoroutinefunction(_function(behaviour)):
        raise _no_behaviour(behaviour)
    return inspect.signature(behaviour, **AS_WRITTEN)


def evaluate(annotation: str, behaviour: Callable[..., Any]) -> object:
    """Evaluate one annotation, and only that one: others may name what only type checkers see.

    Raises:
        UnresolvedAnnotation: if a name in it is not to be found.
    """
    function = _function(behaviour)
    scope = dict(getattr(function, "__globals__", {}))
    scope.update(_enclosing_names(function))
    scope.update({parameter.__name__: parameter for parameter in getattr(function, "__type_params__", ())})
    try:
        return eval(annotation, scope)  # noqa: S307  # the author's own annotation
    except Exception as error:
        raise UnresolvedAnnotation(
            f"the annotation {annotation!r} of {_name(behaviour)} cannot be resolved ({error}): define or import "
            "its names at module level, outside of `if TYPE_CHECKING`, or leave the context unannotated"
        ) from error


def _enclosing_names(function: object) -> dict[str, object]:
    """Names the function closes over; a class defined in a test function next to it, say."""
    code = getattr(function, "__code__", None)
    cells = getattr(function, "__closure__", None) or ()
    names: dict[str, object] = {}
    for name, cell in zip(code.co_freevars if code else (), cells, strict=True):
        try:
            names[name] = cell.cell_contents
        except ValueError:  # still empty
            continue
    return names


def _classes(annotation: object, behaviour: Callable[..., Any]) -> Iterator[type]:
    """The classes that stand for a message annotation at run time."""
    origin = get_origin(annotation)
    if annotation is Any or annotation is object:
        yield object
    elif annotation is typing.Never or annotation is typing.NoReturn:
        return  # it receives stops only
    elif origin in (typing.Union, types.UnionType):
        for member in get_args(annotation):
            yield from _classes(member, behaviour)
    elif origin is typing.Annotated:
        yield from _classes(get_args(annotation)[0], behaviour)
    elif origin is typing.Literal:
        yield from {type(value) for value in get_args(annotation)}
    elif annotation is None:
        yield types.NoneType
    elif annotation is float:
        yield from (float, int)  # as type checkers see it
    elif annotation is complex:
        yield from (complex, float, int)
    elif (meant := MEANT_BY.get(type(annotation))) is not None:
        yield from _classes(meant(annotation), behaviour)
    else:
        yield _checkable(origin or annotation, behaviour)


def _checkable(cls: object, behaviour: Callable[..., Any]) -> type:
    try:
        isinstance(None, cls)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    except TypeError as error:
        raise UnresolvedAnnotation(
            f"messages of type {cls!r}, which {_name(behaviour)} is annotated with, cannot be told from others "
            f"when they are sent ({error}): write classes, such as attrs classes made with @message"
        ) from error
    return typing.cast("type", cls)


def _name(behaviour: Callable[..., Any]) -> str:
    return getattr(behaviour, "__qualname__", None) or brief(behaviour)
