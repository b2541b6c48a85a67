"""The children of one owner: carries out what the model's `Supervision` decides."""

from __future__ import annotations

import itertools
import logging
import random
from collections import deque
from typing import TYPE_CHECKING, Any, Final, assert_never, final

from .._model.directives import AbortStart, AllDown, AllReady, Finish, Forget, GiveUp, Keep, Start, Stop
from .._model.errors import ActorStopped, DuplicateName, RestartIntensityExceeded, StartFailed
from .._model.lifecycle import FINAL
from .._model.restart import Restart
from .._model.supervision import Supervision
from .._model.wording import brief
from ._parking import uninterrupted
from .cell import Cell
from .own_loop import check_own_loop
from .ref import bind, cell_of
from .spec import as_spec
from .waiting import Latch

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._model.directives import Directive, Exit
    from .._model.restart import Intensity
    from .engine import Engine
    from .ref import ActorRef
    from .spec import ChildSpec

logger = logging.getLogger("rookery.supervision")


@final
class Children:
    """A supervisor without a task of its own.

    Events come in as plain calls from the children's own tasks and from timers; what follows from them (start
    a task, tell a child to stop, set an alarm) is done on the spot. Nothing here waits, so nothing here can be
    cancelled half-way.
    """

    def __init__(
        self,
        engine: Engine,
        path: str,
        intensity: Intensity,
        on_failure: Callable[[Exception], object],
    ) -> None:
        """Have no children yet.

        Args:
            engine: Of the system they live in.
            path: The owner's path.
            intensity: How many restarts are tolerated.
            on_failure: Called with `RestartIntensityExceeded` once all children are down.
        """
        self.path: Final = path
        self.down: Final = Latch(engine.loop)
        self.stop_errors: Final[list[Exception]] = []
        self._engine = engine
        self._policy: Supervision[Cell] = Supervision(intensity)
        self._intensity = intensity
        self._on_failure = on_failure
        self._failure: RestartIntensityExceeded | None = None
        self._names: dict[str, Cell] = {}
        self._numbered: dict[str, int] = {}  # the next number to try for a name that is taken
        self._todo: deque[Directive[Cell]] = deque()
        self._busy = False
        self._hurried = False

    @property
    def cells(self) -> list[Cell]:
        """Every child that is not down for good, in start order."""
        return self._policy.children

    # ---- starting

    @uninterrupted
    async def spawn(self, behaviour: object, args: tuple[Any, ...], name: str | None) -> ActorRef[Any]:
        """Start a child and wait until it is ready; see `Spawner.spawn`."""
        cell = self._admit(as_spec(behaviour, args, name))
        try:
            await cell.started.wait()
        except BaseException:
            cell.abandon_start()
            raise
        if cell.start_error is not None:
            raise StartFailed(f"{cell.path} did not start: {brief(cell.start_error)}") from cell.start_error
        return cell.ref

    @uninterrupted
    def _admit(self, spec: ChildSpec[Any]) -> Cell:
        check_own_loop(self._engine.loop, self.path, "run(system.spawn, behaviour)")
        if self._policy.stopping:
            raise ActorStopped(f"{self.path} is stopping and can have no more children")
        bound = cell_of(spec.ref)
        if bound is not None and bound.state not in FINAL:
            raise DuplicateName(
                f"this spec is running already, as {bound.path}: `spec.options()` makes another child of it"
            )
        name = self._free_name(spec)
        cell = Cell(spec, name, f"{self.path.rstrip('/')}/{name}", self._engine, self)
        bind(spec.ref, cell)
        self._names[name] = cell
        self._carry_out(self._policy.admit(cell, spec.settings.restart, spec.settings.backoff))
        return cell

    def _free_name(self, spec: ChildSpec[Any]) -> str:
        name = spec.name
        if name not in self._names:
            return name
        if spec.settings.name is not None:
            raise DuplicateName(
                f"{self._names[name].path} is alive: names are unique among live siblings; choose another, or "
                "leave it out to have one numbered"
            )
        numbers = itertools.count(self._numbered.get(name, 2))
        number = next(number for number in numbers if f"{name}-{number}" not in self._names)
        self._numbered[name] = number + 1
        return f"{name}-{number}"

    # ---- what happens to children

    def became_ready(self, cell: Cell) -> None:
        """A child is ready."""
        if directives := self._policy.became_ready(cell):
            self._carry_out(directives)

    def exited(self, cell: Cell, how: Exit) -> None:
        """An incarnation of a child has ended."""
        if how.crash is not None and self._policy.stopping:
            self._keep_stop_error(cell, how.crash)
        now = self._engine.loop.now()
        directives = self._policy.exited(cell, how, now, random.random())
        incarnation = cell.incarnations
        self._carry_out(directives)
        _log_exit(cell, incarnation, how, directives)  # last: a handler is somebody else's code, and may raise

    def _keep_stop_error(self, cell: Cell, crash: Exception) -> None:
        """A child crashed while all are being stopped: secondary to whatever else happened, and not lost.

        An `ActorStopped` follows from the stop itself: the child used one that was stopped before it.
        """
        _, own = ExceptionGroup("", [crash]).split(ActorStopped)
        if own is not None and cell.spec.settings.restart is not Restart.TEMPORARY:
            self.stop_errors.append(crash)

    # ---- stopping

    @uninterrupted
    def stop(self, cell: Cell) -> None:
        """Stop one child, whatever its restart type; does not wait."""
        self._carry_out(self._policy.stop(cell))

    @uninterrupted
    def stop_all(self) -> None:
        """Stop every child in reverse order of start, one after another; `down` tells when. Idempotent."""
        self._carry_out(self._policy.stop_all())

    @uninterrupted
    def hurry(self) -> None:
        """End every grace: children that are stopping, or will be, are cancelled at once."""
        self._hurried = True
        for cell in self._policy.children:
            if cell.stop_asked.is_set:
                cell.cancel()

    # ---- directives

    @uninterrupted
    def _carry_out(self, directives: list[Directive[Cell]]) -> None:
        """Do what was decided, in order. What follows from it queues up behind, so the stack stays flat."""
        todo = self._todo
        todo.extend(directives)
        if self._busy:
            return
        self._busy = True
        try:
            while todo:
                self._do(todo.popleft())
        finally:
            self._busy = False

    def _do(self, directive: Directive[Cell]) -> None:
        match directive:
            case Start(cell, delay):
                if delay > 0:
                    cell.restart_alarm = self._engine.deadlines.at(self._engine.loop.now() + delay, cell.begin)
                else:
                    cell.begin()
            case Stop(cell):
                cell.begin_stop()
                if self._hurried:
                    cell.cancel()
            case Finish(cell, how):
                cell.finish(how)
            case Forget(cell):
                del self._names[cell.name]
            case Keep(cell):
                cell.will_restart()
            case GiveUp(crashes):
                self._failure = self._giving_up(crashes)
            case AllDown():
                self.down.set()
                if self._failure is not None:
                    self._on_failure(self._failure)
            case AllReady() | AbortStart():
                raise AssertionError(f"{self.path} has no static children to start")
            case _:
                assert_never(directive)

    def _giving_up(self, crashes: tuple[Exception, ...]) -> RestartIntensityExceeded:
        limit = self._intensity
        failure = RestartIntensityExceeded(
            f"children of {self.path} were restarted more than {limit.max_restarts} times in {limit.per} s"
        )
        failure.__cause__ = ExceptionGroup(f"crashes under {self.path}", crashes) if crashes else None
        return failure


def _log_exit(cell: Cell, incarnation: int, how: Exit, directives: list[Directive[Cell]]) -> None:
    """One record for each crash: who, which incarnation, why, and what was decided."""
    if how.crash is None:
        return
    match directives:
        case [Keep(), Start(starting, delay), *_] if starting is cell and delay:
            decision = f"restarting in {delay:.3g} s"
        case [Keep(), *_]:
            decision = "restarting"
        case [GiveUp(), *_]:
            decision = f"{cell.owner.path} gives up"
        case _:
            decision = "it stays down"
    logger.warning("%s (incarnation %d) crashed: %s", cell.path, incarnation, decision, exc_info=how.crash)
