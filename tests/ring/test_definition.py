"""What the decorator accepts, checks and keeps."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from rookery import MailboxFull, ring
from rookery.ring._definition import KernelDefinition
from rookery.ring._runtime import RingKernelRuntime

from .support import Ping, Pong, silent


async def nothing(ctx: ring.KernelContext[Any, Any]) -> None:
    """Ends at once."""


async def nobody_decorated(ctx: ring.KernelContext[Any, Any]) -> None:
    """A function like any other."""


def decorated(function: Any = nothing, **options: Any) -> Any:
    return ring.ring_kernel(**{"kernel_id": "k", "auto_register": False, **options})(function)


def test_the_function_itself_is_returned() -> None:
    """It can be called and tested as the plain function it is."""
    assert decorated() is nothing


async def test_a_kernel_without_an_id_has_its_functions_name() -> None:
    """With parentheses, without them, and inside of a partial."""

    async def plain(ctx: ring.KernelContext[Any, Any]) -> None:
        await ctx.send(Pong(7))

    assert ring.ring_kernel(plain) is plain
    async with RingKernelRuntime() as runtime:
        await runtime.launch("plain")
        assert await runtime.receive("plain") == Pong(7)
    for function in (ring.ring_kernel(queue_size=3)(nothing), decorated(functools.partial(nothing), kernel_id=None)):
        meta = ring.get_ring_kernel_meta(function)
        assert meta is not None
        assert meta.kernel_id == "nothing"


def test_an_id_is_given_by_its_name() -> None:
    """A string in its place is no function."""
    with pytest.raises(TypeError, match=r"write `@ring_kernel\(kernel_id='k'\)`"):
        ring.ring_kernel("k")  # type: ignore[type-var]


@pytest.mark.parametrize("function", [lambda ctx: None, Ping, 3])
def test_a_kernel_without_parentheses_is_an_async_function(function: Any) -> None:
    """Anything else is refused there and then."""
    with pytest.raises(TypeError, match="async function that takes its context"):
        ring.ring_kernel(function)


@pytest.mark.parametrize("name", ["block", "reject", "drop_oldest"])
def test_strategies_go_by_their_lower_case_names_too(name: str) -> None:
    """The string is the strategy."""
    noted = KernelDefinition(kernel_id="k", function=nothing, backpressure=name)
    assert noted.backpressure is ring.BackpressureStrategy[name.upper()]


BY_ID = ring.StateFile("state/{kernel_id}")


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"backpressure": "BLOCK"}, ValueError, "BackpressureStrategy.BLOCK or 'block'.*got 'BLOCK'"),
        ({"backpressure": None}, ValueError, "got None"),
        ({"queue_size": 0}, ValueError, "from 1 to 1,000,000, got 0"),
        ({"queue_size": 1.5}, ValueError, "got 1.5"),
        ({"queue_size": True}, ValueError, "got True"),
        ({"queue_size": 1_000_001}, ValueError, "to 1,000,000, got 1000001"),
        ({"queue_size": None}, ValueError, "^queue_size is .*got None"),
        ({"input_queue_size": 0}, ValueError, "^input_queue_size is .*from 1 to 1,000,000, got 0"),
        ({"output_queue_size": "3"}, ValueError, "^output_queue_size is .*got '3'"),
        ({"restart": "transient"}, TypeError, "Restart.TRANSIENT, .*got 'transient'"),
        ({"backoff": 0.1}, TypeError, r"got 0.1: write `Backoff\(0.1\)`"),
        ({"kernel_id": "k" * 256}, ValueError, "1 to 255 characters"),
        ({"kernel_id": ""}, ValueError, "1 to 255 characters.*got ''"),
        ({"kernel_id": "a/b"}, ValueError, "without '/'.*got 'a/b'"),
        ({"kernel_id": "."}, ValueError, "not '.' or '..', got '.'"),
        ({"kernel_id": ".."}, ValueError, "not '.' or '..', got '..'"),
        ({"kernel_id": "a\\b"}, ValueError, "without '/', backslashes"),
        ({"kernel_id": "a\0"}, ValueError, "control characters.*got 'a.x00'"),
        ({"kernel_id": "a\x7f"}, ValueError, "control characters.*got 'a.x7f'"),
        ({"kernel_id": "a\ud800"}, ValueError, "control characters.*got 'a.ud800'"),
        ({"kernel_id": "a.Previous", "state": BY_ID}, ValueError, "does not end in .previous, .partial, .lock"),
        ({"kernel_id": "ä" * 124, "state": BY_ID}, ValueError, "up to 246 bytes long.*got 248 bytes"),
        ({"kernel_id": 3}, ValueError, "got 3"),
        ({"input_type": "Ping"}, TypeError, "write `input_type=Request`"),
        ({"output_type": list[int]}, TypeError, "output_type is a class"),
    ],
)
def test_options_are_checked_at_decoration(options: dict[str, Any], error: type[Exception], says: str) -> None:
    """A wrong one is refused there and then, and the error states the range."""
    with pytest.raises(error, match=says):
        decorated(**options)


@pytest.mark.parametrize("function", [lambda ctx: None, print, Ping, 3])
def test_a_kernel_is_an_async_function(function: Any) -> None:
    """Anything else is refused at decoration."""
    with pytest.raises(TypeError, match="async function that takes its context"):
        decorated(function)


async def test_whatever_awaits_may_be_launched() -> None:
    """Partials, bound methods and callable objects included."""

    class Kernels:
        async def method(self, ctx: ring.KernelContext[Any, Any]) -> None: ...

        async def __call__(self, ctx: ring.KernelContext[Any, Any]) -> None: ...

    async def with_more(ctx: ring.KernelContext[Any, Any], extra: int) -> None: ...

    async with RingKernelRuntime() as runtime:
        for number, function in enumerate([Kernels().method, Kernels(), functools.partial(with_more, extra=1)]):
            await runtime.launch(f"k{number}", function)


async def test_a_function_that_needs_more_than_a_context_is_refused_at_launch() -> None:
    """A method that was not bound, say."""

    async def with_more(ctx: ring.KernelContext[Any, Any], extra: int) -> None: ...

    async with RingKernelRuntime() as runtime:
        with pytest.raises(TypeError, match=r"with_more.*cannot be called with a context alone"):
            await runtime.launch("k", with_more)
        assert runtime.kernel_ids == []


async def test_a_launch_keeps_the_decorators_options_and_may_override_them() -> None:
    """Also under another id than the decorator's."""
    kernel = decorated(functools.partial(silent), input_type=Ping, queue_size=1, backpressure="reject")
    async with RingKernelRuntime() as runtime:
        await runtime.launch("other", kernel)
        with pytest.raises(TypeError, match="Ping"):
            await runtime.send("other", Pong())
        await runtime.launch("wider", kernel, input_type=Ping | Pong, queue_size=2)
        await runtime.send("wider", Pong())
        await runtime.send("wider", Ping())


async def test_an_option_that_does_not_exist_is_refused_at_launch() -> None:
    """With the ones that do."""
    async with RingKernelRuntime() as runtime:
        with pytest.raises(TypeError, match=r"no option queue_siez; .*queue_size"):
            await runtime.launch("k", nothing, queue_siez=3)
        with pytest.raises(ValueError, match="from 1 to 1,000,000, got -1"):
            await runtime.launch("k", nothing, queue_size=-1)


@ring.ring_kernel(kernel_id="k", queue_size=7, auto_register=False)
async def somebody_decorated(ctx: ring.KernelContext[Any, Any]) -> None:
    """A ring kernel."""


@functools.wraps(somebody_decorated)
async def around(ctx: ring.KernelContext[Any, Any]) -> None:
    """What another decorator may have made of it."""
    await somebody_decorated(ctx)


@pytest.mark.parametrize(
    "passed", [somebody_decorated, around, functools.partial(around)], ids=["itself", "wrapped", "partial"]
)
def test_a_ring_kernel_is_recognised_however_it_is_wrapped(passed: Any) -> None:
    """And so are its options."""
    assert ring.is_ring_kernel(passed)
    meta = ring.get_ring_kernel_meta(passed)
    assert isinstance(meta, ring.KernelDefinition)
    assert (meta.kernel_id, meta.queue_size) == ("k", 7)


def test_a_bound_method_is_a_ring_kernel_if_its_function_is() -> None:
    """The object's own ``__call__``, too."""

    class Kernels:
        @ring.ring_kernel(kernel_id="method", auto_register=False)
        async def method(self, ctx: ring.KernelContext[Any, Any]) -> None: ...

        @ring.ring_kernel(kernel_id="call", auto_register=False)
        async def __call__(self, ctx: ring.KernelContext[Any, Any]) -> None: ...

    for passed, kernel_id in ((Kernels().method, "method"), (Kernels(), "call")):
        meta = ring.get_ring_kernel_meta(passed)
        assert meta is not None
        assert meta.kernel_id == kernel_id


@pytest.mark.parametrize("passed", [nobody_decorated, print, 3, None, functools.partial(print)])
def test_what_was_not_decorated_is_no_ring_kernel(passed: Any) -> None:
    """And has nothing to tell."""
    assert not ring.is_ring_kernel(passed)
    assert ring.get_ring_kernel_meta(passed) is None


async def test_the_two_queues_may_differ_in_size() -> None:
    """Each by an option of its own, and at a launch as in the decorator."""
    async with RingKernelRuntime() as runtime:
        kernel = decorated(functools.partial(silent), queue_size=5, input_queue_size=1, backpressure="reject")
        await runtime.launch("k", kernel)
        await runtime.send("k", Ping())
        with pytest.raises(MailboxFull, match=r"input queue of the kernel 'k' is full \(1 messages"):
            await runtime.send("k", Ping())

        async def talks(ctx: ring.KernelContext[Any, Any]) -> None:
            await ctx.send(Pong(1))
            with pytest.raises(MailboxFull, match=r"output queue of the kernel 'l' is full \(1 messages"):
                await ctx.send(Pong(2))

        await runtime.launch("l", talks, queue_size=5, output_queue_size=1, backpressure="reject")
        assert await runtime.receive("l") == Pong(1)


def test_auto_register_is_a_boolean() -> None:
    """A string would not be what it seems."""
    with pytest.raises(TypeError, match="auto_register is True or False, got 'no': write"):
        ring.ring_kernel(kernel_id="k", auto_register="no")  # type: ignore[call-overload]
