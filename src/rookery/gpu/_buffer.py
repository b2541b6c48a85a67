"""One array, two sides: host and device, and exactly the copies between them that are needed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, NoReturn, final

import numpy as np

from rookery._core._parking import uninterrupted

from . import _opencl
from ._arrays import check_fits, check_plain
from ._errors import BufferBusy, BufferReleased, CommandFailed, NoData
from ._states import HOST_NEWER, HOST_READABLE, Action, BufferState, Transfer, forbidden, step

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt

    from ._device import Device
    from ._lane import Lane
    from ._operation import Operation
    from ._pool import BufferPool
    from ._queue import Queue
    from ._share import Share

LARGE: Final = 1 << 20
"""Host copies of this many bytes and more are made by a thread, so that the event loop goes on."""

TO_DEVICE: Final = "copies to the device"
TO_HOST: Final = "copies to the host"
"""The rows of transfers in a trace."""


@final
class UnifiedBuffer:
    """An array with a host side and a device side, kept in step on demand.

    A launch moves what it needs to the device and marks what it may write as newer there; `read` and
    `ensure_on_host` bring it back. There is exactly one transfer for each change, and none where the device
    shares the host's memory. Buffers come from ``device.pool``, `Device.upload` and `Device.empty`.
    """

    __slots__ = (
        "__weakref__",
        "_download",
        "_download_version",
        "_failure",
        "_host",
        "_in_flight",
        "_last",
        "_memory",
        "_released",
        "_replacing",
        "_retired",
        "_state",
        "_upload",
        "_version",
        "_writers",
        "dtype",
        "nbytes",
        "owner",
        "reserved",
        "shape",
        "share",
        "size",
    )

    def __init__(
        self, owner: Device, memory: _opencl.RawBuffer, shape: tuple[int, ...], dtype: np.dtype[Any], reserved: int,
        share: Share | None = None,
    ) -> None:  # fmt: skip
        self.owner: Final = owner
        """The device it belongs to."""
        self.shape: Final = shape
        self.dtype: Final = dtype
        self.size: Final = math.prod(shape)
        """Number of elements."""
        self.nbytes: Final = self.size * dtype.itemsize
        self.reserved: Final = reserved
        """Bytes that it takes from the device, a little more than `nbytes`."""
        self.share: Final = share
        """Where these come from, in a pipeline."""
        self._memory: _opencl.RawBuffer | None = memory
        self._retired: _opencl.RawBuffer | None = None
        self._host: npt.NDArray[Any] | None = None
        self._state = BufferState.UNINITIALIZED
        self._released = False
        self._in_flight = 0
        self._last: dict[Lane, Operation] = {}
        self._version = 0  # counts writes on the device, so that a download knows whether it is still the newest
        self._upload: Operation | None = None
        self._download: Operation | None = None
        self._download_version = 0
        self._replacing: Operation | None = None
        self._writers: dict[Operation, None] = {}  # commands in flight that may write it, the latest one last
        self._failure: tuple[str, Exception] | None = None  # what failed to write it, and why

    # --- looking ---

    @property
    def state(self) -> BufferState:
        """Which side holds the data."""
        return self._state

    @property
    def released(self) -> bool:
        """Whether it was given back to its pool."""
        return self._released

    @property
    def pool(self) -> BufferPool:
        """Where to release it."""
        return self.owner.pool

    @property
    def last(self) -> Mapping[Lane, Operation]:
        """The latest operation of each lane that uses it and is not over."""
        return self._last

    @property
    def device(self) -> _opencl.RawBuffer:
        """The device side, as a pyopencl buffer. Say `mark_device_dirty` after writing to it yourself.

        It is this buffer's memory until the release, and somebody else's from then on.
        """
        return self._live()

    @property
    def host(self) -> npt.NDArray[Any]:
        """The host side, a numpy view: neither copied nor transferred. Say `mark_host_dirty` after writing to it.

        Leave it alone while launches that use the buffer are in flight. An array that was taken from here stays valid
        after the buffer's release: its memory is not handed out again before the array is gone, and counts
        against the limit until then.

        Raises:
            StaleHost: if the device side is newer.
            NoData: if nothing was written yet.
            BufferBusy: while a large array is being copied to it.
            CommandFailed: if a command failed that was to write it, and it was not written since.
        """
        self._live()
        self._check_defined()
        if self._replacing is not None:
            raise BufferBusy(
                f"{self!r} is being written, by another task or one that was cancelled: "
                "write `await buffer.ensure_on_host()` first"
            )
        if self._state not in HOST_READABLE:
            raise forbidden(self._state, Action.NEED_HOST)
        return self._host_side()

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """For ``np.asarray(buffer)``: `host`, not copied unless asked for; raises what that raises."""
        return np.array(self.host, dtype=dtype, copy=copy)  # before NumPy 2, None is False

    def __dlpack__(self, **how: Any) -> Any:
        """For ``np.from_dlpack(buffer)`` and the like of other libraries: `host`, not copied; raises what that raises."""
        return self.host.__dlpack__(**how)

    def __dlpack_device__(self) -> tuple[int, int]:
        """The host's memory, where the array is that `__dlpack__` gives."""
        return (1, 0)

    def __repr__(self) -> str:
        state = "released" if self._released else self._state.value
        return f"<UnifiedBuffer {self.dtype} {self.shape}, {state}>"

    # --- moving ---

    async def ensure_on_device(self) -> None:
        """Make the device side current.

        If cancelled: the transfer, if one was needed, goes on.

        Raises:
            NoData: if nothing was written yet.
            CommandFailed: if a command failed that was to write it, and it was not written since.
        """
        self._live()
        if self._replacing is not None:
            await self._replacing
            self._live()
        self._check_defined()
        operation = self.start_upload(self.owner.queue)
        if operation is not None:
            await operation

    async def ensure_on_host(self) -> None:
        """Wait for the commands that write it, and make the host side current.

        If cancelled: the transfer, if one was needed, goes on.

        Raises:
            NoData: if nothing was written yet.
            CommandFailed: if a command it waits for failed, or one that was to write it had failed before, and it was
                not written since.
        """
        self._live()
        self._check_defined()
        while self._replacing is not None or step(self._state, Action.NEED_HOST)[1] is not None:
            if self._replacing is not None:
                await self._replacing
            elif not self.owner.info.shares_host_memory:
                await (self._download or self._start_download(self.owner.queue))  # its completion steps the state
            elif self._last:
                await self._no_longer_used_by(next(iter(self._last.values())))
            else:
                self._step(Action.NEED_HOST)
            self._live()
            self._check_defined()

    async def _no_longer_used_by(self, operation: Operation) -> None:
        """Wait until an operation is over. Its failure is of interest if it was to write this."""
        if operation in self._writers:
            await operation
        else:
            await operation.settled()

    async def read(self) -> npt.NDArray[Any]:
        """The data, as an array of the caller's own, after the commands that write it.

        If cancelled: nothing but the transfer has happened.
        """
        await self.ensure_on_host()
        copy = np.empty(self.shape, self.dtype)
        if self.nbytes < LARGE:
            np.copyto(copy, self._host_side())
        else:
            await self.owner.copy_on_host(self._copying(copy, None), self, lambda: f"reading {self!r}")
        return copy

    async def write(self, array: npt.NDArray[Any]) -> None:
        """Replace the data, after the commands that use it. The array may be reused as soon as this returns.

        If cancelled: nothing was written, or, for a large array that was being copied, all of it was: that is waited for,
        so that the array may be reused then as well.

        Raises:
            TypeError: if it is not an array of this dtype.
            ValueError: if its shape is another.
        """
        self._live()
        self._check_array(array)
        while self._last:
            await next(iter(self._last.values())).settled()
            self._live()
        if self.nbytes < LARGE:
            self._replace(array)
            return
        copying = self._start_replacing(self._copying(None, array))
        try:
            await copying
        except GeneratorExit:
            raise  # the loop itself was torn down; there is nothing left to await with
        except BaseException:
            # Until then a thread reads what is the caller's own. It is a copy on the host, with nothing to wait for but
            # those before it.
            await copying.outlast()
            raise

    def copy_from(self, array: npt.NDArray[Any]) -> None:
        """Replace the data at once; for small arrays. `write` waits for commands, and leaves the loop free.

        Raises:
            BufferBusy: if a command or a copy is using the buffer.
        """
        self._live()
        self._check_array(array)
        self._check_idle("await buffer.write(array)")
        self._replace(array)

    def copy_to(self, out: npt.NDArray[Any]) -> None:
        """Copy the host side into ``out``, at once; for small arrays.

        Raises:
            StaleHost: if the device side is newer.
        """
        source = self.host
        self._check_array(out)
        np.copyto(out, source)

    def mark_host_dirty(self) -> None:
        """Say that `host` was written to.

        Raises:
            StaleHost: if the device side was newer, so that its data would be lost.
            BufferBusy: if a command or a copy is using the buffer, so that it may have seen half of it.
        """
        self._live()
        self._check_idle("await the operation before you write to buffer.host")
        self._step(Action.MODIFY_HOST)

    def mark_device_dirty(self) -> None:
        """Say that `device` was written to by commands of your own."""
        self._live()
        self._failure = None
        self._version += 1
        self._step(Action.WRITE_DEVICE)

    # --- for stages ---

    @uninterrupted
    def gather(self, rows: Sequence[npt.NDArray[Any]]) -> None:
        """Replace the data of a new buffer: its first rows by these, the others by anything.

        Many bytes are copied by a thread, and what is launched from here on waits for it; see `write`.
        """
        target = self._host_side()

        def copy() -> None:
            for index, row in enumerate(rows):
                target[index] = row

        if len(rows) * rows[0].nbytes >= LARGE:
            self._start_replacing(copy)
        else:
            target[: len(rows)] = rows
            self._replaced()

    @uninterrupted
    def start_download(self, queue: Queue) -> None:
        """Start what makes the host side current, in a queue, unless it is or that is under way.

        Raises:
            NoData: if nothing was written yet.
        """
        wanted = step(self._state, Action.NEED_HOST)[1] is not None and not self.owner.info.shares_host_memory
        if wanted and self._download is None:
            self._start_download(queue)

    # --- for kernels ---

    @property
    def host_is_newer(self) -> bool:
        """Whether the device side has to be brought up to date before it is used."""
        return self._state in HOST_NEWER

    def memory_for_launch(self, *, writing: bool) -> _opencl.RawBuffer | None:
        """What to pass to a kernel that may write it, or that only reads it; None if it must not be launched with."""
        defined = self._state is not BufferState.UNINITIALIZED and self._failure is None
        return self._memory if writing or defined else None

    def refuse_launch(self, argument: str) -> NoReturn:
        """Say why `memory_for_launch` is None; ``argument`` is what to call this buffer."""
        if self._released:
            raise BufferReleased(f"{argument} got {self!r}, whose memory may be somebody else's: acquire another")
        self._check_defined(f"{argument} is only read: ")
        raise NoData(
            f"{argument} got {self!r}, and the kernel reads it: write `await buffer.write(array)` first, "
            "or make it with `await device.upload(array)`"
        )

    @uninterrupted
    def start_upload(self, queue: Queue) -> Operation | None:
        """Start what makes the device side current, in a queue."""
        after, transfer = step(self._state, Action.NEED_DEVICE)
        if transfer is Transfer.TO_DEVICE and not self.owner.info.shares_host_memory:
            host = self._host_side()
            event = _opencl.copy_to_device(queue.raw, self._live(), host, queue.after((self,)))
            self._upload = queue.follow(event, (self,), lambda: f"copying {self!r} to the device", host, TO_DEVICE)
            self.owner.count_transfer(transfer, self.nbytes)
        self._state = after
        return self._upload

    @uninterrupted
    def start_copying_to(self, other: UnifiedBuffer, queue: Queue) -> Operation:
        """Start copying the device side to that of another buffer of this size and device."""
        source, target = self._live(), other._live()
        self._check_defined()
        self.start_upload(queue)
        both = (self, other)
        event = _opencl.copy_on_device(queue.raw, target, source, self.nbytes, queue.after(both))
        operation = queue.follow(event, both, lambda: f"copying {self!r}")
        other.written_by(operation)
        return operation

    def written_by(self, operation: Operation) -> None:
        """A command that may write it was started."""
        # If one failed before, whoever started this one could know: what it writes is what counts.
        self._failure = None
        self._writers[operation] = None
        self._version += 1
        self._state = step(self._state, Action.WRITE_DEVICE)[0]

    def started(self, operation: Operation) -> None:
        """An operation that uses it is on its way."""
        self._in_flight += 1
        self._last[operation.lane] = operation
        if self._writers:  # the latest is enough: if one before it fails, so does that
            operation.follows = (*operation.follows, next(reversed(self._writers)))
        if self._upload is not None and operation.lane is not self.owner.copies:  # whose copies are of the host side
            operation.follows = (*operation.follows, self._upload)

    def completed(self, operation: Operation) -> None:
        """An operation that used it is over."""
        self._in_flight -= 1
        if self._last.get(operation.lane) is operation:
            del self._last[operation.lane]
        if operation in self._writers:
            del self._writers[operation]
            if operation.error is not None:
                self._failure = operation.label, operation.error
        self._after_copy(operation)
        if self._released and not self._in_flight:
            self.pool.reclaim(self)

    def _after_copy(self, operation: Operation) -> None:
        """Step the state when what the operation copied has arrived, or not."""
        if operation is self._download:
            self._download = None
            if not operation.failed and self._version == self._download_version:
                self._step(Action.NEED_HOST)
        elif operation is self._upload:
            self._upload = None
            if operation.failed:
                self._step(Action.LOSE_DEVICE)
        elif operation is self._replacing:
            self._replacing = None

    # --- for the pool ---

    def retire(self) -> bool:
        """It was released; returns whether nothing uses it any more."""
        self._released = True
        self._memory, self._retired = None, self._memory  # no longer to be had, and not to be reused yet
        return not self._in_flight

    def drop(self) -> _opencl.RawBuffer | None:
        """Let go of the memory, which is returned. A host view that somebody kept keeps it from being reused."""
        memory, self._retired, self._host = self._retired, None, None
        self._failure = None  # whose traceback may see the memory as well
        return memory

    # --- within ---

    def _live(self) -> _opencl.RawBuffer:
        self.owner.check_usable()
        if self._released or self._memory is None:
            raise BufferReleased(f"{self!r} was used after its release: acquire another, or release it later")
        return self._memory

    def _step(self, action: Action) -> None:
        self._state = step(self._state, action)[0]

    def _host_side(self) -> npt.NDArray[Any]:
        """The host's array, current or not: the device's own memory where it is shared, else a mirror of it."""
        if self._host is None:
            memory = self._live()
            if self.owner.info.shares_host_memory:
                self._host = self.pool.shared_view(memory, self.shape, self.dtype)
            else:
                self._host = self.pool.host_array(self.shape, self.dtype)
        return self._host

    @uninterrupted
    def _start_download(self, queue: Queue) -> Operation:
        host = self._host_side()
        event = _opencl.copy_to_host(queue.raw, host, self._live(), queue.after((self,)))
        self._download = queue.follow(event, (self,), lambda: f"copying {self!r} to the host", host, TO_HOST)
        self._download_version = self._version
        self.owner.count_transfer(Transfer.TO_HOST, self.nbytes)
        return self._download

    @uninterrupted
    def _start_replacing(self, copy: Callable[[], object]) -> Operation:
        """Start copying much to the host side. What is launched from here on waits for the copy and sees its data."""
        self._replacing = self.owner.copy_on_host(copy, self, lambda: f"writing {self!r}")
        self._replaced()
        self._writers[self._replacing] = None
        return self._replacing

    def _copying(self, target: npt.NDArray[Any] | None, source: npt.NDArray[Any] | None) -> Callable[[], None]:
        """What copies between an array and the host side, which stands for None.

        Not a function within those that await it: what cancels a task keeps its frames for a while, and memory that a
        frame still sees cannot be reused.
        """
        host = self._host_side()
        return lambda: np.copyto(host if target is None else target, host if source is None else source)

    def _replace(self, array: npt.NDArray[Any]) -> None:
        np.copyto(self._host_side(), array)
        self._replaced()

    def _replaced(self) -> None:
        self._failure = None
        self._step(Action.REPLACE_HOST)

    def _check_defined(self, reason: str = "") -> None:
        """Refuse to show what a command that failed left behind, and to compute with it."""
        if self._failure is not None:
            command, error = self._failure
            raise CommandFailed(
                f"{reason}what is in {self!r} is not defined, because {command} failed ({error}): write it anew, "
                "`await buffer.write(array)`, or launch again what fills it"
            ) from error

    def _check_idle(self, instead: str) -> None:
        if self._last:
            raise BufferBusy(f"{self!r} is in use by {next(iter(self._last.values()))!r}: write `{instead}`")

    def _check_array(self, array: npt.NDArray[Any]) -> None:
        check_plain(array, f"np.{self.dtype}")
        check_fits(repr(self), array, self.shape, self.dtype)
