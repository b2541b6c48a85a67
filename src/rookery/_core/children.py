"""The children of one owner: carries out what the model's `Supervision` decides."""

from __future__ import annotations

import itertools
import random
from collections import deque
from typing import TYPE_CHECKING, Any, Final, assert_never, cast, final

import anyio

from .._model.directives import AbortStart, AllDown, AllReady, Finish, Forget, GiveUp, Keep, Start, Stop
from .._model.errors import (
    ActorStopped,
    DuplicateName,
    RestartIntensityExceeded,
    SpawnFromWithin,
    StartFailed,
    UnknownActor,
)
from .._model.lifecycle import FINAL, ActorState
from .._model.restart import Restart
from .._model.supervision import Supervision
from .._model.wording import brief
from ._parking import uninterrupted
from .cell import Cell
from .crash_report import decided, log_crash
from .own_loop import check_own_loop
from .ref import ActorRef, bind, cell_of
from .spec import as_spec
from .supervisor import Supervising, supervisor
from .waiting import Latch
from .within import lies_within, within_actor

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

    from .._model.directives import Directive, Exit
    from .._model.options import SupervisorOptions
    from .engine import Engine
    from .spec import ChildSpec
    from .supervisor import SupervisorRef


KEPT_ERRORS: Final = 100
"""How many errors of children that were being stopped are kept until somebody raises them; all of them are logged."""


@final
class Children:
    """A supervisor without a task of its own.

    Events come in as plain calls from the children's own tasks and from timers; what follows from them (start
    a task, tell a child to stop, set an alarm) is done on the spot. Nothing here waits, so nothing here can be
    cancelled half-way.

    To the model a child is its reference: that stays the same when a child which had finished is started again with
    its siblings, as a new life in a new `Cell`.
    """

    def __init__(
        self,
        engine: Engine,
        path: str,
        options: SupervisorOptions,
        *,
        on_ready: Callable[[], object],
        on_end: Callable[[Exception | None], object],
    ) -> None:
        """Have no children yet.

        Args:
            engine: Of the system they live in.
            path: The owner's path.
            options: Who is restarted with whom, how often, and when that is all.
            on_ready: Called when all static children have started.
            on_end: Called once all children are down if that was decided here: with `RestartIntensityExceeded`, with
                `StartFailed`, or with None after an auto-shutdown.
        """
        self.path: Final = path
        self.down: Final = Latch(engine.loop)
        self.stop_errors: Final[deque[Exception]] = deque(maxlen=KEPT_ERRORS)
        self._engine = engine
        self._options = options
        self._policy: Supervision[ActorRef[Any]] = Supervision(
            options.intensity,
            strategy=options.strategy,
            auto_shutdown=options.auto_shutdown,
            concurrent_stop=options.concurrent_stop,
        )
        self._prefix = path if path.endswith("/") else f"{path}/"
        self._on_ready = on_ready
        self._on_end = on_end
        self._failure: Exception | None = None
        self._stop_asked = False
        self._names: dict[str, ActorRef[Any]] = {}
        self._numbered: dict[str, int] = {}  # the next number to try for a name that is taken
        self._todo: deque[Directive[ActorRef[Any]]] = deque()
        self._busy = False
        self._hurried = False
        self._group = self._policy.leaving  # the one whose waits were ended last
        self._starters: dict[
            anyio.CancelScope, Cell
        ] = {}  # who waits for a start here, though it is a child or below one

    @property
    def cells(self) -> list[Cell]:
        """Every child that is not forgotten, in start order."""
        return [_cell(ref) for ref in self._policy.children]

    # ---- starting

    @uninterrupted
    async def spawn(self, behaviour: object, args: tuple[Any, ...], name: str | None) -> ActorRef[Any]:
        """Start a child and wait until it is ready; see `Spawner.spawn`."""
        cell = self._admit(as_spec(behaviour, args, name))
        try:
            await self._until_started(cell.started, "spawn", cell)
        except BaseException:
            cell.abandon_start()
            raise
        _check_started(cell)
        return cell.ref

    @uninterrupted
    def start(self, specs: Sequence[ChildSpec[Any]]) -> None:
        """Have these static children, and start them in order; `on_ready` tells when all have started. Once.

        Raises:
            DuplicateName: if one of the specs runs already, somewhere else.
        """
        for spec in specs:
            _check_free(spec)
            if spec.settings.name is not None:
                self._names[spec.settings.name] = spec.ref  # before an unnamed one takes it
        for spec in specs:
            settings = spec.settings
            self._have(spec, settings.name or self._free_name(spec))
            self._policy.declare(spec.ref, settings.restart, settings.backoff, significant=settings.significant)
        self._carry_out(self._policy.start())

    @uninterrupted
    def _admit(self, spec: ChildSpec[Any]) -> Cell:
        check_own_loop(self._engine.loop, self.path, "run(system.spawn, behaviour)")
        if self._policy.stopping:
            how = "is stopping" if self._failure is None else "has given up its own"
            raise ActorStopped(f"{self.path} {how} and can have no more children")
        if self._policy.turn is not None:
            self._refuse_deadlock(f"spawn {spec.name}")
        if self._policy.leaving:
            self._refuse_leaving("spawn", spec.name)
        settings = spec.settings
        if settings.significant:
            self._options.auto_shutdown.check_significant(settings.restart)
        _check_free(spec)
        cell = self._have(spec, self._free_name(spec))
        self._carry_out(
            self._policy.admit(cell.ref, settings.restart, settings.backoff, significant=settings.significant)
        )
        return cell

    def _have(self, spec: ChildSpec[Any], name: str) -> Cell:
        ref = spec.ref
        cell = Cell(spec, ref, name, f"{self._prefix}{name}", self._engine, self)
        bind(ref, cell)
        self._names[name] = ref
        return cell

    def _free_name(self, spec: ChildSpec[Any]) -> str:
        name = spec.name
        if name not in self._names:
            return name
        if spec.settings.name is not None:
            raise self._name_taken(name)
        numbers = itertools.count(self._numbered.get(name, 2))
        number = next(number for number in numbers if f"{name}-{number}" not in self._names)
        self._numbered[name] = number + 1
        return f"{name}-{number}"

    def _name_taken(self, name: str) -> DuplicateName:
        path = f"{self._prefix}{name}"
        if _cell(self._names[name]).state in FINAL:
            return DuplicateName(
                f"{path} has ended and is kept by its supervisor, which may start it again: choose another name, or "
                "`await sup.remove_child(ref)`, or `await sup.restart_child(ref)` to have it back"
            )
        return DuplicateName(
            f"{path} is alive: names are unique among live siblings; choose another, or leave it out to have one numbered"
        )

    def _refuse_deadlock(self, what: str) -> None:
        """A child that all others wait for, because it is starting, cannot itself wait for the start of another."""
        inside, awaited = self._inside(), self._policy.turn
        if inside is None or awaited is None:
            return
        path = _cell(awaited).path
        if lies_within(inside.path, path):
            raise SpawnFromWithin(
                f"{self.path} starts its children in turn and {path} is not ready, so {inside.path} cannot wait until it "
                f"can {what}: call `ctx.ready()` first"
            )

    def _refuse_leaving(self, what: str, name: str) -> None:
        """A child that has to go before anybody starts cannot itself wait for a start; nor can an actor below it."""
        inside = self._inside()
        if inside is not None and self.awaits_end_of(inside.path):
            raise self._cannot_wait(inside, what, name)

    def _inside(self) -> Cell | None:
        """The actor whose code is running, if that is one of the children or lives below one."""
        inside = within_actor.get()
        if inside is None or inside.engine is not self._engine or not inside.path.startswith(self._prefix):
            return None
        return inside

    def _cannot_wait(self, inside: Cell, what: str, name: str) -> ActorStopped:
        return ActorStopped(
            f"{inside.path} is stopped because it, or who is above it, is restarted with its siblings, and {self.path} can "
            f"{what} {name} only after that: do so from the next incarnation"
        )

    def _until_started(self, started: Latch, what: str, cell: Cell) -> Awaitable[None]:
        inside = self._inside()
        return started.wait() if inside is None else self._wait_from_inside(started, inside, what, cell.name)

    async def _wait_from_inside(self, started: Latch, inside: Cell, what: str, name: str) -> None:
        """Wait for a start until who waits has to go before that."""
        with anyio.CancelScope() as scope:
            self._starters[scope] = inside
            try:
                await started.wait()
            finally:
                del self._starters[scope]
        if scope.cancelled_caught:
            raise self._cannot_wait(inside, what, name)

    # ---- requests

    @uninterrupted
    async def restart(self, ref: ActorRef[Any]) -> None:
        """Start one child again and wait until it is ready; see `SupervisorRef.restart_child`."""
        cell = self._own(ref, "restart_child")
        cell.refuse_from_within()
        if self._policy.stopping:
            raise ActorStopped(f"{self.path} is stopping and starts nobody again")
        self._refuse_deadlock(f"restart {cell.name}")
        self._refuse_leaving("restart", cell.name)
        directives = self._policy.restart(ref)
        if cell.state in FINAL:  # a new life, which may have to wait for its turn
            cell = self._have(cell.spec, cell.name)
        started = cell.await_start()
        self._carry_out(directives)
        await self._until_started(started, "restart", cell)
        _check_started(cell)

    async def supervise(self, specs: tuple[ChildSpec[Any], ...], **options: Any) -> SupervisorRef:
        """Start a supervisor as a child; see `Spawner.supervise`."""
        spec = supervisor(*specs, **options)
        for each in specs:
            _check_free(each)
        await self.spawn(spec, (), None)
        return spec.ref

    async def remove(self, ref: ActorRef[Any]) -> None:
        """Stop one child and forget it; see `SupervisorRef.remove_child`."""
        cell = self._own(ref, "remove_child")
        cell.refuse_from_within()
        self._carry_out(self._policy.remove(ref))
        await cell.wait_stopped()

    async def stop_one(self, ref: ActorRef[Any]) -> None:
        """Stop one child; see `SupervisorRef.stop_child`."""
        await self._own(ref, "stop_child").stop(drain=False)

    def has(self, ref: ActorRef[Any]) -> bool:
        """Whether that is one of these children, running or not."""
        return self._policy.has(ref)

    def _own(self, ref: ActorRef[Any], call: str) -> Cell:
        check_own_loop(self._engine.loop, self.path, f"run(sup.{call}, ref)")
        if not isinstance(ref, ActorRef):
            raise TypeError(f"{call}() takes the reference of a child, got {brief(ref)}: write `sup.{call}(spec.ref)`")
        if not self._policy.has(ref):
            raise UnknownActor(f"{call}(): {ref!r} is not a child of {self.path}; `sup.children()` are")
        return _cell(ref)

    @property
    def stopping(self) -> bool:
        """Whether all of them have to go."""
        return self._policy.stopping

    @property
    def awaited(self) -> Cell | None:
        """The child that the next start waits for: until it is ready, or until it is down."""
        refs = [*self._policy.leaving] if self._policy.turn is None else [self._policy.turn]
        return _cell(refs[-1]) if refs else None

    # ---- what happens to children

    def became_ready(self, cell: Cell) -> None:
        """A child is ready."""
        if directives := self._policy.became_ready(cell.ref):
            self._carry_out(directives)

    def exited(self, cell: Cell, how: Exit) -> None:
        """An incarnation of a child has ended."""
        stopping = how.crash is not None and self._policy.stopping
        if how.crash is not None and stopping:
            self._keep_stop_error(cell, how.crash)
        now = self._engine.loop.now()
        directives = self._policy.exited(cell.ref, how, now, random.random())
        if how.crash is None:
            self._follow(directives)
            return
        incarnation, decision = cell.incarnations, decided(cell, directives, stopping=stopping)
        self._engine.tell("crashed", cell.ref, incarnation, how.crash, decision)
        self._follow(directives)
        log_crash(cell, incarnation, how, decision)  # last: a handler may look at the system

    def _follow(self, directives: list[Directive[ActorRef[Any]]]) -> None:
        """Do what follows from an exit, which alone can have a group restarted."""
        self._carry_out(directives)
        if self._policy.leaving is not self._group:
            self._end_vain_waits()

    def _keep_stop_error(self, cell: Cell, crash: Exception) -> None:
        """A child crashed while all are being stopped: secondary to whatever else happened, and not lost.

        An `ActorStopped` follows from the stop itself: the child used one that was stopped before it.
        """
        _, own = ExceptionGroup("", [crash]).split(ActorStopped)
        if own is not None:
            self.keep_stop_errors(cell, [crash])

    def keep_stop_errors(self, cell: Cell, errors: Iterable[Exception]) -> None:
        """To be raised when this owner ends: what a child, or somebody below it, raised while it was stopped."""
        if cell.spec.settings.restart is not Restart.TEMPORARY:
            self.stop_errors.extend(errors)

    # ---- stopping

    @uninterrupted
    def stop(self, cell: Cell) -> None:
        """Stop one child, whatever its restart type; does not wait."""
        self._carry_out(self._policy.stop(cell.ref))

    @uninterrupted
    def stop_all(self) -> None:
        """Stop every child in reverse order of start, one after another; `down` tells when. Idempotent."""
        self._stop_asked = True
        self._carry_out(self._policy.stop_all())

    @uninterrupted
    def hurry(self) -> None:
        """End every grace: children that are stopping, or will be, are cancelled at once."""
        self._hurried = True
        for cell in self.cells:
            if cell.stop_asked:
                cell.cancel()

    # ---- directives

    @uninterrupted
    def _carry_out(self, directives: list[Directive[ActorRef[Any]]]) -> None:
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

    def _do(self, directive: Directive[ActorRef[Any]]) -> None:
        match directive:
            case Start(ref, delay):
                self._start(ref, delay)
            case Stop(ref, for_good):
                cell = _cell(ref)
                cell.begin_stop(for_good=for_good)
                if not for_good and self._policy.leaving:
                    cell.end_vain_waits()
                if self._hurried:
                    cell.cancel()
            case Finish(ref, how):
                if (cell := _cell(ref)).state not in FINAL:  # or it waited for its turn to begin a new life
                    cell.finish(how)
            case Forget(ref):
                del self._names[_cell(ref).name]
            case Keep(ref):
                _cell(ref).will_restart()
            case GiveUp(crashes):
                self._failure = self._giving_up(crashes)
            case AbortStart(ref, how):
                self._failure = StartFailed(
                    f"{self.path} did not start, because {_cell(ref).path} did not: {brief(how.crash)}"
                )
                self._failure.__cause__ = how.crash
            case AllReady():
                self._on_ready()
            case AllDown():
                self._all_down()
            case _:
                assert_never(directive)

    def _start(self, ref: ActorRef[Any], delay: float) -> None:
        cell = _cell(ref)
        if cell.state in FINAL:  # a new life
            cell = self._have(cell.spec, cell.name)
        if delay > 0:
            cell.restart_alarm = self._engine.deadlines.at(self._engine.loop.now() + delay, cell.begin)
        else:
            cell.begin()

    def awaits_end_of(self, path: str) -> bool:
        """Whether whoever is restarted here begins only after that actor has ended: it has to go, or lives below who has."""
        return any(lies_within(path, _cell(ref).path) for ref in self._policy.leaving)

    def _end_vain_waits(self) -> None:
        """A group has to go: whoever of it, or below it, waits for a child that begins again only afterwards is told.

        For children that are told to stop later, that follows their `Stop`.
        """
        self._group = self._policy.leaving
        if self._group and not self._policy.stopping:
            for cell in self.cells:
                if cell.state is ActorState.RESTARTING:
                    cell.end_vain_waits()
            for scope, inside in self._starters.items():
                if self.awaits_end_of(inside.path):
                    scope.cancel()

    def _all_down(self) -> None:
        self.down.set()
        if self._failure is not None or not self._stop_asked:
            self._on_end(self._failure)

    def _giving_up(self, crashes: tuple[Exception, ...]) -> RestartIntensityExceeded:
        limit = self._options.intensity
        last = f"; the last crash: {brief(_innermost(crashes[-1]))}" if crashes else ""
        failure = RestartIntensityExceeded(
            f"children of {self.path} needed more than {limit.max_restarts} restarts in {limit.per} s{last}"
        )
        failure.__cause__ = ExceptionGroup(f"crashes under {self.path}", _told_once(crashes)) if crashes else None
        return failure


def descendants(children: Children | None) -> Iterator[Cell]:
    """Every actor that is not forgotten, parents before their children."""
    for cell in [] if children is None else children.cells:
        yield cell
        yield from descendants(cell.children)


def _cell(ref: ActorRef[Any]) -> Cell:
    cell = cell_of(ref)
    assert cell is not None, "which every child has"
    return cell


def _told_once(crashes: Sequence[Exception]) -> list[Exception]:
    """Of supervisors that gave up, the last one only says why: else each level would multiply the one below it."""
    return [*map(_without_cause, crashes[:-1]), crashes[-1]]


def _without_cause(crash: Exception) -> Exception:
    return RestartIntensityExceeded(*crash.args) if isinstance(crash, RestartIntensityExceeded) else crash


def _innermost(crash: Exception) -> Exception:
    """What made a supervisor give up, or one below it."""
    while isinstance(crash, RestartIntensityExceeded) and crash.__cause__ is not None:
        crash = cast("ExceptionGroup[Exception]", crash.__cause__).exceptions[-1]
    return crash


def _check_started(cell: Cell) -> None:
    """Raise `StartFailed` if it did not start."""
    error = cell.start_error
    if isinstance(error, StartFailed) and isinstance(cell.spec.behaviour, Supervising):
        raise StartFailed(*error.args) from error.__cause__  # it says which child did not, and why
    if error is not None:
        raise StartFailed(f"{cell.path} did not start: {brief(error)}") from error


def _check_free(spec: ChildSpec[Any]) -> None:
    """Refuse a spec that runs, or that its supervisor may start again."""
    bound = cell_of(spec.ref)
    if bound is None:
        return
    if bound.state not in FINAL:
        raise DuplicateName(
            f"this spec is running already, as {bound.path}: `spec.options()` makes another child of it"
        )
    if bound.owner.has(spec.ref) and not bound.owner.down.is_set:
        raise DuplicateName(
            f"this spec is {bound.path}, which has ended and which its supervisor may start again: "
            "`await sup.restart_child(spec.ref)` does so, and `spec.options()` makes another child of it"
        )
