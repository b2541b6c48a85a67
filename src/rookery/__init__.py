"""rookery: supervised actors for trio and asyncio, with kernels on the GPU."""

from __future__ import annotations

from ._core.actor import Actor, request_for
from ._core.adopted import task
from ._core.channel import ChannelStatistics, PriorityReceiver, PrioritySender, open_priority_channel
from ._core.context import Context
from ._core.dead_letters import DeadLetters, DeadLetterStatistics
from ._core.instruments import Instrument
from ._core.ref import ActorRef, ActorStatistics, Askable
from ._core.spec import ChildSpec, child
from ._core.supervisor import SupervisorRef, SupervisorSpec, supervisor
from ._core.system import System, open_system
from ._core.watching import Restarted, Terminated
from ._model.dead_letter import DeadLetter, Reason
from ._model.errors import (
    ActorCrashed,
    ActorStopped,
    AlreadyAnswered,
    AskCycle,
    AskTimeout,
    DuplicateName,
    MailboxFull,
    NotStarted,
    Refused,
    RestartIntensityExceeded,
    RookeryError,
    SpawnFromWithin,
    StartFailed,
    StopFromWithin,
    StopRequested,
    StuckActor,
    UnknownActor,
    UnresolvedAnnotation,
    WouldBlock,
    WrongLoop,
)
from ._model.lifecycle import ActorState
from ._model.messages import Request, message
from ._model.overflow import Overflow
from ._model.restart import Backoff, Intensity, Restart
from ._model.strategy import AutoShutdown, Strategy
from ._model.wording import at_home as _at_home

__all__ = [
    "Actor",
    "ActorCrashed",
    "ActorRef",
    "ActorState",
    "ActorStatistics",
    "ActorStopped",
    "AlreadyAnswered",
    "AskCycle",
    "AskTimeout",
    "Askable",
    "AutoShutdown",
    "Backoff",
    "ChannelStatistics",
    "ChildSpec",
    "Context",
    "DeadLetter",
    "DeadLetterStatistics",
    "DeadLetters",
    "DuplicateName",
    "Instrument",
    "Intensity",
    "MailboxFull",
    "NotStarted",
    "Overflow",
    "PriorityReceiver",
    "PrioritySender",
    "Reason",
    "Refused",
    "Request",
    "Restart",
    "RestartIntensityExceeded",
    "Restarted",
    "RookeryError",
    "SpawnFromWithin",
    "StartFailed",
    "StopFromWithin",
    "StopRequested",
    "Strategy",
    "StuckActor",
    "SupervisorRef",
    "SupervisorSpec",
    "System",
    "Terminated",
    "UnknownActor",
    "UnresolvedAnnotation",
    "WouldBlock",
    "WrongLoop",
    "child",
    "message",
    "open_priority_channel",
    "open_system",
    "request_for",
    "supervisor",
    "task",
]

_at_home(globals(), __all__)
