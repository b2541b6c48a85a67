"""`Actor` classes: each public coroutine method is a request."""

from __future__ import annotations

import inspect
import math
from contextlib import nullcontext
from types import FunctionType
from typing import TYPE_CHECKING, Any, ClassVar, Concatenate, Final, ParamSpec, TypeVar, cast, final, get_origin

import anyio

from .._model.checks import check_count
from .._model.errors import AskTimeout, NotStarted, Refused
from .._model.methods import POSITIONAL, Method, MethodRequest, plain_signature, public_methods, request_of
from .._model.wording import brief
from ._parking import interruptible, uninterrupted
from .behaviour import Reading, reading
from .context import Context, incarnation_of
from .mailbox import NOTHING
from .waiting import Latch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractContextManager

    from .cell import Cell
    from .ref import Askable
    from .reply import Ask

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
            are, no further message is taken.

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
        it is cut off by one of its own. What it raises is a crash, or joins the one that was its reason.
        """

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


@final
class ClassBehaviour:
    """An `Actor` class as a behaviour: an async function of a context, like any other."""

    __slots__ = ("__name__", "_cls", "reading")

    def __init__(self, cls: type[Actor]) -> None:
        self.__name__: Final = cls.__name__
        self._cls: Final = cls
        self.reading: Final = read_class(cls)

    @uninterrupted
    async def __call__(self, ctx: Context[Any], *args: Any, **kwargs: Any) -> None:
        """One incarnation, from ``__init__`` to `Actor.on_stop`."""
        cell = incarnation_of(ctx).cell
        actor = _made(self._cls, args, kwargs)
        actor.__run_in__(ctx)
        service = (_OneByOne if actor.concurrency == 1 else _AtOnce)(actor)
        await _run(actor.on_start)
        try:
            await service.run()  # which receives, and so is ready
        except GeneratorExit:
            raise  # the loop itself was torn down; there is nothing left to await with
        except BaseException as error:
            await _stop(actor, cell, error)
            raise
        await _stop(actor, cell)

    def __repr__(self) -> str:
        return f"<ClassBehaviour {self.__name__}>"


def class_behaviour(behaviour: object) -> ClassBehaviour | None:
    """The behaviour that an `Actor` class is, also with type arguments, ``Store[int]``; None for anything else.

    Raises:
        TypeError: for an instance of one.
    """
    if isinstance(behaviour, FunctionType):
        return None
    if isinstance(behaviour, Actor):
        name = type(behaviour).__name__
        raise TypeError(
            f"every incarnation is an instance of its own, got one that is made already, {brief(behaviour)}: write "
            f"`child({name}, ...)`, with the arguments of its `__init__`"
        )
    cls = get_origin(behaviour) or behaviour
    if not (inspect.isclass(cls) and issubclass(cls, Actor)):
        return None
    if "__behaviour__" not in vars(cls):  # a base's is another
        cls.__behaviour__ = ClassBehaviour(cls)
    return cls.__behaviour__


def read_class(cls: type[Actor]) -> Reading:
    """What there is to know of an `Actor` class before it runs. The signature is that of its ``__init__``."""
    made = plain_signature(cls)
    parameters = list(made.parameters.values())
    kind = parameters[0].kind if parameters and parameters[0].kind in POSITIONAL else POSITIONAL[-1]
    accepts = made.replace(parameters=[inspect.Parameter("self", kind), *parameters])
    return reading(accepts, tuple(method.message for method in cls.__methods__))


class _OneByOne:
    """Serves the requests of one incarnation, one at a time."""

    __slots__ = ("_actor", "_cell", "_ctx", "_incarnation")

    def __init__(self, actor: Actor) -> None:
        self._actor = actor
        self._ctx = actor.ctx
        self._incarnation = incarnation_of(actor.ctx)
        self._cell = self._incarnation.cell

    @uninterrupted
    async def run(self) -> None:
        """Serve until a graceful stop."""
        async for request in self._ctx:
            await self._serve(request)

    async def _serve(self, request: MethodRequest[Any]) -> None:
        method = request.__method__
        args, kwargs = method.arguments(request)
        ask = self._incarnation.hand.peek(request)  # None if it was only sent
        answer: object = NOTHING
        try:
            with _within(ask):
                answer = await _run(getattr(self._actor, method.name), *args, **kwargs)
        except Exception as error:
            refusal = _refusal(error)
            if refusal is None:
                raise
            self._ctx.fail(request, refusal)
            return
        if answer is NOTHING:
            self._give_up(request)
        elif ask is not None:
            self._ctx.reply(request, answer)

    def _give_up(self, request: MethodRequest[Any]) -> None:
        """Its deadline has passed, so its asker has left or is about to."""
        if self._ctx.abandoned(request):
            self._incarnation.hand.put_down(request)
        else:  # the same object was asked twice, and both were served at once
            self._ctx.fail(request, AskTimeout(f"the deadline of another ask of the same {request!r} has passed"))


@final
class _AtOnce(_OneByOne):
    """Serves several requests at once, each in a task of the actor."""

    __slots__ = ("_closed", "_one_ended", "_scopes", "_started")

    def __init__(self, actor: Actor) -> None:
        super().__init__(actor)
        self._started = 0  # tasks that have not ended
        self._scopes: set[anyio.CancelScope] = set()  # of those that have got as far as serving
        self._closed = False
        self._one_ended: Latch | None = None

    @uninterrupted
    async def run(self) -> None:
        try:
            async for request in self._ctx:
                self._started += 1
                self._ctx.start_soon(self._serve_beside, request)
                while self._started >= self._actor.concurrency:
                    await self._end_of_one()
            while self._started:
                await self._end_of_one()
        except GeneratorExit:
            raise
        except BaseException:
            self._closed = True
            for scope in self._scopes:
                scope.cancel()
            with _grace(self._cell):  # what `on_stop` closes is not closed while they still use it
                while self._scopes:
                    await self._end_of_one()
            raise

    @uninterrupted
    async def _serve_beside(self, request: MethodRequest[Any]) -> None:
        if self._closed:
            return
        with anyio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                await self._serve(request)
            finally:
                self._scopes.discard(scope)
                self._started -= 1
                if self._one_ended is not None:
                    self._one_ended.set()

    async def _end_of_one(self) -> None:
        self._one_ended = Latch(self._cell.engine.loop)
        await self._one_ended.wait()


async def _stop(actor: Actor, cell: Cell, reason: BaseException | None = None) -> None:
    """Call `Actor.on_stop`; what it raises supersedes a cancellation, and joins a crash."""
    try:
        with _grace(cell):
            await _run(actor.on_stop)
    except GeneratorExit:
        raise
    except BaseException as error:
        if reason is None or isinstance(reason, anyio.get_cancelled_exc_class()):
            raise
        raise BaseExceptionGroup(f"{cell.path} crashed, and so did its on_stop", [reason, error]) from None


def _grace(cell: Cell) -> AbstractContextManager[object]:
    """Time to clean up."""
    return cell.engine.grace(cell.spec.settings.stop_timeout)


def _within(ask: Ask | None) -> AbstractContextManager[object, bool | None]:
    """The scope in which a request is served. One that nothing ends costs half as much as the rest of the service."""
    return nullcontext() if ask is None or ask.deadline == math.inf else anyio.CancelScope(deadline=ask.deadline)


def _refusal(error: Exception) -> Exception | None:
    """What the asker gets if a method refused, also out of a task group; None if something else is wrong."""
    if isinstance(error, Refused):
        return error.error
    if not isinstance(error, ExceptionGroup):
        return None
    group = cast("ExceptionGroup[Exception]", error)
    refusals = [_refusal(part) for part in group.exceptions]
    return None if None in refusals else refusals[0]


@interruptible
def _made(cls: type[A], args: tuple[Any, ...], kwargs: dict[str, Any]) -> A:
    """Call user code."""
    return cls(*args, **kwargs)


@interruptible
async def _run(method: Callable[..., Awaitable[R]], *args: Any, **kwargs: Any) -> R:
    """Call user code."""
    return await method(*args, **kwargs)
