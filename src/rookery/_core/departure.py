"""What it means that an exception left a behaviour."""

from __future__ import annotations

from typing import TypeVar, cast

import anyio

from .._model.errors import StopRequested

E = TypeVar("E", bound=BaseException)


def departure(error: BaseException, path: str, *, cancelled: bool) -> tuple[Exception | None, BaseException | None]:
    """Take apart what left a behaviour.

    `StopRequested` is a normal end, also within a group. An ``Exception`` is a crash. What is neither
    (``KeyboardInterrupt``, ``SystemExit``) is never handled here; it is for the host of the tree to raise. A
    cancellation that nobody asked for (on asyncio, the behaviour awaited a future that somebody cancelled) is
    a crash too: let through, it would silently end the whole block.

    Args:
        error: What left the behaviour, its scope's own cancellation taken out.
        path: The actor, for messages.
        cancelled: Whether its scope was cancelled. Then no cancellation is a stray one: older versions of anyio
            do not recognise their own when it comes back from a worker thread.

    Returns:
        The crash, and what has to be raised by the host.
    """
    group = _as_group(error)
    _, rest = group.split(StopRequested)
    if rest is None:
        return None, None
    strays, rest = rest.split(anyio.get_cancelled_exc_class())
    if rest is None:
        if cancelled:
            return None, None
        return stray_cancellation(_unwrapped(strays, error, BaseException) or error, path), None
    crash, interrupt = rest.split(Exception)
    return _unwrapped(crash, error, Exception), _unwrapped(interrupt, error, BaseException)


def stray_cancellation(error: BaseException, path: str) -> Exception:
    """The crash that a cancellation from nowhere is."""
    crash = RuntimeError(
        f"{path} let a cancellation out that nobody asked for: something it awaited was cancelled by somebody else"
    )
    crash.__cause__ = error
    return crash


def _as_group(error: BaseException) -> BaseExceptionGroup[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return cast("BaseExceptionGroup[BaseException]", error)
    return BaseExceptionGroup("left the behaviour", [error])


def _unwrapped(part: BaseException | None, error: BaseException, kind: type[E]) -> E | None:
    """The part of an error that is of a kind; the error itself if it was no group to begin with."""
    if part is None:
        return None
    whole = part if isinstance(error, BaseExceptionGroup) else error
    assert isinstance(whole, kind)
    return whole
