"""Lives against the naive model of supervision: who starts, stops and ends, when, and in which order.

An `NaiveSupervisor` for each family is told what happened to its children, and what it says in reply is owed: it has to
happen before the system comes to rest, and nothing else may.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, final

import attrs

from .._core.ref import cell_of
from .._core.supervisor import Supervising
from .._model.directives import AbortStart, AllDown, AllReady, Exit, Finish, Forget, GiveUp, Keep, Start, Stop
from .._model.options import SupervisorOptions
from .._model.restart import Intensity
from ._invariants import Check
from ._naive import NaiveSupervisor

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._core.spec import ChildSpec
    from .._model.directives import Directive
    from ._invariants import Ref

NO_LIMIT: Final = Intensity(10**6, per=1.0)
"""Of the root: a system that gives up is at its end, and nothing more can be seen of it."""


@final
@attrs.define(eq=False)
class Life:
    """What is known of an actor, or of the root.

    Attributes:
        ref: Its reference; None for the root.
        spec: What it runs; None for the root.
        owner: Whose child it is; None for the root.
        among: Its siblings; None for the root.
        key: Its number among them.
        family: Its children, once it has had any in this incarnation.
        children: The same, by number.
        incarnation: The latest one.
        alive: Whether that is there.
        ready: Whether it is ready.
        leaves: Whether it has said that it is going to leave.
        gone: Whether its behaviour is over.
        over: Whether its children are down for good.
        failed: Whether they have failed it.
        ended: Whether it is down for good, until a new life begins.
        started_at: When it began.
        told_at: When it was told to stop.
        again: Whether that is only until its siblings are down too, so that another start is the one which counts.
        due: When it will be started again.
        crash: What its owner makes of its crash.
    """

    ref: Ref | None
    spec: ChildSpec[Any] | None
    owner: Life | None
    among: NaiveSupervisor | None = None
    key: int = 0
    family: NaiveSupervisor | None = None
    children: dict[int, Life] = attrs.field(factory=dict[int, "Life"])
    incarnation: int = 0
    alive: bool = False
    ready: bool = False
    leaves: bool = False
    gone: bool = False
    over: bool = False
    failed: bool = False
    ended: bool = False
    started_at: float = 0.0
    told_at: float | None = None
    again: bool = False
    due: float | None = None
    crash: str = ""

    @property
    def path(self) -> str:
        """Its place in the tree."""
        return "/" if self.ref is None else self.ref.path

    @property
    def supervises(self) -> bool:
        """Whether it is a supervisor."""
        return self.spec is not None and isinstance(self.spec.behaviour, Supervising)

    def have_family(self, options: SupervisorOptions) -> None:
        """Begin to have children."""
        self.family = NaiveSupervisor(
            options.intensity, options.strategy, options.auto_shutdown, options.concurrent_stop
        )
        self.children = {}


@final
class Lives(Check):
    """Supervision by the rules.

    Args:
        ours: Whether the test knows what runs there. Everybody else may leave at any time.
    """

    def __init__(self, ours: Callable[[ChildSpec[Any]], bool]) -> None:
        self.root: Final = Life(None, None, None, alive=True)
        self.root.have_family(SupervisorOptions(intensity=NO_LIMIT))
        self._ours = ours
        self._lives: dict[Ref, Life] = {}
        self._owed: list[tuple[str, Life]] = []

    # ---- what is known

    @property
    def anybody(self) -> bool:
        """Whether an actor is there, or will be."""
        return any(life.alive or life.due is not None for life in self._lives.values())

    def refs(self) -> list[Ref]:
        """Every actor that has been there, in order."""
        return [ref for ref in self._lives if cell_of(ref) is not None]

    def children(self, ref: Ref) -> list[str]:
        """Paths of its children that its supervisor has not forgotten."""
        life = self._lives[ref]
        if not life.alive or life.family is None:
            return []
        return [life.children[child.key].path for child in life.family.family]

    def owner(self, ref: Ref) -> Ref | None:
        """Whose child it is; None for the root's."""
        owner = self._lives[ref].owner
        return None if owner is None else owner.ref

    def owners(self) -> list[Ref]:
        """Those who can have children now."""
        return [
            ref
            for ref, life in self._lives.items()
            if life.alive
            and life.ready
            and not life.gone
            and life.told_at is None
            and (life.supervises or self.is_ours(ref))
            if life.family is None or not life.family.going_down
        ]

    def is_gone(self, ref: Ref) -> bool:
        """Whether its behaviour is over."""
        return self._lives[ref].gone

    def is_ours(self, ref: Ref) -> bool:
        """Whether the test knows what runs there."""
        spec = self._lives[ref].spec
        return spec is not None and self._ours(spec)

    # ---- requests

    def admitted(self, owner: Ref | None, spec: ChildSpec[Any]) -> None:
        """It is the last of its siblings, and starts when nobody else has to."""
        life = self.root if owner is None else self._lives[owner]
        if life.family is None:
            life.have_family(SupervisorOptions())
        assert life.family is not None
        child, settings = self._child(life, spec), spec.settings
        said = life.family.admit(child.key, settings.restart, settings.backoff, settings.significant)
        self._carry_out(life, said)

    def _child(self, owner: Life, spec: ChildSpec[Any]) -> Life:
        child = Life(spec.ref, spec, owner, owner.family, key=1 + max(owner.children, default=0))
        owner.children[child.key] = self._lives[spec.ref] = child
        return child

    def requested(self, what: str, ref: Ref) -> None:
        """Its owner sees to it."""
        life = self._lives[ref]
        assert life.owner is not None
        life.ended = life.ended and what != "restart"  # which begins a new life
        self._carry_out(life.owner, getattr(life.among, what)(life.key))

    def refuses_restart(self, ref: Ref) -> bool:
        """Whether a request for that is an error."""
        life = self._lives[ref]
        there = life.owner is not None and life.owner.alive and life.owner.family is life.among
        return not there or life.among is None or life.among.refuses_restart(life.key)

    def has_to_go_again(self, ref: Ref) -> bool:
        """Whether it starts again once it has stopped, which it perhaps has not been told yet."""
        life = self._lives[ref]
        family = [] if life.among is None else life.among.family
        return any(child.key == life.key and child.fate == "again" for child in family)

    def closing(self) -> None:
        """Everybody has to go."""
        assert self.root.family is not None
        self._carry_out(self.root, self.root.family.stop_all())

    # ---- what happens

    def started(self, ref: Ref, incarnation: int) -> None:
        """It was to start, now or after a delay."""
        if ref not in self._lives or self._lives[ref].owner is None:
            self._found(ref)
        life = self._lives[ref]
        if life.due is None:
            self._pay("started", life)
        assert life.due is None or life.due <= self.now, f"{life.path} starts before its delay is over"
        assert incarnation == life.incarnation + 1, f"{life.path}: {incarnation} follows {life.incarnation}"
        assert life.owner is not None
        assert life.owner.alive, f"{life.path} starts under {life.owner.path}, which is not there"
        life.alive, life.incarnation, life.started_at, life.due = True, incarnation, self.now, None
        life.ready = life.leaves = life.gone = life.over = life.failed = life.ended = False
        life.family, life.children = None, {}
        if life.spec is not None and isinstance(life.spec.behaviour, Supervising):
            self._supervise(life, life.spec.behaviour)

    def _found(self, ref: Ref) -> None:
        """Somebody else's child: its parent has spawned it."""
        cell = cell_of(ref)
        assert cell is not None
        parent = cell.path.rpartition("/")[0]
        owner = next((life.ref for life in self._lives.values() if life.alive and life.path == parent), None)
        self.admitted(owner, cell.spec)

    def _supervise(self, life: Life, behaviour: Supervising) -> None:
        life.have_family(behaviour.options)
        assert life.family is not None
        for spec in behaviour.specs:
            settings = spec.settings
            life.family.declare(self._child(life, spec).key, settings.restart, settings.backoff, settings.significant)
        self._carry_out(life, life.family.start())

    def ready(self, ref: Ref, incarnation: int) -> None:
        """A supervisor is, when its children are or when it has to stop; anybody else, when it likes."""
        life = self._lives[ref]
        if life.supervises and (life.told_at is None or ("ready", life) in self._owed):
            self._pay("ready", life)
        assert life.alive, f"{life.path} is ready, and has not started"
        assert life.owner is not None
        assert life.among is not None
        life.ready = True
        self._carry_out(life.owner, life.among.became_ready(life.key))

    def leaving(self, ref: Ref) -> None:
        """By itself."""
        self._lives[ref].leaves = True

    def left(self, ref: Ref, incarnation: int) -> None:
        """Its children have to go, and then it ends."""
        life = self._lives[ref]
        life.gone = True
        if life.family is not None and not life.family.going_down:
            self._carry_out(life, life.family.stop_all())

    def exited(self, ref: Ref, incarnation: int, crash: Exception | None) -> None:
        """For a reason, and after its children."""
        life = self._lives[ref]
        assert life.owner is not None
        assert life.spec is not None
        assert life.among is not None
        assert life.alive, f"{life.path} exits, and has not started"
        why = life.leaves or life.over or life.told_at is not None or not (life.supervises or self._ours(life.spec))
        assert why, f"{life.path} exits, and had no reason to"
        assert crash is not None or not life.failed, f"{life.path} has failed, and does not say so"
        left = [child.path for child in life.children.values() if child.alive]
        assert not left, f"{life.path} exits before its children {left}"
        life.alive, life.told_at, life.again = False, None, False
        how = Exit(crash, self.now - life.started_at, was_ready=life.ready)
        going_down = life.among.going_down
        said = life.among.exited(life.key, how, self.now, 0.5)
        if crash is not None:
            life.crash = _decision(life, said, shuts_down=life.among.going_down and not going_down)
            self._owed.append(("crashed", life))
        self._carry_out(life.owner, said)

    def crashed(self, ref: Ref, incarnation: int, crash: Exception, decision: str) -> None:
        """It is told what was decided."""
        life = self._lives[ref]
        self._pay("crashed", life)
        assert decision == life.crash, f"{life.path}: {decision!r} instead of {life.crash!r}"

    def stopping(self, ref: Ref) -> None:
        """Its turn has come."""
        self._pay("stopping", self._lives[ref])

    def ended(self, ref: Ref, reason: Exception | None) -> None:
        """As was decided."""
        self._pay("failed" if reason else "ended", self._lives[ref])

    def at_rest(self, busy: Callable[[Ref], bool]) -> None:
        """Nothing is owed any more, and nobody is there who should not be."""
        assert not self._owed, f"not done: {[(what, life.path) for what, life in self._owed]}"
        for life in list(self._lives.values()):
            late = life.due is not None and life.due <= self.now
            assert not late, f"{life.path} is not started again"
            lingers = life.alive and (life.over or life.told_at is not None) and not self._may_linger(life, busy)
            assert not lingers, f"{life.path} does not end"

    def _may_linger(self, life: Life, busy: Callable[[Ref], bool]) -> bool:
        """Whether it waits for its children, or has time left and works."""
        if any(child.alive and child.told_at is not None for child in life.children.values()):
            return True  # these are looked at themselves
        assert life.spec is not None
        assert life.ref is not None
        until = math.inf if life.told_at is None else life.told_at + life.spec.settings.stop_timeout
        return until > self.now and not life.supervises and (not self._ours(life.spec) or busy(life.ref))

    # ---- what is owed

    def _pay(self, what: str, life: Life) -> None:
        assert (what, life) in self._owed, f"{life.path} has {what!r}, and was not to"
        self._owed.remove((what, life))

    def _carry_out(self, owner: Life, said: list[Directive[int]]) -> None:
        for directive in said:
            match directive:
                case Start(key, delay) if delay:
                    owner.children[key].due = self.now + delay
                case Start(key):
                    self._owed.append(("started", owner.children[key]))
                case Stop(key, for_good):
                    self._stop(owner, owner.children[key], for_good)
                case Finish(key, how):
                    child = owner.children[key]
                    child.incarnation, child.due = 0, None
                    if not child.ended:  # or it waited for its turn to begin a new life
                        child.ended = True
                        self._owed.append(("failed" if how.crash else "ended", child))
                case AllReady() if owner.ref is not None and not owner.again:
                    self._owed.append(("ready", owner))
                case AllDown():
                    owner.over = True
                    if owner.supervises and not (owner.ready or owner.failed or owner.told_at is not None):
                        self._owed.append(("ready", owner))  # what has come to its end has started
                case GiveUp() | AbortStart():
                    owner.failed = True
                case _:
                    assert isinstance(directive, AllReady | Keep | Forget)

    def _stop(self, owner: Life, child: Life, for_good: bool) -> None:
        assert owner.family is not None
        if for_good:
            self._owed.append(("stopping", child))
        if child.due is not None:  # its delay ends with it
            child.due = None
            self._carry_out(owner, owner.family.exited(child.key, Exit(), self.now, 0.5))
            return
        child.told_at = self.now if child.told_at is None else child.told_at
        child.again = not for_good
        if child.again and ("ready", child) in self._owed:
            self._owed.remove(("ready", child))


def _decision(life: Life, said: list[Directive[int]], *, shuts_down: bool) -> str:
    assert life.owner is not None
    match said:
        case [Keep(), Start(key, delay), *_] if key == life.key and delay:
            return f"restarting in {delay:.3g} s"
        case [Keep(), *_]:
            return "restarting"
        case [GiveUp(), *_]:
            return f"{life.owner.path} gives up"
        case [AbortStart(), *_]:
            return f"{life.owner.path} does not start"
        case _ if shuts_down:
            return f"{life.owner.path} shuts down"
        case _:
            return "it stays down"
