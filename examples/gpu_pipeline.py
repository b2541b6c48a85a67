"""A pipeline on the device: sounds go in, their loudest moments come out, in order for each microphone.

Steps crash now and then, and nothing is lost: `python examples/gpu_pipeline.py`.
"""

import logging
from collections.abc import Iterator
from itertools import count

import numpy as np
import numpy.typing as npt
import trio

from rookery import Intensity, Request, gpu, message, open_system

SOUNDS = 200
MICROPHONES = 4
LENGTH = 1 << 14
SOURCE = """
kernel void power(global const float *sound, global float *out, int n)
{
    int i = get_global_id(0);
    if (i < n)
        out[i] = sound[i] * sound[i];
}

kernel void smooth(global const float *x, global float *y, int n, int width)
{
    int i = get_global_id(0);
    if (i >= n)
        return;
    float sum = 0;
    for (int k = max(i - width, 0); k <= min(i + width, n - 1); k++)
        sum += x[k];
    y[i] = sum;
}
"""


@message
class Sound(Request[int]):
    number: int
    samples: npt.NDArray[np.float32]


async def upload(sound: Sound, device: gpu.Device) -> tuple[Sound, gpu.UnifiedBuffer]:
    return sound, await device.upload(sound.samples)


async def compute(
    item: tuple[Sound, gpu.UnifiedBuffer],
    device: gpu.Device,
    power: gpu.Kernel,
    smooth: gpu.Kernel,
    calls: Iterator[int],
) -> tuple[Sound, gpu.UnifiedBuffer]:
    """Launch both kernels; the buffers are on the device already, and stay there."""
    sound, samples = item
    powers, smoothed = await device.empty(LENGTH), await device.empty(LENGTH)
    power.submit(samples, powers, LENGTH, local=64)
    smooth.submit(powers, smoothed, LENGTH, 20, local=64)
    if next(calls) % 50 == 49:
        raise RuntimeError("on purpose: this sound is begun again, and what was taken for it is released")
    return sound, smoothed


async def fetch(item: tuple[Sound, gpu.UnifiedBuffer], heard: dict[int, list[int]]) -> int:
    sound, smoothed = item
    loudest = int((await smoothed.read()).argmax())
    heard[sound.number % MICROPHONES].append(sound.number)
    return loudest


async def main() -> None:
    heard: dict[int, list[int]] = {microphone: [] for microphone in range(MICROPHONES)}
    rng = np.random.default_rng(0)
    peaks = rng.integers(100, LENGTH - 100, SOUNDS)
    async with gpu.open_device() as device, open_system() as system:
        program = await device.build(SOURCE)
        power, smooth = program.kernel("power"), program.kernel("smooth")
        line = gpu.pipeline(
            gpu.step(upload, device),
            gpu.step(compute, device, power, smooth, count()).options(workers=2, attempts=3),
            gpu.step(fetch, heard),
            key=lambda sound: sound.number % MICROPHONES,
            max_items=8,
            memory={device: 3 * LENGTH * 4},
            intensity=Intensity(10, per=1.0),
        )
        sounds = await system.spawn(line, name="sounds")

        async def microphone(which: int) -> None:
            """Send one sound after the other, not waiting for answers; the last answer tells that all are there."""
            numbers = range(which, SOUNDS, MICROPHONES)
            for number in numbers:
                samples = (rng.random(LENGTH) / 10).astype(np.float32)
                samples[peaks[number]] = 5
                if number != numbers[-1]:
                    await sounds.send(Sound(number, samples))
                else:
                    assert abs(await sounds.ask(Sound(number, samples)) - peaks[number]) <= 20

        async with trio.open_nursery() as nursery:
            for which in range(MICROPHONES):
                nursery.start_soon(microphone, which)
        assert heard == {which: list(range(which, SOUNDS, MICROPHONES)) for which in range(MICROPHONES)}
        assert device.pool.statistics().active_bytes == 0
        print(f"{SOUNDS} sounds of {MICROPHONES} microphones, each in its order, on {device.info.name}")
        print(f"at most {device.pool.statistics().peak_bytes:,} bytes of the device at a time, and none now")


if __name__ == "__main__":
    logging.disable(logging.ERROR)  # or the crashes on purpose would be logged with their tracebacks
    trio.run(main)
