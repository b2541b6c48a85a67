"""What a kernel is: a function, and how it is to be run."""

from __future__ import annotations

import functools
import inspect
import re
from enum import Enum
from types import UnionType
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypedDict, cast, final

import attrs

from .._model.options import Options
from .._model.overflow import Overflow
from .._model.restart import Backoff, Restart
from .._model.wording import brief
from ._state_file import StateFile, state_file

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from attrs import Attribute

    from ._context import KernelContext

    KernelFunction: TypeAlias = Callable[[KernelContext[Any, Any]], Awaitable[object]]

LONGEST_ID: Final = 255
"""Characters of a kernel's id. A state file that is named after it has to be shorter, see `StateFile`."""

NOT_IN_ID: Final = re.compile(r"[/\\\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""What would make a path of an id, or cannot be shown or written: slashes, control characters, halves of characters."""

LARGEST_QUEUE: Final = 1_000_000
"""Messages that a queue may be told to hold. More would be no bound that anybody's memory feels."""

MessageType: TypeAlias = type | UnionType | tuple[type, ...] | None
"""What a queue accepts: what ``isinstance`` takes, or None for anything."""


class BackpressureStrategy(Enum):
    """What happens to a message that finds its queue full."""

    BLOCK = "block"
    """The sender waits for room."""
    REJECT = "reject"
    """The sender gets `MailboxFull`."""
    DROP_OLDEST = "drop_oldest"
    """The oldest message of the least urgent level present makes room, the newcomer included."""

    @property
    def overflow(self) -> Overflow:
        """The same in the core's terms."""
        return Overflow[self.name]


class Overrides(TypedDict, total=False):
    """What `RingKernelRuntime.launch` may change of a kernel's definition; as in `ring_kernel`."""

    input_type: MessageType
    output_type: MessageType
    queue_size: int
    input_queue_size: int | None
    output_queue_size: int | None
    backpressure: BackpressureStrategy | str
    restart: Restart
    backoff: Backoff | None
    state: StateFile | None


def _strategy(value: BackpressureStrategy | str) -> BackpressureStrategy:
    try:
        return BackpressureStrategy(value)
    except ValueError:
        choices = ", ".join(f"BackpressureStrategy.{known.name} or {known.value!r}" for known in BackpressureStrategy)
        raise ValueError(f"backpressure is one of {choices}, got {value!r}") from None


def check_id(what: str, value: object, write: str) -> None:
    """Refuse what cannot be the id of a kernel, or of a group of kernels.

    Args:
        what: What it is called where it is given.
        value: What was given.
        write: What to write instead.

    Raises:
        ValueError: with the range.
    """
    fits = isinstance(value, str) and 1 <= len(value) <= LONGEST_ID
    if not fits or value in {".", ".."} or NOT_IN_ID.search(str(value)):
        raise ValueError(
            f"{what} is a string of 1 to {LONGEST_ID} characters without '/', backslashes and control characters, "
            f"and not '.' or '..', got {brief(value)}: write `{write}`"
        )


def _name(_: object, __: Attribute[str], value: str) -> None:
    check_id("kernel_id", value, '@ring_kernel(kernel_id="calculator")')


def _size(_: object, attribute: Attribute[Any], value: int | None) -> None:
    if value is None and attribute.default is None:
        return
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= LARGEST_QUEUE:
        raise ValueError(
            f"{attribute.name} is how many messages a queue holds, an integer from 1 to {LARGEST_QUEUE:,}, got {value!r}"
        )


def _checkable(_: object, attribute: Attribute[MessageType], value: MessageType) -> None:
    try:
        if value is not None:
            isinstance(None, value)
    except TypeError:
        raise TypeError(
            f"{attribute.name} is a class, a union or a tuple of classes, or None for anything, got {value!r}: "
            f"write `{attribute.name}=Request`"
        ) from None


def _async(_: object, __: Attribute[KernelFunction], value: KernelFunction) -> None:
    if not inspect.iscoroutinefunction(plain_function(value)):
        raise TypeError(
            f"a ring kernel is an async function that takes its context, got {value!r}: "
            "write `async def kernel(ctx: KernelContext[Request, Response]) -> None`"
        )


@final
@attrs.frozen(kw_only=True)
class KernelDefinition:
    """A kernel function and its options; see `ring_kernel` for what each means."""

    kernel_id: str = attrs.field(validator=_name)
    function: KernelFunction = attrs.field(validator=_async)
    input_type: MessageType = attrs.field(default=None, validator=_checkable)
    output_type: MessageType = attrs.field(default=None, validator=_checkable)
    queue_size: int = attrs.field(default=1000, validator=_size)
    input_queue_size: int | None = attrs.field(default=None, validator=_size)
    output_queue_size: int | None = attrs.field(default=None, validator=_size)
    backpressure: BackpressureStrategy = attrs.field(default=BackpressureStrategy.BLOCK, converter=_strategy)
    restart: Restart = Restart.TRANSIENT
    backoff: Backoff | None = None
    state: StateFile | None = attrs.field(default=None, validator=state_file)

    def __attrs_post_init__(self) -> None:
        self.actor_options()
        if self.state is not None:
            self.state.named(self.kernel_id)

    def actor_options(self) -> Options:
        """The same in the core's terms, and by its checks: how the kernel's actor is run."""
        return Options(
            name=self.kernel_id,
            restart=self.restart,
            capacity=self.input_queue_size or self.queue_size,
            overflow=self.backpressure.overflow,
            backoff=self.backoff,
        )

    @property
    def output_capacity(self) -> int:
        """How many messages the output queue holds."""
        return self.output_queue_size or self.queue_size

    @property
    def origin(self) -> tuple[str, str]:
        """Module and qualified name of the function. Reading the same source again gives the same origin."""
        function = plain_function(self.function)
        return (getattr(function, "__module__", None) or "?", getattr(function, "__qualname__", repr(function)))

    @property
    def where(self) -> str:
        """Where the function is defined, for messages."""
        code = getattr(plain_function(self.function), "__code__", None)
        place = f" ({code.co_filename}:{code.co_firstlineno})" if code else ""
        return f"{'.'.join(self.origin)}{place}"

    def changed(self, **changes: Any) -> KernelDefinition:
        """The same with other options.

        Raises:
            TypeError: for an option that does not exist, or a type that cannot be checked.
            ValueError: for a value out of range.
        """
        options = set(Overrides.__annotations__)
        unknown = changes.keys() - options - {"kernel_id", "function"}
        if unknown:
            raise TypeError(
                f"a kernel has no option {' or '.join(sorted(unknown))}; "
                f"what can be changed at its launch is {', '.join(sorted(options))}"
            )
        return attrs.evolve(self, **changes)

    def check_callable(self) -> None:
        """Make sure the function can be called with a context.

        Raises:
            TypeError: if it takes no argument, or needs more.
        """
        signature = inspect.signature(self.function)
        try:
            signature.bind(None)
        except TypeError as error:
            raise TypeError(
                f"{self.where} cannot be called with a context alone ({error}): a ring kernel is "
                "`async def kernel(ctx)`; a method is launched bound, `runtime.launch(kernel_id, object.method)`"
            ) from None


def wrong_type(message: object, accepted: MessageType, what: str) -> TypeError:
    """The error for a message of a type that is not accepted where it was to go."""
    return TypeError(f"{what} takes {_type_name(accepted)}, got {type(message).__name__}: {message!r}")


def layers(function: object) -> Iterator[object]:
    """What was passed, and what it calls in turn, inside of decorators, partials, methods and callable objects."""
    while True:
        yield function
        if isinstance(function, functools.partial):
            function = cast("functools.partial[object]", function).func
        elif inspect.ismethod(function):
            function = function.__func__
        elif hasattr(function, "__wrapped__"):
            function = cast("Any", function).__wrapped__
        elif inspect.isroutine(function) or inspect.isclass(function) or not callable(function):
            return
        else:
            function = type(function).__call__


def plain_function(function: object) -> object:
    """What is called in the end."""
    *_, plain = layers(function)
    return plain


def _type_name(accepted: MessageType) -> str:
    names = accepted if isinstance(accepted, tuple) else (accepted,)
    return " or ".join(getattr(name, "__name__", str(name)) for name in names)
