"""Waiting for one's turn in a line, and waiting for something to have happened."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final, final

import anyio

from ._parking import uninterrupted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ._parking import Loop, Spot


@final
class WaitingLine:
    """A line of parked tasks: first come, first served, and no grant is ever lost.

    Blocked senders, parked receivers and tasks that wait for device memory all stand in one of these. A
    grant stands for something reserved (a place in the mailbox, a message, some bytes); what is reserved is
    the owner's business. If the task that was granted is cancelled before it could act, `wait` calls its
    ``pass_on``, and the owner takes the reservation back and grants the next in line.
    """

    __slots__ = ("_behind", "_loop", "first")

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        # Who is first stands apart: nearly every line has one in it or none, and needs no dictionary.
        self.first: Spot | None = None
        # The others in order of arrival; one who is cancelled leaves from the middle in constant time.
        self._behind: OrderedDict[Spot, None] | None = None

    def __len__(self) -> int:
        return (self.first is not None) + len(self._behind or ())

    @uninterrupted
    async def wait(self, pass_on: Callable[[], object]) -> None:
        """Stand in line until granted.

        If cancelled: the task has left the line, or, had it been granted already, ``pass_on`` has been
        called.

        Args:
            pass_on: Takes the reservation back and grants the next; a plain call.
        """
        spot = self.join()
        try:
            await spot.park()
        except BaseException:
            if not self.leave(spot):
                pass_on()
            raise

    @uninterrupted
    def grant(self) -> bool:
        """Grant the first in line, who leaves it.

        Returns:
            False if nobody waits.
        """
        spot = self.first
        if spot is None:
            return False
        self.first = self._behind.popitem(last=False)[0] if self._behind else None
        spot.wake()
        return True

    def grant_all(self) -> None:
        """Grant everyone in line, in turn."""
        while self.grant():
            pass

    def join(self) -> Spot:
        """Step into the line, for a task that parks next; see `wait` for what it owes the line if cancelled."""
        spot = self._loop.spot()
        if self.first is None:
            self.first = spot
        elif self._behind is None:
            self._behind = OrderedDict({spot: None})
        else:
            self._behind[spot] = None
        return spot

    def leave(self, spot: Spot) -> bool:
        """Step out of the line; False if that task has been granted, and is out of it already."""
        if self.first is spot:
            self.first = self._behind.popitem(last=False)[0] if self._behind else None
            return True
        if self._behind is None or spot not in self._behind:
            return False
        del self._behind[spot]
        return True


@final
class Place:
    """One task's place in a line, which others can have it leave without a grant."""

    __slots__ = ("_line", "spot", "vacated")

    def __init__(self, line: WaitingLine) -> None:
        """Step into the line, for a task that waits next."""
        self._line = line
        self.spot: Final = line.join()
        self.vacated = False  # and the task was woken for that

    @uninterrupted
    async def wait(self, pass_on: Callable[[], object]) -> bool:
        """Stand there until granted, or until it is to leave; if cancelled, as `WaitingLine.wait`.

        Returns:
            False if it had to leave.
        """
        try:
            await self.spot.park()
        except BaseException:
            if not self.leave():
                pass_on()
            raise
        return not self.vacated

    def leave(self) -> bool:
        """Step out of the line, for the task if it is cancelled; False if it had been granted, which is to be passed on."""
        return self.vacated or self._line.leave(self.spot)

    @uninterrupted
    def vacate(self) -> None:
        """Have the task leave the line. Nothing happens if it was granted before, or has left."""
        if self._line.leave(self.spot):
            self.vacated = True
            self.spot.wake()


@final
class Latch:
    """Something that happens once, and can be waited for by any number of tasks."""

    __slots__ = ("_line", "_loop", "is_set")

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._line: WaitingLine | None = None
        self.is_set: bool = False

    def set(self) -> None:
        """It has happened. Idempotent."""
        self.is_set = True
        line, self._line = self._line, None
        if line is not None:
            line.grant_all()

    def wait(self) -> Awaitable[None]:
        """Wait until it has happened; a checkpoint in any case. If cancelled, nothing has changed."""
        if self.is_set:
            return self._loop.checkpoint()
        if self._line is None:
            self._line = WaitingLine(self._loop)
        return self._line.wait(_nothing_reserved)

    async def outlast(self, on_pierced: Callable[[], object] | None = None) -> BaseException | None:
        """Wait until it has happened, whatever comes.

        Cancel scopes are shielded off. What pierces a shield (a native ``Task.cancel()`` on asyncio, a
        ``KeyboardInterrupt`` on trio) is remembered and the wait goes on.

        Args:
            on_pierced: Called each time something pierced the shield.

        Returns:
            The first thing that pierced the shield, for the caller to raise when it is done; else None.
        """
        pierced: BaseException | None = None
        while not self.is_set:
            with anyio.CancelScope(shield=True):
                try:
                    await self.wait()
                except BaseException as error:  # noqa: BLE001  # handed to the caller, who raises it
                    pierced = pierced or error
                    if on_pierced is not None:
                        on_pierced()
        return pierced


def _nothing_reserved() -> None:
    pass
