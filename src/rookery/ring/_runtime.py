"""The runtime: the block that owns kernels, and from which they are launched, fed and terminated by name."""

from __future__ import annotations

import math
from contextlib import asynccontextmanager
from threading import get_ident
from typing import TYPE_CHECKING, Any, TypedDict, final

import anyio

from .._core.system import engine_of, open_system
from .._model.checks import check_timeout
from .._model.errors import WrongLoop
from ._decorator import definition_of
from ._errors import RuntimeNotOpen
from ._kernel import Kernel
from ._registry import registered
from ._roster import Roster
from ._state import KernelState
from ._telemetry import Meter

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType
    from typing import Self, Unpack

    from .._core.dead_letters import DeadLetters
    from .._core.system import System
    from ._definition import KernelDefinition, KernelFunction, Overrides
    from ._persistence import KernelPersistence
    from ._telemetry import KernelTelemetry


class RuntimeSummary(TypedDict):
    """All kernels of a runtime, summed; what telemetry measures is None while that is off."""

    kernel_count: int
    """Kernels that are running, activated or not."""
    states: dict[str, str]
    """The state of each kernel, the terminated ones included."""
    total_messages_processed: int | None
    total_messages_dropped: int
    total_errors: int
    throughput: float | None
    """Messages processed per second, of all kernels together."""
    uptime_seconds: float
    """Since the runtime was opened, on the event loop's clock."""


@final
class RingKernelRuntime:
    """A block in which kernels live, and which none of them outlives.

    When it is left, its kernels are terminated one after another, the latest first, each within five seconds. A
    kernel that crashes is restarted, and is active again if it was; when the kernels of a runtime, all together,
    crash more than three times within five seconds, it gives up, cancels the block's body, and the crashes leave the block
    in an ``ExceptionGroup``.

    A runtime belongs to the event loop that opened it.

    Args:
        enable_telemetry: Whether `get_telemetry` has something to tell.
        debug: Whether it is reported which kernel held the event loop for how long and where; see `open_system`.

    Example:
        >>> async with RingKernelRuntime() as runtime:
        ...     await runtime.launch("calculator")
        ...     await runtime.activate("calculator")
        ...     result = await runtime.send_and_receive("calculator", Calculate("add", 10, 5), timeout=1)
    """

    def __init__(self, *, enable_telemetry: bool = True, debug: bool | None = None) -> None:
        self._enable_telemetry = enable_telemetry
        self._debug = debug
        self._block: AbstractAsyncContextManager[System] | None = None
        self._system: System | None = None
        self._kernels = Roster()
        self._opened = 0.0

    async def __aenter__(self) -> Self:
        if self._block is not None:
            raise RuntimeNotOpen("this runtime is open already: make a second `RingKernelRuntime()` for a second block")
        self._block = open_system(name="ring kernels", debug=self._debug)
        try:
            self._system = await self._block.__aenter__()
        except BaseException:
            self._block = None
            raise
        self._kernels = Roster()
        self._opened = engine_of(self._system).loop.now()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        block = self._block
        assert block is not None
        try:
            return await block.__aexit__(kind, error, traceback)
        finally:
            for kernel in self._kernels:
                kernel.close_output()
                kernel.close_state()
            self._block = self._system = None

    # ---- the life of kernels

    async def launch(
        self, kernel_id: str, function: KernelFunction | None = None, **overrides: Unpack[Overrides]
    ) -> None:
        """Start a kernel. Its function runs from now on; messages are handed to it once it is activated.

        If cancelled, the kernel is ended.

        Args:
            kernel_id: The name it has in this runtime from now on; without a function, the one it is registered
                under.
            function: What to run. What its decorator said, if it has one, holds also under another id.
            **overrides: Options of `ring_kernel` that are to be different here.

        Raises:
            KernelStateError: if a kernel of that id is running.
            UnknownKernel: if no function is given and none is registered under that id.
            AmbiguousKernel: if several are.
            ActorStopped: if the runtime is closing.
            StateFileError: if it cannot keep its state where it is to be kept, or somebody else does.
            StateDamaged: if neither its state file nor the one before it is good.
            TypeError: for an id that is no string, a function that is not async or does not take a context, or an
                unknown option.
            ValueError: for an option out of range.
        """
        system = self._running()
        if not isinstance(kernel_id, str):
            raise TypeError(f'a kernel is launched under an id, `launch("id", kernel)`, got {kernel_id!r} in its place')
        self._kernels.check_free(kernel_id)
        definition = registered(kernel_id) if function is None else definition_of(kernel_id, function)
        kernel = self._make(definition.changed(**overrides), system)
        if kernel.keeper is None:
            await self._start(kernel, system)
            return
        for other in self._kernels:
            other.close_state()
        await kernel.keeper.open()
        try:
            self._kernels.check_free(kernel_id)  # again: that took time
            await self._start(kernel, system)
        except BaseException:
            kernel.discard_state()
            raise

    async def activate(self, kernel_id: str) -> None:
        """Hand messages to a kernel, those that wait in its input queue first. If cancelled, nothing changed.

        Raises:
            KernelStateError: unless it is launched or deactivated.
            ActorStopped: if it is ending.
            UnknownKernel: if there is none.
        """
        await self._checkpoint()
        self._launched(kernel_id).activate()

    async def deactivate(self, kernel_id: str) -> None:
        """Hand no more messages to a kernel; they queue up, and its own state is kept.

        The message it is working on is not affected. If cancelled, nothing changed.

        Raises:
            KernelStateError: unless it is active.
            ActorStopped: if it is ending.
            UnknownKernel: if there is none.
        """
        await self._checkpoint()
        self._launched(kernel_id).deactivate()

    async def reactivate(self, kernel_id: str) -> None:
        """Hand messages to a deactivated kernel again; the same as `activate`."""
        await self.activate(kernel_id)

    async def terminate(self, kernel_id: str, timeout: float = 5.0) -> None:
        """End a kernel, and wait until its function has returned; at once if it has.

        It is asked to leave its loop; what waits in its input queue is not processed, and becomes dead letters.
        What it has sent can still be received. If this call is cancelled, the kernel ends all the same.

        Args:
            kernel_id: Which.
            timeout: Seconds until it is cancelled. Zero cancels at once, ``math.inf`` never.

        Raises:
            KernelStateError: if it was not launched.
            StateNotSaved: if its state could not be saved at its end. It has ended all the same.
            StopFromWithin: if the kernel itself calls it: a kernel ends by returning.
            TypeError: for a timeout that is no number.
            UnknownKernel: if there is none.
            ValueError: for a negative timeout, or NaN.
        """
        wrong = f"timeout is in seconds, 0 or more, `math.inf` to wait for its end without a limit, got {timeout!r}"
        if not isinstance(timeout, int | float) or isinstance(timeout, bool):
            raise TypeError(wrong)
        if not timeout >= 0:
            raise ValueError(wrong)
        await self._launched(kernel_id).terminate(timeout)

    @asynccontextmanager
    async def kernel_scope(
        self, kernel_id: str, function: KernelFunction | None = None, **overrides: Unpack[Overrides]
    ) -> AsyncGenerator[str]:
        """A block in which a kernel is active: it is launched, activated, and at the end terminated.

        The end is waited for also when the block is cancelled, within the five seconds of a termination.

        Args:
            kernel_id: As in `launch`.
            function: Likewise.
            **overrides: Likewise.

        Yields:
            The kernel's id.

        Raises:
            StateNotSaved: at its end, as `terminate`.

        Example:
            >>> async with runtime.kernel_scope("echo", echo):
            ...     await runtime.send("echo", Ping())
        """
        await self.launch(kernel_id, function, **overrides)
        kernel = self._launched(kernel_id)
        try:
            await self.activate(kernel_id)
            yield kernel_id
        finally:
            with anyio.CancelScope(shield=True):
                await kernel.terminate(5.0)

    # ---- messages

    async def send(self, kernel_id: str, message: object, *, timeout: float | None = None) -> None:
        """Put a message into a kernel's input queue. If cancelled, it was not sent.

        Args:
            kernel_id: Which.
            message: Of the kernel's input type. Its ``priority``, if it has one, says how urgent it is.
            timeout: Seconds to wait for room under ``BLOCK``; None waits for ever.

        Raises:
            KernelTimeout: a ``TimeoutError``, if there was no room within ``timeout``.
            MailboxFull: under ``REJECT``, when the queue is full.
            ActorStopped: if the kernel has ended or is ending.
            KernelStateError: if it was not launched.
            TypeError: for a message of another type, or a timeout that is no number.
            UnknownKernel: if there is none.
            ValueError: for a priority out of range, or a timeout of NaN.
        """
        kernel = self._launched(kernel_id)
        if timeout is not None:
            check_timeout(timeout)
        await kernel.send(message, timeout)

    async def receive(self, kernel_id: str, *, timeout: float | None = None) -> Any:
        """Take the most urgent message from a kernel's output queue. If cancelled, nothing was taken.

        Args:
            kernel_id: Which.
            timeout: Seconds to wait for one; None waits for ever.

        Raises:
            KernelTimeout: a ``TimeoutError``, if there was none within ``timeout``.
            ActorStopped: if the kernel has ended and nothing is left.
            KernelStateError: if it was not launched.
            TypeError: for a timeout that is no number.
            UnknownKernel: if there is none.
            ValueError: for a timeout of NaN.
        """
        kernel = self._launched(kernel_id)
        if timeout is not None:
            check_timeout(timeout)
        return await kernel.receive(timeout)

    async def send_and_receive(self, kernel_id: str, message: object, *, timeout: float | None = None) -> Any:
        """Send a request and wait for its reply: the message whose ``correlation_id`` is its ``message_id``.

        The first such message is the reply; others reach nobody, however late they come. If cancelled or timed
        out, the request is not served any more if it is still queued.

        Args:
            kernel_id: Which.
            message: Of the kernel's input type, with a ``message_id``.
            timeout: Seconds to wait, for room and for the reply together; None for no limit.

        Raises:
            AskTimeout: a ``TimeoutError``, if no reply came within ``timeout``.
            ActorCrashed: if the kernel crashed on this request; the crash is the ``__cause__``.
            ActorStopped: if it ends without answering.
            AskCycle: if it is itself waiting for the calling kernel's answer.
            KernelStateError, MailboxFull, TypeError, UnknownKernel, ValueError: as `send`.
        """
        return await self._launched(kernel_id).ask(message, timeout)

    # ---- observation

    @property
    def kernel_ids(self) -> list[str]:
        """The ids of the kernels that are running, activated or not, in order of launch."""
        self._running()
        return self._kernels.running

    @property
    def dead_letters(self) -> DeadLetters:
        """Messages of this runtime's kernels that nobody got: dropped, unread, or replies that came too late."""
        return self._running().dead_letters

    def get_kernel_state(self, kernel_id: str) -> KernelState:
        """Where a kernel is in its life; of a terminated one too.

        Raises:
            UnknownKernel: if it was never launched here and is not registered either.
        """
        self._running()
        return self._kernels.state(kernel_id)

    def get_telemetry(self, kernel_id: str) -> KernelTelemetry | None:
        """What was measured of a kernel since its launch; None if telemetry is off.

        Raises:
            KernelStateError: if it was not launched.
            UnknownKernel: if there is none.
        """
        return self._launched(kernel_id).telemetry()

    def get_all_telemetry(self) -> dict[str, KernelTelemetry]:
        """The same of every kernel, by id, the terminated ones included; empty if telemetry is off."""
        self._running()
        measured = ((kernel.kernel_id, kernel.telemetry()) for kernel in self._kernels)
        return {kernel_id: telemetry for kernel_id, telemetry in measured if telemetry is not None}

    def get_summary(self) -> RuntimeSummary:
        """All kernels, summed."""
        system = self._running()
        measured = self.get_all_telemetry().values()
        return RuntimeSummary(
            kernel_count=len(self._kernels.running),
            states={kernel.kernel_id: kernel.state.value for kernel in self._kernels},
            total_messages_processed=(
                sum(one.messages_processed for one in measured) if self._enable_telemetry else None
            ),
            total_messages_dropped=sum(kernel.dropped for kernel in self._kernels),
            total_errors=sum(kernel.error_count for kernel in self._kernels),
            throughput=math.fsum(one.throughput for one in measured) if self._enable_telemetry else None,
            uptime_seconds=engine_of(system).loop.now() - self._opened,
        )

    def get_persistence(self, kernel_id: str) -> KernelPersistence | None:
        """How a kernel's state is kept, and what of it went wrong; None if it has no state file.

        Raises:
            KernelStateError: if it was not launched.
            UnknownKernel: if there is none.
        """
        keeper = self._launched(kernel_id).keeper
        return None if keeper is None else keeper.statistics()

    # ---- its own

    async def _start(self, kernel: Kernel, system: System) -> None:
        self._kernels.add(kernel)
        try:
            await system.spawn(kernel.spec)
        finally:
            if kernel.state is KernelState.CREATED:
                self._kernels.remove(kernel)

    def _make(self, definition: KernelDefinition, system: System) -> Kernel:
        definition.check_callable()
        return Kernel(definition, system, Meter() if self._enable_telemetry else None)

    def _launched(self, kernel_id: str) -> Kernel:
        self._running()
        return self._kernels.launched(kernel_id)

    async def _checkpoint(self) -> None:
        await engine_of(self._running()).loop.checkpoint()

    def _running(self) -> System:
        """The system inside, if this is the place to use it."""
        if self._system is None:
            raise RuntimeNotOpen(
                "a runtime is used inside of its block:\n\n"
                "    async with RingKernelRuntime() as runtime:\n"
                '        await runtime.launch("calculator")\n'
            )
        if engine_of(self._system).loop.thread != get_ident():
            raise WrongLoop(
                "this runtime belongs to the event loop of another thread: call it from there, for example with "
                "`anyio.from_thread.run(runtime.send, kernel_id, message)`"
            )
        return self._system
