"""What is logged: each crash, with what was in hand and what was decided, and actors that do not end."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from .._model.directives import AbortStart, GiveUp, Keep, Start
from .._model.errors import StuckActor
from .logs import log_safely

if TYPE_CHECKING:
    from .._model.directives import Directive, Exit
    from .cell import Cell
    from .ref import ActorRef

logger = logging.getLogger("rookery.supervision")


def log_crash(cell: Cell, incarnation: int, how: Exit, decision: str) -> None:
    """Say what is known, in words and as attributes of the record: ``actor``, ``incarnation``, ``in_hand``, ``decision``.

    Args:
        cell: The actor.
        incarnation: Which one crashed; another may have begun.
        how: The crash, and what the incarnation was working on: a type, never the message itself.
        decision: What its supervisor does.
    """
    in_hand = None if how.in_hand is None else how.in_hand.__name__
    log_safely(
        logger.warning,
        "%s (incarnation %d) crashed%s: %s",
        cell.path,
        incarnation,
        "" if in_hand is None else f" on {in_hand}",
        decision,
        exc_info=how.crash,
        extra={"actor": cell.path, "incarnation": incarnation, "in_hand": in_hand, "decision": decision},
    )


def decided(cell: Cell, directives: list[Directive[ActorRef[Any]]], *, stopping: bool) -> str:
    """What a supervisor does about a crash, in words.

    Args:
        cell: Whose crash.
        directives: What was decided.
        stopping: Whether all of its siblings had to go before that.
    """
    match directives:
        case [Keep(), Start(starting, delay), *_] if starting is cell.ref and delay:
            return f"restarting in {delay:.3g} s"
        case [Keep(), *_]:
            return "restarting"
        case [GiveUp(), *_]:
            return f"{cell.owner.path} gives up"
        case [AbortStart(), *_]:
            return f"{cell.owner.path} does not start"
        case _ if cell.owner.stopping and not stopping:
            return f"{cell.owner.path} shuts down"
        case _:
            return "it stays down"


def report_stuck(cell: Cell, seconds: float, stacks: list[str]) -> StuckActor:
    """Say that an actor does not end, and where its tasks stand; what was said."""
    places = "\n".join(stacks)
    error = StuckActor(
        f"{cell.path} was cancelled {seconds:g} s ago and has not ended: it awaits something that is shielded, or "
        f"catches the cancellation. It is waited for, here:\n{places}"
    )
    log_safely(logger.error, "%s", error, extra={"actor": cell.path, "incarnation": cell.incarnations})
    return error
