"""`Actor` classes that serve several requests at once."""

from __future__ import annotations

import math
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from recorder import Log, Outcome, Pair, Recorder
from rookery import ActorCrashed, ActorRef, AskTimeout, Reason, Refused, Restart, child, open_system, request_for
from rookery._core.ref import cell_of
from stepped import Backend, jumping
from support import settle, settle_shielded


@pytest.fixture(scope="module")
def anyio_backend(anyio_backend: Backend) -> Backend:
    """However slow the machine is: time passes when everybody waits, and not otherwise."""
    return jumping(anyio_backend)


def cancel(ref: ActorRef[Any]) -> None:
    """As when its time is over."""
    cell = cell_of(ref)
    assert cell is not None
    cell.cancel()


async def test_no_more_requests_are_taken_than_may_run_at_once() -> None:
    """The rest stays in the mailbox, in its order, and takes the place of what ends."""
    gates = {name: anyio.Event() for name in "abcd"}
    log: Log = []

    class Gated(Pair):
        async def wait(self, name: str) -> str:
            self.log.append(f"{name} begins")
            await gates[name].wait()
            return name

    async with open_system() as system, anyio.create_task_group() as tasks:
        ref = await system.spawn(Gated, log)
        askers = []
        for name in gates:
            askers.append(Outcome(tasks, lambda name=name: ref.call(Gated.wait, name)))
            await settle()
        assert log[2:] == ["a begins", "b begins"]
        assert (ref.statistics().queued, ref.statistics().unanswered) == (2, 2)
        gates["b"].set()
        await settle()
        assert log[4:] == ["c begins"]
        assert [asker.value for asker in askers] == [None, "b", None, None]
        for gate in gates.values():
            gate.set()
        await settle()
        assert [asker.value for asker in askers] == list("abcd")
        assert ref.statistics().unanswered == 0


async def test_concurrency_is_that_of_the_class() -> None:
    """An attribute of the same name that an instance has is its own affair."""

    class Confused(Recorder):
        def __init__(self, log: Log) -> None:
            super().__init__(log)
            vars(self)["concurrency"] = 2

    log: Log = []
    async with open_system() as system:
        ref = await system.spawn(child(Confused, log).options(stop_timeout=0.1))
        for name in "ab":
            await ref.cast(Recorder.work, name)
        await settle()
        assert log == ["init", "start", "a begins"]


async def test_several_at_once_have_deadlines_and_refusals_each_of_its_own() -> None:
    """One is cut off, one refuses, and neither disturbs the other or the actor."""
    gate, log = anyio.Event(), []
    async with open_system() as system, anyio.create_task_group() as tasks:
        ref = await system.spawn(Pair, log, gate)
        patient = Outcome(tasks, lambda: ref.call(Recorder.work, "a"))
        with pytest.raises(KeyError, match="no"):
            await ref.call(Recorder.refuse)
        with pytest.raises(AskTimeout):
            await ref.ask(request_for(Recorder.work, "b"), timeout=0.1)
        gate.set()
        await settle()
        assert patient.value == "a"
        assert ref.statistics().restarts == 0
    assert log == ["init", "start", "a begins", "b begins", "b cancelled", "a ends", "stop"]


async def test_one_object_asked_twice_at_once_leaves_nobody_waiting() -> None:
    """The two cannot be told apart: the deadline of the one is that of the other."""
    log: Log = []
    async with open_system() as system, anyio.create_task_group() as tasks:
        ref = await system.spawn(Pair, log)
        request = request_for(Recorder.work, "same")
        hasty = Outcome(tasks, lambda: ref.ask(request, timeout=0.1))
        await settle()
        patient = Outcome(tasks, lambda: ref.ask(request))
        with anyio.fail_after(5):
            await patient.done.wait()
        assert isinstance(hasty.value, AskTimeout)
        assert isinstance(patient.value, AskTimeout)
        assert ref.statistics().unanswered == 0


@pytest.mark.parametrize("sent_first", [True, False], ids=["sent first", "asked first"])
@pytest.mark.parametrize("method", ["answer", "refuse", "run out of time"])
async def test_one_object_sent_and_asked_at_once_is_answered_once(method: str, *, sent_first: bool) -> None:
    """Whichever service ends first answers; the other has nobody to answer, and harms nobody."""

    class Both(Pair):
        async def reject(self) -> None:
            await self.gate.wait()
            raise Refused(KeyError("no"))

    gate = anyio.Event()
    async with open_system() as system, anyio.create_task_group() as tasks:
        ref = await system.spawn(Both, [], gate)
        request: Any = request_for(Both.reject) if method == "refuse" else request_for(Recorder.work, "same")
        if sent_first:
            await ref.send(request)
        asker = Outcome(tasks, lambda: ref.ask(request, timeout=0.1 if method == "run out of time" else None))
        await settle()
        if not sent_first:
            await ref.send(request)
            await settle()
        if method != "run out of time":
            gate.set()
        with anyio.fail_after(5):
            await asker.done.wait()
        gate.set()
        await settle()
        expected = {"answer": "'same'", "refuse": "KeyError('no')", "run out of time": "AskTimeout("}[method]
        assert repr(asker.value).startswith(expected)
        assert (ref.statistics().restarts, ref.statistics().unanswered) == (0, 0)
        refused = {Reason.NOT_ASKED: 1} if method == "refuse" else {}
        assert system.dead_letters.statistics().by_reason == refused


async def test_an_answer_that_comes_long_after_its_asker_has_left_is_a_dead_letter() -> None:
    """Also where so many have left that the actor keeps their requests no longer."""

    class Crowd(Recorder):
        concurrency = 100

        async def work(self, name: str) -> str:
            with anyio.CancelScope(shield=True):
                await self.gate.wait()
            return name

    gate = anyio.Event()
    async with open_system() as system, anyio.create_task_group() as tasks:
        ref = await system.spawn(Crowd, [], gate)
        left = [Outcome(tasks, lambda: ref.call(Recorder.work, "late")) for _ in range(64)]
        while ref.statistics().received < 64:  # on a slow machine a turn is over after few of them
            await settle()
        for asker in left:
            asker.scope.cancel()
        patient = Outcome(tasks, lambda: ref.call(Recorder.work, "in time"))
        while ref.statistics().received < 65:
            await settle()
        gate.set()
        await patient.done.wait()
        while system.dead_letters.statistics().total < 64:
            await settle()
        assert patient.value == "in time"
        assert system.dead_letters.statistics().by_reason == {Reason.LATE_REPLY: 64}


async def test_a_crash_loses_what_is_in_hand_and_takes_nothing_more() -> None:
    """The requests that wait in the mailbox are the next incarnation's."""

    class Fragile(Pair):
        async def crash_later(self) -> None:
            await fuse.wait()
            await self.ctx.self.send(
                request_for(Recorder.note, "last")
            )  # a turn of its own: the next poll need not wait
            raise ValueError("boom")

    fuse, log = anyio.Event(), []
    async with open_system() as system, anyio.create_task_group() as tasks:
        ref = await system.spawn(Fragile, log)
        await ref.cast(Fragile.crash_later)
        holding = Outcome(tasks, lambda: ref.call(Recorder.work, "held"))
        await settle()
        for name in "abc":
            await ref.cast(Recorder.note, name)
        queued = Outcome(tasks, lambda: ref.call(Recorder.note, "asked"))
        await settle()
        fuse.set()
        await settle()
        assert isinstance(holding.value, ActorCrashed)
        assert queued.value is None
        assert log[2:7] == ["held begins", "held cancelled", "stop", "init", "start"]
        assert sorted(log[7:]) == ["a", "asked", "b", "c", "last"]  # on trio, chance says which of two begins first


async def test_a_method_that_a_stop_ends_is_waited_for_no_longer() -> None:
    """A receive of its own is told of the stop, and that is no crash."""

    class Receiving(Pair):
        async def receive(self) -> None:
            await self.ctx.receive()

    log: Log = []
    async with open_system() as system:
        ref = await system.spawn(child(Receiving, log).options(stop_timeout=math.inf))
        await ref.cast(Receiving.receive)
        await settle()
        with anyio.fail_after(5):
            await ref.stop()
        assert ref.statistics().last_crash is None
    assert log == ["init", "start", "stop"]


async def test_what_a_stop_closes_is_used_by_no_method_any_more() -> None:
    """`on_stop` comes after the cleanup of what a crash has cancelled."""

    class Tidy(Pair):
        async def hold(self) -> None:
            try:
                await anyio.sleep_forever()
            finally:
                await settle_shielded()
                self.log.append("tidied up")

    log: Log = []
    async with open_system() as system:
        ref = await system.spawn(child(Tidy, log).options(restart=Restart.TEMPORARY))
        await ref.cast(Tidy.hold)
        await settle()
        await ref.cast(Recorder.crash, ValueError("boom"))
        await ref.wait_stopped()
    assert log == ["init", "start", "crash", "tidied up", "stop"]


async def test_a_method_that_does_not_end_does_not_hold_up_the_stop_for_ever() -> None:
    """After another stop timeout `on_stop` is called all the same."""
    stopped, log = anyio.Event(), []

    class Deaf(Pair):
        async def insist(self) -> None:
            with anyio.CancelScope(shield=True):
                await stopped.wait()

        async def on_stop(self) -> None:
            stopped.set()
            await super().on_stop()

    async with open_system() as system:
        ref = await system.spawn(child(Deaf, log).options(stop_timeout=0.1))
        await ref.cast(Deaf.insist)
        await settle()
        with anyio.fail_after(5):
            await ref.stop()
    assert log == ["init", "start", "stop"]


async def test_no_request_begins_once_the_stop_has() -> None:
    """Also not one whose task was started, and has not had its first turn when the actor is cancelled."""

    class Careful(Pair):
        async def on_stop(self) -> None:
            self.log.append("stopping")
            await super().on_stop()

    async with open_system() as system:
        for _ in range(50):  # on trio, chance says which task has its turn first
            log: Log = []
            ref = await system.spawn(child(Careful, log))
            await ref.pause()
            await ref.cast(Recorder.note, "x")
            await ref.resume()
            await checkpoint()
            cancel(ref)
            await ref.wait_stopped()
            assert log in (["init", "start", "stopping", "stop"], ["init", "start", "x", "stopping", "stop"])
