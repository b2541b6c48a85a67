"""A naive model of a device: who has how many bytes, which side of each buffer is newer, what fails, and what it contains.

It knows nothing of the driver. Operations *run* as soon as what they wait for has run, and are *over* when the event loop
has heard of that, which the test decides. Tasks are generators that yield the operations that they wait for.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from typing import Any

import attrs
import numpy as np

from rookery import gpu
from rookery.gpu import BufferState

LARGE = 8 * 1024
"""Bytes from which on a thread makes the host's copies, here."""
OWN, OTHER, COPIES = 0, 1, 2
"""The lanes: the device's own queue, another one, and the thread that copies on the host."""

Task = Generator["Op", None, Any]


@attrs.define(eq=False)
class Op:
    """A command or a host copy. A gate is one that does nothing, and that the driver does not tell of."""

    lane: int
    deps: list[Op]
    follows: list[Op]  # what it fails with
    used: list[Array]
    effect: Callable[[], None]
    ended: Callable[[], None]
    kernel: str | None = None
    fails: bool = False  # by itself
    breaks: bool = False  # a host copy that raises, and does nothing
    gate: Any = None
    closed: bool = False  # a gate that is not open yet
    ran: bool = False
    failed: bool = False  # as soon as it ran
    over: bool = False
    waiters: list[Any] = attrs.field(factory=list)  # in the order in which they began to wait

    def run(self) -> None:
        """On the device, or in a thread."""
        self.ran = True
        self.failed = self.fails or self.breaks or any(op.failed for op in self.follows)
        if not self.breaks:
            self.effect()


class Array:
    """A buffer. What is not known of its contents is NaN."""

    def __init__(self, real: gpu.UnifiedBuffer, *, shared: bool) -> None:
        self.real = real
        self.handle = real.device.int_ptr
        self.size, self.nbytes, self.reserved = real.size, real.nbytes, real.reserved
        self.large = real.nbytes >= LARGE
        self.on_device = np.full(real.size, np.nan, np.float32)
        self.on_host = self.on_device if shared else self.on_device.copy()
        self.newer = "neither"
        self.ever_on_host = self.ever_on_device = False
        self.version = 0
        self.undefined = False  # what was to write it failed
        self.views = 0  # arrays, and tracebacks, that look at its host side
        self.ops: list[Op] = []  # that use it and are not over
        self.last: dict[int, Op] = {}  # the latest of them in each lane
        self.writers: list[Op] = []  # those of them that write it
        self.upload: Op | None = None
        self.download: Op | None = None
        self.replacing: Op | None = None
        self.lease: asyncio.Event | None = None
        self.private = False  # nobody has it but a task of rookery's

    @property
    def state(self) -> BufferState:
        only_host = BufferState.HOST_DIRTY if self.ever_on_device else BufferState.HOST_ONLY
        only_device = BufferState.DEVICE_DIRTY if self.ever_on_host else BufferState.DEVICE_ONLY
        return {
            "neither": BufferState.UNINITIALIZED,
            "both": BufferState.SYNCHRONIZED,
            "host": only_host,
            "device": only_device,
        }[self.newer]

    @property
    def undefined_error(self) -> type[Exception] | None:
        """What showing it to the host raises."""
        if self.undefined:
            return gpu.CommandFailed
        if self.replacing is not None:
            return gpu.BufferBusy
        return {"neither": gpu.NoData, "device": gpu.StaleHost}.get(self.newer)

    @property
    def unreadable_error(self) -> type[Exception] | None:
        """What launching a kernel that only reads it raises."""
        return gpu.CommandFailed if self.undefined else gpu.NoData if self.newer == "neither" else None

    def host_changed(self) -> None:
        self.newer, self.ever_on_host = "host", True

    def host_written(self, value: float) -> None:
        self.on_host[:] = value
        self.host_changed()
        self.undefined = False

    def synchronized(self) -> None:
        self.newer = "both"
        self.ever_on_host = self.ever_on_device = True

    def device_written(self, op: Op) -> None:
        self.newer, self.ever_on_device = "device", True
        self.version += 1
        self.undefined = False
        self.writers.append(op)


@attrs.define(eq=False)
class Waiter:
    """Somebody in the pool's line."""

    nbytes: int
    task: asyncio.Task[Any]
    lease: asyncio.Event | None
    got: list[gpu.UnifiedBuffer]


@attrs.define
class Model:
    """The device, the pool and all that is on its way."""

    limit: int
    shared: bool
    lanes: list[list[Op]] = attrs.field(factory=lambda: [[], [], []])  # what is not over, in order
    live: list[Array] = attrs.field(factory=list)
    retired: list[Array] = attrs.field(factory=list)  # released, and in use all the same
    waiting: list[Waiter] = attrs.field(factory=list)
    granted: list[Waiter] = attrs.field(factory=list)  # who has the bytes, and not the buffer yet
    free: Counter[int] = attrs.field(factory=Counter)  # blocks kept for the next buffer, by their size
    kernels: dict[str, list[int]] = attrs.field(factory=dict)  # launches of each: begun, done well, failed
    to_failure: int | None = None  # so many commands go well before one fails
    uploads: int = 0
    downloads: int = 0
    launched: int = 0
    failed: int = 0
    hits: int = 0
    misses: int = 0
    waits: int = 0
    peak: int = 0

    # --- the pool ---

    def charged(self) -> int:
        buffers = sum(array.reserved for array in [*self.live, *self.retired])
        return buffers + sum(waiter.nbytes for waiter in self.granted)

    def held(self) -> int:
        return sum(nbytes * blocks for nbytes, blocks in self.free.items())

    def fits(self, nbytes: int) -> bool:
        """Whether one can have it who does not wait."""
        return not self.waiting and self.charged() + nbytes <= self.limit

    def serve(self) -> None:
        """First come, first served."""
        while self.waiting and self.charged() + self.waiting[0].nbytes <= self.limit:
            self.granted.append(self.waiting.pop(0))
            self.peak = max(self.peak, self.charged())

    def take(self, real: gpu.UnifiedBuffer) -> Array:
        """A buffer was handed out."""
        array = Array(real, shared=self.shared)
        taken = {other.handle for other in [*self.live, *self.retired]}
        assert array.handle not in taken, "memory that is in use was handed out"
        self.live.append(array)
        self.allocated(array.reserved, self.charged())
        return array

    def take_for_nothing(self, nbytes: int) -> None:
        """Somebody had it for a moment."""
        self.allocated(nbytes, self.charged() + nbytes)
        self.free[nbytes] += 1

    def allocated(self, nbytes: int, charged: int) -> None:
        """It comes from what is free of its size, or else is new, and then what is free may be in its way."""
        self.peak = max(self.peak, charged)
        if self.free[nbytes]:
            self.free[nbytes] -= 1
            self.hits += 1
        else:
            self.misses += 1
            if charged + self.held() > self.limit:
                self.free.clear()

    def release(self, array: Array) -> None:
        """Its memory may be handed out again when nothing uses it any more, and, if it is the host's too, sees it."""
        self.live.remove(array)
        self.retired.append(array)
        self.reclaim(array)

    def reclaim(self, array: Array) -> None:
        if array in self.retired and not array.ops and not (self.shared and array.views):
            self.retired.remove(array)
            self.free[array.reserved] += 1
            self.serve()

    def look_away(self, array: Array) -> None:
        """A view is gone."""
        array.views -= 1
        self.reclaim(array)

    # --- commands ---

    def start(
        self,
        lane: int,
        used: Sequence[Array],
        effect: Callable[[], None],
        ended: Callable[[Op], None] = lambda op: None,
        *,
        after: Sequence[Op] = (),
        kernel: str | None = None,
        fails: bool = False,
    ) -> Op:
        """It waits for what uses the same buffers, and for what stands before it in its lane."""
        # A copy on the host waits for nothing but its turn: who starts it has waited for what matters.
        before = [] if lane == COPIES else [op for array in used for op in array.ops]
        follows = [array.writers[-1] for array in used if array.writers]
        if lane != COPIES:
            follows += [array.upload for array in used if array.upload is not None]
        op = Op(lane, [*before, *after], follows, list(used), effect, lambda: ended(op), kernel, fails)
        if lane != COPIES:
            self.launched += 1
            if self.to_failure is not None:
                op.fails = self.to_failure == 0
                self.to_failure = self.to_failure - 1 if self.to_failure else None
        if kernel is not None:
            self.kernels.setdefault(kernel, [0, 0, 0])[0] += 1
        self.lanes[lane].append(op)
        for array in used:
            array.ops.append(op)
            array.last[lane] = op
        return op

    def close_gate(self, lane: int, gate: Any) -> None:
        """What is started from here on waits in its lane."""
        self.lanes[lane].append(Op(lane, [], [], [], lambda: None, lambda: None, gate=gate, closed=True))

    def gates(self) -> list[Op]:
        """Those that are first in their lanes."""
        return [lane[0] for lane in self.lanes if lane and lane[0].closed]

    def launch(
        self, name: str, read: Sequence[Array], written: Sequence[Array], effect: Callable[[], None], lane: int,
        after: Sequence[Op],
    ) -> Op:  # fmt: skip
        op = self.start(lane, [*read, *written], effect, after=after, kernel=name)
        for array in written:
            array.device_written(op)
        return op

    def start_upload(self, array: Array, lane: int) -> Op | None:
        """What makes the device side current, if anything has to."""
        if array.newer != "host":
            return array.upload
        array.newer, array.ever_on_device = "both", True
        if self.shared:
            return None
        self.uploads += 1

        def effect() -> None:
            array.on_device[:] = array.on_host

        def ended(op: Op) -> None:
            if array.upload is op:
                array.upload = None
                if op.failed and array.newer == "both":
                    array.newer = "host"

        array.upload = op = self.start(lane, [array], effect, ended)
        return op

    def start_download(self, array: Array, lane: int) -> Op:
        self.downloads += 1
        version = array.version

        def effect() -> None:
            array.on_host[:] = array.on_device

        def ended(op: Op) -> None:
            array.download = None
            if not op.failed and version == array.version:
                array.synchronized()

        array.download = op = self.start(lane, [array], effect, ended)
        return op

    def start_replacing(self, array: Array, value: float, *, breaks: bool = False) -> Op:
        """Start copying to the host side, in a thread."""

        def effect() -> None:
            array.on_host[:] = value

        def ended(op: Op) -> None:
            array.replacing = None

        array.replacing = op = self.start(COPIES, [array], effect, ended)
        op.breaks = breaks
        array.host_changed()
        array.undefined = False
        array.writers.append(op)
        return op

    def start_copying(self, source: Array, target: Array) -> Op:
        """Start copying on the device."""

        def effect() -> None:
            target.on_device[:] = source.on_device

        self.start_upload(source, OWN)
        op = self.start(OWN, [source, target], effect)
        target.device_written(op)
        return op

    def run(self) -> None:
        """Let run what can."""
        while (op := next(self.ready(), None)) is not None:
            op.run()

    def ready(self) -> Iterator[Op]:
        for lane in self.lanes:
            first = next((op for op in lane if not op.ran), None)
            if first is not None and not first.closed and all(dep.ran for dep in first.deps):
                yield first

    def end(self, op: Op) -> None:
        """The event loop hears that it is over."""
        self.lanes[op.lane].remove(op)
        op.over = True
        self.failed += op.failed and op.lane != COPIES
        if op.kernel is not None:
            self.kernels[op.kernel][1 + op.failed] += 1
        op.ended()
        for index, array in enumerate(op.used):
            if op in array.ops:
                array.ops.remove(op)
            if array.last.get(op.lane) is op:
                del array.last[op.lane]
            if op in array.writers:
                array.writers.remove(op)
                array.undefined |= op.failed
            array.views += op.breaks  # what it raised has a traceback, which sees what it was to write
            if array not in op.used[index + 1 :]:
                self.reclaim(array)

    def forget(self, op: Op) -> None:
        """Nobody has any more what it raised."""
        for array in op.used:
            if op.breaks:
                self.look_away(array)

    # --- tasks ---

    def launching(
        self, name: str, read: Sequence[Array], out: Array, effect: Callable[[], None], lane: int,
        after: Sequence[Op] = (),
    ) -> Task:  # fmt: skip
        """A launch that is awaited."""
        refused = [array.unreadable_error for array in read if array.unreadable_error is not None]
        if refused:
            raise refused[0]
        for array in dict.fromkeys([*read, out]):
            self.start_upload(array, lane)
        if any(op.over and op.failed for op in after):
            raise gpu.CommandFailed
        yield from awaiting(self.launch(name, read, [out], effect, lane, after))

    def reading(self, array: Array) -> Task:
        yield from self.making_current(array)
        read = array.on_host.copy()

        def effect() -> None:
            read[:] = array.on_host

        if array.large:
            yield from awaiting(self.start(COPIES, [array], effect))
        return read

    def making_current(self, array: Array) -> Task:
        """What it is to bring the host's side up to date."""
        check_defined(array)
        while array.replacing is not None or array.newer == "device":
            if array.replacing is not None:
                yield from awaiting(array.replacing)
            elif not self.shared:
                yield from awaiting(array.download or self.start_download(array, OWN))
            elif array.last:
                op = next(iter(array.last.values()))
                yield from awaiting(op, failing=op in array.writers)
            else:
                array.synchronized()
            self.check_live(array)
            check_defined(array)

    def writing(self, array: Array, value: float, *, breaks: bool) -> Task:
        while array.last:
            yield next(iter(array.last.values()))
            self.check_live(array)
        if not array.large:
            array.host_written(value)
            return
        op = self.start_replacing(array, value, breaks=breaks)
        try:
            yield from awaiting(op)
        except asyncio.CancelledError:
            while not op.over:  # whatever comes: until then it reads what the caller gave
                with suppress(asyncio.CancelledError):
                    yield op
            raise

    def ensuring(self, array: Array) -> Task:
        """What it is to bring the device's side up to date."""
        if array.replacing is not None:
            yield from awaiting(array.replacing)
            self.check_live(array)
        check_defined(array)
        op = self.start_upload(array, OWN)
        if op is not None:
            yield from awaiting(op)

    def copying(self, source: Array, target: Array) -> Task:
        """The copy is given back if its task is cancelled or fails."""
        target.private = True
        try:
            check_defined(source)
            yield from awaiting(self.start_copying(source, target))
        except BaseException:
            self.release(target)
            raise
        target.private = False

    def flying(self, rows: Array, result: Array, value: float) -> Task:
        """A batch: rows copied in beside the kernels, a launch, the result copied out, an answer."""

        def effect() -> None:
            result.on_device[:] = rows.on_device + rows.on_device

        try:
            if rows.large:
                self.start_replacing(rows, value)
            else:
                rows.host_written(value)
            self.start_upload(rows, OTHER)
            self.launch("add", [rows, rows], [result], effect, OWN, ())
            if not self.shared:
                self.start_download(result, OTHER)
            yield from self.making_current(result)
            return result.on_host.copy()
        finally:
            for array in (rows, result):
                if array in self.live:
                    self.release(array)

    def check_live(self, array: Array) -> None:
        if array not in self.live:
            raise gpu.BufferReleased


def awaiting(op: Op, *, failing: bool = True) -> Task:
    """What it is to await an operation."""
    yield op
    if failing and op.failed:
        raise gpu.CommandFailed


def check_defined(array: Array) -> None:
    if array.undefined:
        raise gpu.CommandFailed
