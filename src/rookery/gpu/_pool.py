"""Device memory with a limit: who waits for it, who has it, and when it may be handed out again."""

from __future__ import annotations

import math
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final, final

import attrs
import numpy as np

from rookery._core._parking import uninterrupted
from rookery._core.waiting import WaitingLine
from rookery._model.wording import brief

from . import _opencl
from ._arrays import check_computable, understand_dtype, understand_shape
from ._budget import Budget
from ._buffer import UnifiedBuffer
from ._errors import ArgumentTypeError, ArgumentValueError, BufferReleased, DeviceClosed, OutOfDeviceMemory
from ._holders import Held, Watch, current_origin
from ._live import LiveBuffers
from ._row_budget import RowBudget
from ._share import Share, drawing, share_of, took
from ._views import HostViews

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    import numpy.typing as npt

    from rookery._core.waiting import Latch

    from ._device import Device

YIELD_EVERY: Final = 64
"""A task that acquires without ever having to wait lets the others run after this many times."""

PINNED: Final = 1 << 16
"""Host sides of this many bytes and more are in pinned memory, where the device does not share the host's."""

ROUNDING: Final = 16
"""`_opencl.rounded_size` adds at most one part in so many."""

UNDERSTOOD: Final = 1000
"""Shapes of which a pool remembers what it found out about them."""


@attrs.frozen
class PoolStatistics:
    """A pool at one moment. Bytes are those taken from the device, a little more than was asked for."""

    limit_bytes: int
    active_bytes: int
    """In buffers that somebody owns, or set aside for items of pipelines."""
    in_flight_bytes: int
    """In buffers that were released while commands still use them, or while somebody keeps an array over their memory."""
    held_bytes: int
    """Kept for the next request of the same size."""
    peak_bytes: int
    """The most that was ever active and in flight together."""
    hits: int
    """Buffers made from held memory."""
    misses: int
    """Buffers that the device had to allocate."""
    waits: int
    """Requests that had to wait for memory."""
    waiting: int
    """Requests that are waiting now."""


@final
class BufferPool:
    """Hands out device memory, never more than its limit, first come first served.

    It stands on `pyopencl.tools.MemoryPool`, which makes handing out memory cheap and knows neither a limit nor
    commands in flight. Memory is handed out again only after the last command that uses it has completed,
    whatever became of the task that launched it. A buffer that is neither released nor held by anybody comes back
    when Python collects it.
    """

    __slots__ = (
        "_addresses",
        "_at_once",
        "_budget",
        "_device",
        "_largest",
        "_line",
        "_live",
        "_mapping",
        "_pinned",
        "_raw",
        "_understood",
        "_views",
        "_watch",
        "for_rows",
    )

    def __init__(
        self, device: Device, raw: _opencl.RawPool, mapping: _opencl.RawQueue, limit: int, *, debug: bool
    ) -> None:
        self._device = device
        self._raw = raw
        self._mapping = mapping  # a queue without kernels, in which nothing waits
        self._pinned = _opencl.make_pinned_pool(mapping)
        self._largest = device.info.max_allocation
        self._budget = Budget(limit)
        self._line = WaitingLine(device.loop)
        self.for_rows: Final = RowBudget(device.loop, limit)
        """What stages may have of it for their batches."""
        self._live = LiveBuffers(device.loop, self._reclaim_lost)
        self._views = HostViews(device.loop, self._reclaim_lost)
        self._addresses: dict[int, int] = {}  # host addresses of shared memory, by its OpenCL handle
        self._at_once = 0
        self._understood: dict[int | tuple[int, ...], tuple[tuple[int, ...], np.dtype[Any], int]] = {}
        self._watch = Watch(str(device.info), self._held_for_good) if debug else None

    # --- acquiring ---

    @uninterrupted
    async def acquire(self, shape: int | tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> UnifiedBuffer:
        """Wait until the limit allows a buffer of that shape and take it; nothing is written to it.

        If cancelled: the place in line is given up, nothing was taken, and whoever is next is served.

        In a step of a pipeline it comes out of what is set aside for the item, and is the item's.

        Args:
            shape: The array's shape, or the length of a flat one. No side may be zero.
            dtype: The array's dtype.

        Raises:
            ArgumentTypeError: if the shape is no whole number or tuple of them, or the dtype not of plain numbers.
            ArgumentValueError: if a side is below one.
            OutOfDeviceMemory: at once, if the request alone is above the limit; in a step of a pipeline, if it is above
                what is left for the item.
            DeviceClosed: if the device is closed, also while waiting.
        """
        self._device.check_usable()
        sides, kind, nbytes = self._understand(shape, dtype)
        if self._live.lost or self._views.gone:
            self._reclaim_lost()
        self._at_once += 1
        if self._at_once % YIELD_EVERY == 0:
            await self._device.loop.checkpoint()
            self._device.check_usable()
        share = None if drawing.get() is None else share_of(self)  # most code draws from no share
        if share is not None:
            if not await share.draw(nbytes):
                share = None  # its item has ended, which this task outlives
            elif self._device.closed:
                share.put_back(nbytes)
            self._device.check_usable()
        if share is None and not self._budget.take(nbytes):
            await self._wait_for(nbytes, f"{kind} {sides}")
        return self._allocate(sides, kind, nbytes, share)

    @uninterrupted
    def try_acquire(self, shape: int | tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> UnifiedBuffer | None:
        """A buffer if it can be had without waiting and without overtaking anybody, else None.

        Raises:
            OutOfDeviceMemory: if the request alone is above the limit.
        """
        self._device.check_usable()
        sides, kind, nbytes = self._understand(shape, dtype)
        if self._live.lost or self._views.gone:
            self._reclaim_lost()
        share = share_of(self)
        taken = self._budget.take(nbytes) if share is None else share.draw_nowait(nbytes)
        return self._allocate(sides, kind, nbytes, share) if taken else None

    @asynccontextmanager
    async def lease(
        self, shape: int | tuple[int, ...], dtype: npt.DTypeLike = np.float32
    ) -> AsyncGenerator[UnifiedBuffer, None]:
        """A buffer for the length of an ``async with`` block; see `acquire`. Releasing it earlier is fine."""
        buffer = await self.acquire(shape, dtype)
        try:
            yield buffer
        finally:
            if not buffer.released:
                self.release(buffer)

    def rounded_share(self, nbytes: int) -> int:
        """What it takes from the device to have buffers of so many bytes together, whatever their sizes.

        Raises:
            OutOfDeviceMemory: if that is above the limit alone.
        """
        self._budget.check(nbytes, nbytes)
        return min(nbytes + nbytes // ROUNDING, self._budget.limit)

    @uninterrupted
    async def set_aside(self, nbytes: int) -> Share:
        """Wait, as `acquire` does, for memory that becomes buffers later; ``nbytes`` is what `rounded_share` says."""
        self._device.check_usable()
        if self._live.lost or self._views.gone:
            self._reclaim_lost()
        if not self._budget.take(nbytes):
            await self._wait_for(nbytes, "an item of a pipeline")
        return Share(self._device.loop, nbytes, self._give_back)

    def _give_back(self, nbytes: int) -> None:
        """What was reserved did not become a buffer."""
        self._budget.cancel(nbytes)
        self._serve()

    def _understand(
        self, shape: int | tuple[int, ...], dtype: npt.DTypeLike
    ) -> tuple[tuple[int, ...], np.dtype[Any], int]:
        """Shape and dtype in full, and the bytes that the request takes from the device."""
        # What was asked for before, with plain numbers only: True would be found as 1, which is refused.
        plain = dtype is np.float32 and (type(shape) is int or (type(shape) is tuple and {*map(type, shape)} == {int}))
        if plain and (known := self._understood.get(shape)) is not None:
            return known
        understood = self._work_out(shape, dtype)
        if plain:
            if len(self._understood) >= UNDERSTOOD:
                self._understood.clear()
            self._understood[shape] = understood
        return understood

    def _work_out(
        self, shape: int | tuple[int, ...], dtype: npt.DTypeLike
    ) -> tuple[tuple[int, ...], np.dtype[Any], int]:
        sides, kind = understand_shape(shape), understand_dtype(dtype)
        info = self._device.info
        if not info.fp64:
            check_computable(kind, "a buffer", info.name, doubles=False)
        asked = math.prod(sides) * kind.itemsize
        if asked > self._largest:
            raise OutOfDeviceMemory(
                f"a buffer of {asked:,} bytes is more than {info.name} can allocate at once, "
                f"{self._largest:,} bytes: split it"
            )
        nbytes = _opencl.rounded_size(self._raw, asked)
        self._budget.check(nbytes, asked)
        return sides, kind, nbytes

    async def _wait_for(self, nbytes: int, what: str) -> None:
        """Stand in line for a reservation."""
        ticket = self._budget.join(nbytes)
        try:
            with self.waiting(what, nbytes):
                await self._line.wait(lambda: None)  # the budget knows whose turn has come
            if self._device.closed:  # everybody is woken then
                raise DeviceClosed(f"{self._device.info.name} was closed while this task waited for its memory")
        except BaseException:
            if not self._budget.leave(ticket):  # its turn had come, and it could not act any more
                self._budget.cancel(nbytes)
            self._serve()  # the next may want less, or be owed what was just passed on
            raise

    def _serve(self) -> None:
        """Grant as many as now fit, in turn."""
        if self._device.closed:
            self._free_held()  # what a command used that was over only now
            return
        while self._budget.serve():
            self._line.grant()
        if self._watch is not None:
            self._watch.look()

    def _held_for_good(self) -> list[Held] | None:
        """What is held, by whom; None if bytes come back by themselves, or were granted to who is about to go on."""
        if self._budget.in_flight or self._budget.active != self._live.reserved:
            return None
        return self._live.held()

    def _allocate(
        self, shape: tuple[int, ...], dtype: np.dtype[Any], nbytes: int, share: Share | None
    ) -> UnifiedBuffer:
        """Turn a reservation into memory."""
        if self._budget.must_trim(nbytes):
            self._free_held()
        held_before = self._raw.held_blocks
        try:
            held = None if self._watch is None else Held(f"{dtype} {shape}", nbytes, current_origin())
            memory = self._raw.allocate(math.prod(shape) * dtype.itemsize)
        except BaseException as error:
            if share is None:
                self._give_back(nbytes)
            else:
                share.put_back(nbytes)
            if not isinstance(error, _opencl.OpenCLError):
                raise
            raise OutOfDeviceMemory(
                f"the device has no room for {nbytes:,} bytes although the limit of {self._budget.limit:,} allows "
                "them, somebody else is using it: open it with a smaller memory_limit"
            ) from error
        fresh = self._raw.held_blocks >= held_before
        if fresh:
            self._addresses.pop(memory.int_ptr, None)  # of an older allocation that had the same handle
        self._budget.allocated(nbytes, fresh=fresh)
        buffer = UnifiedBuffer(self._device, memory, shape, dtype, nbytes, share)
        if share is not None:
            share.drawn(buffer)
        elif drawing.get() is not None:
            took(buffer)
        self._live.add(buffer, memory, held)
        return buffer

    # --- releasing ---

    @uninterrupted
    def release(self, buffer: UnifiedBuffer) -> None:
        """Give a buffer back. Its memory is reused once the last command that uses it has completed.

        Raises:
            BufferReleased: if it was released before.
            ArgumentTypeError: if it is no buffer. A `TypeError`.
            ArgumentValueError: if it is not of this pool. A `ValueError`.
        """
        check_buffer(buffer, "pool.release", "pass what `await pool.acquire(shape)` returned")
        if buffer.owner is not self._device:
            raise ArgumentValueError(
                f"{buffer!r} belongs to another `open_device()` of {buffer.owner.info.name}: "
                "write `buffer.pool.release(buffer)`"
            )
        self._device.check_usable()
        if buffer.released:
            raise BufferReleased(
                f"{buffer!r} was released before: release it once, and let a lease, `async with pool.lease(shape)`, "
                "do so where the time is not clear"
            )
        self._retire(buffer)

    def _retire(self, buffer: UnifiedBuffer) -> None:
        self._live.discard(buffer)
        self._budget.retire(buffer.reserved)
        if buffer.share is not None:
            buffer.share.released(buffer)
        if buffer.retire():
            self.reclaim(buffer)

    @uninterrupted
    def reclaim(self, buffer: UnifiedBuffer) -> None:
        """Take the memory of a released buffer that no command uses any more, and serve who waits."""
        share = None if buffer.share is None or buffer.share.closed else buffer.share
        memory = buffer.drop()
        if self._views.keep(memory, buffer.reserved, share):
            if share is not None:
                share.kept(buffer)
            return
        if memory is not None:
            memory.release()  # and not when it is collected: the frames of an error that is kept may see it as well
        self._budget.reclaim(buffer.reserved)
        if share is not None:
            self._budget.reserve(buffer.reserved)
            share.reclaimed(buffer)
        self._serve()

    @uninterrupted
    def _reclaim_lost(self) -> None:
        """Take the memory of what was collected, buffers without a release and host views, and serve who waits."""
        for memory, nbytes, held in self._live.take_lost():
            self._budget.retire(nbytes)
            if not self._views.keep(memory, nbytes):
                memory.release()
                self._budget.reclaim(nbytes)
            if self._watch is not None and held is not None:
                self._watch.leaked(held)
        for nbytes, share in self._views.take_gone():
            self._budget.reclaim(nbytes)
            if share is not None and not share.closed:
                self._budget.reserve(nbytes)
                share.returned(nbytes)
        self._serve()

    @uninterrupted
    def trim(self) -> int:
        """Give memory that is held for reuse back to the device; returns how many bytes that were."""
        self._device.check_usable()
        self._reclaim_lost()
        self._pinned.free_held()
        return self._free_held()

    def _free_held(self) -> int:
        held = self._budget.held
        self._raw.free_held()
        self._addresses.clear()
        self._budget.trimmed()
        return held

    def adopt(self, buffer: UnifiedBuffer) -> None:
        """The task that runs has a buffer from here on that another one acquired; for reports."""
        if self._watch is not None:
            self._live.track(buffer, Held(f"{buffer.dtype} {buffer.shape}", buffer.reserved, current_origin()))

    @contextmanager
    def waiting(self, what: str, nbytes: int = 0, *, until: Latch | None = None) -> Generator[None]:
        """The task that runs waits for memory, or until a task is done that may be waiting for some; for reports."""
        if self._watch is None:
            yield
            return
        wanted = Held(what, nbytes, current_origin())
        self._watch.waits(wanted, until)
        self._watch.look()
        try:
            yield
        finally:
            self._watch.waits_no_more(wanted)

    def untrack(self, buffer: UnifiedBuffer) -> None:
        """Leave a buffer out of leak reports, for one that is meant to be collected and not released."""
        self._live.untrack(buffer)

    # --- looking, and the end ---

    def statistics(self) -> PoolStatistics:
        """The pool at this moment."""
        budget = self._budget
        return PoolStatistics(
            limit_bytes=budget.limit,
            active_bytes=budget.active,
            in_flight_bytes=budget.in_flight,
            held_bytes=budget.held,
            peak_bytes=budget.peak,
            hits=budget.hits,
            misses=budget.misses,
            waits=budget.waits,
            waiting=len(self._line),
        )

    def shared_view(self, memory: _opencl.RawBuffer, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """Memory of a device that shares the host's, as an array."""
        shared = _opencl.SharedMemory(memory, self._shared_address(memory), math.prod(shape) * dtype.itemsize)
        self._views.seen(memory, shared)
        return _opencl.shared_view(shared, shape, dtype)

    def _shared_address(self, memory: _opencl.RawBuffer) -> int:
        """Where the host finds it."""
        handle = memory.int_ptr
        if (address := self._addresses.get(handle)) is None:
            address = self._addresses[handle] = _opencl.shared_address(self._mapping, memory)
        return address

    def host_array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """Host memory to copy from and to, for a device with memory of its own.

        Much of it is pinned: a driver copies that directly, and other memory by way of pinned memory of its own. Pinning
        takes long, so what was pinned is kept for the next buffer, until `trim`, and within the limit of the pool.
        """
        nbytes, pinned = math.prod(shape) * dtype.itemsize, None
        if nbytes >= PINNED:
            if self._pinned.managed_bytes + _opencl.rounded_size(self._raw, nbytes) > self._budget.limit:
                self._pinned.free_held()
            pinned = _opencl.pinned_array(self._mapping, self._pinned, shape, dtype)
        return np.empty(shape, dtype) if pinned is None else pinned

    def close(self) -> None:
        """Release every buffer and send those home who wait; the device has been marked closed."""
        self._line.grant_all()
        self._reclaim_lost()
        if self._watch is not None:
            self._watch.closed(self._live.held())
        self._views.close()
        for buffer in self._live:
            self._retire(buffer)
        self._pinned.free_held()
        self._free_held()


def check_buffer(given: object, call: str, instead: str) -> None:
    """Refuse what is no buffer."""
    if not isinstance(given, UnifiedBuffer):
        raise ArgumentTypeError(f"{call} takes a buffer, got {brief(given)}: {instead}")
