"""A line of parked tasks, served in turn, from which anyone may be cancelled at any time."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, final

from ._parking import uninterrupted

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._parking import Loop, Spot


@final
class WaitingLine:
    """First come, first served, and no grant is ever lost.

    Blocked senders, parked receivers and tasks that wait for device memory all stand in one of these. A
    grant stands for something reserved (a place in the mailbox, a message, some bytes); what is reserved is
    the owner's business. If the task that was granted is cancelled before it could act, `wait` calls its
    ``pass_on``, and the owner takes the reservation back and grants the next in line.
    """

    __slots__ = ("_line", "_loop")

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        # Ordered by arrival; a cancelled task leaves from the middle in constant time.
        self._line: OrderedDict[Spot, None] | None = None

    def __len__(self) -> int:
        return len(self._line) if self._line else 0

    @uninterrupted
    async def wait(self, pass_on: Callable[[], object]) -> None:
        """Stand in line until granted.

        If cancelled: the task has left the line, or, had it been granted already, ``pass_on`` has been
        called.

        Args:
            pass_on: Takes the reservation back and grants the next; a plain call.
        """
        spot = self._loop.spot()
        if self._line is None:
            self._line = OrderedDict()
        self._line[spot] = None
        try:
            await spot.park()
        except BaseException:
            if spot.granted:
                pass_on()
            else:
                del self._line[spot]
            raise

    @uninterrupted
    def grant(self) -> bool:
        """Grant the first in line, who leaves it.

        Returns:
            False if nobody waits.
        """
        if not self._line:
            return False
        spot, _ = self._line.popitem(last=False)
        spot.wake()
        return True

    def grant_all(self) -> None:
        """Grant everyone in line, in turn."""
        while self.grant():
            pass
