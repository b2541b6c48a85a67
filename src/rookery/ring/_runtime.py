"""The runtime: the block that owns kernels, and from which they are launched, fed, observed and terminated by name."""

from __future__ import annotations

from typing import final

from .._model.restart import Intensity
from .._model.strategy import Strategy
from ._life import Life
from ._observation import Observation
from ._traffic import Traffic


@final
class RingKernelRuntime(Life, Traffic, Observation):
    """A block in which kernels live, and which none of them outlives.

    When it is left, its kernels are terminated one after another, the latest first, each within five seconds. A
    kernel that crashes is restarted, and is active again if it was; when the kernels of a runtime, all together,
    crash more often than ``intensity`` says, it gives up, cancels the block's body, and the crashes leave the block
    in an ``ExceptionGroup``. Kernels that are not to be counted together, or not to be restarted alone, are launched
    below a group, which `supervise` opens.

    A runtime belongs to the event loop that opened it.

    Args:
        enable_telemetry: Whether `get_telemetry` has something to tell.
        strategy: Which kernels are restarted together; by default each one alone.
        intensity: How many restarts are tolerated, of all kernels that are directly in the runtime, together.
        debug: Whether to report which kernel holds the event loop, for how long and where, as `open_system` does;
            None for what the environment says in ``ROOKERY_DEBUG``.

    Raises:
        TypeError: for a strategy, an intensity or a ``debug`` of the wrong kind.

    Example:
        >>> async with RingKernelRuntime() as runtime:
        ...     await runtime.launch("calculator")
        ...     await runtime.activate("calculator")
        ...     result = await runtime.send_and_receive("calculator", Calculate("add", 10, 5), timeout=1)
    """

    def __init__(
        self,
        *,
        enable_telemetry: bool = True,
        strategy: Strategy = Strategy.ONE_FOR_ONE,
        intensity: Intensity = Intensity(3, per=5.0),  # noqa: B008  # a frozen value
        debug: bool | None = None,
    ) -> None:
        super().__init__(enable_telemetry=enable_telemetry, strategy=strategy, intensity=intensity, debug=debug)
