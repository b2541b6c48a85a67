"""Pipelines: each step takes what the one before returns, and a pipeline accepts what its first step takes."""

from __future__ import annotations

from typing import Any, assert_type

import numpy as np
import numpy.typing as npt

from rookery import ActorRef, ChildSpec, Request, System, child, gpu, message


@message
class Frame(Request[str]):
    camera: int
    pixels: npt.NDArray[np.float32]


async def upload(frame: Frame, device: gpu.Device) -> gpu.UnifiedBuffer:
    return await device.upload(frame.pixels)


async def blur(x: gpu.UnifiedBuffer, kernel: gpu.Kernel, *, radius: int = 1) -> gpu.UnifiedBuffer:
    return x


async def name(x: gpu.UnifiedBuffer) -> str:
    return ""


def not_async(x: gpu.UnifiedBuffer) -> str:
    return ""


async def declaring(system: System, device: gpu.Device, kernel: gpu.Kernel, pixels: npt.NDArray[np.float32]) -> None:
    first, second, third = gpu.step(upload, device), gpu.step(blur, kernel, radius=3), gpu.step(name)
    assert_type(first, gpu.Step[Frame, gpu.UnifiedBuffer])
    assert_type(second.options(workers=2, attempts=3), gpu.Step[gpu.UnifiedBuffer, gpu.UnifiedBuffer])
    gpu.step(upload)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    gpu.step(blur, kernel, radius="3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    gpu.step(not_async)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(gpu.pipeline(first), gpu.Pipeline[Frame])
    assert_type(gpu.pipeline(first, third), gpu.Pipeline[Frame])
    line = gpu.pipeline(first, second, third, key=lambda frame: frame.camera, max_items=8, memory={device: 1 << 20})
    assert_type(line, gpu.Pipeline[Frame])
    assert_type(gpu.pipeline(first, second, second, third), gpu.Pipeline[Frame])
    assert_type(gpu.pipeline(first, second, second, second, second, third), gpu.Pipeline[Frame])
    gpu.pipeline(first, third, second)  # type: ignore[misc]  # pyright: ignore[reportArgumentType]
    gpu.pipeline(first, second, key=lambda frame: frame.microphone)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownLambdaType, reportUnknownMemberType]
    assert_type(child(line), ChildSpec[Frame])
    frames = await system.spawn(line, name="frames")
    assert_type(frames, ActorRef[Frame])
    assert_type(await frames.ask(Frame(1, pixels)), str)
    await frames.send("frame")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def anything(fn: Any) -> None:
    gpu.pipeline(gpu.step(fn))
