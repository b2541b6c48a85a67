"""What the event loops can do at best, and what else is at hand on them: written for that loop, without rookery."""

# pyright: reportPossiblyUnboundVariable=false
# What is set inside a nursery is read behind it: a nursery that swallowed a cancellation could have skipped it; none does here.

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

import anyio
import attrs
import outcome
import trio

from harness import expect
from workload import CAPACITY, Note, Sending, Stopwatch, Tally, Transport, sum_below

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from types import TracebackType


# ---- round trips between two tasks


async def trio_round_trips(count: int) -> float:
    """Seconds for that many round trips between two trio tasks that reschedule each other, and do nothing else."""
    client, total = trio.lowlevel.current_task(), 0
    async with trio.open_nursery() as nursery:
        server: trio.lowlevel.Task = await nursery.start(_trio_server, client, count)
        watch = Stopwatch()
        for number in range(count):
            trio.lowlevel.reschedule(server, outcome.Value(number))
            total += await trio.lowlevel.wait_task_rescheduled(_let_go)
        seconds = watch.seconds()
    expect(total, sum_below(count), "sum of the answers")
    return seconds


async def _trio_server(client: trio.lowlevel.Task, count: int, *, task_status: trio.TaskStatus[Any]) -> None:
    task_status.started(trio.lowlevel.current_task())
    for _ in range(count):
        number = await trio.lowlevel.wait_task_rescheduled(_let_go)
        trio.lowlevel.reschedule(client, outcome.Value(number))


def _let_go(_raise_cancel: object) -> trio.lowlevel.Abort:
    return trio.lowlevel.Abort.SUCCEEDED


async def asyncio_round_trips(count: int) -> float:
    """Seconds for that many round trips between two asyncio tasks, over one future there and one back."""
    loop, total = asyncio.get_running_loop(), 0
    question: asyncio.Future[tuple[int, asyncio.Future[int]]] = loop.create_future()

    async def serve() -> None:
        nonlocal question
        for _ in range(count):
            number, answer = await question
            question = loop.create_future()
            answer.set_result(number)

    async with asyncio.TaskGroup() as group:
        group.create_task(serve())
        await asyncio.sleep(0)
        watch = Stopwatch()
        for number in range(count):
            answer: asyncio.Future[int] = loop.create_future()
            question.set_result((number, answer))
            total += await answer
        seconds = watch.seconds()
    expect(total, sum_below(count), "sum of the answers")
    return seconds


# ---- messages from one task to another


class SendEnd(Protocol):
    """The sender's end of a channel, as trio and anyio have it."""

    async def send(self, value: Note, /) -> None: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...


class ReceiveEnd(Protocol):
    """The receiver's end of a channel, as trio and anyio have it."""

    def __aiter__(self) -> AsyncIterator[Note]: ...
    async def aclose(self) -> None: ...


async def trio_channel(count: int, sending: Sending) -> float:
    """Seconds until that many messages have come through a trio memory channel and been handled."""
    send, receive = trio.open_memory_channel[Note](CAPACITY)
    return await _through(send, receive, count, sending)


async def anyio_stream(count: int, sending: Sending) -> float:
    """Seconds until that many messages have come through an anyio memory object stream and been handled."""
    send, receive = anyio.create_memory_object_stream[Note](CAPACITY)
    return await _through(send, receive, count, sending)


async def _through(send: SendEnd, receive: ReceiveEnd, count: int, sending: Sending) -> float:
    tally = Tally()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tally.take, receive)
        await anyio.wait_all_tasks_blocked()
        watch = Stopwatch()
        async with send:
            await sending.feed(send.send, count)
    seconds = watch.seconds()
    await receive.aclose()
    tally.check(count, sending.total(count))
    return seconds


async def asyncio_queue(count: int, sending: Sending) -> float:
    """Seconds until that many messages have come through an `asyncio.Queue` and been handled."""
    tally, queue = Tally(), asyncio.Queue[Note](CAPACITY)

    async def take() -> None:
        for _ in range(count):
            note = await queue.get()
            tally.handled += 1
            tally.total += note.number

    async with asyncio.TaskGroup() as group:
        group.create_task(take())
        await asyncio.sleep(0)
        watch = Stopwatch()
        await sending.feed(queue.put, count)
    seconds = watch.seconds()
    tally.check(count, sending.total(count))
    return seconds


async def bare_deque(count: int, sending: Sending) -> float:
    """Seconds for that many messages through a deque in one task, which empties it whenever it is full.

    An append and an awaited coroutine that never waits: what any mailbox costs at least.
    """
    tally, queue = Tally(), deque[Note]()

    async def put(note: Note) -> None:
        queue.append(note)
        if len(queue) == CAPACITY:
            take()

    def take() -> None:
        while queue:
            note = queue.popleft()
            tally.handled += 1
            tally.total += note.number

    watch = Stopwatch()
    await sending.feed(put, count)
    take()
    seconds = watch.seconds()
    tally.check(count, sending.total(count))
    return seconds


# ---- tasks: their start and their end


@attrs.define
class Idlers:
    """Tasks that do nothing, counted."""

    started: int = 0
    ended: int = 0

    async def trio_task(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Idle on trio."""
        await self._idle(trio.sleep_forever, task_status)

    async def asyncio_task(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Idle on asyncio, on a bare future."""
        await self._idle(asyncio.get_running_loop().create_future, task_status)

    async def _idle(self, park: Callable[[], Awaitable[object]], task_status: anyio.abc.TaskStatus[None]) -> None:
        self.started += 1
        task_status.started()
        try:
            await park()
        finally:
            self.ended += 1

    async def wait_started(self, count: int) -> None:
        """Until that many have taken their first step."""
        while self.started < count:
            await anyio.lowlevel.checkpoint()


async def trio_start_soon(count: int) -> float:
    """Seconds until that many tasks, begun by `Nursery.start_soon`, have taken their first step."""
    idlers = Idlers()
    async with trio.open_nursery() as nursery:
        watch = Stopwatch()
        for _ in range(count):
            nursery.start_soon(idlers.trio_task)
        await idlers.wait_started(count)
        seconds = watch.seconds()
        nursery.cancel_scope.cancel()
    expect((idlers.started, idlers.ended), (count, count), "tasks started and ended")
    return seconds


async def trio_start(count: int) -> float:
    """Seconds for that many `await nursery.start(...)`, one after another."""
    idlers = Idlers()
    async with trio.open_nursery() as nursery:
        watch = Stopwatch()
        for _ in range(count):
            await nursery.start(idlers.trio_task)
        seconds = watch.seconds()
        nursery.cancel_scope.cancel()
    expect((idlers.started, idlers.ended), (count, count), "tasks started and ended")
    return seconds


async def trio_cancel(count: int) -> float:
    """Seconds from the cancellation of a nursery with that many idle tasks until all have ended."""
    idlers = Idlers()
    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(idlers.trio_task)
        await idlers.wait_started(count)
        watch = Stopwatch()
        nursery.cancel_scope.cancel()
    seconds = watch.seconds()
    expect(idlers.ended, count, "tasks ended")
    return seconds


async def asyncio_create_task(count: int) -> float:
    """Seconds until that many tasks, made by `asyncio.TaskGroup.create_task`, have taken their first step."""
    idlers = Idlers()
    async with asyncio.TaskGroup() as group:
        watch = Stopwatch()
        tasks = [group.create_task(idlers.asyncio_task()) for _ in range(count)]
        await idlers.wait_started(count)
        seconds = watch.seconds()
        for task in tasks:
            task.cancel()
    expect((idlers.started, idlers.ended), (count, count), "tasks started and ended")
    return seconds


async def anyio_start(count: int) -> float:
    """Seconds for that many `await task_group.start(...)` of anyio's, one after another."""
    idlers = Idlers()
    async with anyio.create_task_group() as tasks:
        watch = Stopwatch()
        for _ in range(count):
            await tasks.start(idlers.asyncio_task)
        seconds = watch.seconds()
        tasks.cancel_scope.cancel()
    expect((idlers.started, idlers.ended), (count, count), "tasks started and ended")
    return seconds


async def asyncio_cancel(count: int) -> float:
    """Seconds from the cancellation of that many idle asyncio tasks until all have ended."""
    idlers = Idlers()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(idlers.asyncio_task()) for _ in range(count)]
        await idlers.wait_started(count)
        watch = Stopwatch()
        for task in tasks:
            task.cancel()
    seconds = watch.seconds()
    expect(idlers.ended, count, "tasks ended")
    return seconds


# ---- which of them stand beside rookery, on which loop


@attrs.frozen
class Baseline:
    """The limits of one kind of loop, and what else programs use there, each with its name.

    Attributes:
        round_trip: Two tasks that wake each other.
        channel: What passes messages with back-pressure.
        other_channels: What else does.
        start: What begins a task without waiting for it.
        other_starts: What waits until the task is ready.
        cancel: What ends idle tasks.
    """

    round_trip: tuple[str, Callable[[int], Awaitable[float]]]
    channel: tuple[str, Transport]
    other_channels: tuple[tuple[str, Transport], ...]
    start: tuple[str, Callable[[int], Awaitable[float]]]
    other_starts: tuple[tuple[str, Callable[[int], Awaitable[float]]], ...]
    cancel: tuple[str, Callable[[int], Awaitable[float]]]


TRIO: Final = Baseline(
    round_trip=("wait_task_rescheduled", trio_round_trips),
    channel=("trio memory channel", trio_channel),
    other_channels=(("bare deque, one task", bare_deque),),
    start=("nursery.start_soon", trio_start_soon),
    other_starts=(("nursery.start", trio_start),),
    cancel=("cancelling a nursery", trio_cancel),
)

ASYNCIO: Final = Baseline(
    round_trip=("one future each way", asyncio_round_trips),
    channel=("anyio object stream", anyio_stream),
    other_channels=(("asyncio.Queue", asyncio_queue), ("bare deque, one task", bare_deque)),
    start=("TaskGroup.create_task", asyncio_create_task),
    other_starts=(("anyio's TaskGroup.start", anyio_start),),
    cancel=("cancelling every task", asyncio_cancel),
)
"""uvloop's too."""


def baseline_of(loop: str) -> Baseline:
    """The limits of a loop that the harness names."""
    return TRIO if loop == "trio" else ASYNCIO
