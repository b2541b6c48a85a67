"""Reader, GPU stage, sink: a pipeline in which a crash loses nothing and counts nothing twice.

It finds how many steps each number takes to reach 1 in the Collatz sequence: `python examples/pipeline.py`.
"""

import logging

import numpy as np
import trio

from rookery import ActorCrashed, ActorRef, Context, Request, child, gpu, message, open_system

LAST = 5000
BATCH = 64
SOURCE = """
kernel void collatz(global const uint *numbers, global int *steps, int n)
{
    int i = get_global_id(0);
    if (i >= n)
        return;
    int count = 0;
    for (ulong x = numbers[i]; x > 1; count++)
        x = x % 2 ? 3 * x + 1 : x / 2;
    steps[i] = count;
}
"""


@message
class Number(Request[None]):
    value: int


@message
class Steps:
    value: int
    steps: int


async def reader(ctx: Context[None], stage: ActorRef[Number]) -> None:
    """Ask for every number, two batches at a time. The stage's full mailbox holds it back."""
    ctx.ready()
    numbers = iter(range(1, LAST + 1))

    async def deliver() -> None:
        for value in numbers:
            while True:
                try:
                    await stage.ask(Number(value))
                    break
                except ActorCrashed:  # with this number in hand: nobody redelivers it but us
                    continue

    async with trio.open_nursery() as nursery:
        for _ in range(2 * BATCH):
            nursery.start_soon(deliver)


async def stage(ctx: Context[Number], device: gpu.Device, collatz: gpu.Kernel, sink: ActorRef[Steps]) -> None:
    """Compute on the device, as many numbers at once as there are; answer when the sink has been told."""
    async with device.pool.lease((BATCH,), np.uint32) as numbers, device.pool.lease((BATCH,), np.int32) as steps:
        while True:
            batch = await ctx.receive_batch(BATCH)
            values = [request.value for request in batch]
            await numbers.write(np.resize(np.array(values, np.uint32), BATCH))
            await collatz(numbers, steps, len(batch), size=BATCH, local=BATCH)
            for value, count in zip(values, (await steps.read()).tolist(), strict=False):
                await sink.send(Steps(value, count))
                if value == LAST // 2 and ctx.incarnation == 1:
                    raise RuntimeError("on purpose: some of this batch has been sent on, the rest has not")
            for request in batch:
                ctx.reply(request, None)


async def sink(ctx: Context[Steps], found: dict[int, int]) -> None:
    """Keep the first answer for each number: after a crash some come again."""
    async for answer in ctx:
        found.setdefault(answer.value, answer.steps)


async def main() -> None:
    found: dict[int, int] = {}  # made outside of the actors, because it must survive their crashes
    async with gpu.open_device() as device, open_system() as system:
        collatz = await device.kernel(SOURCE, "collatz")
        sinking = await system.spawn(sink, found)
        staging = await system.spawn(child(stage, device, collatz, sinking).options(capacity=BATCH))
        reading = await system.spawn(reader, staging)
        await reading.wait_stopped()
        await sinking.stop(drain=True)
        restarts = staging.statistics().restarts

    assert sorted(found) == list(range(1, LAST + 1))
    longest = max(found, key=lambda value: found[value])
    print(f"{len(found):,} numbers, each counted once, with {restarts} restart on {device.info.name}")
    print(f"{longest:,} takes longest: {found[longest]} steps")


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # or the crash on purpose would be logged with its traceback
    trio.run(main)
