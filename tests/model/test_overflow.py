"""What happens to a message that finds the mailbox full: every case there is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rookery._model.overflow import Overflow, Verdict, at_capacity

priorities = st.integers(0, 255)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (Overflow.BLOCK, Verdict.WAIT),
        (Overflow.REJECT, Verdict.REFUSE),
        (Overflow.DROP_NEWEST, Verdict.DROP_NEWCOMER),
    ],
)
def test_three_policies_do_not_look_at_urgency(policy: Overflow, expected: Verdict) -> None:
    """BLOCK waits, REJECT refuses and DROP_NEWEST drops the newcomer, for every pair of priorities."""
    assert {expected} == {at_capacity(policy, newcomer, least) for newcomer in range(256) for least in range(256)}


def test_drop_oldest_never_evicts_for_a_less_urgent_newcomer() -> None:
    """DROP_OLDEST turns the newcomer away exactly if everything queued is more urgent than it."""
    for newcomer in range(256):
        for least in range(256):
            expected = Verdict.DROP_NEWCOMER if newcomer < least else Verdict.EVICT_OLDEST
            assert expected is at_capacity(Overflow.DROP_OLDEST, newcomer, least)


@given(st.lists(priorities, min_size=1), priorities)
def test_drop_oldest_drops_the_oldest_of_the_least_urgent_the_newcomer_included(
    queued: list[int], newcomer: int
) -> None:
    """The verdict drops what comes first when all, the newcomer last, are sorted by urgency and age."""
    everyone = [*queued, newcomer]
    loser = min(range(len(everyone)), key=lambda place: (everyone[place], place))
    expected = Verdict.DROP_NEWCOMER if loser == len(queued) else Verdict.EVICT_OLDEST
    assert expected is at_capacity(Overflow.DROP_OLDEST, newcomer, min(queued))
