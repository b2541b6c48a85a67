"""In-order device queues: commands go in, operations come out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol, final

from . import _opencl
from ._errors import ArgumentTypeError, ArgumentValueError, CommandFailed
from ._lane import Lane
from ._operation import Operation, Used
from ._profile import OperationProfile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ._device import Device
    from ._profile import Recorder


class OnDevice(Used, Protocol):
    """Something in device memory: commands on different queues that use it run in the order of their start."""

    @property
    def last(self) -> Mapping[Lane, Operation]:
        """The latest operation of each lane that uses it and is not over."""
        ...


def events_of(used: Sequence[OnDevice], within: Lane | None = None) -> list[_opencl.Event] | None:
    """The events that a command using these has to wait for; those ``within`` its own lane are in order anyway.

    Raises:
        CommandFailed: if one of them has failed.
    """
    return [
        _event_of(operation, operation.event)
        for thing in used
        for lane, operation in thing.last.items()
        if lane is not within and operation.event is not None
    ] or None


def _event_of(operation: Operation, event: _opencl.Event) -> _opencl.Event:
    """The event of an operation that something else is to run after."""
    if _opencl.has_failed(event):
        raise CommandFailed(
            f"{operation.label} failed, and this was to run after it: await that first, then write anew what it was to "
            "write"
        )
    return event


@final
class Queue:
    """An in-order queue: its commands run one after the other, and beside those of other queues.

    Launch into it with ``kernel(..., queue=queue)``. A command waits for those on other queues that use the same
    buffers: the order in which a program starts them is the order in which they see their data.
    """

    __slots__ = ("_recorder", "lane", "owner", "raw")

    def __init__(self, owner: Device, raw: _opencl.RawQueue, name: str, recorder: Recorder | None) -> None:
        self.owner: Final = owner
        """The device it belongs to."""
        self.raw: Final = raw
        self.lane: Final = Lane(owner.loop, name, owner.failures)
        self._recorder = recorder

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

    def after(self, used: Sequence[OnDevice], more: Sequence[Operation] = ()) -> list[_opencl.Event] | None:
        """The events on other queues, and of host copies, that a command using these has to wait for.

        Args:
            used: What it uses.
            more: Operations that it is to run after in any case.

        Raises:
            DeviceClosed: if the queue takes no more commands.
            CommandFailed: if one of them has failed.
        """
        self.lane.check_open()
        events = events_of(used, self.lane)
        return events if more == () else [*(events or ()), *self._events_of(more)] or None

    def _events_of(self, operations: Any) -> Iterator[_opencl.Event]:
        given: list[object] = list(operations) if isinstance(operations, (list, tuple)) else [operations]  # pyright: ignore[reportUnknownArgumentType]
        for operation in given:
            if not isinstance(operation, Operation):
                raise ArgumentTypeError(
                    f"after is a list of operations, got {operations!r}: write after=[kernel.submit(...)]"
                )
            operation.raise_if_failed()
            if operation.event is None or operation.lane is self.lane:
                continue
            if not _opencl.is_event_of(operation.event, self.owner.context):
                raise ArgumentValueError(
                    f"{operation!r} is of another `open_device()` than {self.name!r}, and devices do not wait for each "
                    "other: write `await operation` before"
                )
            yield _event_of(operation, operation.event)

    def follow(
        self,
        event: _opencl.Event,
        used: Sequence[Used],
        label: Callable[[], str],
        keep: object = None,
        row: str | None = None,
        *,
        at_once: bool = False,
    ) -> Operation:
        """Follow a command that was just put into this queue.

        Args:
            event: The command's event.
            used: What it uses, to be told when it is over.
            label: What to call it in messages; called only when needed.
            keep: What must not be collected before it is over.
            row: Where a trace shows it; in the row of this queue unless given.
            at_once: Whether the running task awaits it before it does anything else.
        """
        if self._recorder is None:
            operation, wait = Operation(self.lane, used, label, event=event, keep=keep), event.wait
        else:
            used = (*used, self._recorder.command(row or self.name))
            operation = Operation(self.lane, used, label, event=event, keep=keep)
            wait = self._timed(operation, event)
        began = self.lane.loop.stopwatch() if at_once else None
        try:
            # Before the thread waits: a simulator computes here, and cannot be entered by two threads at once.
            self.raw.flush()
            operation.began = began  # not if that raised: then nobody awaits it
        finally:
            self.lane.follow(operation, used, wait)
        return operation

    def _timed(self, operation: Operation, event: _opencl.Event) -> Callable[[], None]:
        offset = self.owner.clock_offset

        def wait() -> None:
            event.wait()
            operation.profile = OperationProfile(*(seconds + offset for seconds in _opencl.event_times(event)))

        return wait
