"""An exact priority queue: 256 levels, first in first out within one, and a lane for the system above them."""

from __future__ import annotations

from bisect import insort
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, final

from .messages import DEFAULT_PRIORITY

if TYPE_CHECKING:
    from collections.abc import Iterator

T = TypeVar("T")

# What a queue starts with: empty, the same for all, and never written to. An idle actor's queue, which has never held
# anything, would be 900 bytes larger otherwise, and most actors are idle.
_NO_LANE: Final[deque[Any]] = deque(maxlen=0)
_NO_OTHERS: Final[dict[int, deque[Any]]] = {}
_NO_LEVELS: Final[list[int]] = []


SYSTEM: Final = 256
"""The level of what the system itself has to say. It takes no room: `size` does not count it."""


@final
class PriorityQueue(Generic[T]):
    """A deque for each level in use, and one that is always there for the default level.

    Nearly all traffic has the default priority, so that path is one ``deque.append`` and one ``popleft``.
    A level other than the default exists only while it holds something; finding the most urgent one is a
    look at the end of a sorted list that has at most 255 entries.
    """

    __slots__ = ("_default", "_others", "levels", "size")

    def __init__(self) -> None:
        self._default: deque[T] = _NO_LANE
        self._others: dict[int, deque[T]] = _NO_OTHERS
        self.levels: list[int] = _NO_LEVELS  # the keys of _others, least urgent first
        self.size: int = 0

    def __len__(self) -> int:
        return self.size

    @property
    def urgent(self) -> bool:
        """Whether there is something at the level of the system."""
        return bool(self.levels) and self.levels[-1] == SYSTEM

    def push(self, item: T, priority: int = DEFAULT_PRIORITY) -> None:
        """Append an item to its level."""
        if priority == DEFAULT_PRIORITY:
            if self._default is _NO_LANE:
                self._default = deque()
            self._default.append(item)
        elif priority in self._others:
            self._others[priority].append(item)
        else:
            self._open_level(priority, item)
        self.size += priority != SYSTEM

    def pop(self) -> T:
        """Remove the oldest item of the most urgent level.

        Raises:
            IndexError: if the queue is empty.
        """
        levels = self.levels
        if levels and (levels[-1] > DEFAULT_PRIORITY or not self._default):
            return self._take(levels[-1])
        item = self._default.popleft()
        self.size -= 1
        return item

    def least_urgent(self) -> int:
        """The least urgent level that holds something.

        Raises:
            IndexError: if the queue is empty.
        """
        if not self.size:
            raise IndexError("the queue is empty")
        if self.levels and (self.levels[0] < DEFAULT_PRIORITY or not self._default):
            return self.levels[0]
        return DEFAULT_PRIORITY

    def evict(self) -> tuple[T, int]:
        """Remove the oldest item of the least urgent level.

        Returns:
            The item and its priority.

        Raises:
            IndexError: if the queue is empty.
        """
        level = self.least_urgent()
        return self._take(level), level

    def __iter__(self) -> Iterator[tuple[T, int]]:
        """Items with their priorities, in the order in which `pop` would give them."""
        levels = sorted({*self.levels, DEFAULT_PRIORITY}, reverse=True)
        for level in levels:
            for item in self._lane(level):
                yield item, level

    def clear(self) -> list[tuple[T, int]]:
        """Remove everything.

        Returns:
            What was queued, with priorities, in the order in which `pop` would have given it.
        """
        left = list(self)
        self._default, self._others, self.levels, self.size = _NO_LANE, _NO_OTHERS, _NO_LEVELS, 0
        return left

    def clear_urgent(self) -> None:
        """Forget what is at the level of the system."""
        if self.urgent:
            del self._others[self.levels.pop()]

    def _open_level(self, level: int, first: T) -> None:
        if self._others is _NO_OTHERS:
            self._others, self.levels = {}, []
        self._others[level] = deque((first,))
        insort(self.levels, level)

    def _lane(self, level: int) -> deque[T]:
        return self._default if level == DEFAULT_PRIORITY else self._others[level]

    def _take(self, level: int) -> T:
        lane = self._lane(level)
        item = lane.popleft()
        self.size -= level != SYSTEM
        if not lane and level != DEFAULT_PRIORITY:
            del self._others[level]
            self.levels.remove(level)
        return item
