"""What a supervisor decides. No clock, no task: events in, directives out.

Erlang/OTP's ``supervisor`` is the reference. An OTP supervisor waits inside for each child to start and to end,
and what happens meanwhile queues up in its mailbox. This one never waits: between the steps of a group restart it
takes the next event. Where that makes a difference:

- Whoever ends while it waits to be stopped for a group restart is part of that restart, and no crash of it counts.
  OTP does the same, because it finds it dead when its turn comes.
- A child that crashes while others are still being started again is answered at once: they are stopped, and the
  group starts anew. OTP first starts the rest, only to stop it. Both count two restarts.
- One for one, a restart never waits for a sibling, not even while the supervisor itself is starting.
- A stop on request is carried out at once, also in the middle of a group restart, which goes on without that
  child. (In OTP, if it is the child whose start failed, those after it stay down.)
- So is a restart on request. While the supervisor itself is starting, that child takes its turn again; should it not
  start, it stays down, and the start-up goes on. (In OTP such a request waits for the end of the start-up.)

Different on purpose: giving up is a failure, not a shutdown; a restart may be delayed; a running child can be
restarted and removed on request; and a child that was started dynamically is forgotten at its end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar, final

from .directives import AbortStart, Exit, GiveUp, Keep
from .order import Child, Next, Phase, StartOrder
from .restart import Restart, RestartWindow
from .strategy import AutoShutdown, Strategy

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .directives import Directive
    from .restart import Backoff, Intensity

C = TypeVar("C")


@final
class Supervision(Generic[C]):
    """One supervisor's children: who starts, stops and is given up; `StartOrder` says when."""

    __slots__ = ("_auto_shutdown", "_order", "_strategy", "_window")

    def __init__(
        self,
        intensity: Intensity,
        *,
        strategy: Strategy = Strategy.ONE_FOR_ONE,
        auto_shutdown: AutoShutdown = AutoShutdown.NEVER,
        concurrent_stop: bool = False,
    ) -> None:
        """Have no children yet.

        Args:
            intensity: How many restarts are tolerated; that of a group counts once.
            strategy: Who is restarted together.
            auto_shutdown: When significant children end the supervisor.
            concurrent_stop: Stop dynamic children all at once. Static ones always go one after another.
        """
        self._window = RestartWindow(intensity)
        self._strategy = strategy
        self._auto_shutdown = auto_shutdown
        self._order: StartOrder[C] = StartOrder(concurrent_stop=concurrent_stop)

    @property
    def stopping(self) -> bool:
        """Whether all children are being stopped: on request, by auto-shutdown, or because the supervisor fails."""
        return self._order.stopping

    @property
    def children(self) -> list[C]:
        """Every child that is not forgotten, in start order."""
        return list(self._order.children)

    def has(self, child: C) -> bool:
        """Whether it is a child, running or not."""
        return child in self._order.children

    @property
    def turn(self) -> C | None:
        """The child whose start that of others waits for, if there is one."""
        return self._order.turn

    @property
    def leaving(self) -> Sequence[C]:
        """Children that have to be down before anybody else starts, by their start order."""
        return self._order.leaving

    # ---- starting

    def declare(self, child: C, restart: Restart, backoff: Backoff | None = None, *, significant: bool = False) -> None:
        """Have a static child, known also after its end unless it is TEMPORARY. Before `start`, and any dynamic one.

        Raises:
            ValueError: if it is significant and its end could not stop this supervisor.
        """
        if significant:
            self._auto_shutdown.check_significant(restart)
        kept = restart is not Restart.TEMPORARY  # as in OTP, which keeps the specs of the others
        self._order.children[child] = state = Child(restart, backoff, significant, static=True, kept=kept)
        self._order.line_up(state)

    def start(self) -> list[Directive[C]]:
        """Start the static children in order, each when the one before it is ready or has ended. Once."""
        self._order.starting = True
        return self._order.advance()

    def admit(
        self, child: C, restart: Restart, backoff: Backoff | None = None, *, significant: bool = False
    ) -> list[Directive[C]]:
        """Have a dynamic child, last in order, and start it: after a group restart or start-up that is under way.

        Not while all are being stopped; the core turns new children away then.

        Raises:
            ValueError: if it is significant and its end could not stop this supervisor.
        """
        order = self._order
        if significant:
            self._auto_shutdown.check_significant(restart)
        order.children[child] = state = Child(restart, backoff, significant)
        return order.start_in_turn(state) if order.busy else order.start(child, state)

    def became_ready(self, child: C) -> list[Directive[C]]:
        """A start succeeded."""
        order = self._order
        state = order.children[child]
        state.first = state.awaited = False
        state.delay = 0.0
        return order.advance() if order.pass_turn(state) else []

    # ---- requests

    def stop(self, child: C) -> list[Directive[C]]:
        """Somebody asked for this child to stop; it stays down until `restart` or a group restart. Idempotent."""
        state = self._order.children.get(child)
        if state is None or state.phase is Phase.DOWN:
            return []
        if state.phase is Phase.WAITING:
            return self._order.finish(child, state, Exit())
        state.next = Next.DOWN
        return self._order.tell(child, state)

    def restart(self, child: C) -> list[Directive[C]]:
        """Somebody asked for this child to start again, alone and without delay; a running one is stopped first.

        Not counted towards the intensity, and a start that fails is not retried. OTP refuses a running child.

        Raises:
            ValueError: if that is not possible, saying why.
        """
        state = self._restartable(child)
        state.delay = 0.0
        if state.phase is Phase.WAITING or state.next is Next.AGAIN:
            return []  # it is about to start as it is
        state.awaited = True
        if state.phase is Phase.LIVE:
            state.next = Next.AGAIN
            return self._order.tell(child, state)
        return self._order.start_in_turn(state) if self._order.busy else self._order.start(child, state)

    def remove(self, child: C) -> list[Directive[C]]:
        """Somebody asked for this child to be forgotten; a running one is stopped first. Idempotent."""
        state = self._order.children.get(child)
        if state is None:
            return []
        if state.phase is Phase.DOWN:
            return self._order.forget(child)
        state.kept = False
        return self.stop(child)

    def stop_all(self) -> list[Directive[C]]:
        """Stop every child, in reverse order of start, one after another. Idempotent."""
        return [] if self.stopping else self._order.take_down()

    def _restartable(self, child: C) -> Child:
        state = self._order.children.get(child)
        if state is None:
            raise ValueError(f"{child!r} is not a child of this supervisor any more: spawn it again")
        if state.restart is Restart.TEMPORARY:
            raise ValueError(f"{child!r} is Restart.TEMPORARY and never restarted: stop it, and spawn another")
        if self.stopping or state.next is Next.DOWN:
            raise ValueError(f"{child!r} is being stopped: wait until it is down before it is restarted")
        return state

    # ---- exits

    def exited(self, child: C, how: Exit, now: float, chance: float) -> list[Directive[C]]:
        """An incarnation has ended.

        Args:
            child: Whose.
            how: How it ended.
            now: Time on the loop's clock, in seconds.
            chance: A random number from 0 to 1, for the jitter of a backoff.

        Returns:
            What follows; about the child itself always one `Keep` or one `Finish`.
        """
        order = self._order
        state = order.children[child]
        following, had_turn = state.next, order.pass_turn(state)
        state.next, state.told_for_good = Next.BY_TYPE, None
        if order.stopping or following is Next.DOWN or how.interrupted:
            return order.finish(child, state, how) + order.advance()
        if following is Next.AGAIN:
            in_turn = had_turn or order.busy
            return [Keep(child, how), *(order.start_in_turn(state) if in_turn else order.start(child, state))]
        if how.crash is not None and not how.was_ready and state.awaited:
            return self._start_failed(child, state, how)
        if state.restart.applies(crashed=how.crash is not None):
            return self._restart_by_type(child, state, how, now, chance)
        return self._ended_by_itself(child, state, how)

    def _start_failed(self, child: C, state: Child, how: Exit) -> list[Directive[C]]:
        """Whoever waits for the start is told: of a first one, while the supervisor itself starts, who starts that."""
        first = state.first
        finish = self._order.finish(child, state, how)
        if first and self._order.starting:  # dynamic children start later
            return [AbortStart(child, how), *finish, *self._order.take_down()]
        return finish + self._order.advance()

    def _restart_by_type(self, child: C, state: Child, how: Exit, now: float, chance: float) -> list[Directive[C]]:
        """It crashed, or is PERMANENT and returned, or its restart did not succeed."""
        if not self._window.record(now, how.crash):
            finish = self._order.finish(child, state, how)
            return [GiveUp(tuple(self._window.crashes)), *finish, *self._order.take_down()]
        state.delay = _delay(state, how, chance)
        if self._strategy is Strategy.ONE_FOR_ONE:
            return [Keep(child, how), *self._order.start(child, state)]
        self._order.line_up(state)
        group = self._strategy.affected(self.children, child)
        return [Keep(child, how), *self._claim(group), *self._order.advance()]

    def _claim(self, group: Iterable[C]) -> list[Directive[C]]:
        """Restart a group: live members are to be stopped, and those that had finished will start with them.

        The latter includes those that were stopped on request before, as in OTP. One that is still being stopped on
        request stays down.
        """
        for member in group:
            state = self._order.children[member]
            if state.phase is Phase.DOWN:
                self._order.line_up(state)
            elif state.phase is Phase.LIVE and state.next is Next.BY_TYPE:
                state.next = Next.DOWN if state.restart is Restart.TEMPORARY else Next.AGAIN
        return self._order.see_off(group)

    def _ended_by_itself(self, child: C, state: Child, how: Exit) -> list[Directive[C]]:
        finish = self._order.finish(child, state, how)
        if state.significant and self._auto_shutdown.applies(others_left=self._significant_left()):
            return [*finish, *self._order.take_down()]
        return finish + self._order.advance()

    def _significant_left(self) -> bool:
        return any(state.significant and state.phase is not Phase.DOWN for state in self._order.children.values())


def _delay(state: Child, how: Exit, chance: float) -> float:
    """Seconds until a child may start again."""
    if state.backoff is None:
        return 0.0
    if how.lived >= state.backoff.reset_after:
        state.streak = 0
    delay = state.backoff.delay(state.streak, chance)
    state.streak += 1
    return delay
