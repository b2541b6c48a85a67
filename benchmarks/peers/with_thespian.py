"""thespian on its `simpleSystemBase`, the only base that stays inside one process.

Nothing runs at the same time there: the call that sends a message also runs the handler.
"""

# pyright: reportUnknownMemberType=false, reportIncompatibleMethodOverride=false
# thespian has no types; what is inferred for `receiveMessage` is a method that always raises.

from __future__ import annotations

import functools
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from thespian.actors import Actor, ActorExitRequest, ActorSystem

from harness import expect
from peers import Peer
from workload import Echo, Note, Sending, Stopwatch, Tally, sum_below

if TYPE_CHECKING:
    from collections.abc import Generator


class Echoing(Actor):  # type: ignore[misc]
    """Answers each question with its number."""

    def receiveMessage(self, message: object, sender: Any) -> None:  # noqa: N802
        if isinstance(message, Echo):
            self.send(sender, message.number)


class Noting(Actor):  # type: ignore[misc]
    """Handles notes; its tally comes as the first message, as actors here are made without arguments."""

    tally: Tally

    def receiveMessage(self, message: object, sender: Any) -> None:  # noqa: ARG002, N802
        if isinstance(message, Note):
            self.tally.add(message)
        elif isinstance(message, Tally):
            self.tally = message


class Idle(Noting):
    """Waits for notes that never come; counts the end."""

    def receiveMessage(self, message: object, sender: Any) -> None:  # noqa: N802
        if isinstance(message, ActorExitRequest):
            self.tally.handled += 1
        super().receiveMessage(message, sender)


@contextmanager
def open_system() -> Generator[Any]:
    """A system without its own logging."""
    system = ActorSystem("simpleSystemBase", logDefs=False)
    try:
        yield system
    finally:
        system.shutdown()


def ask(count: int) -> float:
    """Seconds for that many asks, one after another, a fresh request each."""
    with open_system() as system:
        address, total = system.createActor(Echoing), 0
        watch = Stopwatch()
        for number in range(count):
            total += system.ask(address, Echo(number))
        seconds = watch.seconds()
    expect(total, sum_below(count), "sum of the answers")
    return seconds


def send(count: int, sending: Sending) -> float:
    """Seconds until that many messages have been handled."""
    tally = Tally()
    with open_system() as system:
        address = system.createActor(Noting)
        system.tell(address, tally)
        watch = Stopwatch()
        sending.feed_plainly(functools.partial(system.tell, address), count)
        seconds = watch.seconds()
    tally.check(count, sending.total(count))
    return seconds


def spawn(count: int) -> float:
    """Seconds for that many actors, one after another; all stay alive."""
    tally = Tally()
    with open_system() as system:
        watch = Stopwatch()
        addresses = [system.createActor(Idle) for _ in range(count)]
        seconds = watch.seconds()
        _end(system, addresses, tally)
    expect(tally.handled, count, "actors that ended well")
    return seconds


def stop(count: int) -> float:
    """Seconds to stop that many idle actors, one after another, in reverse order of start."""
    tally = Tally()
    with open_system() as system:
        addresses = [system.createActor(Idle) for _ in range(count)]
        seconds = _end(system, addresses, tally)
    expect(tally.handled, count, "actors that ended well")
    return seconds


def _end(system: Any, addresses: list[Any], tally: Tally) -> float:
    """Give each actor the tally to count its end in, then end them all; seconds of the latter."""
    for address in addresses:
        system.tell(address, tally)
    watch = Stopwatch()
    for address in reversed(addresses):
        system.tell(address, ActorExitRequest())
    return watch.seconds()


PEERS: Final = (
    Peer("thespian", "simpleSystemBase: no concurrency, the sender's call runs the handler", ask, send, spawn, stop),
)
