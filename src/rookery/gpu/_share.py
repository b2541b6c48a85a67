"""Shares: device memory that is set aside for one item of a pipeline before it sets off.

The steps that it passes through draw from its share, and what they release comes back to the share. So an item that has
set off never waits for memory that others hold, and a full pool holds back what has not set off: that is how device
bytes push back, and why the steps of a pipeline, each of which holds memory and needs more, cannot wait for each other.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, final
from weakref import WeakSet

from rookery._core._parking import uninterrupted
from rookery._core.waiting import Latch
from rookery._core.within import within_actor

from ._errors import OutOfDeviceMemory

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Generator, Iterable, Mapping
    from types import TracebackType
    from typing import Self

    from rookery._core._parking import Loop
    from rookery._core.cell import Cell

    from ._buffer import UnifiedBuffer
    from ._pool import BufferPool


@final
class Share:
    """Bytes of one pool, all of them rounded ones; made by `BufferPool.set_aside`."""

    __slots__ = ("_buffers", "_came_back", "_closed", "_coming_back", "_give_back", "_loop", "_spare", "nbytes")

    def __init__(self, loop: Loop, nbytes: int, give_back: Callable[[int], object]) -> None:
        self.nbytes: Final = nbytes
        self._loop = loop
        self._give_back = give_back
        self._spare = nbytes
        self._coming_back = 0  # of buffers that were released and that commands still use
        self._came_back: Latch | None = None
        self._buffers: dict[UnifiedBuffer, None] = {}
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether the item it was for has come to its end."""
        return self._closed

    @property
    def in_use(self) -> bool:
        """Whether there are buffers that were drawn from it and not released."""
        return bool(self._buffers)

    @uninterrupted
    async def draw(self, nbytes: int) -> bool:
        """Take that many bytes, after commands that use what the item has released, if it takes that.

        Returns False if the item has come to its end meanwhile, for a task that outlives it.

        Raises:
            OutOfDeviceMemory: if what the item holds leaves too little.
        """
        while not self.draw_nowait(nbytes):
            if self._spare + self._coming_back < nbytes:
                raise OutOfDeviceMemory(
                    f"a step asked for a buffer of {nbytes:,} bytes, and its item has {self._spare + self._coming_back:,} "
                    f"left of the {self.nbytes:,} that are set aside for it: release what it needs no more, keep no "
                    "`buffer.host` of it, or give each item more, `pipeline(..., memory={device: nbytes})`"
                )
            self._came_back = self._came_back or Latch(self._loop)
            await self._came_back.wait()
            if self._closed:
                return False
        return True

    def draw_nowait(self, nbytes: int) -> bool:
        """Take that many bytes, if it has them."""
        if self._spare < nbytes:
            return False
        self._spare -= nbytes
        return True

    def drawn(self, buffer: UnifiedBuffer) -> None:
        """What was taken has become a buffer."""
        self._buffers[buffer] = None

    def put_back(self, nbytes: int) -> None:
        """What was taken became no buffer."""
        self._spare += nbytes

    def released(self, buffer: UnifiedBuffer) -> None:
        """A buffer was released; commands may still be using it."""
        del self._buffers[buffer]
        self._coming_back += buffer.reserved

    def reclaimed(self, buffer: UnifiedBuffer) -> None:
        """The last command that used a released buffer has completed."""
        self._coming_back -= buffer.reserved
        self.returned(buffer.reserved)

    def kept(self, buffer: UnifiedBuffer) -> None:
        """No command uses a released buffer any more, but an array looks at its memory, until nobody knows when."""
        self._coming_back -= buffer.reserved
        self.returned(0)  # who waits for it is to be refused

    def returned(self, nbytes: int) -> None:
        """So many bytes have come back."""
        self._spare += nbytes
        latch, self._came_back = self._came_back, None
        if latch is not None:
            latch.set()

    def keep_only(self, kept: Container[int]) -> None:
        """Release all buffers but those of these identities."""
        release_all([buffer for buffer in self._buffers if id(buffer) not in kept])

    @uninterrupted
    def close(self) -> None:
        """The item has come to its end: give everything back. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self.keep_only(())
        self._give_back(self._spare)
        self.returned(0)  # who waits for it is to look elsewhere


@final
class Drawing:
    """A call of a step or a stage: whose code it is, which shares it draws from, and what it takes from pools themselves.

    What ends with an exception has handed nothing on, so that what it took is released then, unless it has been. It would
    not be collected: a crash is kept, and its traceback sees what the function did.
    """

    __slots__ = ("_token", "actor", "shares", "taken")

    def __init__(self, actor: Cell, shares: Mapping[BufferPool, Share] = MappingProxyType({})) -> None:
        self.actor: Final = actor
        self.shares: Final = shares
        self.taken: Final = WeakSet["UnifiedBuffer"]()  # weakly: what nobody holds any more comes back by itself

    def __enter__(self) -> Self:
        self._token = drawing.set(self)
        return self

    @uninterrupted
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            release_all(self.taken)
        drawing.reset(self._token)


drawing: Final[ContextVar[Drawing | None]] = ContextVar("drawing", default=None)
"""The call that the code which is running belongs to, if it is one of a pipeline's step or of a stage."""


def _own_drawing() -> Drawing | None:
    found = drawing.get()
    # An actor that was spawned by a step has inherited the variable, and outlives the item.
    return None if found is None or found.actor is not within_actor.get() else found


def share_of(pool: BufferPool) -> Share | None:
    """Where the running code takes memory of that pool from; None for the pool itself."""
    found = _own_drawing()
    share = None if found is None else found.shares.get(pool)
    return None if share is None or share.closed else share


def took(buffer: UnifiedBuffer) -> None:
    """The running code has taken a buffer from the pool itself."""
    if (found := _own_drawing()) is not None:
        found.taken.add(buffer)


def release_all(buffers: Iterable[UnifiedBuffer]) -> None:
    """Release those that were not, and are not those of a device that was closed."""
    for buffer in list(buffers):
        if not buffer.released:
            buffer.pool.release(buffer)


@contextmanager
def beside_shares() -> Generator[None]:
    """Take memory from pools themselves, for what is no item's own though a step of a pipeline makes it."""
    token = drawing.set(None)
    try:
        yield
    finally:
        drawing.reset(token)
