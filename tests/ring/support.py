"""Messages and kernels that several test files use."""

from __future__ import annotations

from typing import Any

from rookery import ring


@ring.message
class Ping:
    number: int = 0


@ring.message
class Pong:
    number: int = 0


async def echo(ctx: ring.KernelContext[Ping, Pong]) -> None:
    """Answers each ping with its number, in the idiomatic loop."""
    while not ctx.should_terminate:
        if not ctx.is_active:
            await ctx.wait_active()
            continue
        try:
            ping = await ctx.receive(timeout=0.1)
        except TimeoutError:
            continue
        await ctx.send(Pong(ping.number, correlation_id=ping.message_id))


async def silent(ctx: ring.KernelContext[Any, Any]) -> None:
    """Receives everything and says nothing."""
    while True:
        await ctx.receive()


async def running(runtime: ring.RingKernelRuntime, kernel_id: str, function: Any, **options: Any) -> None:
    """Launch and activate."""
    await runtime.launch(kernel_id, function, **options)
    await runtime.activate(kernel_id)
