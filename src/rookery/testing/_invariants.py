"""What holds in every system, whatever its actors do: messages are conserved and in order, watchers are told once.

A `Log` is the only thing in the running system. Its entries are checked when the loop is at rest, so that a check may
raise like any other code.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final, final

from .._core.instruments import Instrument
from .._core.watching import Restarted, Terminated
from .._model.dead_letter import Reason
from .._model.lifecycle import ActorState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .._core.ref import ActorRef
    from .._core.spec import ChildSpec
    from .._model.dead_letter import DeadLetter

    Ref = ActorRef[Any]

HEARD: Final = tuple(name for name in vars(Instrument) if not name.startswith("_"))

FROM_THE_QUEUE: Final = {Reason.UNREAD, Reason.EXPIRED, Reason.ABANDONED, Reason.DROPPED_OLDEST}
"""Those of the other reasons have never been in a mailbox."""


class Check(Instrument):
    """A claim about what happens in a system; its methods raise `AssertionError`.

    Attributes:
        now: When that happens which it hears of, in seconds.
    """

    now: float = 0.0

    # Beside what instruments hear, these are told by the test and by its actors, just before they do it.

    def admitted(self, owner: Ref | None, spec: ChildSpec[Any]) -> None:
        """A child is spawned, by the system or by an actor."""

    def requested(self, what: str, ref: Ref) -> None:
        """Somebody asks for a "stop", "restart" or "remove"."""

    def leaving(self, ref: Ref) -> None:
        """A behaviour is going to return or to raise by itself."""

    def watched(self, watcher: Ref, target: Ref, gone: bool) -> None:
        """An actor begins to watch another."""

    def closing(self) -> None:
        """The block is left."""

    def at_rest(self, busy: Callable[[Ref], bool]) -> None:
        """Nobody has anything to do until a message comes, or time passes.

        Args:
            busy: Tells who waits inside of its behaviour for something else than messages.
        """


@final
class Log(Instrument):
    """Keeps what happens, for checks to hear of it later."""

    def __init__(self) -> None:
        self.now = 0.0
        self._entries: list[tuple[float, str, tuple[Any, ...]]] = []

    def add(self, event: str, *what: Any) -> None:
        """One more thing has happened, or is just about to."""
        self._entries.append((self.now, event, what))

    def tell(self, checks: Iterable[Check]) -> None:
        """Tell what they have not heard yet."""
        entries, self._entries = self._entries, []
        for now, event, what in entries:
            for check in checks:
                check.now = now
                getattr(check, event)(*what)


def _recording(event: str) -> Any:
    def record(log: Log, *what: Any) -> None:
        log.add(event, *what)

    return record


for _event in HEARD:
    setattr(Log, _event, _recording(_event))


@final
class Traffic(Check):
    """Messages are handed out by priority, in the order in which they came; each is handed out or a dead letter, once."""

    def __init__(self) -> None:
        self.queues: dict[Ref, list[tuple[int, object]]] = {}
        self.hands: dict[Ref, list[object]] = {}

    def holds(self, message: object) -> bool:
        """Whether it is in a mailbox, or was handed out and neither answered nor given up since."""
        queued = any(one is message for queue in self.queues.values() for _, one in queue)
        return queued or any(one is message for hand in self.hands.values() for one in hand)

    def sent(self, ref: Ref, message: object, priority: int, sender: Ref | None) -> None:
        """It is behind those that are as urgent."""
        queue = self.queues.setdefault(ref, [])
        behind = sum(other >= priority for other, _ in queue)
        queue.insert(behind, (priority, message))

    def received(self, ref: Ref, message: object) -> None:
        """It was the first."""
        if not isinstance(message, Terminated | Restarted):
            self._take(ref, message, "received")
            self.hands.setdefault(ref, []).append(message)

    def _take(self, ref: Ref, message: object, what: str) -> None:
        queue = self.queues.get(ref)
        assert queue, f"{ref.path} {what} {message!r}, which nobody had sent"
        assert queue[0][1] is message, f"{ref.path} {what} {message!r}, but {queue[0][1]!r} was first"
        queue.pop(0)

    def answered(
        self, ref: Ref, request: object, answer: object, error: BaseException | None, asker: Ref | None
    ) -> None:
        """It is off its hands."""
        self.hands[ref] = [other for other in self.hands.get(ref, []) if other is not request]

    def dead_letter(self, letter: DeadLetter) -> None:
        """It was in that mailbox, and is no more."""
        if letter.reason not in FROM_THE_QUEUE:
            return
        for ref, queue in self.queues.items():
            for at, (_, message) in enumerate(queue):
                if message is letter.message and ref.path == letter.actor:
                    del queue[at]
                    return
        raise AssertionError(f"{letter!r} was not in the mailbox")

    def exited(self, ref: Ref, incarnation: int, crash: Exception | None) -> None:
        """What it had in hand fails."""
        self.hands.pop(ref, None)

    def ended(self, ref: Ref, reason: Exception | None) -> None:
        """What it had not received are dead letters by now."""
        left = self.queues.pop(ref, [])
        assert not left, f"{ref.path} has ended, and neither received nor gave up {left}"

    def at_rest(self, busy: Callable[[Ref], bool]) -> None:
        """What is neither is still there."""
        for ref, queue in self.queues.items():
            queued = ref.statistics().queued
            assert queued == len(queue), f"{ref.path} has {queued} messages in its mailbox instead of {queue}"
            waits = ref.state is not ActorState.RUNNING or busy(ref)
            assert waits or not queue, f"{ref.path} does not receive {queue}"


@final
class Watches(Check):
    """Who watches is told of each restart once, and once of the end. It knows of what the test's own actors watch."""

    def __init__(self) -> None:
        self._watchers: set[Ref] = set()
        self._watching: dict[tuple[Ref, Ref], None] = {}
        self._owed: Counter[tuple[Ref, type, Ref]] = Counter()

    def watched(self, watcher: Ref, target: Ref, gone: bool) -> None:
        """Of what is gone it is told at once; what waits for its turn to begin a new life is not."""
        self._watchers.add(watcher)
        if gone:
            self._owed[watcher, Terminated, target] += 1
        else:
            self._watching[watcher, target] = None

    def started(self, ref: Ref, incarnation: int) -> None:
        """A restart is told; a new life is none."""
        if incarnation > 1:
            self._owe(Restarted, ref)

    def exited(self, ref: Ref, incarnation: int, crash: Exception | None) -> None:
        """Its watches end with it."""
        self._watching = {pair: None for pair in self._watching if pair[0] is not ref}
        self._owed = Counter({owed: count for owed, count in self._owed.items() if owed[0] is not ref})

    def ended(self, ref: Ref, reason: Exception | None) -> None:
        """The end is told, and the watch is over."""
        self._owe(Terminated, ref)
        self._watching = {pair: None for pair in self._watching if pair[1] is not ref}

    def _owe(self, event: type, target: Ref) -> None:
        self._owed.update((watcher, event, target) for watcher, other in self._watching if other is target)

    def received(self, ref: Ref, message: object) -> None:
        """It is owed that."""
        if isinstance(message, Terminated | Restarted) and ref in self._watchers:
            owed = (ref, type(message), message.ref)
            assert self._owed[owed] > 0, f"{ref.path} is told {message!r}, once too often"
            self._owed[owed] -= 1

    def at_rest(self, busy: Callable[[Ref], bool]) -> None:
        """Everybody who could be told has been."""
        for (watcher, event, target), count in self._owed.items():
            waits = watcher.state is not ActorState.RUNNING or busy(watcher)
            assert waits or not count, f"{watcher.path} was not told {event.__name__} of {target.path}"
