"""What can be done to a runtime's kernels: their life, by name."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio

from .._core.system import engine_of
from .._model.checks import check_number
from .._model.options import SupervisorOptions
from .._model.restart import Intensity
from .._model.strategy import Strategy
from ._block import Block
from ._decorator import definition_of
from ._definition import check_id
from ._errors import StateNotSaved
from ._kernel import Kernel
from ._registry import registered
from ._telemetry import Meter
from ._tree import Group

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from typing import Unpack

    from ._definition import KernelFunction, Overrides


class Life(Block):
    """The part of a runtime that launches, activates, pauses and terminates."""

    async def launch(
        self,
        kernel_id: str,
        function: KernelFunction | None = None,
        *,
        parent: str | None = None,
        **overrides: Unpack[Overrides],
    ) -> None:
        """Start a kernel. Its function runs from now on; messages are handed to it once it is activated.

        If cancelled, the kernel is ended.

        Args:
            kernel_id: The name it has in this runtime from now on; without a function, the one it is registered
                under.
            function: What to run. What its decorator said, if it has one, holds also under another id.
            parent: The kernel, or the group of kernels, to launch it below; None for the runtime itself. It ends before
                its parent, and is started again with it, active if it was: as another run of its function, with an
                input queue that is empty. When a kernel's children crash more than three times in five seconds, that
                is a crash of the kernel itself.
            **overrides: Options of `ring_kernel` that are to be different here.

        Raises:
            KernelStateError: if a kernel or group of that id is running, or the parent is not.
            UnknownKernel: if no function is given and none is registered under that id; if there is no such parent.
            AmbiguousKernel: if several are registered.
            ActorStopped: if the runtime is closing, or the parent is ending or being restarted; if the kernel was
                terminated, or the parent ended, before it had started.
            StateFileError: if it cannot keep its state where it is to be kept, or somebody else does.
            StateDamaged: if neither its state file nor the one before it is good.
            TypeError: for an id that is no string, a function that is not async or does not take a context, or an
                unknown option.
            ValueError: for an option out of range.
        """
        system = self._running()
        if not isinstance(kernel_id, str):
            raise TypeError(f'a kernel is launched under an id, `launch("id", kernel)`, got {kernel_id!r} in its place')
        definition = registered(kernel_id) if function is None else definition_of(kernel_id, function)
        definition = definition.changed(**overrides)
        definition.check_callable()
        self._kernels.check_free(definition)
        meter = Meter(engine_of(system).turn.clock) if self._enable_telemetry else None
        kernel = Kernel(definition, system, meter, self._kernels.parent(parent))
        if kernel.keeper is not None:
            await kernel.keeper.open()
            try:
                self._kernels.check_free(definition)  # again: that took time
            except BaseException:
                kernel.keeper.close()
                raise
        former = self._kernels.add(kernel)
        try:
            await kernel.spawn(system)
        finally:
            self._kernels.settle(kernel, former)

    async def supervise(
        self,
        group_id: str,
        *,
        parent: str | None = None,
        strategy: Strategy = Strategy.ONE_FOR_ONE,
        intensity: Intensity = Intensity(3, per=5.0),  # noqa: B008  # a frozen value
    ) -> None:
        """Open a group: kernels that are launched with ``parent=group_id`` are supervised as it says, and counted apart.

        When its kernels crash too often, the group itself has crashed: all of them end, and are started again with it,
        active if they were, with input queues that are empty. That counts as one restart of the group where it stands.
        `terminate` ends it, with what is below it. If cancelled, the group is ended.

        Args:
            group_id: Its name, which no kernel has.
            parent: The group, or kernel, to open it below; None for the runtime itself.
            strategy: Which of its kernels are restarted together.
            intensity: How many restarts of its kernels are tolerated.

        Raises:
            KernelStateError: if a kernel or group of that id is running, or the parent is not.
            UnknownKernel: if there is no such parent.
            ActorStopped: if the runtime is closing, or the parent is ending or being restarted.
            TypeError: for a strategy or an intensity of the wrong kind.
            ValueError: for an id that is none.

        Example:
            >>> await runtime.supervise("stages", strategy=Strategy.REST_FOR_ONE, intensity=Intensity(10, per=60.0))
            >>> await runtime.launch("decode", parent="stages")
            >>> await runtime.launch("classify", parent="stages")
        """
        system = self._running()
        check_id("the id of a group", group_id, 'runtime.supervise("stages")')
        self._kernels.check_group_free(group_id)
        options = SupervisorOptions(strategy=strategy, intensity=intensity)
        group = Group(group_id, options, self._kernels.parent(parent))
        self._kernels.add_group(group)
        await group.spawn(system)

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
        """Hand messages to a deactivated kernel again; the same as `activate`. If cancelled, nothing changed.

        Raises:
            KernelStateError, ActorStopped, UnknownKernel: as `activate`.
        """
        await self.activate(kernel_id)

    async def terminate(self, kernel_id: str, timeout: float = 5.0) -> None:
        """End a kernel, and wait until its function has returned; at once if it has.

        It is asked to leave its loop; what waits in its input queue is not processed, and becomes dead letters.
        What it has sent can still be received. What was launched below it ends once its function has returned, one
        after another, the latest first, each within five seconds. If this call is cancelled, all of that ends all the same.

        Args:
            kernel_id: Which kernel, or which group.
            timeout: Seconds until it is cancelled, and with it everything below it that has not ended: they have this time
                together. Zero cancels at once, ``math.inf`` sets no limit beyond the five seconds of each one below.

        Raises:
            KernelStateError: if it was not launched.
            StateNotSaved: if its state could not be saved at its end, or that of a kernel below it. All of them have
                ended all the same.
            ExceptionGroup: of `StateNotSaved`, if there are several.
            StopFromWithin: if the kernel itself calls it: a kernel ends by returning.
            TypeError: for a timeout that is no number.
            UnknownKernel: if there is none.
            ValueError: for a negative timeout, or NaN.
        """
        _check_grace(timeout)
        self._running()
        await self._kernels.node(kernel_id).terminate(timeout)

    async def terminate_all(self, timeout: float = 5.0) -> None:
        """End every kernel, all at the same time, and wait for all of them; groups stay, and are empty.

        For the rest as `terminate`: if cancelled, they end all the same.

        Args:
            timeout: Seconds that each has, as in `terminate`: until those that have not returned are cancelled. Zero
                cancels at once, ``math.inf`` never.

        Raises:
            ExceptionGroup: of `StateNotSaved`, if states could not be saved. All have ended all the same.
            StopFromWithin: if a kernel calls it, which could not wait for its own end. None is ended then.
            TypeError, ValueError: as `terminate`.
        """
        _check_grace(timeout)
        self._running()
        kernels = [kernel for kernel in self._kernels if not kernel.over]
        for kernel in kernels:
            kernel.cell.refuse_from_within()
        unsaved: list[Exception] = []
        async with anyio.create_task_group() as tasks:
            for kernel in reversed(kernels):
                tasks.start_soon(_terminate, kernel, timeout, unsaved)
        if unsaved:
            raise ExceptionGroup("the states of kernels were not saved at their end", unsaved)

    @asynccontextmanager
    async def kernel_scope(
        self,
        kernel_id: str,
        function: KernelFunction | None = None,
        *,
        parent: str | None = None,
        **overrides: Unpack[Overrides],
    ) -> AsyncGenerator[str]:
        """A block in which a kernel is active: it is launched, activated, and at the end terminated.

        The end is waited for also when the block is cancelled, within the five seconds of a termination.

        Args:
            kernel_id: As in `launch`.
            function: Likewise.
            parent: Likewise.
            **overrides: Likewise.

        Yields:
            The kernel's id.

        Raises:
            KernelStateError, UnknownKernel, AmbiguousKernel, ActorStopped, StateFileError, StateDamaged, TypeError,
                ValueError: as `launch`.
            StateNotSaved, ExceptionGroup: at its end, as `terminate`.

        Example:
            >>> async with runtime.kernel_scope("echo", echo):
            ...     await runtime.send("echo", Ping())
        """
        await self.launch(kernel_id, function, parent=parent, **overrides)
        kernel = self._launched(kernel_id)
        try:
            await self.activate(kernel_id)
            yield kernel_id
        finally:
            with anyio.CancelScope(shield=True):
                await kernel.terminate(5.0)


async def _terminate(kernel: Kernel, timeout: float, unsaved: list[Exception]) -> None:
    """End one of several: that its state was not saved, or others below it, is no reason not to wait for the others."""
    try:
        await kernel.terminate(timeout)
    except* StateNotSaved as errors:
        unsaved.extend(errors.exceptions)


def _check_grace(timeout: float) -> None:
    """Refuse what is no time to end in."""
    wanted = "timeout is in seconds, 0 or more, `math.inf` to wait for its end without a limit"
    check_number(wanted, timeout, lambda seconds: seconds >= 0)
