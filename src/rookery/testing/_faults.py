"""Fault points: the nth start, receive, reply or cleanup of an actor fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, final, get_args

from .._core.adopted import AdoptedTask
from .._core.context import incarnation_of
from .._core.spec import ChildSpec, behaviour_name
from .._model.errors import RookeryError
from .._model.wording import brief

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType
    from typing import Self

    from .._core.cell import Cell
    from .._core.context import Context

M = TypeVar("M")

Point = Literal["start", "receive", "reply", "cleanup"]


class InjectedFault(RookeryError):
    """What a fault point raises unless it is given something else."""


@final
class Faults:
    """A plan of faults, and the actors that it is for.

    `wrap` makes a child that passes the plan's points; `at` says what fails there. A block checks at its end that
    everything has failed that was to fail: a fault that never fired tests nothing.

    Example:
        >>> with Faults() as faults:
        ...     faults.at("receive", nth=3, of="worker")
        ...     async with open_system() as system:
        ...         await system.spawn(faults.wrap(child(worker)))
    """

    def __init__(self) -> None:
        self._planned: list[_Fault] = []

    def at(self, point: Point, *, nth: int = 1, of: str | None = None, error: Exception | None = None) -> None:
        """Have something fail, once.

        Args:
            point: ``"start"``: an incarnation, before its first step. ``"receive"``: a receive that has just taken
                its message, which is lost; a batch passes this point once for each of its messages, and is lost as a
                whole. ``"reply"``: a reply, or a fail, in place of answering. ``"cleanup"``: the end of an
                incarnation that has taken its first step, after its own cleanup; the fault supersedes how it ended.
            nth: The how manieth, counted from here on over all incarnations, and over all actors it is for.
            of: The name or path of an actor; None for every actor that was wrapped.
            error: What it raises; an `InjectedFault` unless given.

        Raises:
            ValueError: for a point that there is not, or an ``nth`` below 1.
            TypeError: if ``error`` is not an instance of `Exception`.
        """
        if point not in get_args(Point):
            known = ", ".join(map(repr, get_args(Point)))
            raise ValueError(f"faults can be at {known}, got {point!r}: write `faults.at('receive', nth=3)`")
        if nth < 1:
            raise ValueError(f"nth counts from 1, got {nth!r}: write `faults.at({point!r}, nth=1)`")
        if not (error is None or isinstance(error, Exception)):
            raise TypeError(f"error is an exception, got {brief(error)}: write `error=ValueError('...')`")
        self._planned.append(_Fault(point, nth, of, error))

    def wrap(self, spec: ChildSpec[M]) -> ChildSpec[M]:
        """The same child, as a different one with its own ``ref`` that passes the points of this plan.

        Its behaviour may be a function or an `Actor` class. It gets an object that stands for its context and does
        what that does.

        Raises:
            TypeError: for an adopted task, which has no context to receive with, for a supervisor, whose children
                can be wrapped, and for what is no spec.
        """
        if type(spec) is not ChildSpec:
            raise TypeError(
                f"faults.wrap() takes a spec that `child` made, got {brief(spec)}: write "
                "`faults.wrap(child(behaviour, ...))`; of a supervisor, wrap the children"
            )
        if isinstance(spec.behaviour, AdoptedTask):
            raise TypeError(
                f"{spec!r} is an adopted task, which neither receives nor replies: have its function raise, or crash it "
                "with `crash(ref, error)`"
            )
        return ChildSpec(
            _FaultyBehaviour(spec.behaviour, self._pass),
            spec.args,
            spec.kwargs,
            accepted=spec.accepted,
            options=spec.settings,
            context=spec.context,
        )

    def assert_all_fired(self) -> None:
        """Check that everything has failed that was to fail.

        Raises:
            AssertionError: which says what has not.
        """
        unfired = [repr(fault) for fault in self._planned if not fault.fired]
        if unfired:
            raise AssertionError(f"{len(unfired)} of {len(self._planned)} faults never fired: {'; '.join(unfired)}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.assert_all_fired()

    def _pass(self, point: Point, cell: Cell) -> None:
        """An actor passes a point: every fault counts it, and one that is due is raised."""
        due = [fault for fault in self._planned if fault.count(point, cell)]
        if due:
            raise due[0].fire(cell)


@final
class _Fault:
    """One thing that is to fail."""

    def __init__(self, point: Point, nth: int, of: str | None, error: Exception | None) -> None:
        self.fired = False
        self._point: Final = point
        self._nth: Final = nth
        self._of: Final = of
        self._error: Final = error
        self._passed = 0

    def count(self, point: Point, cell: Cell) -> bool:
        """An actor passes a point; whether this fault is due."""
        if point != self._point or self._of not in (None, cell.name, cell.path):
            return False
        self._passed += 1
        return self._passed == self._nth

    def fire(self, cell: Cell) -> Exception:
        """What to raise."""
        self.fired = True
        return self._error or InjectedFault(f"{self._point} number {self._nth} of {self._of or 'all'}, in {cell.path}")

    def __repr__(self) -> str:
        return f"{self._point} number {self._nth} of {self._of or 'all'} ({self._passed} passed)"


@final
class _FaultyBehaviour:
    """A behaviour that passes fault points."""

    __slots__ = ("__name__", "_behaviour", "_pass")

    def __init__(self, behaviour: Callable[..., Awaitable[object]], on_pass: Callable[[Point, Cell], None]) -> None:
        self.__name__: Final = behaviour_name(behaviour)
        self._behaviour: Final = behaviour
        self._pass: Final = on_pass

    async def __call__(self, ctx: Context[Any], *args: Any, **kwargs: Any) -> None:
        cell = incarnation_of(ctx).cell
        self._pass("start", cell)
        try:
            await self._behaviour(_FaultyContext(ctx, self._pass), *args, **kwargs)
        except GeneratorExit:
            raise  # the loop itself was torn down
        except BaseException:
            self._pass("cleanup", cell)
            raise
        self._pass("cleanup", cell)


@final
class _FaultyContext:
    """Stands for a context whose receives and replies are fault points."""

    __slots__ = ("_cell", "_ctx", "_pass")

    def __init__(self, ctx: Context[Any], on_pass: Callable[[Point, Cell], None]) -> None:
        self._ctx: Final = ctx
        self._cell: Final = incarnation_of(ctx).cell
        self._pass: Final = on_pass

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ctx, name)

    async def receive(self, timeout: float | None = None) -> Any:
        return self._received(await self._ctx.receive(timeout))

    def receive_nowait(self) -> Any:
        return self._received(self._ctx.receive_nowait())

    async def receive_batch(self, max_size: int) -> list[Any]:
        return [self._received(message) for message in await self._ctx.receive_batch(max_size)]

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        return self._received(await anext(self._ctx))

    def reply(self, request: Any, value: Any) -> None:
        self._pass("reply", self._cell)
        self._ctx.reply(request, value)

    def fail(self, request: Any, error: BaseException) -> None:
        self._pass("reply", self._cell)
        self._ctx.fail(request, error)

    def _received(self, message: Any) -> Any:
        self._pass("receive", self._cell)
        return message
