"""What the stages of a device may have of its pool for their rows, all of them together.

A batch holds its rows while the stage's function acquires what it needs for their results. If rows could take all of the
pool, or each stage a part of it of its own, every one of them would wait for ever. So there is one part for all, served
first come, first served; and a stage that has a batch in flight already leaves half of it to those that have none, which
may be what that batch waits for: a stage's function may ask another stage.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from rookery._core._parking import uninterrupted
from rookery._core.waiting import WaitingLine

from ._budget import Budget

if TYPE_CHECKING:
    from rookery._core._parking import Loop

SHARE: Final = 4
"""Rows have at most one part in so many of what the pool may hand out; the others are for results."""


@final
class RowBudget:
    """Bytes for the rows of all batches that are in flight on a device."""

    __slots__ = ("_budget", "_line", "limit")

    def __init__(self, loop: Loop, pool_limit: int) -> None:
        self.limit: Final = pool_limit // SHARE
        self._budget = Budget(self.limit)
        self._line = WaitingLine(loop)

    @property
    def for_several(self) -> int:
        """How much of it a stage can have that has a batch in flight already."""
        return self.limit // 2

    @uninterrupted
    async def take(self, nbytes: int) -> None:
        """Wait for that many bytes, which are not above `limit`. If cancelled: nothing was taken."""
        if self._budget.take(nbytes):
            return
        ticket = self._budget.join(nbytes)
        try:
            await self._line.wait(lambda: self._budget.cancel(nbytes))
        except BaseException:
            self._budget.leave(ticket)
            self._serve()
            raise

    def take_more(self, nbytes: int) -> bool:
        """Take that many bytes for one more batch of a stage, if that leaves enough to others and nobody waits."""
        return self._budget.active + nbytes <= self.for_several and self._budget.take(nbytes)

    @uninterrupted
    def give_back(self, nbytes: int) -> None:
        """A batch is no longer in flight."""
        self._budget.cancel(nbytes)
        self._serve()

    def _serve(self) -> None:
        while self._budget.serve():
            self._line.grant()
