"""A kernel's states as a table. This file owns every transition."""

from __future__ import annotations

from enum import Enum
from typing import Final

from ._errors import KernelStateError


class KernelState(Enum):
    """Where a kernel is in its life."""

    CREATED = "created"
    """Defined, and not running."""
    LAUNCHED = "launched"
    """Running, and not activated yet: it accepts messages and is handed none."""
    ACTIVE = "active"
    """It is handed messages."""
    DEACTIVATED = "deactivated"
    """Running, and paused: it accepts messages and is handed none."""
    TERMINATED = "terminated"
    """Ended, for whatever reason. Launching its id again makes a new kernel."""


TRANSITIONS: Final[dict[KernelState, dict[KernelState, str]]] = {
    KernelState.CREATED: {
        KernelState.LAUNCHED: "launch",
    },
    KernelState.LAUNCHED: {
        KernelState.ACTIVE: "activate",
        KernelState.TERMINATED: "terminate",
    },
    KernelState.ACTIVE: {
        KernelState.DEACTIVATED: "deactivate",
        KernelState.TERMINATED: "terminate",
    },
    KernelState.DEACTIVATED: {
        KernelState.ACTIVE: "reactivate",
        KernelState.TERMINATED: "terminate",
    },
    KernelState.TERMINATED: {},
}
"""From each state, where it can go, and what takes it there."""


def check_transition(kernel_id: str, current: KernelState, wanted: KernelState) -> None:
    """Refuse a transition that the table does not have.

    Raises:
        KernelStateError: naming both states and what is possible instead.
    """
    possible = TRANSITIONS[current]
    if wanted in possible:
        return
    calls = " or ".join(f"`await runtime.{call}({kernel_id!r})`" for call in possible.values())
    raise KernelStateError(
        f"the kernel {kernel_id!r} is {current.value} and cannot become {wanted.value}: "
        + (f"what is possible now is {calls}" if calls else "`await runtime.launch(...)` makes a new one of its id")
    )
