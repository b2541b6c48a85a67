"""The buffers that somebody holds, without holding them: a buffer that is collected gives its memory back.

A weak reference says when a buffer is gone, in whichever thread that happens and between any two lines. So it only
takes a note and tells the event loop; the books of the pool are changed on the loop's thread, when that asks.
"""

from __future__ import annotations

import weakref
from collections import deque
from typing import TYPE_CHECKING, Final, final

from rookery._core._parking import uninterrupted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rookery._core._parking import Loop

    from . import _opencl
    from ._buffer import UnifiedBuffer
    from ._holders import Held


@final
class LiveBuffers:
    """The buffers of a pool that were not released, and a note of those that nobody holds any more."""

    __slots__ = ("_held", "_loop", "_reclaim", "_told", "lost")

    def __init__(self, loop: Loop, reclaim: Callable[[], object]) -> None:
        self._loop = loop
        self._reclaim = reclaim
        # Memory, kept here as well so that it is the loop's thread that lets go of it; bytes; in debug mode, who has it.
        self._held: dict[weakref.ref[UnifiedBuffer], tuple[_opencl.RawBuffer, int, Held | None]] = {}
        self.lost: Final[deque[weakref.ref[UnifiedBuffer]]] = deque()
        """What is there for `take_lost`; not empty if something is."""
        self._told = False

    def __iter__(self) -> Iterator[UnifiedBuffer]:
        """Those that somebody holds."""
        return iter([buffer for reference in list(self._held) if (buffer := reference()) is not None])

    def add(self, buffer: UnifiedBuffer, memory: _opencl.RawBuffer, held: Held | None) -> None:
        """A buffer was handed out."""
        # Commands in flight hold their buffers, so that none is collected under them.
        self._held[weakref.ref(buffer, self._note)] = memory, buffer.reserved, held

    def untrack(self, buffer: UnifiedBuffer) -> None:
        """Forget who took a buffer."""
        self.track(buffer, None)

    def track(self, buffer: UnifiedBuffer, held: Held | None) -> None:
        """Somebody has it who did not take it."""
        reference = weakref.ref(buffer)
        if (entry := self._held.get(reference)) is not None:
            self._held[reference] = *entry[:2], held

    def held(self) -> list[Held]:
        """Who took what, as far as it is tracked."""
        return [held for _, _, held in self._held.values() if held is not None]

    def discard(self, buffer: UnifiedBuffer) -> None:
        """A buffer was released."""
        self._held.pop(weakref.ref(buffer), None)

    @property
    def reserved(self) -> int:
        """Bytes that all of them take from the device."""
        return sum(reserved for _, reserved, _ in self._held.values())

    def take_lost(self) -> list[tuple[_opencl.RawBuffer, int, Held | None]]:
        """Take the memory of buffers that are gone, with how many bytes each took from the device, and who."""
        self._told = False  # cleared first: what is noted from here on is either seen below or told again
        lost: list[tuple[_opencl.RawBuffer, int, Held | None]] = []
        while self.lost:
            # One that was released before it was collected is here no longer.
            if (entry := self._held.pop(self.lost.popleft(), None)) is not None:
                lost.append(entry)
        return lost

    @uninterrupted
    def _note(self, reference: weakref.ref[UnifiedBuffer]) -> None:
        """A buffer is gone. In any thread, at any time."""
        self.lost.append(reference)
        if not self._told:
            self._told = True
            self._loop.call_from_thread(self._reclaim)
