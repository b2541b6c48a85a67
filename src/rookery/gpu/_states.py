"""The two sides of a buffer: six states, and every transition between them, in one table.

A buffer is one array with a host side and a device side. The state says which side holds data and which is
newer; the table says what an action makes of it and whether it costs a transfer. Nothing else changes a state.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

from ._errors import NoData, StaleHost


class BufferState(Enum):
    """Which side of a buffer holds its data."""

    if not TYPE_CHECKING:
        # They are equal by identity as well. Enum's own is Python code, and each launch looks states up.
        __hash__ = object.__hash__

    UNINITIALIZED = "uninitialized"
    """Nothing was written yet."""
    HOST_ONLY = "host only"
    """The host side has the data; the device side never had any."""
    DEVICE_ONLY = "device only"
    """The device side has the data; the host side never had any."""
    SYNCHRONIZED = "synchronized"
    """Both sides hold the same."""
    HOST_DIRTY = "host dirty"
    """Both sides hold data, the host's is newer."""
    DEVICE_DIRTY = "device dirty"
    """Both sides hold data, the device's is newer."""


class Action(Enum):
    """What happens to a buffer."""

    if not TYPE_CHECKING:
        __hash__ = object.__hash__  # as above

    REPLACE_HOST = "write the whole host side"
    MODIFY_HOST = "mark the host side changed"
    WRITE_DEVICE = "write the device side"
    NEED_DEVICE = "use the device side"
    NEED_HOST = "use the host side"
    LOSE_DEVICE = "lose a transfer to the device, which failed"


class Transfer(Enum):
    """A copy between the two sides. Where the device shares the host's memory it is not carried out."""

    TO_DEVICE = "to the device"
    TO_HOST = "to the host"


_NONE, _HOST, _DEVICE = BufferState.UNINITIALIZED, BufferState.HOST_ONLY, BufferState.DEVICE_ONLY
_SAME, _HOST_NEWER, _DEVICE_NEWER = BufferState.SYNCHRONIZED, BufferState.HOST_DIRTY, BufferState.DEVICE_DIRTY

# A pair that is missing is forbidden; `step` says why.
TRANSITIONS: Final[dict[Action, dict[BufferState, tuple[BufferState, Transfer | None]]]] = {
    Action.REPLACE_HOST: {
        _NONE: (_HOST, None),
        _HOST: (_HOST, None),
        _DEVICE: (_HOST_NEWER, None),
        _SAME: (_HOST_NEWER, None),
        _HOST_NEWER: (_HOST_NEWER, None),
        _DEVICE_NEWER: (_HOST_NEWER, None),
    },
    # Marking part of an outdated host side as newer would lose what the device wrote.
    Action.MODIFY_HOST: {
        _HOST: (_HOST, None),
        _SAME: (_HOST_NEWER, None),
        _HOST_NEWER: (_HOST_NEWER, None),
    },
    Action.WRITE_DEVICE: {
        _NONE: (_DEVICE, None),
        _HOST: (_DEVICE_NEWER, None),
        _DEVICE: (_DEVICE, None),
        _SAME: (_DEVICE_NEWER, None),
        _HOST_NEWER: (_DEVICE_NEWER, None),
        _DEVICE_NEWER: (_DEVICE_NEWER, None),
    },
    Action.NEED_DEVICE: {
        _HOST: (_SAME, Transfer.TO_DEVICE),
        _DEVICE: (_DEVICE, None),
        _SAME: (_SAME, None),
        _HOST_NEWER: (_SAME, Transfer.TO_DEVICE),
        _DEVICE_NEWER: (_DEVICE_NEWER, None),
    },
    Action.NEED_HOST: {
        _HOST: (_HOST, None),
        _DEVICE: (_SAME, Transfer.TO_HOST),
        _SAME: (_SAME, None),
        _HOST_NEWER: (_HOST_NEWER, None),
        _DEVICE_NEWER: (_SAME, Transfer.TO_HOST),
    },
    # By the time a transfer turns out to have failed, either side may have been written again.
    Action.LOSE_DEVICE: {
        _SAME: (_HOST_NEWER, None),
        _HOST_NEWER: (_HOST_NEWER, None),
        _DEVICE_NEWER: (_DEVICE_NEWER, None),
    },
}

HOST_NEWER: Final = frozenset({_HOST, _HOST_NEWER})
"""The states in which the device side has to be brought up to date before it is used."""

HOST_READABLE: Final = frozenset({_HOST, _SAME, _HOST_NEWER})
"""The states in which the host side may be looked at without a transfer."""


def step(state: BufferState, action: Action) -> tuple[BufferState, Transfer | None]:
    """The state after ``action``, and the transfer it needs first, if any.

    Raises:
        NoData: if nothing was written yet.
        StaleHost: if the action would work on a host side that the device has outdated.
    """
    after = TRANSITIONS[action].get(state)
    if after is None:
        raise forbidden(state, action)
    return after


def forbidden(state: BufferState, action: Action) -> NoData | StaleHost:
    """The error for an action that the table does not have."""
    if state is BufferState.UNINITIALIZED:
        return NoData(
            f"cannot {action.value}: nothing was written to this buffer yet; "
            "write `await buffer.write(array)` first, or launch a kernel that fills it"
        )
    return StaleHost(
        f"cannot {action.value} of a buffer that is {state.value!r}: its data is on the device; "
        "write `await buffer.ensure_on_host()` first, or take a copy with `await buffer.read()`"
    )
