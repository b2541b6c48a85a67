"""The kernels of one runtime, and its groups of kernels, by id."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Final, final

from ._errors import KernelStateError, UnknownKernel
from ._registry import is_registered
from ._state import KernelState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._definition import KernelDefinition
    from ._kernel import Kernel
    from ._tree import Group, Node

KEPT: Final = 1000
"""At least this many terminated kernels are remembered, the latest ones."""


@final
class Roster:
    """Every kernel that was launched, the latest of each id, in order of launch.

    Terminated ones are remembered, so that their state and telemetry can be asked for; not all of them for
    ever, because a runtime that lives long may launch kernels without number.
    """

    __slots__ = ("_groups", "_kernels", "_sweep_above")

    def __init__(self) -> None:
        self._kernels: dict[str, Kernel] = {}
        self._groups: dict[str, Group] = {}  # those that have not ended, and maybe some that have
        self._sweep_above = 2 * KEPT

    def __iter__(self) -> Iterator[Kernel]:
        return iter(self._kernels.values())

    @property
    def running(self) -> list[str]:
        """The ids of those that are not terminated."""
        return [kernel.kernel_id for kernel in self if not kernel.over]

    @property
    def active(self) -> list[str]:
        """The ids of those that are handed messages."""
        return [kernel.kernel_id for kernel in self if kernel.state is KernelState.ACTIVE]

    def state(self, kernel_id: str) -> KernelState:
        """Where the kernel of that id is in its life; ``CREATED`` if it is registered and was never launched.

        Raises:
            UnknownKernel: if nothing is known of it.
        """
        kernel = self._kernels.get(kernel_id)
        if kernel is not None:
            return kernel.state
        if is_registered(kernel_id) and not self._is_group(kernel_id):
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
        if is_registered(kernel_id) and not self._is_group(kernel_id):
            raise KernelStateError(
                f"the kernel {kernel_id!r} is {KernelState.CREATED.value}: it was not launched here; "
                f"`await runtime.launch({kernel_id!r})` first"
            )
        raise self._unknown(kernel_id)

    def node(self, node_id: str) -> Node:
        """The kernel or group of that id.

        Raises:
            KernelStateError, UnknownKernel: as `launched`.
        """
        group = self._groups.get(node_id)
        return self.launched(node_id) if group is None else group

    def parent(self, parent_id: str | None) -> Node | None:
        """What something is to be launched below; None for the runtime itself.

        Raises:
            KernelStateError: if it was not launched, or has ended.
            UnknownKernel: if there is none.
        """
        if parent_id is None:
            return None
        parent = self.node(parent_id)
        if parent.over:
            raise KernelStateError(
                f"the kernel {parent_id!r} is {KernelState.TERMINATED.value}, and nothing can be launched below it: "
                f"`await runtime.launch({parent_id!r})` first"
            )
        return parent

    def check_free(self, definition: KernelDefinition) -> None:
        """Make sure that a kernel can be launched under its id: there is nothing of that id that runs.

        Raises:
            KernelStateError: naming what there is, and what was to be launched.
        """
        kernel_id = definition.kernel_id
        self._check_no_group(kernel_id)
        kernel = self._kernels.get(kernel_id)
        if kernel is not None and not kernel.over:
            raise KernelStateError(
                f"the kernel {kernel_id!r} is {kernel.state.value} and cannot become {KernelState.LAUNCHED.value}: it runs "
                f"{kernel.definition.where}, and {definition.where} cannot have the same id: launch that under another "
                f"one, `await runtime.launch('another', function)`, or `await runtime.terminate({kernel_id!r})` first"
            )

    def check_group_free(self, group_id: str) -> None:
        """Make sure that a group can have that id.

        Raises:
            KernelStateError: naming what has it.
        """
        self._check_no_group(group_id)
        kernel = self._kernels.get(group_id)
        if kernel is not None and not kernel.over:
            raise KernelStateError(
                f"{group_id!r} is the id of a kernel ({kernel.definition.where}), and a group needs one of its own: write "
                f"`runtime.supervise({group_id + ' group'!r})`"
            )

    def _is_group(self, node_id: str) -> bool:
        group = self._groups.get(node_id)
        return group is not None and not group.over

    def _check_no_group(self, node_id: str) -> None:
        if self._is_group(node_id):
            raise KernelStateError(
                f"{node_id!r} is the id of a group of kernels, which runs: choose another, or "
                f"`await runtime.terminate({node_id!r})` first"
            )

    def add_group(self, group: Group) -> None:
        """A group is being opened; those that have ended are forgotten."""
        self._groups = {known: one for known, one in self._groups.items() if not one.over}
        self._groups[group.node_id] = group

    def add(self, kernel: Kernel) -> Kernel | None:
        """A kernel is being launched; it takes the place of a terminated one of its id, which is returned."""
        former = self._kernels.pop(kernel.kernel_id, None)
        self._kernels[kernel.kernel_id] = kernel
        self._groups.pop(kernel.kernel_id, None)  # it has ended, and is not what this id means any more
        if len(self._kernels) > self._sweep_above:
            self._sweep()
        return former

    def settle(self, kernel: Kernel, former: Kernel | None) -> None:
        """It was launched, or there was nothing to it: then all is as it was before."""
        if kernel.never_ran:
            del self._kernels[kernel.kernel_id]
            if former is not None:
                self._kernels[former.kernel_id] = former
        elif former is not None:
            former.forget_output()

    def _sweep(self) -> None:
        terminated = [kernel for kernel in self if kernel.over]
        for kernel in terminated[:-KEPT]:
            kernel.forget_output()
            del self._kernels[kernel.kernel_id]
        self._sweep_above = 2 * max(KEPT, len(self._kernels))

    def _unknown(self, kernel_id: str) -> UnknownKernel:
        if self._is_group(kernel_id):
            return UnknownKernel(
                f"{kernel_id!r} is a group of kernels, which has no queues and no state of its own: name one of the kernels "
                f"below it (running are {self.running or 'none'}); a group is only ended, "
                f"`await runtime.terminate({kernel_id!r})`"
            )
        close = difflib.get_close_matches(str(kernel_id), self._kernels, n=3)
        known = f"did you mean {' or '.join(map(repr, close))}?" if close else f"running are {self.running or 'none'}"
        return UnknownKernel(
            f"there is no kernel {kernel_id!r} in this runtime ({known}): `await runtime.launch({kernel_id!r})` first"
        )
