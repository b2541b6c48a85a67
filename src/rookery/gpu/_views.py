"""Host views that outlive their buffers: the memory that an array still looks at is nobody else's, and still counted.

Where a device shares the host's memory, ``buffer.host`` is that memory. Whoever keeps it when the buffer is released keeps
the memory from being handed out; so its bytes stay in flight until the last array over it is gone. A weak reference says
when, in whichever thread that happens: as in `_live`, it only takes a note and tells the event loop.
"""

from __future__ import annotations

import weakref
from collections import deque
from typing import TYPE_CHECKING, Final, final

from rookery._core._parking import uninterrupted

if TYPE_CHECKING:
    from collections.abc import Callable

    from rookery._core._parking import Loop

    from . import _opencl
    from ._share import Share


@final
class HostViews:
    """The shared memory of a pool that arrays look at, and a note of that which none does any more."""

    __slots__ = ("_kept", "_loop", "_reclaim", "_seen", "_told", "gone")

    def __init__(self, loop: Loop, reclaim: Callable[[], object]) -> None:
        self._loop: Final = loop
        self._reclaim: Final = reclaim
        self._seen: dict[int, weakref.ref[_opencl.SharedMemory]] = {}  # of buffers, by the handle of their memory
        # Of buffers that are gone: memory, kept here so that it is the loop's thread that lets go of it; bytes; for whom.
        self._kept: dict[weakref.ref[_opencl.SharedMemory], tuple[_opencl.RawBuffer, int, Share | None]] = {}
        self.gone: Final[deque[weakref.ref[_opencl.SharedMemory]]] = deque()
        """What is there for `take_gone`; not empty if something is."""
        self._told = False

    def seen(self, memory: _opencl.RawBuffer, shared: _opencl.SharedMemory) -> None:
        """There is an array over the memory of a buffer."""
        self._seen[memory.int_ptr] = weakref.ref(shared)

    def keep(self, memory: _opencl.RawBuffer | None, nbytes: int, share: Share | None = None) -> bool:
        """A buffer has let go of its memory; returns whether an array still looks at it."""
        reference = None if memory is None or not self._seen else self._seen.pop(memory.int_ptr, None)
        shared = None if reference is None else reference()
        if memory is None or shared is None:
            return False
        self._kept[weakref.ref(shared, self._note)] = memory, nbytes, share
        return True

    def take_gone(self) -> list[tuple[int, Share | None]]:
        """Let go of the memory that no array looks at any more; returns how many bytes each took, and of which share."""
        self._told = False  # cleared first: what is noted from here on is either seen below or told again
        gone: list[tuple[int, Share | None]] = []
        while self.gone:
            if (entry := self._kept.pop(self.gone.popleft(), None)) is not None:
                entry[0].release()
                gone.append(entry[1:])
        return gone

    def close(self) -> None:
        """Nobody is to be told any more; arrays keep what they look at."""
        self._seen.clear()
        self._kept.clear()

    @uninterrupted
    def _note(self, reference: weakref.ref[_opencl.SharedMemory]) -> None:
        """No array looks at it any more. In any thread, at any time."""
        self.gone.append(reference)
        if not self._told:
            self._told = True
            self._loop.call_from_thread(self._reclaim)
