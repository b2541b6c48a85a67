"""The order of wake-ups: one seed, one history; and what holds in any order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given
from hypothesis import strategies as st

from rookery import ActorCrashed, ActorRef, Context, Request, child, message, open_priority_channel, open_system
from rookery._core._parking import current_loop
from rookery.testing import settle, shuffled
from support import settle as pass_by

SEEDS = st.integers(0, 2**32 - 1)


@message
class Add(Request[int]):
    number: int


@message
class Note:
    sender: int
    number: int


async def busy(history: list[Any], work: float = 0.0) -> None:
    """Five actors that ask a server and send each other notes; every step is recorded.

    Args:
        history: The record.
        work: Seconds for which each note keeps the loop to itself.
    """

    async def server(ctx: Context[Add]) -> None:
        async for request in ctx:
            history.append(("served", request.number))
            ctx.reply(request, request.number + 1)

    async def worker(ctx: Context[Note], number: int, server: ActorRef[Add], others: list[ActorRef[Note]]) -> None:
        ctx.ready()
        await go.receive()
        for step in range(3):
            answer = await server.ask(Add(10 * number + step))
            history.append((number, "answer", answer))
            await others[(number + 1 + step) % 5].send(Note(number, step))
        async for note in ctx:
            time.sleep(work)  # noqa: ASYNC251  # as a slow machine would
            history.append((number, "note", note.sender, note.number))

    ready, go = open_priority_channel(5)
    async with open_system() as system:
        serving = await system.spawn(server)
        workers: list[ActorRef[Note]] = []
        for number in range(5):
            workers.append(await system.spawn(worker, number, serving, workers))
        for number in range(5):
            ready.send_nowait(number)
        await settle()
    history.append("end")


async def history_of(seed: int, work: float = 0.0) -> list[Any]:
    history: list[Any] = []
    with shuffled(seed):
        await busy(history, work)
    return history


async def test_one_seed_makes_one_history():
    """Whatever the loop's own order is: trio draws one anew each time."""
    first = await history_of(7)
    assert len(first) == 46
    for _ in range(5):
        assert await history_of(7) == first


async def test_an_order_that_is_entered_again_begins_anew():
    """One object, one history."""
    shuffle, histories = shuffled(7), [list[Any](), list[Any]()]
    for history in histories:
        with shuffle:
            await busy(history)
    assert histories[0] == histories[1] == await history_of(7)


async def test_other_seeds_make_other_histories():
    """The order of wake-ups is free within what rookery promises, and the seed chooses it."""
    histories = {tuple(await history_of(seed)) for seed in range(10)}
    assert len(histories) == 10


async def starts_of(seed: int) -> list[int]:
    started: list[int] = []

    async def busy_with_many(ctx: Context[object]) -> None:
        async def work(number: int) -> None:
            started.append(number)

        for number in range(8):
            ctx.start_soon(work, number)
        ctx.ready()
        await ctx.wait_stopping()

    with shuffled(seed):
        async with open_system() as system:
            await system.spawn(busy_with_many)
            await settle()
    assert sorted(started) == list(range(8))
    return started


async def test_the_first_steps_of_tasks_are_in_the_seeds_hands():
    """Those that were started together as well."""
    first = await starts_of(5)
    for _ in range(5):
        assert await starts_of(5) == first
    assert len({tuple(await starts_of(seed)) for seed in range(5)}) == 5


async def yields_of(seed: int) -> list[int]:
    steps: list[int] = []

    async def reader(ctx: Context[object], number: int) -> None:
        async for _ in ctx:
            steps.append(number)  # noqa: PERF401  # as it comes

    with shuffled(seed):
        async with open_system() as system:
            refs = [await system.spawn(reader, number) for number in range(3)]
            for ref in refs:
                for _ in range(300):
                    ref.send_nowait(None)
            await settle()
    assert len(steps) == 900
    return steps


async def test_the_yields_of_busy_actors_are_in_the_seeds_hands():
    """Who goes on after a turn of 64 messages is drawn."""
    first = await yields_of(5)
    for _ in range(5):
        assert await yields_of(5) == first
    assert len({tuple(await yields_of(seed)) for seed in range(5)}) == 5


async def test_a_slow_machine_makes_the_same_history():
    """A turn ends after a number of messages, and not after a time, or a seed would replay on some machines only."""
    assert await history_of(7, work=0.003) == await history_of(7)


def test_trio_and_asyncio_have_one_history_too():
    """The seed chooses among the same wake-ups on both."""
    on_trio = anyio.run(history_of, 3, backend="trio")
    assert anyio.run(history_of, 3, backend="asyncio") == on_trio


async def fan_in(seed: int) -> dict[int, list[int]]:
    got: dict[int, list[int]] = {0: [], 1: [], 2: []}

    async def reader(ctx: Context[Note]) -> None:
        async for note in ctx:
            got[note.sender].append(note.number)

    async def writer(ctx: Context[object], number: int, to: ActorRef[Note]) -> None:
        for step in range(8):
            await to.send(Note(number, step))

    with shuffled(seed):
        async with open_system() as system:
            to = await system.spawn(child(reader).options(capacity=2))
            writers = [child(writer, number, to) for number in range(3)]
            async with anyio.create_task_group() as tasks:
                for spec in writers:
                    tasks.start_soon(system.spawn, spec)
            for spec in writers:
                await spec.ref.wait_stopped()
            await to.stop(drain=True)
    return got


@given(seed=SEEDS)
async def test_messages_of_one_sender_keep_their_order_under_any_seed(seed: int):
    """First in, first out within a priority, blocked senders included, and nothing is lost."""
    assert await fan_in(seed) == {sender: list(range(8)) for sender in range(3)}


@given(seed=SEEDS)
async def test_nobody_is_left_waiting_under_any_seed(seed: int):
    """Askers of a server that crashes on every third request get an answer or the crash."""

    async def server(ctx: Context[Add]) -> None:
        async for request in ctx:
            if request.number % 3 == 0:
                raise ValueError(request.number)
            ctx.reply(request, request.number)

    outcomes: dict[int, object] = {}

    async def client(ctx: Context[object], number: int, to: ActorRef[Add]) -> None:
        try:
            outcomes[number] = await to.ask(Add(number))
        except ActorCrashed:
            outcomes[number] = "crashed"

    with shuffled(seed):
        async with open_system() as system:
            to = await system.spawn(server)
            clients = [child(client, number, to) for number in range(6)]
            for spec in clients:
                await system.spawn(spec)
            for spec in clients:
                await spec.ref.wait_stopped()
    assert outcomes == {0: "crashed", 1: 1, 2: 2, 3: "crashed", 4: 4, 5: 5}


@given(seed=SEEDS, urgencies=st.lists(st.sampled_from([0, 128, 255]), max_size=12))
async def test_urgent_messages_come_first_under_any_seed(seed: int, urgencies: list[int]):
    """By priority, and first in, first out within one, whoever sent them."""
    got: list[tuple[int, int]] = []

    async def reader(ctx: Context[tuple[int, int]]) -> None:
        async for sent in ctx:
            got.append(sent)  # noqa: PERF401  # as it comes

    with shuffled(seed):
        async with open_system() as system:
            ref = await system.spawn(reader)
            await ref.pause()
            for number, urgency in enumerate(urgencies):
                await ref.send((-urgency, number), priority=urgency)
            await ref.resume()
            await ref.stop(drain=True)
    assert got == sorted(got)
    assert len(got) == len(urgencies)


@given(seed=SEEDS, count=st.integers(1, 6))
async def test_actors_stop_in_reverse_order_of_start_under_any_seed(seed: int, count: int):
    """One after another, each when the one after it has cleaned up; children before their parents."""
    ended: list[str] = []

    async def leaf(ctx: Context[object]) -> None:
        await ctx.wait_stopping()
        await settle()  # slow to clean up
        ended.append(ctx.name)

    async def parent(ctx: Context[object]) -> None:
        for number in range(count):
            await ctx.spawn(leaf, name=f"{ctx.name}-{number}")
        await ctx.wait_stopping()

    with shuffled(seed):
        async with open_system() as system:
            for name in "ab":
                await system.spawn(parent, name=name)
    assert ended == [f"{name}-{number}" for name in "ba" for number in reversed(range(count))]


async def test_a_grant_is_seen_at_once_and_its_task_runs_later():
    """The seam's rule holds: the waker grants, and only the running is put off."""
    with shuffled(1) as shuffle:
        spot = current_loop().spot()
        spot.wake()
        assert spot.granted
        await spot.park()  # which takes no time
        assert shuffle.pending == 0


class Parked:
    """A task that parks, and how that went."""

    def __init__(self) -> None:
        self.scope = anyio.CancelScope()
        self.outcome = "parked"

    async def run(self) -> None:
        with self.scope:
            self.spot = current_loop().spot()
            try:
                await self.spot.park()
            except BaseException:
                self.outcome = "cancelled with a grant" if self.spot.granted else "cancelled"
                raise
            self.outcome = "woken"


async def test_a_task_that_is_cancelled_in_the_pool_sees_its_grant():
    """So that it can pass it on; and the pool goes on without it."""
    with shuffled(1) as shuffle:
        parked, other = Parked(), Parked()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(parked.run)
            tasks.start_soon(other.run)
            await settle()
            parked.spot.wake()
            assert shuffle.pending == 1
            parked.scope.cancel()
            other.spot.wake()
            await settle()
            assert (parked.outcome, other.outcome) == ("cancelled with a grant", "woken")


async def pass_by_until(condition: Callable[[], bool]) -> None:
    while not condition():
        await checkpoint()


async def test_a_native_cancellation_reaches_a_task_in_the_pool(anyio_backend_name: str):
    """As it does without one."""
    if anyio_backend_name != "asyncio":
        pytest.skip("asyncio only")
    with shuffled(1):
        parked = Parked()
        task = asyncio.create_task(parked.run())
        await settle()
        parked.spot.wake()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert parked.outcome == "cancelled with a grant"


async def test_a_native_cancellation_before_the_first_step_does_not_prevent_it(anyio_backend_name: str):
    """An actor's task takes that step whatever comes, as it does without an order."""
    if anyio_backend_name != "asyncio":
        pytest.skip("asyncio only")

    async def answering(ctx: Context[Add]) -> None:
        async for request in ctx:
            ctx.reply(request, request.number)

    with shuffled(1) as shuffle:
        async with open_system() as system, anyio.create_task_group() as tasks:
            spec = child(answering)
            tasks.start_soon(system.spawn, spec)
            await pass_by_until(lambda: any(task.get_name() == "/answering" for task in asyncio.all_tasks()))
            await checkpoint()  # into which it steps, to wait until it is let through
            assert shuffle.pending
            (waiting,) = (task for task in asyncio.all_tasks() if task.get_name() == "/answering")
            waiting.cancel()
            assert await spec.ref.ask(Add(3)) == 3


async def test_settling_waits_for_callbacks_of_callbacks(anyio_backend_name: str):
    """asyncio runs those between tasks, when nobody seems to run."""
    if anyio_backend_name != "asyncio":
        pytest.skip("asyncio only")
    loop = asyncio.get_running_loop()
    done: list[str] = []
    loop.call_soon(loop.call_soon, done.append, "done")
    await settle()
    assert done == ["done"]


async def test_two_that_settle_do_not_wait_for_each_other():
    """Both are done when the others rest."""
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            for _ in range(2):
                tasks.start_soon(settle)
            await settle()


async def test_settling_waits_for_what_is_pending():
    """`settle` is over when nobody is in the pool any more."""
    with shuffled(1) as shuffle:
        parked = [Parked() for _ in range(20)]
        async with anyio.create_task_group() as tasks:
            for task in parked:
                tasks.start_soon(task.run)
            await settle()
            for task in parked:
                task.spot.wake()
            assert shuffle.pending == 20
            await settle()
            assert {task.outcome for task in parked} == {"woken"}


async def test_a_failure_says_how_to_replay_it():
    """The note has the seed, drawn or given."""
    with pytest.raises(ValueError, match="broken") as failed, shuffled() as shuffle:
        raise ValueError("broken")
    assert failed.value.__notes__ == [f"replay with shuffled({shuffle.seed})"]


async def test_outside_of_the_block_the_order_is_the_loops():
    """A system that is opened after the block knows nothing of it."""
    plain = type(current_loop())
    with shuffled(1):
        assert type(current_loop()) is not plain
    assert type(current_loop()) is plain


async def test_drawn_seeds_differ():
    """Each block without a seed draws one."""
    assert len({shuffled().seed for _ in range(10)}) > 1


def test_a_seed_that_is_none_is_refused():
    """With the line to write instead."""
    with pytest.raises(TypeError, match=r"shuffled\(1234\)"):
        shuffled("1234")  # type: ignore[arg-type]


async def test_a_block_is_entered_once_at_a_time():
    """And a second time it begins anew."""
    shuffle = shuffled(1)
    with shuffle, pytest.raises(RuntimeError, match=r"shuffled\(1\)"), shuffle:
        pass
    with shuffle:
        await pass_by()
