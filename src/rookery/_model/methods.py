"""The public coroutine methods of `Actor` classes, and the message that stands for each."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar, cast, final

import attrs

from .messages import WIRE_NAME, Request
from .signatures import plain_signature
from .wording import brief

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

R = TypeVar("R")

HOOKS: Final = ("on_start", "on_stop", "on_restarted", "on_terminated")
"""Coroutine methods that rookery calls, and nobody else."""

METHOD: Final = "__rookery_method__"
"""The attribute in which a function keeps the `Method` that was made of it."""

POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class MethodRequest(Request[R]):
    """Base of the generated messages: one class for each method, whose fields are the method's parameters."""

    __slots__ = ()

    __method__: ClassVar[Method]


@final
class Method:
    """A public coroutine method of a class, and its message.

    Attributes:
        name: The attribute under which an instance has it, overridden or not.
        title: The name with its class, for messages: ``Calculator.add``.
        function: It, as the class has it.
        signature: Of what it is called with, so without ``self``; and without annotations.
        message: The class of its requests: frozen and slotted, with a wire name, as any message. A parameter's
            default is the field's.
    """

    __slots__ = (
        "_by_name",
        "_in_order",
        "_make",
        "_more_by_name",
        "_more_in_order",
        "function",
        "message",
        "name",
        "signature",
        "title",
    )

    def __init__(self, owner: type, name: str, function: Callable[..., Any]) -> None:
        self.name: Final = name
        self.title: Final = f"{owner.__name__}.{name}"
        self.function: Final = function
        self.signature: Final = _without_self(self.title, plain_signature(function))
        self.message: Final = self._message(owner)
        self._in_order: Final = self._parameters(*POSITIONAL)
        self._more_in_order: Final = self._parameters(inspect.Parameter.VAR_POSITIONAL)
        self._by_name: Final = self._parameters(inspect.Parameter.KEYWORD_ONLY)
        self._more_by_name: Final = self._parameters(inspect.Parameter.VAR_KEYWORD)
        # Where the message's own `__init__` has the same parameters, it takes a tenth of the time that `bind` takes.
        plain = not (self._parameters(inspect.Parameter.POSITIONAL_ONLY) or self._more_in_order or self._more_by_name)
        self._make: Final[Callable[..., MethodRequest[Any]]] = self.message if plain else self._bound

    def request(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> MethodRequest[Any]:
        """The message that stands for a call with these arguments.

        Raises:
            TypeError: if they do not fit the signature.
        """
        try:
            return self._make(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.title}{self.signature} cannot be called with these arguments: {error}") from None

    def arguments(self, request: MethodRequest[Any]) -> tuple[list[Any], dict[str, Any]]:
        """What a request's method is called with: in order, and by name."""
        args = [getattr(request, name) for name in self._in_order]
        kwargs = {name: getattr(request, name) for name in self._by_name}
        for name in self._more_in_order:
            args.extend(getattr(request, name))
        for name in self._more_by_name:
            kwargs.update(getattr(request, name))
        return args, kwargs

    def _bound(self, *args: Any, **kwargs: Any) -> MethodRequest[Any]:
        return self.message(**self.signature.bind(*args, **kwargs).arguments)

    def _parameters(self, *kinds: object) -> list[str]:
        return [name for name, parameter in self.signature.parameters.items() if parameter.kind in kinds]

    def _message(self, owner: type) -> type[MethodRequest[Any]]:
        fields = {name: _field(parameter) for name, parameter in self.signature.parameters.items()}
        made = attrs.make_class(self.name, fields, bases=(MethodRequest,), frozen=True, slots=True)
        made.__module__ = owner.__module__
        made.__name__ = self.title
        made.__qualname__ = f"{owner.__qualname__}.{self.name}"
        made.__doc__ = f"Asks for `{self.title}`."
        vars(made)["__init__"].__qualname__ = self.title  # as errors about arguments name it
        setattr(made, WIRE_NAME, f"{made.__module__}.{made.__qualname__}")
        message = cast("type[MethodRequest[Any]]", made)
        message.__method__ = self
        return message


def public_methods(cls: type) -> tuple[Method, ...]:
    """What others may ask of instances of a class: its public coroutine methods, those of its bases included.

    Of an overridden one both are there: a request for the base's is served by what overrides it.

    Raises:
        TypeError: for a public method that cannot be a request, and for a hook that is not async.
    """
    methods = tuple(_method_of(owner, name, function) for function, (owner, name) in _public_functions(cls).items())
    for method in methods:
        _check_override(cls, method)
    return methods


def _public_functions(cls: type) -> dict[Callable[..., Any], tuple[type, str]]:
    """The functions that are requests, each with the class that has it and its name there."""
    functions: dict[Callable[..., Any], tuple[type, str]] = {}
    for owner in cls.__mro__:
        for name, value in vars(owner).items():
            if name in HOOKS and not inspect.iscoroutinefunction(value):
                raise TypeError(f"{owner.__name__}.{name} is awaited: write `async def {name}(self) -> None`")
            if name.startswith("_") or name in HOOKS:
                continue
            if inspect.isasyncgenfunction(value):
                raise _is_generator(owner, name)
            if inspect.iscoroutinefunction(value):
                functions.setdefault(value, (owner, name))
                _check_name(owner, name, _made_of(value), *functions[value])
    return functions


def request_of(function: object, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> MethodRequest[Any]:
    """The message that stands for calling a method, given as the class has it: ``Calculator.add``.

    Raises:
        TypeError: if it is no public coroutine method of an `Actor` class, or the arguments do not fit it.
    """
    method = _made_of(function)
    if method is None:
        raise _no_method(function)
    return method.request(args, kwargs)


def _without_self(title: str, whole: inspect.Signature) -> inspect.Signature:
    parameters = list(whole.parameters.values())
    if parameters and parameters[0].kind is inspect.Parameter.VAR_POSITIONAL:
        return whole
    if not parameters or parameters[0].kind not in POSITIONAL:
        raise TypeError(f"{title}{whole} has no parameter for the instance: its first one is `self`")
    if any(parameter.name == "self" for parameter in parameters[1:]):
        raise TypeError(
            f"{title}{whole} has a parameter `self` that is not the instance: call its first one `self`, and this one "
            "something else"
        )
    return whole.replace(parameters=parameters[1:])


def _field(parameter: inspect.Parameter) -> Any:
    name = parameter.name
    if parameter.kind is parameter.VAR_POSITIONAL:
        return attrs.field(alias=name, default=(), kw_only=True)
    if parameter.kind is parameter.VAR_KEYWORD:
        return attrs.field(alias=name, factory=dict[str, Any], kw_only=True)
    default = attrs.NOTHING if parameter.default is parameter.empty else parameter.default
    return attrs.field(alias=name, default=default, kw_only=parameter.kind is parameter.KEYWORD_ONLY)


def _method_of(owner: type, name: str, function: Callable[..., Any]) -> Method:
    """The method that was made of a function, made now if need be: its message is one class, whoever inherits it."""
    method = _made_of(function)
    if method is None:
        method = Method(owner, name, function)
        setattr(function, METHOD, method)
    return method


def _made_of(function: object) -> Method | None:
    method = getattr(function, METHOD, None)
    # A decorator that copies attributes (`functools.wraps`) makes another function, with this one's `Method`.
    return method if isinstance(method, Method) and method.function is function else None


def _check_name(owner: type, name: str, made: Method | None, first_owner: type, first: str) -> None:
    """Refuse a second name for a function: a request has one, and what overrides the other would not serve it."""
    title, known = (made.title, made.name) if made else (f"{first_owner.__name__}.{first}", first)
    if name != known:
        raise TypeError(
            f"{owner.__name__}.{name} is another name of {title}, and a request has one, under which it can be "
            f"overridden: write `async def {name}(self, ...)` and let it call the other, or make it private, `_{name}`"
        )


def _check_override(cls: type, method: Method) -> None:
    """Refuse a class in which an attribute that is no coroutine method stands where a base has a request."""
    if not inspect.iscoroutinefunction(inspect.getattr_static(cls, method.name)):
        raise TypeError(
            f"{cls.__name__}.{method.name} takes the place of {method.title}, which others may ask for, and is no "
            f"coroutine method: write `async def {method.name}(self, ...)`, or choose another name"
        )


def _is_generator(owner: type, name: str) -> TypeError:
    return TypeError(
        f"{owner.__name__}.{name} has a `yield` in it and so makes an async generator, and a request has one answer: "
        f"return a list, or make it private, `_{name}`"
    )


def _no_method(given: object) -> TypeError:
    name = str(getattr(given, "__name__", ""))
    if inspect.ismethod(given) and inspect.isclass(given.__self__):
        why = "is a class method"
    elif inspect.ismethod(given):
        why = f"is the method of one instance: write `{type(given.__self__).__name__}.{name}`"
    elif name.startswith("_"):
        why = "is private"
    elif name in HOOKS:
        why = "is called by rookery when the actor starts or stops"
    elif inspect.isfunction(given) and not inspect.iscoroutinefunction(given):
        why = "is not async: write `async def`"
    else:
        why = "is none: write `await ref.call(Calculator.add, 10, 5)`"
    shown = getattr(given, "__qualname__", None) or brief(given)
    return TypeError(f"what is called is a public coroutine method, as its `Actor` class has it, and {shown} {why}")
