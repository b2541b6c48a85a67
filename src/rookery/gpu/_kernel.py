"""Compiled programs, and kernels that are awaited like functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias, final

from rookery._core._parking import uninterrupted

from . import _opencl
from ._arguments import LocalMemory, Parameter, Size, is_plain, parse, understand_size, work_sizes
from ._arrays import check_computable
from ._buffer import UnifiedBuffer
from ._errors import ArgumentTypeError, ArgumentValueError
from ._queue import Queue, events_of
from ._signals import compiler_undisturbed

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from ._device import Device
    from ._generated import Beginnings
    from ._operation import Operation
    from ._profile import Tallies

Argument: TypeAlias = "UnifiedBuffer | LocalMemory | int | float | np.number[Any]"

PREFERRED_LOCAL_SIZE: Final = 64
"""Work-groups of this size, or of the largest power of two below it that divides the size, unless told otherwise."""

KNOWN_SIZES: Final = 1000
"""Sizes of which a kernel remembers what it worked out for them."""


@final
class Program:
    """Compiled OpenCL C. Made by `Device.build`."""

    __slots__ = ("_raw", "kernel_names", "owner")

    def __init__(self, owner: Device, raw: _opencl.RawProgram) -> None:
        self.owner: Final = owner
        """The device it was compiled for."""
        self._raw = raw
        self.kernel_names: Final = tuple(_opencl.kernel_names(raw))

    def kernel(self, name: str) -> Kernel:
        """One of its kernels. Keep it: looking it up costs more than a launch.

        Raises:
            LookupError: if there is none of that name.
        """
        self.owner.check_usable()
        if name not in self.kernel_names:
            there = ", ".join(map(repr, self.kernel_names)) or "none: mark functions with __kernel"
            if f"_cl_{name}" in self.kernel_names:  # PoCL's names for the built-in functions
                there += f": `{name}` is a function of OpenCL C, give the kernel another name"
            instead = f": write program.kernel({self.kernel_names[0]!r})" if self.kernel_names else ""
            raise LookupError(f"the program has no kernel {name!r}; there is {there}{instead}")
        return Kernel(self.owner, _opencl.make_kernel(self._raw, name), name)


@final
class Kernel:
    """A function on the device. Made by `Device.kernel` or `Program.kernel`.

    Example:
        >>> await add(a, b, out, n)                        # launch, and wait without blocking the event loop
        >>> for _ in range(10):                            # a chain waits once
        ...     operation = step.submit(x, y, n)
        >>> await operation

    Arguments are checked against the compiled kernel. Buffers are moved to the device if they have to, and those
    that are not ``const`` are newer there afterwards.

    **Sizes.** ``size`` is the number of work items, one to three numbers. Left out, there is one for each element
    of the buffers, which then have to be of one length. ``local`` is the size of a work-group; with it ``size`` is
    rounded up to whole groups, so that the kernel has to guard with ``if (i < n)``. Drivers that compile a kernel
    for each group size take tens of milliseconds for the first launch with each: ``local=64`` and a guard serve
    sizes of every kind at full speed, while without ``local`` an odd size is run in groups of one.

    **OpenCL does not check bounds: a size that is too large for a buffer, or a missing guard, writes over other
    memory and can kill the process.** How many work items fit a buffer is known to the kernel alone, so no size is
    refused for being larger than the buffers.
    """

    __slots__ = (
        "_compiled_for",
        "_known_sizes",
        "_largest",
        "_plan",
        "_preferred",
        "_raw",
        "_required",
        "_scalar_types",
        "_spare_local",
        "_takes_local",
        "_tallies",
        "owner",
        "signature",
    )

    def __init__(
        self, owner: Device, raw: _opencl.RawKernel, name: str, tallies: Tallies | Beginnings | None = None
    ) -> None:
        self.owner: Final = owner
        """The device it was compiled for."""
        self.signature: Final = parse(name, _opencl.raw_parameters(raw))
        for one in self.signature.parameters:
            if one.dtype is not None:
                check_computable(one.dtype, self.signature.describe(one), owner.info.name, doubles=owner.info.fp64)
        self._raw = raw
        self._tallies = owner.tallies(name) if tallies is None else tallies
        self._compiled_for: set[tuple[int, ...]] = set()  # local sizes it was launched with
        self._plan = self.signature.parameters
        self._takes_local = any(one.kind == "local" for one in self._plan)
        self._required = _opencl.required_local_size(raw, owner.raw)
        self._largest = _opencl.max_local_size(raw, owner.raw)
        self._spare_local = _opencl.spare_local_memory(raw, owner.raw)
        self._preferred = PREFERRED_LOCAL_SIZE
        self._known_sizes: dict[tuple[Size, Size | None], tuple[tuple[int, ...], tuple[int, ...]]] = {}
        self._scalar_types = [one.dtype if one.kind == "scalar" else None for one in self._plan]
        _opencl.fix_scalar_types(raw, self._scalar_types)

    @property
    def name(self) -> str:
        """Its name in the source."""
        return self.signature.kernel

    def __repr__(self) -> str:
        return f"<Kernel {self.signature}>"

    @uninterrupted  # or what was started to be awaited at once might not be
    async def __call__(
        self, *args: Argument, size: Size | None = None, local: Size | None = None, queue: Queue | None = None
    ) -> None:
        """Launch it and wait until it is done. See `submit` for arguments and errors.

        If cancelled: the kernel runs on, and its buffers stay reserved until it is done.

        Raises:
            CommandFailed: if it failed on the device.
        """
        operation = self._start(args, size, local, queue, (), at_once=True)
        await operation.settled()
        operation.raise_if_failed()

    def submit(
        self,
        *args: Argument,
        size: Size | None = None,
        local: Size | None = None,
        queue: Queue | None = None,
        after: Sequence[Operation] = (),
    ) -> Operation:
        """Launch it, without waiting. It runs after whatever uses its buffers already: commands, and host copies.

        Args:
            args: Buffers for pointers, numbers for scalars, `LocalMemory` for ``__local`` pointers.
            size: Work items; see the class.
            local: Work items in a group; see the class.
            queue: Where to launch it; the device's own queue unless given.
            after: Operations of the same device that have to be over first, beside those that use the same buffers. If one
                of them fails meanwhile, it is the driver's choice whether this is run.

        Raises:
            ArgumentTypeError: for a wrong number of arguments, or one of the wrong kind or dtype. A `TypeError`.
            ArgumentValueError: for what the kernel cannot be meant to do: numbers out of range, sizes that do not
                fit, buffers of another device. A `ValueError`.
            NoData: if nothing was ever written to a buffer that it only reads.
            BufferReleased: if a buffer was released.
            CommandFailed: if the driver refuses the launch, or what it is to run after, by ``after`` or by its buffers,
                has just failed, or what was to write a buffer that it only reads, and that was not written since.
        """
        return self._start(args, size, local, queue, after, at_once=False)

    @uninterrupted
    def _start(
        self,
        args: Sequence[Argument],
        size: Size | None,
        local: Size | None,
        queue: Queue | None,
        after: Sequence[Operation],
        *,
        at_once: bool,
    ) -> Operation:
        """Launch it; ``at_once`` if the running task awaits it before it does anything else."""
        self.owner.check_usable()
        queue = self.owner.queue if queue is None else self._understand_queue(queue)
        raw_args, buffers, written = self._check(args)
        global_size, local_size = self._sizes(args, size, local)
        for buffer in buffers:
            if buffer.host_is_newer:
                buffer.start_upload(queue)
        waited_for = queue.after(buffers, after)
        event = self._launch(queue, raw_args, global_size, local_size, waited_for)
        operation = queue.follow(event, (*buffers, self._tallies.mine()), self._label, at_once=at_once)
        for buffer in written:
            buffer.written_by(operation)
        return operation

    async def warm_up(self, *args: Argument, size: Size | None = None, local: Size | None = None) -> None:
        """Launch it once, off the loop and beside the queues, and wait; takes what `submit` takes.

        A driver may compile a kernel at its first launch with each local size, for tens of milliseconds. It really
        runs, so give it data that may change. What uses its buffers and is started later waits for it. It waits for
        what uses its buffers already, and what is to be compiled meanwhile waits behind it. It is neither counted nor
        timed, so that averages are those of the launches that follow.

        If cancelled: it runs on, and its buffers stay reserved until it is done.

        Raises:
            CommandFailed: if the driver refuses the launch, or it failed on the device, or what it waited for did.
        """
        self.owner.check_usable()
        operation, local_size = self._start_warm_up(args, size, local)
        await operation
        self._compiled_for.add(local_size)

    @uninterrupted
    def _start_warm_up(
        self, args: Sequence[Argument], size: Size | None, local: Size | None
    ) -> tuple[Operation, tuple[int, ...]]:
        """Start it; returns the operation, and the local size that it is for."""
        raw_args, buffers, written = self._check(args)
        global_size, local_size = self._sizes(args, size, local)
        for buffer in buffers:
            if buffer.host_is_newer:
                buffer.start_upload(self.owner.queue)
        after = events_of(buffers) or ()
        kernel = _opencl.another_kernel(self._raw)  # of the thread's own: arguments are set on the kernel
        _opencl.fix_scalar_types(kernel, self._scalar_types)

        def run() -> None:
            for event in after:  # any of them may have failed by now, which its wait raises
                event.wait()
            queue = _opencl.make_queue(self.owner.context)
            _opencl.launch(queue, kernel, raw_args, global_size, local_size, None).wait()

        event, announced = _opencl.announce(self.owner.context, run)
        operation = self.owner.compiler.submit(announced, buffers, event, lambda: f"warming up {self._label()}")
        for buffer in written:
            buffer.written_by(operation)
        return operation, local_size

    def _understand_queue(self, queue: Any) -> Queue:
        if not isinstance(queue, Queue):
            raise ArgumentTypeError(
                f"queue of kernel {self.name!r} is a gpu.Queue, got {_shown(queue)}: "
                "open one with `async with device.open_queue() as queue`, or leave it out"
            )
        if queue.owner is not self.owner:
            raise ArgumentValueError(
                f"kernel {self.name!r} was compiled by another `open_device()` than {queue.name!r} is of: open a queue "
                "of the same device, or leave it out"
            )
        return queue

    def _launch(
        self,
        queue: Queue,
        args: list[Any],
        global_size: tuple[int, ...],
        local_size: tuple[int, ...],
        after: list[_opencl.Event] | None,
    ) -> _opencl.Event:
        if local_size in self._compiled_for:
            return _opencl.launch(queue.raw, self._raw, args, global_size, local_size, after)
        with compiler_undisturbed():
            event = _opencl.launch(queue.raw, self._raw, args, global_size, local_size, after)
        self._compiled_for.add(local_size)
        return event

    def _label(self) -> str:
        return f"kernel {self.name!r}"

    def _check(self, args: Sequence[Argument]) -> tuple[list[Any], list[UnifiedBuffer], list[UnifiedBuffer]]:
        """The arguments for OpenCL, the buffers among them, and those that may be written."""
        if len(args) != len(self._plan):
            self.signature.check_count(len(args))
        raw: list[Any] = []
        buffers: list[UnifiedBuffer] = []
        written: list[UnifiedBuffer] = []
        for parameter, argument in zip(self._plan, args):  # noqa: B905 - counted above; `strict` takes as long as a check
            if parameter.kind == "scalar":
                raw.append(self._scalar(parameter, argument))
            elif parameter.kind == "buffer":
                buffer, memory = self._buffer(parameter, argument)
                raw.append(memory)
                buffers.append(buffer)
                if parameter.writes:
                    written.append(buffer)
            else:
                raw.append(self._local_memory(parameter, argument))
        if self._takes_local:
            sizes = [argument.nbytes for argument in args if isinstance(argument, LocalMemory)]
            self.signature.check_local_memory(sizes, self._spare_local)
        return raw, buffers, written

    def _scalar(self, parameter: Parameter, argument: Any) -> float:
        # Nearly all are plain numbers within range; the checks that explain take longer than a launch.
        if type(argument) is parameter.number and parameter.least <= argument <= parameter.most:
            return argument
        return self.signature.scalar(parameter, argument)

    def _buffer(self, parameter: Parameter, argument: object) -> tuple[UnifiedBuffer, _opencl.RawBuffer]:
        if not isinstance(argument, UnifiedBuffer):
            raise self._no_buffer(parameter, argument)
        if argument.owner is not self.owner:
            raise ArgumentValueError(
                f"{self.signature.describe(parameter)} needs a buffer of its own device, got one of another `open_device()` "
                f"of {argument.owner.info.name}: copy it with `await device.copy(buffer)`"
            )
        if argument.dtype is not parameter.dtype or parameter.lanes > 1:
            self.signature.check_dtype(parameter, argument.dtype, argument.nbytes)
        memory = argument.memory_for_launch(writing=parameter.writes)
        if memory is None:
            argument.refuse_launch(self.signature.describe(parameter))
        return argument, memory

    def _no_buffer(self, parameter: Parameter, argument: object) -> ArgumentTypeError:
        return ArgumentTypeError(
            f"{self.signature.describe(parameter)} needs a buffer, got {_shown(argument)}: "
            "make one with `await device.upload(array)`"
        )

    def _local_memory(self, parameter: Parameter, argument: object) -> _opencl.LocalMemory:
        if not isinstance(argument, LocalMemory):
            raise ArgumentTypeError(
                f"{self.signature.describe(parameter)} needs local memory, got {_shown(argument)}: "
                "pass gpu.LocalMemory(nbytes)"
            )
        return _opencl.LocalMemory(argument.nbytes)

    def _sizes(
        self, args: Sequence[Argument], size: Size | None, local: Size | None
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The global and local size of a launch with these arguments, which have been checked."""
        if size is None:
            size = self.length(args)
        # What was asked for before, with plain numbers only: 64.0 would be found as 64, and is refused.
        plain = is_plain(size) and (local is None or is_plain(local))
        if plain and (known := self._known_sizes.get((size, local))) is not None:
            return known
        sizes = self._work_out_sizes(size, local)
        if plain:
            if len(self._known_sizes) >= KNOWN_SIZES:
                self._known_sizes.clear()
            self._known_sizes[size, local] = sizes
        return sizes

    def _work_out_sizes(self, size: Size, local: Size | None) -> tuple[tuple[int, ...], tuple[int, ...]]:
        sides = understand_size(self.name, "size", size)
        group = None if local is None else understand_size(self.name, "local", local)
        if self._required is not None:
            required = self._required[: len(sides)]
            if group not in (None, required):
                raise ArgumentValueError(
                    f"local={local} of kernel {self.name!r} contradicts its reqd_work_group_size, {required}: "
                    "leave local out"
                )
            group = required
        return work_sizes(self.name, sides, group, self._preferred, self._largest)

    def length(self, args: Sequence[object]) -> int:
        """The one length of all buffers, for a launch that leaves its size open; None stands for one left aside."""
        lengths = [
            (parameter, argument.size // parameter.lanes)
            for parameter, argument in zip(self._plan, args, strict=True)
            if isinstance(argument, UnifiedBuffer)
        ]
        for parameter, argument in zip(self._plan, args, strict=True):
            if parameter.kind == "buffer" and not (argument is None or isinstance(argument, UnifiedBuffer)):
                raise self._no_buffer(parameter, argument)
        if not lengths:
            raise ArgumentValueError(f"kernel {self.name!r} takes no buffers, so it needs a size: write size=1024")
        first, length = lengths[0]
        for parameter, other in lengths[1:]:
            if other != length:
                raise ArgumentValueError(
                    f"{self.signature.describe(parameter)} has {other} elements and {first.name!r} has {length}: say "
                    "how many work items you mean, size=..., or pass buffers of one length"
                )
        return length


def _shown(argument: object) -> str:
    text = repr(argument)
    return f"{type(argument).__name__} {text if len(text) < 60 else text[:57] + '...'}"
