"""What can be known of a runtime's kernels, one by one and summed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypedDict

from .._core.system import engine_of
from ._block import Block

if TYPE_CHECKING:
    from .._core.dead_letters import DeadLetters
    from .._core.ref import ActorRef
    from ._persistence import KernelPersistence
    from ._state import KernelState
    from ._telemetry import KernelTelemetry


class RuntimeSummary(TypedDict):
    """All kernels of a runtime, summed; what telemetry measures is None while that is off."""

    kernel_count: int
    """Kernels that are running, activated or not."""
    states: dict[str, str]
    """The state of each kernel, the terminated ones included."""
    total_messages_processed: int | None
    total_messages_dropped: int
    total_queue_depth: int
    """Messages that wait in the input queues of all kernels."""
    total_errors: int
    throughput: float | None
    """Messages processed per second, of all kernels together."""
    uptime_seconds: float
    """Since the runtime was opened, on the event loop's clock."""


class Observation(Block):
    """The part of a runtime that tells what its kernels are doing."""

    @property
    def kernel_ids(self) -> list[str]:
        """The ids of the kernels that are running, activated or not, in order of launch."""
        self._running()
        return self._kernels.running

    @property
    def active_kernels(self) -> list[str]:
        """The ids of the kernels that are active, in order of launch."""
        self._running()
        return self._kernels.active

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

    def ref(self, kernel_id: str) -> ActorRef[Any]:
        """The reference of a kernel's actor: to watch it, to know it in what instruments are told, to make it crash in tests.

        It is the same across restarts, until the kernel has ended. Messages are sent by `send`, which checks their types
        and says of which kernel an error is.

        Raises:
            KernelStateError: if it was not launched.
            UnknownKernel: if there is none.

        Example:
            >>> crash(runtime.ref("calculator"), ConnectionResetError())
        """
        return self._launched(kernel_id).spec.ref

    def get_telemetry(self, kernel_id: str) -> KernelTelemetry | None:
        """What was measured of a kernel since its launch, or the latest reset; None if telemetry is off.

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

    def get_persistence(self, kernel_id: str) -> KernelPersistence | None:
        """How a kernel's state is kept, and what of it went wrong; None if it has no state file.

        Raises:
            KernelStateError: if it was not launched.
            UnknownKernel: if there is none.
        """
        keeper = self._launched(kernel_id).keeper
        return None if keeper is None else keeper.statistics()

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
            total_queue_depth=sum(kernel.queued for kernel in self._kernels),
            total_errors=sum(kernel.error_count for kernel in self._kernels),
            throughput=math.fsum(one.throughput for one in measured) if self._enable_telemetry else None,
            uptime_seconds=engine_of(system).loop.now() - self._opened,
        )

    def reset_telemetry(self, kernel_id: str | None = None) -> None:
        """Count anew from now on: messages, drops, errors, latencies and the time that throughput is measured over.

        What waits in the queues goes on waiting, and ``queue_depth`` says so. The runtime's own ``uptime_seconds``
        goes on as well.

        Args:
            kernel_id: Of which kernel; None for all of them, the terminated ones included.

        Raises:
            KernelStateError: if it was not launched.
            UnknownKernel: if there is none.
        """
        self._running()
        for kernel in self._kernels if kernel_id is None else [self._kernels.launched(kernel_id)]:
            kernel.reset()
