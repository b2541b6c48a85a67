"""What a supervisor decides about a single child: starting, exits, intensity, backoff, requests."""

from __future__ import annotations

import pytest

from rookery._model.directives import AbortStart, Exit, Finish, GiveUp, Keep, Start, Stop
from rookery._model.restart import Backoff, Intensity, Restart
from rookery._model.strategy import AutoShutdown, Strategy
from rookery._model.supervision import Supervision
from supervisors import CRASH, Supervisor

FAILED = Exit(CRASH, was_ready=False)


# ---- starting


def test_children_start_in_order_each_when_the_one_before_is_ready() -> None:
    """Nobody starts early, and the supervisor has started when the last one is ready."""
    supervisor = Supervisor().declare("a", "b", "c")
    assert supervisor.start() == ["start a"]
    assert supervisor.ready("a") == ["start b"]
    assert supervisor.ready("b") == ["start c"]
    assert supervisor.ready("c") == ["all ready"]


def test_a_child_that_returned_has_started() -> None:
    """Returning is becoming ready first, so the next one starts once."""
    supervisor = Supervisor().declare("a", "b")
    assert supervisor.start() == ["start a"]
    assert supervisor.ready("a") == ["start b"]
    assert supervisor.returns("a") == ["finish a"]
    assert supervisor.ready("b") == ["all ready"]


def test_a_supervisor_without_static_children_has_started_at_once() -> None:
    """There is nobody to wait for."""
    assert Supervisor().start() == ["all ready"]


def test_a_start_failure_while_the_supervisor_starts_takes_it_down() -> None:
    """Those that were started stop in reverse, the rest never starts, and the true cause is told."""
    supervisor = Supervisor().declare("a", "b", "c", "d", restart=Restart.PERMANENT)
    supervisor.start()
    supervisor.ready("a")
    supervisor.ready("b")
    decided = supervisor.model.exited("c", FAILED, 0.0, 0.5)
    assert decided == [AbortStart("c", FAILED), Finish("c", FAILED), Finish("d", Exit()), Stop("b")]
    assert supervisor.returns("b") == ["finish b", "stop a"]
    assert supervisor.returns("a") == ["finish a", "all down"]


def test_a_restart_one_for_one_does_not_wait_for_the_start_up() -> None:
    """A child that is up already comes back at once, and the start-up goes on beside it."""
    supervisor = Supervisor().declare("a", "b")
    supervisor.start()
    supervisor.ready("a")
    assert supervisor.crashes("a") == ["keep a", "start a"]
    assert supervisor.ready("b") == ["all ready"]
    assert supervisor.ready("a") == []


def test_a_restart_that_fails_during_the_start_up_is_retried() -> None:
    """Only first starts decide over the start-up."""
    supervisor = Supervisor().declare("a", "b")
    supervisor.start()
    supervisor.ready("a")
    supervisor.crashes("a")
    assert supervisor.fails_to_start("a") == ["keep a", "start a"]


@pytest.mark.parametrize("ended", [False, True])
def test_a_restart_on_request_that_fails_during_the_start_up_is_no_failure_of_that(ended: bool) -> None:
    """It takes its turn, is not retried, and whoever comes after it starts."""
    supervisor = Supervisor().declare("a", "b", "c")
    supervisor.start()
    supervisor.ready("a")
    if ended:
        supervisor.returns("a")
        assert supervisor.restart("a") == []
    else:
        assert supervisor.restart("a") == ["stop a for now"]
        assert supervisor.returns("a") == ["keep a"]
    assert supervisor.ready("b") == ["start a"]
    assert supervisor.fails_to_start("a") == ["finish a", "start c"]
    assert supervisor.ready("c") == ["all ready"]


def test_a_first_start_that_was_interrupted_by_a_request_decides_over_the_start_up() -> None:
    """It has not started yet."""
    supervisor = Supervisor().declare("a")
    supervisor.start()
    supervisor.restart("a")
    assert supervisor.returns("a") == ["keep a", "start a"]
    assert supervisor.fails_to_start("a") == ["abort for a", "finish a", "all down"]


def test_a_child_stopped_on_request_is_passed_over_by_the_start_up() -> None:
    """That is no failure, whether it was its turn or not."""
    supervisor = Supervisor().declare("a", "b", "c", "d")
    supervisor.start()
    assert supervisor.stop("b") == ["finish b"]
    assert supervisor.stop("a") == ["stop a"]
    assert supervisor.fails_to_start("a") == ["finish a", "start c"]
    assert supervisor.stop("d") == ["finish d"]
    assert supervisor.ready("c") == ["all ready"]


def test_a_dynamic_child_waits_for_the_end_of_the_start_up() -> None:
    """And the supervisor does not wait for it."""
    supervisor = Supervisor().declare("a")
    supervisor.start()
    assert supervisor.admit("x") == []
    assert supervisor.admit("y") == []
    assert supervisor.ready("a") == ["all ready", "start x"]
    assert supervisor.fails_to_start("x") == ["finish x", "forget x", "start y"]


def test_dynamic_children_start_beside_one_another() -> None:
    """Otherwise one that is slow to start would hold up every other spawn."""
    supervisor = Supervisor()
    assert supervisor.admit("x") == ["start x"]
    assert supervisor.admit("y") == ["start y"]
    assert supervisor.ready("y") == []


@pytest.mark.parametrize("restart", list(Restart))
def test_a_first_start_of_a_dynamic_child_is_not_retried(restart: Restart) -> None:
    """Its spawner is told, and it is forgotten; the supervisor lives on."""
    supervisor = Supervisor().up().having("a")
    supervisor.admit("x", restart)
    assert supervisor.fails_to_start("x") == ["finish x", "forget x"]
    assert supervisor.model.children == ["a"]


def test_a_start_failure_during_a_restart_is_a_crash() -> None:
    """It is retried, and counts towards the intensity."""
    supervisor = Supervisor(intensity=Intensity(2, per=5.0)).having("x")
    assert supervisor.crashes("x") == ["keep x", "start x"]
    assert supervisor.fails_to_start("x") == ["keep x", "start x"]
    assert supervisor.fails_to_start("x") == ["give up", "finish x", "forget x", "all down"]


@pytest.mark.parametrize(
    ("auto_shutdown", "restart"),
    [(AutoShutdown.NEVER, Restart.TRANSIENT), (AutoShutdown.ALL, Restart.PERMANENT)],
)
def test_a_significant_child_that_could_not_stop_the_supervisor_is_refused(
    auto_shutdown: AutoShutdown, restart: Restart
) -> None:
    """Static or dynamic, and it has not become a child then."""
    supervisor = Supervisor(auto_shutdown=auto_shutdown)
    with pytest.raises(ValueError, match="significant"):
        supervisor.declare("a", restart=restart, significant=True)
    with pytest.raises(ValueError, match="significant"):
        supervisor.admit("x", restart, significant=True)
    assert supervisor.model.children == []


def test_without_options_children_stand_alone() -> None:
    """None is significant, one for one, no auto-shutdown, and dynamic ones stop one after another."""
    model: Supervision[str] = Supervision(Intensity(3, per=5.0))
    model.declare("a", Restart.TRANSIENT)
    model.start()
    model.became_ready("a")
    for child in "xy":
        model.admit(child, Restart.TRANSIENT)
        model.became_ready(child)
    assert model.exited("a", Exit(CRASH), 0.0, 0.5) == [Keep("a", Exit(CRASH)), Start("a", 0.0)]
    assert model.stop_all() == [Stop("y")]


def test_it_tells_whose_start_others_wait_for() -> None:
    """Nobody's, once it is ready; and a start that nobody waits for is not told."""
    supervisor = Supervisor().declare("a", "b")
    supervisor.start()
    assert supervisor.model.turn == "a"
    supervisor.ready("a")
    assert supervisor.model.turn == "b"
    supervisor.ready("b")
    assert supervisor.model.turn is None
    supervisor.admit("x")
    assert supervisor.model.turn is None


def test_it_tells_who_is_its_child() -> None:
    """Also one that is down, until it is forgotten."""
    supervisor = Supervisor().declare("a").up()
    supervisor.returns("a")
    assert supervisor.model.has("a")
    supervisor.remove("a")
    assert not supervisor.model.has("a")


# ---- exits


@pytest.mark.parametrize("static", [True, False], ids=["static", "dynamic"])
@pytest.mark.parametrize(
    ("restart", "crashed", "again"),
    [
        (Restart.PERMANENT, False, True),
        (Restart.PERMANENT, True, True),
        (Restart.TRANSIENT, False, False),
        (Restart.TRANSIENT, True, True),
        (Restart.TEMPORARY, False, False),
        (Restart.TEMPORARY, True, False),
    ],
)
def test_the_restart_type_decides(restart: Restart, crashed: bool, again: bool, static: bool) -> None:
    """A child comes back as its restart type says; otherwise a static one is kept, a TEMPORARY or dynamic one is not."""
    supervisor = Supervisor()
    if static:
        supervisor.declare("a", restart=restart).up()
    else:
        supervisor.having("a", restart=restart)
    how = Exit(CRASH) if crashed else Exit()
    decided = supervisor.model.exited("a", how, 0.0, 0.5)
    if again:
        assert decided == [Keep("a", how), Start("a", 0.0)]
        return
    kept = static and restart is not Restart.TEMPORARY
    assert decided[0] == Finish("a", how)
    assert supervisor.model.children == (["a"] if kept else [])


def test_an_interrupted_child_is_not_restarted() -> None:
    """After a `KeyboardInterrupt` the tree goes down, from its root."""
    supervisor = Supervisor(Strategy.ONE_FOR_ALL).declare("a", "b", restart=Restart.PERMANENT).up()
    assert supervisor.exits("a", Exit(CRASH, interrupted=True)) == ["finish a"]


def test_giving_up_tells_the_crashes_in_the_window() -> None:
    """The restart that is one too many included, a mere return not, and what is long past neither."""
    errors = [ValueError(number) for number in range(4)]
    model: Supervision[str] = Supervision(Intensity(2, per=5.0))
    model.admit("a", Restart.PERMANENT)
    model.became_ready("a")
    for now, error in ((0.0, errors[0]), (6.0, errors[1]), (7.0, None)):
        assert model.exited("a", Exit(error), now, 0.5) == [Keep("a", Exit(error)), Start("a", 0.0)]
    decided = model.exited("a", Exit(errors[3]), 11.0, 0.5)
    assert decided[:2] == [GiveUp((errors[1], errors[3])), Finish("a", Exit(errors[3]))]


def test_giving_up_stops_the_others_in_reverse() -> None:
    """The one that was too much is down, then the rest go one after another, the last first."""
    supervisor = Supervisor(intensity=Intensity(0, per=5.0)).declare("a", "b", "c").up().having("x")
    assert supervisor.crashes("b") == ["give up", "finish b", "stop x"]
    assert supervisor.returns("x") == ["finish x", "forget x", "stop c"]
    assert supervisor.crashes("c") == ["finish c", "stop a"]
    assert supervisor.returns("a") == ["finish a", "all down"]


# ---- backoff


def test_a_backoff_grows_and_is_reset_by_a_stable_life() -> None:
    """Each restart waits longer, until an incarnation lived for ``reset_after``."""
    backoff = Backoff(1.0, jitter=0.0, maximum=5.0, reset_after=10.0)
    supervisor = Supervisor(intensity=Intensity(100, per=1.0)).having("a", backoff=backoff)
    lives = [0.0, 9.9, 0.0, 0.0, 10.0, 0.0]
    expected = [["keep a", f"start a in {delay}"] for delay in (1.0, 2.0, 4.0, 5.0, 1.0, 2.0)]
    assert expected == [supervisor.crashes("a", lived=lived) for lived in lives]


def test_a_delay_is_jittered_by_chance() -> None:
    """Chance is an argument: 0 is the shortest delay, 1 the longest."""
    model: Supervision[str] = Supervision(Intensity(3, per=5.0))
    model.admit("a", Restart.TRANSIENT, Backoff(1.0, factor=1.0, jitter=0.5))
    model.became_ready("a")
    assert [model.exited("a", Exit(CRASH), 0.0, chance)[1] for chance in (0.0, 1.0)] == [
        Start("a", 0.5),
        Start("a", 1.5),
    ]


def test_a_backoff_does_not_delay_others() -> None:
    """While one waits, others restart, start, stop."""
    supervisor = Supervisor().having("a", backoff=Backoff(9.0, jitter=0.0)).having("b", "c")
    assert supervisor.crashes("a") == ["keep a", "start a in 9.0"]
    assert supervisor.crashes("b") == ["keep b", "start b"]
    assert supervisor.admit("d") == ["start d"]
    assert supervisor.stop("c") == ["stop c"]


def test_a_stop_ends_a_backoff() -> None:
    """The child is told at once, and does not come back."""
    supervisor = Supervisor().having("a", backoff=Backoff(9.0, jitter=0.0))
    supervisor.crashes("a")
    assert supervisor.stop("a") == ["stop a"]
    assert supervisor.returns("a") == ["finish a", "forget a"]


# ---- requests


@pytest.mark.parametrize("restart", list(Restart))
def test_what_was_asked_to_stop_stays_down(restart: Restart) -> None:
    """Not even a PERMANENT child restarts after a stop, also when its cleanup crashes; asking again changes nothing."""
    supervisor = Supervisor().having("a", restart=restart)
    assert supervisor.stop("a") == ["stop a"]
    assert supervisor.stop("a") == []
    assert supervisor.crashes("a") == ["finish a", "forget a"]
    assert supervisor.stop("a") == []


def test_a_static_child_that_was_stopped_can_be_started_again() -> None:
    """It is kept after its end; the new life is one like any other."""
    supervisor = Supervisor().declare("a", "b").up()
    supervisor.stop("a")
    assert supervisor.returns("a") == ["finish a"]
    assert supervisor.stop("a") == []
    assert supervisor.restart("a") == ["start a"]
    assert supervisor.model.children == ["a", "b"]
    supervisor.ready("a")
    assert supervisor.crashes("a") == ["keep a", "start a"]


def test_a_new_life_has_no_past() -> None:
    """After a stop its backoff starts over."""
    supervisor = Supervisor().declare("a", backoff=Backoff(1.0, jitter=0.0)).up()
    assert supervisor.crashes("a") == ["keep a", "start a in 1.0"]
    supervisor.stop("a")
    supervisor.returns("a")
    assert supervisor.restart("a") == ["start a"]
    supervisor.ready("a")
    assert supervisor.crashes("a") == ["keep a", "start a in 1.0"]


@pytest.mark.parametrize("strategy", list(Strategy))
def test_a_running_child_is_restarted_on_request_alone(strategy: Strategy) -> None:
    """It is stopped for now and comes back, without its siblings and without counting, however its cleanup ends."""
    supervisor = Supervisor(strategy, intensity=Intensity(0, per=5.0)).declare("a", "b", "c").up()
    assert supervisor.restart("b") == ["stop b for now"]
    assert supervisor.restart("b") == []
    assert supervisor.crashes("b") == ["keep b", "start b"]
    assert supervisor.ready("b") == []
    assert supervisor.model.exited("b", Exit(CRASH), 0.0, 0.5)[0] == GiveUp((CRASH,))


def test_a_restart_on_request_that_fails_is_not_retried() -> None:
    """Whoever asked is told, and the child is down; what it was before does not matter."""
    supervisor = Supervisor().declare("a").up().having("x")
    for child, end in (("a", ["finish a"]), ("x", ["finish x", "forget x"])):
        supervisor.restart(child)
        supervisor.returns(child)
        assert end == supervisor.fails_to_start(child)


def test_a_restart_on_request_ends_a_backoff() -> None:
    """It starts at once."""
    supervisor = Supervisor().having("a", backoff=Backoff(9.0, jitter=0.0))
    supervisor.crashes("a")
    assert supervisor.restart("a") == ["stop a for now"]
    assert supervisor.returns("a") == ["keep a", "start a"]


def test_a_restart_on_request_keeps_the_order_of_a_start_up() -> None:
    """The next one starts when that one is ready again."""
    supervisor = Supervisor().declare("a", "b").up()
    fresh = Supervisor().declare("a", "b")
    fresh.start()
    assert fresh.restart("b") == []
    assert fresh.restart("a") == ["stop a for now"]
    assert fresh.returns("a") == ["keep a", "start a"]
    assert fresh.ready("a") == ["start b"]
    assert supervisor.restart("a") == ["stop a for now"]


def test_a_stop_turns_a_restart_on_request_into_a_stop() -> None:
    """The child is told a second time, because its mailbox closes now."""
    supervisor = Supervisor().declare("a").up()
    supervisor.restart("a")
    assert supervisor.stop("a") == ["stop a"]
    assert supervisor.returns("a") == ["finish a"]


def test_a_restart_that_is_impossible_is_refused_with_the_reason() -> None:
    """No child, TEMPORARY, being stopped, all being stopped."""
    supervisor = Supervisor().declare("a", "b", "c").declare("t", restart=Restart.TEMPORARY).up()
    with pytest.raises(ValueError, match="'z' is not a child"):
        supervisor.restart("z")
    with pytest.raises(ValueError, match=r"'t' is Restart\.TEMPORARY"):
        supervisor.restart("t")
    supervisor.stop("a")
    with pytest.raises(ValueError, match="'a' is being stopped"):
        supervisor.restart("a")
    supervisor.stop_all()
    with pytest.raises(ValueError, match="'b' is being stopped"):
        supervisor.restart("b")


def test_a_removed_child_is_stopped_and_forgotten() -> None:
    """At once if it is down, else at its end; doing it twice changes nothing."""
    supervisor = Supervisor().declare("a", "b").up()
    assert supervisor.remove("a") == ["stop a"]
    assert supervisor.remove("a") == []
    assert supervisor.returns("a") == ["finish a", "forget a"]
    supervisor.returns("b")
    assert supervisor.remove("b") == ["forget b"]
    assert supervisor.remove("b") == []
    assert supervisor.model.children == []


def test_a_child_that_waits_for_its_turn_can_be_removed() -> None:
    """It never starts."""
    supervisor = Supervisor().declare("a", "b")
    supervisor.start()
    assert supervisor.remove("b") == ["finish b", "forget b"]
    assert supervisor.ready("a") == ["all ready"]
