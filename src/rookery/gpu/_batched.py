"""Batched stages: actors that serve many messages with one call."""

from __future__ import annotations

import functools
import inspect
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Final,
    Generic,
    ParamSpec,
    TypeAlias,
    TypeVar,
    final,
    get_args,
    get_origin,
)

import attrs
import numpy as np

from rookery._core.behaviour import evaluate
from rookery._core.context import Context
from rookery._core.spec import behaviour_name
from rookery._model.checks import check_count, check_number, is_async_function
from rookery._model.errors import UnresolvedAnnotation
from rookery._model.signatures import AS_WRITTEN
from rookery._model.wording import brief

from ._arrays import understand_dtype, understand_shape
from ._device import Device
from ._errors import ArgumentTypeError
from ._rows import RowRules
from ._staging import Staging

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    import numpy.typing as npt

    from ._buffer import UnifiedBuffer

M = TypeVar("M")
M_co = TypeVar("M_co", covariant=True)
P = ParamSpec("P")

Rows: TypeAlias = "UnifiedBuffer | npt.NDArray[Any] | None"
"""What a stage's function returns: a row for each message."""


@final
@attrs.frozen(eq=False)
class Batch(Generic[M_co]):
    """Messages that are served together.

    Attributes:
        messages: They themselves, in the order in which they were taken.
        rows: Their rows, on their way to the device: row ``i`` is that of ``messages[i]``. It is padded to `capacity`
            rows, and what is in those from `n` on is undefined. The stage releases it.
    """

    messages: Sequence[M_co]
    rows: UnifiedBuffer

    @property
    def n(self) -> int:
        """How many messages, and rows that count."""
        return len(self.messages)

    @property
    def capacity(self) -> int:
        """How many rows there are with the padding: few numbers are ever seen, so that buffers and kernels are reused."""
        return self.rows.shape[0]


@final
class Stage(Generic[M, P]):
    """A behaviour that batches its messages; made by `batched`."""

    def __init__(
        self,
        fn: Callable[Concatenate[Device, Batch[M], P], Awaitable[Rows]],
        rules: RowRules,
        max_items: int,
        max_delay: float,
    ) -> None:
        functools.update_wrapper(self, fn)
        self.__name__: str = rules.stage
        self.fn: Final = fn
        self.rules: Final = rules
        self.max_items: Final = max_items
        self.max_delay: Final = max_delay

    async def __call__(self, ctx: Context[M], device: Device, *args: P.args, **kwargs: P.kwargs) -> None:
        """One incarnation: serve until a graceful stop."""
        if not isinstance(device, Device):
            raise ArgumentTypeError(
                f"{self.__name__} runs on a device, got {brief(device)}: write `child({self.__name__}, device)`, with "
                "`async with gpu.open_device() as device`"
            )

        async def serve(messages: Sequence[M], rows: UnifiedBuffer) -> Rows:
            return await self.fn(device, Batch(messages, rows), *args, **kwargs)

        await Staging(ctx, device, self.rules, self.max_items, self.max_delay, serve).run()

    @functools.cached_property
    def __signature__(self) -> inspect.Signature:
        """That of the function, with the context in front and without the batch; what `child` reads."""
        written = inspect.signature(self.fn, **AS_WRITTEN)
        device, batch, *others = written.parameters.values()
        kind = inspect.Parameter.POSITIONAL_ONLY
        ctx = inspect.Parameter("ctx", kind, annotation=self._context(batch.annotation))
        parameters = [ctx, device.replace(kind=kind), *others]
        return inspect.Signature(parameters, return_annotation=None)

    def _context(self, annotation: Any) -> Any:
        """The annotation of the context, ``Context[M]``, for a batch that is annotated ``Batch[M]``."""
        if annotation is inspect.Parameter.empty:
            return annotation
        if isinstance(annotation, str):
            annotation = evaluate(annotation, self.fn)
        if annotation is Batch or annotation is Any:
            return Context
        if get_origin(annotation) is not Batch:
            raise UnresolvedAnnotation(
                f"the second parameter of {self.__name__} is its batch, but is annotated {annotation!r}: write "
                "`batch: gpu.Batch[Message]`"
            )
        context: Any = Context
        return context[get_args(annotation)]

    def __repr__(self) -> str:
        return f"<Stage {self.__name__}>"


def batched(
    *,
    max_items: int = 64,
    max_bytes: int = 64 << 20,
    max_delay: float = 0.002,
    shape: int | tuple[int, ...] | None = None,
    dtype: npt.DTypeLike = np.float32,
) -> Callable[[Callable[Concatenate[Device, Batch[M], P], Awaitable[Rows]]], Stage[M, P]]:
    """Make a stage of an async function: a behaviour that serves many messages with one call.

    The function is called with a device, a `Batch`, and what else `child` was given. What it returns has a row for each
    message, ``n`` of them or, padded, ``capacity``: each request is answered with its own. None answers all with None.
    A buffer that it returns becomes the stage's, which releases it.

    A message carries its row, an array, in its first field, or is an array itself. One of the wrong dtype or shape fails
    alone: its asker gets the error. An exception that leaves the function crashes the stage: whoever waits for an answer
    to a message that it had taken gets `ActorCrashed`. ``raise Refused(error)`` fails the requests of that batch only,
    with ``error``. What a call has taken of the device's memory is released when it fails, either way, or is cancelled.

    The next batch is copied while the last one is computed, and that one's result while the next is. The function is
    called for one batch at a time, in order; the less it awaits, the less the device idles: ``kernel.submit(...)``, not
    ``await kernel(...)``.

    Args:
        max_items: How many messages there are in a batch at most.
        max_bytes: How many bytes of rows may be on their way, from being taken to being answered; and never more than an
            eighth of what the device's pool may hand out, nor than a quarter for all stages of the device together, so that
            there is room for results. Beyond that, no message is taken, the mailbox fills, and senders wait. A batch has
            half of it at most, so that there are two. A row of up to a quarter of the pool flies alone; a larger one fails.
        max_delay: Seconds that a batch waits for more messages, from its first one on. 0 takes what is there.
        shape: The shape of every row, which the function can rely on. Without it a batch holds rows of one shape, that of
            its first message.
        dtype: The dtype of every row.

    Raises:
        TypeError: if it is not written above an async function of a device and a batch; for an argument of another type.
        ValueError: for one out of range.

    Example:
        >>> @gpu.batched(max_items=64, shape=(784,))
        ... async def classify(
        ...     device: gpu.Device, batch: gpu.Batch[Classify], forward: gpu.Kernel
        ... ) -> gpu.UnifiedBuffer:
        ...     scores = await device.empty((batch.capacity, 10))
        ...     forward.submit(batch.rows, scores, batch.n, size=batch.capacity)
        ...     return scores
        >>> stage = await system.spawn(classify, device, program.kernel("forward"))
        >>> scores = await stage.ask(Classify(image))
    """
    check_count("max_items is how many messages a batch has at most, a whole number from 1 on", max_items, least=1)
    check_count("max_bytes is how many bytes may be in flight, a whole number from 1 on", max_bytes, least=1)
    check_number("max_delay is a number of seconds from 0 on", max_delay, lambda seconds: seconds >= 0)
    sides, kind = None if shape is None else understand_shape(shape), understand_dtype(dtype)

    def decorate(fn: Callable[Concatenate[Device, Batch[M], P], Awaitable[Rows]]) -> Stage[M, P]:
        _check_decorated(fn)
        rules = RowRules(behaviour_name(fn), sides, kind, max_bytes)
        return Stage(fn, rules, max_items, max_delay)

    return decorate


def _check_decorated(fn: Any) -> None:
    """Refuse what is no async function of a device and a batch.

    Raises:
        TypeError: showing what to write instead.
    """
    instead = "write `async def stage(device: gpu.Device, batch: gpu.Batch[Message])`"
    if not is_async_function(fn):
        raise TypeError(f"`@gpu.batched(...)` is written above an async function, got {brief(fn)}: {instead}")
    first = list(inspect.signature(fn, **AS_WRITTEN).parameters.values())[:2]
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if len(first) < 2 or any(one.kind not in positional for one in first):
        raise TypeError(f"{behaviour_name(fn)} is called with a device and a batch, and does not take them: {instead}")
