"""Whatever crashes, is slow or leaves: a pipeline's results are those of the plain function, in order for each key."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from typing import Any

import anyio
import attrs
import numpy as np
import numpy.typing as npt
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st

from rookery import Intensity, Refused, Request, child, gpu, message, open_system
from support import settle

from .support import DEVICE, without_shared_memory

SIZE = 8
ITEM = SIZE * 4
KEYS = 2
ATTEMPTS = 3
STEPS = ("upload", "double", "add", "fetch", "note")
DOUBLE = """
kernel void twice(global const float *x, global float *y) { int i = get_global_id(0); y[i] = 2 * x[i]; }
kernel void add_one(global float *x) { x[get_global_id(0)] += 1; }
"""


@message
class Number(Request[Any]):
    number: int
    key: int


@message
class Computed:
    of: Number
    buffer: gpu.UnifiedBuffer


@attrs.frozen
class Deed:
    """What becomes of one message on its way."""

    key: int
    how: str
    crashes: dict[str, int]
    """How often each step crashes with it."""
    slow: dict[str, int]
    """How many passes of the loop each step takes longer."""
    refused_by: str | None


DEEDS = st.builds(
    Deed,
    key=st.integers(0, KEYS - 1),
    how=st.sampled_from(["send", "send", "ask", "ask", "ask and leave"]),
    # `add` changes its input in place, so it may crash with it only before it has.
    crashes=st.dictionaries(st.sampled_from(STEPS), st.integers(1, ATTEMPTS), max_size=2),
    slow=st.dictionaries(st.sampled_from(STEPS), st.integers(1, 8), max_size=3),
    refused_by=st.sampled_from([None, None, None, None, None, *STEPS]),
)


class Boom(Exception):
    pass


class Line:
    """The steps, and notes of what they did."""

    def __init__(self, deeds: list[Deed], device: gpu.Device, twice: gpu.Kernel, add_one: gpu.Kernel) -> None:
        self.deeds = deeds
        self.device, self.twice, self.add_one = device, twice, add_one
        self.admitted: list[Number] = []
        self.noted: list[tuple[Number, float]] = []
        self.crashed: Counter[tuple[str, int]] = Counter()

    def key(self, number: Number) -> int:
        self.admitted.append(number)
        return number.key

    async def happens(self, step: str, number: Number) -> None:
        deed = self.deeds[number.number]
        for _ in range(deed.slow.get(step, 0)):
            await checkpoint()
        if self.crashed[step, number.number] < deed.crashes.get(step, 0):
            self.crashed[step, number.number] += 1
            raise Boom
        if deed.refused_by == step:
            raise Refused(Boom(step))

    async def upload(self, number: Number) -> Computed:
        buffer = await self.device.upload(np.full(SIZE, number.number, np.float32))
        await self.happens("upload", number)
        return Computed(number, buffer)

    async def double(self, item: Computed) -> Computed:
        doubled = await self.device.empty(SIZE)
        self.twice.submit(item.buffer, doubled)
        await self.happens("double", item.of)
        return Computed(item.of, doubled)

    async def add(self, item: Computed) -> Computed:
        await self.happens("add", item.of)
        self.add_one.submit(item.buffer)
        return item

    async def fetch(self, item: Computed) -> tuple[Number, npt.NDArray[Any]]:
        async with self.device.pool.lease(1):
            await self.happens("fetch", item.of)
            return item.of, await item.buffer.read()

    async def note(self, item: tuple[Number, npt.NDArray[Any]]) -> float:
        number, array = item
        await self.happens("note", number)
        assert (array == array[0]).all()
        self.noted.append((number, float(array[0])))
        return float(array[0])


def outcome(number: int, deed: Deed) -> float | str:
    """What the plain function would say: a number, or what it fails with."""
    for step in STEPS:
        if deed.crashes.get(step, 0) >= ATTEMPTS:
            return "ActorCrashed"
        if deed.refused_by == step:
            return "Boom"
    return 2.0 * number + 1


@pytest.fixture(scope="module", autouse=True)
def not_logged() -> Iterator[None]:
    """Crashes on purpose need not be logged."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@settings(max_examples=20)
@given(
    deeds=st.lists(DEEDS, max_size=12),
    workers=st.lists(st.integers(1, 3), min_size=5, max_size=5),
    max_items=st.integers(1, 8),
    at_once=st.integers(1, 8),
    shared=st.booleans(),
)
async def test_the_results_are_those_of_the_plain_function(
    deeds: list[Deed], workers: list[int], max_items: int, at_once: int, shared: bool
) -> None:
    """The same ones, as often, and in order for each key; and every byte has come back."""
    most = 2 * ITEM + 4
    async with gpu.open_device(DEVICE, memory_limit=at_once * (most + most // 16)) as device:
        if not shared:
            without_shared_memory(device)
        program = await device.build(DOUBLE)
        line = Line(deeds, device, program.kernel("twice"), program.kernel("add_one"))
        steps = [
            gpu.step(getattr(line, name)).options(workers=count, attempts=ATTEMPTS)
            for name, count in zip(STEPS, workers, strict=True)
        ]
        plan: Any = gpu.pipeline
        pipeline = plan(
            *steps, key=line.key, max_items=max_items, memory={device: most}, intensity=Intensity(1000, per=1.0)
        )
        outcomes: dict[int, Any] = {}
        async with open_system() as system:
            ref = await system.spawn(child(pipeline).options(capacity=3))

            async def ask(number: Number, scope: anyio.CancelScope) -> None:
                with scope:
                    try:
                        outcomes[number.number] = await ref.ask(number)
                    except Exception as error:  # noqa: BLE001
                        outcomes[number.number] = type(error).__name__

            with anyio.fail_after(60):
                async with anyio.create_task_group() as tasks:
                    for index, deed in enumerate(deeds):
                        number = Number(index, deed.key)
                        if deed.how == "send":
                            await ref.send(number)
                            continue
                        scope = anyio.CancelScope()
                        tasks.start_soon(ask, number, scope)
                        if deed.how == "ask and leave":
                            await settle()
                            scope.cancel()
                await ref.stop(drain=True)
        expected = {number: outcome(number, deed) for number, deed in enumerate(deeds)}
        left = {number for number, deed in enumerate(deeds) if deed.how == "ask and leave"}
        asked = {number for number, deed in enumerate(deeds) if deed.how == "ask"}
        noted = [(number.number, value) for number, value in line.noted]
        assert {number: outcomes[number] for number in asked} == {number: expected[number] for number in asked}
        wanted = {(number, value) for number, value in expected.items() if not isinstance(value, str)}
        assert len(noted) == len(set(noted))
        assert {one for one in wanted if one[0] not in left} <= set(noted) <= wanted
        for key in range(KEYS):
            order = [number.number for number in line.admitted if number.key == key]
            assert [number for number, _ in noted if deeds[number].key == key] == [
                number for number in order if number in dict(noted)
            ]
        await device.synchronize()
        seen = device.pool.statistics()
        assert (seen.active_bytes, seen.in_flight_bytes, seen.waiting) == (0, 0, 0)
        assert seen.peak_bytes <= seen.limit_bytes
