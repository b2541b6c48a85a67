"""What travels: message classes, requests and urgency."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, dataclass_transform, overload

import attrs

from .wording import brief

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

R = TypeVar("R")
T = TypeVar("T")

DEFAULT_PRIORITY: Final = 128

HOLDS_PRIORITY: Final = "rookery.priority"
"""The key in an attrs field's metadata which says that the field holds a priority, for those who draw messages at random."""

WIRE_NAME: Final = "__wire_name__"
"""The class attribute in which a message class keeps the name it has outside of this process."""


class Request(Generic[R]):
    """Base of messages that expect a reply of type ``R``.

    ``R`` is invariant: replying an ``int`` where ``Request[str]`` was asked is a type error, and so is a
    union that merely contains the right type.

    Example:
        >>> @message
        ... class Add(Request[float]):
        ...     a: float
        ...     b: float
    """

    __slots__ = ()

    if TYPE_CHECKING:
        # Never called. It lets a checker take the message type and the reply type apart in one step; see
        # `rookery._core.ref.Askable`.
        def __asks__(self) -> tuple[Self, R]: ...

        # A method that takes R makes R invariant for structural checks as well.
        def __answered__(self, reply: R) -> None: ...


@overload
def message(cls: type[T]) -> type[T]: ...
@overload
def message(*, name: str | None = None) -> Callable[[type[T]], type[T]]: ...


@dataclass_transform(frozen_default=True, field_specifiers=(attrs.field, attrs.Factory))
def message(cls: type[Any] | None = None, *, name: str | None = None) -> Any:
    """Make a class a message: a frozen, slotted attrs class with a wire name, and nothing else.

    No field is injected: what stands in the class body is what the message has. Urgency, deadline and
    correlation belong to the delivery (``ref.send(msg, priority=200)``).

    Args:
        cls: The class, when used as ``@message``.
        name: The wire name; ``module.qualname`` unless given.

    Raises:
        TypeError: if ``cls`` is not a class.
    """

    def decorate(cls: type[Any]) -> type[Any]:
        if not isinstance(cls, type):
            raise TypeError(f"@message makes a class a message, got {brief(cls)}: write `@message` above a class")
        made = attrs.frozen(cls)
        setattr(made, WIRE_NAME, name or f"{made.__module__}.{made.__qualname__}")
        return made

    return decorate if cls is None else decorate(cls)
