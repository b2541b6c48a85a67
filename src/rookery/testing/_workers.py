"""The actors of a `SystemMachine`, which do what they are told, and the trees that they are spawned in."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any, Final, final

import anyio
import attrs
from hypothesis import strategies as st

from .._core.context import Context  # noqa: TC001  # the annotation of the behaviour is evaluated by `child`
from .._core.spec import child
from .._core.supervisor import supervisor
from .._core.watching import Restarted, Terminated  # noqa: TC001  # likewise
from .._model.errors import RookeryError
from .._model.lifecycle import FINAL
from .._model.messages import Request, message
from .._model.restart import Backoff, Intensity, Restart
from .._model.strategy import AutoShutdown, Strategy

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._core.ref import ActorRef
    from .._core.spec import ChildSpec
    from ._invariants import Log

DEPTH: Final = 5
"""Levels of a tree below the root."""


@message
class Note:
    """Something to do.

    Attributes:
        number: To tell it from others.
        what: "crash", "return", "work" until it may go on, "ask" or "watch" another, or nothing.
        target: The other.
    """

    number: int
    what: str
    target: Any = attrs.field(default=None, repr=False)


@message
class Question(Request[int]):
    """Something to do, and to answer with its number."""

    number: int
    what: str
    target: Any = attrs.field(default=None, repr=False)


class Defect(Exception):
    """What workers crash with."""


@final
class Desk:
    """Where a test reaches its workers.

    Attributes:
        log: What they are going to do.
        busy: Those who wait inside of their behaviours for something else than messages.
        contexts: Of each, the latest.
    """

    def __init__(self, log: Log) -> None:
        self.log: Final = log
        self.busy: Final[set[ActorRef[Any]]] = set()
        self.contexts: Final[dict[ActorRef[Any], Context[Any]]] = {}
        self._gates: list[anyio.Event] = []

    def go_on(self) -> None:
        """Let everybody go on who works."""
        for gate in self._gates:
            gate.set()
        self._gates.clear()

    async def obey(self, ctx: Context[Any], item: Note | Question) -> bool:
        """Do as told; whether to go on receiving."""
        if item.what in ("crash", "return"):
            self.log.add("leaving", ctx.self)
            if item.what == "crash":
                raise Defect(item.number)
            return False
        if item.what == "watch":
            self.log.add("watched", ctx.self, item.target, item.target.state in FINAL)
            ctx.watch(item.target)
        elif item.what:
            self.busy.add(ctx.self)
            await (self._work() if item.what == "work" else self._ask(item))
            self.busy.discard(ctx.self)
        if isinstance(item, Question):
            ctx.reply(item, item.number)
        return True

    async def _work(self) -> None:
        gate = anyio.Event()
        self._gates.append(gate)
        await gate.wait()

    async def _ask(self, item: Note | Question) -> None:
        with suppress(RookeryError):  # the other ends or crashes, or they would wait for each other
            await item.target.ask(Question(item.number, ""))


async def worker(ctx: Context[Note | Question | Terminated | Restarted], desk: Desk, fails_at: int) -> None:
    """Does what it is told; the start of one of its incarnations fails."""
    desk.contexts[ctx.self] = ctx
    try:
        if ctx.incarnation == fails_at:
            desk.log.add("leaving", ctx.self)
            raise Defect("at the start")
        async for item in ctx:
            if isinstance(item, Note | Question) and not await desk.obey(ctx, item):
                return
    finally:
        desk.busy.discard(ctx.self)


@final
@attrs.frozen(repr=False)
class Plan:
    """A tree to be spawned: a worker, somebody's behaviour, or a supervisor of others.

    Attributes:
        restart: Its restart type.
        significant: Whether its end may be its supervisor's, where that is possible.
        delayed: Whether it restarts with a growing delay.
        fails_at: The incarnation whose start fails; 0 for none.
        stop_timeout: Seconds it has to stop.
        capacity: Of its mailbox.
        behaviour: What it runs, if it is no worker.
        children: What it supervises, if it is a supervisor.
        times: How many like it there are among its siblings.
        strategy: Whom that restarts together.
        max_restarts: How many of them it tolerates, in four seconds.
        auto_shutdown: When it ends with them.
        concurrent_stop: Whether it stops dynamic children all at once.
    """

    restart: Restart = Restart.TRANSIENT
    significant: bool = False
    delayed: bool = False
    fails_at: int = 0
    stop_timeout: float = 2.0
    capacity: int = 1000
    behaviour: Callable[..., Any] | None = None
    children: tuple[Plan, ...] | None = None
    times: int = 1
    strategy: Strategy = Strategy.ONE_FOR_ONE
    max_restarts: int = 3
    auto_shutdown: AutoShutdown = AutoShutdown.NEVER
    concurrent_stop: bool = False

    def __repr__(self) -> str:
        told = ((field.name, getattr(self, field.name)) for field in attrs.fields(Plan) if field.name != "children")
        options = [f"{name}={value}" for name, value in told if value != getattr(WORKER, name)]
        return f"Plan({', '.join([*options, *([] if self.children is None else [f'children={self.children}'])])})"

    @property
    def size(self) -> int:
        """Actors in the tree."""
        return 1 + sum(each.times * each.size for each in self.children or ())

    def spec(self, desk: Desk, under: AutoShutdown = AutoShutdown.NEVER) -> ChildSpec[Any]:
        """What to spawn, under a supervisor that shuts itself down so."""
        significant = self.significant and under is not AutoShutdown.NEVER and self.restart is not Restart.PERMANENT
        backoff = Backoff(1.0, maximum=4.0, jitter=0.0, reset_after=8.0) if self.delayed else None
        if self.children is None:
            spec: ChildSpec[Any] = child(self.behaviour) if self.behaviour else child(worker, desk, self.fails_at)
            spec = spec.options(stop_timeout=self.stop_timeout, capacity=self.capacity)
        else:
            spec = supervisor(
                *[each.spec(desk, self.auto_shutdown) for each in self.children for _ in range(each.times)],
                strategy=self.strategy,
                intensity=Intensity(self.max_restarts, per=4.0),
                auto_shutdown=self.auto_shutdown,
                concurrent_stop=self.concurrent_stop,
            )
        return spec.options(restart=self.restart, significant=significant, backoff=backoff)


WORKER: Final = Plan()

RESTARTS: Final = st.sampled_from([Restart.TRANSIENT, *Restart])

TIMES: Final = st.sampled_from([1, 1, 1, 1, 1, 1, 1, 2, 5, 20])
"""A few make a tree wide."""


@cache
def plans(depth: int = DEPTH) -> st.SearchStrategy[Plan]:
    """Trees of at most so many levels."""
    workers = _plans(
        restart=RESTARTS,
        significant=st.booleans(),
        times=TIMES,
        delayed=st.booleans(),
        fails_at=st.sampled_from([0, 0, 0, 0, 0, 0, 1, 2]),
        stop_timeout=st.sampled_from([2.0, 2.0, 0.0]),
        capacity=st.sampled_from([1000, 2]),
    )
    if depth == 1:
        return workers
    supervisors = _plans(
        restart=RESTARTS,
        significant=st.booleans(),
        times=TIMES,
        delayed=st.booleans(),
        children=st.lists(plans(depth - 1), max_size=3).map(tuple),
        strategy=st.sampled_from(Strategy),
        max_restarts=st.integers(0, 3),
        auto_shutdown=st.sampled_from([AutoShutdown.NEVER, *AutoShutdown]),
        concurrent_stop=st.booleans(),
    )
    return workers | supervisors


def _plans(**options: st.SearchStrategy[Any]) -> st.SearchStrategy[Plan]:
    return st.fixed_dictionaries(options).map(lambda chosen: Plan(**chosen))
