"""Pipelines: what passes from step to step, what holds back, what fails, and where the memory is meanwhile."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio
import attrs
import numpy as np
import numpy.typing as npt
import pytest

from rookery import (
    ActorCrashed,
    ActorRef,
    ActorState,
    ActorStopped,
    Context,
    Intensity,
    Reason,
    Refused,
    Request,
    child,
    gpu,
    message,
    open_system,
)
from rookery.gpu import _opencl
from rookery.testing import Faults
from support import settle

from .support import DEVICE, KERNELS, Gate, without_shared_memory

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from rookery import System

    Array = npt.NDArray[Any]

SIZE = 16
ITEM = SIZE * 4


@message
class Job(Request[Any]):
    number: int
    key: str = ""


@pytest.fixture(autouse=True)
def not_logged() -> Iterator[None]:
    """Crashes on purpose need not be logged."""
    logging.disable(logging.ERROR)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
async def system(device: gpu.Device) -> AsyncIterator[System]:
    """A system that ends before its device."""
    async with open_system() as system:
        yield system


@pytest.fixture
async def increment(device: gpu.Device) -> gpu.Kernel:
    return await device.kernel(KERNELS, "increment")


async def upload(job: Job, device: gpu.Device) -> gpu.UnifiedBuffer:
    return await device.upload(np.full(SIZE, job.number, np.float32))


async def add_one(x: gpu.UnifiedBuffer, increment: gpu.Kernel) -> gpu.UnifiedBuffer:
    increment.submit(x)
    return x


async def fetch(x: gpu.UnifiedBuffer) -> Array:
    return await x.read()


class Held:
    """A step that holds each item back until it is let go."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.released: dict[int, anyio.Event] = {}
        self.open = False

    async def __call__(self, job: Job) -> Job:
        self.begun.append(job.number)
        if not self.open:
            self.released.setdefault(job.number, anyio.Event())
            await self.released[job.number].wait()
        return job

    def let(self, *numbers: int) -> None:
        for number in numbers:
            self.released.setdefault(number, anyio.Event()).set()

    def let_all(self) -> None:
        self.open = True
        self.let(*self.released)


class Asker:
    """Asks, in a task of its own."""

    def __init__(self, tasks: anyio.abc.TaskGroup, ref: ActorRef[Any], job: Job) -> None:
        self.outcome: Any = "none yet"
        self.scope = anyio.CancelScope()
        self._ask = lambda: ref.ask(job)
        tasks.start_soon(self._run)

    async def _run(self) -> None:
        with self.scope:
            try:
                self.outcome = await self._ask()
            except Exception as error:  # noqa: BLE001
                self.outcome = error


async def ask_in_turn(tasks: anyio.abc.TaskGroup, ref: ActorRef[Any], count: int) -> list[Asker]:
    """So many that ask, one after the other."""
    askers: list[Asker] = []
    for number in range(count):
        askers.append(Asker(tasks, ref, Job(number)))
        await rest()
    return askers


async def rest() -> None:
    """Let every task run until it is parked: a pipeline that gives up has a longer way to go than one actor."""
    for _ in range(5):
        await settle()


def crashing(times: int, then: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """A step that crashes so often before it works."""
    left = [times]

    async def fragile(*args: Any) -> Any:
        result = await then(*args)
        if left[0]:
            left[0] -= 1
            raise ZeroDivisionError
        return result

    return fragile


async def number_of(job: Job) -> int:
    return job.number


def idle(device: gpu.Device) -> bool:
    seen = device.pool.statistics()
    return (seen.active_bytes, seen.in_flight_bytes, seen.waiting) == (0, 0, 0)


# --- passing on ----------------------------------------------------------------------------------------------


async def test_an_item_passes_through_all_steps(device: gpu.Device, system: System, increment: gpu.Kernel) -> None:
    """And a request is answered with what the last one returns."""
    line = gpu.pipeline(gpu.step(upload, device), gpu.step(add_one, increment), gpu.step(fetch), memory={device: ITEM})
    pipe = await system.spawn(line, name="line")
    assert (await pipe.ask(Job(3))).tolist() == [4] * SIZE
    assert repr(line) == "<Pipeline upload -> add_one -> fetch>"
    assert [line.split()[-4] for line in system.tree().splitlines()[1:]] == ["line", "upload", "add_one", "fetch"]
    assert idle(device)


@pytest.mark.parametrize("steps", [0, 1, 5])
async def test_a_chain_on_the_device_costs_one_transfer_each_way(
    device: gpu.Device, system: System, increment: gpu.Kernel, steps: int
) -> None:
    """However many steps the buffer passes through there."""
    without_shared_memory(device)
    chain: Any = [gpu.step(add_one, increment).options(name=f"add {index}") for index in range(steps)]
    plan: Any = gpu.pipeline
    pipe = await system.spawn(plan(gpu.step(upload, device), *chain, gpu.step(fetch), memory={device: ITEM}))
    async with anyio.create_task_group() as tasks:
        askers = [Asker(tasks, pipe, Job(number)) for number in range(10)]
    assert [asker.outcome[0] for asker in askers] == [number + steps for number in range(10)]
    seen = device.statistics()
    downloads = 10 if steps else 0  # what no kernel wrote is on the host already
    assert (seen.uploads, seen.downloads) == (10, downloads)
    assert (seen.uploaded_bytes, seen.downloaded_bytes) == (10 * ITEM, downloads * ITEM)
    assert idle(device)


@attrs.frozen
class Pair:
    first: gpu.UnifiedBuffer
    rest: list[gpu.UnifiedBuffer]


async def test_what_is_handed_on_is_kept_and_the_rest_released(device: gpu.Device, system: System) -> None:
    """Wherever it is in what a step returns; the last step's own are released as well."""
    seen: list[gpu.UnifiedBuffer] = []

    async def take(job: Job) -> Any:
        seen.extend([await device.upload(np.full(SIZE, index, np.float32)) for index in range(5)])
        return {"pair": (Pair(seen[0], [seen[1]]),), "more": [seen[2]]}

    async def look(value: Any) -> gpu.UnifiedBuffer:
        assert [buffer.released for buffer in seen] == [False, False, False, True, True]
        assert value["pair"][0].rest == [seen[1]]
        return seen[1]

    async def end(buffer: gpu.UnifiedBuffer) -> float:
        assert [buffer.released for buffer in seen] == [True, False, True, True, True]
        assert buffer is seen[1]
        return float((await buffer.read())[0])

    pipe = await system.spawn(gpu.pipeline(gpu.step(take), gpu.step(look), gpu.step(end), memory={device: 5 * ITEM}))
    assert await pipe.ask(Job(1)) == 1
    assert all(buffer.released for buffer in seen)
    assert idle(device)


@attrs.define
class Classic:
    x: gpu.UnifiedBuffer
    later: Any = attrs.field(init=False)


@dataclass
class Modern:
    x: gpu.UnifiedBuffer
    later: Any = field(init=False)


@pytest.mark.parametrize("form", [Classic, Modern])
async def test_what_is_handed_on_may_have_fields_that_are_not_set(
    device: gpu.Device, system: System, form: Callable[[gpu.UnifiedBuffer], Any]
) -> None:
    """They are for a later step."""

    async def wrap(x: gpu.UnifiedBuffer) -> Any:
        return form(x)

    async def unwrap(wrapped: Any) -> Array:
        return await fetch(wrapped.x)

    pipe = await system.spawn(
        gpu.pipeline(gpu.step(upload, device), gpu.step(wrap), gpu.step(unwrap), memory={device: ITEM})
    )
    assert (await pipe.ask(Job(3))).tolist() == [3] * SIZE
    assert idle(device)


async def test_buffers_of_others_are_left_alone(device: gpu.Device, system: System) -> None:
    """Also if a step hands them on."""
    weights = await device.upload(np.ones(SIZE, np.float32))

    async def hand_on(job: Job) -> Any:
        return weights

    pipe = await system.spawn(gpu.pipeline(gpu.step(hand_on), gpu.step(fetch), memory={device: ITEM}))
    assert (await pipe.ask(Job(1))).tolist() == [1] * SIZE
    assert not weights.released


async def test_a_step_takes_arguments_of_its_own(system: System) -> None:
    """By position and by name."""

    async def scale(job: Job, factor: int, *, offset: int = 0) -> int:
        return job.number * factor + offset

    pipe = await system.spawn(gpu.pipeline(gpu.step(scale, 3, offset=1)))
    assert await pipe.ask(Job(5)) == 16


async def test_it_accepts_what_its_first_step_takes(system: System) -> None:
    """Anything else is refused where it is sent."""
    pipe = await system.spawn(gpu.pipeline(gpu.step(number_of)))
    with pytest.raises(TypeError, match="/pipeline accepts Job, not str"):
        await pipe.send("job")  # type: ignore[arg-type]

    async def anything(item):  # type: ignore[no-untyped-def]
        return item

    assert await (await system.spawn(gpu.pipeline(gpu.step(anything)))).ask(Job(3)) == Job(3)


# --- holding back ----------------------------------------------------------------------------------------------


async def test_a_slow_step_holds_back_senders(system: System) -> None:
    """So many are on their way, so many in the mailbox, one is taken and waits for its place, and the next waits."""
    held = Held()
    pipe = await system.spawn(
        child(gpu.pipeline(gpu.step(number_of_job), gpu.step(held), max_items=3)).options(capacity=2)
    )
    sent: list[int] = []

    async def send() -> None:
        for number in range(10):
            await pipe.send(Job(number))
            sent.append(number)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send)
        await rest()
        assert (len(sent), held.begun) == (6, [0])
        held.let(0)
        await rest()
        assert (len(sent), held.begun) == (7, [0, 1])
        held.let_all()
    await pipe.stop(drain=True)
    assert held.begun == list(range(10))


async def number_of_job(job: Job) -> Job:
    return job


async def test_a_full_device_holds_back_what_has_not_set_off(system: System) -> None:
    """And nothing that has."""
    held = Held()

    async def take(job: Job, device: gpu.Device) -> Job:
        await device.empty(SIZE)
        return job

    async with gpu.open_device(DEVICE, memory_limit=2 * (ITEM + ITEM // 16)) as device:
        line = gpu.pipeline(gpu.step(held).options(workers=5), gpu.step(take, device), memory={device: ITEM})
        pipe = await system.spawn(line)
        async with anyio.create_task_group() as tasks:
            askers = await ask_in_turn(tasks, pipe, 4)
            assert sorted(held.begun) == [0, 1]
            assert device.pool.statistics().waiting == 1
            held.let(1)
            await rest()
            assert sorted(held.begun) == [0, 1, 2]
            held.let_all()
        assert sorted(asker.outcome.number for asker in askers) == [0, 1, 2, 3]
        assert idle(device)
        await pipe.stop()


async def test_steps_never_wait_for_one_anothers_memory() -> None:
    """Two pipelines whose items hold memory and need more, on a device that has room for one item."""
    most = 3 * ITEM

    async def grow(x: gpu.UnifiedBuffer, device: gpu.Device, increment: gpu.Kernel) -> gpu.UnifiedBuffer:
        more = await device.copy(x)
        increment.submit(more)
        return more

    async with gpu.open_device(DEVICE, memory_limit=most + most // 16, debug=True) as device, open_system() as system:
        increment = await device.kernel(KERNELS, "increment")
        growing: Any = [
            gpu.step(grow, device, increment).options(workers=2, name=f"grow {index}") for index in range(3)
        ]
        plan: Any = gpu.pipeline
        pipes = [
            await system.spawn(plan(gpu.step(upload, device), *growing, gpu.step(fetch), memory={device: most}))
            for _ in range(2)
        ]
        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                askers = [Asker(tasks, pipes[number % 2], Job(number)) for number in range(20)]
        assert [asker.outcome[0] for asker in askers] == [number + 3 for number in range(20)]
        assert idle(device)
        assert device.pool.statistics().waits > 0


async def test_pipelines_take_several_devices_in_one_order() -> None:
    """However their users write them down, so that two cannot each hold what the other waits for."""
    limit = ITEM + ITEM // 16
    async with (
        gpu.open_device(DEVICE, memory_limit=limit) as one,
        gpu.open_device(DEVICE, memory_limit=limit) as two,
        open_system() as system,
    ):

        async def both(job: Job) -> Any:
            return await one.copy(await two.upload(np.full(SIZE, job.number, np.float32)))

        pipes = [
            await system.spawn(gpu.pipeline(gpu.step(both), gpu.step(fetch), memory=dict.fromkeys(order, ITEM)))
            for order in ([one, two], [two, one])
        ]
        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                askers = [Asker(tasks, pipes[number % 2], Job(number)) for number in range(10)]
        assert [asker.outcome[0] for asker in askers] == list(range(10))
        assert idle(one)
        assert idle(two)


async def test_what_commands_still_use_counts_and_comes_back(
    device: gpu.Device, system: System, increment: gpu.Kernel
) -> None:
    """A step that needs it waits for the command, not for others' memory."""
    got: list[str] = []

    async def replace(x: gpu.UnifiedBuffer) -> gpu.UnifiedBuffer:
        increment.submit(x)
        device.pool.release(x)
        assert device.pool.try_acquire(SIZE) is None
        y = await device.empty(SIZE)
        got.append("memory")
        y.copy_from(np.zeros(SIZE, np.float32))
        return y

    pipe = await system.spawn(
        gpu.pipeline(gpu.step(upload, device), gpu.step(replace), gpu.step(fetch), memory={device: ITEM})
    )
    async with anyio.create_task_group() as tasks:
        with Gate(device.queue):
            asker = Asker(tasks, pipe, Job(1))
            await rest()
            assert device.pool.statistics().in_flight_bytes
            assert not got
    assert asker.outcome.tolist() == [0] * SIZE
    assert idle(device)


async def test_more_than_was_set_aside_is_an_error(device: gpu.Device, system: System) -> None:
    """At once, since nobody else could give it back; how much there is and what to write is said."""

    async def greedy(job: Job) -> int:
        async with device.pool.lease(SIZE):
            with pytest.raises(gpu.OutOfDeviceMemory, match=r"has 1 left of the 68 .*`pipeline\(\.\.\., memory="):
                await device.empty(SIZE)
            assert device.pool.try_acquire(SIZE) is None
        async with device.pool.lease(SIZE):  # given back, it is there again
            return job.number

    pipe = await system.spawn(gpu.pipeline(gpu.step(greedy), memory={device: ITEM}))
    assert await pipe.ask(Job(7)) == 7


async def test_an_actor_that_a_step_spawns_has_memory_of_its_own(device: gpu.Device, system: System) -> None:
    """What it takes is no part of the item, whose end it outlives."""
    kept: list[gpu.UnifiedBuffer] = []

    async def keeper(ctx: Context[None]) -> None:
        kept.append(await device.empty(100 * SIZE))
        await ctx.wait_stopping()

    async def hire(job: Job) -> int:
        await system.spawn(keeper)
        return job.number

    pipe = await system.spawn(gpu.pipeline(gpu.step(hire), memory={device: ITEM}))
    assert await pipe.ask(Job(7)) == 7
    await rest()
    assert not kept[0].released
    assert device.pool.statistics().active_bytes == kept[0].reserved


# --- order -------------------------------------------------------------------------------------------------------


async def test_items_of_a_key_keep_their_order_and_others_overtake(system: System) -> None:
    """Of three workers one is held up by the first of a key, and gets the others of that key; the rest go past."""
    held, order = Held(), list[int]()

    async def note(job: Job) -> None:
        order.append(job.number)

    line = gpu.pipeline(gpu.step(held).options(workers=3), gpu.step(note), key=lambda job: job.key)
    pipe = await system.spawn(line)
    for number, key in enumerate("aababc"):
        await pipe.send(Job(number, key))
    await rest()
    assert sorted(held.begun) == [0, 2, 5]
    held.let(1, 2, 4, 5)
    await rest()
    assert sorted(order) == [2, 4, 5]
    assert order.index(2) < order.index(4)
    held.let_all()
    await pipe.stop(drain=True)
    assert [number for number in order if number in (0, 1, 3)] == [0, 1, 3]


async def test_without_a_key_every_item_goes_where_least_is_to_be_done(system: System) -> None:
    """They overtake each other."""
    held = Held()
    pipe = await system.spawn(gpu.pipeline(gpu.step(held).options(workers=2)))
    async with anyio.create_task_group() as tasks:
        askers = await ask_in_turn(tasks, pipe, 4)
        held.let(1)
        await rest()
        assert [asker.outcome for asker in askers] == ["none yet", Job(1), "none yet", "none yet"]
        assert held.begun == [0, 1, 3]
        held.let_all()


async def test_the_order_outlives_a_crash(system: System) -> None:
    """What was in hand comes before what was behind it."""
    order: list[int] = []

    async def note(number: int) -> None:
        order.append(number)

    line = gpu.pipeline(gpu.step(crashing(2, number_of)).options(attempts=3, name="fragile"), gpu.step(note))
    pipe = await system.spawn(line)
    for number in range(5):
        await pipe.send(Job(number))
    await pipe.stop(drain=True)
    assert order == [0, 1, 2, 3, 4]


# --- failing -----------------------------------------------------------------------------------------------------


async def test_what_was_in_hand_at_a_crash_fails_alone(
    device: gpu.Device, system: System, increment: gpu.Kernel
) -> None:
    """Its asker is told what crashed; the others are served, and its memory is back."""
    fragile = crashing(1, add_one)
    pipe = await system.spawn(
        gpu.pipeline(gpu.step(upload, device), gpu.step(fragile, increment), gpu.step(fetch), memory={device: 2 * ITEM})
    )
    async with anyio.create_task_group() as tasks:
        askers = [Asker(tasks, pipe, Job(number)) for number in range(3)]
    failed = [asker.outcome for asker in askers if isinstance(asker.outcome, ActorCrashed)]
    assert len(failed) == 1
    assert "/pipeline/fragile crashed while it had Job(" in str(failed[0])
    assert isinstance(failed[0].__cause__, ZeroDivisionError)
    assert sorted(asker.outcome[0] - index for index, asker in enumerate(askers) if asker.outcome is not failed[0]) == [
        1,
        1,
    ]
    assert idle(device)


async def test_a_crash_is_tried_again_as_often_as_allowed(device: gpu.Device, system: System) -> None:
    """With what the step was given the first time; what it took and lost is released."""
    taken: list[gpu.UnifiedBuffer] = []

    async def copy(x: gpu.UnifiedBuffer) -> gpu.UnifiedBuffer:
        assert all(buffer.released for buffer in taken)
        assert not x.released
        taken.append(await device.copy(x))
        return taken[-1]

    fragile = gpu.step(crashing(2, copy)).options(attempts=3)
    pipe = await system.spawn(
        gpu.pipeline(gpu.step(upload, device), fragile, gpu.step(fetch), memory={device: 2 * ITEM})
    )
    assert (await pipe.ask(Job(5))).tolist() == [5] * SIZE
    assert len(taken) == 3
    assert idle(device)


@pytest.mark.parametrize("attempts", [1, 2])
async def test_without_memory_said_what_steps_took_comes_back_at_a_crash(
    device: gpu.Device, system: System, attempts: int
) -> None:
    """Both what the step took that crashed and what it was given, when it is not to begin again."""
    taken: list[gpu.UnifiedBuffer] = []
    others = await device.empty(1)

    async def first(job: Job) -> tuple[Job, gpu.UnifiedBuffer, gpu.UnifiedBuffer]:
        taken.append(await device.empty(SIZE))  # kept by somebody else: it is none of those handed on
        x = await device.upload(np.full(SIZE, job.number, np.float32))
        taken.append(x)
        return job, x, others

    async def second(given: tuple[Job, gpu.UnifiedBuffer, gpu.UnifiedBuffer]) -> Array:
        _, x, _ = given
        assert not x.released
        taken.append(await device.copy(x))
        if len(taken) == 3:
            raise ZeroDivisionError
        return await taken[-1].read()

    pipe = await system.spawn(gpu.pipeline(gpu.step(first), gpu.step(second).options(attempts=attempts)))
    if attempts == 1:
        with pytest.raises(ActorCrashed):
            await pipe.ask(Job(5))
        assert [buffer.released for buffer in taken] == [False, True, True]
    else:
        assert (await pipe.ask(Job(5))).tolist() == [5] * SIZE
        assert [buffer.released for buffer in taken] == [False, False, True, False]
    assert not others.released


async def test_an_item_fails_that_cannot_be_answered(device: gpu.Device) -> None:
    """And the step that came last does not begin with it again, whose memory is gone."""
    with Faults() as faults:
        faults.at("reply", nth=1, of="pipeline", error=OSError("disk full"))
        async with open_system() as system:
            line = gpu.pipeline(
                gpu.step(upload, device), gpu.step(fetch).options(attempts=3), memory={device: ITEM}, max_items=1
            )
            pipe = await system.spawn(faults.wrap(child(line).options(name="pipeline")))
            with pytest.raises(ActorCrashed) as caught:
                await pipe.ask(Job(1))
            assert isinstance(caught.value.__cause__, OSError)
            assert pipe.statistics().unanswered == 0
            assert (await pipe.ask(Job(2))).tolist() == [2] * SIZE
        assert idle(device)


async def test_what_was_sent_and_fails_is_a_dead_letter(system: System) -> None:
    """Nobody waits for it, and it is counted."""
    pipe = await system.spawn(gpu.pipeline(gpu.step(crashing(1, number_of))))
    await pipe.send(Job(1))
    assert await pipe.ask(Job(2)) == 2
    (letter,) = system.dead_letters.recent
    assert isinstance(letter.message, ActorCrashed)
    assert letter.actor == "/pipeline"


async def test_a_refused_item_fails_alone_and_crashes_nothing(device: gpu.Device, system: System) -> None:
    """With the error that the step says."""

    async def choosy(x: gpu.UnifiedBuffer) -> gpu.UnifiedBuffer:
        if (await x.read())[0] == 1:
            raise Refused(LookupError("not this one"))
        return x

    pipe = await system.spawn(
        gpu.pipeline(gpu.step(upload, device), gpu.step(choosy), gpu.step(fetch), memory={device: ITEM})
    )
    with pytest.raises(LookupError, match="not this one"):
        await pipe.ask(Job(1))
    assert (await pipe.ask(Job(2)))[0] == 2
    assert "restarts" not in system.tree()
    assert idle(device)


async def test_a_command_that_fails_on_the_device_fails_its_item(system: System, device: gpu.Device) -> None:
    """Where somebody waits for what it was to write."""
    if not device.info.shares_host_memory:
        pytest.skip("what fails here is no command, and a copy to the host does not wait for it")
    failing = [True]

    async def compute(x: gpu.UnifiedBuffer) -> gpu.UnifiedBuffer:
        if failing.pop():
            # PoCL may abort if one of its own fails.
            x.written_by(device.copies.submit(fail, (x,), lambda: "the command"))
        failing.append(False)
        return x

    def fail() -> None:
        raise ZeroDivisionError

    pipe = await system.spawn(
        gpu.pipeline(gpu.step(upload, device), gpu.step(compute), gpu.step(fetch), memory={device: ITEM})
    )
    with pytest.raises(ActorCrashed) as crash:
        await pipe.ask(Job(1))
    assert isinstance(crash.value.__cause__, gpu.CommandFailed)
    assert (await pipe.ask(Job(2))).tolist() == [2] * SIZE
    assert idle(device)


async def test_too_many_crashes_are_the_pipelines_own(device: gpu.Device) -> None:
    """All that are on their way fail, their memory comes back, and what is in the mailbox is served after its restart."""
    held, broken = Held(), [True]

    async def fragile(job: Job) -> int:
        if broken[0]:
            raise ZeroDivisionError
        return job.number

    async def take(job: Job) -> tuple[Job, gpu.UnifiedBuffer]:
        return job, await device.empty(SIZE)

    async def hold(pair: tuple[Job, gpu.UnifiedBuffer]) -> Job:
        return await held(pair[0])

    line = gpu.pipeline(
        gpu.step(take),
        gpu.step(hold),
        gpu.step(fragile),
        max_items=3,
        memory={device: ITEM},
        intensity=Intensity(0, per=1.0),
    )
    async with open_system() as system:
        pipe = await system.spawn(line)
        async with anyio.create_task_group() as tasks:
            askers = await ask_in_turn(tasks, pipe, 6)
            held.let(held.begun[0])
            await rest()
            failed = [asker for asker in askers if asker.outcome != "none yet"]
            assert len(failed) == 4, "three on their way, and one that was taken and had no place"
            assert all(isinstance(asker.outcome, ActorCrashed) for asker in failed)
            broken[0] = False
            held.let_all()
        assert pipe.statistics().restarts == 1
        served = [asker.outcome for asker in askers if asker not in failed]
        assert len(served) == 2
        assert all(isinstance(outcome, int) for outcome in served)
        assert idle(device)


async def test_what_was_sent_and_is_lost_with_the_pipeline_is_a_dead_letter() -> None:
    """Each that a worker had not begun with, with what it was; what it had become is let go of."""
    held = Held()

    async def fail(job: Job) -> None:
        raise ZeroDivisionError

    line = gpu.pipeline(gpu.step(number_of_job), gpu.step(held), gpu.step(fail), intensity=Intensity(0, per=1.0))
    async with open_system() as system:
        pipe = await system.spawn(line)
        for number in range(4):
            await pipe.send(Job(number))
        await rest()
        held.let(0)
        await rest()
        letters = system.dead_letters.recent
        assert pipe.statistics().restarts == 1
    queued = [number for number in range(4) if number not in held.begun]
    assert len(queued) >= 2
    assert [repr(letter.message) for letter in letters] == [f"<Item Job(number={number}, key='')>" for number in queued]
    assert {(letter.reason, letter.actor) for letter in letters} == {(Reason.UNREAD, "/pipeline/Held")}
    assert all(letter.message.value is None for letter in letters)  # type: ignore[attr-defined]


async def test_a_device_that_has_no_room_leaves_the_share_as_it_was(
    device: gpu.Device, system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else is using it; the item may try again."""
    real = device.pool._raw

    class Full:
        held_blocks = 0

        def allocate(self, nbytes: int) -> None:
            raise _opencl.OpenCLError("none left")

        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

    async def insist(job: Job) -> int:
        with monkeypatch.context() as patch:
            patch.setattr(device.pool, "_raw", Full())
            with pytest.raises(gpu.OutOfDeviceMemory, match="has no room"):
                await device.empty(SIZE)
        await device.empty(SIZE)
        return job.number

    pipe = await system.spawn(gpu.pipeline(gpu.step(insist), memory={device: ITEM}))
    assert await pipe.ask(Job(3)) == 3
    assert idle(device)


async def test_messages_that_cannot_be_served_fail_alone(device: gpu.Device, system: System) -> None:
    """A key that cannot be had, and device memory that the pipeline knows nothing of."""

    def key(job: Job) -> Any:
        return [job.number] if job.key == "list" else 1 / job.number

    pipe = await system.spawn(gpu.pipeline(gpu.step(number_of), key=key, memory={device: ITEM}))
    with pytest.raises(ZeroDivisionError):
        await pipe.ask(Job(0))
    with pytest.raises(TypeError, match="unhashable"):
        await pipe.ask(Job(1, "list"))
    buffer = await device.empty(1)
    with pytest.raises(
        gpu.ArgumentTypeError, match=r"/pipeline-?.* got a message with <Unif.*: send an array, and `await"
    ):
        await pipe.ask(Job(buffer))  # type: ignore[arg-type]
    assert not buffer.released
    device.pool.release(buffer)
    assert await pipe.ask(Job(3)) == 3
    assert idle(device)


async def test_the_last_step_returns_no_buffers(device: gpu.Device, system: System) -> None:
    """They would have no owner."""
    pipe = await system.spawn(gpu.pipeline(gpu.step(upload, device), memory={device: ITEM}))
    with pytest.raises(ActorCrashed) as crash:
        await pipe.ask(Job(1))
    assert "upload, the last step, returned <UnifiedBuffer" in str(crash.value.__cause__)
    assert "`await buffer.read()`" in str(crash.value.__cause__)
    assert idle(device)


# --- leaving and stopping -----------------------------------------------------------------------------------------


async def test_an_item_whose_asker_has_left_goes_no_further(device: gpu.Device, system: System) -> None:
    """The step that it is at ends; its place and its memory are free."""
    held, went_on = Held(), list[int]()

    async def note(job: Job) -> None:
        went_on.append(job.number)

    pipe = await system.spawn(gpu.pipeline(gpu.step(held), gpu.step(note), memory={device: ITEM}))
    async with anyio.create_task_group() as tasks:
        askers = await ask_in_turn(tasks, pipe, 3)
        askers[0].scope.cancel()
        askers[1].scope.cancel()
        await rest()
        held.let_all()
    assert (held.begun, went_on) == ([0, 2], [2])
    assert idle(device)


async def test_what_is_on_its_way_comes_to_its_end_at_a_stop(device: gpu.Device, system: System) -> None:
    """In order; what is in the mailbox does not, unless asked for."""
    held = Held()
    pipe = await system.spawn(gpu.pipeline(gpu.step(held), gpu.step(number_of), max_items=2, memory={device: ITEM}))
    async with anyio.create_task_group() as tasks:
        askers = await ask_in_turn(tasks, pipe, 4)
        pipe.stop_soon()
        await rest()
        assert pipe.state is ActorState.STOPPING
        held.let_all()
    assert [asker.outcome for asker in askers[:3]] == [0, 1, 2]
    assert isinstance(askers[3].outcome, ActorStopped)
    await pipe.wait_stopped()
    assert idle(device)


async def test_a_crash_during_a_stop_is_restarted(system: System) -> None:
    """What is on its way comes to its end all the same."""
    held = Held()
    fragile = gpu.step(crashing(1, number_of)).options(attempts=2)
    pipe = await system.spawn(gpu.pipeline(gpu.step(held), fragile))
    async with anyio.create_task_group() as tasks:
        asker = Asker(tasks, pipe, Job(4))
        await rest()
        pipe.stop_soon()
        held.let_all()
    assert asker.outcome == 4


@pytest.mark.parametrize("how", ["stop", "cancel"])
async def test_what_does_not_end_in_time_is_cancelled_and_its_memory_comes_back(device: gpu.Device, how: str) -> None:
    """Wherever the items are: in a worker's hands, in a mailbox, or before they set off."""
    held = Held()

    async def take(job: Job) -> tuple[Job, gpu.UnifiedBuffer]:
        return job, await device.empty(SIZE)

    async def hold(pair: tuple[Job, gpu.UnifiedBuffer]) -> Job:
        return await held(pair[0])

    line = gpu.pipeline(gpu.step(take), gpu.step(hold), max_items=2, memory={device: ITEM})
    outcomes: list[Any] = []
    with anyio.CancelScope() as scope:
        async with open_system() as system:
            pipe = await system.spawn(child(line).options(stop_timeout=0))
            async with anyio.create_task_group() as tasks:
                askers = await ask_in_turn(tasks, pipe, 4)
                assert device.pool.statistics().active_bytes
                if how == "stop":
                    await pipe.stop()
                    await rest()
                    outcomes.extend(type(asker.outcome) for asker in askers)
                else:
                    scope.cancel()
    assert outcomes == ([ActorStopped] * 4 if how == "stop" else [])
    assert idle(device)


async def test_a_step_that_goes_on_while_its_pipeline_ends_keeps_its_buffers(device: gpu.Device) -> None:
    """They are released when it is done with them."""
    cleaned_up: list[Any] = []
    begun = anyio.Event()

    async def stubborn(job: Job) -> int:
        buffer = await device.upload(np.full(SIZE, job.number, np.float32))
        begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await rest()
                cleaned_up.append((await buffer.read())[0])
        return 0

    async with open_system() as system:
        pipe = await system.spawn(
            child(gpu.pipeline(gpu.step(stubborn), memory={device: ITEM})).options(stop_timeout=0)
        )
        await pipe.send(Job(9))
        await begun.wait()
        await pipe.stop()
    assert cleaned_up == [9]
    assert idle(device)


async def test_what_a_step_returns_too_late_goes_nowhere() -> None:
    """While the last step still cleans up, those before it are there, and would be given nothing."""
    held, seen = Held(), list[Any]()

    async def note(job: Job) -> Job:
        seen.append(job)
        return job

    async def stubborn(job: Job) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                held.let_all()
                await rest()

    async with open_system() as system:
        line = gpu.pipeline(gpu.step(held), gpu.step(note), gpu.step(stubborn))
        pipe = await system.spawn(child(line).options(stop_timeout=0))
        held.let(0)
        for number in range(2):
            await pipe.send(Job(number))
        await rest()
        await pipe.stop()
    assert (held.begun, seen) == ([0, 1], [Job(0)])


async def test_a_reduction_that_a_step_makes_outlives_the_item(device: gpu.Device, system: System) -> None:
    """What it needs for itself is no part of the item's memory; its result is."""
    made: list[gpu.Reduction] = []

    async def total(x: gpu.UnifiedBuffer) -> float:
        if not made:
            made.append(
                await device.reduction(
                    np.float32, neutral=0, reduce="a + b", map="x[i]", arguments="const float *x", name="total"
                )
            )
        return float(await made[0](x))

    pipe = await system.spawn(
        gpu.pipeline(gpu.step(upload, device), gpu.step(total), memory={device: ITEM + np.float32().nbytes})
    )
    assert [await pipe.ask(Job(number)) for number in range(3)] == [0, SIZE, 2 * SIZE]


async def test_what_a_task_takes_that_outlives_the_item_is_its_own(device: gpu.Device, system: System) -> None:
    """The share that it began with is gone."""
    late = anyio.Event()
    kept: list[gpu.UnifiedBuffer] = []

    async def take_later() -> None:
        await late.wait()
        kept.append(await device.empty(100 * SIZE))

    async with anyio.create_task_group() as tasks:

        async def begin(job: Job) -> int:
            tasks.start_soon(take_later)
            return job.number

        pipe = await system.spawn(gpu.pipeline(gpu.step(begin), memory={device: ITEM}))
        assert await pipe.ask(Job(7)) == 7
        late.set()
    assert device.pool.statistics().active_bytes == kept[0].reserved


async def test_tasks_that_wait_for_memory_of_an_item_take_their_own_when_it_ends(
    device: gpu.Device, system: System, increment: gpu.Kernel
) -> None:
    """At once: what they waited for never comes back to the item."""
    kept: list[gpu.UnifiedBuffer] = []

    async def take() -> None:
        kept.append(await device.empty(SIZE))

    async with anyio.create_task_group() as tasks:

        async def begin(job: Job) -> int:
            x = await upload(job, device)
            increment.submit(x)
            device.pool.release(x)
            for _ in range(2):
                tasks.start_soon(take)
            await rest()
            assert not kept
            return job.number

        pipe = await system.spawn(gpu.pipeline(gpu.step(begin), memory={device: ITEM}))
        with Gate(device.queue):
            assert await pipe.ask(Job(7)) == 7
            await rest()
            assert len(kept) == 2
    assert device.pool.statistics().active_bytes == sum(buffer.reserved for buffer in kept)
    for buffer in kept:
        device.pool.release(buffer)
    await device.synchronize()
    assert idle(device)


async def test_a_device_that_is_closed_under_a_pipeline_fails_its_messages(system: System) -> None:
    """As it does anything else."""
    held = Held()

    async def take(job: Job, device: gpu.Device) -> tuple[Job, gpu.UnifiedBuffer]:
        return job, await device.empty(SIZE)

    async def hold(pair: tuple[Job, gpu.UnifiedBuffer]) -> Job:
        return await held(pair[0])

    async with anyio.create_task_group() as tasks:
        async with gpu.open_device(DEVICE) as device:
            line = gpu.pipeline(gpu.step(take, device), gpu.step(hold), memory={device: ITEM})
            pipe = await system.spawn(child(line))
            first = Asker(tasks, pipe, Job(1))
            await rest()
        held.let_all()
        await rest()
        second = Asker(tasks, pipe, Job(2))
    await rest()  # it is restarted
    assert first.outcome == Job(1)
    assert isinstance(second.outcome, ActorCrashed)
    assert isinstance(second.outcome.__cause__, gpu.DeviceClosed)


async def test_a_step_that_waits_for_a_command_while_its_device_closes_fails(system: System) -> None:
    """And every byte of its item comes back, when the command is over."""

    async def one_after_another(_: Job) -> None:
        x = await device.empty(SIZE)
        fill.submit(x, 1)
        device.pool.release(x)
        await device.empty(SIZE)

    opened = gpu.open_device(DEVICE, close_timeout=0)
    device = await opened.__aenter__()
    fill = await device.kernel(KERNELS, "fill")
    with Gate(device.queue) as gate:
        async with anyio.create_task_group() as tasks:
            pipe = await system.spawn(gpu.pipeline(gpu.step(one_after_another), memory={device: ITEM}))
            asker = Asker(tasks, pipe, Job(1))
            await rest()
            with pytest.raises(gpu.DeviceStuck):
                await opened.__aexit__(None, None, None)
            gate.open()
    assert isinstance(asker.outcome, ActorCrashed)
    assert isinstance(asker.outcome.__cause__, gpu.DeviceClosed)
    pool = device.pool.statistics()
    assert (pool.active_bytes, pool.in_flight_bytes, pool.held_bytes) == (0, 0, 0)


# --- declaring -----------------------------------------------------------------------------------------------------


async def test_wrong_declarations_are_refused(device: gpu.Device) -> None:
    """Each says what to write."""

    def no_async(job: Job) -> int:
        return 1

    wrong: Any = gpu.pipeline
    with pytest.raises(TypeError, match=r"a step is an async function, got .*write `async def no_async\(item\)`"):
        gpu.step(no_async)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"cannot be called with an item and these arguments: missing.*`gpu\.step\(upl"):
        gpu.step(upload)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match=r"at least one step: write `gpu\.pipeline\(gpu\.step\(fn\), \.\.\.\)`"):
        wrong()
    with pytest.raises(TypeError, match=r"made of steps, got .*: write `gpu\.step\(fn, \.\.\.\)`"):
        wrong(number_of)
    with pytest.raises(TypeError, match=r"key is a function of a message, got 'camera': write `key=lambda"):
        wrong(gpu.step(number_of), key="camera")
    with pytest.raises(ValueError, match=r"max_items is how many items are on their way at most.*, got 0"):
        wrong(gpu.step(number_of), max_items=0)
    with pytest.raises(TypeError, match="workers is how many actors"):
        gpu.step(number_of).options(workers="2")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="attempts is how often"):
        gpu.step(number_of).options(attempts=0)
    with pytest.raises(TypeError, match=r"how many bytes of a device, got 1: write `memory=\{device: 8 << 20\}`"):
        wrong(gpu.step(number_of), memory={1: 2})
    with pytest.raises(ValueError, match="how many bytes of a device, a whole number from 1 on, got 0"):
        wrong(gpu.step(number_of), memory={device: 0})
    with pytest.raises(gpu.OutOfDeviceMemory, match="more than the limit"):
        wrong(gpu.step(number_of), memory={device: device.pool.statistics().limit_bytes + 1})


async def test_an_item_may_have_all_memory_there_is(system: System) -> None:
    """Then they go one at a time."""
    async with gpu.open_device(DEVICE, memory_limit=1000) as device:
        pipe = await system.spawn(gpu.pipeline(gpu.step(upload, device), gpu.step(fetch), memory={device: 1000}))
        async with anyio.create_task_group() as tasks:
            askers = [Asker(tasks, pipe, Job(number)) for number in range(3)]
        assert [asker.outcome[0] for asker in askers] == [0, 1, 2]
        assert idle(device)


async def test_options_change_only_what_is_given() -> None:
    """A step is a value."""
    step = gpu.step(number_of).options(workers=2).options(attempts=3).options(name="n")
    assert (step.workers, step.attempts, step.name, repr(step)) == (2, 3, "n", "<Step n>")
    assert gpu.step(number_of).name == "number_of"


async def test_workers_have_names_of_their_own(system: System) -> None:
    """To be told apart in the tree, those of two steps of one function too."""
    step = gpu.step(number_of_job)
    await system.spawn(gpu.pipeline(step.options(workers=2), step, step, gpu.step(number_of)))
    names = [line.split()[1] for line in system.tree().splitlines()[2:]]
    assert names == ["number_of_job-1", "number_of_job-2", "number_of_job", "number_of_job-3", "number_of"]
