"""The decorator that makes a function a ring kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar, overload

from .._model.restart import Backoff, Restart
from ._definition import BackpressureStrategy, KernelDefinition, MessageType, layers, plain_function
from ._registry import register

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ._definition import KernelFunction
    from ._state_file import StateFile

F = TypeVar("F", bound="Callable[..., Awaitable[object]]")

DEFINITION: Final = "__ring_kernel__"
"""The attribute in which a decorated function keeps its definition."""


@overload
def ring_kernel(function: F, /) -> F: ...
@overload
def ring_kernel(
    *,
    kernel_id: str | None = None,
    input_type: MessageType = None,
    output_type: MessageType = None,
    queue_size: int = 1000,
    input_queue_size: int | None = None,
    output_queue_size: int | None = None,
    backpressure: BackpressureStrategy | str = BackpressureStrategy.BLOCK,
    restart: Restart = Restart.TRANSIENT,
    backoff: Backoff | None = None,
    auto_register: bool = True,
    state: StateFile | None = None,
) -> Callable[[F], F]: ...


def ring_kernel(
    function: Any = None,
    /,
    *,
    kernel_id: str | None = None,
    input_type: MessageType = None,
    output_type: MessageType = None,
    queue_size: int = 1000,
    input_queue_size: int | None = None,
    output_queue_size: int | None = None,
    backpressure: BackpressureStrategy | str = BackpressureStrategy.BLOCK,
    restart: Restart = Restart.TRANSIENT,
    backoff: Backoff | None = None,
    auto_register: bool = True,
    state: StateFile | None = None,
) -> Any:
    """Make an async function a ring kernel, to be launched by name or passed to ``launch``.

    The function itself is returned, unchanged but for a note of its options. ``@ring_kernel``, without parentheses, leaves
    all of them as they are.

    Args:
        function: What is decorated, without parentheses.
        kernel_id: The name to launch it by, 1 to 255 characters without ``/``; None for the function's own.
        input_type: What may be sent to it, a class, a union or a tuple of classes; None for anything.
        output_type: What it may send, likewise.
        queue_size: How many messages each of its two queues holds, 1 to 1,000,000.
        input_queue_size: The same of its input queue alone; None for ``queue_size``.
        output_queue_size: The same of its output queue.
        backpressure: What happens to a message that finds its queue full; also by its lower-case name.
        restart: Which ends are answered with a restart: by default crashes. `Restart.PERMANENT`: also a return;
            `Restart.TEMPORARY`: none, a crash ends it and is logged.
        backoff: A growing delay before restarts; None restarts at once.
        auto_register: Whether it can be launched by its id alone, from any runtime, loop and thread. It is
            known for as long as the module lives in which it is defined. Functions made at run time, in
            numbers, are better launched with ``launch(kernel_id, function)`` and not registered.
        state: Where its ``ctx.state`` is kept while it does not run; None if it has none.

    Raises:
        TypeError: for a function that is not async, a type that cannot be checked, or an option of the wrong kind.
        ValueError: for an option out of range.

    Example:
        >>> @ring_kernel(kernel_id="calculator", input_type=Calculate, output_type=Result)
        ... async def calculator(ctx: KernelContext[Calculate, Result]) -> None:
        ...     while not ctx.should_terminate:
        ...         request = await ctx.receive()
        ...         await ctx.send(Result(request.a + request.b, correlation_id=request.message_id))
    """
    if not isinstance(auto_register, bool):
        raise TypeError(
            f"auto_register is True or False, got {auto_register!r}: write `@ring_kernel(auto_register=False)`"
        )

    def decorate(function: F) -> F:
        definition = KernelDefinition(
            kernel_id=_name_of(function) if kernel_id is None else kernel_id,
            function=function,
            input_type=input_type,
            output_type=output_type,
            queue_size=queue_size,
            input_queue_size=input_queue_size,
            output_queue_size=output_queue_size,
            backpressure=backpressure,
            restart=restart,
            backoff=backoff,
            state=state,
        )
        setattr(function, DEFINITION, definition)
        if auto_register:
            register(definition)
        return function

    if isinstance(function, str):
        raise TypeError(f"the options of a ring kernel have names: write `@ring_kernel(kernel_id={function!r})`")
    return decorate if function is None else decorate(function)


def _name_of(function: object) -> str:
    """What a function is called where it is defined."""
    plain = plain_function(function)
    name: str = getattr(plain, "__name__", type(plain).__name__)
    return name


def get_ring_kernel_meta(function: object) -> KernelDefinition | None:
    """How a function was decorated; None if it is no ring kernel.

    It may be wrapped (`functools.wraps`), completed (`functools.partial`), bound to an object, or the object's
    ``__call__``: what was decorated is found inside.
    """
    for layer in layers(function):
        noted: Any = getattr(layer, DEFINITION, None)
        if isinstance(noted, KernelDefinition):
            return noted
    return None


def is_ring_kernel(function: object) -> bool:
    """Whether a function, or what it wraps, was decorated with `ring_kernel`."""
    return get_ring_kernel_meta(function) is not None


def definition_of(kernel_id: str, function: KernelFunction) -> KernelDefinition:
    """How a function that was passed is to be run: as it was decorated, if it was, under the id given."""
    noted = get_ring_kernel_meta(function)
    if noted is None:
        return KernelDefinition(kernel_id=kernel_id, function=function)
    return noted.changed(kernel_id=kernel_id, function=function)
