"""What a supervisor decides, against an independent and naive model."""

from __future__ import annotations

from itertools import count
from typing import Any

import attrs
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rookery._model.restart import Backoff, Intensity, Restart
from rookery._model.supervision import AllDown, Exit, Forget, GiveUp, Start, Stop, Supervision

CRASH = ValueError("crash")


def running(*children: str, restart: Restart = Restart.TRANSIENT, intensity: Intensity | None = None) -> Any:
    """A supervisor whose children are all ready."""
    supervision: Supervision[str] = Supervision(intensity or Intensity(3, per=5.0))
    for child in children:
        supervision.admit(child, restart, None)
        supervision.became_ready(child)
    return supervision


def exited(supervision: Any, child: str, how: Exit, *, now: float = 0.0, chance: float = 0.5) -> list[Any]:
    """What the supervisor decides about an exit."""
    return supervision.exited(child, how, now, chance)


@pytest.mark.parametrize(
    ("restart", "how", "again"),
    [
        (Restart.PERMANENT, Exit(), True),
        (Restart.PERMANENT, Exit(CRASH), True),
        (Restart.TRANSIENT, Exit(), False),
        (Restart.TRANSIENT, Exit(CRASH), True),
        (Restart.TEMPORARY, Exit(), False),
        (Restart.TEMPORARY, Exit(CRASH), False),
    ],
)
def test_the_restart_type_decides(restart: Restart, how: Exit, again: bool) -> None:
    """A child comes back as its restart type says, and is forgotten otherwise."""
    expected = [Start("a", 0.0)] if again else [Forget("a", how)]
    assert expected == exited(running("a", restart=restart), "a", how)


@pytest.mark.parametrize("restart", list(Restart))
def test_what_was_asked_to_stop_stays_down(restart: Restart) -> None:
    """Not even a PERMANENT child restarts after a stop, also when its cleanup crashes."""
    supervision = running("a", restart=restart)
    assert supervision.stop("a") == [Stop("a")]
    assert supervision.stop("a") == []
    assert exited(supervision, "a", Exit(CRASH)) == [Forget("a", Exit(CRASH))]
    assert supervision.stop("a") == []


def test_the_first_start_is_not_retried() -> None:
    """Its spawner is told; a start that fails after one that succeeded is a crash like any other."""
    failed = Exit(CRASH, was_ready=False)
    supervision: Supervision[str] = Supervision(Intensity(3, per=5.0))
    supervision.admit("a", Restart.PERMANENT, None)
    assert exited(supervision, "a", failed) == [Forget("a", failed)]
    supervision.admit("a", Restart.PERMANENT, None)
    supervision.became_ready("a")
    assert exited(supervision, "a", Exit(CRASH)) == [Start("a", 0.0)]
    assert exited(supervision, "a", failed) == [Start("a", 0.0)]


def test_start_failures_count_towards_the_intensity() -> None:
    """A restart whose start fails again and again ends in giving up."""
    supervision = running("a", intensity=Intensity(1, per=5.0))
    exited(supervision, "a", Exit(CRASH))
    failed = Exit(CRASH, was_ready=False)
    assert exited(supervision, "a", failed) == [GiveUp((CRASH, CRASH)), Forget("a", failed), AllDown()]


def test_an_interrupted_child_is_not_restarted() -> None:
    """After a `KeyboardInterrupt` the tree goes down."""
    how = Exit(interrupted=True)
    assert exited(running("a", restart=Restart.PERMANENT), "a", how) == [Forget("a", how)]


def test_giving_up_stops_the_others_in_reverse() -> None:
    """The one that was too much is forgotten, then the rest go one after another, the last first."""
    supervision = running("a", "b", "c", intensity=Intensity(0, per=5.0))
    assert exited(supervision, "b", Exit(CRASH)) == [GiveUp((CRASH,)), Forget("b", Exit(CRASH)), Stop("c")]
    assert exited(supervision, "c", Exit()) == [Forget("c", Exit()), Stop("a")]
    assert exited(supervision, "a", Exit()) == [Forget("a", Exit()), AllDown()]


def test_what_crashes_while_all_stop_is_not_restarted() -> None:
    """A stop of everything is final, and a crash on the way changes nothing about the order."""
    supervision = running("a", "b", "c", restart=Restart.PERMANENT)
    assert supervision.stop_all() == [Stop("c")]
    assert exited(supervision, "a", Exit(CRASH)) == [Forget("a", Exit(CRASH))]
    assert exited(supervision, "c", Exit()) == [Forget("c", Exit()), Stop("b")]
    assert supervision.stop_all() == []


def test_stopping_nobody_is_done_at_once() -> None:
    """A supervisor without children is down when it is told to stop, once."""
    supervision = running()
    assert supervision.stop_all() == [AllDown()]
    assert supervision.stop_all() == []


def test_a_restarted_child_keeps_its_place() -> None:
    """Stop order is that of the first start, whoever has restarted since."""
    supervision = running("a", "b")
    exited(supervision, "a", Exit(CRASH))
    assert supervision.children == ["a", "b"]
    assert supervision.stop_all() == [Stop("b")]


def test_a_backoff_grows_and_is_reset_by_a_stable_life() -> None:
    """Each restart waits longer, until an incarnation lived for ``reset_after``."""
    supervision: Supervision[str] = Supervision(Intensity(100, per=1.0))
    supervision.admit("a", Restart.TRANSIENT, Backoff(1.0, jitter=0.0, maximum=5.0, reset_after=10.0))
    supervision.became_ready("a")
    lives = [0.0, 9.9, 0.0, 0.0, 10.0, 0.0]
    expected = [[Start("a", delay)] for delay in (1.0, 2.0, 4.0, 5.0, 1.0, 2.0)]
    assert expected == [exited(supervision, "a", Exit(CRASH, lived)) for lived in lives]


@attrs.define
class NaiveChild:
    """What the naive model knows of a child."""

    restart: Restart
    backoff: Backoff | None
    ever_ready: bool = False
    asked_to_stop: bool = False
    unstable_restarts: int = 0


class SupervisionMachine(RuleBasedStateMachine):
    """Everything that can happen to a supervisor, in any order.

    The naive model keeps all restarts for ever and counts anew each time; it knows who was asked to stop, and
    derives from that who has to be asked next.
    """

    INTENSITY = Intensity(2, per=5.0)

    def __init__(self) -> None:
        super().__init__()
        self.supervision: Supervision[int] = Supervision(self.INTENSITY)
        self.naive: dict[int, NaiveChild] = {}
        self.now = 0.0
        self.restarts: list[tuple[float, Exception | None]] = []
        self.numbers = count()
        self.going_down = False
        self.forgotten: list[int] = []
        self.admitted: list[int] = []
        self.all_down = 0

    @rule(seconds=st.integers(0, 6))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds

    @precondition(lambda self: not self.going_down and len(self.naive) < 5)
    @rule(restart=st.sampled_from(Restart), backoff=st.none() | st.just(Backoff(1.0, reset_after=3.0)))
    def admit(self, restart: Restart, backoff: Backoff | None) -> None:
        child = next(self.numbers)
        self.naive[child] = NaiveChild(restart, backoff)
        self.admitted.append(child)
        self.supervision.admit(child, restart, backoff)

    @precondition(lambda self: self.naive)
    @rule(data=st.data())
    def ready(self, data: st.DataObject) -> None:
        child = data.draw(st.sampled_from(sorted(self.naive)))
        self.naive[child].ever_ready = True
        self.supervision.became_ready(child)

    @precondition(lambda self: self.naive)
    @rule(data=st.data())
    def stop(self, data: st.DataObject) -> None:
        child = data.draw(st.sampled_from(sorted(self.naive)))
        expected = [] if self.naive[child].asked_to_stop else [Stop(child)]
        self.naive[child].asked_to_stop = True
        assert expected == self.supervision.stop(child)

    @rule()
    def stop_all(self) -> None:
        expected: list[Any] = [] if self.going_down else self._next_to_go()
        assert expected == self.supervision.stop_all()

    @precondition(lambda self: self.naive)
    @rule(
        data=st.data(),
        crashed=st.booleans(),
        lived=st.integers(0, 5),
        was_ready=st.booleans(),
        interrupted=st.integers(0, 9).map(lambda number: number == 0),
        chance=st.floats(0, 1),
    )
    def exit(
        self, data: st.DataObject, crashed: bool, lived: int, was_ready: bool, interrupted: bool, chance: float
    ) -> None:
        number = data.draw(st.sampled_from(sorted(self.naive)))
        child = self.naive[number]
        crash = ValueError(number) if crashed else None
        how = Exit(crash, lived, was_ready=was_ready or not crashed, interrupted=interrupted)
        child.ever_ready |= how.was_ready
        if how.was_ready:
            self.supervision.became_ready(number)
        decided = self.supervision.exited(number, how, self.now, chance)

        wanted = child.restart is Restart.PERMANENT or (crashed and child.restart is Restart.TRANSIENT)
        barred = self.going_down or child.asked_to_stop or interrupted or not child.ever_ready
        if barred or not wanted:
            assert self._forgotten(number, how) == decided
            return
        self.restarts.append((self.now, crash))
        recent = [what for when, what in self.restarts if when >= self.now - self.INTENSITY.per]
        if len(recent) > self.INTENSITY.max_restarts:
            self.going_down = True
            crashes = tuple(what for what in recent if what is not None)
            assert [GiveUp(crashes), *self._forgotten(number, how)] == decided
            return
        assert [Start(number, self._delay(child, lived, chance))] == decided

    @invariant()
    def knows_its_children(self) -> None:
        assert list(self.naive) == self.supervision.children
        assert self.going_down == self.supervision.stopping

    @invariant()
    def forgets_each_child_once(self) -> None:
        assert sorted([*self.naive, *self.forgotten]) == self.admitted

    @invariant()
    def is_down_once_and_only_without_children(self) -> None:
        assert self.all_down == (1 if self.going_down and not self.naive else 0)

    def teardown(self) -> None:
        """From wherever the machine came, stopping everything ends, in reverse order."""
        decided = self.supervision.stop_all()
        stopped: list[int] = []
        asked = [child for child in self.naive if self.naive[child].asked_to_stop]
        while not any(isinstance(directive, AllDown) for directive in decided) and self.supervision.children:
            stopped += [directive.child for directive in decided if isinstance(directive, Stop)]
            assert len(stopped) <= 1 or stopped[-1] < stopped[-2]
            last = self.supervision.children[-1]
            decided = self.supervision.exited(last, Exit(), self.now, 0.5)
        assert not self.supervision.children
        assert not set(stopped) & set(asked)

    def _forgotten(self, number: int, how: Exit) -> list[Any]:
        del self.naive[number]
        self.forgotten.append(number)
        return [Forget(number, how), *(self._next_to_go() if self.going_down else [])]

    def _next_to_go(self) -> list[Any]:
        self.going_down = True
        if not self.naive:
            self.all_down += 1
            return [AllDown()]
        last = max(self.naive)
        if self.naive[last].asked_to_stop:
            return []  # its exit is the next event of it
        self.naive[last].asked_to_stop = True
        return [Stop(last)]

    def _delay(self, child: NaiveChild, lived: int, chance: float) -> float:
        if child.backoff is None:
            return 0.0
        if lived >= child.backoff.reset_after:
            child.unstable_restarts = 0
        child.unstable_restarts += 1
        return child.backoff.delay(child.unstable_restarts - 1, chance)


TestSupervisionMachine = SupervisionMachine.TestCase
