"""A state machine that drives a whole system of actors at random, and checks what has to hold after each step.

It needs Hypothesis: ``pip install 'rookery[testing]'``. A test of one's own actors among others::

    class CalculatorMachine(SystemMachine):
        backend = "asyncio"
        behaviours = {calculator: st.builds(Add, st.integers(), st.integers())}

    test_calculator = CalculatorMachine.TestCase
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeAlias, final

import anyio
import attrs
import trio

from .._core.supervisor import SupervisorRef
from .._core.system import engine_of, open_system
from .._model.errors import ActorCrashed, ActorStopped, AskTimeout, MailboxFull, RookeryError, StartFailed
from .._model.lifecycle import FINAL, ActorState
from .._model.messages import Request
from ._extra import missing_extra
from ._invariants import Check, Log, Traffic, Watches
from ._lives import NO_LIMIT, Lives
from ._stepped import BACKENDS, Job, Stepped
from ._workers import Desk, Note, Plan, Question, plans, worker
from .story import Story

try:
    from hypothesis import strategies as st
    from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
except ImportError as _error:
    raise missing_extra(__name__, "hypothesis", _error) from _error

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from .._core.ref import ActorRef
    from .._core.spawner import Spawner
    from .._core.spec import ChildSpec
    from .._core.system import System

    Ref: TypeAlias = ActorRef[Any]

AT: Final = st.integers(0, 199)
"""Which of those that there are."""

WHAT: Final = st.sampled_from(["", "work", "crash", "return"])

SECONDS: Final = (0.5, 1.0, 2.0, 8.0)

ERRORS: Final[dict[str, Any]] = {
    "send": (ActorStopped, MailboxFull),
    "ask": (ActorStopped, ActorCrashed, AskTimeout, MailboxFull),
    "use": Exception,
    "spawn": (StartFailed, ActorStopped),
    "start": (StartFailed, ActorStopped),
    "refused": (RookeryError, ValueError),
    "stop": (),
}
"""What may come of what somebody outside waits for."""

FOREVER: Final = 1000.0
"""Seconds after which nothing ends any more."""

LONGEST: Final = 8.0
"""Seconds after which every grace and every delay is over."""


@final
@attrs.define
class Waiting:
    """Somebody outside who waits for something."""

    what: str
    ref: Ref
    job: Job
    message: object = None
    deadline: float | None = None
    cancelled: bool = False


class SystemMachine(RuleBasedStateMachine):
    """Spawns trees of actors and supervisors, uses, crashes, stops and restarts them, and lets time pass.

    Its own actors do what they are told. Yours are spawned among them, and are sent what you give. After each step
    the loop is at rest, and it is checked that

    * every message was received once, or is a dead letter, or is still queued, and those as urgent came in order;
    * everybody was started, restarted, given up and stopped as a naive model of supervision says, in that order, and
      nobody lives without the owner;
    * nobody waits for an answer, a start or an end that cannot come any more;
    * every watcher was told of each restart and of the end, once.

    In the end the block is left or cancelled, and no task outlives it. A failure carries the shortest story that
    leads there, as a Mermaid sequence diagram. All time is virtual, and an example can be repeated.

    Add rules and invariants of your own as in any `RuleBasedStateMachine`; `do` takes a step in the loop.

    Attributes:
        backend: ``"trio"``, ``"asyncio"`` or ``"uvloop"``.
        behaviours: Your own, async functions or `Actor` classes, each with a strategy of messages for it; requests are
            asked. They take no further arguments, and must not stop or restart others, which is the machine's
            part.
        max_actors: At most so many are spawned in one example, those aside that yours spawn.
        system: The system; use it inside of `do`.
        story: What has happened so far.
    """

    backend: ClassVar[str] = "trio"
    behaviours: ClassVar[Mapping[Callable[..., Any], st.SearchStrategy[Any]]] = {}
    max_actors: ClassVar[int] = 200

    system: System
    story: Story

    def __init__(self) -> None:
        super().__init__()
        self.story = Story()
        self._desk = Desk(Log())
        self._traffic, self._lives = Traffic(), Lives(lambda spec: spec.behaviour is worker)
        self._checks: list[Check] = [self._traffic, self._lives, Watches()]
        self._messages: dict[Ref, st.SearchStrategy[Any]] = {}
        self._waiting: list[Waiting] = []
        self._number = 0
        self._stepped = Stepped(BACKENDS[self.backend])

    # ---- for rules of one's own

    def do(self, said: str, fn: Callable[..., Any], *args: Any) -> Any:
        """Take a step: call a function in the loop, let everybody come to rest, and check that all is well.

        Args:
            said: What this is, for the story.
            fn: A function, plain or async.
            *args: Its arguments.

        Returns:
            What it returns; what it raises is raised here.
        """
        self.story.note(said)
        result = self._stepped.run(fn, *args)
        self._check()
        return result

    def live(self, kind: type[Ref] | None = None) -> list[Ref]:
        """The actors that are there, and the last one that is not.

        Args:
            kind: `SupervisorRef`, or None for those that take messages.
        """
        refs = [ref for ref in self._lives.refs() if isinstance(ref, SupervisorRef) is (kind is SupervisorRef)]
        gone = [ref for ref in refs if ref.state in FINAL]
        return [ref for ref in refs if ref.state not in FINAL] + gone[-1:]

    # ---- rules

    @initialize(plan=plans(), cancelled=st.booleans())
    def open(self, plan: Plan, cancelled: bool) -> None:
        """Open a block, which is to be left or to be cancelled, and begin with a tree."""
        self._cancelled_in_the_end = cancelled
        self._stepped.run(self._open)
        self._check()
        self._spawn_tree(None, plan)

    @precondition(lambda self: self._room() > 0)
    @rule(plan=plans(), at=AT, owned=st.booleans())
    def spawn(self, plan: Plan, at: int, owned: bool) -> None:
        """A tree, by the system, by a supervisor or by an actor."""
        self._spawn_tree(self._owner(at) if owned else None, plan)

    @precondition(lambda self: self.behaviours and self._room() > 0)
    @rule(at=AT, which=AT)
    def spawn_yours(self, at: int, which: int) -> None:
        """One of the behaviours to be tested."""
        behaviour, messages = list(self.behaviours.items())[which % len(self.behaviours)]
        spec = Plan(behaviour=behaviour).spec(self._desk)
        self._messages[spec.ref] = messages
        self._spawn(self._owner(at), spec)

    @precondition(lambda self: self._mine())
    @rule(at=AT, whats=st.lists(st.tuples(WHAT, st.sampled_from([0, 128, 128, 255])), min_size=1, max_size=4))
    def send(self, at: int, whats: list[tuple[str, int]]) -> None:
        """Some messages from as many tasks, at once."""
        ref = self._pick(self._mine(), at)
        notes = [(Note(self._next_number(), what), priority) for what, priority in whats]
        self.do(f"sends {len(notes)} to {ref.path}", self._send_all, [(ref, *note) for note in notes])

    @precondition(lambda self: self._mine())
    @rule(at=AT, what=WHAT, timeout=st.sampled_from([None, 1.0, 4.0]), cancelled=st.booleans())
    def ask(self, at: int, what: str, timeout: float | None, cancelled: bool) -> None:
        """A question, and perhaps cancel it if it is not answered at once."""
        ref = self._pick(self._mine(), at)
        question = Question(self._next_number(), what)
        deadline = None if timeout is None else self._desk.log.now + timeout

        def ask() -> None:
            self._wait("ask", ref, lambda: ref.ask(question, timeout=timeout), question, deadline)

        self.do(f"asks {ref.path}", ask)
        if cancelled and self._waiting and self._waiting[-1].message is question:
            self._cancel(-1)

    @precondition(lambda self: self._yours())
    @rule(at=AT, data=st.data())
    def use(self, at: int, data: st.DataObject) -> None:
        """Send or ask one of yours."""
        ref = self._pick(self._yours(), at)
        message: Any = data.draw(self._messages[ref])
        asked = issubclass(type(message), Request)
        use = partial(ref.ask if asked else ref.send, message)
        self.do(f"{'asks' if asked else 'sends to'} {ref.path}", self._wait, "use", ref, use, message)

    @precondition(lambda self: len(self._mine()) > 1)
    @rule(at=AT, other=AT)
    def have_one_ask(self, at: int, other: int) -> None:
        """An actor asks another one, or itself."""
        ref, target = self._pick(self._mine(), at), self._pick(self._mine(), other)
        note = Note(self._next_number(), "ask", target)
        self.do(f"has {ref.path} ask {target.path}", self._send, ref, note, 128)

    @precondition(lambda self: self._mine())
    @rule(at=AT, other=AT, then=WHAT)
    def watch(self, at: int, other: int, then: str) -> None:
        """An actor watches another, which then perhaps crashes or returns."""
        ref, target = self._pick(self._mine(), at), self._pick(self._lives.refs(), other)
        if ref is target:
            return
        note = Note(self._next_number(), "watch", target)
        self.do(f"has {ref.path} watch {target.path}", self._send, ref, note, 128)
        if then and target in self._mine():
            self.do(f"has {target.path} {then}", self._send, target, Note(self._next_number(), then), 255)

    @precondition(lambda self: self._mine())
    @rule(ats=st.lists(AT, min_size=2, max_size=4), what=st.sampled_from(["crash", "crash", "return"]))
    def crash_together(self, ats: list[int], what: str) -> None:
        """Several at once."""
        refs = [self._pick(self._mine(), at) for at in ats]
        notes = [(ref, Note(self._next_number(), what), 255) for ref in refs]
        self.do(f"has {len(refs)} {what}", self._send_all, notes)

    @precondition(lambda self: self._waiting)
    @rule(at=AT)
    def cancel(self, at: int) -> None:
        """One of those who wait."""
        self._cancel(at % len(self._waiting))

    @precondition(lambda self: self._desk.busy)
    @rule()
    def go_on(self) -> None:
        """Whoever works may go on."""
        self.do("lets go on", self._desk.go_on)

    @precondition(lambda self: self._mine())
    @rule(at=AT, paused=st.booleans())
    def pause(self, at: int, paused: bool) -> None:
        """Or resume."""
        ref = self._pick(self._mine(), at)
        if ref.state not in FINAL and ref.state is not ActorState.STOPPING:
            self.do(f"{'pauses' if paused else 'resumes'} {ref.path}", ref.pause if paused else ref.resume)

    @precondition(lambda self: self._lives.refs())
    @rule(at=AT, how=st.sampled_from(["stop", "drain", "soon", "child", "remove"]))
    def stop(self, at: int, how: str) -> None:
        """In one of the ways to do so."""
        ref = self._pick(self._lives.refs(), at)
        sup: Any = self._lives.owner(ref)
        if how in ("child", "remove") and not (isinstance(sup, SupervisorRef) and ref in sup.children()):
            return

        async def stop() -> None:
            self._desk.log.add("requested", "remove" if how == "remove" else "stop", ref)
            match how:
                case "child":
                    await sup.stop_child(ref)
                case "remove":
                    await sup.remove_child(ref)
                case "soon":
                    ref.stop_soon()
                case _:
                    await ref.stop(drain=how == "drain")

        self.do(f"stops {ref.path} ({how})", self._wait, "stop", ref, stop)

    @precondition(lambda self: self._lives.refs())
    @rule(at=AT)
    def restart(self, at: int) -> None:
        """A supervisor's child, if it allows that."""
        ref = self._pick(self._lives.refs(), at)
        sup = self._lives.owner(ref)
        if not isinstance(sup, SupervisorRef):
            return
        refused = self._lives.refuses_restart(ref)

        async def restart() -> None:
            if not refused:
                self._desk.log.add("requested", "restart", ref)
            await sup.restart_child(ref)

        self.do(f"restarts {ref.path}", self._wait, "refused" if refused else "start", ref, restart)

    @rule(seconds=st.sampled_from(SECONDS))
    def let_pass(self, seconds: float) -> None:
        """Time."""
        self.do(f"lets {seconds} s pass", self._jump, seconds)

    def teardown(self) -> None:
        """Leave the block, check that nothing is left of it, and tell the story if there was a failure."""
        error = sys.exception()
        try:
            if error is None and hasattr(self, "system"):
                self._leave()
        except BaseException as late:
            error = late
            raise
        finally:
            if error is not None:
                error.add_note(f"The story, as a Mermaid sequence diagram:\n{self.story.mermaid()}")
            self._stepped.close()

    # ---- in the loop

    async def _open(self) -> None:
        opened = anyio.Event()
        self._tasks_before = _tasks()
        self._closing = anyio.Event()
        self._block = self._stepped.start(lambda: self._run(opened))
        await opened.wait()

    async def _run(self, opened: anyio.Event) -> None:
        async with open_system(intensity=NO_LIMIT, instruments=[self._desk.log, self.story]) as self.system:
            turn: Any = engine_of(self.system).turn
            turn.clock = float  # always 0.0: how quick this machine is decides nothing
            turn.renew()
            opened.set()
            await self._closing.wait()

    def _close(self) -> None:
        self._desk.log.add("closing")
        if self._cancelled_in_the_end:
            self._block.scope.cancel()
        else:
            self._closing.set()

    def _send_all(self, notes: list[tuple[Ref, object, int]]) -> None:
        for ref, note, priority in notes:
            self._send(ref, note, priority)

    def _send(self, ref: Ref, note: object, priority: int) -> None:
        self._wait("send", ref, lambda: ref.send(note, priority=priority), note)

    def _wait(
        self,
        what: str,
        ref: Ref,
        fn: Callable[[], Awaitable[Any]],
        message: object = None,
        deadline: float | None = None,
    ) -> None:
        self._waiting.append(Waiting(what, ref, self._stepped.start(fn), message, deadline))

    def _jump(self, seconds: float) -> None:
        self._desk.log.now += seconds
        self._stepped.jump(seconds)

    # ---- steps

    def _spawn_tree(self, owner: Ref | None, plan: Plan) -> None:
        if plan.size <= self._room():
            self._spawn(owner, plan.spec(self._desk))

    def _spawn(self, owner: Ref | None, spec: ChildSpec[Any]) -> None:
        above: Spawner = self.system
        if owner is not None:
            above = owner if isinstance(owner, SupervisorRef) else self._desk.contexts[owner]

        async def spawn() -> None:
            self._desk.log.add("admitted", owner, spec)
            await above.spawn(spec)

        where = "at the top" if owner is None else f"under {owner.path}"
        self.do(f"spawns a {spec.name} {where}", self._wait, "spawn", spec.ref, spawn)

    def _cancel(self, at: int) -> None:
        waiting = self._waiting[at]
        waiting.cancelled = True

        def cancel() -> None:
            if waiting.what == "spawn":  # whoever spawns it takes it along
                self._desk.log.add("requested", "stop", waiting.ref)
            waiting.job.scope.cancel()

        self.do(f"cancels a {waiting.what} at {waiting.ref.path}", cancel)

    def _leave(self) -> None:
        self.do(f"{'cancels' if self._cancelled_in_the_end else 'leaves'} the block", self._close)
        while self._lives.anybody and self._desk.log.now < FOREVER:
            self.do(f"lets {LONGEST} s pass", self._jump, LONGEST)
        assert not self._waiting, f"still waiting: {self._waiting}"
        assert self._block.outcome is not None, "the block does not end"
        left = self._stepped.run(_tasks) - self._tasks_before
        assert not left, f"tasks outlive their block: {sorted(left)}"

    # ---- checks

    def _check(self) -> None:
        self._desk.log.tell(self._checks)
        for check in self._checks:
            check.at_rest(self._busy)
        for ref in self.live(SupervisorRef):
            assert isinstance(ref, SupervisorRef)
            seen, known = [child.path for child in ref.children()], self._lives.children(ref)
            assert seen == known, f"the children of {ref.path} are {seen} instead of {known}"
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if one.job.outcome is None:
                assert self._may_wait(one), f"stuck: {one}"
                self._waiting.append(one)
            else:
                assert self._fits(one), f"{one.what} at {one.ref!r} {one.job.outcome}"

    def _busy(self, ref: Ref) -> bool:
        """Whether it need not receive now."""
        return ref in self._desk.busy or self._lives.is_gone(ref) or not self._lives.is_ours(ref)

    def _may_wait(self, one: Waiting) -> bool:
        """Whether what it waits for can still come."""
        match one.what:
            case "ask" | "use" | "send":
                full = one.ref.statistics().queued == one.ref.statistics().capacity
                in_time = one.deadline is None or one.deadline > self._desk.log.now
                return in_time and (full or self._traffic.holds(one.message))
            case "spawn" | "start":
                started = one.ref.state in (ActorState.RUNNING, ActorState.PAUSED)
                again = one.what == "start" and self._lives.has_to_go_again(one.ref)
                return one.ref.state not in FINAL and (again or not started)
            case _:
                return one.ref.state not in FINAL

    def _fits(self, one: Waiting) -> bool:
        """Whether what came of it is what may."""
        match one.job.outcome:
            case ("cancelled",):
                return one.cancelled
            case _ if one.cancelled:
                return False
            case ("returned", value):
                wanted = one.message.number if isinstance(one.message, Question) else None
                return one.what == "use" or (one.what != "refused" and value == wanted)
            case ("raised", error):
                in_time = one.deadline is None or one.deadline > self._desk.log.now
                return isinstance(error, ERRORS[one.what]) and not (in_time and isinstance(error, AskTimeout))
            case _:
                return False

    # ---- choices

    def _room(self) -> int:
        return self.max_actors - len(self._lives.refs())

    def _next_number(self) -> int:
        self._number += 1
        return self._number

    def _pick(self, refs: list[Ref], at: int) -> Ref:
        return refs[at % len(refs)]

    def _mine(self) -> list[Ref]:
        return [ref for ref in self.live() if self._lives.is_ours(ref)]

    def _yours(self) -> list[Ref]:
        return [ref for ref in self.live() if ref in self._messages]

    def _owner(self, at: int) -> Ref | None:
        """Somebody who can have children, or None for the system."""
        owners = [None, *self._lives.owners()]
        return owners[at % len(owners)]


def _tasks() -> Counter[str]:
    """Names of all tasks of the loop."""
    if not trio.lowlevel.in_trio_task():
        return Counter(task.get_name() for task in asyncio.all_tasks())
    root = trio.lowlevel.current_root_task()
    assert root is not None
    todo, names = [root], Counter[str]()
    while todo:
        task = todo.pop()
        names[task.name] += 1
        todo += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    return names
