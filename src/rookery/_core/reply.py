"""Asks: a one-shot slot for the reply, and the requests an actor has in hand."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, final

from .._model.dead_letter import Reason
from .._model.errors import AlreadyAnswered, AskTimeout
from .._model.wording import brief

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ._parking import Spot
    from .cell import Cell

SWEEP_AT: Final = 64
"""An actor may have this many requests in hand before those are looked for whose asker has left."""


@final
class Ask:
    """One request on its way, and the slot its answer goes to.

    The first of these settles it, and whatever comes later changes nothing: an answer, a failure, the end of
    its ``timeout``, the asker's cancellation. Settling never raises and never waits, so that a server cannot
    be harmed by its callers.
    """

    __slots__ = (
        "_error",
        "_spot",
        "_value",
        "asker",
        "asker_left",
        "deadline",
        "expired",
        "priority",
        "request",
        "target",
        "twin",
    )

    def __init__(
        self, spot: Spot, request: object, target: Cell, priority: int, deadline: float, asker: Cell | None
    ) -> None:
        self.request: object = request
        self.target: Cell = target  # who is to answer; changed by a forward
        self.priority: int = priority
        self.deadline: float = deadline  # on the loop's clock; math.inf for none
        self.asker: Cell | None = asker  # the actor whose main task asks
        self.asker_left: bool = False
        self.expired: bool = False  # settled because its deadline has passed
        self.twin: Ask | None = None  # the same request object, asked again, in the same hand
        self._spot = spot  # where its asker parks, until it is settled
        # Set when it is settled, and not looked at before.
        self._value: Any
        self._error: BaseException | None

    @property
    def settled(self) -> bool:
        """Whether there is an answer, or an error in its place."""
        return self._spot.granted

    def answer(self) -> Any:
        """What it was settled with, raised if that is an error."""
        if self._error is not None:
            try:
                raise self._error
            finally:
                del self  # as in `ask`, which calls this
        return self._value

    def abandon(self) -> None:
        """The asker has left, cancelled."""
        self.asker_left = True
        if self._spot.granted and self._error is None:  # answered and cancelled in the same tick
            self.target.dead_letter(self._value, Reason.LATE_REPLY)

    def reply(self, value: object) -> bool:
        """Settle with a value; False if nobody waits for it any more."""
        if self._spot.granted or self.asker_left:
            return False
        self._value = value
        self._error = None
        self._spot.wake()
        return True

    def fail(self, error: BaseException) -> bool:
        """Settle with an error, to be raised in the asker; False if nobody waits for it any more."""
        if self._spot.granted or self.asker_left:
            return False
        self._error = error
        self._spot.wake()
        return True

    def time_out(self, timeout: float) -> None:
        """That many seconds are over: the asker gets `AskTimeout` and has left."""
        actor = self.target
        late = AskTimeout(
            f"{actor.path} did not answer {type(self.request).__name__} within {timeout} s "
            f"(state: {actor.state.value}, queued: {len(actor.mailbox)})"
        )
        if self.fail(late):
            self.asker_left = True

    def expire(self) -> None:
        """Its deadline has passed. Its asker learns of it, if it has not left yet, and sees whether it is cancelled."""
        self.expired = self.fail(
            AskTimeout(
                f"the deadline under which {type(self.request).__name__} was asked of {self.target.path} has passed: that of "
                "a scope counts as it was then, so set it before asking"
            )
        )

    def stale(self, now: Callable[[], float]) -> bool:
        """Whether its deadline has passed or its asker has left, so that it need not be served."""
        return self.asker_left or (self.deadline < math.inf and self.deadline <= now())


@final
class Hand:
    """The requests one incarnation has received and not yet answered.

    Requests are told apart by identity, because equal requests are different requests. One whose asker has left
    is let go of sooner or later, so that an actor which never answers some requests does not keep them all.
    """

    __slots__ = ("_answered", "_answered_after", "_asks", "_count", "_sweep_at")

    def __init__(self) -> None:
        self._asks: dict[int, Ask] = {}  # by the identity of the request
        self._count = 0
        self._sweep_at = SWEEP_AT
        # Answered since the last receive, to tell a second answer from one to a mere message. The identities only: what
        # a request carries need not outlive its answer.
        self._answered: set[int] = set()
        self._answered_after = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Ask]:
        for first in self._asks.values():
            yield from _with_twins(first)

    def take_up(self, ask: Ask) -> None:
        """A request was received."""
        if self._count >= self._sweep_at:
            self._sweep()
        self._add(ask)

    def peek(self, request: object) -> Ask | None:
        """The oldest unanswered ask of this request object."""
        return self._asks.get(id(request))

    def asks_of(self, request: object) -> list[Ask]:
        """The unanswered asks of this request object, the oldest first."""
        return list(_with_twins(self._asks.get(id(request))))

    def put_down(self, request: object, received: int = 0) -> Ask | None:
        """The ask of this request object that is about to be answered.

        Args:
            request: The object.
            received: How many messages the actor has received so far.

        Returns:
            The oldest whose asker still waits; if none does, the oldest. None if the object was never asked, only
            sent.

        Raises:
            AlreadyAnswered: if it was answered since the last receive.
        """
        key = id(request)
        ask = self._asks.pop(key, None)
        if ask is None:
            if received == self._answered_after and key in self._answered:
                raise AlreadyAnswered(
                    f"{brief(request)} has been answered already: a request gets one `reply`, `fail` or `forward`"
                )
            return None
        if ask.twin is not None:
            ask = self._choose(key, ask)
        self._count -= 1
        if received != self._answered_after:
            self._answered.clear()
            self._answered_after = received
        self._answered.add(key)
        return ask

    def clear(self) -> list[Ask]:
        """Let go of everything.

        Returns:
            The unanswered asks.
        """
        left = list(self)
        self._keep([])
        return left

    def _add(self, ask: Ask) -> None:
        self._count += 1
        earlier = self._asks.setdefault(id(ask.request), ask)
        if earlier is not ask:
            while earlier.twin is not None:
                earlier = earlier.twin
            earlier.twin = ask

    def _choose(self, key: int, first: Ask) -> Ask:
        """One of several asks of the same object; the others stay."""
        others = list(_with_twins(first))
        chosen = next((ask for ask in others if not ask.asker_left), first)
        others.remove(chosen)
        for ask, twin in zip(others, [*others[1:], None], strict=True):
            ask.twin = twin
        self._asks[key] = others[0]
        chosen.twin = None
        return chosen

    def _sweep(self) -> None:
        """Let go of those whose asker has left; amortised, a constant cost for each request."""
        self._keep([ask for ask in self if not ask.asker_left])
        self._sweep_at = max(SWEEP_AT, 2 * self._count)

    def _keep(self, asks: list[Ask]) -> None:
        self._asks.clear()
        self._count = 0
        for ask in asks:
            ask.twin = None
            self._add(ask)


def _with_twins(ask: Ask | None) -> Iterator[Ask]:
    while ask is not None:
        yield ask
        ask = ask.twin


EMPTY: Final = Hand()
"""The hand of everyone who has not been asked yet. Nothing is ever taken up in it: who is asked gets a hand of their own."""
