"""What happens to a supervisor's children, and what it has done about it. Values only; `Supervision` decides.

A child is whatever the core uses to tell children apart. Each directive is one effect, and none of them waits:
what it leads to comes back as an event.
"""

from __future__ import annotations

from typing import Generic, TypeAlias, TypeVar, final

import attrs

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
        in_hand: The type of the message it was working on; None if there was none.
    """

    crash: Exception | None = None
    lived: float = 0.0
    was_ready: bool = True
    interrupted: bool = False
    in_hand: type | None = None


# ---- about one child


@final
@attrs.frozen
class Start(Generic[C]):
    """Start an incarnation of the child in ``delay`` seconds.

    What comes back is that it is ready, or its exit. A `Stop` may come first, and then ends the delay as well.
    """

    child: C
    delay: float


@final
@attrs.frozen
class Stop(Generic[C]):
    """Ask the incarnation to stop; its exit is what comes back.

    Attributes:
        child: Whose.
        for_good: False if another incarnation will follow, so that the mailbox must stay open. A stop that was
            begun so may turn out to be for good: then the child is told a second time.
    """

    child: C
    for_good: bool = True


@final
@attrs.frozen
class Keep(Generic[C]):
    """The incarnation is over and another will follow, at once or when its turn comes."""

    child: C
    how: Exit


@final
@attrs.frozen
class Finish(Generic[C]):
    """The child is down: whoever waits for its end, or for its start, is told.

    A `Start` that comes later, by a group restart or on request, begins a new life.
    """

    child: C
    how: Exit


@final
@attrs.frozen
class Forget(Generic[C]):
    """The child, which is down, is no child any more."""

    child: C


# ---- about the supervisor


@final
@attrs.frozen
class AllReady:
    """The supervisor has started: each of its static children is ready, or has ended again."""


@final
@attrs.frozen
class AbortStart(Generic[C]):
    """A child did not start while the supervisor itself was starting: it fails once the others are down.

    Attributes:
        child: Which.
        how: Its exit, with the true cause as the crash.
    """

    child: C
    how: Exit


@final
@attrs.frozen
class GiveUp:
    """Restarts exceeded the intensity: the supervisor fails once its children are down.

    Attributes:
        crashes: Those within the window, oldest first.
    """

    crashes: tuple[Exception, ...]


@final
@attrs.frozen
class AllDown:
    """A supervisor that is stopping has no running children left: its last directive."""


Directive: TypeAlias = (
    Start[C] | Stop[C] | Keep[C] | Finish[C] | Forget[C] | AllReady | AbortStart[C] | GiveUp | AllDown
)
