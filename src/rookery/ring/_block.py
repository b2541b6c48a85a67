"""The block that owns a runtime's kernels, and what everything inside of it stands on."""

from __future__ import annotations

from threading import get_ident
from typing import TYPE_CHECKING

from .._core.held_loop import debug_is_on
from .._core.system import engine_of, open_system
from .._model.errors import WrongLoop
from .._model.options import SupervisorOptions
from ._errors import RuntimeNotOpen
from ._roster import Roster
from ._tree import Lives

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType
    from typing import Self

    from .._core.system import System
    from .._model.restart import Intensity
    from .._model.strategy import Strategy
    from ._kernel import Kernel


class Block:
    """An asynchronous block with a system of actors inside."""

    def __init__(self, *, enable_telemetry: bool, strategy: Strategy, intensity: Intensity, debug: bool | None) -> None:
        self._enable_telemetry = enable_telemetry
        self._debug = debug_is_on(debug)
        self._options = SupervisorOptions(strategy=strategy, intensity=intensity)
        self._block: AbstractAsyncContextManager[System] | None = None
        self._system: System | None = None
        self._kernels = Roster()
        self._opened = 0.0

    async def __aenter__(self) -> Self:
        if self._block is not None:
            raise RuntimeNotOpen("this runtime is open already: make a second `RingKernelRuntime()` for a second block")
        self._block = open_system(
            name="ring kernels",
            strategy=self._options.strategy,
            intensity=self._options.intensity,
            instruments=[Lives()],
            debug=self._debug,
        )
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
                kernel.finish()
            self._block = self._system = None

    def _launched(self, kernel_id: str) -> Kernel:
        """The kernel of that id, if this is the place to use it."""
        self._running()
        return self._kernels.launched(kernel_id)

    async def _checkpoint(self) -> None:
        """Let other tasks run."""
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
