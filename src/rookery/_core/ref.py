"""References: what everybody else has of an actor."""

from __future__ import annotations

from threading import get_ident
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar

import attrs

from .._model.checks import check_message, check_priority
from .._model.errors import NotStarted
from .._model.lifecycle import ActorState
from .._model.messages import DEFAULT_PRIORITY
from .._model.methods import request_of
from .asking import ask
from .own_loop import check_own_loop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from .cell import Cell

M_contra = TypeVar("M_contra", contravariant=True)
M_co = TypeVar("M_co", covariant=True)
R_co = TypeVar("R_co", covariant=True)
R = TypeVar("R")
P = ParamSpec("P")


class Askable(Protocol[M_co, R_co]):
    """A request, to a type checker: of message type ``M``, with replies of type ``R``.

    It is what lets `ActorRef.ask` check both that the actor accepts the request and what comes back.
    """

    def __asks__(self) -> tuple[M_co, R_co]: ...


@attrs.frozen
class ActorStatistics:
    """An actor at one moment. What is counted begins anew when a child that had ended is started again.

    Attributes:
        state: Where it is in its life.
        queued: Messages in its mailbox.
        capacity: How many the mailbox holds.
        blocked_senders: Tasks that wait for room in it.
        received: Messages handed to it so far, by all incarnations.
        dropped: Messages its overflow policy has dropped so far.
        unanswered: Requests it has in hand and has not answered.
        restarts: How many incarnations came after the first.
        last_crash: What ended the latest incarnation that crashed.
    """

    state: ActorState
    queued: int
    capacity: int
    blocked_senders: int
    received: int
    dropped: int
    unanswered: int
    restarts: int
    last_crash: Exception | None


class ActorRef(Generic[M_contra]):
    """The address of an actor that accepts messages of type ``M``; the same across its restarts.

    A reference belongs to the event loop of its system. It is made by ``spawn``, or by `child` as
    ``spec.ref``, in which case it can be used once the spec has been spawned.
    """

    __slots__ = ("__weakref__", "_cell", "_name")

    def __init__(self, name: str) -> None:
        self._name = name
        self._cell: Cell | None = None

    # ---- messages

    async def send(self, message: M_contra | Askable[M_contra, object], *, priority: int = DEFAULT_PRIORITY) -> None:
        """Put a message into the actor's mailbox, waiting for room under ``Overflow.BLOCK``.

        Not every call is a checkpoint: a sender gives way after 64 messages or 1 ms, whichever is first. If
        cancelled, the message was not sent.

        Args:
            message: Of a type the actor accepts.
            priority: 0 to 255; larger is delivered sooner.

        Raises:
            ActorStopped: if the actor has ended or is ending.
            MailboxFull: under ``Overflow.REJECT``, when full.
            NotStarted: if the reference's spec has not been spawned.
            TypeError: for a message the actor does not accept.
            ValueError: for a priority out of range.
            WrongLoop: from another thread than the system's; in another event loop of the same thread at the latest
                when it would have given way.
        """
        cell = self._cell
        if cell is None or cell.thread != get_ident() or priority is not DEFAULT_PRIORITY:
            cell = self._target(message, priority)
        elif cell.accepted is not None and not isinstance(message, cell.accepted):
            check_message(message, cell.accepted, cell.path)
        mailbox = cell.mailbox
        if not mailbox.offer(message, priority):
            await mailbox.insist(message, priority)

    def send_nowait(self, message: M_contra | Askable[M_contra, object], *, priority: int = DEFAULT_PRIORITY) -> None:
        """As `send`, but never waits.

        Raises:
            MailboxFull: if there is no room, under ``BLOCK`` and ``REJECT``; otherwise as `send`.
        """
        cell = self._target(message, priority)
        cell.mailbox.put_nowait(message, priority)

    def ask(
        self, request: Askable[M_contra, R], *, priority: int = DEFAULT_PRIORITY, timeout: float | None = None
    ) -> Coroutine[Any, Any, R]:
        """Send a request and wait for its reply.

        The request's deadline is the earlier of ``timeout`` and that of the enclosing cancel scopes; once it
        has passed, or this call is cancelled, the request is not served any more if it is still queued.

        Args:
            request: An instance of a `Request[R]` that the actor accepts.
            priority: 0 to 255; larger is delivered sooner.
            timeout: Seconds to wait for the reply, waiting for room included; None for no limit of its own.

        Returns:
            What the actor replies.

        Raises:
            Exception: what the actor passed to ``ctx.fail``.
            ActorStopped: if the actor ends before it answers.
            ActorCrashed: if it crashes on this request; the crash is the ``__cause__``.
            AskTimeout: after ``timeout``.
            AskCycle: if the actor, directly or through others, is itself waiting for this one's answer.
            MailboxFull: under the policies that drop or reject.
            NotStarted, TypeError, ValueError, WrongLoop: as `send`.
        """
        # Awaited like any other, though not declared so: one coroutine for each ask, not one around another.
        return ask(self._target, request, priority, timeout)

    async def call(
        self, method: Callable[Concatenate[M_contra, P], Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Call a method of an actor that is an `Actor` class, and wait for what it returns.

        Its deadline is that of the enclosing cancel scopes; otherwise as `ask`. All arguments are the method's:
        ``await ref.ask(request_for(Calculator.add, 10, 5), priority=200, timeout=1)`` says more about the delivery.

        Args:
            method: A public coroutine method of the actor's class or of a base of that, as the class has it:
                ``Calculator.add``. If the actor's own class overrides it, that is what is called.
            *args: What it is called with.
            **kwargs: Likewise.

        Returns:
            What the method returns.

        Raises:
            Exception: what the method put into `Refused`.
            TypeError: if it is no such method, or the arguments do not fit its signature.
            ActorStopped, ActorCrashed, AskCycle, MailboxFull, NotStarted, WrongLoop: as `ask`.
        """
        request: Any = request_of(method, args, kwargs)
        answer: R = await self.ask(request)
        return answer

    async def cast(
        self, method: Callable[Concatenate[M_contra, P], Awaitable[object]], /, *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """Have a method called without waiting for it; what it returns is discarded. Otherwise as `call` and `send`.

        A `Refused` from the method is a dead letter then.
        """
        request: Any = request_of(method, args, kwargs)
        await self.send(request)

    # ---- life

    @property
    def name(self) -> str:
        """Its name among its siblings."""
        return self._name if self._cell is None else self._cell.name

    @property
    def path(self) -> str:
        """Its place in the tree: the names from the root on, ``/workers/calculator``.

        Raises:
            NotStarted: if its spec has not been spawned.
        """
        return self._started().path

    @property
    def state(self) -> ActorState:
        """Where it is in its life."""
        return ActorState.NEW if self._cell is None else self._cell.state

    def statistics(self) -> ActorStatistics:
        """The actor now.

        Raises:
            NotStarted: if its spec has not been spawned.
        """
        return self._started().statistics()

    def stop_soon(self) -> None:
        """Ask for a graceful stop, from anywhere. Idempotent.

        Senders are turned away from now on. The behaviour learns of it at its next receive; after its
        ``stop_timeout`` it is cancelled.
        """
        self._on_loop().stop_soon()

    async def stop(self, *, drain: bool = False) -> None:
        """Stop the actor and wait until its cleanup has run. Idempotent.

        If cancelled, the stop goes on.

        Args:
            drain: Let it receive what is already queued first; ``stop_timeout`` bounds that too.

        Raises:
            StopFromWithin: when called by the actor itself or from inside its subtree, which would wait for
                itself.
        """
        await self._on_loop().stop(drain=drain)

    async def wait_stopped(self) -> None:
        """Wait until the actor has ended for good. If cancelled, nothing has changed.

        Raises:
            StopFromWithin: when called by the actor itself or from inside its subtree.
        """
        await self._on_loop().wait_stopped()

    async def pause(self) -> None:
        """Hand the actor no more messages until `resume`; they queue up.

        The message it is working on is not affected. A pause outlives a restart; a stop ends it. Idempotent.

        Raises:
            ActorStopped: if the actor has ended or is ending.
        """
        cell = self._on_loop()
        await cell.engine.loop.checkpoint()
        cell.pause()

    async def resume(self) -> None:
        """Hand it messages again. Idempotent.

        Raises:
            ActorStopped: if the actor has ended or is ending.
        """
        cell = self._on_loop()
        await cell.engine.loop.checkpoint()
        cell.resume()

    def __repr__(self) -> str:
        where = self._name if self._cell is None else self._cell.path
        return f"<ActorRef {where} {self.state.value}>"

    def _started(self) -> Cell:
        if self._cell is None:
            raise NotStarted(
                f"{self._name!r} has not been spawned yet: `await system.spawn(spec)` before its `spec.ref` is used"
            )
        return self._cell

    def _on_loop(self) -> Cell:
        cell = self._started()
        check_own_loop(cell.engine.loop, cell.path, f"run({self._name}.send, message)")
        return cell

    def _target(self, message: object, priority: int) -> Cell:
        """The actor, if this delivery to it is in order."""
        cell = self._cell
        if cell is None or cell.thread != get_ident():
            cell = self._on_loop()
        if priority is not DEFAULT_PRIORITY:
            check_priority(priority)
        if cell.accepted is not None and not isinstance(message, cell.accepted):
            check_message(message, cell.accepted, cell.path)
        return cell


# For the core and the faces that stand on it: what is behind a reference.


def bind(ref: ActorRef[Any], cell: Cell) -> None:
    """The reference's spec is being spawned."""
    ref._cell = cell  # pyright: ignore[reportPrivateUsage]


def cell_of(ref: ActorRef[Any]) -> Cell | None:
    """The actor behind a reference; None before its spec was spawned."""
    return ref._cell  # pyright: ignore[reportPrivateUsage]


def watched_by(ref: ActorRef[Any]) -> Cell:
    """The actor behind a reference that somebody in this loop wants to watch; raises as `ActorRef.stop_soon` does."""
    return ref._on_loop()  # pyright: ignore[reportPrivateUsage]


def target_of(ref: ActorRef[Any], message: object, priority: int = DEFAULT_PRIORITY) -> Cell:
    """The actor behind a reference, if this delivery to it is in order; raises as `ActorRef.send` does."""
    return ref._target(message, priority)  # pyright: ignore[reportPrivateUsage]
