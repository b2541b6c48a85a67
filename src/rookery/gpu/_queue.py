"""In-order device queues: commands go in, operations come out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, final

from . import _opencl
from ._lane import Lane, Operation, Used

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ._device import Device


class OnDevice(Used, Protocol):
    """Something in device memory: commands on different queues that use it run in the order of their start."""

    @property
    def last(self) -> Mapping[Lane, Operation]:
        """The latest operation of each lane that uses it and is not over."""
        ...


def events_of(used: Sequence[OnDevice], within: Lane | None = None) -> list[_opencl.Event] | None:
    """The events that a command using these has to wait for; those ``within`` its own lane are in order anyway."""
    return [
        operation.event
        for thing in used
        for lane, operation in thing.last.items()
        if lane is not within and operation.event is not None
    ] or None


@final
class Queue:
    """An in-order queue: its commands run one after the other, and beside those of other queues.

    Launch into it with ``kernel(..., queue=queue)``. A command waits for those on other queues that use the same
    buffers: the order in which a program starts them is the order in which they see their data.
    """

    __slots__ = ("_profile", "lane", "owner", "raw")

    def __init__(self, owner: Device, raw: _opencl.RawQueue, name: str, *, profile: bool) -> None:
        self.owner: Final = owner
        """The device it belongs to."""
        self.raw: Final = raw
        self.lane: Final = Lane(owner.loop, name)
        self._profile = profile

    @property
    def name(self) -> str:
        """What to call it in messages."""
        return self.lane.name

    @property
    def in_flight(self) -> int:
        """How many commands have been started and are not over."""
        return len(self.lane.in_flight)

    async def synchronize(self) -> None:
        """Wait until everything that was started so far is over, well or not. Cancelling changes nothing."""
        self.lane.check_thread()
        if self.lane.in_flight:
            await self.lane.in_flight[-1].settled()

    def after(self, used: Sequence[OnDevice]) -> list[_opencl.Event] | None:
        """The events on other queues, and of host copies, that a command using these has to wait for."""
        self.lane.check_open()
        return events_of(used, self.lane)

    def follow(
        self, event: _opencl.Event, used: Sequence[OnDevice], label: Callable[[], str], keep: object = None
    ) -> Operation:
        """Follow a command that was just put into this queue.

        Args:
            event: The command's event.
            used: What it uses, to be told when it is over.
            label: What to call it in messages; called only when needed.
            keep: What must not be collected before it is over.
        """
        operation = Operation(self.lane, used, label, event=event, keep=keep)
        self.lane.follow(operation, used, self._timed(operation, event) if self._profile else event.wait)
        self.raw.flush()
        return operation

    @staticmethod
    def _timed(operation: Operation, event: _opencl.Event) -> Callable[[], None]:
        def wait() -> None:
            event.wait()
            operation.seconds = _opencl.run_seconds(event)

        return wait
