"""Probes: actors that record what they are sent, and of which a test expects something."""

from __future__ import annotations

import types
import typing
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, final, overload

import anyio

from .._core._parking import current_loop
from .._core.context import Context  # noqa: TC001  # the annotation of the behaviour is evaluated by `child`
from .._core.spec import child
from .._core.waiting import Latch
from .._model.wording import brief
from ._settle import settle

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._core.ref import ActorRef
    from .._core.system import System
    from .._model.messages import Request

M = TypeVar("M")
T = TypeVar("T")
R = TypeVar("R")

WITHIN: Final = 10.0
"""Seconds that `Probe.expect` waits by default."""

SHOWN: Final = 20
"""How many of the messages that were received an error shows, the latest ones."""


async def spawn_probe(owner: System | Context[Any], *, name: str | None = None) -> Probe[Any]:
    """Start a probe: an actor that accepts everything, records it, and answers when the test says so.

    Args:
        owner: The system, or the context of the actor, under which it is spawned.
        name: Its name among its siblings; by default ``probe``, numbered if that is taken.

    Raises:
        ActorStopped, DuplicateName, WrongLoop: as ``spawn``.

    Example:
        >>> probe: Probe[Note] = await spawn_probe(system)
        >>> await printer.send(Print(to=probe.ref))
        >>> note = await probe.expect(Note)
    """
    recorder: list[Probe[Any]] = []
    spec = child(probe, recorder).options(name=name)
    recorder.append(Probe(spec.ref))
    await owner.spawn(spec)
    return recorder[0]


@final
class Probe(Generic[M]):
    """An actor that records, and expects; made by `spawn_probe`.

    Each message is expected once: `expect` is about the first message that no `expect` before it was about.

    Attributes:
        ref: Where to send what it shall record.
        received: Every message so far, oldest first, over all its incarnations.
    """

    def __init__(self, ref: ActorRef[M]) -> None:
        self.ref: Final = ref
        self.received: Final[list[M]] = []
        self._expected = 0
        self._ctx: Context[Any] | None = None
        self._arrival: Latch | None = None

    @overload
    async def expect(self, wanted: type[T], *, timeout: float = WITHIN) -> T: ...
    @overload
    async def expect(self, wanted: tuple[type[T], ...], *, timeout: float = WITHIN) -> T: ...
    @overload
    async def expect(self, wanted: types.UnionType | type[Any], *, timeout: float = WITHIN) -> M: ...
    @overload
    async def expect(self, wanted: Callable[[M], object], *, timeout: float = WITHIN) -> M: ...
    @overload
    async def expect(self, wanted: T, *, timeout: float = WITHIN) -> T: ...

    async def expect(self, wanted: object, *, timeout: float = WITHIN) -> object:
        """Wait for the next message and check it. If cancelled, the message is still to be expected.

        Args:
            wanted: The class of the message, some classes of which it has one (``Add | Note``, or a tuple of them), a
                function or other callable that is true for it, or its equal.
            timeout: Seconds to wait for it, on the loop's clock.

        Returns:
            The message.

        Raises:
            AssertionError: if it is another one, or none comes, with what was received instead; if the function
                raises, because it is meant for other messages perhaps, that is the ``__cause__``.
        """
        with anyio.move_on_after(timeout):
            while self._expected == len(self.received):
                await self._next_arrival()
        if self._expected == len(self.received):
            raise AssertionError(f"{self._who} expected {_shown(wanted)} within {timeout} s, {self._story()}")
        message = self.received[self._expected]
        self._check(message, wanted)
        self._expected += 1
        return message

    async def expect_nothing(self, *, seconds: float = 0.0) -> None:
        """Check that no message comes until everybody rests (see `settle`), or so many seconds from now on.

        Args:
            seconds: How long to wait, on the loop's clock; best a virtual one.

        Raises:
            AssertionError: if there is a message that was not expected yet.
        """
        if seconds > 0:
            await anyio.sleep(seconds)
        await settle()
        if self._expected < len(self.received):
            raise AssertionError(f"{self._who} expected nothing, {self._story()}")

    def answer(self, request: Request[R], value: R) -> None:
        """Answer a request that it has received.

        Raises:
            AlreadyAnswered, TypeError: as ``ctx.reply``.
        """
        self._context().reply(request, value)

    def refuse(self, request: Request[Any], error: BaseException) -> None:
        """Answer a request with an error.

        Raises:
            AlreadyAnswered, TypeError: as ``ctx.fail``.
        """
        self._context().fail(request, error)

    def watch(self, ref: ActorRef[Any]) -> None:
        """Have it be told of an actor's restarts and of its end: ``await probe.expect(Terminated)``.

        As for any actor, a crash of the probe itself ends its watches.

        Raises:
            TypeError, ValueError, NotStarted, ActorStopped: as ``ctx.watch``.
        """
        self._context().watch(ref)

    def __repr__(self) -> str:
        return f"<Probe {self.ref!r}>"

    async def _record(self, ctx: Context[M]) -> None:
        self._ctx = ctx
        async for message in ctx:
            self.received.append(message)
            if self._arrival is not None:
                arrival, self._arrival = self._arrival, None
                arrival.set()

    async def _next_arrival(self) -> None:
        if self._arrival is None:
            self._arrival = Latch(current_loop())
        await self._arrival.wait()

    def _check(self, message: M, wanted: object) -> None:
        cause: Exception | None = None
        try:
            if _matches(message, wanted):
                return
        except Exception as error:  # noqa: BLE001  # the cause of what is raised
            cause = error
        raised = "" if cause is None else f", which raised {cause!r}"
        raise AssertionError(
            f"{self._who} expected {_shown(wanted)}{raised}, got {message!r}; {self._story()}"
        ) from cause

    def _context(self) -> Context[Any]:
        assert self._ctx is not None, "a probe has started when `spawn_probe` returns"
        return self._ctx

    @property
    def _who(self) -> str:
        return f"the probe {self.ref.path}"

    def _story(self) -> str:
        """What was received: what was expected already, and what was not."""
        before, after = self.received[: self._expected], self.received[self._expected :]
        return f"not yet expected: {_listed(after)}; expected before: {_listed(before)}"


async def probe(ctx: Context[Any], of: list[Probe[Any]]) -> None:
    """The behaviour of a probe."""
    await of[0]._record(ctx)  # pyright: ignore[reportPrivateUsage]


def _matches(message: object, wanted: Any) -> bool:
    classes = _classes(wanted)
    if classes:
        return isinstance(message, classes)
    return bool(wanted(message) if callable(wanted) else message == wanted)


def _classes(wanted: Any) -> tuple[type[Any], ...]:
    """The classes that are meant by a class, a union or a tuple of them; none if it is something else."""
    if isinstance(wanted, type):
        return (wanted,)
    origin = typing.get_origin(wanted)
    if isinstance(origin, type) and origin is not types.UnionType:
        return (origin,)
    members: tuple[Any, ...] = ()
    if origin in (typing.Union, types.UnionType):
        members = typing.get_args(wanted)
    elif isinstance(wanted, tuple):
        members = wanted  # pyright: ignore[reportUnknownVariableType]
    each = [_classes(member) for member in members]
    return tuple(cls for some in each for cls in some) if all(each) else ()


def _shown(wanted: object) -> str:
    classes = _classes(wanted)
    if classes:
        return " | ".join(cls.__name__ for cls in classes)
    if callable(wanted):
        return f"a message for which {getattr(wanted, '__qualname__', brief(wanted))} is true"
    return repr(wanted)


def _listed(messages: list[Any]) -> str:
    if not messages:
        return "nothing"
    more = f"... ({len(messages) - SHOWN} before these), " if len(messages) > SHOWN else ""
    return more + ", ".join(map(repr, messages[-SHOWN:]))
