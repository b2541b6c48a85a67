"""Ring kernels: persistent actors with an input and an output queue, run by name.

The same engine as the rest of rookery, seen from another side: an input queue is an actor's mailbox, a launch
is a spawn, a termination a stop, and a crash is answered by supervision. The core's errors (`MailboxFull`,
`ActorStopped`, ...) are in `rookery`.
"""

from __future__ import annotations

from ._context import KernelContext
from ._decorator import ring_kernel
from ._definition import BackpressureStrategy
from ._errors import (
    AmbiguousKernel,
    KernelStateError,
    KernelTimeout,
    RuntimeNotOpen,
    StateDamaged,
    StateFileError,
    StateNotSaved,
    UnknownKernel,
)
from ._message import Message, message
from ._persistence import KernelPersistence
from ._runtime import RingKernelRuntime, RuntimeSummary
from ._state import KernelState
from ._state_file import StateFile
from ._telemetry import KernelTelemetry

__all__ = [
    "AmbiguousKernel",
    "BackpressureStrategy",
    "KernelContext",
    "KernelPersistence",
    "KernelState",
    "KernelStateError",
    "KernelTelemetry",
    "KernelTimeout",
    "Message",
    "RingKernelRuntime",
    "RuntimeNotOpen",
    "RuntimeSummary",
    "StateDamaged",
    "StateFile",
    "StateFileError",
    "StateNotSaved",
    "UnknownKernel",
    "message",
    "ring_kernel",
]
