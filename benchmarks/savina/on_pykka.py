"""Programs of the set on pykka, with the messages of the actors: an actor is a thread, and its queue has no bound."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pykka

from harness import expect
from workload import Stopwatch, Tally, sum_below

from .fork_join import WORKERS, Work
from .pair import Increment, Ping, Pong, Retrieve
from .ring import LINKS, Join, Leave, Token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

LONGEST: Final = 60.0
"""Seconds after which a program is taken to hang."""


def all_ended(refs: Iterable[pykka.ActorRef[Any]]) -> None:
    """Wait for actors that come to an end by themselves."""
    for ref in refs:
        expect(ref.actor_stopped.wait(LONGEST), True, f"ended within {LONGEST} s")


def stop_each(refs: Iterable[pykka.ActorRef[Any]]) -> None:
    """Stop actors one after another, each when it has handled what was sent before."""
    for ref in refs:
        ref.stop(timeout=LONGEST)


# ---- ping-pong


class Pinging(pykka.ThreadingActor):
    """Sends a ping for each pong."""

    def __init__(self, partner: pykka.ActorRef[Any], exchanges: int) -> None:
        super().__init__()
        self.partner, self.left = partner, exchanges

    def on_start(self) -> None:
        self.ping()

    def on_receive(self, message: Pong) -> None:  # noqa: ARG002  # it says nothing
        self.left -= 1
        if self.left:
            self.ping()
        else:
            self.stop()

    def ping(self) -> None:
        """Send one."""
        sender: Any = self.actor_ref
        self.partner.tell(Ping(sender))


class Ponging(pykka.ThreadingActor):
    """Answers each ping with a pong."""

    def __init__(self, tally: Tally) -> None:
        super().__init__()
        self.tally = tally

    def on_receive(self, message: Ping) -> None:
        self.tally.handled += 1
        sender: Any = message.sender
        sender.tell(Pong())


def ping_pong(count: int) -> float:
    """Seconds for that many exchanges."""
    tally, watch = Tally(), Stopwatch()
    partner = Ponging.start(tally)
    all_ended([Pinging.start(partner, count)])
    seconds = watch.seconds()
    stop_each([partner])
    expect(tally.handled, count, "pings answered")
    return seconds


# ---- counting


class Counter(pykka.ThreadingActor):
    """Counts increments."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def on_receive(self, message: Increment | Retrieve) -> int | None:
        match message:
            case Increment():
                self.count += 1
                return None
            case Retrieve():
                return self.count


def counting(count: int) -> float:
    """Seconds until that many messages, sent one way, have been counted."""
    watch = Stopwatch()
    counter = Counter.start()
    for _ in range(count):
        counter.tell(Increment())
    counted = counter.ask(Retrieve(), block=True, timeout=LONGEST)
    seconds = watch.seconds()
    stop_each([counter])
    expect(counted, count, "messages counted")
    return seconds


# ---- fork-join


class OneJob(pykka.ThreadingActor):
    """Does one piece of work, and ends."""

    def __init__(self, numbers: list[int]) -> None:
        super().__init__()
        self.numbers = numbers

    def on_receive(self, message: Work) -> None:
        """Appending to a list is atomic: other threads do it too."""
        self.numbers.append(message.number)
        self.stop()


class ManyJobs(pykka.ThreadingActor):
    """Does what comes."""

    def __init__(self, tally: Tally) -> None:
        super().__init__()
        self.tally = tally

    def on_receive(self, message: Work) -> None:
        self.tally.handled += 1
        self.tally.total += message.number


def fork_join_create(count: int) -> float:
    """Seconds for the life of that many actors: each is started, handles one message, and ends."""
    numbers: list[int] = []
    watch = Stopwatch()
    workers: list[pykka.ActorRef[OneJob]] = []
    for number in range(count):
        worker = OneJob.start(numbers)
        worker.tell(Work(number))
        workers.append(worker)
    all_ended(workers)
    seconds = watch.seconds()
    Tally(len(numbers), sum(numbers)).check(count, sum_below(count))
    return seconds


def fork_join_throughput(count: int) -> float:
    """Seconds until that many messages, dealt out to the workers in turn, have been handled."""
    tallies = [Tally() for _ in range(WORKERS)]  # one for each thread
    watch = Stopwatch()
    workers = [ManyJobs.start(tally) for tally in tallies]
    for number in range(count):
        workers[number % WORKERS].tell(Work(number))
    stop_each(workers)
    seconds = watch.seconds()
    Tally(sum(tally.handled for tally in tallies), sum(tally.total for tally in tallies)).check(count, sum_below(count))
    return seconds


# ---- thread ring


class Link(pykka.ThreadingActor):
    """Passes the token on."""

    def __init__(self, tally: Tally) -> None:
        super().__init__()
        self.tally = tally
        self.neighbour: Any = self.actor_ref

    def on_receive(self, message: Join | Token | Leave) -> None:
        match message:
            case Join(neighbour):
                self.neighbour = neighbour
            case Token(hops_left):
                self.tally.handled += 1
                self.tally.total += hops_left
                self.neighbour.tell(Token(hops_left - 1) if hops_left else Leave(LINKS - 1))
            case Leave(links_left):
                if links_left:
                    self.neighbour.tell(Leave(links_left - 1))
                self.stop()


def thread_ring(count: int) -> float:
    """Seconds until the token has been received that many times, and everyone has left the ring."""
    tally, watch = Tally(), Stopwatch()
    links: list[Any] = [Link.start(tally) for _ in range(LINKS)]
    for one, neighbour in zip(links, [*links[1:], links[0]], strict=True):
        one.tell(Join(neighbour))
    links[0].tell(Token(count - 1))
    all_ended(links)
    seconds = watch.seconds()
    tally.check(count, sum_below(count))
    return seconds


PROGRAMS: Final[dict[str, Callable[[int], float]]] = {
    "ping-pong": ping_pong,
    "counting": counting,
    "fork-join create": fork_join_create,
    "fork-join throughput": fork_join_throughput,
    "thread ring": thread_ring,
}
"""By the title of the benchmark."""
