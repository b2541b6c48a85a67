"""What a kernel's actor does: it runs the kernel's function, and keeps its state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio

from .._core.context import Context  # noqa: TC001  # the core reads the behaviours' annotations
from .._model.errors import StopRequested
from ._context import KernelContext

if TYPE_CHECKING:
    from ._kernel import Kernel


async def run_kernel(context: Context[Any], kernel: Kernel) -> None:
    """The behaviour of every kernel's actor: run its function, paused until it is activated."""
    await kernel.begin(context)
    ctx: KernelContext[Any, Any] = KernelContext(context, kernel)
    kernel.context = ctx
    try:
        await kernel.definition.function(ctx)
    except (StopRequested, ExceptionGroup) as error:
        if _crashes(error):
            raise
    ctx.came_back()
    kernel.returned = not context.stopping


async def run_stateful_kernel(context: Context[Any], kernel: Kernel) -> None:
    """The same for a kernel with a state. A crash does not save: it may have left the state half changed."""
    assert kernel.keeper is not None
    await kernel.keeper.begin(context)
    try:
        await run_kernel(context, kernel)
    except BaseException as error:
        if context.stopping and _is_cancelled(error):  # its time was over
            await kernel.save_last()
        raise
    await kernel.save_last()


def _is_cancelled(error: BaseException) -> bool:
    """Whether there is nothing to it but a cancellation."""
    cancelled = anyio.get_cancelled_exc_class()
    return BaseExceptionGroup("", [error]).split(cancelled)[1] is None


def _crashes(error: StopRequested | ExceptionGroup[Exception]) -> bool:
    """Whether there is more to it than that the kernel was asked to stop."""
    return isinstance(error, ExceptionGroup) and error.split(StopRequested)[1] is not None
