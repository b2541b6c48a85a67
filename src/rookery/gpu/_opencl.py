"""The one door to OpenCL: the only module that imports pyopencl.

Thin typed functions over what the rest needs, and the traps of that library named where they are avoided.
"""

from __future__ import annotations

import math
import os
import threading
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from ._errors import CommandFailed, ForkedProcess, GpuUnavailable
from ._pocl import ensure_cache, name_processor, writable
from ._select import DeviceInfo, Kind, Svm

try:
    import numpy as np
    import platformdirs
    import pyopencl as cl
    from pyopencl.tools import ImmediateAllocator, MemoryPool, PooledBuffer, VectorArg, parse_c_arg
except ImportError as error:
    raise GpuUnavailable(
        f'rookery.gpu needs numpy and pyopencl ({error}): pip install "rookery[gpu]", '
        'or "rookery[pocl]" to have a driver for the processor with it',
        name=error.name,
    ) from error

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    import numpy.typing as npt

Context = cl.Context
Event = cl.Event
LocalMemory = cl.LocalMemory
OpenCLError = cl.Error
RawBuffer = PooledBuffer
RawDevice = cl.Device
RawKernel = cl.Kernel
RawPool = MemoryPool
RawProgram = cl.Program
RawQueue = cl.CommandQueue
UserEvent = cl.UserEvent

ARGUMENT_INFO: Final = ("-cl-kernel-arg-info",)
"""Without it the compiler forgets the names, types and qualifiers of arguments."""


# --- processes -------------------------------------------------------------------------------------


class _FirstUse:
    """Who used OpenCL first. The drivers' own state is one per process, and this guards just that."""

    lock = threading.Lock()
    pid: int | None = None
    here: int | None = None
    """This process, which is another one than `pid` in a forked child. Asking the system takes half a microsecond."""
    cache: object = None

    @classmethod
    def forked(cls) -> None:
        """In the child, right after the fork."""
        cls.here = os.getpid()


def enter_process() -> None:
    """Note that this process uses OpenCL, and put PoCL right before it is first asked for devices.

    Raises:
        ForkedProcess: if OpenCL was used before this process was forked.
    """
    if _FirstUse.pid is None:
        with _FirstUse.lock:
            if _FirstUse.pid is None:
                _FirstUse.cache = ensure_cache()
                _avoid_unwritable_cache()
                if hasattr(os, "register_at_fork"):
                    os.register_at_fork(after_in_child=_FirstUse.forked)
                _FirstUse.pid = _FirstUse.here = os.getpid()
    check_process(_FirstUse.pid)


def _avoid_unwritable_cache() -> None:
    """Have pyopencl do without its cache where it cannot be written: no kernel could be made otherwise."""
    untyped: Any = cl
    if untyped._PYOPENCL_NO_CACHE:
        return
    folder = invoker_folder()
    if folder is None or not writable(folder):
        # What PYOPENCL_NO_CACHE sets, when pyopencl is imported; that was before.
        untyped._PYOPENCL_NO_CACHE = True


def invoker_folder() -> Path | None:
    """Where pyopencl keeps, by way of pytools, the lines of Python that launch a kernel of each signature.

    None if this user has no home folder to keep them in.
    """
    try:
        folder = Path(platformdirs.user_cache_dir("pytools", "pytools"))
    except RuntimeError:
        return None
    return folder if folder.is_absolute() else None  # older versions of platformdirs leave the ~


def check_process(pid: int) -> None:
    """Refuse to go on in a forked child, where drivers hang."""
    if pid != _FirstUse.here:
        raise ForkedProcess(
            f"OpenCL was used in process {pid}, which forked this one ({_FirstUse.here}), and drivers hang in a forked "
            'child: start processes with multiprocessing.get_context("spawn"), or open devices in the child only'
        )


# --- devices ---------------------------------------------------------------------------------------


def raw_devices() -> list[RawDevice]:
    """Every device of every platform; none if there is no platform or driver."""
    enter_process()
    try:
        platforms = cl.get_platforms()
    except cl.Error as error:
        if error.code == cl.status_code.PLATFORM_NOT_FOUND_KHR:
            return []
        raise
    found: list[RawDevice] = []
    for platform in platforms:
        try:
            found += platform.get_devices()
        except cl.Error as error:
            if error.code != cl.status_code.DEVICE_NOT_FOUND:
                raise
    for device in found:
        if "pocl" in device.version.casefold():
            name_processor(device.int_ptr, device.version)
    return found


def describe(index: int, device: RawDevice) -> DeviceInfo:
    """What is to be known about a device before it is opened."""
    extensions = device.extensions.split()
    return DeviceInfo(
        index=index,
        name=device.name.strip(),
        vendor=device.vendor.strip(),
        platform=device.platform.name.strip(),
        platform_version=device.platform.version.strip(),
        kind=_kind(device),
        version=device.version.strip(),
        driver=device.driver_version.strip(),
        global_memory=device.global_mem_size,
        max_allocation=device.max_mem_alloc_size,
        local_memory=device.local_mem_size,
        compute_units=device.max_compute_units,
        max_work_group_size=device.max_work_group_size,
        host_unified_memory=bool(device.host_unified_memory),
        # An integrated GPU shares the memory too, but wants to be told of each access; it is copied to for now.
        shares_host_memory=bool(device.host_unified_memory) and _kind(device) == "cpu",
        # The extension is no longer named by every driver that has it.
        fp64="cl_khr_fp64" in extensions or bool(_if_known(device, "double_fp_config")),
        fp16="cl_khr_fp16" in extensions,
        svm=_svm(device),
    )


def _svm(device: RawDevice) -> tuple[Svm, ...]:
    bits = cl.device_svm_capabilities
    kinds: dict[Svm, int] = {
        "coarse buffer": bits.COARSE_GRAIN_BUFFER,
        "fine buffer": bits.FINE_GRAIN_BUFFER,
        "fine system": bits.FINE_GRAIN_SYSTEM,
        "atomics": bits.ATOMICS,
    }
    has = _if_known(device, "svm_capabilities")
    return tuple(kind for kind, bit in kinds.items() if has & bit)


def _if_known(device: RawDevice, name: str) -> int:
    """A set of bits that older drivers have no answer for; none then."""
    try:
        return int(getattr(device, name))
    except cl.Error as error:
        if error.code != cl.status_code.INVALID_VALUE:
            raise
        return 0


def _kind(device: RawDevice) -> Kind:
    if device.type & cl.device_type.GPU:
        return "gpu"
    if device.type & cl.device_type.CPU:
        return "cpu"
    return "accelerator" if device.type & cl.device_type.ACCELERATOR else "other"


def make_context(device: RawDevice) -> Context:
    """A context for one device."""
    context = cl.Context([device])
    # Where the driver has no cache of its own, pyopencl keeps binaries, and these know nothing of their arguments.
    untyped: Any = context
    untyped.cache_dir = False
    return context


def make_queue(context: Context, *, profile: bool = False) -> RawQueue:
    """An in-order queue of the context's device."""
    if profile:
        return cl.CommandQueue(context, properties=cl.command_queue_properties.PROFILING_ENABLE)
    return cl.CommandQueue(context)


def announce(context: Context, work: Callable[[], object]) -> tuple[Event, Callable[[], None]]:
    """An event for work of the host's own, which commands can wait for, and the work, which then completes it.

    If the work fails, `fail` has to be said of the event, by the thread that starts commands.
    """
    event = cl.UserEvent(context)

    def announced() -> None:
        work()
        event.set_status(cl.command_execution_status.COMPLETE)

    return event, announced


def fail(event: Event) -> None:
    """Have what waits for an announced event fail as well; nothing happens to the event of a command, or of work that was done.

    On PoCL a command never ends that is told to wait for an event which failed before. So it is the thread that starts
    commands that says so: between two of its own lines no event fails that it has just asked about.
    """
    if isinstance(event, cl.UserEvent) and event.command_execution_status != cl.command_execution_status.COMPLETE:
        event.set_status(-1)  # any number below zero


# --- memory ----------------------------------------------------------------------------------------


def make_pool(queue: RawQueue) -> RawPool:
    """The pool of pyopencl, which knows neither limits nor commands in flight; `BufferPool` adds both."""
    return MemoryPool(ImmediateAllocator(queue))


def make_pinned_pool(queue: RawQueue) -> RawPool:
    """As `make_pool`, of host memory that drivers can copy from and to without a copy in between."""
    flags: Any = cl.mem_flags.READ_WRITE | cl.mem_flags.ALLOC_HOST_PTR
    return MemoryPool(ImmediateAllocator(queue, flags))


def rounded_size(pool: RawPool, nbytes: int) -> int:
    """What the pool really allocates for a request: the size of its bin, up to 6.25 % more."""
    return pool.alloc_size(pool.bin_number(nbytes))


class SharedMemory:
    """Device memory seen as host memory: keeps the memory as long as an array over it lives."""

    __slots__ = ("__array_interface__", "__weakref__", "_memory")

    def __init__(self, memory: RawBuffer, address: int, nbytes: int) -> None:
        self._memory = memory
        self.__array_interface__ = {"version": 3, "data": (address, False), "shape": (nbytes,), "typestr": "|u1"}


def shared_address(queue: RawQueue, memory: RawBuffer) -> int:
    """The host address of memory on a device that shares the host's.

    A blocking map would wait for a free worker, that is behind whole kernels; the address is known at once.
    """
    access: Any = cl.map_flags.READ | cl.map_flags.WRITE
    mapped: Any = cl.enqueue_map_buffer(queue, memory, access, 0, (1,), np.dtype(np.uint8), is_blocking=False)[0]
    address: int = mapped.ctypes.data
    mapped.base.release(queue=queue)
    queue.flush()
    return address


def shared_view(shared: SharedMemory, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """A numpy view of device memory, which cannot be reused before the view is gone."""
    # As bytes first: the interface has no words for structured dtypes.
    return np.asarray(shared).view(dtype).reshape(shape)


class _PinnedMemory:
    """Pinned memory that is mapped as long as an array over it lives."""

    __slots__ = ("__array_interface__", "_mapped", "_memory")

    def __init__(self, memory: RawBuffer, mapped: npt.NDArray[Any]) -> None:
        self._memory = memory
        self._mapped = mapped
        self.__array_interface__ = mapped.__array_interface__


def pinned_array(
    queue: RawQueue, pool: RawPool, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> npt.NDArray[Any] | None:
    """An array in pinned memory, which goes back to its pool when the array is gone; None if there is none to be had."""
    nbytes = math.prod(shape) * dtype.itemsize
    access: Any = cl.map_flags.READ | cl.map_flags.WRITE
    try:
        memory: Any = pool.allocate(nbytes)
        mapped = cl.enqueue_map_buffer(queue, memory, access, 0, (nbytes,), np.dtype(np.uint8), is_blocking=True)[0]
    except cl.Error:
        return None
    return np.asarray(_PinnedMemory(memory, mapped)).view(dtype).reshape(shape)


def copy_to_device(queue: RawQueue, memory: RawBuffer, host: npt.NDArray[Any], after: Sequence[Event] | None) -> Event:
    """Start copying; ``host`` and the event have to be kept until it is done."""
    buffer: Any = memory  # pyopencl's types know pooled buffers only as an unrelated kind of memory
    event: Event = cl.enqueue_copy(queue, buffer, host, is_blocking=False, wait_for=after)
    return event


def copy_to_host(queue: RawQueue, host: npt.NDArray[Any], memory: RawBuffer, after: Sequence[Event] | None) -> Event:
    """Start copying; ``host`` and the event have to be kept until it is done."""
    buffer: Any = memory
    event: Event = cl.enqueue_copy(queue, host, buffer, is_blocking=False, wait_for=after)
    return event


def copy_on_device(
    queue: RawQueue, target: RawBuffer, source: RawBuffer, nbytes: int, after: Sequence[Event] | None
) -> Event:
    """Start copying between two buffers of one device."""
    to: Any = target
    of: Any = source
    event: Event = cl.enqueue_copy(queue, to, of, byte_count=nbytes, wait_for=after)
    return event


# --- kernels ---------------------------------------------------------------------------------------


class CompilerError(Exception):
    """What the compiler said about a source that it does not accept."""

    def __init__(self, log: str) -> None:
        super().__init__(log)
        self.log = log


def compile_program(context: Context, source: str, options: Sequence[str]) -> RawProgram:
    """Compile OpenCL C, with the information about arguments that checks need. Takes long: not on the loop.

    Raises:
        CompilerError: with what the compiler said.
    """
    with _compiler_errors():
        program: RawProgram = cl.Program(context, source).build(options=[*ARGUMENT_INFO, *options])
    return program


@contextmanager
def _compiler_errors() -> Generator[None]:
    try:
        yield
    except cl.RuntimeError as error:
        raise CompilerError(_compiler_log(str(error))) from None


def _compiler_log(message: str) -> str:
    """The compiler's own words in what pyopencl raises: it stands between a heading and the options."""
    _, heading, log = message.partition("Build on <")
    log = log.partition("\n")[2] if heading else message
    return log.rpartition("\n(options:")[0].strip() or log.strip()


def kernel_names(program: RawProgram) -> list[str]:
    """The kernels of a compiled program."""
    try:
        names = program.kernel_names
    except cl.Error as error:
        if error.code != cl.status_code.INVALID_PROGRAM_EXECUTABLE:
            raise
        return []  # how some drivers say that there is none
    return [name for name in names.split(";") if name]


def make_kernel(program: RawProgram, name: str) -> RawKernel:
    """One kernel of a compiled program, with arguments of its own."""
    return cl.Kernel(program, name)


def another_kernel(kernel: RawKernel) -> RawKernel:
    """The same kernel once more, with arguments of its own."""
    return cl.Kernel(kernel.program, kernel.function_name)


def raw_parameters(kernel: RawKernel) -> list[tuple[str, str, bool, str]]:
    """Name, type, whether it is const, and address space of each parameter, as compiled."""
    info = cl.kernel_arg_info
    spaces: dict[Any, str] = {
        cl.kernel_arg_address_qualifier.GLOBAL: "global",
        cl.kernel_arg_address_qualifier.CONSTANT: "constant",
        cl.kernel_arg_address_qualifier.LOCAL: "local",
    }
    found: list[tuple[str, str, bool, str]] = []
    for index in range(kernel.num_args):
        get: Callable[[int, cl.kernel_arg_info], Any] = kernel.get_arg_info
        qualifiers = get(index, info.TYPE_QUALIFIER)
        found.append(
            (
                str(get(index, info.NAME)),
                str(get(index, info.TYPE_NAME)),
                bool(qualifiers & cl.kernel_arg_type_qualifier.CONST),
                spaces.get(get(index, info.ADDRESS_QUALIFIER), "private"),
            )
        )
    return found


def required_local_size(kernel: RawKernel, device: RawDevice) -> tuple[int, ...] | None:
    """The work-group size that the source demands (``reqd_work_group_size``), if any."""
    size: Any = kernel.get_work_group_info(cl.kernel_work_group_info.COMPILE_WORK_GROUP_SIZE, device)
    return tuple(size) if any(size) else None


def max_local_size(kernel: RawKernel, device: RawDevice) -> int:
    """The largest work-group that this kernel may have on the device."""
    size: Any = kernel.get_work_group_info(cl.kernel_work_group_info.WORK_GROUP_SIZE, device)
    return int(size)


def spare_local_memory(kernel: RawKernel, device: RawDevice) -> int:
    """Bytes of local memory that a work-group of this kernel has beside what the source declares.

    To be asked before the kernel has arguments, whose local memory would count.
    """
    declared: Any = kernel.get_work_group_info(cl.kernel_work_group_info.LOCAL_MEM_SIZE, device)
    return int(device.local_mem_size) - int(declared)


def fix_scalar_types(kernel: RawKernel, dtypes: Sequence[np.dtype[Any] | None]) -> None:
    """Tell a kernel the dtypes of its scalars (None for buffers), so that plain numbers can be set."""
    untyped: Any = kernel
    untyped.set_scalar_arg_dtypes(dtypes)


def launch(
    queue: RawQueue,
    kernel: RawKernel,
    args: Sequence[Any],
    global_size: tuple[int, ...],
    local_size: tuple[int, ...],
    after: Sequence[Event] | None,
) -> Event:
    """Start a kernel.

    Raises:
        CommandFailed: if the driver refuses.
    """
    try:
        kernel.set_args(*args)
        # pyopencl's binding is measurably slower with keywords.
        return cl.enqueue_nd_range_kernel(queue, kernel, global_size, local_size, None, after)
    except cl.Error as error:
        raise CommandFailed(f"the driver refused to launch kernel {kernel.function_name!r}: {error}") from error


# --- times and events ------------------------------------------------------------------------------


def event_times(event: Event) -> tuple[float, float, float, float]:
    """When a completed command was queued, submitted, started and ended, where the queue profiles.

    In seconds on the device's clock.
    """
    times = event.profile
    return times.queued * 1e-9, times.submit * 1e-9, times.start * 1e-9, times.end * 1e-9


def clock_offset(context: Context) -> float:
    """The seconds to add to times of the device for those of `time.perf_counter`, to some microseconds."""
    marker = cl.enqueue_marker(make_queue(context, profile=True))
    marker.wait()
    return perf_counter() - float(marker.profile.end) * 1e-9


def has_failed(event: Event) -> bool:
    """Whether a command has failed. To be asked before another one is to wait for it, which PoCL then never starts."""
    status: int = event.command_execution_status
    return status < 0


def is_over(event: Event) -> bool:
    """Whether a command is over, well or not. To look at its data say ``event.wait()`` as well, which takes no time then."""
    status: int = event.command_execution_status
    return status <= cl.command_execution_status.COMPLETE


def is_event_of(event: Event, context: Context) -> bool:
    """Whether commands of that context can wait for it."""
    untyped: Any = event
    return bool(untyped.context == context)


# --- generated kernels -----------------------------------------------------------------------------


class _ConstVector(VectorArg):
    """A pointer to const. pyopencl drops that word, and with it the knowledge of who writes what."""

    def declarator(self) -> str:
        return f"const {super().declarator()}"

    def update_persistent_hash(self, key_hash: Any, key_builder: Any) -> None:
        """Let older versions of pyopencl, which know the hashes of their own types only, remember how it is passed."""
        key_builder.rec(key_hash, (self.declarator(), self.dtype.str))


def parse_arguments(arguments: str) -> list[Any]:
    """A C argument list as pyopencl's generators take it, in which pointers to const stay what they are.

    Raises:
        ValueError: if it cannot be understood.
    """
    parsed: list[Any] = []
    for declared in arguments.split(","):
        try:
            one: Any = parse_c_arg(declared)
        except RuntimeError as error:
            raise ValueError(str(error)) from None
        const = isinstance(one, VectorArg) and "const" in declared.split()
        parsed.append(_ConstVector(one.dtype, one.name) if const else one)
    return parsed


def elementwise_kernel(
    context: Context, arguments: Sequence[Any], operation: str, name: str, preamble: str
) -> RawKernel:
    """The kernel of pyopencl that runs an operation for each ``i`` below its last argument, in a launch of any size.

    Raises:
        CompilerError: with what the compiler said.
    """
    from pyopencl.elementwise import get_elwise_kernel

    with _compiler_errors():
        return get_elwise_kernel(context, arguments, operation, name=name, preamble=preamble, options=[*ARGUMENT_INFO])


def reduction_kernels(
    context: Context, dtype: np.dtype[Any], neutral: str, reduce: str, mapped: str, arguments: Sequence[Any],
    name: str, preamble: str,
) -> list[tuple[RawKernel, int]]:  # fmt: skip
    """The two stages of pyopencl's reduction, each with the size of its groups.

    Raises:
        CompilerError: with what the compiler said.
    """
    from pyopencl.reduction import ReductionKernel

    with _compiler_errors():
        made = ReductionKernel(
            context, dtype, neutral, reduce, mapped, list(arguments), name=name, preamble=preamble,
            options=[*ARGUMENT_INFO],
        )  # fmt: skip
    return [(stage.kernel, stage.group_size) for stage in (made.stage_1_inf, made.stage_2_inf)]
