"""Logging from where an exception would end the whole system: a filter or a handler is somebody else's code."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def log_safely(log: Callable[..., None], message: str, *args: object, **options: Any) -> None:
    """Log, by a method of a logger; what a filter or a handler raises is printed, as `logging` does for its own.

    Args:
        log: ``logger.error``, say.
        message: As it takes it.
        *args: Likewise.
        **options: Likewise.
    """
    try:
        log(message, *args, stacklevel=2, **options)
    except Exception:  # noqa: BLE001
        traceback.print_exc()
