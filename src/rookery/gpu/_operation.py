"""Operations: what is on its way on a device, or in a thread, and what becomes of it.

A command on a device cannot be cancelled, nor can a copy. A task that waits for one can: it runs on, and the operation keeps
what it uses, events, buffers and host memory, until it is done. What works on something that another one failed to write
fails with that, whether or not the driver ran it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, Protocol, final

import anyio

from rookery._core._parking import uninterrupted
from rookery._model.errors import RookeryError

from . import _opencl
from ._errors import CommandFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from rookery._core._parking import Spot

    from ._lane import Lane
    from ._profile import OperationProfile

logger: Final = logging.getLogger("rookery.gpu")


class Used(Protocol):
    """Something that operations use; it hears when each begins and when it is done."""

    def started(self, operation: Operation) -> None:
        """An operation that uses it is on its way."""

    def completed(self, operation: Operation) -> None:
        """That operation is done, well or not."""


@final
class Operation:
    """Something on its way: a kernel launch or a copy. Await it, any number of times, or let it go.

    If cancelled while waiting: it runs on, and what it uses stays reserved until it is done.

    Raises (when awaited):
        CommandFailed: if it failed on the device.
        WrongLoop: in another thread than that of the loop it was started in.
    """

    __slots__ = (
        "_error",
        "_keep",
        "_label",
        "_settled",
        "_spots",
        "_used",
        "began",
        "ended",
        "event",
        "first",
        "follows",
        "lane",
        "profile",
        "raised",
        "reported",
        "work",
    )

    def __init__(
        self,
        lane: Lane,
        used: Sequence[Used],
        label: Callable[[], str],
        *,
        event: _opencl.Event | None = None,
        keep: object = None,
    ) -> None:
        self.lane: Final = lane
        self.event = event
        """pyopencl's event of a command, or of a host copy that commands wait for, until it is done."""
        self.profile: OperationProfile | None = None
        """When it was where, once it is done well; only with ``open_device(profile=True)``."""
        self.work: Callable[[], object] | None = None
        """What the lane's thread does for it, until that is over."""
        self.raised: Exception | None = None
        """What that raised, for `settle`."""
        self.ended: bool = False
        """Whether `raised` says how it went."""
        self.first: tuple[str, Exception] | None = None
        """What failed first, and why, if it failed because of something else."""
        self.began: float | None = None
        """When it was started, on the loop's stopwatch, if the task that did awaits it at once."""
        self.follows: Sequence[Operation] = ()
        """What was to write what it uses, and was in flight when it was started."""
        self._used = used
        self._label = label
        self._keep = keep
        self._spots: list[Spot] = []
        self._settled = False
        self._error: Exception | None = None
        self.reported: bool = False
        """Whether somebody knows that it failed."""

    @property
    def done(self) -> bool:
        """Whether it is over, well or not."""
        return self._settled

    @property
    def failed(self) -> bool:
        """Whether it is over and went wrong."""
        return self._error is not None

    @property
    def error(self) -> Exception | None:
        """What went wrong, as the driver or the copy raised it."""
        return self._error

    @property
    def seconds(self) -> float | None:
        """How long it ran on the device, where `profile` tells."""
        return None if self.profile is None else self.profile.seconds

    @property
    def label(self) -> str:
        """What it does."""
        return self._label()

    def __await__(self) -> Generator[Any, Any, None]:
        return self._wait().__await__()

    def __repr__(self) -> str:
        state = "failed" if self.failed else "done" if self._settled else "in flight"
        return f"<Operation {self._label()}: {state}>"

    def __del__(self) -> None:
        if self._error is not None and not self.reported:
            # Its text only: whoever keeps the record would keep what the frames of its traceback see.
            logger.error("%s failed and nobody awaited it: %s", self._label(), str(self._error))

    async def _wait(self) -> None:
        await self.settled()
        self.raise_if_failed()

    def raise_if_failed(self) -> None:
        """Raise what went wrong, if it is over and something did.

        Raises:
            CommandFailed: if it failed on the device.
        """
        if self._error is None:
            return
        self.reported = True
        if isinstance(self._error, CommandFailed):
            # Another one each time: the traceback of what is raised sees this operation, and the memory that its raiser saw.
            raise CommandFailed(*self._error.args) from self._error.__cause__
        if isinstance(self._error, RookeryError):
            raise self._error
        raise CommandFailed(f"{self._label()} failed: {self._error}") from self._error

    @uninterrupted
    async def settled(self) -> None:
        """Wait until it is over, well or not."""
        self.lane.check_thread()
        if self._settled:
            return
        spot = self.lane.loop.spot()
        self._spots.append(spot)
        try:
            if self.lane.watched is self and self._spots[0] is spot:  # one looks, and wakes the others in their order
                await self.lane.watch(self)
            await spot.park()
        except BaseException:
            # Nothing to pass on: that it is over remains true for whoever asks next.
            if not spot.granted:
                self._spots.remove(spot)
            raise
        finally:
            del spot  # it knows the task, whose cancellation has a traceback that sees this frame

    async def outlast(self) -> None:
        """Wait until it is over, whatever comes, and raise the first thing that came; see `Latch.outlast`."""
        pierced: BaseException | None = None
        try:
            while not self._settled:
                with anyio.CancelScope(shield=True):
                    try:
                        await self.settled()
                    except GeneratorExit:
                        raise
                    except BaseException as error:  # noqa: BLE001  # raised below
                        pierced = pierced or error
            if pierced is not None:
                raise pierced
        finally:
            del pierced  # its traceback sees this frame, and that sees the operation

    def do(self) -> None:
        """Do its work, in a lane's thread, and find out how it ended."""
        try:
            if self.work is not None:
                self.work()
        except Exception as raised:  # noqa: BLE001 - told to whoever awaits the operation, or logged
            # Without its traceback: the frames there see this operation, and the memory that a copy is about.
            self.raised = raised.with_traceback(None)
        if self.follows:
            _inherit(self)
        self.ended = True

    def settle(self) -> None:
        """Its work is over: let go of what it used, and wake who waits. On the loop's thread."""
        self._settled = True
        self._error, self.raised = self.raised, None
        self.event = self._keep = self.work = None
        self.follows = ()
        for used in self._used:
            used.completed(self)
        self._used = ()
        for spot in self._spots:
            spot.wake()
        self._spots.clear()


def _inherit(operation: Operation) -> None:
    """Have an operation fail with what failed to write what it uses, whether or not the driver ran it."""
    for writer in operation.follows:
        if writer.ended and not (writer.raised or writer.error):  # nearly always; in this order, as below
            continue
        if (first := _first_failure(writer)) is None:
            continue
        writer.reported = True  # by this one, or whoever reports that
        if operation.first is None:
            label, error = operation.first = first
            failed = CommandFailed(
                f"{operation.label} depends on what {label} failed to write ({error}): write that anew, then launch this "
                "again"
            )
            failed.__cause__ = error
            operation.raised = failed


def _first_failure(operation: Operation) -> tuple[str, Exception] | None:
    """What made an operation fail, or is about to when its thread comes to it; None if nothing did."""
    seen: set[Operation] = set()
    to_see = [operation]
    while to_see:
        one = to_see.pop()
        if one in seen:
            continue
        seen.add(one)
        # In this order: the loop's thread, where it settles that one just now, sets `error` before it clears the others.
        ended, event, follows = one.ended, one.event, one.follows
        error = one.raised or one.error
        if error is not None:
            return one.first or (one.label, error)
        if not ended:  # its own thread has not come to it yet, but it is over, and so is what it follows
            if event is not None and _opencl.has_failed(event):
                return one.label, CommandFailed(f"{one.label} failed")
            to_see += follows
    return None
