"""How a child is run, and how a supervisor: the options of `ChildSpec.options` and of `supervisor`, checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

import attrs

from .checks import check_count, check_number
from .overflow import Overflow
from .restart import Backoff, Intensity, Restart
from .strategy import AutoShutdown, Strategy
from .wording import brief

if TYPE_CHECKING:
    from collections.abc import Callable
    from enum import Enum

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


def _one_of(enum: type[Enum]) -> Callable[[object, Attribute[Any], object], None]:
    def check(_: object, attribute: Attribute[Any], value: object) -> None:
        if not isinstance(value, enum):
            choices = ", ".join(f"{enum.__name__}.{member.name}" for member in enum)
            raise TypeError(f"{attribute.name} is one of {choices}, got {brief(value)}")

    return check


def _backoff(_: object, __: Attribute[Backoff | None], value: Backoff | None) -> None:
    if not (value is None or isinstance(value, Backoff)):
        raise TypeError(f"backoff is None or a Backoff, got {brief(value)}: write `Backoff(0.1)`")


def _bool(_: object, attribute: Attribute[bool], value: object) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{attribute.name} is True or False, got {brief(value)}: write `{attribute.name}=True`")


def _intensity(_: object, __: Attribute[Intensity], value: object) -> None:
    if not isinstance(value, Intensity):
        raise TypeError(f"intensity is an Intensity, got {brief(value)}: write `Intensity(3, per=5.0)`")


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
    significant: bool = attrs.field(default=False, validator=_bool)


@final
@attrs.frozen(kw_only=True)
class SupervisorOptions:
    """How children are supervised; see `supervisor` for what each means."""

    strategy: Strategy = attrs.field(default=Strategy.ONE_FOR_ONE, validator=_one_of(Strategy))
    intensity: Intensity = attrs.field(default=Intensity(3, per=5.0), validator=_intensity)
    auto_shutdown: AutoShutdown = attrs.field(default=AutoShutdown.NEVER, validator=_one_of(AutoShutdown))
    concurrent_stop: bool = attrs.field(default=False, validator=_bool)
