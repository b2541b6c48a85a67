"""Instruments: who hears everything that happens in a system."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, final

from .._model.messages import DEFAULT_PRIORITY
from .._model.wording import brief
from ._parking import uninterrupted
from .context import Context, incarnation_of
from .logs import log_safely
from .mailbox import NOTHING, Mailbox
from .reply import Ask
from .within import within_actor

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .._model.dead_letter import DeadLetter
    from .._model.errors import StuckActor
    from .cell import Cell
    from .ref import ActorRef

logger = logging.getLogger("rookery.instruments")

TRAFFIC: Final = ("sent", "received", "answered")
"""What happens for each message."""


class Instrument:
    """Hears what happens in a system: derive from it, and override what you want to hear of.

    ``open_system(instruments=[Mine()])``. Methods are called on the spot, in the order of what happens, and must neither
    wait nor send. One that raises is logged, and hears no more. A system without instruments pays next to nothing for them,
    and its messages cost nothing more where none of the instruments hears of messages.
    """

    def started(self, ref: ActorRef[Any], incarnation: int) -> None:
        """An incarnation has begun."""

    def ready(self, ref: ActorRef[Any], incarnation: int) -> None:
        """Its start-up is over."""

    def sent(self, ref: ActorRef[Any], message: object, priority: int, sender: ActorRef[Any] | None) -> None:
        """A message or request is in the actor's mailbox; sent from a task of ``sender``, or from outside."""

    def received(self, ref: ActorRef[Any], message: object) -> None:
        """The actor has been handed a message, a request, or an event of one that it watches."""

    def answered(
        self,
        ref: ActorRef[Any],
        request: object,
        answer: object,
        error: BaseException | None,
        asker: ActorRef[Any] | None,
    ) -> None:
        """The actor has answered a request of ``asker``'s main task, or of anybody else's, with a value or an error."""

    def left(self, ref: ActorRef[Any], incarnation: int) -> None:
        """The behaviour of an incarnation is over, and its tasks with it; its children are stopped next."""

    def exited(self, ref: ActorRef[Any], incarnation: int, crash: Exception | None) -> None:
        """An incarnation is over, its children too: by a crash, or because it returned, or had to go with a sibling.

        What follows is said next: that it has crashed, that another has started, that the actor has ended.
        """

    def crashed(self, ref: ActorRef[Any], incarnation: int, crash: Exception, decision: str) -> None:
        """An incarnation has crashed, and this is what its supervisor does."""

    def stopping(self, ref: ActorRef[Any]) -> None:
        """The actor has been asked to stop for good."""

    def ended(self, ref: ActorRef[Any], reason: Exception | None) -> None:
        """The actor is down: by a crash, or normally."""

    def stuck(self, ref: ActorRef[Any], error: StuckActor) -> None:
        """The actor was cancelled and does not end."""

    def dead_letter(self, letter: DeadLetter) -> None:
        """Nobody gets a message."""


@final
class Instruments:
    """Those of one system."""

    def __init__(self, instruments: Iterable[Instrument]) -> None:
        """Check them.

        Raises:
            TypeError: for anything but instruments.
        """
        self._listening: list[Instrument] = list(instruments)
        for instrument in self._listening:
            if not isinstance(instrument, Instrument):
                raise TypeError(
                    f"an instrument is an instance of a class derived from `Instrument`, got {brief(instrument)}: write "
                    "`open_system(instruments=[Mine()])`"
                )
        self.hear_traffic: Final = any(map(_hears_traffic, self._listening))

    @uninterrupted
    def tell(self, event: str, *what: Any) -> None:
        """Call a method of each."""
        for instrument in tuple(self._listening):
            try:
                getattr(instrument, event)(*what)
            except Exception:  # noqa: BLE001  # logged
                self._listening.remove(instrument)
                log_safely(logger.exception, "the instrument %r failed at %r and hears no more", instrument, event)


@final
class ObservedMailbox(Mailbox[Any]):
    """A mailbox whose traffic instruments hear."""

    __slots__ = ("_cell", "_instruments")

    def __init__(self, cell: Cell, instruments: Instruments) -> None:
        settings = cell.spec.settings
        super().__init__(
            cell.engine.loop,
            cell.engine.turn,
            capacity=settings.capacity,
            overflow=settings.overflow,
            discard=cell.discard,
        )
        self._cell: Final = cell
        self._instruments: Final = instruments

    @uninterrupted
    def offer(self, item: Any, priority: int = DEFAULT_PRIORITY) -> bool:
        added = super().offer(item, priority)
        if added:
            self._tell_sent(item, priority)
        return added

    @uninterrupted
    def poll(self, now: float | None = None) -> Any:
        item = super().poll(now)
        if item is not NOTHING:
            self._tell_received(item)
        return item

    def _push(self, item: Any, priority: int) -> None:
        super()._push(item, priority)
        self._tell_sent(item, priority)

    def _pop(self) -> Any:
        item = super()._pop()
        self._tell_received(item)
        return item

    def _tell_sent(self, item: Any, priority: int) -> None:
        sender = within_actor.get()
        self._instruments.tell("sent", self._cell.ref, _message(item), priority, sender and sender.ref)

    def _tell_received(self, item: Any) -> None:
        if not (isinstance(item, Ask) and item.stale(self._cell.engine.loop.now)):  # that one is skipped
            self._instruments.tell("received", self._cell.ref, _message(item))


@final
class ObservedContext(Context[Any]):
    """A context whose answers instruments hear."""

    __slots__ = ()

    @uninterrupted
    def reply(self, request: Any, value: Any) -> None:
        asker = self._asker(request)
        super().reply(request, value)
        self._tell(request, value, None, asker)

    @uninterrupted
    def fail(self, request: Any, error: BaseException) -> None:
        asker = self._asker(request)
        super().fail(request, error)
        self._tell(request, None, error, asker)

    def _asker(self, request: Any) -> ActorRef[Any] | None:
        ask = incarnation_of(self).hand.peek(request)
        return None if ask is None or ask.asker is None else ask.asker.ref

    def _tell(self, request: Any, value: Any, error: BaseException | None, asker: ActorRef[Any] | None) -> None:
        instruments = incarnation_of(self).cell.engine.instruments
        assert instruments is not None, "which this context was made for"
        instruments.tell("answered", self.self, request, value, error, asker)


def _hears_traffic(instrument: Instrument) -> bool:
    """Whether it has methods of its own for what happens for each message."""
    return any(
        getattr(getattr(instrument, event), "__func__", None) is not getattr(Instrument, event) for event in TRAFFIC
    )


def _message(item: object) -> object:
    return item.request if isinstance(item, Ask) else item
