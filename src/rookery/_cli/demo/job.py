"""The demo from beginning to end."""

from __future__ import annotations

import logging
from collections import Counter
from contextlib import asynccontextmanager
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, final

import attrs
from rich.console import Console

from ... import child, gpu, open_system
from ..errors import Unusable
from ..loops import run_on
from .digits import read_digits
from .display import Work, display, log_shown_on
from .messages import Compute, Ledger
from .network import open_network
from .pipeline import LAUNCH, mathematician, read_images, read_lessons, reader, sink, stage
from .plan import Plan, draw_up
from .report import Outcome, rows, table
from .sabotage import Moment, Sabotage

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator

    from ... import ActorRef, System
    from .digits import Digits
    from .messages import Answer, Image, Lesson
    from .network import Network
    from .plan import Course

logger = logging.getLogger("rookery.demo")


def main(loop: str, selector: str | None, seed: int, epochs: int) -> int:
    """Run the demo and show what came out.

    Args:
        loop: One of `LOOPS`.
        selector: Which device; see `rookery.gpu.open_device`.
        seed: Of everything random.
        epochs: How often each image is learned from.

    Returns:
        0 if all checks hold, else 1.

    Raises:
        Unusable: if there is no such device.
        ImportError: if part of the ``demo`` extra is missing.
        KeyboardInterrupt: after Ctrl-C, when everything has come down.
    """
    console, plan = Console(highlight=False), Plan(seed=seed, epochs=epochs)
    try:
        with log_shown_on(console):
            outcome = run_on(loop, run, plan, read_digits(), selector, console)
    except gpu.NoDevice as error:
        raise Unusable(str(error)) from error
    shown = list(rows(outcome))
    console.print(table(shown, f"rookery demo on {loop}, seed {seed}"))
    failed = ", ".join(row.name for row in shown if row.passed is False)
    if failed:
        console.print(f"failed: {failed}", style="bold red")
    return 1 if failed else 0


async def run(
    plan: Plan, digits: Digits, selector: str | None, console: Console, sabotage: Sabotage | None = None
) -> Outcome:
    """Train and classify on the device, then in NumPy.

    Args:
        plan: How to train.
        digits: The images.
        selector: Which device; see `rookery.gpu.open_device`.
        console: Where to show how far it is.
        sabotage: What crashes, and when; by default the stage, when half of the answers are passed on.
    """
    course, ledger, reference_done = draw_up(plan, len(digits)), Ledger.of(len(digits)), Tally()
    sabotage = sabotage or Sabotage(Moment.ANSWERING, len(digits) // 2)
    async with open_device(selector) as device:
        network = await open_network(device, course)
        async with open_system(name="demo") as system:
            await system.spawn(child(display, console, works(course, network, ledger, reference_done)))
            pipeline = await Pipeline.start(system, network, ledger, sabotage)
            await pipeline.stream(partial(read_lessons, course, digits), window=1)
            messages, seconds = await pipeline.classify(digits)
            answers = await system.spawn(child(mathematician, digits, reference_done.add).options(stop_timeout=0))
            reference = await answers.ask(Compute(course))
        return Outcome(
            digits=digits,
            held_out=course.held_out,
            ledger=ledger,
            reference=reference,
            weights=(await network.first.read(), await network.second.read()),
            restarts=pipeline.restarts,
            messages=messages,
            seconds=seconds,
            device=f"{device.info.name} ({device.info.platform})",
            peak_bytes=device.pool.statistics().peak_bytes,
        )


@asynccontextmanager
async def open_device(selector: str | None) -> AsyncGenerator[gpu.Device]:
    """Open the device, and say when it has been opened and when it has been released."""
    device: gpu.Device | None = None
    try:
        async with gpu.open_device(selector) as device:
            logger.info("opened %s", device.info.name)
            yield device
    finally:
        if device is not None and device.closed:
            logger.info("released %s", device.info.name)


@final
@attrs.frozen(eq=False)
class Pipeline:
    """The running stage and sink, and the readers that feed them, one after another."""

    system: System
    stage: ActorRef[Lesson | Image]
    sink: ActorRef[Answer]
    ledger: Ledger
    sabotage: Sabotage
    restarts: Counter[str] = attrs.field(factory=Counter[str])
    """How often each actor was restarted, by its name; filled in when it has ended."""

    @classmethod
    async def start(cls, system: System, network: Network, ledger: Ledger, sabotage: Sabotage) -> Pipeline:
        """Spawn the sink and the stage before it: who is fed stops after who feeds."""
        sinking = await system.spawn(child(sink, ledger).options(capacity=4 * LAUNCH))
        staging = child(stage, network, sinking, sabotage).options(name="network", capacity=LAUNCH)
        return cls(system, await system.spawn(staging), sinking, ledger, sabotage)

    async def stream(self, read: Callable[[], Iterator[Lesson | Image]], window: int) -> None:
        """Have a reader stream what ``read`` yields, and wait until all of it is done."""
        spec = child(reader, read, self.stage, window, self.ledger, self.sabotage)
        # A reader holds nothing that needs care, so it is cancelled at once when the tree comes down.
        reading = await self.system.spawn(spec.options(stop_timeout=0))
        await reading.wait_stopped()
        self.note_restarts(reading)

    async def classify(self, digits: Digits) -> tuple[int, float]:
        """Stream all images; the number of messages that stage and sink received, and the seconds it took."""
        before, began = self.received(), perf_counter()
        # Twice what the stage takes: the next launch waits in its mailbox, and the reader at its mailbox.
        await self.stream(partial(read_images, digits), window=2 * LAUNCH)
        await self.sink.stop(drain=True)
        seconds = perf_counter() - began
        self.note_restarts(self.stage)
        self.note_restarts(self.sink)
        return self.received() - before, seconds

    def received(self) -> int:
        """How many messages stage and sink have been given."""
        return self.stage.statistics().received + self.sink.statistics().received

    def note_restarts(self, ref: ActorRef[Any]) -> None:
        """Remember how often an actor was restarted."""
        self.restarts[ref.name] += ref.statistics().restarts


@final
@attrs.define
class Tally:
    """A number that only grows."""

    count: int = 0

    def add(self) -> None:
        """One more."""
        self.count += 1


def works(course: Course, network: Network, ledger: Ledger, reference_done: Tally) -> list[Work]:
    """What the display shows."""
    lessons, images = len(course.lessons), len(ledger.answers)

    def mistaken() -> str:
        return f"{sum(network.mistakes) / len(network.mistakes):.1%} mistaken" if network.mistakes else ""

    return [
        Work("training", "lessons", lessons, lambda: network.lessons, mistaken),
        Work("classifying", "images", images, lambda: len(ledger.counted)),
        Work("in NumPy", "lessons", lessons, lambda: reference_done.count),
    ]
