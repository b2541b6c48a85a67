"""The decorator that makes a function a ring kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

from ._definition import BackpressureStrategy, KernelDefinition, MessageType
from ._registry import register

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ._definition import KernelFunction
    from ._state_file import StateFile

F = TypeVar("F", bound="Callable[..., Awaitable[object]]")

DEFINITION: Final = "__ring_kernel__"
"""The attribute in which a decorated function keeps its definition."""


def ring_kernel(
    *,
    kernel_id: str,
    input_type: MessageType = None,
    output_type: MessageType = None,
    queue_size: int = 1000,
    backpressure: BackpressureStrategy | str = BackpressureStrategy.BLOCK,
    auto_register: bool = True,
    state: StateFile | None = None,
) -> Callable[[F], F]:
    """Make an async function a ring kernel, to be launched by name or passed to ``launch``.

    The function itself is returned, unchanged but for a note of its options.

    Args:
        kernel_id: The name to launch it by; without ``/``.
        input_type: What may be sent to it, a class, a union or a tuple of classes; None for anything.
        output_type: What it may send, likewise.
        queue_size: How many messages each of its two queues holds, from 1 on.
        backpressure: What happens to a message that finds its queue full; also by its lower-case name.
        auto_register: Whether it can be launched by its id alone, from any runtime, loop and thread. It is
            known for as long as the module lives in which it is defined. Functions made at run time, in
            numbers, are better launched with ``launch(kernel_id, function)`` and not registered.
        state: Where its ``ctx.state`` is kept while it does not run; None if it has none.

    Raises:
        TypeError: for a function that is not async, or a type that cannot be checked.
        ValueError: for an option out of range.

    Example:
        >>> @ring_kernel(kernel_id="calculator", input_type=Calculate, output_type=Result)
        ... async def calculator(ctx: KernelContext[Calculate, Result]) -> None:
        ...     while not ctx.should_terminate:
        ...         request = await ctx.receive()
        ...         await ctx.send(Result(request.a + request.b, correlation_id=request.message_id))
    """

    def decorate(function: F) -> F:
        definition = KernelDefinition(
            kernel_id=kernel_id,
            function=function,
            input_type=input_type,
            output_type=output_type,
            queue_size=queue_size,
            backpressure=backpressure,
            state=state,
        )
        setattr(function, DEFINITION, definition)
        if auto_register:
            register(definition)
        return function

    return decorate


def definition_of(kernel_id: str, function: KernelFunction) -> KernelDefinition:
    """How a function that was passed is to be run: as it was decorated, if it was, under the id given."""
    noted: Any = getattr(function, DEFINITION, None)
    if isinstance(noted, KernelDefinition):
        return noted.changed(kernel_id=kernel_id, function=function)
    return KernelDefinition(kernel_id=kernel_id, function=function)
