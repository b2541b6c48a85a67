"""pykka, with plain messages to `on_receive`, which is faster than its proxies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pykka

from harness import expect
from peers import Peer
from workload import Echo, Note, Sending, Stopwatch, Tally, sum_below

if TYPE_CHECKING:
    from typing import Any


class Echoing(pykka.ThreadingActor):
    """Answers each question with its number."""

    def on_receive(self, message: Echo) -> int:
        return message.number


class Noting(pykka.ThreadingActor):
    """Handles notes."""

    def __init__(self, tally: Tally) -> None:
        super().__init__()
        self.tally = tally

    def on_receive(self, message: Note) -> None:
        self.tally.add(message)


class Idle(pykka.ThreadingActor):
    """Waits for messages that never come; counts the end."""

    def __init__(self, ended: list[str]) -> None:
        super().__init__()
        self.ended = ended

    def on_stop(self) -> None:
        self.ended.append(self.actor_urn)


def ask(count: int) -> float:
    """Seconds for that many asks, one after another, a fresh request each."""
    ref, total = Echoing.start(), 0
    watch = Stopwatch()
    for number in range(count):
        total += ref.ask(Echo(number), block=True)
    seconds = watch.seconds()
    ref.stop()
    expect(total, sum_below(count), "sum of the answers")
    return seconds


def send(count: int, sending: Sending) -> float:
    """Seconds until that many messages have been handled, and the actor has ended: a stop takes its turn behind them."""
    tally = Tally()
    ref = Noting.start(tally)
    watch = Stopwatch()
    sending.feed_plainly(ref.tell, count)
    ref.stop()
    seconds = watch.seconds()
    tally.check(count, sending.total(count))
    return seconds


def spawn(count: int) -> float:
    """Seconds for that many actors, one after another, until their threads run; all stay alive."""
    ended: list[str] = []
    watch = Stopwatch()
    for _ in range(count):
        Idle.start(ended)
    seconds = watch.seconds()
    pykka.ActorRegistry.stop_all()
    expect(len(set(ended)), count, "actors that ended well")
    return seconds


def stop(count: int) -> float:
    """Seconds to stop that many idle actors, one after another, in reverse order of start."""
    ended: list[str] = []
    refs: list[pykka.ActorRef[Any]] = [Idle.start(ended) for _ in range(count)]
    watch = Stopwatch()
    pykka.ActorRegistry.stop_all()
    seconds = watch.seconds()
    expect((len(set(ended)), any(ref.is_alive() for ref in refs)), (count, False), "actors that ended well")
    return seconds


NOTE: Final = "a thread for each actor; no back-pressure, its queue is unbounded; `start` does not wait for `on_start`"

PEERS: Final = (Peer("pykka", NOTE, ask, send, spawn, stop),)
