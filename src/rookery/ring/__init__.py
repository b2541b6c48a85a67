"""Ring kernels: persistent actors with an input and an output queue, run by name.

The same engine as the rest of rookery, seen from another side: an input queue is an actor's mailbox, a launch
is a spawn, a termination a stop, and a crash is answered by supervision. The core's errors (`MailboxFull`,
`ActorStopped`, ...) are in `rookery`.
"""

from __future__ import annotations

from ._batch import SendBatch
from ._context import KernelContext
from ._decorator import get_ring_kernel_meta, is_ring_kernel, ring_kernel
from ._definition import BackpressureStrategy, KernelDefinition
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
from ._observation import RuntimeSummary
from ._persistence import KernelPersistence
from ._runtime import RingKernelRuntime
from ._state import KernelState
from ._state_file import StateFile
from ._telemetry import KernelTelemetry

__all__ = [
    "AmbiguousKernel",
    "BackpressureStrategy",
    "KernelContext",
    "KernelDefinition",
    "KernelPersistence",
    "KernelState",
    "KernelStateError",
    "KernelTelemetry",
    "KernelTimeout",
    "Message",
    "RingKernelRuntime",
    "RuntimeNotOpen",
    "RuntimeSummary",
    "SendBatch",
    "StateDamaged",
    "StateFile",
    "StateFileError",
    "StateNotSaved",
    "UnknownKernel",
    "get_ring_kernel_meta",
    "is_ring_kernel",
    "message",
    "ring_kernel",
]
