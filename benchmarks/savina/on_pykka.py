"""Programs of the set on pykka: an actor is a thread, and its queue has no bound."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

import pykka

from harness import expect
from workload import Stopwatch, Tally, sum_below

from .fork_join import WORKERS
from .ring import LINKS

if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST: Final = 60.0
"""Seconds after which a program is taken to hang."""


class Finish:
    """What the main thread waits for."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def reached(self) -> None:
        """Called from an actor's thread."""
        self._event.set()

    def wait(self) -> None:
        """Until then."""
        expect(self._event.wait(LONGEST), True, f"finished within {LONGEST} s")


# ---- ping-pong


class Ping(pykka.ThreadingActor):
    """Sends a ping for each pong."""

    def __init__(self, partner: pykka.ActorRef[Any], exchanges: int, finish: Finish) -> None:
        super().__init__()
        self.partner, self.left, self.finish = partner, exchanges, finish

    def on_receive(self, message: object) -> None:  # noqa: ARG002  # whatever it is, it is a pong
        """The first message, which is no pong, begins the game."""
        if self.left:
            self.left -= 1
            self.partner.tell(self.actor_ref)
        else:
            self.finish.reached()


class Pong(pykka.ThreadingActor):
    """Answers each ping; a ping is the reference of its sender."""

    def __init__(self, tally: Tally) -> None:
        super().__init__()
        self.tally = tally

    def on_receive(self, message: pykka.ActorRef[Any]) -> None:
        """Answer."""
        self.tally.handled += 1
        message.tell("pong")


def ping_pong(count: int) -> float:
    """Seconds for that many exchanges."""
    tally, finish, watch = Tally(), Finish(), Stopwatch()
    partner = Pong.start(tally)
    pinging = Ping.start(partner, count, finish)
    pinging.tell("begin")
    finish.wait()
    seconds = watch.seconds()
    _stop(pinging, partner)
    expect(tally.handled, count, "pings answered")
    return seconds


# ---- counting, fork-join


class Adder(pykka.ThreadingActor):
    """Counts numbers, and adds them up; None asks for the result."""

    def __init__(self) -> None:
        super().__init__()
        self.tally = Tally()

    def on_receive(self, message: int | None) -> Tally | None:
        """Count, or answer."""
        if message is None:
            return self.tally
        self.tally.handled += 1
        self.tally.total += message
        return None


class OneJob(pykka.ThreadingActor):
    """Handles one number, and ends."""

    def __init__(self, numbers: list[int]) -> None:
        super().__init__()
        self.numbers = numbers

    def on_receive(self, message: int) -> None:
        """The one message; appending to a list is atomic."""
        self.numbers.append(message)
        self.stop()


def counting(count: int) -> float:
    """Seconds until that many messages, sent one way, have been counted."""
    watch = Stopwatch()
    adder = Adder.start()
    for number in range(count):
        adder.tell(number)
    tally = adder.ask(None, block=True, timeout=LONGEST)
    seconds = watch.seconds()
    _stop(adder)
    tally.check(count, sum_below(count))
    return seconds


def fork_join_throughput(count: int) -> float:
    """Seconds until that many messages, dealt out to the workers in turn, have been handled."""
    watch = Stopwatch()
    workers = [Adder.start() for _ in range(WORKERS)]
    for number in range(count):
        workers[number % WORKERS].tell(number)
    tallies = [worker.ask(None, block=True, timeout=LONGEST) for worker in workers]
    seconds = watch.seconds()
    _stop(*workers)
    Tally(sum(tally.handled for tally in tallies), sum(tally.total for tally in tallies)).check(count, sum_below(count))
    return seconds


def fork_join_create(count: int) -> float:
    """Seconds for the life of that many actors: each is started, handles one message, and ends."""
    numbers: list[int] = []
    watch = Stopwatch()
    workers = [OneJob.start(numbers) for _ in range(count)]
    for number, worker in enumerate(workers):
        worker.tell(number)
    for worker in workers:
        worker.actor_stopped.wait(LONGEST)
    seconds = watch.seconds()
    Tally(len(numbers), sum(numbers)).check(count, sum_below(count))
    return seconds


# ---- thread ring


class Link(pykka.ThreadingActor):
    """Passes the token on; a token is the number of hops left."""

    def __init__(self, tally: Tally, finish: Finish) -> None:
        super().__init__()
        self.tally, self.finish = tally, finish
        self.neighbour = self.actor_ref

    def on_receive(self, message: pykka.ActorRef[Any] | int) -> None:
        """The neighbour first, then the token."""
        if not isinstance(message, int):
            self.neighbour = message
            return
        self.tally.handled += 1
        self.tally.total += message
        if message:
            self.neighbour.tell(message - 1)
        else:
            self.finish.reached()


def thread_ring(count: int) -> float:
    """Seconds until the token has been received that many times."""
    tally, finish, watch = Tally(), Finish(), Stopwatch()
    links = [Link.start(tally, finish) for _ in range(LINKS)]
    for one, neighbour in zip(links, [*links[1:], links[0]], strict=True):
        one.tell(neighbour)
    links[0].tell(count - 1)
    finish.wait()
    seconds = watch.seconds()
    _stop(*links)
    tally.check(count, sum_below(count))
    return seconds


def _stop(*refs: pykka.ActorRef[Any]) -> None:
    for ref in refs:
        ref.stop(timeout=LONGEST)


PROGRAMS: Final[dict[str, Callable[[int], float]]] = {
    "ping-pong": ping_pong,
    "counting": counting,
    "fork-join create": fork_join_create,
    "fork-join throughput": fork_join_throughput,
    "thread ring": thread_ring,
}
"""By the title of the benchmark."""
