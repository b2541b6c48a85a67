"""Bad input gets one error that shows the value, the reason and the line to write instead."""

from __future__ import annotations

import functools
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import ExitStack
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from rookery import ActorStopped, Context, Reason, Request, child, message, open_priority_channel, open_system
from support import settle


@message
class Double(Request[int]):
    number: int


@message
class Note:
    text: str


async def patient(ctx: Context[Any]) -> None:
    """Receives, and does nothing with it."""
    async for _ in ctx:
        pass


async def numbers(ctx: Context[int]) -> None:
    async for _ in ctx:
        pass


async def with_size(ctx: Context[Any], *, size: int = 1) -> None: ...


def not_async(ctx: Context[Any]) -> None: ...


async def generator(ctx: Context[Any]) -> AsyncIterator[int]:
    yield 1


async def in_an_actor(body: Callable[[Context[Any]], Awaitable[object] | None]) -> None:
    """Run the body of a test as an actor's behaviour; what it raises fails the test."""
    failures: list[BaseException] = []

    async def behaviour(ctx: Context[Any]) -> None:
        try:
            result = body(ctx)
            if result is not None:
                await result
        except Exception as error:  # noqa: BLE001
            failures.append(error)

    async with open_system() as system:
        ref = await system.spawn(behaviour)
        await ref.wait_stopped()
    for failure in failures:
        raise failure


# ---- answering


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda ctx: ctx.reply("x", 1), r"ctx\.reply\(request, value\): .* got 'x': pass the object that was received"),
        (lambda ctx: ctx.reply(1, Double(2)), r"reply\(request, value\): .* got 1: .* the other way round"),
        (lambda ctx: ctx.reply(Note("x"), 1), r"got Note\(text='x'\): .* write `class Note\(Request\[\.\.\.\]\)`"),
        (lambda ctx: ctx.fail("x", ValueError()), r"ctx\.fail\(request, error\): .* got 'x'"),
        (lambda ctx: ctx.fail(ValueError(), Double(2)), r"write `ctx\.fail\(request, ValueError\(\.\.\.\)\)`"),
        (lambda ctx: ctx.forward("x", ctx.self), r"ctx\.forward\(request, ref\): .* got 'x'"),
        (lambda ctx: ctx.forward(ctx.self, Double(2)), r"forward\(request, ref\): .* the other way round"),
        (
            lambda ctx: ctx.forward(Double(2), "x"),
            r"second argument is another actor's reference, got 'x': .*`spec\.ref`",
        ),
        (lambda ctx: ctx.abandoned("x"), r"ctx\.abandoned\(request\): .* got 'x'"),
        (lambda ctx: ctx.within("x"), r"ctx\.within\(request\): .* got 'x'"),
    ],
    ids=[
        "reply a string",
        "reply swapped",
        "reply a note",
        "fail a string",
        "fail swapped",
        "forward a string",
        "forward swapped",
        "forward to a string",
        "abandoned",
        "within",
    ],
)
async def test_only_a_request_can_be_answered(call: Callable[[Context[Any]], object], expected: str) -> None:
    """Anything else in its place is an error that shows the right call."""

    def body(ctx: Context[Any]) -> None:
        with pytest.raises(TypeError, match=expected):
            call(ctx)

    await in_an_actor(body)


async def test_a_request_that_was_only_sent_may_be_looked_at_and_answered() -> None:
    """A `Request` is never bad input: answering one that nobody asked is discarded and counted."""

    async def behaviour(ctx: Context[Any]) -> None:
        request = await ctx.receive()
        assert ctx.abandoned(request)
        with ctx.within(request) as scope:
            assert scope.deadline == math.inf
        ctx.reply(request, 1)
        ctx.forward(Double(1), ctx.self)

    async with open_system() as system:
        ref = await system.spawn(behaviour)
        await ref.send(Double(1))
        await ref.wait_stopped()
        assert system.dead_letters.statistics().by_reason == {Reason.NOT_ASKED: 2}


async def test_what_was_asked_may_be_answered_late_though_it_is_not_declared_a_request() -> None:
    """Ring kernels are asked any message; an asker that left does not make its message bad input."""

    async def behaviour(ctx: Context[Any]) -> None:
        note = await ctx.receive()
        ctx.reply(note, 1)
        await ctx.receive()
        ctx.reply(note, 2)
        assert ctx.abandoned(note)

    async with open_system() as system:
        ref = await system.spawn(behaviour)
        assert await ref.ask(Note("x")) == 1  # type: ignore[arg-type]
        with pytest.raises(ActorStopped):
            await ref.ask(Double(1))
        assert system.dead_letters.statistics().by_reason == {Reason.NOT_ASKED: 1}


# ---- tasks


async def note_down(log: list[object], item: object) -> None:
    await checkpoint()
    log.append(item)


class AsyncCallable:
    async def __call__(self, log: list[object], item: object) -> None:
        await note_down(log, item)

    async def method(self, log: list[object], item: object) -> None:
        await note_down(log, item)


@pytest.mark.parametrize(
    "fn",
    [
        note_down,
        AsyncCallable(),
        AsyncCallable().method,
        functools.partial(note_down),
        functools.partial(AsyncCallable()),
        lambda log, item: note_down(log, item=item),
    ],
    ids=["function", "object", "method", "partial", "partial of an object", "lambda that returns a coroutine"],
)
async def test_whatever_is_awaited_can_be_a_task(fn: Callable[..., Awaitable[object]]) -> None:
    """Functions, methods, callable objects, partials, and plain callables that return an awaitable."""
    log: list[object] = []

    async def body(ctx: Context[Any]) -> None:
        ctx.start_soon(fn, log, 1)
        await settle()
        assert log == [1]

    await in_an_actor(body)


@pytest.mark.parametrize(
    ("fn", "expected"),
    [
        (lambda: None, r"an async function, got <function .*lambda.*, which returned None: .*to_thread\.run_sync"),
        (print, r"an async function, got <built-in function print>, which returned None"),
        (3, r"an async function, got 3: write `ctx\.start_soon\(fn, \*args\)`"),
    ],
    ids=["lambda", "built-in", "number"],
)
async def test_what_is_not_awaited_cannot_be_a_task(fn: Any, expected: str) -> None:
    """It is an error at the call, not a crash somewhat later."""

    def body(ctx: Context[Any]) -> None:
        with pytest.raises(TypeError, match=expected):
            ctx.start_soon(fn)

    await in_an_actor(body)


async def test_a_task_is_given_as_a_function_and_its_arguments() -> None:
    """A coroutine is refused and closed, so that no second warning says that nobody awaited it."""

    def body(ctx: Context[Any]) -> None:
        with pytest.raises(
            TypeError, match=r"the function and its arguments, `ctx\.start_soon\(note_down, \.\.\.\)`"
        ) as got:
            ctx.start_soon(note_down([], 1))  # type: ignore[arg-type]
        assert "do not call it" in str(got.value)

    await in_an_actor(body)


async def test_a_coroutine_that_comes_too_late_is_closed() -> None:
    """When the actor has ended, what a plain callable returned is not left for a warning."""
    contexts: list[Context[Any]] = []
    async with open_system() as system:

        async def behaviour(ctx: Context[Any]) -> None:
            contexts.append(ctx)

        await (await system.spawn(behaviour)).wait_stopped()
        with pytest.raises(ActorStopped):
            contexts[0].start_soon(lambda: note_down([], 1))
        with pytest.raises(ActorStopped):
            contexts[0].start_soon(Later)  # nothing to close: no coroutine yet


class Later:
    """Awaitable, and no coroutine."""

    def __await__(self) -> Generator[Any, Any, None]:
        return checkpoint().__await__()


# ---- systems


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"name": 3}, r"a system's name is a string, got 3: write `open_system\(name='simulation'\)`"),
        ({"intensity": 3}, r"intensity is an Intensity, got 3: write `Intensity\(3, per=5\.0\)`"),
    ],
    ids=["name", "intensity"],
)
def test_a_system_refuses_options_that_are_none(options: dict[str, Any], expected: str) -> None:
    """Where it is opened, before anything runs."""
    with pytest.raises(TypeError, match=expected):
        open_system(**options)


async def test_a_system_is_an_asynchronous_block() -> None:
    """`with` and `await` say what to write instead."""
    block: Any = open_system()
    with pytest.raises(TypeError, match=r"write `async with open_system\(\) as system:`"), block:
        pass
    with ExitStack() as stack:
        stack.push(block)  # which looks at the exit only
        with pytest.raises(TypeError, match=r"write `async with open_system\(\) as system:`"):
            stack.close()
    with pytest.raises(TypeError, match=r"write `async with open_system\(\) as system:`"):
        await block


async def test_a_block_is_entered_once() -> None:
    """Its system runs once; another needs another block."""
    block = open_system()
    async with block:
        pass
    with pytest.raises(RuntimeError, match=r"a system runs once: write `async with open_system\(\)"):
        async with block:
            pass


async def test_actors_are_looked_up_by_strings() -> None:
    """A reference need not be looked up, and a path object is no path."""
    async with open_system() as system:
        with pytest.raises(TypeError, match=r"by its name or path, got 3: write `system\.lookup\('/name'\)`"):
            system.lookup(3)  # type: ignore[arg-type]


# ---- spawning


@pytest.mark.parametrize(
    ("behaviour", "expected"),
    [
        (not_async, r"got <function not_async at .*, which is not async: write `async def behaviour"),
        (lambda ctx: None, r"got <function <lambda> at .*, which is not async: write `async def behaviour"),
        (
            Note,
            r"got <class .*Note'>, a class: derive it from `Actor`, pass an instance whose `__call__` is async, or write `async def",
        ),
        (
            generator,
            r"got <function generator at .*, which has a `yield` in it .*: take that out, and write `async def",
        ),
        ("name", r"got 'name': write `async def behaviour"),
    ],
    ids=["function", "lambda", "class", "generator", "string"],
)
def test_what_is_no_behaviour_is_told_why(behaviour: Any, expected: str) -> None:
    """With what it is and what to write."""
    with pytest.raises(TypeError, match=expected):
        child(behaviour)


async def test_a_behaviour_is_not_called_when_it_is_spawned() -> None:
    """The coroutine is closed, and the error shows the call as it should be."""
    async with open_system() as system:
        with pytest.raises(TypeError, match=r"do not call it: write `spawn\(patient, \.\.\.\)`"):
            await system.spawn(patient(None))  # type: ignore[call-overload,arg-type]
    with pytest.raises(TypeError, match=r"do not call it: write `child\(patient, \.\.\.\)`"):
        child(patient(None))  # type: ignore[call-arg,arg-type]


async def test_arguments_by_name_go_through_child() -> None:
    """`spawn` hands on positional ones only; what could be an option is shown as one, too."""
    async with open_system() as system:
        with pytest.raises(TypeError, match=r"got size=3: .* write `spawn\(child\(with_size, size=3\)\)`$"):
            await system.spawn(with_size, size=3)  # type: ignore[call-overload]
        with pytest.raises(TypeError, match=r"`spawn\(child\(patient\)\.options\(capacity=3\)\)`"):
            await system.spawn(patient, capacity=3)  # type: ignore[call-overload]


# ---- messages, batches, channels


@pytest.mark.parametrize("content", ["x" * 1_000_000, b"x" * 1_000_000], ids=["str", "bytes"])
async def test_an_error_about_a_large_message_is_small(content: object) -> None:
    """The type and a piece of the value are enough."""
    async with open_system() as system:
        ref = await system.spawn(numbers)
        with pytest.raises(TypeError, match=r"/numbers accepts int, not (str|bytes) \(b?'xxx.*\.\.\..*xxx") as raised:
            await ref.send(content)  # type: ignore[arg-type]
    assert len(str(raised.value)) < 1000


@pytest.mark.parametrize(
    ("size", "error"),
    [
        ("3", TypeError),
        (True, TypeError),
        (None, TypeError),
        (2.5, ValueError),
        (math.nan, ValueError),
        (0, ValueError),
    ],
    ids=str,
)
async def test_the_size_of_a_batch_is_a_count(size: Any, error: type[Exception]) -> None:
    """Anything else is refused before a message is taken."""

    async def body(ctx: Context[Any]) -> None:
        with pytest.raises(error, match=rf"takes a whole number: max_size must be 1 or more, got {size!r}"):
            await ctx.receive_batch(size)

    await in_an_actor(body)


async def test_a_closed_channel_says_which_end_is_closed() -> None:
    """The sender's own end, or that of the receiver."""
    send, receive = open_priority_channel[int](1)
    send.close()
    with pytest.raises(anyio.ClosedResourceError, match="the sending end of this channel is closed"):
        send.send_nowait(1)
    send, receive = open_priority_channel[int](1)
    receive.close()
    with pytest.raises(anyio.ClosedResourceError, match="the receiving end of this channel is closed"):
        await send.send(1)
    with pytest.raises(anyio.ClosedResourceError, match="the receiving end of this channel is closed"):
        await receive.receive()


async def test_the_end_that_is_closed_last_changes_nothing_for_the_other() -> None:
    """A closed receiver stays closed when the sender closes too, and each end is told of its own."""
    for order in ([0, 1], [1, 0]):
        ends = open_priority_channel[int](1)
        for end in order:
            ends[end].close()
        with pytest.raises(anyio.ClosedResourceError, match="the sending end"):
            ends[0].send_nowait(1)
        with pytest.raises(anyio.ClosedResourceError, match="the receiving end"):
            ends[1].receive_nowait()


@pytest.mark.parametrize(("capacity", "error"), [(0, ValueError), ("x", TypeError), (True, TypeError)], ids=str)
async def test_a_listener_has_room_for_one_letter_at_least(capacity: Any, error: type[Exception]) -> None:
    """The capacity of `listen` is checked as any."""
    async with open_system() as system:
        with pytest.raises(error, match=rf"1 or more, got {capacity!r}"):
            async with system.dead_letters.listen(capacity=capacity):
                pass
