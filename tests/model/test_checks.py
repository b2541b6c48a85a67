"""What users pass is checked in one place, with one wording."""

from __future__ import annotations

import re
from collections.abc import Generator
from functools import partial
from types import coroutine
from typing import Any

import pytest

from rookery import Request, message
from rookery._model.checks import (
    Accepted,
    called_already,
    check_count,
    check_function,
    check_message,
    check_number,
    is_async_function,
    not_a_request,
)
from rookery._model.methods import public_methods


@message
class Ask(Request[int]):
    text: str = "?"


@message
class Told:
    text: str = "!"


class Calculator:
    async def add(self, a: float) -> None: ...


(ADD,) = public_methods(Calculator)


async def asynchronous(*args: int) -> None: ...


def plain() -> None: ...


class Called:
    async def __call__(self) -> None: ...


class CalledPlainly:
    def __call__(self) -> None: ...


@pytest.mark.parametrize("accepted", [None, (int,), (str, int)])
def test_a_message_of_an_accepted_type_passes(accepted: Accepted) -> None:
    """Without an annotation every type does."""
    check_message(1, accepted, "/actor")


@pytest.mark.parametrize(
    ("accepted", "expected"),
    [
        (
            (str, bytes),
            "/actor accepts str | bytes, not int (3): send one of those, or annotate its behaviour with "
            "`Context[str | bytes | int]`",
        ),
        (
            (),
            "/actor accepts no messages, not int (3): annotate its behaviour with `Context[int]`, or give its class a "
            "public coroutine method; what `task(fn)` has adopted takes no messages at all, and of a supervisor its "
            "children do: `sup[spec].send(...)`",
        ),
        (
            (ADD.message, str),
            "/actor accepts Calculator.add | str, not int (3): call one of those: `await ref.call(Calculator.add, ...)`",
        ),
    ],
)
def test_a_message_of_another_type_is_refused(accepted: Accepted, expected: str) -> None:
    """The error says what it is, what would be accepted, and what to write."""
    with pytest.raises(TypeError) as raised:
        check_message(3, accepted, "/actor")
    assert str(raised.value) == expected


@pytest.mark.parametrize(
    ("given", "second", "why"),
    [
        (3, Ask(), "the arguments are the other way round"),
        (Told(), Ask(), "the arguments are the other way round"),
        (Told(), 3, "only requests are answered; to make it one, write `class Told(Request[...])`"),
        (3, None, "pass the object that was received"),
        (Told, None, "pass the object that was received"),
    ],
)
def test_what_is_no_request_cannot_be_answered(given: Any, second: Any, why: str) -> None:
    """The error says what was probably meant."""
    error = not_a_request("ctx.reply(request, value)", given, second)
    assert str(error) == f"ctx.reply(request, value): the first argument is a `Request`, got {given!r}: {why}"


@pytest.mark.parametrize("value", ["1", None, True, 1j])
def test_what_is_no_number_is_a_type_error(value: object) -> None:
    """A bool is none, nor is a complex number; it is not even asked whether it fits."""
    with pytest.raises(TypeError, match=re.escape(f"what is wanted, got {value!r}")):
        check_number("what is wanted", value, lambda number: pytest.fail("asked"))


@pytest.mark.parametrize("value", [1, 2, 100])
def test_a_count_may_be_the_least(value: int) -> None:
    """Or larger."""
    check_count("what is wanted", value, least=1)


@pytest.mark.parametrize("value", [0, -1, 1.0, 2.5, float("inf"), float("nan")])
def test_a_count_is_whole_and_not_less_than_the_least(value: float) -> None:
    """A float is none, not even a whole one."""
    with pytest.raises(ValueError, match=re.escape(f"what is wanted, got {value!r}")):
        check_count("what is wanted", value, least=1)


def test_the_least_is_named() -> None:
    """Two numbers side by side would be taken for one another."""
    with pytest.raises(TypeError, match="positional"):
        check_count("what is wanted", 1, 1)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("fn", "is_async"),
    [
        (asynchronous, True),
        (partial(asynchronous, 1), True),
        (partial(partial(asynchronous, 1), 2), True),
        (Called(), True),
        (Called().__call__, True),
        (partial(Called()), True),
        (plain, False),
        (partial(plain), False),
        (CalledPlainly(), False),
        (Called, False),
        (3, False),
        (None, False),
    ],
)
def test_an_async_function_is_known_by_what_it_calls(fn: object, is_async: bool) -> None:
    """Through partials, and whatever makes it callable."""
    assert is_async_function(fn) is is_async


def test_what_can_be_called_may_be_a_function() -> None:
    """Whether it is async, its result tells."""
    for fn in (asynchronous, plain, Called(), partial(plain), Called):
        check_function("ctx.start_soon", fn)


def test_a_function_that_was_called_already_is_refused() -> None:
    """With what to write, and nobody hears that its coroutine was never awaited: it is closed."""
    called = asynchronous(1)
    with pytest.raises(
        TypeError,
        match=r"^ctx\.start_soon\(\) takes an async function, got <coroutine object .*>: do not call it: "
        r"pass the function and its arguments, `ctx\.start_soon\(asynchronous, \.\.\.\)`$",
    ):
        check_function("ctx.start_soon", called)
    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
        called.send(None)


def test_what_cannot_be_called_is_refused() -> None:
    """With what to write."""
    with pytest.raises(
        TypeError,
        match=r"^ctx\.start_soon\(\) takes an async function, got 3: write `ctx\.start_soon\(fn, \*args\)`$",
    ):
        check_function("ctx.start_soon", 3)


def test_a_coroutine_that_has_started_is_left_to_whoever_runs_it() -> None:
    """Only one that nobody has begun to await is closed."""

    @coroutine
    def pause() -> Generator[None, None, None]:
        yield

    async def begun() -> None:
        await pause()

    running = begun()
    running.send(None)
    error = called_already(running, "what was wanted", "what to write")
    assert str(error).endswith("do not call it: what to write")
    with pytest.raises(StopIteration):
        running.send(None)
