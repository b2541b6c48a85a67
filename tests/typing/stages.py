"""Batched stages: what they accept, what they are started with, and what their functions are given and return."""

from __future__ import annotations

from typing import Any, assert_type

import numpy as np
import numpy.typing as npt

from rookery import ActorRef, ChildSpec, Context, Request, System, child, gpu, message


@message
class Classify(Request[npt.NDArray[np.float32]]):
    image: npt.NDArray[np.float32]


@message
class Learn(Request[None]):
    image: npt.NDArray[np.float32]
    label: int


@gpu.batched(max_items=8, shape=(784,), dtype=np.float32)
async def classify(
    device: gpu.Device, batch: gpu.Batch[Classify | Learn], kernel: gpu.Kernel, *, classes: int = 10
) -> gpu.UnifiedBuffer:
    assert_type(batch.rows, gpu.UnifiedBuffer)
    assert_type(batch.messages[0], Classify | Learn)
    assert_type(batch.n, int)
    assert_type(batch.capacity, int)
    return batch.rows


@gpu.batched()
async def on_the_host(device: gpu.Device, batch: gpu.Batch[Classify]) -> npt.NDArray[np.float32]:
    return await batch.rows.read()


@gpu.batched()
async def learn(device: gpu.Device, batch: gpu.Batch[Learn]) -> None: ...


@gpu.batched(max_items=8)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
async def no_rows(device: gpu.Device, batch: gpu.Batch[Classify]) -> int:
    return 1


@gpu.batched(max_items=8)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
def not_async(device: gpu.Device, batch: gpu.Batch[Classify]) -> gpu.UnifiedBuffer:
    return batch.rows


@gpu.batched(max_items=8)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
async def with_a_context(ctx: Context[Classify], device: gpu.Device) -> None: ...


async def spawning(system: System, device: gpu.Device, kernel: gpu.Kernel, image: npt.NDArray[np.float32]) -> None:
    assert_type(child(classify, device, kernel, classes=3), ChildSpec[Classify | Learn])
    child(classify, device)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    child(classify, kernel, device)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    stage = await system.spawn(classify, device, kernel)
    assert_type(stage, ActorRef[Classify | Learn])
    assert_type(await stage.ask(Classify(image)), npt.NDArray[np.float32])
    assert_type(await stage.ask(Learn(image, 1)), None)
    await stage.send("image")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(await system.spawn(on_the_host, device), ActorRef[Classify])
    assert_type(child(learn, device), ChildSpec[Learn])


def anything(fn: Any) -> None:
    gpu.batched(max_delay=0)(fn)
