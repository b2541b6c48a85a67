"""The arithmetic of a pool: who may have how many bytes, and whose turn it is. Values only."""

from __future__ import annotations

import itertools
from collections import OrderedDict, defaultdict
from typing import final

from ._errors import OutOfDeviceMemory


@final
class Budget:
    """A byte limit, what it is spent on, and a queue of requests served first come, first served.

    All sizes are rounded ones: what a request takes from the device, which is a little more than it asks for.
    A byte is *active* while somebody owns its buffer, *in flight* from the release of the buffer to the
    completion of the last command that uses it, or to the end of the last host view of it, and *held* from then until it
    is handed out again or trimmed.
    Active and in flight together never exceed the limit; held bytes make room when they are in the way.
    """

    __slots__ = (
        "_tickets",
        "_wanted",
        "active",
        "free",
        "held",
        "hits",
        "in_flight",
        "limit",
        "misses",
        "peak",
        "waits",
    )

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.active = self.in_flight = self.held = self.peak = 0
        self.hits = self.misses = self.waits = 0
        self.free: defaultdict[int, int] = defaultdict(int)  # held blocks, by their size
        self._tickets = itertools.count()
        self._wanted: OrderedDict[int, int] = OrderedDict()

    def check(self, nbytes: int, asked: int) -> None:
        """Refuse what could never be granted.

        Raises:
            OutOfDeviceMemory: if the request alone is above the limit.
        """
        if nbytes > self.limit:
            raise OutOfDeviceMemory(
                f"a buffer of {asked:,} bytes takes {nbytes:,} bytes of device memory, more than the limit of "
                f"{self.limit:,}: ask for less, or open the device with a larger memory_limit"
            )

    def fits(self, nbytes: int) -> bool:
        """Whether that much may be handed out now, turns aside."""
        return self.active + self.in_flight + nbytes <= self.limit

    def take(self, nbytes: int) -> bool:
        """Reserve at once, if it fits and nobody stands in line."""
        if self._wanted or not self.fits(nbytes):
            return False
        self.reserve(nbytes)
        return True

    def join(self, nbytes: int) -> int:
        """Stand in line; returns the ticket to `leave` with."""
        self.waits += 1
        ticket = next(self._tickets)
        self._wanted[ticket] = nbytes
        return ticket

    def leave(self, ticket: int) -> bool:
        """Give up one's place in line; False if the turn has come, and what was reserved is to be cancelled."""
        return self._wanted.pop(ticket, None) is not None

    def serve(self) -> bool:
        """Reserve for the first in line, who leaves it; False if there is none or it does not fit yet."""
        if not self._wanted:
            return False
        ticket, nbytes = next(iter(self._wanted.items()))
        if not self.fits(nbytes):
            return False
        del self._wanted[ticket]
        self.reserve(nbytes)
        return True

    def reserve(self, nbytes: int) -> None:
        """Count as active what fits."""
        self.active += nbytes
        if (now := self.active + self.in_flight) > self.peak:
            self.peak = now

    def must_trim(self, nbytes: int) -> bool:
        """Whether memory held for reuse is in the way of a reservation made for ``nbytes``."""
        return not self.free[nbytes] and self.active + self.in_flight + self.held > self.limit

    def allocated(self, nbytes: int, *, fresh: bool) -> None:
        """A reservation was turned into memory, fresh from the device or held before."""
        if fresh:
            self.misses += 1
        else:
            self.hits += 1
        # Fresh although a block of that size was free: somebody's host view keeps that block from being reused.
        if self.free[nbytes]:
            self.free[nbytes] -= 1
            self.held -= nbytes

    def cancel(self, nbytes: int) -> None:
        """A reservation was not turned into memory."""
        self.active -= nbytes

    def retire(self, nbytes: int) -> None:
        """A buffer was released; commands may still be using it."""
        self.active -= nbytes
        self.in_flight += nbytes

    def reclaim(self, nbytes: int) -> None:
        """The last command that used a released buffer has completed: its memory is held for reuse."""
        self.in_flight -= nbytes
        self.held += nbytes
        self.free[nbytes] += 1

    def trimmed(self) -> None:
        """All held memory went back to the device."""
        self.held = 0
        self.free.clear()
