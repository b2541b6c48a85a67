"""In which order children start and stop: the first first, the last first, one at a time."""

from __future__ import annotations

from collections import deque
from enum import Enum, auto
from typing import TYPE_CHECKING, Final, Generic, TypeVar, final

import attrs

from .directives import AllDown, AllReady, Exit, Finish, Forget, Start, Stop

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .directives import Directive
    from .restart import Backoff, Restart

C = TypeVar("C")


class Phase(Enum):
    """Where a child is."""

    DOWN = auto()
    """It ended, and only a group restart or a request brings it back."""
    WAITING = auto()
    """It will start when its turn comes."""
    LIVE = auto()
    """It was told to start, and has not ended."""


class Next(Enum):
    """What follows the next end of a child."""

    BY_TYPE = auto()
    """Its restart type decides."""
    AGAIN = auto()
    """Another incarnation, however it ends."""
    DOWN = auto()
    """It stays down, however it ends."""


@final
@attrs.define
class Child:
    """What its supervisor knows of a child.

    Attributes:
        restart: Its restart type.
        backoff: What delays its restarts.
        significant: Whether its end may stop the supervisor.
        static: Whether it was declared with the supervisor.
        kept: Whether it is known after its end.
        phase: Where it is.
        next: What follows its next end.
        told_for_good: Whether the incarnation was told that its stop is for good; None if it was not told to stop.
        first: Whether it has neither started nor ended yet.
        awaited: Whether somebody waits for its start; a failure is theirs then, and is not retried.
        delay: Seconds before its next start. Stands until one succeeds, because a group restart may interrupt it.
        streak: Restarts without a stable life between them.
    """

    restart: Restart
    backoff: Backoff | None
    significant: bool
    static: bool = False
    kept: bool = False
    phase: Phase = Phase.WAITING
    next: Next = Next.BY_TYPE
    told_for_good: bool | None = None
    first: bool = True
    awaited: bool = True
    delay: float = 0.0
    streak: int = 0


@final
class StartOrder(Generic[C]):
    """A supervisor's children, and whose turn it is.

    Some have to be down before anybody else starts: they are told to stop one at a time, the last one first. When
    all of them are down, those that wait for their turn start one at a time, the first one first, each when the
    start before it has succeeded or the child has ended again. Any event may change who has to go and who waits;
    `advance` says what comes next.
    """

    __slots__ = ("_concurrent_stop", "_leaving", "_turn", "_waiting", "_whose_turn", "children", "starting", "stopping")

    def __init__(self, *, concurrent_stop: bool) -> None:
        self.children: Final[dict[C, Child]] = {}
        self.starting = False  # static children are being started for the first time
        self.stopping = False  # all have to go, and nobody starts any more
        self._concurrent_stop = concurrent_stop
        self._leaving: list[C] = []
        self._waiting: deque[C] | None = deque()  # a superset of those who wait; None: to be collected
        self._turn: Child | None = None  # the one whose start the next waits for
        self._whose_turn: C | None = None

    @property
    def turn(self) -> C | None:
        """The one whose start the next waits for, if there is one."""
        return None if self._turn is None else self._whose_turn

    @property
    def busy(self) -> bool:
        """Whether children are being stopped or started in turn."""
        return bool(self._leaving) or self._turn is not None

    @property
    def leaving(self) -> Sequence[C]:
        """Those who have to be down before anybody else starts; the last of them may be down already."""
        return self._leaving

    # ---- one child

    def start(self, child: C, state: Child) -> list[Directive[C]]:
        """Start a child now, beside whoever else is starting."""
        state.phase = Phase.LIVE
        return [Start(child, state.delay)]

    def start_in_turn(self, state: Child) -> list[Directive[C]]:
        """Start a child when its turn comes, which may be now."""
        self.line_up(state)
        return self.advance()

    def line_up(self, state: Child) -> None:
        """Have a child wait for its turn."""
        state.phase = Phase.WAITING
        self._waiting = None

    def pass_turn(self, state: Child) -> bool:
        """A child is ready or has ended; whether that was what the next one waited for."""
        if self._turn is not state:
            return False
        self._turn = None
        return True

    def tell(self, child: C, state: Child) -> list[Directive[C]]:
        """Tell a live child to stop, unless it knows; if it becomes for good only later, tell it once more."""
        for_good = self.stopping or state.next is Next.DOWN
        if state.phase is not Phase.LIVE or state.told_for_good in (True, for_good):
            return []
        state.told_for_good = for_good
        return [Stop(child, for_good)]

    def finish(self, child: C, state: Child, how: Exit) -> list[Directive[C]]:
        """A child is down. Should it start again, that is a new life, without a past to be patient with."""
        state.phase = Phase.DOWN
        state.first = state.awaited = False
        state.delay, state.streak = 0.0, 0
        if state.kept:
            return [Finish(child, how)]
        return [Finish(child, how), *self.forget(child)]

    def forget(self, child: C) -> list[Directive[C]]:
        """A child is no child any more."""
        del self.children[child]
        return [Forget(child)]

    # ---- many

    def see_off(self, group: Iterable[C]) -> list[Directive[C]]:
        """These have to be down next. Whoever had to before is among them: any group is wider than the last."""
        self._leaving = list(group)
        if not self._concurrent_stop:
            return []
        last_first = ((child, self.children[child]) for child in reversed(self._leaving))
        return [told for child, state in last_first if not state.static for told in self.tell(child, state)]

    def take_down(self) -> list[Directive[C]]:
        """All have to be down, and then it is over.

        Those that wait are down at once: a sibling whose cleanup asks one of them is not kept waiting.
        """
        self.stopping = True
        waiting = [(child, state) for child, state in self.children.items() if state.phase is Phase.WAITING]
        finished = [told for child, state in reversed(waiting) for told in self.finish(child, state, Exit())]
        return [*finished, *self.see_off(self.children), *self.advance()]

    def advance(self) -> list[Directive[C]]:
        """What comes next: the next stop, else the next start, else the end of a start-up or of everything."""
        while self._leaving:
            child = self._leaving[-1]
            state = self.children.get(child)
            if state is not None and state.phase is Phase.LIVE:
                return self.tell(child, state)
            self._leaving.pop()
        if self.stopping:
            return [AllDown()]
        if self._turn is not None or not (self._waiting or self._waiting is None or self.starting):
            return []
        return self._start_next()

    def _start_next(self) -> list[Directive[C]]:
        directives: list[Directive[C]] = []
        found = self._next_in_line()
        if self.starting and (found is None or not found[1].static):
            self.starting = False
            directives = [AllReady()]
        if found is not None:
            self._whose_turn, self._turn = found
            directives += self.start(*found)
        return directives

    def _next_in_line(self) -> tuple[C, Child] | None:
        if self._waiting is None:
            self._waiting = deque(self.children)
        while self._waiting:
            child = self._waiting.popleft()
            state = self.children.get(child)
            if state is not None and state.phase is Phase.WAITING:
                return child, state
        return None
