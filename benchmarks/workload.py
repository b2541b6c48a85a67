"""The work itself: the messages, and the loops that send and handle them, the same for every candidate."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Final, Protocol

import anyio
import attrs

from harness import expect
from rookery import Request, message

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Awaitable, Callable

CAPACITY: Final = 1000
"""Messages that a mailbox, a channel or a queue holds: the default of an actor."""


@message
class Echo(Request[int]):
    """A question whose answer is its number."""

    number: int


@message
class Note:
    """A message of three fields."""

    number: int
    text: str
    weight: float


@attrs.define(eq=False)
class Urgent:
    """A message that is to be handled next.

    Attributes:
        sent_after: How many notes had been handled when it was sent.
        sent_at: When that was, in seconds of `perf_counter`.
        overtaken_by: How many notes were handled between its sending and its own turn.
        seconds: The time from its sending until it was taken up.
        taken_up: Set then.
    """

    sent_after: int
    sent_at: float = attrs.field(factory=perf_counter)
    overtaken_by: int = 0
    seconds: float = 0.0
    taken_up: anyio.Event = attrs.field(factory=anyio.Event)

    def take_up(self, handled: int) -> None:
        """Its turn has come, after that many notes in all."""
        self.seconds = perf_counter() - self.sent_at
        self.overtaken_by = handled - self.sent_after
        self.taken_up.set()


@attrs.define
class Tally:
    """What the handling side has seen.

    Attributes:
        handled: How many messages.
        total: The sum of their numbers: a lost one and one handled twice do not make up for each other.
    """

    handled: int = 0
    total: int = 0

    async def take(self, notes: AsyncIterable[Note]) -> None:
        """Handle notes until they end."""
        async for note in notes:
            self.handled += 1
            self.total += note.number

    def add(self, note: Note) -> None:
        """Handle one, where handlers are called."""
        self.handled += 1
        self.total += note.number

    def check(self, count: int, total: int) -> None:
        """Every message was handled, once."""
        expect((self.handled, self.total), (count, total), "messages handled, and the sum of their numbers")


@attrs.frozen
class Sending:
    """How the messages of a benchmark come about.

    Attributes:
        feed: Sends that many with what it is given, one after another.
        feed_plainly: The same with what is not awaited.
        total: The sum of their numbers.
    """

    feed: Callable[[Callable[[Note], Awaitable[object]], int], Awaitable[None]]
    feed_plainly: Callable[[Callable[[Note], object], int], None]
    total: Callable[[int], int]


class Transport(Protocol):
    """What passes that many messages on, checks that they arrived, and returns the seconds it took."""

    def __call__(self, count: int, sending: Sending) -> Awaitable[float] | float: ...


def sum_below(count: int) -> int:
    """0 + 1 + ... up to below ``count``."""
    return count * (count - 1) // 2


async def _feed_one_object(send: Callable[[Note], Awaitable[object]], count: int) -> None:
    note = Note(1, "one", 1.0)
    for _ in range(count):
        await send(note)


def _feed_one_object_plainly(send: Callable[[Note], object], count: int) -> None:
    note = Note(1, "one", 1.0)
    for _ in range(count):
        send(note)


async def _feed_fresh(send: Callable[[Note], Awaitable[object]], count: int) -> None:
    for number in range(count):
        await send(Note(number, "fresh", 1.0))


def _feed_fresh_plainly(send: Callable[[Note], object], count: int) -> None:
    for number in range(count):
        send(Note(number, "fresh", 1.0))


ONE_OBJECT: Final = Sending(_feed_one_object, _feed_one_object_plainly, lambda count: count)
"""The same object each time: what the transport costs by itself."""

FRESH: Final = Sending(_feed_fresh, _feed_fresh_plainly, sum_below)
"""A new message of three fields each time: what programs do."""


class Stopwatch:
    """Runs from when it is made."""

    def __init__(self) -> None:
        self._start = perf_counter()

    def seconds(self) -> float:
        """Since then."""
        return perf_counter() - self._start
