"""How a child is run: the options of `ChildSpec.options`, checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

import attrs

from .checks import check_count, check_number
from .overflow import Overflow
from .restart import Backoff, Restart
from .wording import brief

if TYPE_CHECKING:
    from collections.abc import Callable

    from attrs import Attribute


def _seconds(_: object, attribute: Attribute[float], value: float | None) -> None:
    wanted = f"{attribute.name} is in seconds, 0 or more (math.inf: no limit)"
    if value is None:  # meant as a value: no limit
        raise ValueError(f"{wanted}, got None: write `{attribute.name}=math.inf`")
    check_number(wanted, value, lambda seconds: seconds >= 0)


def _room(_: object, attribute: Attribute[int], value: int) -> None:
    check_count(f"{attribute.name} is the whole number of messages a mailbox holds, 1 or more", value, least=1)


def _name(_: object, __: Attribute[str | None], value: str | None) -> None:
    if value is not None and (not isinstance(value, str) or not value or "/" in value):
        raise ValueError(
            f"a name is a string without '/', because paths are made of names, got {brief(value)}: "
            "leave it out to name the child after its behaviour"
        )


def _one_of(enum: type[Overflow | Restart]) -> Callable[[object, Attribute[Any], object], None]:
    def check(_: object, attribute: Attribute[Any], value: object) -> None:
        if not isinstance(value, enum):
            choices = ", ".join(f"{enum.__name__}.{member.name}" for member in enum)
            raise TypeError(f"{attribute.name} is one of {choices}, got {brief(value)}")

    return check


def _backoff(_: object, __: Attribute[Backoff | None], value: Backoff | None) -> None:
    if not (value is None or isinstance(value, Backoff)):
        raise TypeError(f"backoff is None or a Backoff, got {brief(value)}: write `Backoff(0.1)`")


@final
@attrs.frozen(kw_only=True)
class Options:
    """Everything about a child but what it runs; see `ChildSpec.options` for what each means."""

    name: str | None = attrs.field(default=None, validator=_name)
    restart: Restart = attrs.field(default=Restart.TRANSIENT, validator=_one_of(Restart))
    start_timeout: float = attrs.field(default=30.0, validator=_seconds)
    stop_timeout: float = attrs.field(default=5.0, validator=_seconds)
    capacity: int = attrs.field(default=1000, validator=_room)
    overflow: Overflow = attrs.field(default=Overflow.BLOCK, validator=_one_of(Overflow))
    backoff: Backoff | None = attrs.field(default=None, validator=_backoff)
