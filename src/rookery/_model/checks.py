"""What users pass with a message, checked where it is passed."""

from __future__ import annotations

import math
from typing import Final, TypeAlias

from .messages import DEFAULT_PRIORITY

LOWEST: Final = 0
HIGHEST: Final = 255

Accepted: TypeAlias = tuple[type, ...] | None
"""Classes whose instances an actor accepts; None for anything."""


def check_priority(priority: int) -> None:
    """Refuse what is not a priority.

    Raises:
        ValueError: for anything but an integer from 0 to 255, naming the value and the range.
    """
    if not isinstance(priority, int) or isinstance(priority, bool) or not LOWEST <= priority <= HIGHEST:
        raise ValueError(
            f"priority must be an integer from {LOWEST} to {HIGHEST} (larger is more urgent, "
            f"{DEFAULT_PRIORITY} is the default), got {priority!r}"
        )


def check_timeout(timeout: float) -> None:
    """Refuse what is not a time to wait. What is over already is: a remaining time may well be negative.

    Raises:
        TypeError: for anything but a number.
        ValueError: for NaN, which no clock ever reaches.
    """
    if not isinstance(timeout, int | float) or isinstance(timeout, bool):
        raise TypeError(f"timeout is a number of seconds, or None to wait for ever, got {timeout!r}")
    if math.isnan(timeout):
        raise ValueError(f"timeout is a number of seconds, or None to wait for ever, got {timeout!r}")


def check_message(message: object, accepted: Accepted, actor: str) -> None:
    """Refuse a message of the wrong type.

    Raises:
        TypeError: naming the message's type, the actor and what it accepts.
    """
    if accepted is not None and not isinstance(message, accepted):
        given = type(message).__name__
        names = " | ".join(cls.__name__ for cls in accepted)
        wanted = f"send one of those, or annotate its behaviour with `Context[{names} | {given}]`"
        if not accepted:
            names, wanted = "no messages", f"annotate its behaviour with `Context[{given}]`"
        raise TypeError(f"{actor} accepts {names}, not {given} ({message!r}): {wanted}")
