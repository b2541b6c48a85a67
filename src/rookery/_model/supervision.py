"""What a supervisor decides. No clock, no task: events in, directives out.

Erlang/OTP's ``supervisor`` is the reference. A supervisor's children are told apart by opaque keys; the
core hands in what happened to them, carries out the directives that come back, and decides nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar, final

import attrs

from .restart import RestartWindow

if TYPE_CHECKING:
    from .restart import Backoff, Intensity, Restart

C = TypeVar("C")


@final
@attrs.frozen
class Exit:
    """How an incarnation ended.

    Attributes:
        crash: What left the behaviour; None if it returned.
        lived: Seconds from its start to its end.
        was_ready: False if it ended before it was ready.
        interrupted: Whether a ``KeyboardInterrupt`` or ``SystemExit`` ended it; the whole tree stops then.
    """

    crash: Exception | None = None
    lived: float = 0.0
    was_ready: bool = True
    interrupted: bool = False


@final
@attrs.frozen
class Start(Generic[C]):
    """Start a new incarnation of the child in ``delay`` seconds."""

    child: C
    delay: float


@final
@attrs.frozen
class Stop(Generic[C]):
    """Ask the child to stop; its exit is the next event of it."""

    child: C


@final
@attrs.frozen
class Forget(Generic[C]):
    """The child is down for good."""

    child: C
    how: Exit


@final
@attrs.frozen
class GiveUp:
    """Restarts exceeded the intensity: the supervisor fails once its children are down."""

    crashes: tuple[Exception, ...]


@final
@attrs.frozen
class AllDown:
    """A supervisor that is stopping has no children left."""


Directive: TypeAlias = Start[C] | Stop[C] | Forget[C] | GiveUp | AllDown


@final
@attrs.define
class _Child:
    restart: Restart
    backoff: Backoff | None
    started_before: bool = False  # a start that fails is retried only after one that succeeded
    stopping: bool = False
    streak: int = 0  # restarts without a stable life between them


@final
class Supervision(Generic[C]):
    """One supervisor's children, in start order, one for one."""

    __slots__ = ("_children", "_intensity", "_stopping", "_window")

    def __init__(self, intensity: Intensity) -> None:
        self._intensity = intensity
        self._window = RestartWindow(intensity)
        self._children: dict[C, _Child] = {}
        self._stopping = False

    @property
    def stopping(self) -> bool:
        """Whether all children are being stopped, on request or because the supervisor gave up."""
        return self._stopping

    @property
    def children(self) -> list[C]:
        """Every child that is not down for good, in start order."""
        return list(self._children)

    def admit(self, child: C, restart: Restart, backoff: Backoff | None) -> None:
        """A child is about to be started for the first time."""
        self._children[child] = _Child(restart, backoff)

    def became_ready(self, child: C) -> None:
        """A start succeeded."""
        self._children[child].started_before = True

    def stop(self, child: C) -> list[Directive[C]]:
        """Somebody asked for this child to stop."""
        state = self._children.get(child)
        if state is None or state.stopping:
            return []
        state.stopping = True
        return [Stop(child)]

    def stop_all(self) -> list[Directive[C]]:
        """Stop every child, in reverse order of start, one after another."""
        if self._stopping:
            return []
        self._stopping = True
        return self._stop_next()

    def exited(self, child: C, how: Exit, now: float, chance: float) -> list[Directive[C]]:
        """An incarnation has ended.

        Args:
            child: Whose.
            how: How it ended.
            now: Time on the loop's clock, in seconds.
            chance: A random number from 0 to 1, for the jitter of a backoff.
        """
        state = self._children[child]
        if not self._restarts(state, how):
            return self._forget(child, how)
        if not self._window.record(now, how.crash):
            self._stopping = True
            return [GiveUp(tuple(self._window.crashes)), *self._forget(child, how)]
        return [Start(child, self._delay(state, how, chance))]

    def _restarts(self, state: _Child, how: Exit) -> bool:
        if self._stopping or state.stopping or how.interrupted:
            return False
        if not how.was_ready and not state.started_before:
            return False  # its spawner is told instead
        return state.restart.applies(crashed=how.crash is not None)

    def _delay(self, state: _Child, how: Exit, chance: float) -> float:
        if state.backoff is None:
            return 0.0
        if how.lived >= state.backoff.reset_after:
            state.streak = 0
        delay = state.backoff.delay(state.streak, chance)
        state.streak += 1
        return delay

    def _forget(self, child: C, how: Exit) -> list[Directive[C]]:
        del self._children[child]
        following = self._stop_next() if self._stopping else []
        return [Forget(child, how), *following]

    def _stop_next(self) -> list[Directive[C]]:
        if not self._children:
            return [AllDown()]
        last = next(reversed(self._children))
        return self.stop(last)
