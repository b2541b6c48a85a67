"""The debug mode's watch over the event loop: who holds it, for how long, and where.

An actor that computes, or calls something that blocks, holds up everybody else on its loop, and nothing on that loop
can tell. A thread can: it asks the loop to answer, and if no answer comes it looks where the loop's thread stands.
"""

from __future__ import annotations

import logging
import os
import sys
import time
import traceback
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, Final, final

import attrs

from .._model.wording import brief
from .incarnation import Incarnation
from .waiting import Latch
from .within import within_actor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import CodeType, FrameType

    from ._parking import Loop
    from .cell import Cell

logger = logging.getLogger("rookery.debug")

ENVIRONMENT: Final = "ROOKERY_DEBUG"

NO: Final = frozenset({"", "0", "false", "no", "off"})
"""What it says to have the debug mode off."""

HELD_AFTER: Final = 0.1
"""Seconds without an answer after which the loop counts as held. As many pass between two questions."""

STILL_HELD: Final = 5.0
"""Seconds after which it is reported that the loop is held, without waiting for the end of it, which may never come."""

TASKS: Final[tuple[CodeType, ...]] = (
    Incarnation.run.__code__,
    Incarnation._run_task.__code__,  # pyright: ignore[reportPrivateUsage]
)
"""What an actor's tasks run, its main one and further ones."""

RUN_CALLBACK: Final = ("asyncio.events", "_run")
"""What asyncio's own loop runs a step of a task in; uvloop has no Python code there."""

RUN_TASKS: Final = ("trio._core._run", "unrolled_run")
"""The same of trio."""


def debug_is_on(debug: bool | None) -> bool:
    """What ``debug`` says, or the environment if it says nothing: ``ROOKERY_DEBUG=1``, and anything but a no.

    Raises:
        TypeError: for anything but a boolean and None.
    """
    if debug is None:
        return os.environ.get(ENVIRONMENT, "").strip().lower() not in NO
    if not isinstance(debug, bool):
        raise TypeError(
            f"debug is True, False, or None for what the environment says in {ENVIRONMENT}, got {brief(debug)}: write "
            "`open_system(debug=True)`"
        )
    return debug


@final
@attrs.frozen
class Sight:
    """Where the loop's thread stood at one moment.

    Attributes:
        actor: The path of the actor whose task ran, or a task that was started from there; None if it was nobody's.
        in_hand: The type of the message that it was working on, by name, if it was a task of its own.
        stack: The lines, the outermost first: of the actor's own code if it was one.
    """

    actor: str | None
    in_hand: str | None
    stack: traceback.StackSummary

    def __str__(self) -> str:
        """In words, with the line."""
        innermost = self.stack[-1]
        work = "" if self.in_hand is None else f", at work on {self.in_hand},"
        where = f"{innermost.filename}:{innermost.lineno}, in {innermost.name}"
        return f"{self.actor or 'code outside of the tasks of actors'}{work} at {where}"


def look(thread: int) -> Sight | None:
    """Where a thread stands; None if it has ended."""
    innermost = sys._current_frames().get(thread)  # pyright: ignore[reportPrivateUsage]
    if innermost is None:
        return None
    frames: list[tuple[FrameType, int]] = []
    for frame in _outwards(innermost):
        incarnation = frame.f_locals.get("self") if frame.f_code in TASKS else None
        if isinstance(incarnation, Incarnation):
            in_hand = None if incarnation.in_hand is None else incarnation.in_hand.__name__
            return Sight(incarnation.cell.path, in_hand, _lines(frames[:-1] or [*frames, (frame, frame.f_lineno)]))
        started_by = _started_by(frame)
        if started_by is not None:
            return Sight(started_by.path, None, _lines(frames))
        frames.append((frame, frame.f_lineno))
    return Sight(None, None, _lines(frames))


def _started_by(frame: FrameType) -> Cell | None:
    """Whose task it was started from, what the event loop runs in this frame; None if nobody's, or it is no such frame."""
    function = (frame.f_globals.get("__name__"), frame.f_code.co_name)
    if function == RUN_CALLBACK:
        context: Any = frame.f_locals["self"]._context
    elif function == RUN_TASKS:
        context = getattr(frame.f_locals.get("task"), "context", {})
    else:
        return None
    cell: Cell | None = context.get(within_actor)
    return cell


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _lines(frames: list[tuple[FrameType, int]]) -> traceback.StackSummary:
    return traceback.StackSummary.extract(reversed(frames), lookup_lines=False)


@final
class HeldLoop:
    """A thread that watches one loop from `open` to `close`.

    It knows the loop and nothing else, keeps no interpreter alive, and ends by itself within seconds after the loop is
    closed. Ten times a second it wakes the loop for a moment, which is what the debug mode costs. It looks once or twice
    at each time that the loop is held: where many tasks keep it busy together, that is one of them.
    """

    def __init__(self, loop: Loop, system: str, clock: Callable[[], float] = time.perf_counter) -> None:
        self._loop: Final = loop
        self._system: Final = system
        self._clock: Final = clock
        self._closed: Final = Event()
        self._answered = Event()
        self._down: Final = Latch(loop)
        self._thread: Final = Thread(target=self._run, name=f"{system} debug: watches the event loop", daemon=True)

    def open(self) -> None:
        """Begin."""
        self._thread.start()

    async def close(self) -> BaseException | None:
        """End, and wait for the thread, whatever comes: it has reported what there was.

        The loop goes on meanwhile, which those to whom it reports may need.

        Returns:
            What came, as of `Latch.outlast`.
        """
        self.end()
        pierced = await self._down.outlast()
        self._thread.join()
        return pierced

    def end(self) -> None:
        """Have the thread end, and do not wait for it."""
        self._closed.set()
        self._answered.set()

    # ---- in the thread

    def _run(self) -> None:
        try:
            self._watch()
        finally:
            self._loop.call_from_thread(self._down.set)

    def _watch(self) -> None:
        while not self._closed.wait(HELD_AFTER):
            self._answered = answered = Event()  # one for each question: an answer that comes late answers no other
            asked = self._clock()
            if self._closed.is_set() or not self._loop.call_from_thread(answered.set):
                return
            if not answered.wait(HELD_AFTER):
                self._report_held(answered, asked)
                self._outlast(answered)

    def _outlast(self, answered: Event) -> None:
        """Wait for the answer, unless none will ever come: then the next question is the last."""
        while not answered.wait(STILL_HELD):
            if not self._loop.call_from_thread(answered.set):
                return

    def _look(self) -> Sight | None:
        """Where the loop stands; None if it just does not run."""
        return look(self._loop.thread) if self._loop.is_running() else None

    def _report_held(self, answered: Event, asked: float) -> None:
        sight = self._look()
        if sight is None:
            return
        looked = self._clock() - asked
        self._report(logging.DEBUG, looked, "has not come round for %.2f s and is held by %s", sight)
        if not answered.wait(STILL_HELD):
            now = self._look()
            if now is None:
                return
            seconds = self._clock() - asked
            self._report(logging.WARNING, seconds, "has not come round for %.2f s and is still held by %s", now)
            self._outlast(answered)
        if not answered.is_set():
            return
        how = f"did not come round for at least %.2f s; {looked:.2f} s into that it was held by %s"
        self._report(logging.WARNING, self._clock() - asked, how, sight)

    def _report(self, level: int, seconds: float, how: str, sight: Sight) -> None:
        stack = "".join(sight.stack.format())
        logger.log(
            level,
            f"%s: the event loop {how}\n%s",  # noqa: G004
            self._system,
            seconds,
            sight,
            stack.rstrip(),
            extra={"actor": sight.actor, "seconds": seconds, "in_hand": sight.in_hand, "stack": stack},
        )
