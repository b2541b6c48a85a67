"""The actors: a reader, the stage that owns the device's network, and a sink.

**No image is lost.** The reader asks the stage, and asks again when the stage crashes with the request in hand:
nobody redelivers that one. Requests that were still queued survive the crash by themselves.

**None is counted twice.** Asking again means that something may be done twice, so whoever receives knows what it
has done already: lessons are numbered, and the ledger keeps the first answer for each image.

What must survive a crash, the network's weights and the ledger, is made outside of the actors and handed to each
incarnation. The sink does nothing that could fail between receiving an answer and counting it.
"""

from __future__ import annotations

from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

import anyio
import numpy as np

from ... import ActorCrashed, ActorRef, Context
from .messages import Answer, Compute, Image, Ledger, Lesson
from .reference import compute
from .sabotage import Moment, Sabotage

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from .digits import Digits
    from .network import Bench, Network
    from .plan import Course

LAUNCH: Final = 64
"""How many images the stage classifies at once, at most."""


# --- reading ---------------------------------------------------------------------------------------


async def reader(
    ctx: Context[None],
    read: Callable[[], Iterator[Lesson | Image]],
    stage: ActorRef[Lesson | Image],
    window: int,
    ledger: Ledger,
    sabotage: Sabotage,
) -> None:
    """Have everything done that ``read`` yields, with at most ``window`` requests on their way.

    A restarted reader begins anew: what was done already is recognised by those who did it.
    """
    ctx.ready()
    requests = read()  # one cursor for all tasks below

    async def deliver() -> None:
        for request in requests:
            sabotage.at(Moment.READING)
            await ask_until_answered(stage, request, ledger)

    with farewell(ctx):
        async with anyio.create_task_group() as deliveries:
            for _ in range(window):
                deliveries.start_soon(deliver)


async def ask_until_answered(stage: ActorRef[Lesson | Image], request: Lesson | Image, ledger: Ledger) -> None:
    """Ask; ask again if the stage crashed on this very request.

    It needs no limit of its own: a stage that crashes too often is given up by its supervisor, and asking it
    then raises `ActorStopped`.
    """
    while True:
        try:
            return await stage.ask(request)
        except ActorCrashed:
            ledger.asked_again += 1


def read_lessons(course: Course, digits: Digits) -> Iterator[Lesson]:
    """The lessons of a course, in order."""
    for number, (lesson, rate) in enumerate(zip(course.lessons, course.rates, strict=True)):
        yield Lesson(number, digits.images[lesson], digits.labels[lesson], float(rate))


def read_images(digits: Digits) -> Iterator[Image]:
    """All images, in order."""
    for number, pixels in enumerate(digits.images):
        yield Image(number, pixels, perf_counter())


# --- computing -------------------------------------------------------------------------------------


async def stage(ctx: Context[Lesson | Image], network: Network, sink: ActorRef[Answer], sabotage: Sabotage) -> None:
    """Learn from lessons; classify images, as many at once as there are."""
    with farewell(ctx):
        async with network.open_bench(LAUNCH) as bench:
            while True:
                requests = await ctx.receive_batch(LAUNCH)
                for lesson in (request for request in requests if isinstance(request, Lesson)):
                    await learn(network, bench, lesson)
                    sabotage.at(Moment.LEARNED)
                    ctx.reply(lesson, None)
                if images := [request for request in requests if isinstance(request, Image)]:
                    await classify(network, bench, images, sink, sabotage)
                for image in images:
                    ctx.reply(image, None)


async def learn(network: Network, bench: Bench, lesson: Lesson) -> None:
    """Take a lesson, unless it is asked for again because its answer was lost in a crash."""
    if lesson.number >= network.lessons:
        await network.learn(bench, lesson.images, lesson.labels, lesson.rate)


async def classify(
    network: Network, bench: Bench, images: list[Image], sink: ActorRef[Answer], sabotage: Sabotage
) -> None:
    """Classify these images together, and pass on an answer for each."""
    digits = await network.classify(bench, np.stack([image.pixels for image in images]))
    for image, digit in zip(images, digits.tolist(), strict=True):
        await sink.send(Answer(image.number, digit, image.read_at))
        sabotage.at(Moment.ANSWERING)


async def mathematician(ctx: Context[Compute], digits: Digits, lesson_done: Callable[[], object]) -> None:
    """Compute in NumPy what the device computes, in a thread that ends early if the actor is cancelled."""

    def between_lessons() -> None:
        lesson_done()
        anyio.from_thread.check_cancelled()

    with farewell(ctx):
        async for request in ctx:
            ctx.reply(request, await anyio.to_thread.run_sync(compute, request.course, digits, between_lessons))


# --- gathering -------------------------------------------------------------------------------------


async def sink(ctx: Context[Answer], ledger: Ledger) -> None:
    """Count answers."""
    with farewell(ctx):
        async for answer in ctx:
            ledger.count(answer)


@contextmanager
def farewell(ctx: Context[Any]) -> Generator[None]:
    """Say so when the actor ends because it was told to."""
    try:
        yield
    finally:
        if ctx.stopping:
            ctx.logger.info("%s stopped", ctx.name)
