"""How `Actor` classes are run: an instance for each incarnation, a method for each request."""

from __future__ import annotations

import inspect
import logging
import math
from contextlib import nullcontext
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast, final, get_origin

import anyio
from anyio.lowlevel import checkpoint_if_cancelled

from .._model.dead_letter import Reason
from .._model.errors import Refused
from .._model.methods import POSITIONAL, MethodRequest
from .._model.signatures import known_signature
from .._model.wording import brief
from ._parking import interruptible, uninterrupted
from .actor import Actor
from .behaviour import Reading, reading
from .context import Context, incarnation_of
from .mailbox import NOTHING
from .waiting import Latch
from .watching import Restarted, Terminated

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractContextManager

    from .cell import Cell
    from .reply import Ask
    from .watching import WatchEvent

A = TypeVar("A")
R = TypeVar("R")

logger = logging.getLogger("rookery.supervision")

EVENT_HOOKS: Final[dict[type, str]] = {Terminated: "on_terminated", Restarted: "on_restarted"}

ANYTHING: Final = inspect.signature(lambda *args, **kwargs: (args, kwargs))
"""The signature of a class that tells nothing about its arguments, as one that is derived from `dict` as well."""


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
        service = (_OneByOne if self._cls.concurrency == 1 else _AtOnce)(actor)
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
    made = known_signature(cls) or ANYTHING
    parameters = list(made.parameters.values())
    kind = parameters[0].kind if parameters and parameters[0].kind in POSITIONAL else POSITIONAL[-1]
    accepts = made.replace(parameters=[inspect.Parameter("self", kind), *parameters])
    return reading(accepts, (*(method.message for method in cls.__methods__), *_heard(cls)))


def _heard(cls: type[Actor]) -> tuple[type, ...]:
    """Which events of those it watches an instance wants to hear of."""
    return tuple(event for event, hook in EVENT_HOOKS.items() if getattr(cls, hook) is not getattr(Actor, hook))


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

    async def _serve(self, request: MethodRequest[Any] | WatchEvent) -> None:
        if isinstance(request, MethodRequest):
            await self._answer(request)
        else:
            await _run(getattr(self._actor, EVENT_HOOKS[type(request)]), request)

    async def _answer(self, request: MethodRequest[Any]) -> None:
        method = request.__method__
        args, kwargs = method.arguments(request)
        ask = self._incarnation.hand.peek(request)  # None if it was only sent
        answer: object = NOTHING
        refusal: Exception | None = None
        try:
            with _within(ask):
                answer = await _run(getattr(self._actor, method.name), *args, **kwargs)
        except Exception as error:
            refusal = _refusal(error)
            if refusal is None:
                raise
        if self._incarnation.hand.peek(request) is None:
            self._unawaited(ask, answer, refusal)
        elif refusal is not None:
            self._ctx.fail(request, refusal)
        elif answer is NOTHING:
            self._give_up(request)
        else:
            self._ctx.reply(request, answer)

    def _unawaited(self, ask: Ask | None, answer: object, refusal: Exception | None) -> None:
        """It was only sent, or answered where the same object was served beside, or its asker has left long ago."""
        if refusal is not None:
            self._cell.dead_letter(refusal, Reason.NOT_ASKED)
        elif ask is not None and ask.asker_left and answer is not NOTHING:
            self._cell.dead_letter(answer, Reason.LATE_REPLY)

    def _give_up(self, request: MethodRequest[Any]) -> None:
        ask = self._incarnation.hand.put_down(request, self._cell.received)
        assert ask is not None
        ask.expire()


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
                while self._started >= type(self._actor).concurrency:
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
    async def _serve_beside(self, request: MethodRequest[Any] | WatchEvent) -> None:
        if self._closed:
            return
        with anyio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                await self._serve(request)
            except Exception:
                self._incarnation.in_hand = type(request)  # and not what was taken up last
                raise
            finally:
                self._scopes.discard(scope)
                self._started -= 1
                if self._one_ended is not None:
                    self._one_ended.set()

    async def _end_of_one(self) -> None:
        self._one_ended = Latch(self._cell.engine.loop)
        await self._one_ended.wait()
        await checkpoint_if_cancelled()  # if it has crashed, nothing more may be taken


async def _stop(actor: Actor, cell: Cell, reason: BaseException | None = None) -> None:
    """Call `Actor.on_stop`; what it raises supersedes a cancellation, and joins a crash."""
    try:
        with _grace(cell) as scope:
            await _run(actor.on_stop)
    except GeneratorExit:
        raise
    except BaseException as error:
        if reason is None or isinstance(reason, anyio.get_cancelled_exc_class()):
            raise
        raise BaseExceptionGroup(f"{cell.path} crashed, and so did its on_stop", [reason, error]) from None
    if scope.cancelled_caught:
        timeout = cell.spec.settings.stop_timeout
        logger.warning("%s: on_stop was cut off before its end (stop_timeout: %g s)", cell.path, timeout)


def _grace(cell: Cell) -> AbstractContextManager[anyio.CancelScope]:
    """Time to clean up."""
    return cell.engine.grace(cell.spec.settings.stop_timeout)


def _within(ask: Ask | None) -> AbstractContextManager[object, bool | None]:
    """The scope in which a request is served. One that nothing ends costs half as much as the rest of the service."""
    return nullcontext() if ask is None or ask.deadline == math.inf else anyio.CancelScope(deadline=ask.deadline)


def _refusal(error: Exception) -> Exception | None:
    """What the asker gets if a method refused, also out of task groups; None if something else is wrong."""
    if isinstance(error, Refused):
        return error.error
    if not isinstance(error, ExceptionGroup):
        return None
    group = cast("ExceptionGroup[Exception]", error)
    refusals = [refusal for refusal in map(_refusal, group.exceptions) if refusal is not None]
    if len(refusals) < len(group.exceptions):
        return None
    return refusals[0] if len(refusals) == 1 else ExceptionGroup(group.message, refusals)


@interruptible
def _made(cls: type[A], args: tuple[Any, ...], kwargs: dict[str, Any]) -> A:
    """Call user code."""
    return cls(*args, **kwargs)


@interruptible
async def _run(method: Callable[..., Awaitable[R]], *args: Any, **kwargs: Any) -> R:
    """Call user code."""
    return await method(*args, **kwargs)
