"""The kernels of one runtime, by id."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Final, final

from ._errors import KernelStateError, UnknownKernel
from ._registry import is_registered
from ._state import KernelState, check_transition

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._kernel import Kernel

KEPT: Final = 1000
"""At least this many terminated kernels are remembered, the latest ones."""


@final
class Roster:
    """Every kernel that was launched, the latest of each id, in order of launch.

    Terminated ones are remembered, so that their state and telemetry can be asked for; not all of them for
    ever, because a runtime that lives long may launch kernels without number.
    """

    __slots__ = ("_kernels", "_sweep_above")

    def __init__(self) -> None:
        self._kernels: dict[str, Kernel] = {}
        self._sweep_above = 2 * KEPT

    def __iter__(self) -> Iterator[Kernel]:
        return iter(self._kernels.values())

    @property
    def running(self) -> list[str]:
        """The ids of those that are not terminated."""
        return [kernel.kernel_id for kernel in self if kernel.state is not KernelState.TERMINATED]

    def state(self, kernel_id: str) -> KernelState:
        """Where the kernel of that id is in its life; ``CREATED`` if it is registered and was never launched.

        Raises:
            UnknownKernel: if nothing is known of it.
        """
        kernel = self._kernels.get(kernel_id)
        if kernel is not None:
            return kernel.state
        if is_registered(kernel_id):
            return KernelState.CREATED
        raise self._unknown(kernel_id)

    def launched(self, kernel_id: str) -> Kernel:
        """The kernel of that id.

        Raises:
            KernelStateError: if it is registered and was not launched.
            UnknownKernel: if nothing is known of it.
        """
        kernel = self._kernels.get(kernel_id)
        if kernel is not None:
            return kernel
        if is_registered(kernel_id):
            raise KernelStateError(
                f"the kernel {kernel_id!r} is {KernelState.CREATED.value}: it was not launched here; "
                f"`await runtime.launch({kernel_id!r})` first"
            )
        raise self._unknown(kernel_id)

    def check_free(self, kernel_id: str) -> None:
        """Make sure that a kernel can be launched under that id: there is none, or it has terminated.

        Raises:
            KernelStateError: naming the state of the one there is.
        """
        kernel = self._kernels.get(kernel_id)
        if kernel is not None and kernel.state is not KernelState.TERMINATED:
            check_transition(kernel_id, kernel.state, KernelState.LAUNCHED)

    def add(self, kernel: Kernel) -> None:
        """A kernel is being launched; it takes the place of a terminated one of its id."""
        former = self._kernels.pop(kernel.kernel_id, None)
        if former is not None:
            former.forget_output()
        self._kernels[kernel.kernel_id] = kernel
        if len(self._kernels) > self._sweep_above:
            self._sweep()

    def remove(self, kernel: Kernel) -> None:
        """Its launch did not succeed, and there was nothing to it."""
        del self._kernels[kernel.kernel_id]

    def _sweep(self) -> None:
        terminated = [kernel for kernel in self if kernel.state is KernelState.TERMINATED]
        for kernel in terminated[:-KEPT]:
            kernel.forget_output()
            del self._kernels[kernel.kernel_id]
        self._sweep_above = 2 * max(KEPT, len(self._kernels))

    def _unknown(self, kernel_id: str) -> UnknownKernel:
        close = difflib.get_close_matches(str(kernel_id), self._kernels, n=3)
        known = f"did you mean {' or '.join(map(repr, close))}?" if close else f"running are {self.running or 'none'}"
        return UnknownKernel(
            f"there is no kernel {kernel_id!r} in this runtime ({known}): `await runtime.launch({kernel_id!r})` first"
        )
