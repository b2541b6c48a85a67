"""Asking an actor: from the request to its answer, deadlines and circles included."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from .._model.checks import check_timeout
from .._model.errors import ActorStopped, AskCycle, RookeryError
from ._parking import uninterrupted
from .own_loop import check_own_loop
from .reply import Ask
from .within import within_actor

if TYPE_CHECKING:
    from collections.abc import Callable

    from .cell import Cell
    from .deadlines import Alarm


@uninterrupted
async def ask(resolve: Callable[[object, int], Cell], request: object, priority: int, timeout: float | None) -> Any:
    """Put a request into an actor's mailbox and wait for its answer; see `ActorRef.ask`.

    Args:
        resolve: Gives the actor, if this delivery to it is in order.
        request: What is asked.
        priority: How urgent it is.
        timeout: Seconds to wait; None for no limit.
    """
    target = resolve(request, priority)
    loop = target.engine.loop
    spot = loop.spot()
    if spot.task is None:
        check_own_loop(loop, target.path, f"run({target.name}.ask, request)")
    asker = within_actor.get()
    if asker is not None and asker.task is not spot.task:
        asker = None  # a further task of that actor: its main task does not wait for this answer
    slot = Ask(spot, request, target, priority, loop.effective_deadline(), asker)
    if asker is not None:
        _refuse_circle(asker, target)
        asker.asking = slot
    alarm: Alarm | None = None
    try:
        if timeout is not None:
            alarm = await _put_within(slot, timeout)
        elif not target.mailbox.offer(slot, priority):
            await target.mailbox.insist(slot, priority)
        await spot.park()
        if slot.expired:
            await loop.checkpoint()  # is cancelled here, unless its deadline was moved after it had asked
    except BaseException:
        slot.abandon()
        raise
    finally:
        if asker is not None:
            asker.asking = None
        if alarm is not None:
            alarm.cancel()
    try:
        return slot.answer()
    finally:
        del slot  # an error's traceback holds this frame, and this frame would hold the error


def forward(slot: Ask, target: Cell) -> None:
    """Queue a request that another actor hands on. It never waits and never raises: an error is the asker's."""
    try:
        if slot.asker is not None and not (slot.settled or slot.asker_left):
            _refuse_circle(slot.asker, target)
        slot.target = target
        target.mailbox.put_nowait(slot, slot.priority)
    except RookeryError as error:
        slot.fail(error)


@uninterrupted
async def _put_within(slot: Ask, timeout: float) -> Alarm | None:
    """Put a request into its target's mailbox, and see to it that it is settled in time."""
    check_timeout(timeout)
    engine, mailbox = slot.target.engine, slot.target.mailbox
    ends = engine.loop.now() + timeout
    slot.deadline = min(slot.deadline, ends)
    if mailbox.offer(slot, slot.priority) or await mailbox.insist(slot, slot.priority, ends, engine.deadlines):
        return engine.deadlines.at(ends, partial(slot.time_out, timeout))
    slot.time_out(timeout)
    return None


def _refuse_circle(asker: Cell, target: Cell) -> None:
    """Refuse an ask that its own asker would have to answer, or would have to end, first."""
    if target.begins_after(asker):
        raise ActorStopped(
            f"{target.path} does not go on before {asker.path} has ended, which so cannot wait for its answer"
        )
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
