"""What those who watch an actor are told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, final

import attrs

if TYPE_CHECKING:
    from .incarnation import Incarnation
    from .ref import ActorRef


@final
@attrs.frozen
class Restarted:
    """A watched actor has been started again; its references stay valid.

    Attributes:
        ref: The actor.
        incarnation: Which run of it has begun: 2 after the first restart, and so on.
        reason: What ended the one before; None if that was no crash: it is PERMANENT and returned, or it had to go with
            a sibling, or somebody asked for it.
    """

    ref: ActorRef[Any]
    incarnation: int
    reason: Exception | None


@final
@attrs.frozen
class Terminated:
    """A watched actor has ended for good, and with it this watch.

    Whoever had asked it has been told before.

    Attributes:
        ref: The actor.
        reason: The crash; None if it ended normally, or was stopped.
    """

    ref: ActorRef[Any]
    reason: Exception | None


WatchEvent: TypeAlias = Restarted | Terminated


@final
@attrs.define(eq=False)
class Watchers:
    """Those who watch one actor.

    Attributes:
        listening: In order of arrival.
        reason: What ended the last incarnation.
    """

    listening: dict[Incarnation, None] = attrs.field(factory=dict["Incarnation", None])
    reason: Exception | None = None
