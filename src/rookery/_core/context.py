"""The context: what a behaviour is given."""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Awaitable
from threading import get_ident
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import anyio

from .._model.checks import check_count, check_function, check_timeout, is_async_function, not_a_request
from .._model.dead_letter import Reason
from .._model.errors import StopRequested
from .._model.messages import Request
from .._model.wording import brief
from . import asking
from ._parking import uninterrupted
from .mailbox import NOTHING, Nothing
from .own_loop import check_own_loop
from .ref import ActorRef, target_of, watched_by
from .reply import EMPTY, Ask, Hand
from .spawner import Spawner

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Self, TypeVarTuple

    from .children import Children
    from .incarnation import Incarnation
    from .system import System

    Ts = TypeVarTuple("Ts")

M_co = TypeVar("M_co", covariant=True)
R = TypeVar("R")


class Context(Spawner, Generic[M_co]):
    """One incarnation of an actor, seen from inside: its mailbox, its requests, its children.

    A behaviour is an async function that takes one of these first. ``Context[Add | Note]`` says that the
    actor accepts `Add` and `Note`; other messages are refused where they are sent.
    """

    __slots__ = ("_cell", "_incarnation", "_mailbox", "_now")

    def __init__(self, incarnation: Incarnation) -> None:
        self._incarnation = incarnation
        self._cell = incarnation.cell
        self._mailbox = incarnation.cell.mailbox
        self._now = incarnation.cell.engine.loop.now

    # ---- receiving

    @uninterrupted
    async def receive(self, timeout: float | None = None) -> M_co:
        """The most urgent message, waiting for one if need be.

        Not every call is a checkpoint: a receiver gives way after 64 messages or 1 ms, whichever is first.
        If cancelled, nothing was taken. Requests whose deadline has passed or whose asker has left are
        skipped.

        Args:
            timeout: Seconds to wait; None waits for ever.

        Raises:
            TimeoutError: if there was no message within ``timeout``.
            ValueError: if ``timeout`` is NaN.
            StopRequested: when the actor is asked to stop. Let it leave the behaviour: it is a normal end.
        """
        message = self._poll()
        if message is NOTHING and timeout is not None:
            message = await self._receive_within(timeout)
            if message is NOTHING:
                raise TimeoutError
        while message is NOTHING:
            self._incarnation.in_hand = None
            message = self._handed(await self._mailbox.get())
        return message

    @uninterrupted
    def receive_nowait(self) -> M_co:
        """The most urgent message, if there is one.

        Raises:
            WouldBlock: if there is none, or the actor is paused.
            StopRequested: when the actor is asked to stop.
        """
        if not self._incarnation.receiving:
            self._incarnation.begin_receiving()
        self._incarnation.in_hand = None
        while True:
            message = self._handed(self._mailbox.get_nowait())
            if message is not NOTHING:
                return message

    @uninterrupted
    async def receive_batch(self, max_size: int) -> list[M_co]:
        """Waits for a message, then takes what else is there. If cancelled, nothing was taken.

        Args:
            max_size: How many at most.

        Returns:
            At least one message, the most urgent first.

        Raises:
            ValueError: for a ``max_size`` that is no whole number, or below 1.
            TypeError: for one that is no number.
            StopRequested: when the actor is asked to stop.
        """
        check_count("receive_batch takes a whole number: max_size must be 1 or more", max_size, least=1)
        batch = [await self.receive()]
        while len(batch) < max_size and self._mailbox.available():
            message = self._handed(self._mailbox.get_nowait())
            if message is not NOTHING:
                batch.append(message)
        return batch

    def __aiter__(self) -> Self:
        return self

    @uninterrupted
    async def __anext__(self) -> M_co:
        """Iteration ends at a graceful stop."""
        if not self._incarnation.receiving:
            self._incarnation.begin_receiving()
        item: Any = self._mailbox.poll()
        kind: type = type(item)  # pyright: ignore[reportUnknownVariableType]
        if item is not NOTHING and kind is not Ask:  # what a busy actor gets most: it may cost no further call
            self._cell.received += 1
            self._incarnation.in_hand = kind
            return item  # type: ignore[no-any-return]
        try:
            message = NOTHING if item is NOTHING else self._handed(item)
            while message is NOTHING:
                self._incarnation.in_hand = None
                message = self._handed(await self._mailbox.get())
        except StopRequested:
            raise StopAsyncIteration from None
        return message

    @property
    def stopping(self) -> bool:
        """Whether the actor has been asked to stop."""
        return self._cell.stop_asked

    async def wait_stopping(self) -> None:
        """Wait until the actor is asked to stop; for behaviours that do not receive."""
        if not self._incarnation.ready:
            self._incarnation.become_ready()
        await self._cell.wait_stop_asked()

    def ready(self) -> None:
        """Mark the end of start-up; ``spawn`` returns. Without it, the first receive does. Idempotent."""
        self._incarnation.become_ready()

    # ---- answering

    @uninterrupted
    def reply(self, request: Request[R], value: R) -> None:
        """Answer a request.

        Any request received and not yet answered may be answered, in any order, from any task of the actor;
        the same object asked twice is answered oldest first. It never waits, and a caller that has left is
        no concern of the actor: the reply becomes a dead letter.

        Args:
            request: The object that was received.
            value: What its `ask` returns.

        Raises:
            AlreadyAnswered: if it has been answered.
            TypeError: if ``request`` is not a `Request`.
        """
        ask = self._put_down(request)
        if ask is None:
            self._check_request("ctx.reply(request, value)", request, value)
            self._cell.dead_letter(value, Reason.NOT_ASKED)
        elif not ask.reply(value):
            self._cell.dead_letter(value, Reason.LATE_REPLY)

    @uninterrupted
    def fail(self, request: Request[Any], error: BaseException) -> None:
        """Answer a request with an error, to be raised in its asker; this actor lives on.

        Args:
            request: The object that was received.
            error: An exception; its traceback begins in the asker.

        Raises:
            AlreadyAnswered: if it has been answered.
            TypeError: if ``error`` is not an exception, or ``request`` not a `Request`.
        """
        if not isinstance(error, BaseException):
            raise TypeError(
                f"ctx.fail() takes an exception to raise in the asker, got {brief(error)}: "
                "write `ctx.fail(request, ValueError(...))`, or `ctx.reply(request, value)` for a value"
            )
        ask = self._put_down(request)
        if ask is None:
            self._check_request("ctx.fail(request, error)", request)
            self._cell.dead_letter(error, Reason.NOT_ASKED)
        elif not ask.fail(error):
            self._cell.dead_letter(error, Reason.LATE_REPLY)

    @uninterrupted
    def forward(self, request: Request[R], ref: ActorRef[Any]) -> None:
        """Hand a request on, for another actor to answer to the asker directly.

        It keeps its deadline and priority. It never waits: if the other mailbox is full, the asker gets `MailboxFull`, and
        if the other actor has ended, `ActorStopped`.

        Raises:
            AlreadyAnswered: if it has been answered.
            TypeError: if the other actor does not accept it, the request is still in hand; or if ``ref`` is not a
                reference, or ``request`` not a `Request`.
        """
        if not isinstance(ref, ActorRef):
            raise _not_a_reference(request, ref)
        target = target_of(ref, request)
        ask = self._put_down(request)
        if ask is None:
            self._check_request("ctx.forward(request, ref)", request)
            self._cell.dead_letter(request, Reason.NOT_ASKED)
        else:
            asking.forward(ask, target)

    def abandoned(self, request: Request[Any]) -> bool:
        """Whether nobody waits for this request's answer any more: long work may look, and leave off."""
        asks = self._incarnation.hand.asks_of(request)
        if not asks:
            self._check_request("ctx.abandoned(request)", request)
        return all(ask.stale(self._now) for ask in asks)

    def within(self, request: Request[Any]) -> anyio.CancelScope:
        """A cancel scope that ends at the request's deadline: ``with ctx.within(request): ...``."""
        asks = self._incarnation.hand.asks_of(request)
        if not asks:
            self._check_request("ctx.within(request)", request)
        return anyio.CancelScope(deadline=max((ask.deadline for ask in asks), default=math.inf))

    def _put_down(self, request: object) -> Ask | None:
        """Take a request out of the hand, to answer it."""
        cell = self._cell
        if cell.thread != get_ident():
            check_own_loop(cell.engine.loop, cell.path, "run_sync(ctx.reply, request, value)")
        return self._incarnation.hand.put_down(request, cell.received)

    def _check_request(self, call: str, given: object, second: object = None) -> None:
        """Refuse what can be no request; for those that are not in hand, so that answers cost no check."""
        if not (isinstance(given, Request) or type(given) in self._cell.engine.undeclared):
            raise not_a_request(call, given, second)

    # ---- being an actor

    @property
    def self(self) -> ActorRef[Any]:
        """This actor's own reference."""
        return self._cell.ref

    @property
    def name(self) -> str:
        """This actor's name among its siblings."""
        return self._cell.name

    @property
    def incarnation(self) -> int:
        """1 for the first run of this actor, 2 after its first restart, and so on.

        A child that had ended, and that its supervisor starts again, begins a new life with 1.
        """
        return self._incarnation.number

    @property
    def system(self) -> System:
        """The system this actor lives in."""
        return self._cell.engine.system

    @property
    def logger(self) -> logging.Logger:
        """A logger named after the actor's path: ``rookery.actor.workers.calculator``."""
        return logging.getLogger("rookery.actor" + self._cell.path.replace("/", "."))

    def start_soon(self, fn: Callable[[*Ts], Awaitable[object]], *args: *Ts, name: str | None = None) -> None:
        """Run ``fn(*args)`` as a further task of this actor.

        It is cancelled when the behaviour has returned; what it raises crashes the actor.

        Args:
            fn: An async function. Of any other callable only what it returns shows whether it is one, so that is called
                here and now, and its result awaited in the task.
            *args: What it is called with.
            name: The task's name, for debuggers.

        Raises:
            ActorStopped: if the behaviour has ended.
            TypeError: if ``fn`` is not an async function.
        """
        check_function("ctx.start_soon", fn)
        if is_async_function(fn):
            self._incarnation.start_soon(fn, args, name)
        else:
            self._start_called(fn, fn(*args), name)

    def _start_called(self, fn: object, result: object, name: str | None) -> None:
        if not isinstance(result, Awaitable):
            raise TypeError(
                f"ctx.start_soon() takes an async function, got {brief(fn)}, which returned {brief(result)}: write it "
                "as `async def`, or run it in a thread, `ctx.start_soon(anyio.to_thread.run_sync, fn, *args)`"
            )
        awaitable = cast("Awaitable[object]", result)
        try:
            self._incarnation.start_soon(_outcome, (awaitable,), name)
        except BaseException:
            if inspect.iscoroutine(awaitable):
                awaitable.close()  # nobody will await it
            raise

    @uninterrupted
    def watch(self, ref: ActorRef[Any]) -> None:
        """Be told when an actor ends, and each time it is restarted.

        A `Restarted` for each restart, and in the end exactly one `Terminated`, at once if it is gone already. They
        come before all messages that are queued, take no room in the mailbox, and are only handed to an actor that
        accepts them: ``Context[Add | Terminated | Restarted]``, or, in a class, `Actor.on_terminated` and
        `Actor.on_restarted`. A watch ends with the incarnation that began it. Idempotent.

        Raises:
            TypeError: if this actor does not accept `Terminated`, or ``ref`` is no reference.
            ValueError: for its own reference.
            NotStarted: if the reference's spec has not been spawned.
            ActorStopped: if the behaviour has ended.
        """
        if not isinstance(ref, ActorRef):
            raise TypeError(
                f"ctx.watch() takes the reference of an actor, got {brief(ref)}: pass what `spawn` returned"
            )
        self._incarnation.watch(watched_by(ref))

    def _family(self) -> Children:
        return self._incarnation.family()

    @uninterrupted
    def _poll(self, now: float | None = None) -> M_co | Nothing:
        """A message that is there already, which is nearly every one for a busy actor."""
        if not self._incarnation.receiving:
            self._incarnation.begin_receiving()
        item = self._mailbox.poll(now)
        return NOTHING if item is NOTHING else self._handed(item)

    @uninterrupted
    async def _receive_within(self, timeout: float) -> M_co | Nothing:
        """A message that comes in time, or NOTHING; waiting for it has been a checkpoint."""
        check_timeout(timeout)
        deadline = self._now() + timeout
        self._incarnation.in_hand = None
        while (item := await self._mailbox.get_until(deadline, self._cell.engine.deadlines)) is not NOTHING:
            message = self._handed(item)
            if message is not NOTHING:
                return message
        return NOTHING

    def _handed(self, item: Any) -> M_co | Nothing:
        """What the behaviour gets of an item from the mailbox; NOTHING for a request not to be served."""
        message: M_co = item  # checked when it was sent
        if type(item) is Ask:
            if item.asker_left or (item.deadline < math.inf and item.deadline <= self._now()):
                self._skip(item)
                return NOTHING
            incarnation = self._incarnation
            if incarnation.hand is EMPTY:
                incarnation.hand = Hand()
            incarnation.hand.take_up(item)
            kind = type(item.request)
            if not issubclass(kind, Request):
                self._cell.engine.undeclared.add(kind)
            message = cast("M_co", item.request)
        self._cell.received += 1
        self._incarnation.in_hand = type(message)
        return message

    def _skip(self, ask: Ask) -> None:
        """A request that need not be served any more came up."""
        reason = Reason.EXPIRED if ask.deadline <= self._now() else Reason.ABANDONED
        ask.expire()
        self._cell.dead_letter(ask.request, reason, ask.priority)


def _not_a_reference(request: object, given: object) -> TypeError:
    call = "ctx.forward(request, ref)"
    if isinstance(given, Request):
        return not_a_request(call, request, cast("object", given))
    return TypeError(
        f"{call}: the second argument is another actor's reference, got {brief(given)}: pass what `spawn` returned, or "
        "the `spec.ref` of a spec"
    )


def incarnation_of(ctx: Context[Any]) -> Incarnation:
    """The inside of a context, for the core."""
    return ctx._incarnation  # pyright: ignore[reportPrivateUsage]


def receiving_of(
    ctx: Context[M_co],
) -> tuple[Callable[[float | None], M_co | Nothing], Callable[[float], Coroutine[Any, Any, M_co | Nothing]]]:
    """The two halves of `Context.receive`, for the ring-kernel face: take what is there, and wait for a time."""
    return ctx._poll, ctx._receive_within  # pyright: ignore[reportPrivateUsage]


async def _outcome(awaitable: Awaitable[object]) -> None:
    await awaitable
