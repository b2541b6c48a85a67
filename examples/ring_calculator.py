"""A ring kernel that calculates: `python examples/ring_calculator.py`, or with `--loop asyncio`."""

import argparse
from typing import Literal

import anyio

from rookery import ring


@ring.message
class Calculate(ring.Message):
    operation: Literal["add", "sub", "mul", "div"]
    a: float
    b: float


@ring.message
class Result(ring.Message):
    value: float | None = None
    error: str | None = None


def compute(request: Calculate) -> float:
    match request:
        case Calculate("add", a, b):
            return a + b
        case Calculate("sub", a, b):
            return a - b
        case Calculate("mul", a, b):
            return a * b
        case Calculate(_, a, b):
            return a / b


@ring.ring_kernel(kernel_id="calculator", input_type=Calculate, output_type=Result)
async def calculator(ctx: ring.KernelContext[Calculate, Result]) -> None:
    while not ctx.should_terminate:
        if not ctx.is_active:
            await ctx.wait_active()
            continue
        try:
            request = await ctx.receive(timeout=0.1)
        except TimeoutError:
            continue
        try:
            result = Result(compute(request), correlation_id=request.message_id)
        except ZeroDivisionError:
            result = Result(error="division by zero", correlation_id=request.message_id)
        await ctx.send(result)


async def main() -> None:
    async with ring.RingKernelRuntime() as runtime:
        await runtime.launch("calculator")
        await runtime.activate("calculator")

        for request in [
            Calculate("add", 10, 5),
            Calculate("sub", 10, 5),
            Calculate("mul", 10, 5),
            Calculate("div", 10, 5),
            Calculate("div", 10, 0),
        ]:
            result = await runtime.send_and_receive("calculator", request, timeout=1)
            print(f"{request.a} {request.operation} {request.b} = {result.error or result.value}")

        telemetry = runtime.get_telemetry("calculator")
        assert telemetry is not None
        assert telemetry.messages_processed == 5
        print(f"{telemetry.messages_processed} messages, p99 {telemetry.p99_latency * 1e6:.0f} µs each")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loop", choices=["trio", "asyncio"], default="trio", help="the event loop to run on")
    anyio.run(main, backend=parser.parse_args().loop)
