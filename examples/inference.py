"""An actor that recognises handwritten digits on the device, asked by one, 8 and 64 callers at once.

It compares each image with all that it knows, the nearest one wins, and it takes as many images as are waiting to
the device together: `python examples/inference.py`, or with the path of a picture to be drawn.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# scikit-learn says nothing of its types, and those of matplotlib's keyword arguments are incomplete.

import sys
import time
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
import trio
from matplotlib.figure import Figure
from rich import box
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits

from rookery import ActorRef, Request, child, gpu, message, open_system

CALLERS = (1, 8, 64)
KNOWN = 1200
PIXELS = 64
PICTURE = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).with_name("out") / "inference.png")
SOURCE = """
kernel void nearest(
    global const float *images, global const float *known, global const int *labels, global int *digits, int m, int n)
{
    int i = get_global_id(0);
    if (i >= n)
        return;
    float least = INFINITY;
    for (int j = 0; j < m; j++) {
        float distance = 0;
        for (int k = 0; k < 64; k++) {
            float apart = images[i * 64 + k] - known[j * 64 + k];
            distance += apart * apart;
        }
        if (distance < least) {
            least = distance;
            digits[i] = labels[j];
        }
    }
}
"""


@message
class Recognise(Request[np.int32]):
    """Which digit is this?"""

    image: npt.NDArray[np.float32]


@gpu.batched(max_items=64, max_delay=0, shape=(PIXELS,))
async def recogniser(
    device: gpu.Device,
    batch: gpu.Batch[Recognise],
    nearest: gpu.Kernel,
    known: gpu.UnifiedBuffer,
    labels: gpu.UnifiedBuffer,
) -> gpu.UnifiedBuffer:
    """One launch for all images that are waiting."""
    digits = await device.empty(batch.capacity, np.int32)
    nearest.submit(batch.rows, known, labels, digits, KNOWN, batch.n, size=batch.n, local=8)
    return digits


@attrs.frozen(eq=False)
class Run:
    """What so many callers saw.

    Attributes:
        callers: How many there were.
        right: The share of images that were recognised.
        per_second: Images in a second.
        latencies: Milliseconds that each answer took.
        images_each: How many images a launch had, on average.
    """

    callers: int
    right: float
    per_second: float
    latencies: npt.NDArray[np.float64]
    images_each: float


async def ask_all(ref: ActorRef[Recognise], device: gpu.Device, callers: int, digits: Any) -> Run:
    """Have all images recognised that are not known, by that many callers at once."""
    images, labels = digits.data[KNOWN:].astype(np.float32), digits.target[KNOWN:]
    latencies, right = np.zeros(len(images)), 0
    waiting = iter(range(len(images)))  # one cursor for all callers

    async def call() -> None:
        nonlocal right
        for number in waiting:
            began = time.perf_counter()
            digit = await ref.ask(Recognise(images[number]))
            latencies[number] = 1e3 * (time.perf_counter() - began)
            right += int(digit == labels[number])

    launched, began = device.statistics().launched, time.perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(callers):
            nursery.start_soon(call)
    seconds, launches = time.perf_counter() - began, device.statistics().launched - launched
    return Run(callers, right / len(images), len(images) / seconds, latencies, len(images) / launches)


def draw(runs: list[Run]) -> None:
    """How much more is done when more ask at once, and what it costs each of them."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    speed, latency = figure.subplots(1, 2)
    names = [str(run.callers) for run in runs]
    bars = speed.bar(names, [run.per_second for run in runs], color="#2563eb", width=0.6)
    speed.bar_label(bars, [f"{run.images_each:.1f} images\na launch" for run in runs], padding=3)
    speed.set_title("Images in a second", loc="left")
    speed.margins(y=0.2)
    for run in runs:
        ordered = np.sort(run.latencies)
        latency.plot(ordered, np.linspace(0, 100, len(ordered)), label=f"{run.callers}")
    latency.set_title("% answered within so many ms", loc="left")
    latency.set_xscale("log")
    latency.legend(title="callers", frameon=False)
    speed.set_xlabel("callers")
    latency.set_xlabel("ms")
    for axes in (speed, latency):
        axes.spines[["top", "right"]].set_visible(False)
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(PICTURE, dpi=110)


async def main() -> None:
    digits: Any = load_digits()
    async with gpu.open_device() as device, open_system() as system:
        nearest = await device.kernel(SOURCE, "nearest")
        known = await device.upload(digits.data[:KNOWN].astype(np.float32))
        labels = await device.upload(digits.target[:KNOWN].astype(np.int32))
        ref = await system.spawn(child(recogniser, device, nearest, known, labels))
        await ref.ask(Recognise(digits.data[0].astype(np.float32)))  # the first launch compiles
        runs = [await ask_all(ref, device, callers, digits) for callers in CALLERS]

    table = Table("callers", "recognised", "images a second", "median", "p99", "images a launch", box=box.SIMPLE)
    for run in runs:
        median, p99 = np.percentile(run.latencies, [50, 99])
        speed, latency = f"{run.per_second:,.0f}", (f"{median:.2f} ms", f"{p99:.2f} ms")
        table.add_row(str(run.callers), f"{run.right:.1%}", speed, *latency, f"{run.images_each:.1f}")
    Console().print(table)
    assert all(run.right > 0.95 for run in runs)
    draw(runs)
    print(f"{len(digits.data) - KNOWN} images each, compared with {KNOWN:,} on {device.info.name}")
    print(f"picture: {PICTURE}")


if __name__ == "__main__":
    trio.run(main)
