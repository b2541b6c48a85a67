"""Messages that carry their own identity, urgency and correlation.

The core keeps these three with the delivery. Ring kernels keep them in the message, where their users look
for them: a reply names the request it answers, ``Result(15, correlation_id=request.message_id)``.
"""

from __future__ import annotations

import dataclasses
import inspect
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast, dataclass_transform, overload
from uuid import UUID, uuid4

import attrs

from .._model.checks import check_priority
from .._model.messages import DEFAULT_PRIORITY, HOLDS_PRIORITY

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from attrs import Attribute

T = TypeVar("T")
R = TypeVar("R")

NOT_MADE_YET: Final[Any] = None
"""What the slot of a `message_id` holds until somebody reads it."""


PRIORITY: Final = {HOLDS_PRIORITY: True}
"""The metadata of a field `priority`."""

STANDARD: Final[dict[str, Attribute[Any]]] = {}
"""The fields every message has: those of `Message`, which is made at the end of this file."""


class MadeWhenRead:
    """A `message_id` over its slot: making a UUID costs more than making the message, and most are never read."""

    __slots__ = ("_slot",)

    def __init__(self, slot: Any) -> None:
        self._slot = slot

    def __get__(self, message: object | None, owner: type | None = None) -> Any:
        if message is None:
            return self
        try:
            made = self._slot.__get__(message)
        except AttributeError:
            raise AttributeError(_not_a_message(type(message)), name="message_id", obj=message) from None
        if made is None:
            made = uuid4()
            self._slot.__set__(message, made)
        return made

    def __set__(self, message: object, value: UUID | None) -> None:
        self._slot.__set__(message, value)


def _in_range(_: object, __: Attribute[int], value: int) -> None:
    if value != DEFAULT_PRIORITY:
        check_priority(value)


def _not_a_message(cls: type) -> str:
    return f"{cls.__qualname__} has the fields of a message and not their values: write `@message` above the class"


@overload
def message(cls: type[T], /) -> type[T]: ...
@overload
def message() -> Callable[[type[T]], type[T]]: ...


@dataclass_transform(field_specifiers=(attrs.field, attrs.Factory, dataclasses.field))
def message(*cls: Any) -> Any:
    """Make a class a ring message: a slotted attrs class with three more fields, keyword-only.

    * ``message_id: UUID`` is unique, and made only when it is first read;
    * ``priority: int = 128``, 0 to 255, larger is delivered sooner;
    * ``correlation_id: UUID | None = None`` names the request that a reply answers.

    Where the class body, or a base, defines one of them, that definition takes the role. Equality, and
    positional patterns in ``match``, are over the other fields: two requests for the same thing are equal.

    A dataclass is rebuilt as such a class. Its fields, defaults, factories, options and ``__post_init__`` are
    kept; a body written with ``dataclasses.field`` is read as a dataclass also without the decorator.

    Args:
        *cls: The class; none in ``@message()``, which is the same.

    Raises:
        TypeError: if it is not a class, is an attrs class already, or has ``InitVar`` fields.
        ValueError: by the class made, when an instance is made with a priority out of range.

    Example:
        >>> @message
        ... class Add:
        ...     a: float
        ...     b: float
        >>> Add(10, 5, priority=200) == Add(10, 5)
        True
    """
    return _made_message(*cls) if cls else _made_message


def _made_message(cls: type[T]) -> type[T]:
    if not isinstance(cls, type):
        raise TypeError(f"@message makes a class a message, got {cls!r}: write `@message` above a class")
    if "__attrs_attrs__" in cls.__dict__:
        raise TypeError(
            f"{cls.__qualname__} is an attrs class already, and @message makes one: leave the other decorator out"
        )
    patterns = "__match_args__" in cls.__dict__ and not _is_dataclass(cls)
    made = _rebuilt(cls) if _reads_as_dataclass(cls) else _define(cls)
    if not patterns:
        positional = cast("tuple[str, ...]", getattr(made, "__match_args__", ()))
        setattr(made, "__match_args__", tuple(name for name in positional if name not in STANDARD))  # noqa: B010
    return made


def _define(cls: type[T], **options: Any) -> type[T]:
    """The attrs class, with the standard fields it does not have yet."""
    own_id = False

    def with_standard_fields(_: type, fields: list[Attribute[Any]]) -> list[Attribute[Any]]:
        nonlocal own_id
        missing = [field for name, field in STANDARD.items() if all(name != known.name for known in fields)]
        own_id = any(field.name == "message_id" for field in missing)
        return [*(_in_role(field) for field in fields), *missing]

    options.setdefault("on_setattr", attrs.setters.NO_OP)
    made = attrs.define(cls, field_transformer=with_standard_fields, **options)
    if own_id:
        setattr(made, "message_id", MadeWhenRead(made.__dict__["message_id"]))  # noqa: B010
    return made


def _in_role(field: Attribute[Any]) -> Attribute[Any]:
    """A field as its class defined it, and, if it has the name of a standard field, in that role."""
    if field.name not in STANDARD:
        return field
    field = field.evolve(eq=False, order=False, hash=None)
    if field.name == "priority" and field.validator is not _in_range:
        checks = [_in_range] if field.validator is None else [field.validator, _in_range]
        field = field.evolve(validator=attrs.validators.and_(*checks), metadata=PRIORITY | dict(field.metadata))
    return field


# ---- dataclasses


def _is_dataclass(cls: type) -> bool:
    return "__dataclass_fields__" in cls.__dict__


def _reads_as_dataclass(cls: type) -> bool:
    """Whether it is a dataclass, extends one, or has a body written like one."""
    written = any(isinstance(value, dataclasses.Field) for value in vars(cls).values())
    return written or dataclasses.is_dataclass(cls)


def _rebuilt(cls: type[T]) -> type[T]:
    """A dataclass as an attrs class."""
    if not _is_dataclass(cls):
        cls = dataclasses.dataclass(cls)
    fields = {field.name: _as_attrs_field(field) for field in dataclasses.fields(cast("Any", cls))}
    options = _as_attrs_options(cls)
    _refuse_init_vars(cls)
    _strip_generated(cls)
    if getattr(cls, "__post_init__", Message.__post_init__) is not Message.__post_init__:
        setattr(cls, "__attrs_post_init__", _call_post_init)  # noqa: B010
    return _define(cls, these=fields, **options)


def _call_post_init(self: Any) -> None:
    self.__post_init__()


def _as_attrs_field(field: dataclasses.Field[Any]) -> Any:
    default: Any = attrs.NOTHING
    if field.default is not dataclasses.MISSING:
        default = field.default
    elif field.default_factory is not dataclasses.MISSING:
        default = attrs.Factory(field.default_factory)
    return attrs.field(
        default=default,
        init=field.init,
        repr=field.repr,
        eq=field.compare,
        hash=field.hash,
        kw_only=field.kw_only is True,
        metadata=dict(field.metadata),
    )


def _as_attrs_options(cls: type) -> dict[str, Any]:
    """What the dataclass was told to have. What its own body defines is found and kept by attrs."""
    told = getattr(cls, "__dataclass_params__")  # noqa: B009  # in no stub
    return {
        "init": None if told.init else False,
        "repr": None if told.repr else False,
        "eq": None if told.eq else False,
        "order": told.order,
        "unsafe_hash": True if told.unsafe_hash else None,
        "frozen": told.frozen,
    }


def _refuse_init_vars(cls: type) -> None:
    known = {field.name for field in dataclasses.fields(cast("Any", cls))}
    for name, field in cls.__dict__["__dataclass_fields__"].items():
        if name not in known and "InitVar" in str(field.type):
            raise TypeError(
                f"{cls.__qualname__}.{name} is an InitVar, which a message has no use for: make it a field, or "
                "compute what depends on it before the message is made"
            )


def _strip_generated(cls: type) -> None:
    """Take out what the dataclass decorator put in, so that attrs does not take it for the author's own."""
    for name, value in list(vars(cls).items()):
        code = getattr(inspect.unwrap(value), "__code__", None) if callable(value) else None
        if code is not None and (
            code.co_qualname.startswith("__create_fn__.") or code.co_filename == dataclasses.__file__
        ):
            delattr(cls, name)
    for name in ("__dataclass_fields__", "__dataclass_params__", "__match_args__", "__hash__"):
        if name in vars(cls):
            delattr(cls, name)


# ---- the standard fields


@message
class Message:
    """The fields of every ring message, for those who want type checkers to see them.

    ``@message`` adds the same fields to any class; a decorator cannot tell a type checker so, a base can::

        @message
        class Add(Message):
            a: float
            b: float

    Attributes:
        message_id: Unique; made when it is first read.
        priority: 0 to 255; larger is delivered sooner.
        correlation_id: The `message_id` of the request that this message answers.
    """

    message_id: UUID = attrs.field(default=NOT_MADE_YET, kw_only=True, eq=False, repr=False)
    priority: int = attrs.field(
        default=DEFAULT_PRIORITY, kw_only=True, eq=False, validator=_in_range, metadata=PRIORITY
    )
    correlation_id: UUID | None = attrs.field(default=None, kw_only=True, eq=False)

    def __post_init__(self) -> None:
        """Called by dataclasses, which a message is not: `message` makes an attrs class of one.

        Raises:
            TypeError: always.
        """
        raise TypeError(_not_a_message(type(self)))

    def with_correlation(self, correlation_id: UUID | None) -> Self:
        """The same message, its `message_id` included, with another ``correlation_id``."""
        made: Self = attrs.evolve(cast("Any", self), correlation_id=correlation_id)
        return made

    def reply(self, kind: Callable[..., R], /, *args: Any, **fields: Any) -> R:
        """A reply to this message: ``request.reply(Result, 15)`` is ``Result(15, correlation_id=request.message_id)``.

        Args:
            kind: The reply's class.
            *args: Its fields.
            **fields: Its fields by name.
        """
        return kind(*args, **fields, correlation_id=self.message_id)


setattr(Message, "message_id", MadeWhenRead(Message.__dict__["message_id"]))  # noqa: B010  # checkers see a field
STANDARD.update(attrs.fields_dict(attrs.resolve_types(cast("Any", Message))))
