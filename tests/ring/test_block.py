"""The runtime's block: inside of it everything works, and outside of it everything says so."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import anyio
import pytest

from rookery import Intensity, Strategy, WrongLoop
from rookery.ring import RingKernelRuntime, RuntimeNotOpen

from .support import Ping, silent

CALLS: dict[str, Callable[[RingKernelRuntime], Any]] = {
    "activate": lambda runtime: runtime.activate("k"),
    "active_kernels": lambda runtime: runtime.active_kernels,
    "dead_letters": lambda runtime: runtime.dead_letters,
    "deactivate": lambda runtime: runtime.deactivate("k"),
    "get_all_telemetry": lambda runtime: runtime.get_all_telemetry(),
    "get_kernel_state": lambda runtime: runtime.get_kernel_state("k"),
    "get_summary": lambda runtime: runtime.get_summary(),
    "get_persistence": lambda runtime: runtime.get_persistence("echo"),
    "get_telemetry": lambda runtime: runtime.get_telemetry("k"),
    "kernel_ids": lambda runtime: runtime.kernel_ids,
    "kernel_scope": lambda runtime: runtime.kernel_scope("k", silent),
    "launch": lambda runtime: runtime.launch("k", silent),
    "reactivate": lambda runtime: runtime.reactivate("k"),
    "receive": lambda runtime: runtime.receive("k"),
    "receive_batch": lambda runtime: runtime.receive_batch("k", 3),
    "ref": lambda runtime: runtime.ref("k"),
    "reset_telemetry": lambda runtime: runtime.reset_telemetry(),
    "send": lambda runtime: runtime.send("k", Ping()),
    "send_and_receive": lambda runtime: runtime.send_and_receive("k", Ping()),
    "send_batch": lambda runtime: runtime.send_batch("k", [Ping()]),
    "supervise": lambda runtime: runtime.supervise("group"),
    "terminate": lambda runtime: runtime.terminate("k"),
    "terminate_all": lambda runtime: runtime.terminate_all(),
}
"""How each public method and property is used."""

PUBLIC = [name for name in dir(RingKernelRuntime) if not name.startswith("_")]


async def use(runtime: RingKernelRuntime, name: str) -> None:
    """Use the runtime so, and await what has to be."""
    result = CALLS[name](runtime)
    if isinstance(result, AbstractAsyncContextManager):
        async with result:
            pass
    elif isinstance(result, Awaitable):
        await result


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_method_is_documented(name: str) -> None:
    """And those that take an id say what they raise."""
    method = inspect.getattr_static(RingKernelRuntime, name)
    docstring = inspect.getdoc(method)
    assert docstring
    if "kernel_id" in str(inspect.signature(method) if callable(method) else ""):
        assert "Raises:" in docstring
        assert "UnknownKernel" in docstring


@pytest.mark.parametrize("name", PUBLIC)
async def test_outside_of_its_block_a_runtime_shows_the_block(name: str) -> None:
    """Before it and behind it, whatever is used."""
    runtime = RingKernelRuntime()
    for _ in range(2):
        with pytest.raises(RuntimeNotOpen, match=r"async with RingKernelRuntime\(\) as runtime:"):
            await use(runtime, name)
        async with runtime:
            await runtime.launch("k", silent)


@pytest.mark.parametrize("name", PUBLIC)
async def test_in_another_thread_a_runtime_says_how_to_get_there(name: str) -> None:
    """Nothing is touched from there."""
    async with RingKernelRuntime() as runtime:
        await runtime.launch("k", silent)

        def elsewhere() -> None:
            result: Any = CALLS[name](runtime)
            coroutine = result.__aenter__() if isinstance(result, AbstractAsyncContextManager) else result
            if isinstance(coroutine, Awaitable):
                coroutine.send(None)  # type: ignore[attr-defined]

        with pytest.raises(WrongLoop, match=r"from_thread\.run\(runtime\.send"):
            await anyio.to_thread.run_sync(elsewhere)
        assert runtime.kernel_ids == ["k"]


async def test_a_runtime_is_opened_once_at_a_time() -> None:
    """Opening it again inside of its block is refused and harms nothing."""
    async with RingKernelRuntime() as runtime:
        await runtime.launch("k", silent)
        with pytest.raises(RuntimeNotOpen, match="open already"):
            await runtime.__aenter__()
        assert runtime.kernel_ids == ["k"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"strategy": "one_for_all"}, "strategy is one of Strategy.ONE_FOR_ONE, .*got 'one_for_all'"),
        ({"intensity": 3}, r"got 3: write `Intensity\(3, per=5.0\)`"),
    ],
)
def test_a_policy_is_checked_where_it_is_given(options: Any, says: str) -> None:
    """Not when the block is entered."""
    with pytest.raises(TypeError, match=says):
        RingKernelRuntime(**options)
    RingKernelRuntime(strategy=Strategy.REST_FOR_ONE, intensity=Intensity(0, per=1))
