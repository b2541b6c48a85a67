"""The calculator that everybody writes first, as it is written elsewhere, and our own example."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from uuid import UUID, uuid4

import pytest

from rookery.ring import KernelContext, RingKernelRuntime, message, ring_kernel

EXAMPLE = Path(__file__).parents[2] / "examples" / "ring_calculator.py"


@message
@dataclass
class Request:
    a: float = 0.0
    b: float = 0.0
    operation: Literal["add", "sub", "mul", "div"] = "add"
    message_id: UUID = field(default_factory=uuid4)
    priority: int = 128
    correlation_id: UUID | None = None


@message
@dataclass
class Response:
    result: float = 0.0
    success: bool = True
    error: str | None = None
    message_id: UUID = field(default_factory=uuid4)
    priority: int = 128
    correlation_id: UUID | None = None


@ring_kernel(kernel_id="calculator", input_type=Request, output_type=Response, queue_size=1000)
async def calculator(ctx: KernelContext[Request, Response]) -> None:
    """Answers every request, with an error where there is no result."""
    while not ctx.should_terminate:
        if not ctx.is_active:
            await ctx.wait_active()
            continue
        try:
            request = await ctx.receive(timeout=0.1)
            try:
                response = Response(result=compute(request), correlation_id=request.message_id)
            except ZeroDivisionError:
                response = Response(success=False, error="Division by zero", correlation_id=request.message_id)
            await ctx.send(response)
        except asyncio.TimeoutError:  # noqa: UP041  # as people write it
            continue


def compute(request: Request) -> float:
    match request.operation:
        case "add":
            return request.a + request.b
        case "sub":
            return request.a - request.b
        case "mul":
            return request.a * request.b
        case "div":
            return request.a / request.b


CASES: list[tuple[Request, Response]] = [
    (Request(10, 5, "add"), Response(15)),
    (Request(10, 5, "sub"), Response(5)),
    (Request(10, 5, "mul"), Response(50)),
    (Request(10, 5, "div"), Response(2)),
    (Request(10, 0, "div"), Response(0, success=False, error="Division by zero")),
]


async def test_it_answers_through_its_queues() -> None:
    """Five requests, five correlated replies, five messages processed, no crash."""
    async with RingKernelRuntime(enable_telemetry=True) as runtime:
        await runtime.launch("calculator")
        await runtime.activate("calculator")
        for request, expected in CASES:
            await runtime.send("calculator", request)
            response = await runtime.receive("calculator", timeout=5.0)
            assert response == expected
            assert response.correlation_id == request.message_id
        telemetry = runtime.get_telemetry("calculator")
        assert telemetry is not None
        assert (telemetry.messages_processed, telemetry.error_count) == (5, 0)


async def test_it_answers_its_callers() -> None:
    """The same by ``send_and_receive``."""
    async with RingKernelRuntime() as runtime, runtime.kernel_scope("calculator"):
        for request, expected in CASES:
            assert await runtime.send_and_receive("calculator", request, timeout=5.0) == expected
        telemetry = runtime.get_telemetry("calculator")
        assert telemetry is not None
        assert telemetry.messages_processed == 5


@pytest.mark.parametrize("options", [[], ["--loop", "asyncio"]], ids=["trio", "asyncio"])
def test_the_example_runs(options: list[str]) -> None:
    """It prints five results, and that it has processed five messages."""
    command = [sys.executable, "-W", "error", EXAMPLE, *options]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    *results, measured = done.stdout.splitlines()
    assert results == [
        "10 add 5 = 15",
        "10 sub 5 = 5",
        "10 mul 5 = 50",
        "10 div 5 = 2.0",
        "10 div 0 = division by zero",
    ]
    assert measured.startswith("5 messages")
