"""When to restart, how soon, and when to give up: pure values, time is an argument."""

from __future__ import annotations

import math
from collections import deque
from enum import Enum
from typing import TYPE_CHECKING, final

import attrs

from .checks import check_count, check_number

if TYPE_CHECKING:
    from collections.abc import Callable

    from attrs import Attribute


class Restart(Enum):
    """Which ends of a child its supervisor answers with a restart."""

    PERMANENT = "permanent"
    """Every one."""
    TRANSIENT = "transient"
    """A crash only; a behaviour that returned is done. The default."""
    TEMPORARY = "temporary"
    """None."""

    def applies(self, *, crashed: bool) -> bool:
        """Whether a child that ended by itself is started again."""
        return self is Restart.PERMANENT or (self is Restart.TRANSIENT and crashed)


def _number(wanted: str, fits: Callable[[float], bool]) -> Callable[[object, Attribute[float], float], None]:
    def check(instance: object, attribute: Attribute[float], value: float) -> None:
        check_number(f"{type(instance).__name__}: {attribute.name} must be {wanted}", value, fits)

    return check


def _whole_number(instance: object, attribute: Attribute[int], value: int) -> None:
    check_count(f"{type(instance).__name__}: {attribute.name} must be a whole number, 0 or more", value, least=0)


_not_negative = _number("a number of seconds, 0 or more", lambda seconds: seconds >= 0)
_positive = _number("a number of seconds above 0", lambda seconds: seconds > 0)
_growth = _number("a number, 1 or more", lambda factor: factor >= 1)
_share = _number("a number from 0 to 1", lambda share: 0 <= share <= 1)


@final
@attrs.frozen
class Intensity:
    """How many restarts a supervisor tolerates in how many seconds.

    It gives up when the restarts within the last ``per`` seconds exceed ``max_restarts``, as Erlang's
    supervisors do: ``Intensity(3, per=5.0)`` tolerates three and gives up at the fourth.

    Raises:
        ValueError: for a negative number of restarts or a window of no length.
        TypeError: for what is not a number.
    """

    max_restarts: int = attrs.field(validator=_whole_number)
    per: float = attrs.field(validator=_positive)


@final
class RestartWindow:
    """The crashes of one supervisor's children in its sliding window."""

    __slots__ = ("_intensity", "_restarts")

    def __init__(self, intensity: Intensity) -> None:
        self._intensity = intensity
        self._restarts: deque[tuple[float, Exception | None]] = deque()

    def record(self, now: float, crash: Exception | None) -> bool:
        """Count one more restart.

        Args:
            now: Time on the loop's clock, in seconds.
            crash: What made it necessary; None when a PERMANENT child returned.

        Returns:
            Whether the supervisor still tolerates it.
        """
        self._restarts.append((now, crash))
        while self._restarts[0][0] < now - self._intensity.per:
            self._restarts.popleft()
        return len(self._restarts) <= self._intensity.max_restarts

    @property
    def crashes(self) -> list[Exception]:
        """The crashes in the window, oldest first."""
        return [crash for _, crash in self._restarts if crash is not None]


@final
@attrs.frozen
class Backoff:
    """A growing delay before a restart: ``initial * factor ** n``, capped, jittered.

    Attributes:
        initial: Seconds before the first restart.
        maximum: The longest delay in seconds, before jitter.
        factor: How much longer each further delay is.
        jitter: The delay is multiplied by a random number between ``1 - jitter`` and ``1 + jitter``, so that
            children which crashed together do not come back together.
        reset_after: Seconds an incarnation has to live for the delay to start over.

    Raises:
        ValueError: for a value out of range.
        TypeError: for what is not a number.
    """

    initial: float = attrs.field(validator=_not_negative)
    maximum: float = attrs.field(default=60.0, kw_only=True, validator=_not_negative)
    factor: float = attrs.field(default=2.0, kw_only=True, validator=_growth)
    jitter: float = attrs.field(default=0.1, kw_only=True, validator=_share)
    reset_after: float = attrs.field(default=60.0, kw_only=True, validator=_positive)

    def delay(self, restarts: int, chance: float) -> float:
        """Seconds to wait before the next start.

        Args:
            restarts: How many restarts came before this one without a stable life between them.
            chance: A random number from 0 to 1.
        """
        try:
            grown = self.initial * self.factor**restarts
        except OverflowError:
            grown = math.inf if self.initial else 0.0
        return min(grown, self.maximum) * (1 + self.jitter * (2 * chance - 1))
