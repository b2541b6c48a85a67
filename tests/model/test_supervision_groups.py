"""What a supervisor decides about many children: group restarts, auto-shutdown, stopping."""

from __future__ import annotations

import pytest

from rookery._model.directives import Exit, GiveUp
from rookery._model.restart import Backoff, Intensity, Restart
from rookery._model.strategy import AutoShutdown, Strategy
from supervisors import CRASH, Supervisor


def one_for_all(*, intensity: Intensity | None = None) -> Supervisor:
    """Three children, each depending on all."""
    return Supervisor(Strategy.ONE_FOR_ALL, intensity=intensity).declare("a", "b", "c").up()


def rest_for_one() -> Supervisor:
    """Four children, each depending on those before it."""
    return Supervisor(Strategy.REST_FOR_ONE).declare("a", "b", "c", "d").up()


# ---- group restarts


def test_one_for_all_stops_all_in_reverse_then_starts_all_in_order() -> None:
    """One at a time in both directions."""
    supervisor = one_for_all()
    assert supervisor.crashes("b") == ["keep b", "stop c for now"]
    assert supervisor.returns("c") == ["keep c", "stop a for now"]
    assert supervisor.returns("a") == ["keep a", "start a"]
    assert supervisor.ready("a") == ["start b"]
    assert supervisor.ready("b") == ["start c"]
    assert supervisor.ready("c") == []


def test_rest_for_one_leaves_those_before_alone() -> None:
    """The child and those after it are stopped in reverse and started in order."""
    supervisor = rest_for_one()
    assert supervisor.crashes("b") == ["keep b", "stop d for now"]
    assert supervisor.returns("d") == ["keep d", "stop c for now"]
    assert supervisor.returns("c") == ["keep c", "start b"]
    assert supervisor.ready("b") == ["start c"]
    assert supervisor.ready("c") == ["start d"]
    assert supervisor.ready("d") == []


def test_dynamic_children_belong_to_the_group() -> None:
    """They are the last in order, and live on with it."""
    supervisor = one_for_all().having("x")
    assert supervisor.crashes("b") == ["keep b", "stop x for now"]
    assert supervisor.returns("x") == ["keep x", "stop c for now"]


def test_a_group_restart_counts_once() -> None:
    """However many it concerns; the next one is a second."""
    supervisor = one_for_all(intensity=Intensity(1, per=5.0))
    supervisor.crashes("c")
    supervisor.crashes("b")  # before its turn to be stopped
    supervisor.crashes("a")  # told to stop
    for child in "abc":
        supervisor.ready(child)
    assert supervisor.model.exited("a", Exit(CRASH), 0.0, 0.5)[0] == GiveUp((CRASH, CRASH))


def test_children_that_had_finished_start_again_with_the_group() -> None:
    """Those that returned, and those that were stopped on request, as in OTP."""
    supervisor = one_for_all()
    supervisor.returns("a")
    supervisor.stop("c")
    supervisor.returns("c")
    assert supervisor.crashes("b") == ["keep b", "start a"]
    assert supervisor.ready("a") == ["start b"]
    assert supervisor.ready("b") == ["start c"]


def test_a_child_that_the_group_brings_back_is_retried() -> None:
    """Nobody asked for it to start again, so nobody but its supervisor can answer a failure of that."""
    supervisor = one_for_all()
    supervisor.returns("a")
    supervisor.crashes("b")
    assert supervisor.returns("c") == ["keep c", "start a"]
    assert supervisor.fails_to_start("a") == ["keep a", "start a"]


def test_it_tells_who_has_to_be_down_before_anybody_starts() -> None:
    """The group, in start order, as long as somebody of it is not."""
    supervisor = rest_for_one()
    assert list(supervisor.model.leaving) == []
    supervisor.crashes("b")
    assert list(supervisor.model.leaving) == ["b", "c", "d"]
    supervisor.returns("d")
    assert list(supervisor.model.leaving) == ["b", "c"]
    assert supervisor.returns("c") == ["keep c", "start b"]
    assert list(supervisor.model.leaving) == []


def test_a_temporary_child_that_a_sibling_stops_is_not_restarted() -> None:
    """It is told that this is for good, and forgotten, also if it crashes or returns before its turn."""
    supervisor = Supervisor(Strategy.ONE_FOR_ALL).declare("a").declare("s", "t", restart=Restart.TEMPORARY).up()
    assert supervisor.crashes("a") == ["keep a", "stop t"]
    assert supervisor.crashes("s") == ["finish s", "forget s"]
    assert supervisor.returns("t") == ["finish t", "forget t", "start a"]
    assert supervisor.ready("a") == []


def test_a_temporary_child_never_restarts_but_does_start() -> None:
    """A group restart in the middle of a start-up has not ended those that never ran."""
    supervisor = Supervisor(Strategy.ONE_FOR_ALL).declare("a").declare("t", restart=Restart.TEMPORARY).declare("b")
    supervisor.start()
    assert supervisor.ready("a") == ["start t"]
    assert supervisor.crashes("a") == ["keep a", "stop t"]
    assert supervisor.returns("t") == ["finish t", "forget t", "start a"]
    assert supervisor.ready("a") == ["start b"]
    early = Supervisor(Strategy.ONE_FOR_ALL).declare("a", "b").declare("t", restart=Restart.TEMPORARY)
    early.start()
    early.ready("a")
    assert early.crashes("a") == ["keep a", "stop b for now"]
    assert early.returns("b") == ["keep b", "start a"]
    assert early.ready("a") == ["start b"]
    assert early.ready("b") == ["start t"]
    assert early.ready("t") == ["all ready"]


def test_a_crash_of_the_whole_group_s_first_member_widens_the_restart() -> None:
    """Rest for one: one that is before the group takes those in between along, and counts once more."""
    supervisor = rest_for_one()
    assert supervisor.crashes("c") == ["keep c", "stop d for now"]
    assert supervisor.crashes("a") == ["keep a"]
    assert supervisor.returns("d") == ["keep d", "stop b for now"]
    assert supervisor.returns("b") == ["keep b", "start a"]
    assert [supervisor.ready(child) for child in "abcd"] == [["start b"], ["start c"], ["start d"], []]


def test_a_crash_while_the_group_starts_begins_it_anew() -> None:
    """Those that are up, and the one that is starting, are stopped in reverse first."""
    supervisor = one_for_all()
    supervisor.crashes("c")
    supervisor.returns("b")
    supervisor.returns("a")
    assert supervisor.ready("a") == ["start b"]
    assert supervisor.crashes("a") == ["keep a", "stop b for now"]
    assert supervisor.fails_to_start("b") == ["keep b", "start a"]


def test_a_start_failure_in_a_group_restart_is_a_crash() -> None:
    """It takes those along that its strategy says, and counts towards the intensity."""
    supervisor = Supervisor(Strategy.REST_FOR_ONE, intensity=Intensity(2, per=5.0)).declare("a", "b", "c").up()
    supervisor.crashes("a")
    supervisor.returns("c")
    assert supervisor.returns("b") == ["keep b", "start a"]
    assert supervisor.ready("a") == ["start b"]
    assert supervisor.fails_to_start("b") == ["keep b", "start b"]
    assert supervisor.fails_to_start("b") == ["give up", "finish b", "finish c", "stop a"]


def test_a_backoff_delays_the_crashed_child_in_its_turn() -> None:
    """The siblings stop at once; those before it start at once, those after it when it is ready."""
    supervisor = Supervisor(Strategy.ONE_FOR_ALL).declare("a").declare("b", backoff=Backoff(3.0, jitter=0.0))
    supervisor.declare("c").up()
    assert supervisor.crashes("b") == ["keep b", "stop c for now"]
    assert supervisor.returns("c") == ["keep c", "stop a for now"]
    assert supervisor.returns("a") == ["keep a", "start a"]
    assert supervisor.ready("a") == ["start b in 3.0"]
    assert supervisor.ready("b") == ["start c"]


def test_a_backoff_that_a_group_restart_interrupts_is_waited_for_again() -> None:
    """The child crashed no less for its sibling's crash; once it was ready, it waits no more."""
    supervisor = Supervisor(Strategy.REST_FOR_ONE).declare("a").declare("b", backoff=Backoff(3.0, jitter=0.0)).up()
    assert supervisor.crashes("b") == ["keep b", "start b in 3.0"]
    assert supervisor.crashes("a") == ["keep a", "stop b for now"]
    assert supervisor.returns("b") == ["keep b", "start a"]
    assert supervisor.ready("a") == ["start b in 3.0"]
    supervisor.ready("b")
    supervisor.crashes("a")
    supervisor.returns("b")
    assert supervisor.ready("a") == ["start b"]


def test_a_stop_on_request_in_a_group_restart_is_carried_out_at_once() -> None:
    """Before its turn to be stopped, while it stops, and while it waits to start: the group goes on without it."""
    supervisor = rest_for_one()
    assert supervisor.crashes("a") == ["keep a", "stop d for now"]
    assert supervisor.stop("b") == ["stop b"]
    assert supervisor.stop("d") == ["stop d"]
    assert supervisor.stop("a") == ["finish a"]
    assert supervisor.returns("d") == ["finish d", "stop c for now"]
    assert supervisor.returns("c") == ["keep c"]
    assert supervisor.returns("b") == ["finish b", "start c"]
    assert supervisor.ready("c") == []


def test_a_child_that_is_being_stopped_stays_down_after_a_group_restart() -> None:
    """The group waits for it, and leaves it down."""
    supervisor = one_for_all()
    assert supervisor.stop("b") == ["stop b"]
    assert supervisor.crashes("a") == ["keep a", "stop c for now"]
    assert supervisor.returns("c") == ["keep c"]
    assert supervisor.returns("b") == ["finish b", "start a"]
    assert supervisor.ready("a") == ["start c"]


def test_what_is_started_on_request_waits_for_the_group() -> None:
    """A spawn and a restart get their turn; of what belongs to the group, the restart is under way already."""
    supervisor = rest_for_one()
    supervisor.returns("a")
    supervisor.crashes("b")
    assert supervisor.admit("x") == []
    assert supervisor.restart("a") == []
    assert supervisor.restart("b") == []
    assert supervisor.restart("c") == []
    assert supervisor.returns("d") == ["keep d", "stop c for now"]
    assert supervisor.returns("c") == ["keep c", "start a"]
    assert [supervisor.ready(child) for child in "abcdx"] == [["start b"], ["start c"], ["start d"], ["start x"], []]


def test_a_restart_on_request_of_what_waits_for_the_group_ends_its_delay_only() -> None:
    """It is the group's restart still: it starts in its turn, and a start that fails is a crash."""
    supervisor = Supervisor(Strategy.REST_FOR_ONE).declare("a", backoff=Backoff(3.0, jitter=0.0)).declare("b").up()
    supervisor.crashes("a")
    assert supervisor.restart("a") == []
    assert supervisor.returns("b") == ["keep b", "start a"]
    assert supervisor.fails_to_start("a") == ["keep a", "start a in 6.0"]


def test_a_spawn_that_a_group_restart_interrupts_starts_again_and_may_fail() -> None:
    """Its spawner still waits; a failure is told there, and is no crash."""
    supervisor = one_for_all()
    assert supervisor.admit("x") == ["start x"]
    assert supervisor.crashes("a") == ["keep a", "stop x for now"]
    supervisor.fails_to_start("x")
    supervisor.returns("c")
    supervisor.returns("b")
    assert [supervisor.ready(child) for child in "abc"] == [["start b"], ["start c"], ["start x"]]
    assert supervisor.fails_to_start("x") == ["finish x", "forget x"]


def test_the_supervisor_has_started_when_its_first_group_restart_has() -> None:
    """A crash during the start-up starts the group anew; a first start that fails then still ends the start-up."""
    supervisor = Supervisor(Strategy.ONE_FOR_ALL).declare("a", "b", "c")
    supervisor.start()
    supervisor.ready("a")
    assert supervisor.crashes("a") == ["keep a", "stop b for now"]
    assert supervisor.returns("b") == ["keep b", "start a"]
    assert supervisor.ready("a") == ["start b"]
    assert supervisor.ready("b") == ["start c"]
    assert supervisor.fails_to_start("c") == ["abort for c", "finish c", "stop b"]


# ---- auto-shutdown


@pytest.mark.parametrize(
    ("restart", "crashed"),
    [(Restart.TRANSIENT, False), (Restart.TEMPORARY, False), (Restart.TEMPORARY, True)],
)
def test_any_significant_child_that_ends_by_itself_stops_the_supervisor(restart: Restart, crashed: bool) -> None:
    """In reverse order, as any stop of it; an end of another child does not."""
    supervisor = Supervisor(auto_shutdown=AutoShutdown.ANY).declare("a")
    supervisor.declare("s", "u", restart=restart, significant=True).declare("b").up()
    assert supervisor.returns("a") == ["finish a"]
    ended = supervisor.crashes("s") if crashed else supervisor.returns("s")
    assert ended[-1] == "stop b"
    assert supervisor.model.stopping
    assert supervisor.returns("b") == ["finish b", "stop u"]


def test_a_significant_child_that_restarts_has_not_ended() -> None:
    """A crash of a TRANSIENT one is a crash."""
    supervisor = Supervisor(auto_shutdown=AutoShutdown.ANY).declare("s", significant=True).up()
    assert supervisor.crashes("s") == ["keep s", "start s"]
    assert not supervisor.model.stopping


def test_all_waits_for_the_last_significant_child() -> None:
    """Whatever other children are left."""
    supervisor = Supervisor(auto_shutdown=AutoShutdown.ALL).declare("s", "u", significant=True).declare("a").up()
    supervisor.admit("x", significant=True)
    assert supervisor.returns("u") == ["finish u"]
    assert supervisor.returns("x") == ["finish x", "forget x"]
    assert supervisor.returns("s") == ["finish s", "stop a"]


def test_a_significant_child_that_will_start_is_not_gone() -> None:
    """ALL during a start-up waits for those whose turn is still to come."""
    supervisor = Supervisor(auto_shutdown=AutoShutdown.ALL).declare("s", "a", "u", significant=True)
    supervisor.start()
    supervisor.ready("s")
    assert supervisor.returns("s") == ["finish s"]


@pytest.mark.parametrize("auto_shutdown", [AutoShutdown.ANY, AutoShutdown.ALL])
def test_a_significant_child_stopped_on_request_does_not_count(auto_shutdown: AutoShutdown) -> None:
    """Stopped, removed, or taken down by a sibling's restart: it did not end by itself."""
    supervisor = Supervisor(Strategy.ONE_FOR_ALL, auto_shutdown).declare("a").declare("s", "u", significant=True)
    supervisor.declare("t", restart=Restart.TEMPORARY, significant=True).up()
    supervisor.stop("u")
    assert supervisor.returns("u") == ["finish u"]
    supervisor.remove("s")
    assert supervisor.returns("s") == ["finish s", "forget s"]
    assert supervisor.crashes("a") == ["keep a", "stop t"]
    assert supervisor.returns("t") == ["finish t", "forget t", "start a"]


def test_all_counts_who_is_left_not_how_the_others_went() -> None:
    """After a stop on request the last one that ends by itself ends the supervisor."""
    supervisor = Supervisor(auto_shutdown=AutoShutdown.ALL).declare("s", "u", significant=True).up()
    supervisor.stop("u")
    supervisor.returns("u")
    assert supervisor.returns("s") == ["finish s", "all down"]


def test_a_significant_start_that_fails_is_a_failure_not_an_end() -> None:
    """Its spawner is told."""
    supervisor = Supervisor(auto_shutdown=AutoShutdown.ANY)
    supervisor.admit("s", significant=True)
    assert supervisor.fails_to_start("s") == ["finish s", "forget s"]


# ---- stopping


def test_children_stop_in_reverse_one_at_a_time() -> None:
    """Static and dynamic ones alike; those that are down already are passed over."""
    supervisor = Supervisor().declare("a", "b", "c").up().having("x", "y")
    supervisor.returns("b")
    assert supervisor.stop_all() == ["stop y"]
    assert supervisor.stop_all() == []
    assert supervisor.returns("y") == ["finish y", "forget y", "stop x"]
    assert supervisor.returns("x") == ["finish x", "forget x", "stop c"]
    assert supervisor.returns("c") == ["finish c", "stop a"]
    assert supervisor.returns("a") == ["finish a", "all down"]


def test_dynamic_children_stop_all_at_once_if_declared_so() -> None:
    """``concurrent_stop``: static ones still go one after another, when the dynamic ones are down."""
    supervisor = Supervisor(concurrent_stop=True).declare("a", "b").up().having("x", "y", "z")
    supervisor.stop("y")
    assert supervisor.stop_all() == ["stop z", "stop x"]
    assert supervisor.returns("x") == ["finish x", "forget x"]
    assert supervisor.returns("z") == ["finish z", "forget z"]
    assert supervisor.returns("y") == ["finish y", "forget y", "stop b"]
    assert supervisor.returns("b") == ["finish b", "stop a"]


def test_dynamic_children_of_a_group_stop_all_at_once_if_declared_so() -> None:
    """And start one after another."""
    supervisor = Supervisor(Strategy.ONE_FOR_ALL, concurrent_stop=True).declare("a").up().having("x", "y")
    assert supervisor.crashes("a") == ["keep a", "stop y for now", "stop x for now"]
    assert supervisor.returns("x") == ["keep x"]
    assert supervisor.returns("y") == ["keep y", "start a"]
    assert supervisor.ready("a") == ["start x"]
    assert supervisor.ready("x") == ["start y"]


def test_what_crashes_while_all_stop_is_not_restarted() -> None:
    """A stop of everything is final, and a crash on the way changes nothing about the order."""
    supervisor = Supervisor(Strategy.ONE_FOR_ALL).declare("a", "b", "c", restart=Restart.PERMANENT).up()
    assert supervisor.stop_all() == ["stop c"]
    assert supervisor.crashes("a") == ["finish a"]
    assert supervisor.returns("c") == ["finish c", "stop b"]
    assert supervisor.crashes("b") == ["finish b", "all down"]


def test_stopping_nobody_is_done_at_once() -> None:
    """A supervisor without running children is down when it is told to stop, once."""
    supervisor = Supervisor().declare("a").up()
    supervisor.returns("a")
    assert supervisor.stop_all() == ["all down"]
    assert supervisor.stop_all() == []


def test_a_restarted_child_keeps_its_place() -> None:
    """Stop order is that of the first start, whoever has restarted since."""
    supervisor = Supervisor().having("a", "b")
    supervisor.crashes("a")
    assert supervisor.model.children == ["a", "b"]
    assert supervisor.stop_all() == ["stop b"]


def test_a_stop_of_all_ends_a_start_up() -> None:
    """The one that is starting is told, those that wait never start, and it is not reported as started."""
    supervisor = Supervisor().declare("a", "b", "c", "d")
    supervisor.start()
    assert supervisor.ready("a") == ["start b"]
    assert supervisor.stop_all() == ["finish d", "finish c", "stop b"]
    assert supervisor.ready("b") == []
    assert supervisor.returns("b") == ["finish b", "stop a"]
    assert supervisor.returns("a") == ["finish a", "all down"]


def test_a_stop_of_all_ends_a_group_restart_that_is_stopping() -> None:
    """Whoever was told to stop for now is told that it is for good; nobody comes back."""
    supervisor = rest_for_one()
    assert supervisor.crashes("b") == ["keep b", "stop d for now"]
    assert supervisor.stop_all() == ["finish b", "stop d"]
    assert supervisor.returns("d") == ["finish d", "stop c"]
    assert supervisor.returns("c") == ["finish c", "stop a"]
    assert supervisor.returns("a") == ["finish a", "all down"]


def test_a_stop_of_all_ends_a_group_restart_that_is_starting() -> None:
    """The one in its turn is told, whether it starts or waits out a backoff."""
    supervisor = Supervisor(Strategy.ONE_FOR_ALL).declare("a", backoff=Backoff(3.0, jitter=0.0)).declare("b").up()
    supervisor.crashes("a")
    assert supervisor.returns("b") == ["keep b", "start a in 3.0"]
    assert supervisor.stop_all() == ["finish b", "stop a"]
    assert supervisor.returns("a") == ["finish a", "all down"]


def test_a_child_that_somebody_stops_while_all_stop_is_told_at_once() -> None:
    """The order of the others stays, and it is not told twice."""
    supervisor = Supervisor().declare("a", "b", "c").up()
    assert supervisor.stop_all() == ["stop c"]
    assert supervisor.stop("b") == ["stop b"]
    assert supervisor.returns("c") == ["finish c"]
    assert supervisor.returns("b") == ["finish b", "stop a"]


def test_those_that_wait_are_down_before_the_first_is_told_to_stop() -> None:
    """A sibling whose cleanup asks one of them gets its answer; and they can be forgotten while the others stop."""
    supervisor = Supervisor(concurrent_stop=True).declare("a", "b")
    supervisor.start()
    supervisor.admit("x")
    assert supervisor.stop_all() == ["finish x", "forget x", "finish b", "stop a"]
    assert supervisor.stop("b") == []
    assert supervisor.remove("b") == ["forget b"]
    assert supervisor.returns("a") == ["finish a", "all down"]
