"""The mailbox on its own: a memory channel with priorities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar, final

import anyio
import attrs

from .._model.checks import check_priority
from .._model.messages import DEFAULT_PRIORITY
from .._model.options import Options
from .._model.overflow import Overflow
from ._parking import current_loop
from .mailbox import NOTHING, Mailbox
from .turn import Turn

if TYPE_CHECKING:
    from typing import Self

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
T_contra = TypeVar("T_contra", contravariant=True)


@final
@attrs.frozen
class ChannelStatistics:
    """A channel at one moment.

    Attributes:
        queued: Items in it.
        capacity: How many it holds.
        blocked_senders: Tasks that wait for room.
        dropped: Items its overflow policy has dropped so far.
    """

    queued: int
    capacity: int
    blocked_senders: int
    dropped: int


def _statistics(mailbox: Mailbox[Any]) -> ChannelStatistics:
    return ChannelStatistics(len(mailbox), mailbox.capacity, mailbox.blocked_senders, mailbox.dropped)


@final
@attrs.define
class _Ends:
    """Which ends of a channel are open."""

    sending: bool = True
    receiving: bool = True

    def why_not_send(self) -> Exception:
        if self.sending:
            why = "the receiving end of this channel is closed: nobody would get what is sent"
        else:
            why = "the sending end of this channel is closed: close it after the last item"
        return anyio.ClosedResourceError(why)


def _why_not_receive() -> Exception:
    return anyio.ClosedResourceError("the receiving end of this channel is closed: close it when no more is wanted")


@final
class PrioritySender(Generic[T_contra]):
    """The sending end of `open_priority_channel`."""

    __slots__ = ("_ends", "_mailbox")

    def __init__(self, mailbox: Mailbox[T_contra], ends: _Ends) -> None:
        self._mailbox = mailbox
        self._ends = ends

    async def send(self, item: T_contra, *, priority: int = DEFAULT_PRIORITY) -> None:
        """Send an item, waiting for room under ``Overflow.BLOCK``. If cancelled, it was not sent.

        Args:
            item: What to send.
            priority: 0 to 255; larger is received sooner.

        Raises:
            MailboxFull: under ``Overflow.REJECT``, when full.
            ValueError: for a priority out of range.
            anyio.ClosedResourceError: once either end is closed.
        """
        check_priority(priority)
        await self._mailbox.put(item, priority)

    def send_nowait(self, item: T_contra, *, priority: int = DEFAULT_PRIORITY) -> None:
        """Send an item now.

        Raises:
            MailboxFull: if there is no room, under ``BLOCK`` and ``REJECT``.
            ValueError: for a priority out of range.
            anyio.ClosedResourceError: once either end is closed.
        """
        check_priority(priority)
        self._mailbox.put_nowait(item, priority)

    def statistics(self) -> ChannelStatistics:
        """The channel now."""
        return _statistics(self._mailbox)

    def close(self) -> None:
        """Send no more. The receiver gets what is queued, then ``anyio.EndOfStream``. Idempotent."""
        self._ends.sending = False
        self._mailbox.close(self._ends.why_not_send)
        if self._ends.receiving:
            self._mailbox.halt(anyio.EndOfStream, drain=True)


@final
class PriorityReceiver(Generic[T_co]):
    """The receiving end of `open_priority_channel`; iterate over it, or call `receive`."""

    __slots__ = ("_ends", "_mailbox")

    def __init__(self, mailbox: Mailbox[T_co], ends: _Ends) -> None:
        self._mailbox = mailbox
        self._ends = ends

    async def receive(self) -> T_co:
        """The most urgent item, waiting for one if need be. If cancelled, nothing was taken.

        Raises:
            anyio.EndOfStream: once the sending end is closed and everything was received.
            anyio.ClosedResourceError: once this end is closed.
        """
        item = self._mailbox.poll()
        return await self._mailbox.get() if item is NOTHING else item

    def receive_nowait(self) -> T_co:
        """The most urgent item.

        Raises:
            WouldBlock: if there is none.
            anyio.EndOfStream: once the sending end is closed and everything was received.
            anyio.ClosedResourceError: once this end is closed.
        """
        return self._mailbox.get_nowait()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T_co:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    def statistics(self) -> ChannelStatistics:
        """The channel now."""
        return _statistics(self._mailbox)

    def close(self) -> None:
        """Receive no more; what is queued is dropped, and senders are turned away. Idempotent."""
        self._ends.receiving = False
        self._mailbox.close(self._ends.why_not_send)
        self._mailbox.halt(_why_not_receive)
        self._mailbox.withdraw()


@final
class open_priority_channel(tuple[PrioritySender[T], PriorityReceiver[T]], Generic[T]):  # noqa: N801
    """A bounded channel with exact priorities, first in first out within one.

    Written as a class, as trio's ``open_memory_channel`` and anyio's object stream are, so that the item
    type can be given: ``send, receive = open_priority_channel[Job](100)``.

    Args:
        capacity: How many items it holds, at least 1.
        overflow: What happens to an item that finds it full.

    Raises:
        ValueError: for a capacity below 1.
        RuntimeError: outside of an event loop.

    Example:
        >>> send, receive = open_priority_channel[str](10)
        >>> await send.send("later")
        >>> await send.send("now", priority=200)
        >>> await receive.receive()
        'now'
    """

    __slots__ = ()

    def __new__(cls, capacity: int, *, overflow: Overflow = Overflow.BLOCK) -> Self:
        checked = Options(capacity=capacity, overflow=overflow)
        loop = current_loop()
        mailbox: Mailbox[T] = Mailbox(
            loop, Turn(loop), capacity=checked.capacity, overflow=checked.overflow, discard=_dropped
        )
        ends = _Ends()
        return super().__new__(cls, (PrioritySender(mailbox, ends), PriorityReceiver(mailbox, ends)))


def _dropped(item: object, priority: int, reason: object) -> None:
    """Outside of a system there are no dead letters; the mailbox has counted it."""
