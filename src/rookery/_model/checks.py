"""What users pass, checked where it is passed."""

from __future__ import annotations

import inspect
import math
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeGuard

import attrs

from .messages import DEFAULT_PRIORITY, Request
from .methods import MethodRequest
from .wording import brief

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

LOWEST: Final = 0
HIGHEST: Final = 255

NUMBERS: Final = (int, float)  # once: `int | float` makes a new object each time, and every timeout is checked

Accepted: TypeAlias = tuple[type, ...] | None
"""Classes whose instances an actor accepts; None for anything."""


def check_priority(priority: int) -> None:
    """Refuse what is not a priority.

    Raises:
        ValueError: for anything but an integer from 0 to 255, naming the value and the range.
    """
    if not isinstance(priority, int) or isinstance(priority, bool) or not LOWEST <= priority <= HIGHEST:
        raise ValueError(
            f"priority must be an integer from {LOWEST} to {HIGHEST} (larger is more urgent, "
            f"{DEFAULT_PRIORITY} is the default), got {brief(priority)}"
        )


def check_timeout(timeout: float) -> None:
    """Refuse what is not a time to wait. What is over already is: a remaining time may well be negative.

    Raises:
        TypeError: for anything but a number.
        ValueError: for NaN, which no clock ever reaches.
    """
    if not _is_number(timeout):
        raise TypeError(f"timeout is a number of seconds, or None to wait for ever, got {brief(timeout)}")
    if math.isnan(timeout):
        raise ValueError(f"timeout is a number of seconds, or None to wait for ever, got {timeout!r}")


def check_number(wanted: str, value: object, fits: Callable[[float], bool]) -> None:
    """Refuse what is not a number, or not a fitting one.

    Args:
        wanted: What it is called and has to be; the message begins with it.
        value: What was given.
        fits: Whether a number is in range; of NaN it has to say no.

    Raises:
        TypeError: for anything but a number; a bool is none.
        ValueError: for a number that does not fit.
    """
    if not _is_number(value):
        raise TypeError(f"{wanted}, got {brief(value)}")
    if not fits(value):
        raise ValueError(f"{wanted}, got {brief(value)}")


def check_count(wanted: str, value: object, *, least: int) -> None:
    """Refuse what is not a whole number, or too small a one; otherwise as `check_number`."""
    check_number(wanted, value, lambda number: isinstance(number, int) and number >= least)


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, NUMBERS) and not isinstance(value, bool)


def check_message(message: object, accepted: Accepted, actor: str) -> None:
    """Refuse a message of the wrong type.

    Raises:
        TypeError: naming the message's type, the actor and what it accepts.
    """
    if accepted is not None and not isinstance(message, accepted):
        given = type(message).__name__
        names = " | ".join(cls.__name__ for cls in accepted)
        wanted = f"send one of those, or annotate its behaviour with `Context[{names} | {given}]`"
        if not accepted:
            names = "no messages"
            wanted = (
                f"annotate its behaviour with `Context[{given}]`, or give its class a public coroutine method; what "
                "`task(fn)` has adopted takes no messages at all, and of a supervisor its children do: `sup[spec].send(...)`"
            )
        elif issubclass(accepted[0], MethodRequest):
            wanted = f"call one of those: `await ref.call({accepted[0].__name__}, ...)`"
        raise TypeError(f"{actor} accepts {names}, not {given} ({brief(message)}): {wanted}")


def not_a_request(call: str, given: object, second: object = None) -> TypeError:
    """The error for answering what is no `Request`.

    Args:
        call: How it is called right: ``ctx.reply(request, value)``.
        given: What stood in the request's place.
        second: What was passed behind it.
    """
    if isinstance(second, Request):
        why = "the arguments are the other way round"
    elif attrs.has(type(given)):
        why = f"only requests are answered; to make it one, write `class {type(given).__name__}(Request[...])`"
    else:
        why = "pass the object that was received"
    return TypeError(f"{call}: the first argument is a `Request`, got {brief(given)}: {why}")


def check_function(call: str, fn: object) -> None:
    """Refuse what cannot be called as an async function; whether it is one, its result may have to tell.

    Args:
        call: Who takes it: ``ctx.start_soon``.
        fn: What was given. A coroutine that has not started is closed: nobody will await it.

    Raises:
        TypeError: for a coroutine, and for what is not callable.
    """
    if inspect.iscoroutine(fn):
        instead = f"pass the function and its arguments, `{call}({fn.__name__}, ...)`"
        raise called_already(fn, f"{call}() takes an async function", instead)
    if not callable(fn):
        raise TypeError(f"{call}() takes an async function, got {brief(fn)}: write `{call}(fn, *args)`")


def called_already(coroutine: Coroutine[Any, Any, Any], wanted: str, instead: str) -> TypeError:
    """The error for a coroutine where a function belongs; one that has not started is closed."""
    if inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED:
        coroutine.close()
    return TypeError(f"{wanted}, got {brief(coroutine)}: do not call it: {instead}")


def is_async_function(fn: object) -> bool:
    """Whether calling it only makes a coroutine: an async function or method, or an object that is called as one."""
    while isinstance(fn, partial):
        fn = fn.func
    return inspect.iscoroutinefunction(fn) or (callable(fn) and inspect.iscoroutinefunction(type(fn).__call__))
