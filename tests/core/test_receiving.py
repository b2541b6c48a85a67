"""Receiving under a pause, a stop and a drain, in every way there is."""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import anyio
import pytest

from rookery import (
    ActorRef,
    ActorState,
    ActorStopped,
    AskTimeout,
    Context,
    Reason,
    Request,
    StopRequested,
    WouldBlock,
    child,
    message,
    open_system,
)
from stepped import Backend, jumping
from support import settle


@pytest.fixture(scope="module")
def anyio_backend(anyio_backend: Backend) -> Backend:
    """However slow the machine is: time passes when everybody waits, and not otherwise."""
    return jumping(anyio_backend)


@message
class Question(Request[int]):
    number: int


async def one(ctx: Context[Any]) -> list[Any]:
    return [await ctx.receive()]


async def one_in_time(ctx: Context[Any]) -> list[Any]:
    return [await ctx.receive(timeout=60)]


async def one_at_once(ctx: Context[Any]) -> list[Any]:
    return [ctx.receive_nowait()]


async def some(ctx: Context[Any]) -> list[Any]:
    return await ctx.receive_batch(10)


async def next_one(ctx: Context[Any]) -> list[Any]:
    try:
        return [await anext(ctx)]
    except StopAsyncIteration:
        raise StopRequested from None  # the same, in the words of a loop


WAYS = [one, one_in_time, one_at_once, some, next_one]
PATIENT = [way for way in WAYS if way is not one_at_once]
Way = Callable[[Context[Any]], Coroutine[Any, Any, list[Any]]]


class Worker:
    """An actor that receives when it is told to, in one way."""

    def __init__(self, way: Way) -> None:
        self.way = way
        self.go = anyio.Event()
        self.received: list[Any] = []
        self.told_to_stop = False

    async def __call__(self, ctx: Context[Any]) -> None:
        ctx.ready()
        await self.go.wait()
        try:
            while True:
                self.received += await self.way(ctx)
        except StopRequested:
            self.told_to_stop = True
            raise


# ---- stopping


@pytest.mark.parametrize("way", WAYS)
async def test_a_stop_is_seen_at_the_next_receive_however_much_is_queued(way: Way) -> None:
    """Not even the most urgent message is handed out after it: messages and stops do not share a lane."""
    worker = Worker(way)
    async with open_system() as system:
        ref = await system.spawn(worker)
        for number in range(1000):
            ref.send_nowait(number, priority=255)
        ref.stop_soon()
        worker.go.set()
        await ref.wait_stopped()
        assert (worker.told_to_stop, worker.received, ref.state) == (True, [], ActorState.STOPPED)
        assert system.dead_letters.statistics().by_reason == {Reason.UNREAD: 1000}


@pytest.mark.parametrize("way", PATIENT)
async def test_a_flood_of_urgent_messages_does_not_keep_a_stop_away(way: Way) -> None:
    """While senders never cease to send, and the actor never ceases to receive, it stops all the same."""

    async def flood() -> None:
        with suppress(ActorStopped):
            while True:
                await ref.send("urgent", priority=255)

    worker = Worker(way)
    worker.go.set()
    async with open_system() as system, anyio.create_task_group() as tasks:
        ref = await system.spawn(child(worker).options(stop_timeout=math.inf, capacity=10))
        for _ in range(3):
            tasks.start_soon(flood)
        with anyio.fail_after(30):
            while len(worker.received) < 100:
                await anyio.lowlevel.checkpoint()
            await ref.stop()
    assert worker.told_to_stop


@pytest.mark.parametrize("way", PATIENT)
async def test_a_parked_receiver_is_told_to_stop_at_once(way: Way) -> None:
    """Without a message, and without waiting for its timeout."""
    worker = Worker(way)
    worker.go.set()
    async with open_system() as system:
        ref = await system.spawn(child(worker).options(stop_timeout=math.inf))
        await settle()
        await ref.stop()
    assert (worker.told_to_stop, worker.received) == (True, [])


@pytest.mark.parametrize("way", WAYS)
async def test_a_drain_hands_out_what_is_queued_and_then_tells_to_stop(way: Way) -> None:
    """Most urgent first, and nothing that comes later; a pause is over."""
    worker = Worker(way)
    async with open_system() as system:
        ref = await system.spawn(worker)
        for number in range(25):
            ref.send_nowait(number, priority=number)
        await ref.pause()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: ref.stop(drain=True))
            await settle()
            worker.go.set()
    assert worker.received == list(reversed(range(25)))
    assert worker.told_to_stop


async def test_a_stop_that_leaves_in_a_group_is_a_normal_end() -> None:
    """As it does from a task group in which the actor receives."""

    async def grouped(ctx: Context[Any]) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ctx.receive)
            await ctx.receive()

    async with open_system() as system:
        ref = await system.spawn(grouped)
        await settle()
        await ref.stop()
    assert (ref.state, ref.statistics().last_crash) == (ActorState.STOPPED, None)


# ---- pausing


@pytest.mark.parametrize("way", PATIENT)
async def test_a_pause_keeps_a_receiver_waiting_though_messages_are_queued(way: Way) -> None:
    """Whether it was parked before or comes later; they are handed out when it is resumed."""
    worker = Worker(way)
    async with open_system() as system:
        ref = await system.spawn(worker)
        await ref.pause()
        for number in range(5):
            ref.send_nowait(number)
        worker.go.set()
        await settle()
        assert worker.received == []
        await ref.resume()
        await settle()
        assert worker.received == [0, 1, 2, 3, 4]
        await ref.pause()
        ref.send_nowait(5)
        await settle()
        assert worker.received == [0, 1, 2, 3, 4]
        await ref.resume()
        await settle()
        assert worker.received == [0, 1, 2, 3, 4, 5]


async def test_what_does_not_wait_finds_nothing_while_it_is_paused() -> None:
    """Neither does what waits no longer than a moment, nor an asker with a timeout."""
    outcomes: list[str] = []

    async def impatient(ctx: Context[Any]) -> None:
        ctx.ready()
        await go.wait()
        with pytest.raises(WouldBlock):
            ctx.receive_nowait()
        with pytest.raises(TimeoutError):
            await ctx.receive(timeout=0)
        outcomes.append("nothing")
        await ctx.wait_stopping()

    go = anyio.Event()
    async with open_system() as system:
        ref = await system.spawn(impatient)
        await ref.pause()
        ref.send_nowait("queued")
        go.set()
        await settle()
        assert (outcomes, ref.statistics().queued) == (["nothing"], 1)
        with pytest.raises(AskTimeout, match="state: paused, queued: 2"):
            await ref.ask(Question(1), timeout=0.01)


# ---- batches


async def test_a_timed_receive_waits_on_past_a_request_that_nobody_waits_for() -> None:
    """Until its own time is over, and not the request's."""
    got: list[Any] = []

    async def behaviour(ctx: Context[Any]) -> None:
        got.append(await ctx.receive(timeout=60))

    async with open_system() as system:
        ref = await system.spawn(behaviour)
        await settle()
        with pytest.raises(AskTimeout):
            await ref.ask(Question(1), timeout=0)
        await settle()
        assert got == []
        await ref.send("wanted")
        await settle()
    assert got == ["wanted"]


async def test_a_batch_leaves_out_requests_that_nobody_waits_for() -> None:
    """It has one message at least all the same, and waits if those were all there were."""
    batches: list[list[Any]] = []

    async def batching(ctx: Context[Any]) -> None:
        ctx.ready()
        await go.wait()
        while True:
            batches.append(await ctx.receive_batch(3))

    async def ask_in_vain(ref: ActorRef[Any]) -> None:
        for number in range(4):
            with pytest.raises(AskTimeout):
                await ref.ask(Question(number), timeout=0)

    go = anyio.Event()
    async with open_system() as system:
        ref = await system.spawn(batching)
        await ask_in_vain(ref)
        for number in range(4):
            await ref.send(number)
        await ask_in_vain(ref)
        go.set()
        await settle()
        assert batches == [[0, 1, 2], [3]]
        await ask_in_vain(ref)
        await settle()
        assert batches == [[0, 1, 2], [3]]
        await ref.send(4)
        await settle()
        assert batches == [[0, 1, 2], [3], [4]]
        assert system.dead_letters.statistics().by_reason.keys() == {Reason.EXPIRED}


async def test_the_requests_of_a_batch_are_all_in_hand() -> None:
    """They may be answered in any order, and what is left unanswered fails when the actor ends."""

    async def batching(ctx: Context[Question]) -> None:
        ctx.ready()
        await go.wait()
        batch = await ctx.receive_batch(10)
        assert ctx.self.statistics().unanswered == 3
        for request in reversed(batch):
            ctx.reply(request, request.number)

    async def ask(number: int) -> None:
        answers.append(await ref.ask(Question(number)))

    answers: list[int] = []
    go = anyio.Event()
    async with open_system() as system, anyio.create_task_group() as tasks:
        ref = await system.spawn(batching)
        for number in range(3):
            tasks.start_soon(ask, number)
        await settle()
        go.set()
    assert sorted(answers) == [0, 1, 2]
