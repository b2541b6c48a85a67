"""An actor's life as a table. This file owns every transition."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final


class ActorState(Enum):
    """Where an actor is in its life, as `ActorRef.state` tells it."""

    NEW = "new"
    """Declared, and not started yet: not spawned, or behind siblings that start before it."""
    STARTING = "starting"
    """Its task runs, and it is not ready yet."""
    RUNNING = "running"
    """It receives messages; or its behaviour is over, and its children are being stopped."""
    PAUSED = "paused"
    """It is running, and its mailbox hands out nothing."""
    RESTARTING = "restarting"
    """It crashed, or is restarted with a sibling, and its next incarnation has not begun; messages queue up."""
    STOPPING = "stopping"
    """It was asked to stop, and its cleanup has not finished."""
    STOPPED = "stopped"
    """It ended and stays down."""
    FAILED = "failed"
    """It ended by a crash, or could not start, and stays down."""


class LifeEvent(Enum):
    """What can happen to an actor."""

    START = auto()
    """A new incarnation begins."""
    READY = auto()
    """It received for the first time, called `ready()`, or returned."""
    PAUSE = auto()
    RESUME = auto()
    RETRY = auto()
    """It ended, or is made to end, and its supervisor will start it again."""
    STOP = auto()
    """A stop was asked for."""
    END = auto()
    """It ended for good, normally."""
    FAIL = auto()
    """It ended for good, by a crash."""


# An Enum's own is a Python function, and every transition looks both up. Members are equal to themselves only.
ActorState.__hash__ = object.__hash__  # type: ignore[method-assign]
LifeEvent.__hash__ = object.__hash__  # type: ignore[method-assign]

FINAL: Final = frozenset({ActorState.STOPPED, ActorState.FAILED})
"""States that nothing leads out of."""

TRANSITIONS: Final[dict[ActorState, dict[LifeEvent, ActorState]]] = {
    ActorState.NEW: {
        LifeEvent.START: ActorState.STARTING,
        LifeEvent.STOP: ActorState.STOPPING,
    },
    ActorState.STARTING: {
        LifeEvent.READY: ActorState.RUNNING,
        LifeEvent.RETRY: ActorState.RESTARTING,
        LifeEvent.STOP: ActorState.STOPPING,
        LifeEvent.FAIL: ActorState.FAILED,
    },
    ActorState.RUNNING: {
        LifeEvent.PAUSE: ActorState.PAUSED,
        LifeEvent.RETRY: ActorState.RESTARTING,
        LifeEvent.STOP: ActorState.STOPPING,
        LifeEvent.END: ActorState.STOPPED,
        LifeEvent.FAIL: ActorState.FAILED,
    },
    ActorState.PAUSED: {
        LifeEvent.RESUME: ActorState.RUNNING,
        LifeEvent.RETRY: ActorState.RESTARTING,
        LifeEvent.STOP: ActorState.STOPPING,
        LifeEvent.END: ActorState.STOPPED,
        LifeEvent.FAIL: ActorState.FAILED,
    },
    ActorState.RESTARTING: {
        LifeEvent.START: ActorState.STARTING,
        LifeEvent.STOP: ActorState.STOPPING,
    },
    ActorState.STOPPING: {
        LifeEvent.END: ActorState.STOPPED,
        LifeEvent.FAIL: ActorState.FAILED,
    },
    ActorState.STOPPED: {},
    ActorState.FAILED: {},
}


def after(state: ActorState, event: LifeEvent) -> ActorState:
    """The state that follows.

    Raises:
        ValueError: if the event cannot happen in this state, naming both.
    """
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        possible = ", ".join(sorted(known.name for known in TRANSITIONS[state])) or "nothing"
        raise ValueError(
            f"{event.name} cannot happen to an actor that is {state.value}; possible there: {possible}"
        ) from None
