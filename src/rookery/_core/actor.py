"""`Actor` classes: what users derive from, and how they call it."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, ClassVar, Concatenate, ParamSpec, TypeVar

from .._model.checks import check_count
from .._model.errors import NotStarted
from .._model.methods import Method, public_methods, request_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .context import Context
    from .ref import Askable
    from .serving import ClassBehaviour
    from .watching import Restarted, Terminated

A = TypeVar("A")
P = ParamSpec("P")
R = TypeVar("R")


class Actor:
    """Base of actors that are written as classes: every public coroutine method is a request.

    ``await ref.call(Calculator.add, 10, 5)`` sends the request and waits for what the method returns,
    ``await ref.cast(Calculator.add, 10, 5)`` only sends it. Requests are served in the order of the mailbox, one at a
    time unless the class sets `concurrency`. A method runs under its request's deadline: when that passes, it is
    cancelled, and the actor lives on. An exception that leaves a method crashes the actor; ``raise Refused(error)``
    fails the asker only.

    Every incarnation is a fresh instance, made with the arguments that `child` or ``spawn`` was given. Methods whose
    name begins with an underscore, methods that are not async, static and class methods and properties are no requests.

    Attributes:
        concurrency: How many requests are served at once, each in a task of its own; 1 by default. While that many
            are, no further message is taken. It belongs to the class; one that an instance sets counts for nothing.
            An actor whose methods wait for further calls of itself, nested that deep, waits for ever, and nothing
            tells of it: give such calls a ``timeout``.

    Example:
        >>> class Calculator(Actor):
        ...     async def add(self, a: float, b: float) -> float:
        ...         return a + b
        >>> calc = await system.spawn(Calculator)
        >>> assert await calc.call(Calculator.add, 10, 5) == 15
    """

    concurrency: ClassVar[int] = 1

    __methods__: ClassVar[tuple[Method, ...]] = ()
    __behaviour__: ClassVar[ClassBehaviour]
    __ctx: Context[Any] | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if inspect.getattr_static(cls, "ctx") is not vars(Actor)["ctx"]:
            raise TypeError(
                f"{cls.__name__}.ctx takes the place of `Actor.ctx`, the context that every actor has: choose another name"
            )
        check_count(
            f"{cls.__name__}.concurrency is how many requests are served at once, a whole number from 1 on",
            cls.concurrency,
            least=1,
        )
        cls.__methods__ = public_methods(cls)

    @property
    def ctx(self) -> Context[Any]:
        """This incarnation's context: its name, its children, its further tasks. There from `on_start` on.

        Raises:
            NotStarted: before that: in ``__init__``, and in an instance that nobody spawned.
        """
        if self.__ctx is None:
            raise NotStarted(
                f"{type(self).__name__} is not running yet, and has no `ctx`: use it in `async def on_start(self)` and "
                "in methods, not in `__init__`"
            )
        return self.__ctx

    async def on_start(self) -> None:
        """Called before the first request; the actor is ready when it has returned.

        What it raises is a start failure, as with ``__init__``. A stop that comes meanwhile takes effect afterwards.
        """

    async def on_stop(self) -> None:
        """Called after the last request, whatever came of it: a graceful stop, a crash, a cancellation.

        It is called if `on_start` has returned, and shielded from cancellation; after the actor's ``stop_timeout``
        it is cut off by one of its own, and a warning logged. With ``stop_timeout=0`` that is its first await. What it
        raises is a crash, or joins the one that was its reason.
        """

    async def on_terminated(self, event: Terminated) -> None:
        """Called when an actor that this one watches has ended for good; what it raises is a crash.

        Events come before all requests that are queued. Only a class that defines this can ``self.ctx.watch(ref)``.
        """

    async def on_restarted(self, event: Restarted) -> None:
        """Called when an actor that this one watches has been started again; what it raises is a crash."""

    def __run_in__(self, ctx: Context[Any]) -> None:
        object.__setattr__(self, "_Actor__ctx", ctx)  # also where the class is frozen


def request_for(
    method: Callable[Concatenate[A, P], Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
) -> Askable[A, R]:
    """The message that stands for calling a method of an `Actor` class.

    For what `ActorRef.call` has no room for, because all its arguments are the method's:
    ``await calc.ask(request_for(Calculator.add, 10, 5), priority=200, timeout=1)``.

    Args:
        method: A public coroutine method, as its class has it: ``Calculator.add``.
        *args: What it is to be called with.
        **kwargs: Likewise.

    Raises:
        TypeError: if it is no such method, or the arguments do not fit its signature.
    """
    request: Any = request_of(method, args, kwargs)
    asked: Askable[A, R] = request
    return asked
