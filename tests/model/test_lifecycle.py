"""The lifecycle table: what it must and must not contain, and walks through it."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rookery._model.lifecycle import FINAL, TRANSITIONS, ActorState, LifeEvent, after

POSSIBLE = [(state, event) for state, events in TRANSITIONS.items() for event in events]
FORBIDDEN = [(state, event) for state in ActorState for event in LifeEvent if (state, event) not in POSSIBLE]


def test_the_table_has_a_row_for_each_state() -> None:
    """No state was forgotten."""
    assert set(ActorState) == set(TRANSITIONS)


def test_nothing_leads_out_of_a_final_state() -> None:
    """The final states are exactly the rows without an entry."""
    assert {state for state in ActorState if not TRANSITIONS[state]} == FINAL
    assert {ActorState.STOPPED, ActorState.FAILED} == FINAL


def test_every_state_is_reachable_and_can_end() -> None:
    """From NEW one can get everywhere, and from everywhere to an end."""
    reachable = {state: _reachable(state) for state in ActorState}
    assert set(ActorState) == reachable[ActorState.NEW]
    assert all(reachable[state] & FINAL for state in ActorState)


def test_nothing_is_new_twice() -> None:
    """No event leads back to NEW, and every event can happen somewhere."""
    assert ActorState.NEW not in {after(state, event) for state, event in POSSIBLE}
    assert set(LifeEvent) == {event for _, event in POSSIBLE}


def test_a_stop_leads_to_stopping_and_from_there_only_to_an_end() -> None:
    """Whoever is asked to stop neither restarts nor pauses nor runs again."""
    assert {ActorState.STOPPING} == {after(state, event) for state, event in POSSIBLE if event is LifeEvent.STOP}
    assert set(TRANSITIONS[ActorState.STOPPING].values()) == FINAL


def test_every_living_state_can_be_stopped() -> None:
    """A supervisor can stop a child that waits for its turn, is starting, running, paused, or waiting to restart."""
    living = set(ActorState) - FINAL - {ActorState.STOPPING}
    assert living == {state for state, event in POSSIBLE if event is LifeEvent.STOP}


@pytest.mark.parametrize(("state", "event"), FORBIDDEN)
def test_a_forbidden_transition_names_both(state: ActorState, event: LifeEvent) -> None:
    """The error tells the state, the event, and what could have happened instead."""
    with pytest.raises(ValueError, match=event.name) as raised:
        after(state, event)
    message = str(raised.value)
    assert state.value in message
    assert all(possible.name in message for possible in TRANSITIONS[state])


def _reachable(state: ActorState) -> set[ActorState]:
    seen: set[ActorState] = set()
    to_visit = [state]
    while to_visit:
        here = to_visit.pop()
        if here not in seen:
            seen.add(here)
            to_visit.extend(TRANSITIONS[here].values())
    return seen


class LifeMachine(RuleBasedStateMachine):
    """Random lives: allowed events are followed, forbidden ones change nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.state = ActorState.NEW
        self.asked_to_stop = False
        self.starts = 0
        self.ends = 0

    @rule(event=st.sampled_from(LifeEvent))
    def happen(self, event: LifeEvent) -> None:
        if event not in TRANSITIONS[self.state]:
            with pytest.raises(ValueError, match=event.name):
                after(self.state, event)
            return
        before, self.state = self.state, after(self.state, event)
        assert before is not self.state
        self.asked_to_stop |= event is LifeEvent.STOP
        self.starts += event is LifeEvent.START
        self.ends += event in (LifeEvent.RETRY, LifeEvent.END, LifeEvent.FAIL)

    @precondition(lambda self: self.asked_to_stop)
    @invariant()
    def stays_down(self) -> None:
        assert self.state is ActorState.STOPPING or self.state in FINAL

    @invariant()
    def ends_once_for_good(self) -> None:
        if self.state in FINAL:
            assert self.starts > 0 or self.asked_to_stop
        if self.state in (ActorState.RUNNING, ActorState.PAUSED, ActorState.STARTING):
            assert self.starts == self.ends + 1


TestLifeMachine = LifeMachine.TestCase
