"""Pipelines: steps on the processor and on devices, chained, with device buffers handed from one to the next."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, Concatenate, Final, Generic, ParamSpec, TypeVar, final, overload

import attrs

from rookery._core.behaviour import evaluate
from rookery._core.context import Context
from rookery._core.spec import behaviour_name
from rookery._model.checks import check_count, check_function, is_async_function
from rookery._model.options import SupervisorOptions
from rookery._model.restart import Intensity
from rookery._model.signatures import AS_WRITTEN
from rookery._model.wording import brief

from ._device import Device
from ._flow import Flow

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
    from typing import Self

    from ._pool import BufferPool

A = TypeVar("A")
A_contra = TypeVar("A_contra", contravariant=True)
B = TypeVar("B")
B_co = TypeVar("B_co", covariant=True)
C = TypeVar("C")
D = TypeVar("D")
M = TypeVar("M")
P = ParamSpec("P")
UNSET: Final[Any] = object()


@final
class Step(Generic[A_contra, B_co]):
    """An async function as a step of a pipeline; made by `step`."""

    __slots__ = ("args", "attempts", "fn", "kwargs", "name", "workers")

    def __init__(
        self,
        fn: Callable[Concatenate[A_contra, ...], Awaitable[B_co]],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        name: str,
        workers: int,
        attempts: int,
    ) -> None:
        self.fn: Final = fn
        self.args: Final = args
        self.kwargs: Final = kwargs
        self.name: Final = name
        self.workers: Final = workers
        self.attempts: Final = attempts

    def options(self, *, name: str = UNSET, workers: int = UNSET, attempts: int = UNSET) -> Self:
        """The same step with other options; only what is given changes.

        Args:
            name: What its workers are called; by default as its function.
            workers: How many actors work for it, each on one item at a time; 1 by default.
            attempts: How often it may begin with an item at most; 1 by default. An item that a worker had in hand when it
                crashed is its first one after the restart, until it has crashed that often: then the item fails. What a
                function does besides returning, it may then have done several times; and it must leave what it is given as
                it is, buffers included.

        Raises:
            TypeError: for a number of another kind.
            ValueError: for one below 1.
        """
        name = self.name if name is UNSET else name
        workers = self.workers if workers is UNSET else workers
        attempts = self.attempts if attempts is UNSET else attempts
        check_count("workers is how many actors work for a step, a whole number from 1 on", workers, least=1)
        check_count("attempts is how often a step may begin with an item, a whole number from 1 on", attempts, least=1)
        return type(self)(self.fn, self.args, self.kwargs, name, workers, attempts)

    def __repr__(self) -> str:
        return f"<Step {self.name}>"


def step(fn: Callable[Concatenate[A, P], Awaitable[B]], /, *args: P.args, **kwargs: P.kwargs) -> Step[A, B]:
    """Make a step of a pipeline of an async function: ``step(blur, device, kernel).options(workers=2)``.

    It is called with an item, and with what is given here. What it returns is the next step's item. An exception that
    leaves it crashes its worker, which is restarted; ``raise Refused(error)`` fails the item alone, with ``error``.

    **Buffers** that it takes, by `Device.empty`, `Device.upload` and the like, come out of what `pipeline` set aside for the
    item, and belong to the item. Those that are part of what it returns (that itself, or in a field of an attrs class or
    dataclass, in a tuple, a list or a mapping) are handed to the next step as they are, with the commands that are still writing them. All
    others, among them those it was given, are released when it has returned.

    Args:
        fn: An async function.
        *args: What it is called with after the item.
        **kwargs: Likewise.

    Raises:
        TypeError: if it is not an async function, or the arguments do not fit it.
    """
    check_function("gpu.step", fn)
    name = behaviour_name(fn)
    if not is_async_function(fn):
        raise TypeError(
            f"a step is an async function, got {brief(fn)}: write `async def {name}(item)`, and `await "
            "anyio.to_thread.run_sync(...)` in it for what takes long"
        )
    try:
        inspect.signature(fn, **AS_WRITTEN).bind(None, *args, **kwargs)
    except TypeError as error:
        raise TypeError(
            f"{name} cannot be called with an item and these arguments: {error}; they go after the function, "
            f"`gpu.step({name}, ...)`"
        ) from None
    return Step(fn, args, kwargs, name, 1, 1)


@attrs.frozen(eq=False)
class Plan:
    """What a pipeline is to be."""

    steps: Sequence[Step[Any, Any]]
    key: Callable[[Any], Hashable] | None
    max_items: int
    memory: Sequence[tuple[BufferPool, int]]
    """How much of each pool to set aside for an item, in the order in which to do that."""
    supervision: SupervisorOptions


@final
class Pipeline(Generic[M]):
    """A behaviour that passes each message through its steps; made by `pipeline`."""

    def __init__(self, plan: Plan) -> None:
        self.__name__: str = "pipeline"
        self.plan: Final = plan

    async def __call__(self, ctx: Context[M]) -> None:
        """One incarnation: serve until a graceful stop."""
        await Flow(ctx, self.plan).run()

    @functools.cached_property
    def __signature__(self) -> inspect.Signature:
        """With the messages that the first step takes; what `child` reads."""
        kind = inspect.Parameter.POSITIONAL_ONLY
        ctx = inspect.Parameter("ctx", kind, annotation=_context_of(self.plan.steps[0].fn))
        return inspect.Signature([ctx], return_annotation=None)

    def __repr__(self) -> str:
        return f"<Pipeline {' -> '.join(step.name for step in self.plan.steps)}>"


def _context_of(fn: Callable[..., Any]) -> Any:
    """The annotation of the context, ``Context[M]``, of a pipeline whose first step is this."""
    first = next(iter(inspect.signature(fn, **AS_WRITTEN).parameters.values()))
    annotation = first.annotation
    if isinstance(annotation, str):
        annotation = evaluate(annotation, fn)
    if annotation is inspect.Parameter.empty or annotation is Any:
        return Context
    context: Any = Context
    return context[annotation]


@overload
def pipeline(
    first: Step[M, Any], /, *, key: Callable[[M], Hashable] | None = None, max_items: int = 64,
    memory: Mapping[Device, int] | None = None, intensity: Intensity = ...,
) -> Pipeline[M]: ...  # fmt: skip
@overload
def pipeline(
    first: Step[M, A], second: Step[A, Any], /, *, key: Callable[[M], Hashable] | None = None, max_items: int = 64,
    memory: Mapping[Device, int] | None = None, intensity: Intensity = ...,
) -> Pipeline[M]: ...  # fmt: skip
@overload
def pipeline(
    first: Step[M, A], second: Step[A, B], third: Step[B, Any], /, *, key: Callable[[M], Hashable] | None = None,
    max_items: int = 64, memory: Mapping[Device, int] | None = None, intensity: Intensity = ...,
) -> Pipeline[M]: ...  # fmt: skip
@overload
def pipeline(
    first: Step[M, A], second: Step[A, B], third: Step[B, C], fourth: Step[C, Any], /, *,
    key: Callable[[M], Hashable] | None = None, max_items: int = 64,
    memory: Mapping[Device, int] | None = None, intensity: Intensity = ...,
) -> Pipeline[M]: ...  # fmt: skip
@overload
def pipeline(
    first: Step[M, A], second: Step[A, B], third: Step[B, C], fourth: Step[C, D], fifth: Step[D, Any],
    /, *more: Step[Any, Any],
    key: Callable[[M], Hashable] | None = None, max_items: int = 64,
    memory: Mapping[Device, int] | None = None, intensity: Intensity = ...,
) -> Pipeline[M]: ...  # fmt: skip


def pipeline(
    *steps: Step[Any, Any],
    key: Callable[[Any], Hashable] | None = None,
    max_items: int = 64,
    memory: Mapping[Device, int] | None = None,
    intensity: Intensity = Intensity(3, per=5.0),  # noqa: B008  # a frozen value
) -> Pipeline[Any]:
    """Chain steps to a behaviour: each message passes through them, and a request is answered with what the last returns.

    The pipeline is an actor, the workers of its steps are its children, and every worker is at an item of its own.

    **What holds back.** At most ``max_items`` are on their way, and each has what ``memory`` says set aside before it sets
    off. What finds neither stays in the mailbox, and when that is full senders wait. So a slow step holds back senders, a
    full device does too, and steps that need memory never wait for one another's.

    **What fails.** An item that a worker had in hand when it crashed fails with `ActorCrashed`, unless the step has
    attempts left; if it was only sent, that is a dead letter. All others go on, in order. When there are more crashes than
    ``intensity`` allows, the pipeline crashes itself, with all that are on their way. Whatever happens to an item, its
    memory comes back. After a graceful stop what is on its way comes to its end.

    Args:
        *steps: From first to last. A message is given to the first as it is. The last returns no buffers.
        key: Items with equal keys keep their order, also where a step has several workers. It is called with the message.
            Without it, those overtake each other at such steps.
        max_items: How many are on their way at most.
        memory: How many bytes of each device an item has at most at any one time, in all its buffers together, those
            included that were released while commands still use them.
        intensity: How many crashes of workers are tolerated in how many seconds.

    Raises:
        TypeError: for anything but steps; for an option of the wrong kind.
        ValueError: for no steps; for an option out of range.
        OutOfDeviceMemory: if ``memory`` is above the limit of a device's pool.

    Example:
        >>> line = gpu.pipeline(
        ...     gpu.step(upload, device),
        ...     gpu.step(blur, device, kernel),
        ...     gpu.step(classify).options(workers=4),
        ...     key=lambda frame: frame.camera,
        ...     memory={device: 8 << 20},
        ... )
        >>> pipe = await system.spawn(line, name="frames")
        >>> label = await pipe.ask(Frame(camera=1, pixels=pixels))
    """
    if not steps:
        raise ValueError("a pipeline has at least one step: write `gpu.pipeline(gpu.step(fn), ...)`")
    for one in steps:
        if not isinstance(one, Step):
            raise TypeError(f"a pipeline is made of steps, got {brief(one)}: write `gpu.step(fn, ...)`")
    if key is not None and not callable(key):
        raise TypeError(f"key is a function of a message, got {brief(key)}: write `key=lambda frame: frame.camera`")
    check_count("max_items is how many items are on their way at most, a whole number from 1 on", max_items, least=1)
    return Pipeline(Plan(steps, key, max_items, _pools(memory or {}), SupervisorOptions(intensity=intensity)))


def _pools(memory: Mapping[Device, int]) -> list[tuple[BufferPool, int]]:
    for device, nbytes in memory.items():
        if not isinstance(device, Device):
            raise TypeError(
                f"memory says how many bytes of a device, got {brief(device)}: write `memory={{device: 8 << 20}}`"
            )
        check_count("memory says how many bytes of a device, a whole number from 1 on", nbytes, least=1)
    devices = sorted(memory, key=lambda device: (device.info.index, id(device)))
    return [(device.pool, device.pool.rounded_share(memory[device])) for device in devices]
