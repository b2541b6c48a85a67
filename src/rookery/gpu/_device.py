"""An open device: what belongs to it, and how it ends."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from contextlib import asynccontextmanager, contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, final

import anyio
import attrs
import numpy as np

from rookery._core._parking import current_loop, uninterrupted
from rookery._model.errors import WrongLoop

from . import _opencl
from ._arrays import check_plain
from ._compiler import Compiler
from ._errors import ArgumentValueError, DeviceClosed, DeviceStuck
from ._generated import Elementwise, Reduction, make_elementwise, make_reduction
from ._kernel import Kernel, Program
from ._lane import Lane
from ._pool import BufferPool, PoolStatistics, check_buffer
from ._profile import KernelStatistics, Recorder, Tallies, chrome_trace, count_by_actor
from ._queue import Queue
from ._source import check_options, read_source
from ._states import Transfer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence

    import numpy.typing as npt

    from rookery._core._parking import Loop

    from ._buffer import UnifiedBuffer
    from ._operation import Operation
    from ._select import DeviceInfo

logger: Final = logging.getLogger("rookery.gpu")

FAILURES_KEPT: Final = 10_000
"""Events of commands that failed."""


@attrs.frozen
class DeviceStatistics:
    """A device at one moment."""

    pool: PoolStatistics
    queues: int
    launched: int
    """Commands started so far: kernels and transfers."""
    in_flight: int
    """Commands that have been started and are not over."""
    failed: int
    """Commands that failed."""
    uploads: int
    """Transfers to the device."""
    uploaded_bytes: int
    downloads: int
    """Transfers to the host."""
    downloaded_bytes: int
    kernels: Mapping[str, KernelStatistics]
    """Each kernel that was made, by its name."""
    actors: Mapping[str, Mapping[str, KernelStatistics]]
    """The same counts apart: what each actor launched, by its path, ``ref.path``, and the name of the kernel. Under ``""``
    is what was launched outside of actors, and under ``"(others)"`` what actors did that have not launched the kernel for
    long; the 1,000 that launched it last are always told apart."""


@final
class Device:
    """An open device. Made by `open_device`; belongs to the event loop that opened it."""

    def __init__(
        self, raw: _opencl.RawDevice, info: DeviceInfo, limit: int, *, profile: bool, debug: bool, close_timeout: float
    ) -> None:
        self.info: Final = info
        self.raw: Final = raw
        """pyopencl's device."""
        self.loop: Final[Loop] = current_loop()
        self.closed: bool = False
        self._closing = False  # and whatever would start something is refused
        self._pid = os.getpid()
        self._recorder = Recorder() if profile else None
        self._close_timeout = close_timeout
        self.context: Final = _opencl.make_context(raw)
        """pyopencl's context."""
        self.clock_offset: Final = _opencl.clock_offset(self.context) if profile else 0.0
        """Seconds to add to times of the device for those of `time.perf_counter`; only where it profiles."""
        self.failures: Final[deque[_opencl.Event]] = deque(maxlen=FAILURES_KEPT)
        """Events of commands that failed, for the drivers that go on to look at them."""
        self._queues: list[Queue] = []
        self._retired: list[int] = [0, 0]  # commands started, and failed, in queues that are closed
        self._numbered = 0
        self._tallies: dict[str, Tallies] = {}
        self._transfers = {kind: [0, 0] for kind in Transfer}
        self.queue: Final = self._add_queue()
        """The device's own in-order queue."""
        self.copies: Final = Lane(self.loop, f"host copies of {info.name}", self.failures)
        """Where large host copies are made."""
        self.compiler: Final = Compiler(self.loop, self.context, info)
        """Where programs are compiled."""
        mapping = _opencl.make_queue(self.context)
        self.pool: Final = BufferPool(self, _opencl.make_pool(self.queue.raw), mapping, limit, debug=debug)
        """Where buffers come from."""

    def __repr__(self) -> str:
        return f"<Device {self.info}{', closed' if self.closed else ''}>"

    def check_usable(self) -> None:
        """Refuse use after the end, from another thread, and in a forked child.

        Raises:
            DeviceClosed: after the ``async with`` block.
            WrongLoop: in another thread than the loop's.
            ForkedProcess: in a forked child.
        """
        if self.closed:
            raise DeviceClosed(f"{self.info.name} is closed: use it inside its `async with open_device()` block")
        if threading.get_ident() != self.loop.thread:
            raise WrongLoop(
                f"{self.info.name} belongs to the event loop that opened it, in another thread: "
                "open it here as well, with `async with open_device()`"
            )
        _opencl.check_process(self._pid)

    # --- programs ---

    async def build(self, source: str | os.PathLike[str], options: Sequence[str] = ()) -> Program:
        """Compile OpenCL C, off the loop. A program that was built before is not built again.

        If cancelled: the compiler finishes what it began, and keeps that.

        Args:
            source: OpenCL C, or the path of a file with it. A file's own folder is where ``#include`` looks first.
            options: For the compiler: ``["-DN=16", "-cl-fast-relaxed-math"]``.

        Raises:
            BuildFailed: with the compiler's message, and the lines that it is about.
            OSError: if the file cannot be read.
            ArgumentTypeError: if the source is neither text nor a path, or the options are not a sequence of texts.
            ArgumentValueError: if the file is not in UTF-8.
        """
        self.check_usable()
        check_options(options)
        program = await self.compiler.compile(await read_source(source), options)
        self.check_usable()
        return Program(self, program)

    async def kernel(self, source: str | os.PathLike[str], name: str) -> Kernel:
        """Compile OpenCL C and take one kernel from it, as `build` does.

        Raises:
            BuildFailed: with the compiler's message, and the lines that it is about.
            LookupError: if there is no kernel of that name.
        """
        return (await self.build(source)).kernel(name)

    async def elementwise(
        self, arguments: str, operation: str, *, name: str = "elementwise", preamble: str = ""
    ) -> Elementwise:
        """A kernel from a line of C that is run for each element ``i``. Keep it: it is compiled, off the loop.

        Example:
            >>> axpy = await device.elementwise("float a, const float *x, float *y", "y[i] += a * x[i]")
            >>> await axpy(2, x, y)

        If cancelled: the compiler finishes what it began, and that is dropped.

        Args:
            arguments: As in C; say ``const`` for what is only read.
            operation: What to do, in OpenCL C.
            name: Of the kernel, in messages and statistics.
            preamble: OpenCL C that stands before the kernel: functions, macros.

        Raises:
            BuildFailed: with the compiler's message, and the lines that it is about.
            ArgumentValueError: if the arguments are none in C, or have no buffer, or the operation returns.
        """
        self.check_usable()
        return await make_elementwise(self, arguments, operation, name, preamble)

    async def reduction(
        self,
        dtype: npt.DTypeLike,
        *,
        neutral: str | float,
        reduce: str,
        map: str,  # noqa: A002 - what it is called everywhere
        arguments: str,
        name: str = "reduction",
        preamble: str = "",
    ) -> Reduction:
        """A kernel that makes one number of many elements. Keep it: it is compiled, off the loop.

        Floating sums depend on the order, which is the device's choice, and the same each time. It takes a small
        buffer of the pool for as long as it is kept, and waits for that as `BufferPool.acquire` does.

        Example:
            >>> dot = await device.reduction(
            ...     np.float32, neutral=0, reduce="a + b", map="x[i] * y[i]", arguments="const float *x, const float *y"
            ... )
            >>> print(await dot(x, y))

        If cancelled: the compiler finishes what it began, and that is dropped.

        Args:
            dtype: Of the result, and of what is between.
            neutral: What changes nothing when it is reduced: 0 for a sum, ``"-INFINITY"`` for a maximum.
            reduce: Two, ``a`` and ``b``, made into one, in OpenCL C.
            map: What is taken of each element ``i``.
            arguments: As in C; say ``const`` for what is only read.
            name: Of the kernels, in messages and statistics, where its two stages count as one launch.
            preamble: OpenCL C that stands before the kernels: functions, macros.

        Raises:
            BuildFailed: with the compiler's message, and the lines that it is about.
            ArgumentValueError: if the arguments are none in C, or have no buffer, or ``//`` begins a comment in ``reduce`` or
                ``map``, which become macros.
        """
        self.check_usable()
        return await make_reduction(self, dtype, neutral, reduce, map, arguments, name, preamble)

    # --- buffers ---

    async def upload(self, array: npt.NDArray[Any]) -> UnifiedBuffer:
        """A new buffer of the pool with the array's shape, dtype and data, also on the device.

        If cancelled: the buffer is given back.

        Args:
            array: Any numpy array of numbers; it need not be contiguous, and may be reused afterwards.

        Raises:
            ArgumentTypeError: for what is not an array of plain numbers. A `TypeError`.
            OutOfDeviceMemory: if it is larger than the limit alone.
        """
        check_plain(array, "np.float32")
        buffer = await self.pool.acquire(array.shape, array.dtype)
        try:
            await buffer.write(array)
            await buffer.ensure_on_device()
        except BaseException:
            if not self.closed:
                self.pool.release(buffer)
            raise
        return buffer

    async def empty(self, shape: int | tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> UnifiedBuffer:
        """A new buffer of the pool with nothing in it yet; the same as ``pool.acquire``."""
        return await self.pool.acquire(shape, dtype)

    async def copy(self, buffer: UnifiedBuffer) -> UnifiedBuffer:
        """A new buffer of this device's pool with the data of another buffer, which may be of another device.

        Within one device the data stays there; from another one it goes by way of the host. The copy has what
        commands write that were started before it had its memory, and nothing of those that are started later.

        If cancelled: the new buffer is given back.

        Raises:
            ArgumentTypeError: for what is no buffer. A `TypeError`.
            NoData: if nothing was ever written to the buffer.
            CommandFailed: if a command failed that was to write it, and it was not written since.
            OutOfDeviceMemory: if it is larger than this device's limit alone.
        """
        self.check_usable()
        check_buffer(buffer, "device.copy", "write `await device.upload(array)` for an array")
        if buffer.owner is not self:
            return await self.upload(await buffer.read())
        copied = await self.pool.acquire(buffer.shape, buffer.dtype)
        try:
            await buffer.start_copying_to(copied, self.queue)
        except BaseException:
            if not self.closed:
                self.pool.release(copied)
            raise
        return copied

    # --- queues ---

    @asynccontextmanager
    async def open_queue(self) -> AsyncGenerator[Queue, None]:
        """Another in-order queue, whose commands run beside those of the others.

        Leaving the block waits until they are over.
        """
        self.check_usable()
        queue = self._add_queue()
        try:
            yield queue
        finally:
            try:
                await self._close([queue.lane])
            finally:
                if not queue.in_flight:  # else the device waits for it once more when it is closed
                    self._queues.remove(queue)
                    self._retired[0] += queue.lane.total
                    self._retired[1] += queue.lane.failed

    @cached_property
    def uploads(self) -> Queue:
        """The queue in which stages copy to the device, beside the kernels. It ends with the device."""
        return self._add_queue()

    @cached_property
    def downloads(self) -> Queue:
        """The queue in which stages copy to the host, likewise."""
        return self._add_queue()

    async def synchronize(self) -> None:
        """Wait until everything that was started so far is over: every queue, and copies of large arrays.

        If cancelled: nothing happens to what it waits for.
        """
        self.check_usable()
        lanes = [*(queue.lane for queue in self._queues), self.copies]
        for latest in [lane.in_flight[-1] for lane in lanes if lane.in_flight]:
            await latest.settled()

    def copy_on_host(self, work: Callable[[], object], buffer: UnifiedBuffer, label: Callable[[], str]) -> Operation:
        """Have a thread make a large host copy; commands that use the buffer and are started later wait for it."""
        if self._recorder is None:
            event, announced = _opencl.announce(self.context, work)
            return self.copies.submit(announced, (buffer,), label, event)
        timed = self._recorder.host_work(self.copies.name, work)
        event, announced = _opencl.announce(self.context, timed)
        return self.copies.submit(announced, (buffer, timed), label, event)

    def _add_queue(self) -> Queue:
        if self._closing:
            raise DeviceClosed(f"{self.info.name} is being closed: use it inside its `async with open_device()` block")
        raw = _opencl.make_queue(self.context, profile=self._recorder is not None)
        name = f"queue {self._numbered} of {self.info.name}"
        self._numbered += 1
        queue = Queue(self, raw, name, self._recorder)
        self._queues.append(queue)
        return queue

    # --- looking ---

    def statistics(self) -> DeviceStatistics:
        """The device at this moment. Not for each message: it takes time where thousands of actors launch.

        Actors are counted by path: one that is spawned where another was before goes on with its counts.
        """
        lanes, timed = [queue.lane for queue in self._queues], self._recorder is not None
        up, down = self._transfers[Transfer.TO_DEVICE], self._transfers[Transfer.TO_HOST]
        return DeviceStatistics(
            pool=self.pool.statistics(),
            queues=len(lanes),
            launched=self._retired[0] + sum(lane.total for lane in lanes),
            in_flight=sum(len(lane.in_flight) for lane in lanes),
            failed=self._retired[1] + sum(lane.failed for lane in lanes),
            uploads=up[0],
            uploaded_bytes=up[1],
            downloads=down[0],
            downloaded_bytes=down[1],
            kernels={name: tallies.total().statistics(timed=timed) for name, tallies in self._tallies.items()},
            actors=count_by_actor(self._tallies, timed=timed),
        )

    def trace(self) -> dict[str, Any]:
        """What ran when, in Chrome's Trace Event Format; only with ``open_device(profile=True)``.

        Each queue has a row, and so have the copies in each direction, and each actor that started operations: they are
        in its row once more, and what overlaps there goes into further ones. It goes back 100,000 operations, and
        can be taken after the device was closed.

        Example:
            >>> Path("trace.json").write_text(json.dumps(device.trace()))  # for ui.perfetto.dev

        Raises:
            ArgumentValueError: if the device was opened without ``profile=True``.
        """
        if self._recorder is None:
            raise ArgumentValueError(
                f"{self.info.name} keeps no times: open it with `open_device(profile=True)` to have a trace"
            )
        return chrome_trace(self.info.index, str(self.info), self._recorder.records)

    def tallies(self, name: str) -> Tallies:
        """Where launches of the kernels of that name are counted."""
        return self._tallies.setdefault(name, Tallies())

    def count_transfer(self, kind: Transfer, nbytes: int) -> None:
        """A transfer was started."""
        counted = self._transfers[kind]
        counted[0] += 1
        counted[1] += nbytes

    # --- the end ---

    @uninterrupted
    async def close(self) -> None:
        """Start nothing more, wait for what is in flight, then let go of everything.

        If cancelled, or interrupted: it waits all the same, and raises that at the end.

        Raises:
            DeviceStuck: if commands were still in flight when the deadline passed.
        """
        self._closing = True
        lanes = [*(queue.lane for queue in self._queues), self.copies, self.compiler.lane]
        try:
            await self._close(lanes)
        finally:
            self.closed = True
            self.pool.close()

    @uninterrupted
    async def _close(self, lanes: Sequence[Lane]) -> None:
        """Have lanes take nothing more, drain them under the deadline, then end them."""
        for lane in lanes:
            lane.refuse()
        began, pierced = self.loop.stopwatch(), None
        try:
            pierced = await self._drain(lanes, began + self._close_timeout)
        finally:
            for lane in lanes:
                lane.join()
            complaint = self._complaint(lanes, self.loop.stopwatch() - began)
        if pierced is not None:
            if complaint is not None:
                pierced.add_note(complaint)
            raise pierced
        if complaint is not None:
            raise DeviceStuck(complaint)

    async def _drain(self, lanes: Sequence[Lane], deadline: float) -> BaseException | None:
        """Wait until nothing is in flight in lanes that take nothing more, whatever comes; see `Latch.outlast`."""
        pierced: BaseException | None = None
        while any(lane.in_flight for lane in lanes):
            scope = anyio.CancelScope(shield=True)
            with self._cancelled_at(deadline, scope):  # if that fails there was no await: it must not go round
                try:
                    with scope:
                        for lane in lanes:
                            await lane.drain()
                except GeneratorExit:
                    raise  # the loop itself was torn down; there is nothing left to await with
                except BaseException as error:  # noqa: BLE001  # handed to the caller, who raises it
                    pierced = pierced or error
            if scope.cancel_called:
                break
        return pierced

    @contextmanager
    def _cancelled_at(self, deadline: float, scope: anyio.CancelScope) -> Generator[None]:
        """Cancel a scope when it is too late in real time, which hardware takes also where the loop's clock is virtual."""
        seconds = min(max(0, deadline - self.loop.stopwatch()), threading.TIMEOUT_MAX)
        timer = threading.Timer(seconds, self.loop.call_from_thread, (scope.cancel,))
        timer.daemon = True  # who is abandoned in here does not cancel it, and that is not to keep the process
        try:
            timer.start()
        except RuntimeError:  # there are too many threads: the loop's clock has to do
            scope.deadline = anyio.current_time() + seconds
        try:
            yield
        finally:
            timer.cancel()
            if timer.ident is not None:
                timer.join()

    def _complaint(self, lanes: Sequence[Lane], seconds: float) -> str | None:
        """Log what is still in flight after that time, if anything; returns what was logged."""
        stuck = [operation for lane in lanes for operation in lane.in_flight]
        if not stuck:
            return None
        shown = ", ".join(map(repr, stuck[:5])) + (" and more" if len(stuck) > 5 else "")
        complaint = (
            f"{self.info.name} did not finish within {seconds:.1f} s: {len(stuck)} still in flight, {shown}. "
            "The threads that wait for them, and their memory, stay until they are over, and so does this process"
        )
        logger.critical(complaint)
        return complaint
