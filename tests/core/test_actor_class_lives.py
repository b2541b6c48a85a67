"""`Actor` classes at work: how they start, and how their requests are served one at a time."""

from __future__ import annotations

import math
from typing import Any

import anyio
import pytest

from recorder import Log, Outcome, Recorder
from rookery import (
    Actor,
    ActorCrashed,
    ActorRef,
    ActorState,
    AskCycle,
    AskTimeout,
    Reason,
    Refused,
    StartFailed,
    StopFromWithin,
    System,
    child,
    open_system,
    request_for,
)
from stepped import Backend, jumping
from support import settle


@pytest.fixture(scope="module")
def anyio_backend(anyio_backend: Backend) -> Backend:
    """However slow the machine is: time passes when everybody waits, and not otherwise."""
    return jumping(anyio_backend)


def reasons(system: System) -> dict[Reason, int]:
    """Counts of dead letters."""
    return system.dead_letters.statistics().by_reason


# ---- starting


async def test_an_actor_class_is_ready_when_its_start_has_returned() -> None:
    """Not before: `spawn` waits for it, and so does the first request."""
    gate, log = anyio.Event(), []

    class Slow(Recorder):
        async def on_start(self) -> None:
            await self.gate.wait()
            await super().on_start()

    async with open_system() as system, anyio.create_task_group() as tasks:
        spec = child(Slow, log, gate)
        spawning = Outcome(tasks, lambda: system.spawn(spec))
        await settle()
        assert (spawning.value, spec.ref.state) == (None, ActorState.STARTING)
        await spec.ref.cast(Slow.note, "x")
        gate.set()
        await settle()
        assert spawning.value is spec.ref
        assert log == ["init", "start", "x"]


@pytest.mark.parametrize("where", ["__init__", "on_start"])
async def test_what_the_start_raises_is_a_start_failure(where: str) -> None:
    """With the error as its cause; there is nothing to stop then."""
    log: Log = []

    class Broken(Recorder):
        def __init__(self, log: Log) -> None:
            super().__init__(log)
            if where == "__init__":
                raise ValueError("broken")

        async def on_start(self) -> None:
            raise ValueError("broken")

    async with open_system() as system:
        with pytest.raises(StartFailed) as raised:
            await system.spawn(Broken, log)
    assert repr(raised.value.__cause__) == "ValueError('broken')"
    assert log == ["init"]


async def test_a_start_that_takes_too_long_or_is_cancelled_is_not_followed_by_a_stop() -> None:
    """`on_stop` is for what `on_start` has completed."""
    log: Log = []

    class Stuck(Recorder):
        async def on_start(self) -> None:
            await anyio.sleep_forever()

    async with open_system() as system, anyio.create_task_group() as tasks:
        with pytest.raises(StartFailed) as raised:
            await system.spawn(child(Stuck, log).options(start_timeout=0.01))
        assert isinstance(raised.value.__cause__, TimeoutError)
        spawning = Outcome(tasks, lambda: system.spawn(Stuck, log))
        await settle()
        spawning.scope.cancel()
        await settle()
    assert log == ["init", "init"]


async def test_a_stop_during_the_start_takes_effect_afterwards() -> None:
    """`spawn` still returns, and what was started is stopped."""
    gate, log = anyio.Event(), []

    class Slow(Recorder):
        async def on_start(self) -> None:
            await self.gate.wait()
            await super().on_start()

    async with open_system() as system, anyio.create_task_group() as tasks:
        spec = child(Slow, log, gate)
        spawning = Outcome(tasks, lambda: system.spawn(spec))
        await settle()
        spec.ref.stop_soon()
        await settle()
        assert log == ["init"]
        gate.set()
        await spec.ref.wait_stopped()
        await settle()
        assert spawning.value is spec.ref
        assert log == ["init", "start", "stop"]


async def test_every_incarnation_is_a_fresh_instance() -> None:
    """Made with the same arguments; its context knows which one it is."""
    instances: list[Actor] = []

    class Counting(Actor):
        def __init__(self, *, first: int) -> None:
            self.count = first
            instances.append(self)

        async def next(self) -> tuple[int, int]:
            self.count += 1
            return self.count, self.ctx.incarnation

        async def crash(self) -> None:
            raise ValueError

    async with open_system() as system:
        ref = await system.spawn(child(Counting, first=5))
        assert [await ref.call(Counting.next) for _ in range(2)] == [(6, 1), (7, 1)]
        await ref.cast(Counting.crash)
        assert await ref.call(Counting.next) == (6, 2)
    assert len(set(map(id, instances))) == 2


# ---- serving, one at a time


async def test_requests_are_served_one_at_a_time_in_the_order_of_the_mailbox() -> None:
    """The urgent first, and each to its end."""
    gate, log = anyio.Event(), []
    async with open_system() as system:
        ref = await system.spawn(Recorder, log, gate)
        await ref.cast(Recorder.work, "a")
        await settle()
        await ref.cast(Recorder.work, "b")
        await ref.send(request_for(Recorder.work, "urgent"), priority=200)
        await settle()
        assert log == ["init", "start", "a begins"]
        gate.set()
        await settle()
    served = [f"{name} {what}" for name in ("a", "urgent", "b") for what in ("begins", "ends")]
    assert log == ["init", "start", *served, "stop"]


async def test_an_exception_that_leaves_a_method_crashes_the_actor() -> None:
    """Its asker gets `ActorCrashed` with the cause, the instance is stopped, and the next one serves the queue."""
    log: Log = []
    async with open_system() as system, anyio.create_task_group() as tasks:
        ref = await system.spawn(Recorder, log)
        await ref.pause()
        crashing = Outcome(tasks, lambda: ref.call(Recorder.crash, ValueError("boom")))
        await settle()
        await ref.cast(Recorder.note, "next")
        await ref.resume()
        await settle()
        assert isinstance(crashing.value, ActorCrashed)
        assert repr(crashing.value.__cause__) == "ValueError('boom')"
        assert "Recorder.crash in hand" in str(crashing.value)
        assert ref.statistics().restarts == 1
    assert log == ["init", "start", "crash", "stop", "init", "start", "next", "stop"]


async def test_a_method_is_cancelled_when_its_deadline_passes() -> None:
    """The asker has its timeout or its cancellation; the actor lives on, with nothing in hand."""
    log: Log = []
    async with open_system() as system:
        ref = await system.spawn(Recorder, log)
        with pytest.raises(AskTimeout):
            await ref.ask(request_for(Recorder.work, "a"), timeout=0.1)
        with anyio.move_on_after(0.1) as scope:
            await ref.call(Recorder.work, "b")
        assert scope.cancelled_caught
        await ref.call(Recorder.note, "c")
        assert (ref.statistics().unanswered, ref.statistics().restarts) == (0, 0)
        assert reasons(system) == {}
    assert log == ["init", "start", "a begins", "a cancelled", "b begins", "b cancelled", "c", "stop"]


async def test_what_a_method_asks_inherits_its_deadline() -> None:
    """The innermost request is cancelled at the deadline of the outermost."""
    log: Log = []

    class Front(Actor):
        def __init__(self, back: ActorRef[Recorder]) -> None:
            self.back = back

        async def relay(self) -> str:
            return await self.back.call(Recorder.work, "far")

    async with open_system() as system:
        back = await system.spawn(Recorder, log)
        front = await system.spawn(Front, back)
        with pytest.raises(AskTimeout):
            await front.ask(request_for(Front.relay), timeout=0.1)
        await back.call(Recorder.note, "free")
    assert log == ["init", "start", "far begins", "far cancelled", "free", "stop"]


async def test_a_request_object_can_be_asked_again_after_its_deadline() -> None:
    """The one that was given up is no longer in hand, so the second ask gets the answer."""
    gate, log = anyio.Event(), []
    async with open_system() as system:
        ref = await system.spawn(Recorder, log, gate)
        request = request_for(Recorder.work, "again")
        with pytest.raises(AskTimeout):
            await ref.ask(request, timeout=0.1)
        gate.set()
        assert await ref.ask(request) == "again"


async def test_a_method_that_does_not_heed_its_deadline_makes_a_late_reply() -> None:
    """It is served to its end, and the answer counted."""
    gate, log = anyio.Event(), []

    class Stubborn(Recorder):
        async def insist(self) -> int:
            with anyio.CancelScope(shield=True):
                await self.gate.wait()
            return 7

    async with open_system() as system:
        ref = await system.spawn(Stubborn, log, gate)
        with pytest.raises(AskTimeout):
            await ref.ask(request_for(Stubborn.insist), timeout=0.1)
        gate.set()
        await settle()
        assert reasons(system) == {Reason.LATE_REPLY: 1}
        assert ref.statistics().restarts == 0


async def test_an_asker_that_leaves_without_a_deadline_does_not_stop_the_method() -> None:
    """Its answer is a late reply."""
    gate, log = anyio.Event(), []
    async with open_system() as system, anyio.create_task_group() as tasks:
        ref = await system.spawn(Recorder, log, gate)
        asker = Outcome(tasks, lambda: ref.call(Recorder.work, "a"))
        await settle()
        asker.scope.cancel()
        gate.set()
        await settle()
        assert log == ["init", "start", "a begins", "a ends"]
        assert reasons(system) == {Reason.LATE_REPLY: 1}


class Link(Actor):
    """Asks the next in the chain."""

    def __init__(self, following: list[ActorRef[Any]]) -> None:
        self.following = following

    async def pass_on(self, steps: int) -> int:
        try:
            return steps and await self.following[0].call(Link.pass_on, steps - 1)
        except AskCycle as error:
            raise Refused(error) from None


class BroadLink(Link):
    """Serves several at once."""

    concurrency = 3


async def test_a_circle_of_calls_is_an_error_unless_the_class_serves_several_at_once() -> None:
    """One at a time, methods run in the main task, and a circle of them could never be answered; in tasks it can."""
    async with open_system() as system:
        for cls in (Link, BroadLink):
            following: list[ActorRef[Any]] = []
            first = await system.spawn(cls, [await system.spawn(cls, following)])
            following.append(first)
            assert await first.call(Link.pass_on, 1) == 0
            if cls is BroadLink:
                assert await first.call(Link.pass_on, 3) == 0
            else:
                with pytest.raises(AskCycle, match="nobody in this circle could ever answer"):
                    await first.call(Link.pass_on, 3)
            assert first.statistics().restarts == 0


async def test_a_method_cannot_wait_for_the_end_of_its_own_actor() -> None:
    """It may ask for it, and is served to its end then."""
    log: Log = []

    class Quitter(Recorder):
        async def quit(self) -> str:
            with pytest.raises(StopFromWithin):
                await self.ctx.self.stop()
            self.ctx.self.stop_soon()
            return "bye"

    async with open_system() as system:
        ref = await system.spawn(Quitter, log)
        assert await ref.call(Quitter.quit) == "bye"
        await ref.wait_stopped()
        assert log == ["init", "start", "stop"]


async def test_a_caller_whose_deadline_is_moved_while_its_method_runs_is_told() -> None:
    """The method is cut off at the deadline as it was; nobody waits for it any longer."""

    class Slow(Actor):
        async def work(self) -> None:
            await anyio.sleep_forever()

    async with open_system() as system:
        ref = await system.spawn(Slow)
        with anyio.CancelScope(deadline=anyio.current_time() + 0.05) as scope:
            async with anyio.create_task_group() as tasks:

                async def move() -> None:
                    scope.deadline = math.inf

                tasks.start_soon(move)
                with pytest.raises(AskTimeout, match="set it before asking"):
                    await ref.call(Slow.work)
        assert not scope.cancelled_caught
