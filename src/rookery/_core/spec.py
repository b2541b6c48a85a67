"""What to run as a child, and with what."""

from __future__ import annotations

import contextvars
import functools
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Concatenate, Final, Generic, ParamSpec, TypeVar, cast, overload

import attrs

from .._model.options import Options
from .actor import Actor
from .behaviour import read
from .ref import ActorRef
from .serving import ClassBehaviour, class_behaviour

if TYPE_CHECKING:
    import inspect
    from collections.abc import Awaitable, Callable, Mapping
    from typing import Self

    from .._model.checks import Accepted
    from .._model.overflow import Overflow
    from .._model.restart import Backoff, Restart
    from .context import Context

M = TypeVar("M")
A = TypeVar("A", bound=Actor)
P = ParamSpec("P")


class _Unset:
    def __repr__(self) -> str:
        return "unchanged"


UNSET: Final[Any] = _Unset()
DEFAULTS: Final = Options()
NONE: Final[Mapping[str, Any]] = MappingProxyType({})
"""No arguments by name: one mapping for all, as a dictionary for each actor would be larger than its spec."""


class ChildSpec(Generic[M]):
    """A behaviour and its arguments, with options; made by `child`, run by ``spawn``.

    Attributes:
        settings: How it is run.
        name: The name it asks for: its own, or its behaviour's.
    """

    __slots__ = ("_ref", "accepted", "args", "behaviour", "context", "kwargs", "name", "settings")
    _reference: ClassVar[type[ActorRef[Any]]] = ActorRef

    def __init__(
        self,
        behaviour: Callable[..., Awaitable[object]],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        *,
        accepted: Accepted,
        options: Options,
        context: contextvars.Context,
    ) -> None:
        self.behaviour: Final = behaviour
        self.args: Final = args
        self.kwargs: Final = kwargs
        self.accepted: Final = accepted
        self.settings: Final = options
        self.context: Final = context
        self.name: Final = options.name or behaviour_name(behaviour)
        self._ref: Final[ActorRef[M]] = self._reference(self.name)

    @property
    def ref(self) -> ActorRef[M]:
        """The reference that the actor will have.

        It can be handed out before the actor runs, so that siblings can be given each other:
        ``api = child(server, db.ref)``.
        """
        return self._ref

    def options(
        self,
        *,
        name: str | None = UNSET,
        restart: Restart = UNSET,
        start_timeout: float = UNSET,
        stop_timeout: float = UNSET,
        capacity: int = UNSET,
        overflow: Overflow = UNSET,
        backoff: Backoff | None = UNSET,
        significant: bool = UNSET,
    ) -> Self:
        """The same behaviour and arguments with other options, as a different child with its own ``ref``.

        Only what is given changes.

        Args:
            name: Its name among its siblings; by default its behaviour's, numbered if that is taken.
            restart: Which ends are answered with a restart; by default ``Restart.TRANSIENT``, crashes.
            start_timeout: Seconds it has to become ready; 30 by default.
            stop_timeout: Seconds it has after a request to stop, before it is cancelled; 5 by default, 0
                cancels at once, ``math.inf`` never.
            capacity: How many messages its mailbox holds; 1000 by default.
            overflow: What happens to a message that finds it full; by default ``Overflow.BLOCK``.
            backoff: A growing delay before restarts; None, the default, restarts at once.
            significant: Whether its end can be that of its supervisor, as `AutoShutdown` says; False by default.

        Raises:
            ValueError: for a value out of range.
            TypeError: for a value of the wrong kind.
        """
        given: dict[str, Any] = {
            "name": name,
            "restart": restart,
            "start_timeout": start_timeout,
            "stop_timeout": stop_timeout,
            "capacity": capacity,
            "overflow": overflow,
            "backoff": backoff,
            "significant": significant,
        }
        changes = {key: value for key, value in given.items() if value is not UNSET}
        return type(self)(
            self.behaviour,
            self.args,
            self.kwargs,
            accepted=self.accepted,
            options=attrs.evolve(self.settings, **changes),
            context=self.context,
        )

    def __repr__(self) -> str:
        return f"<ChildSpec {self.name}>"


@overload
def child(
    behaviour: Callable[Concatenate[Context[M], P], Awaitable[object]], /, *args: P.args, **kwargs: P.kwargs
) -> ChildSpec[M]: ...
@overload
def child(behaviour: Callable[P, A], /, *args: P.args, **kwargs: P.kwargs) -> ChildSpec[A]: ...


def child(behaviour: Callable[..., Any], /, *args: Any, **kwargs: Any) -> ChildSpec[Any]:
    """Declare a child: what to run, and with which arguments.

    Every incarnation runs in a fresh copy of the context variables that are set where this is called.

    Args:
        behaviour: An async function whose first parameter is the context. The annotation of that parameter
            (``Context[Add | Note]``) says which messages the actor accepts. Or an `Actor` class, which accepts
            calls of its methods.
        *args: What the function is called with after the context, or the class is instantiated with.
        **kwargs: Likewise.

    Raises:
        TypeError: if it is neither, or the arguments do not fit its signature.
        UnresolvedAnnotation: if the annotation does not lead to types that can be checked.

    Example:
        >>> spec = child(calculator).options(name="calc", capacity=10)
        >>> calc = await system.spawn(spec)
    """
    of_class = class_behaviour(behaviour)
    run: Callable[..., Awaitable[object]] = of_class or behaviour
    reading = of_class.reading if of_class else read(run)
    if kwargs or not reading.least <= len(args) <= reading.most:
        _check_arguments(run, reading.signature, args, kwargs)
    context = contextvars.copy_context()
    return ChildSpec(run, args, kwargs or NONE, accepted=reading.accepted, options=DEFAULTS, context=context)


def as_spec(behaviour: object, args: tuple[Any, ...], name: str | None) -> ChildSpec[Any]:
    """The spec that ``spawn(behaviour, *args, name=None)`` means.

    Raises:
        TypeError: if arguments or a name are given beside a spec.
    """
    spec: ChildSpec[Any]
    if isinstance(behaviour, ChildSpec):
        if args or name is not None:
            raise TypeError(
                f"{behaviour!r} already says what to run and with what: write `spawn(spec)`, with "
                "`child(behaviour, *args).options(name=...)` as the spec"
            )
        spec = behaviour  # pyright: ignore[reportUnknownVariableType]  # narrowing leaves the type argument open
    else:
        spec = child(cast("Callable[..., Awaitable[object]]", behaviour), *args)
    return spec if name is None else spec.options(name=name)


def behaviour_name(behaviour: object) -> str:
    """What an unnamed child is called."""
    while isinstance(behaviour, functools.partial):
        behaviour = behaviour.func
    name = getattr(behaviour, "__name__", None) or type(behaviour).__name__
    return str(name).strip("<>")


def _check_arguments(
    behaviour: object, accepts: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    given = "instance" if isinstance(behaviour, ClassBehaviour) else "context"
    try:
        accepts.bind(None, *args, **kwargs)
    except TypeError as error:
        raise TypeError(
            f"{behaviour_name(behaviour)}{accepts} cannot be started with these arguments: {error}; "
            f"the {given} is passed by rookery, the rest goes after the behaviour, `child(behaviour, *args)`, or after "
            "the function that is adopted, `child(task(fn, *args))`"
        ) from None
