"""Asking an actor: from the request to its answer, deadlines and circles included."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._model.checks import check_timeout
from .._model.errors import AskCycle, RookeryError
from ._parking import uninterrupted
from .reply import Ask

if TYPE_CHECKING:
    from .cell import Cell


@uninterrupted
async def ask(target: Cell, request: object, priority: int, timeout: float | None) -> Any:
    """Put a request into an actor's mailbox and wait for its answer; see `ActorRef.ask`."""
    engine = target.engine
    slot = Ask(engine.loop, request, target, priority, engine.loop.effective_deadline())
    asker = engine.main_of(slot.asker)
    if asker is not None:
        _refuse_circle(asker, target)
        asker.asking = slot
    try:
        if timeout is not None:
            return await _ask_within(slot, timeout)
        await target.mailbox.put(slot, priority)
        return await slot.answer()
    finally:
        if asker is not None:
            asker.asking = None


def forward(slot: Ask, target: Cell) -> None:
    """Queue a request that another actor hands on. It never waits and never raises: an error is the asker's."""
    asker = target.engine.main_of(slot.asker)
    try:
        if asker is not None and not slot.settled:
            _refuse_circle(asker, target)
        slot.target = target
        target.mailbox.put_nowait(slot, slot.priority)
    except RookeryError as error:
        slot.fail(error)


@uninterrupted
async def _ask_within(slot: Ask, timeout: float) -> Any:
    check_timeout(timeout)
    engine, mailbox = slot.target.engine, slot.target.mailbox
    ends = engine.loop.now() + timeout
    slot.deadline = min(slot.deadline, ends)

    def late() -> str:
        actor = slot.target
        return (
            f"{actor.path} did not answer {type(slot.request).__name__} within {timeout} s "
            f"(state: {actor.state.value}, queued: {len(actor.mailbox)})"
        )

    if not await mailbox.put_until(slot, slot.priority, ends, engine.deadlines):
        slot.time_out(late)
        return await slot.answer()
    alarm = engine.deadlines.at(ends, lambda: slot.time_out(late))
    try:
        return await slot.answer()
    finally:
        alarm.cancel()


def _refuse_circle(asker: Cell, target: Cell) -> None:
    """Refuse an ask that its own asker would have to answer first."""
    chain = [asker]
    waiting_for: Cell | None = target
    while waiting_for is not None:
        chain.append(waiting_for)
        if waiting_for is asker:
            circle = " -> ".join(cell.path for cell in chain)
            raise AskCycle(
                f"nobody in this circle could ever answer: {circle}; send a message instead, or ask from a "
                "task of its own with `ctx.start_soon(...)`"
            )
        slot = waiting_for.asking
        waiting_for = None if slot is None or slot.settled else slot.target
