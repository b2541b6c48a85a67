"""What is measured of a kernel, and how."""

from __future__ import annotations

import math
import time
from collections import deque
from typing import TYPE_CHECKING, Final, final

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable

WINDOW: Final = 1024
"""How many of the latest messages the latencies are computed over."""


@final
@attrs.frozen(kw_only=True)
class KernelTelemetry:
    """A kernel at one moment, counted since its launch, or since the latest ``reset_telemetry``.

    A message is processed when its kernel comes back for the next one, sends the correlated reply, or ends
    cleanly, whichever is first; one that the kernel crashed on is not. Latencies are in seconds from the
    kernel's receiving a message to its having processed it, over the last 1024 messages; 0.0 while there is
    none. What it launched on a device is in ``device.statistics().actors[runtime.ref(kernel_id).path]``.

    Attributes:
        kernel_id: Which kernel.
        messages_processed: How many it has processed.
        messages_dropped: How many the backpressure strategy dropped, at its input and at its output.
        queue_depth: How many wait in its input queue.
        throughput: Messages processed per second of ``uptime_seconds``.
        error_count: How many times it crashed.
        last_error: What it crashed with the last time; None if it did not.
        min_latency: The shortest.
        avg_latency: The mean.
        max_latency: The longest.
        p50_latency: The one that half of the messages do not exceed (nearest rank).
        p99_latency: The one that 99 % of the messages do not exceed.
        uptime_seconds: From its launch, or the latest reset, to now, or to its end.
    """

    kernel_id: str
    messages_processed: int
    messages_dropped: int
    queue_depth: int
    throughput: float
    error_count: int
    last_error: Exception | None
    min_latency: float
    avg_latency: float
    max_latency: float
    p50_latency: float
    p99_latency: float
    uptime_seconds: float


@final
class Meter:
    """Times one kernel's messages, across its restarts.

    What the core counts anyway (messages received, drops, the queue) is read from the core and not counted again.
    """

    __slots__ = ("_begun", "_ended", "latencies", "now")

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.now: Final = clock  # not the loop's clock: that one may be virtual, and this measures work
        self.latencies: Final[deque[float]] = deque(maxlen=WINDOW)
        self._begun = clock()
        self._ended: float | None = None

    def end(self) -> None:
        """The kernel has ended, and its uptime with it. Idempotent."""
        if self._ended is None:
            self._ended = self.now()

    def reset(self) -> None:
        """Count anew. The message in work will count, with the whole of its latency."""
        self.latencies.clear()
        self._begun = self.now() if self._ended is None else self._ended

    def snapshot(
        self, kernel_id: str, *, processed: int, queued: int, dropped: int, errors: int, last_error: Exception | None
    ) -> KernelTelemetry:
        """The kernel now."""
        uptime = (self.now() if self._ended is None else self._ended) - self._begun
        latencies = sorted(self.latencies) or [0.0]
        return KernelTelemetry(
            kernel_id=kernel_id,
            messages_processed=processed,
            messages_dropped=dropped,
            queue_depth=queued,
            throughput=processed / uptime if uptime > 0 else 0.0,
            error_count=errors,
            last_error=last_error,
            min_latency=latencies[0],
            avg_latency=math.fsum(latencies) / len(latencies),
            max_latency=latencies[-1],
            p50_latency=nearest_rank(latencies, 0.5),
            p99_latency=nearest_rank(latencies, 0.99),
            uptime_seconds=uptime,
        )


def nearest_rank(ordered: list[float], share: float) -> float:
    """The smallest value that at least this share of the values do not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
