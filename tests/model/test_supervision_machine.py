"""Everything that can happen to a supervisor, in any order, against an independent and naive model."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from naive_supervision import NaiveSupervisor
from rookery._model.directives import AllDown, AllReady, Exit, Finish, Forget, Keep, Start, Stop
from rookery._model.restart import Backoff, Intensity, Restart
from rookery._model.strategy import AutoShutdown, Strategy
from rookery._model.supervision import Supervision

ONE_IN_EIGHT = st.integers(0, 7).map(lambda number: number == 0)
CHILD = st.tuples(
    st.sampled_from(Restart),
    st.none() | st.just(Backoff(1.0, reset_after=3.0)),
    st.booleans(),
)
TERMS = st.tuples(
    st.builds(Intensity, st.integers(0, 5), st.just(5.0)),
    st.sampled_from(Strategy),
    st.sampled_from(AutoShutdown),
    st.booleans(),
)


class World:
    """What becomes of children when directives are carried out; knows no rules but that each must make sense."""

    def __init__(self, *, concurrent_stop: bool) -> None:
        self.concurrent_stop = concurrent_stop
        self.static: set[int] = set()
        self.known: list[int] = []  # in start order
        self.pending: set[int] = set()  # will start
        self.live: dict[int, bool] = {}  # whether it is ready
        self.told: dict[int, bool] = {}  # live and told to stop, and whether for good
        self.told_in_order: set[int] = set()
        self.lives: dict[int, int] = {}
        self.ready = False
        self.down = False

    def have(self, child: int, *, static: bool) -> None:
        self.known.append(child)
        self.pending.add(child)
        if static:
            self.static.add(child)

    def carry_out(self, directives: list[Any], *, requested: int | None = None) -> None:
        for directive in directives:
            assert not self.down or isinstance(directive, Forget)
            match directive:
                case Start(child):
                    assert child in self.known
                    assert child not in self.live
                    self.pending.discard(child)
                    self.live[child] = False
                    self.lives[child] = self.lives.get(child, 0) + 1
                case Stop(child, for_good):
                    self._stop(child, for_good, requested)
                case Keep(child):
                    assert child not in self.live
                    self.pending.add(child)
                case Finish(child):
                    assert child not in self.live
                    self.pending.discard(child)
                case Forget(child):
                    assert child not in self.live
                    self.known.remove(child)
                case AllReady():
                    assert not self.ready
                    assert not self.static & self.pending
                    self.ready = True
                case AllDown():
                    assert not self.live
                    assert not self.pending
                    self.down = True

    def _stop(self, child: int, for_good: bool, requested: int | None) -> None:
        assert child in self.live
        assert child not in self.told or (for_good and not self.told[child])
        self.told[child] = for_good
        if child == requested:
            return
        self.told_in_order.add(child)
        later = {other for other in self.live if other > child}
        assert not later or (self.concurrent_stop and not self.static & {child, *later})
        assert self.concurrent_stop or len(self.told_in_order) == 1

    def leave(self, child: int) -> None:
        del self.live[child]
        self.told.pop(child, None)
        self.told_in_order.discard(child)


class SupervisionMachine(RuleBasedStateMachine):
    """The model and the naive one are told the same, and must answer the same."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.numbers = count()
        self.temporary: set[int] = set()

    @initialize(terms=TERMS, statics=st.lists(CHILD, max_size=5), all_up=st.booleans())
    def start(self, terms: Any, statics: list[Any], all_up: bool) -> None:
        intensity, self.strategy, self.auto_shutdown, concurrent_stop = terms
        self.model: Supervision[int] = Supervision(
            intensity, strategy=self.strategy, auto_shutdown=self.auto_shutdown, concurrent_stop=concurrent_stop
        )
        self.naive = NaiveSupervisor(intensity, self.strategy, self.auto_shutdown, concurrent_stop)
        self.world = World(concurrent_stop=concurrent_stop)
        for static in statics:
            child, restart, backoff, significant = self._new(*static)
            self.model.declare(child, restart, backoff, significant=significant)
            self.naive.declare(child, restart, backoff, significant)
            self.world.have(child, static=True)
        self._same(self.model.start(), self.naive.start())
        if all_up:
            self._all_become_ready()

    @precondition(lambda self: self.world.down)
    @rule(terms=TERMS, statics=st.lists(CHILD, min_size=3, max_size=5))
    def start_another(self, terms: Any, statics: list[Any]) -> None:
        """A supervisor that is down stays so; there is more to see in a new one."""
        self.start(terms, statics, all_up=True)

    @precondition(lambda self: not self.model.stopping and len(self.world.known) < 8)
    @rule(dynamic=CHILD)
    def admit(self, dynamic: Any) -> None:
        child, restart, backoff, significant = self._new(*dynamic)
        self.world.have(child, static=False)
        decided = self.model.admit(child, restart, backoff, significant=significant)
        self._same(decided, self.naive.admit(child, restart, backoff, significant))

    @precondition(lambda self: not all(self.world.live.values()))
    @rule(data=st.data())
    def ready(self, data: st.DataObject) -> None:
        self._becomes_ready(data.draw(st.sampled_from(self._starting())))

    @precondition(lambda self: not all(self.world.live.values()))
    @rule()
    def all_are_ready(self) -> None:
        self._all_become_ready()

    @precondition(lambda self: self.world.live)
    @rule(data=st.data(), passed=st.integers(0, 4), lived=st.integers(0, 5), chance=st.floats(0, 1))
    def crash(self, data: st.DataObject, passed: int, lived: int, chance: float) -> None:
        """Also of a child that is starting, or stopping."""
        self.now += passed
        child = data.draw(st.sampled_from(sorted(self.world.live)))
        self._exits(child, Exit(ValueError(child), lived, self.world.live[child]), chance)

    @precondition(lambda self: self.world.live)
    @rule(data=st.data(), passed=st.integers(0, 4), interrupted=ONE_IN_EIGHT)
    def end(self, data: st.DataObject, passed: int, interrupted: bool) -> None:
        """What returns, and was not told to stop, has started."""
        self.now += passed
        child = data.draw(st.sampled_from(sorted(self.world.live)))
        if not (interrupted or self.world.live[child] or child in self.world.told):
            self._becomes_ready(child)
        self._exits(child, Exit(None, passed, self.world.live[child], interrupted), 0.5)

    @precondition(lambda self: self.world.told)
    @rule()
    def all_told_to_stop_end(self) -> None:
        """One after another, until nobody is stopping."""
        while self.world.told:
            child = next(iter(self.world.told))
            self._exits(child, Exit(None, 1.0, self.world.live[child]), 0.5)

    @precondition(lambda self: self.world.known)
    @rule(data=st.data(), what=st.sampled_from(["stop", "restart", "remove"]))
    def request(self, data: st.DataObject, what: str) -> None:
        """Of a child, or of one that is none any more."""
        child = data.draw(st.sampled_from([*self.world.known, -1]))
        if what == "restart" and self.naive.refuses_restart(child):
            with pytest.raises(ValueError, match=str(child)):
                self.model.restart(child)
        else:
            decided = getattr(self.model, what)(child)
            self._same(decided, getattr(self.naive, what)(child), requested=child)

    @rule(seldom=ONE_IN_EIGHT)
    def stop_all(self, seldom: bool) -> None:
        if seldom:
            decided = self.model.stop_all()
            self._same(decided, [] if self.naive.going_down else self.naive.stop_all())

    @invariant()
    def they_know_the_same_children(self) -> None:
        if hasattr(self, "model"):
            assert self.model.children == self.world.known == [child.key for child in self.naive.family]
            assert self.model.stopping == self.naive.going_down

    @invariant()
    def temporary_children_live_once(self) -> None:
        assert all(self.world.lives.get(child, 0) <= 1 for child in self.temporary)

    @invariant()
    def nobody_is_left_waiting_for_nobody(self) -> None:
        """Whoever is to start waits for a live child, or starts at once."""
        if hasattr(self, "model"):
            assert not self.world.pending or self.world.live
            assert not self.model.stopping or self.world.down or self.world.told

    def teardown(self) -> None:
        """From wherever the machine came, stopping everything ends."""
        if not hasattr(self, "model"):
            return
        if not self.model.stopping:
            self._same(self.model.stop_all(), self.naive.stop_all())
        while self.world.live:
            self._exits(max(self.world.live), Exit(), 0.5)
        assert self.world.down

    def _new(self, restart: Restart, backoff: Backoff | None, significant: bool) -> tuple[int, Any, Any, bool]:
        child = next(self.numbers)
        if restart is Restart.TEMPORARY:
            self.temporary.add(child)
        refused = self.auto_shutdown is AutoShutdown.NEVER or restart is Restart.PERMANENT
        return child, restart, backoff, significant and not refused

    def _starting(self) -> list[int]:
        return [child for child, ready in self.world.live.items() if not ready]

    def _all_become_ready(self) -> None:
        """One after another, until nobody is starting."""
        while starting := self._starting():
            self._becomes_ready(starting[0])

    def _becomes_ready(self, child: int) -> None:
        self.world.live[child] = True
        self._same(self.model.became_ready(child), self.naive.became_ready(child))

    def _exits(self, child: int, how: Exit, chance: float) -> None:
        self.world.leave(child)
        decided = self.model.exited(child, how, self.now, chance)
        about = [told for told in decided if isinstance(told, Keep | Finish) and told.child == child]
        assert len(about) == 1
        assert about[0].how == how
        self._same(decided, self.naive.exited(child, how, self.now, chance))

    def _same(self, decided: list[Any], expected: list[Any], *, requested: int | None = None) -> None:
        assert expected == decided
        if self.model.stopping:
            assert not any(isinstance(told, Start | AllReady) for told in decided)
        if self.strategy is not Strategy.ONE_FOR_ONE:
            self._in_order(decided)
        self.world.carry_out(decided, requested=requested)

    def _in_order(self, decided: list[Any]) -> None:
        """Nobody overtakes one that waits."""
        kept = {told.child for told in decided if isinstance(told, Keep)}
        finished = {told.child for told in decided if isinstance(told, Finish)}
        for told in decided:
            if isinstance(told, Start):
                assert not any(other < told.child for other in (self.world.pending | kept) - finished)


TestSupervisionMachine = SupervisionMachine.TestCase
