"""asyncio's own cancellation, which knows nothing of cancel scopes: whatever waits either completed or raised.

`Task.cancel()`, `asyncio.timeout` and `asyncio.wait_for` interrupt each public operation, alone and in the same tick
as what would have completed it. Leaving a system's block is in `test_stopping.py`.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import anyio
import pytest

from rookery import (
    ActorRef,
    ActorState,
    Context,
    Overflow,
    Reason,
    Request,
    System,
    WouldBlock,
    child,
    message,
    open_priority_channel,
    open_system,
)
from support import settle


@pytest.fixture(autouse=True)
def _asyncio_only(anyio_backend_name: str) -> None:
    if anyio_backend_name != "asyncio":
        pytest.skip("trio has no such cancellations")


@message
class Question(Request[int]):
    pass


class Puppet:
    """An actor whose context a test pulls the strings of."""

    ctx: Context[Any]
    ref: ActorRef[Any]

    def __init__(self) -> None:
        self.may_end = anyio.Event()

    async def __call__(self, ctx: Context[Any]) -> None:
        self.ctx = ctx
        await ctx.wait_stopping()
        await self.may_end.wait()

    def received(self) -> list[Any]:
        """Everything that can be received now."""
        messages: list[Any] = []
        while True:
            try:
                messages.append(self.ctx.receive_nowait())
            except WouldBlock:
                return messages


class Operation(ABC):
    """One thing to wait for."""

    grantable: ClassVar[bool] = True
    """Whether there is a plain call that completes it."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.puppet = Puppet()

    async def prepare(self) -> None:
        """Bring about that there is something to wait for."""
        spec = child(self.puppet).options(capacity=1)
        self.puppet.ref = await self.system.spawn(spec)

    @abstractmethod
    async def run(self) -> None:
        """Wait."""

    def waits(self) -> None:  # noqa: B027  # most have nothing to do here
        """It does wait now."""

    def grant(self) -> None:
        """Complete it."""
        raise NotImplementedError

    @abstractmethod
    async def check(self, *, granted: bool, done: bool) -> None:
        """What must hold, now that it has returned or raised."""


class BlockedSend(Operation):
    async def prepare(self) -> None:
        await super().prepare()
        self.puppet.ref.send_nowait("first")

    async def run(self) -> None:
        await self.puppet.ref.send("second")

    def grant(self) -> None:
        assert self.puppet.ctx.receive_nowait() == "first"

    async def check(self, *, granted: bool, done: bool) -> None:
        assert self.puppet.ref.statistics().blocked_senders == 0
        left = [] if granted else ["first"]
        assert self.puppet.received() == [*left, *(["second"] if done else [])]
        self.puppet.ref.send_nowait("third")  # the place is free again
        assert self.puppet.received() == ["third"]


class Receive(Operation):
    got: Any = None

    async def run(self) -> None:
        self.got = await self.puppet.ctx.receive()

    def grant(self) -> None:
        self.puppet.ref.send_nowait("message")

    async def check(self, *, granted: bool, done: bool) -> None:
        assert done == (self.got == "message")
        assert self.puppet.received() == (["message"] if granted and not done else [])


class ReceiveInTime(Receive):
    async def run(self) -> None:
        self.got = await self.puppet.ctx.receive(timeout=3600)


class ReceiveBatch(Receive):
    async def run(self) -> None:
        (self.got,) = await self.puppet.ctx.receive_batch(3)


class Iterate(Receive):
    async def run(self) -> None:
        self.got = await anext(self.puppet.ctx)


class QueuedAsk(Operation):
    grantable = False
    timeout: ClassVar[float | None] = None

    async def run(self) -> None:
        await self.puppet.ref.ask(Question(), timeout=self.timeout)

    async def check(self, *, granted: bool, done: bool) -> None:
        assert self.puppet.received() == []
        assert reasons(self.system) == {Reason.ABANDONED: 1}
        assert self.puppet.ref.statistics().unanswered == 0


class BlockedAsk(BlockedSend):
    timeout: ClassVar[float | None] = None

    async def run(self) -> None:
        await self.puppet.ref.ask(Question(), timeout=self.timeout)

    async def check(self, *, granted: bool, done: bool) -> None:
        assert not done  # nobody has answered
        await super().check(granted=granted, done=False)


class AskInHand(Operation):
    timeout: ClassVar[float | None] = None
    answer: int | None = None

    async def run(self) -> None:
        self.answer = await self.puppet.ref.ask(Question(), timeout=self.timeout)

    def waits(self) -> None:
        (self.request,) = self.puppet.received()

    def grant(self) -> None:
        self.puppet.ctx.reply(self.request, 42)

    async def check(self, *, granted: bool, done: bool) -> None:
        assert done == (self.answer == 42)
        if not granted:
            assert self.puppet.ctx.abandoned(self.request)
            self.puppet.ctx.reply(self.request, 42)
        assert reasons(self.system) == ({} if done else {Reason.LATE_REPLY: 1})
        assert self.puppet.ref.statistics().unanswered == 0


class QueuedAskInTime(QueuedAsk):
    timeout = 3600


class BlockedAskInTime(BlockedAsk):
    timeout = 3600


class AskInHandInTime(AskInHand):
    timeout = 3600


class Spawn(Operation):
    ctx: Context[Any]

    async def prepare(self) -> None:
        self.log: list[str] = []
        self.spec = child(self.starting).options(name="starting", stop_timeout=0)

    async def starting(self, ctx: Context[Any]) -> None:
        self.ctx = ctx
        try:
            await anyio.sleep_forever()
        finally:
            self.log.append("cleaned up")

    async def run(self) -> None:
        await self.system.spawn(self.spec)

    def grant(self) -> None:
        self.ctx.ready()

    async def check(self, *, granted: bool, done: bool) -> None:
        await settle()
        if done:
            assert self.spec.ref.state is ActorState.RUNNING
            return
        assert self.spec.ref.state in (ActorState.STOPPED, ActorState.FAILED)
        assert self.log == ["cleaned up"]
        await self.system.spawn(self.puppet, name="starting")  # the name is free


class Stop(Operation):
    grantable = False

    async def run(self) -> None:
        await self.puppet.ref.stop()

    async def check(self, *, granted: bool, done: bool) -> None:
        assert self.puppet.ref.state is ActorState.STOPPING  # only the waiting was cancelled
        self.puppet.may_end.set()
        await self.puppet.ref.stop()


class WaitStopped(Operation):
    grantable = False

    async def run(self) -> None:
        await self.puppet.ref.wait_stopped()

    async def check(self, *, granted: bool, done: bool) -> None:
        assert self.puppet.ref.state is ActorState.RUNNING
        self.puppet.may_end.set()
        await self.puppet.ref.stop()


class WaitStopping(Operation):
    stopping: bool = False

    async def run(self) -> None:
        await self.puppet.ctx.wait_stopping()
        self.stopping = True

    def grant(self) -> None:
        self.puppet.ref.stop_soon()

    async def check(self, *, granted: bool, done: bool) -> None:
        assert self.stopping == done
        assert self.puppet.ctx.stopping == granted


class ChannelSend(Operation):
    async def prepare(self) -> None:
        self.send, self.receive = open_priority_channel[str](1, overflow=Overflow.BLOCK)
        self.send.send_nowait("first")

    async def run(self) -> None:
        await self.send.send("second")

    def grant(self) -> None:
        assert self.receive.receive_nowait() == "first"

    async def check(self, *, granted: bool, done: bool) -> None:
        assert self.send.statistics().blocked_senders == 0
        self.send.close()
        left = [] if granted else ["first"]
        assert [item async for item in self.receive] == [*left, *(["second"] if done else [])]


class ChannelReceive(Operation):
    got: str | None = None

    async def prepare(self) -> None:
        self.send, self.receive = open_priority_channel[str](1)

    async def run(self) -> None:
        self.got = await self.receive.receive()

    def grant(self) -> None:
        self.send.send_nowait("item")

    async def check(self, *, granted: bool, done: bool) -> None:
        assert done == (self.got == "item")
        self.send.close()
        assert [item async for item in self.receive] == (["item"] if granted and not done else [])


OPERATIONS: list[type[Operation]] = [
    AskInHand,
    AskInHandInTime,
    BlockedAsk,
    BlockedAskInTime,
    BlockedSend,
    ChannelReceive,
    ChannelSend,
    Iterate,
    QueuedAsk,
    QueuedAskInTime,
    Receive,
    ReceiveBatch,
    ReceiveInTime,
    Spawn,
    Stop,
    WaitStopped,
    WaitStopping,
]
ORDERS = ["cancel", "cancel, grant", "grant, cancel"]
CASES = [
    pytest.param(operation, order, id=f"{operation.__name__}: {order}")
    for operation in OPERATIONS
    for order in ORDERS
    if operation.grantable or order == "cancel"
]


def reasons(system: System) -> dict[Reason, int]:
    return system.dead_letters.statistics().by_reason


class Interrupted:
    """An operation that waits in a task of its own, and whether it returned."""

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self.done = False

    async def run(self) -> None:
        await self.operation.run()
        self.done = True

    async def until_it_waits(self, task: asyncio.Task[None]) -> None:
        await settle()
        assert not task.done()
        self.operation.waits()

    def interrupt(self, order: str, cancel: Callable[[], object]) -> None:
        for step in order.split(", "):
            {"cancel": cancel, "grant": self.operation.grant}[step]()

    async def check(self, order: str) -> None:
        await self.operation.check(granted="grant" in order, done=self.done)
        self.operation.puppet.may_end.set()


@pytest.mark.parametrize(("kind", "order"), CASES)
async def test_a_cancelled_task_has_not_done_what_it_waited_for(kind: type[Operation], order: str) -> None:
    """`Task.cancel()`: the operation raises in any order, and the cancellation is not swallowed."""
    async with open_system() as system:
        operation = kind(system)
        await operation.prepare()
        interrupted = Interrupted(operation)
        task = asyncio.create_task(interrupted.run())
        await interrupted.until_it_waits(task)
        interrupted.interrupt(order, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (task.cancelled(), task.cancelling(), interrupted.done) == (True, 1, False)
        await interrupted.check(order)


@pytest.mark.parametrize(("kind", "order"), CASES)
async def test_a_timeout_ends_the_wait_or_comes_too_late(kind: type[Operation], order: str) -> None:
    """`asyncio.timeout`: the operation raises or returns, never both, and the task is left without a cancellation."""

    async def in_time() -> None:
        try:
            async with limit:
                await interrupted.run()
        finally:
            this_task = asyncio.current_task()
            assert this_task is not None
            left_over.append(this_task.cancelling())

    limit = asyncio.timeout(None)
    left_over: list[int] = []
    async with open_system() as system:
        operation = kind(system)
        await operation.prepare()
        interrupted = Interrupted(operation)
        task = asyncio.create_task(in_time())
        await interrupted.until_it_waits(task)
        interrupted.interrupt(order, lambda: limit.reschedule(asyncio.get_running_loop().time() - 1))
        (outcome,) = await asyncio.gather(task, return_exceptions=True)
        assert interrupted.done == (outcome is None)
        assert isinstance(outcome, TimeoutError | None)
        assert left_over == [0]
        await interrupted.check(order)


@pytest.mark.parametrize(("kind", "order"), CASES)
async def test_a_cancelled_wait_for_has_done_its_work_or_not(kind: type[Operation], order: str) -> None:
    """`asyncio.wait_for`, which runs the operation in another task up to Python 3.11: that one raises or returns."""
    async with open_system() as system:
        operation = kind(system)
        await operation.prepare()
        interrupted = Interrupted(operation)
        task = asyncio.create_task(asyncio.wait_for(interrupted.run(), 3600))
        await interrupted.until_it_waits(task)
        interrupted.interrupt(order, task.cancel)
        await asyncio.wait([task])
        assert task.cancelled() != interrupted.done
        await interrupted.check(order)


@pytest.mark.parametrize("kind", OPERATIONS)
async def test_a_wait_for_that_runs_out_of_time_has_changed_nothing(kind: type[Operation]) -> None:
    """`asyncio.wait_for`: it raises `TimeoutError`, and the operation was not completed."""
    async with open_system() as system:
        operation = kind(system)
        await operation.prepare()
        interrupted = Interrupted(operation)
        task = asyncio.create_task(interrupted.run())
        await interrupted.until_it_waits(task)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(task, 0)
        assert not interrupted.done
        await interrupted.check("cancel")


@pytest.mark.parametrize("order", ["cancel, grant", "grant, cancel"])
@pytest.mark.parametrize("kind", [BlockedSend, ChannelReceive, ChannelSend, Iterate, Receive, ReceiveInTime])
async def test_whoever_stands_behind_a_cancelled_task_is_served(kind: type[Operation], order: str) -> None:
    """The one in front passes on what it was granted in the tick of its cancellation."""
    async with open_system() as system:
        operation = kind(system)
        await operation.prepare()
        in_front = asyncio.create_task(operation.run())
        await settle()
        behind = asyncio.create_task(operation.run())
        await settle()
        Interrupted(operation).interrupt(order, in_front.cancel)
        await asyncio.wait([in_front])
        assert in_front.cancelled()
        async with asyncio.timeout(5):
            await behind
        operation.puppet.may_end.set()


# ---- what waits for one pass of the loop only


async def cancelled(call: Callable[[], Any]) -> None:
    task = asyncio.create_task(call())
    await asyncio.sleep(0)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def out_of_time(call: Callable[[], Any]) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await call()


async def waited_for_no_time(call: Callable[[], Any]) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(call(), 0)


@pytest.mark.parametrize("interrupt", [cancelled, out_of_time, waited_for_no_time])
async def test_a_cancelled_pause_or_resume_has_changed_nothing(interrupt: Callable[..., Any]) -> None:
    """They act after their checkpoint, not before."""
    async with open_system() as system:
        puppet = Puppet()
        ref = await system.spawn(puppet)
        ref.send_nowait("message")
        await interrupt(ref.pause)
        assert ref.state is ActorState.RUNNING
        await ref.pause()
        await interrupt(ref.resume)
        assert ref.state is ActorState.PAUSED
        assert puppet.received() == []
        await ref.resume()
        assert puppet.received() == ["message"]
        puppet.may_end.set()


@pytest.mark.parametrize("interrupt", [cancelled, out_of_time, waited_for_no_time])
async def test_a_cancelled_wait_for_what_has_happened_changes_nothing(interrupt: Callable[..., Any]) -> None:
    """Stopping what has stopped is a checkpoint, and may be cancelled as any."""
    async with open_system() as system:
        puppet = Puppet()
        puppet.may_end.set()
        ref = await system.spawn(puppet)
        await ref.stop()
        await interrupt(ref.stop)
        await interrupt(ref.wait_stopped)
        await interrupt(puppet.ctx.wait_stopping)
        assert ref.state is ActorState.STOPPED


# ---- giving way


@pytest.mark.parametrize("interrupt", [cancelled, out_of_time, waited_for_no_time])
async def test_a_sender_and_a_receiver_that_are_cancelled_while_they_give_way(interrupt: Callable[..., Any]) -> None:
    """They give way before the hand-over: nothing was sent, nothing was taken."""

    async def send_all() -> None:
        while True:
            await ref.send(len(sent))
            sent.append(len(sent))

    async def receive_all() -> None:
        while True:
            got.append(await puppet.ctx.receive())

    sent: list[int] = []
    got: list[int] = []
    async with open_system() as system:
        puppet = Puppet()
        ref = await system.spawn(puppet)
        await interrupt(send_all)
        assert sent == list(range(ref.statistics().queued))
        await interrupt(receive_all)
        assert ref.statistics().queued == len(sent) - len(got)
        assert [*got, *puppet.received()] == sent
        puppet.may_end.set()


# ---- all of them at once


async def test_whoever_cancels_every_task_gets_every_task_cancelled() -> None:
    """Askers, senders, spawners and the host all raise; actors clean up; nobody hangs and nothing is left running."""

    async def host() -> None:
        try:
            async with open_system() as system:
                puppets.append(puppet := Puppet())
                puppet.may_end.set()
                puppet.ref = ref = await system.spawn(child(puppet).options(capacity=1))
                async with asyncio.TaskGroup() as group:
                    group.create_task(ref.ask(Question()))
                    group.create_task(ref.send("blocked"))
                    group.create_task(system.spawn(asyncio_sleeper))
                    group.create_task(ref.wait_stopped())
        finally:
            log.append("host left")

    async def asyncio_sleeper(ctx: Context[Any]) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            log.append("actor cleaned up")

    log: list[str] = []
    puppets: list[Puppet] = []
    before = asyncio.all_tasks()
    running = asyncio.create_task(host())
    await settle()
    for task in asyncio.all_tasks() - before:
        task.cancel()
    with anyio.fail_after(5):
        with pytest.raises(asyncio.CancelledError):
            await running
    assert log == ["actor cleaned up", "host left"]
    assert puppets[0].ref.state in (ActorState.STOPPED, ActorState.FAILED)
    await settle()
    assert asyncio.all_tasks() == before
