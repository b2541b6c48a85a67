"""Launching by name: who knows a kernel, for how long, and what if two have one name."""

from __future__ import annotations

import gc
import threading
from typing import Any

import anyio
import pytest

from rookery import ring
from rookery.ring import AmbiguousKernel, KernelState, RingKernelRuntime, UnknownKernel

from .support import Ping

SOURCE = """
from rookery import ring

@ring.ring_kernel(kernel_id={kernel_id!r})
async def {name}(ctx):
    await ctx.send({answer!r})
"""


def namespace(kernel_id: str, *, name: str = "kernel", answer: str = "", module: str = "somewhere") -> dict[str, Any]:
    """What a module that defines a kernel would be."""
    scope: dict[str, Any] = {"__name__": module}
    exec(SOURCE.format(kernel_id=kernel_id, name=name, answer=answer), scope)
    return scope


async def answer_of(kernel_id: str) -> str:
    """Launch by name alone, and hear what it says."""
    async with RingKernelRuntime() as runtime:
        await runtime.launch(kernel_id)
        return await runtime.receive(kernel_id)


async def test_a_decorated_kernel_is_launched_by_its_name() -> None:
    """From any runtime, and from the next one too."""
    scope = namespace("known", answer="here")
    assert await answer_of("known") == await answer_of("known") == "here"
    del scope


def test_a_name_is_known_on_every_loop_and_in_every_thread() -> None:
    """It was defined in this thread, before any loop ran."""
    scope = namespace("everywhere", answer="here")
    answers: list[str] = []

    def other_thread(backend: str) -> None:
        answers.append(anyio.run(answer_of, "everywhere", backend=backend))

    threads = [threading.Thread(target=other_thread, args=(backend,)) for backend in ("trio", "asyncio")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == ["here", "here"]
    del scope


async def test_an_unregistered_kernel_is_not_found_by_name() -> None:
    """``auto_register=False`` keeps it to whoever has the function."""

    @ring.ring_kernel(kernel_id="private", auto_register=False)
    async def private(ctx: ring.KernelContext[Any, Any]) -> None: ...

    async with RingKernelRuntime() as runtime:
        with pytest.raises(UnknownKernel, match=r"no kernel is registered as 'private'.*launch\('private', function"):
            await runtime.launch("private")
        await runtime.launch("private", private)


async def test_a_typing_error_is_met_with_the_name_that_was_meant() -> None:
    """Among those that are registered."""
    scope = namespace("calculator")
    async with RingKernelRuntime() as runtime:
        with pytest.raises(UnknownKernel, match="did you mean 'calculator'"):
            await runtime.launch("calcualtor")
    del scope


async def test_two_kernels_of_one_name_are_refused_where_it_is_ambiguous() -> None:
    """Defining both harms nobody; a launch by the name alone names both, and one with the function works."""
    first = namespace("twice", name="one", answer="first")
    second = namespace("twice", name="other", answer="second")
    async with RingKernelRuntime() as runtime:
        with pytest.raises(AmbiguousKernel, match=r"somewhere\.one .*and somewhere\.other .*launch\('twice', function"):
            await runtime.launch("twice")
        assert runtime.get_kernel_state("twice") is KernelState.CREATED
        await runtime.launch("twice", second["other"])
        assert await runtime.receive("twice") == "second"
    del first


async def test_the_same_function_defined_again_replaces_its_former_self() -> None:
    """As when a module is reloaded, or a notebook's cell is run twice."""
    first, second = namespace("again", answer="old"), namespace("again", answer="new")
    assert await answer_of("again") == "new"
    del first, second


async def test_kernels_go_with_the_namespace_that_defines_them() -> None:
    """Nothing keeps them but that, whatever became of the runtimes that ran them."""
    scope = namespace("passing", answer="here")
    assert await answer_of("passing") == "here"
    del scope
    gc.collect()
    async with RingKernelRuntime() as runtime:
        with pytest.raises(UnknownKernel):
            await runtime.launch("passing")


async def test_kernels_defined_in_a_loop_are_all_known() -> None:
    """A registration does not depend on somebody keeping the function."""
    for number in range(3):

        @ring.ring_kernel(kernel_id=f"worker_{number}", input_type=Ping)
        async def worker(ctx: ring.KernelContext[Ping, Any]) -> None: ...

    async with RingKernelRuntime() as runtime:
        for number in range(3):
            await runtime.launch(f"worker_{number}")
