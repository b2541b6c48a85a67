"""Crashes on demand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._core.own_loop import check_own_loop
from .._core.ref import cell_of
from .._model.errors import NotStarted
from .._model.wording import brief

if TYPE_CHECKING:
    from .._core.ref import ActorRef


def crash(ref: ActorRef[Any], error: Exception) -> None:
    """Make an actor's current incarnation crash where it waits, or where it waits next.

    Returns at once. One that has messages at hand may handle some of them before it waits (`settle` gets it there).
    The behaviour is cancelled, its cleanup runs, and the incarnation counts as crashed with ``error``, even if the
    behaviour takes no notice. What follows is its supervisor's business, as for any crash. While it is starting up, it
    fails to start; while it is stopping, this joins what goes wrong on the way.

    Args:
        ref: The actor.
        error: What it crashes with.

    Raises:
        ActorStopped: if it has ended for good.
        NotStarted: if there is no incarnation to crash: its spec has not been spawned, or it waits for its restart.
        TypeError: if ``error`` is not an instance of `Exception`.
        WrongLoop: from another loop than the system's.
    """
    if not isinstance(error, Exception):
        raise TypeError(
            f"an actor crashes with an exception, got {brief(error)}: write `crash(ref, ValueError('...'))`"
        )
    cell = cell_of(ref)
    if cell is None:
        raise NotStarted(f"{ref.name!r} has not been spawned yet and cannot crash")
    check_own_loop(cell.engine.loop, cell.path, f"run_sync(crash, {ref.name}, error)")
    cell.crash(error)
