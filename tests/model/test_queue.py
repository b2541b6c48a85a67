"""The priority queue, against a sorted list."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rookery._model import checks
from rookery._model import queue as queues
from rookery._model.queue import SYSTEM, PriorityQueue

if TYPE_CHECKING:
    from collections.abc import Iterable

# Few levels, so that examples have several items in one; the default and both ends among them.
levels = st.sampled_from([0, 1, 127, 128, 129, 254, 255])


def filled(priorities: Iterable[int]) -> PriorityQueue[int]:
    """A queue whose items are numbered in the order of arrival."""
    queue: PriorityQueue[int] = PriorityQueue()
    for number, priority in enumerate(priorities):
        queue.push(number, priority)
    return queue


@given(st.lists(levels | st.integers(0, 255)))
def test_pops_by_priority_and_first_in_first_out_within_one(priorities: list[int]) -> None:
    """The order is that of a stable sort by priority, exact to the level."""
    queue = filled(priorities)
    expected = sorted(range(len(priorities)), key=lambda number: -priorities[number])
    assert expected == [queue.pop() for _ in priorities]
    assert len(queue) == 0


@given(st.lists(levels))
def test_evicts_the_oldest_of_the_least_urgent(priorities: list[int]) -> None:
    """Eviction is a stable sort the other way round, and tells the priority."""
    queue = filled(priorities)
    order = sorted(range(len(priorities)), key=lambda number: priorities[number])
    expected = [(number, priorities[number]) for number in order]
    assert expected == [queue.evict() for _ in priorities]


@given(st.lists(levels))
def test_looking_changes_nothing(priorities: list[int]) -> None:
    """Iteration shows items and priorities in the order of `pop`, and takes none."""
    queue = filled(priorities)
    order = sorted(range(len(priorities)), key=lambda number: -priorities[number])
    expected = [(number, priorities[number]) for number in order]
    assert expected == list(queue)
    assert expected == list(queue)
    assert len(priorities) == len(queue)


@given(st.lists(levels))
def test_clear_gives_what_was_queued(priorities: list[int]) -> None:
    """Clearing returns everything in the order of `pop` and leaves a queue that works."""
    queue = filled(priorities)
    expected = list(queue)
    assert expected == queue.clear()
    assert list(queue) == []
    queue.push(7, 200)
    queue.push(8)
    assert queue.clear() == [(7, 200), (8, 128)]


@pytest.mark.parametrize("method", ["pop", "evict", "least_urgent"])
def test_an_empty_queue_has_nothing_to_give(method: str) -> None:
    """Taking from an empty queue, also from one that was emptied, is an `IndexError`."""
    queue = filled([128, 3, 255])
    for _ in range(3):
        queue.pop()
    with pytest.raises(IndexError):
        getattr(queue, method)()
    with pytest.raises(IndexError):
        getattr(PriorityQueue(), method)()
    assert len(queue) == 0


def test_the_default_level_lies_in_the_middle() -> None:
    """An item without a priority comes before 127 and after 129."""
    queue: PriorityQueue[str] = PriorityQueue()
    queue.push("below", 127)
    queue.push("default")
    queue.push("above", 129)
    assert [queue.pop() for _ in range(3)] == ["above", "default", "below"]


def test_what_the_system_has_to_say_is_never_evicted() -> None:
    """A queue that holds nothing else has nothing to give up."""
    queue: PriorityQueue[str] = PriorityQueue()
    queue.push("system", SYSTEM)
    for method in (queue.evict, queue.least_urgent):
        with pytest.raises(IndexError, match="the queue is empty"):
            method()
    assert queue.pop() == "system"


def test_nothing_is_more_urgent_than_the_system() -> None:
    """Its level is the one above the highest priority there is."""
    assert checks.HIGHEST + 1 == SYSTEM


def test_what_new_queues_share_holds_nothing() -> None:
    """Filling one and emptying it leaves another alone, and the lane that all start with cannot hold anything."""
    queue = filled([0, 128, 255, SYSTEM])
    queue.clear()
    queue.push(1)
    queue.push(2, 3)
    assert list(PriorityQueue()) == []
    assert queues._NO_LANE.maxlen == 0
    assert not queues._NO_OTHERS
    assert not queues._NO_LEVELS


class QueueMachine(RuleBasedStateMachine):
    """Any interleaving of pushes, pops and evictions, against a list that is sorted anew each time."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: PriorityQueue[int] = PriorityQueue()
        self.naive: list[tuple[int, int]] = []  # (-priority, number): the order of pop
        self.numbers = count()

    @rule(priority=levels | st.just(SYSTEM))
    def push(self, priority: int) -> None:
        number = next(self.numbers)
        self.queue.push(number, priority)
        self.naive.append((-priority, number))
        self.naive.sort()

    @precondition(lambda self: self.naive)
    @rule()
    def pop(self) -> None:
        _, expected = self.naive.pop(0)
        assert expected == self.queue.pop()

    @precondition(lambda self: self.queue.size)
    @rule()
    def evict(self) -> None:
        least = max(self.naive)[0]
        expected = min(entry for entry in self.naive if entry[0] == least)
        self.naive.remove(expected)
        assert (expected[1], -least) == self.queue.evict()

    @rule()
    def clear(self) -> None:
        expected = [(number, -negative) for negative, number in self.naive]
        self.naive.clear()
        assert expected == self.queue.clear()

    @rule()
    def clear_urgent(self) -> None:
        self.naive = [entry for entry in self.naive if entry[0] != -SYSTEM]
        self.queue.clear_urgent()

    @invariant()
    def agrees(self) -> None:
        """What the system has to say comes first, and takes no room."""
        counted = [entry for entry in self.naive if entry[0] != -SYSTEM]
        assert len(counted) == len(self.queue) == self.queue.size
        assert self.queue.urgent is (len(counted) < len(self.naive))
        assert [(number, -negative) for negative, number in self.naive] == list(self.queue)
        if counted:
            assert -max(counted)[0] == self.queue.least_urgent()


TestQueueMachine = QueueMachine.TestCase
