"""The table of kernel states."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rookery.ring import KernelState, KernelStateError
from rookery.ring._state import TRANSITIONS, check_transition

STATES = st.sampled_from(KernelState)
LIFE = [KernelState.CREATED, KernelState.LAUNCHED, KernelState.ACTIVE, KernelState.DEACTIVATED, KernelState.TERMINATED]


def allowed(current: KernelState, wanted: KernelState) -> bool:
    """The rule in words: forward one step at a time, back from deactivated to active, to the end once launched."""
    if wanted is KernelState.TERMINATED:
        return current in (KernelState.LAUNCHED, KernelState.ACTIVE, KernelState.DEACTIVATED)
    if current is KernelState.DEACTIVATED:
        return wanted is KernelState.ACTIVE
    return LIFE.index(wanted) == LIFE.index(current) + 1


def test_every_state_is_in_the_table() -> None:
    """No state is forgotten."""
    assert set(TRANSITIONS) == set(KernelState)


@given(STATES, STATES)
def test_the_table_says_what_the_rule_says(current: KernelState, wanted: KernelState) -> None:
    """A transition is allowed exactly if the rule allows it; a forbidden one raises and names both states."""
    if allowed(current, wanted):
        check_transition("k", current, wanted)
    else:
        with pytest.raises(KernelStateError, match=f"'k' is {current.value} and cannot become {wanted.value}"):
            check_transition("k", current, wanted)


@given(st.lists(STATES))
def test_no_walk_leaves_the_end_or_returns_to_the_beginning(wishes: list[KernelState]) -> None:
    """Whatever is asked for in whatever order, a kernel is created once, launched once and terminated once."""
    state, visited = KernelState.CREATED, [KernelState.CREATED]
    for wanted in wishes:
        try:
            check_transition("k", state, wanted)
        except KernelStateError:
            continue
        state = wanted
        visited.append(state)
    for once in (KernelState.CREATED, KernelState.LAUNCHED, KernelState.TERMINATED):
        assert visited.count(once) <= 1
    assert KernelState.TERMINATED not in visited[:-1]


def test_the_error_shows_what_to_call_instead() -> None:
    """Each possible way out is named by its call."""
    with pytest.raises(KernelStateError, match=r"runtime\.activate\('k'\)` or `await runtime\.terminate\('k'\)"):
        check_transition("k", KernelState.LAUNCHED, KernelState.DEACTIVATED)
