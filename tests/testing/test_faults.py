"""Fault points: what fails where, once, and that it has failed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from rookery import (
    Actor,
    ActorCrashed,
    ActorRef,
    ChildSpec,
    Context,
    Request,
    Restart,
    StartFailed,
    child,
    message,
    open_system,
    task,
)
from rookery.testing import Faults, InjectedFault, settle


@message
class Add(Request[int]):
    a: int
    b: int


async def adder(ctx: Context[Add]) -> None:
    async for request in ctx:
        ctx.reply(request, request.a + request.b)


async def by_receive(ctx: Context[Add]) -> None:
    while True:
        request = await ctx.receive()
        ctx.reply(request, request.a + request.b)


async def by_batch(ctx: Context[Add]) -> None:
    while True:
        for request in await ctx.receive_batch(1):
            ctx.reply(request, request.a + request.b)


class Adder(Actor):
    async def add(self, a: int, b: int) -> int:
        return a + b


class ManyAtOnce(Actor):
    concurrency = 4

    async def add(self, a: int, b: int) -> int:
        return a + b


async def ask(ref: ActorRef[Any]) -> int:
    return await ref.ask(Add(1, 2))


async def call(ref: ActorRef[Any]) -> int:
    return await ref.call(Adder.add, 1, 2)


async def call_one_of_many(ref: ActorRef[Any]) -> int:
    return await ref.call(ManyAtOnce.add, 1, 2)


KINDS = [(adder, ask), (by_receive, ask), (by_batch, ask), (Adder, call), (ManyAtOnce, call_one_of_many)]


@pytest.fixture(params=KINDS, ids=lambda kind: kind[0].__name__)
def kind(request: pytest.FixtureRequest) -> tuple[ChildSpec[Any], Callable[[ActorRef[Any]], Any]]:
    behaviour, use = request.param
    return child(behaviour), use


async def test_without_faults_nothing_changes(kind: Any):
    """Name, accepted messages and answers are the spec's."""
    spec, use = kind
    wrapped = Faults().wrap(spec)
    assert (wrapped.name, wrapped.accepted, wrapped.settings) == (spec.name, spec.accepted, spec.settings)
    assert wrapped.ref is not spec.ref
    async with open_system() as system:
        assert await use(await system.spawn(wrapped)) == 3


@pytest.mark.parametrize("point", ["receive", "reply"])
async def test_the_nth_fails_and_the_next_does_not(kind: Any, point: Any):
    """The asker learns of it as of any crash; the restarted actor serves on."""
    spec, use = kind
    with Faults() as faults:
        faults.at(point, nth=3)
        async with open_system() as system:
            ref = await system.spawn(faults.wrap(spec))
            assert [await use(ref), await use(ref)] == [3, 3]
            with pytest.raises(ActorCrashed) as failed:
                await use(ref)
            assert isinstance(failed.value.__cause__, InjectedFault)
            assert [await use(ref), ref.statistics().restarts] == [3, 1]


async def test_a_start_fails(kind: Any):
    """The first in `spawn`."""
    spec, _use = kind
    with Faults() as faults:
        faults.at("start", error=ValueError("no disk"))
        async with open_system() as system:
            with pytest.raises(StartFailed, match="no disk"):
                await system.spawn(faults.wrap(spec))


async def test_a_start_that_fails_passes_no_cleanup(kind: Any):
    """There is nothing to clean up yet."""
    spec, _use = kind
    with (
        pytest.raises(AssertionError, match=r"1 of 2 faults never fired: cleanup .* \(0 passed\)$"),
        Faults() as faults,
    ):
        faults.at("start", error=ValueError("no disk"))
        faults.at("cleanup")
        async with open_system() as system:
            with pytest.raises(StartFailed, match="no disk"):
                await system.spawn(faults.wrap(spec))


async def refusing(ctx: Context[Add]) -> None:
    async for request in ctx:
        ctx.fail(request, LookupError(request.a))


async def test_a_fail_is_a_reply():
    """It answers with its error, and is a point like any reply."""
    with Faults() as faults:
        faults.at("reply", nth=2)
        async with open_system() as system:
            ref = await system.spawn(faults.wrap(child(refusing)))
            with pytest.raises(LookupError, match="1"):
                await ref.ask(Add(1, 2), timeout=10)
            with pytest.raises(ActorCrashed) as failed:
                await ask(ref)
            assert isinstance(failed.value.__cause__, InjectedFault)


async def test_a_batch_is_lost_as_a_whole():
    """Each of its messages is counted, and those beside the one that fails go with it."""
    batches: list[list[str]] = []

    async def patient(ctx: Context[str]) -> None:
        ctx.ready()
        await go.wait()
        while True:
            try:
                batches.append(await ctx.receive_batch(3))
            except InjectedFault:
                batches.append([])

    go = anyio.Event()
    with Faults() as faults:
        faults.at("receive", nth=5)
        async with open_system() as system:
            ref = await system.spawn(faults.wrap(child(patient)))
            for text in "abcdefg":
                await ref.send(text)
            go.set()
            await settle()
    assert batches == [["a", "b", "c"], [], ["g"]]


async def test_a_restart_fails(kind: Any):
    """The second start is that of the second incarnation; the third is tried."""
    spec, use = kind
    with Faults() as faults:
        faults.at("receive", nth=1)
        faults.at("start", nth=2)
        async with open_system() as system:
            ref = await system.spawn(faults.wrap(spec))
            with pytest.raises(ActorCrashed):
                await use(ref)
            assert [await use(ref), ref.statistics().restarts] == [3, 2]


async def test_a_cleanup_fails_after_the_actors_own(kind: Any):
    """What went wrong while stopping leaves the block."""
    spec, _use = kind
    fault = ValueError("in cleanup")
    with Faults() as faults:
        faults.at("cleanup", error=fault)
        with pytest.raises(ExceptionGroup) as failed:
            async with open_system() as system:
                await system.spawn(faults.wrap(spec))
        assert failed.value.exceptions == (fault,)


async def test_the_actors_own_cleanup_has_run_when_the_cleanup_fails():
    """Also after a crash, which the fault supersedes."""
    steps: list[str] = []

    async def careful(ctx: Context[object]) -> None:
        try:
            await ctx.receive()
            raise ValueError("its own")
        finally:
            steps.append("cleaned up")

    with Faults() as faults:
        faults.at("cleanup")
        async with open_system() as system:
            ref = await system.spawn(faults.wrap(child(careful).options(restart=Restart.TEMPORARY)))
            await ref.send("go")
            await ref.wait_stopped()
            crash = ref.statistics().last_crash
    assert steps == ["cleaned up"]
    assert isinstance(crash, InjectedFault)
    assert isinstance(crash.__context__, ValueError)


async def test_a_fault_is_for_the_actor_of_that_name_or_path():
    """Others pass the same point unharmed."""
    for of in ("second", "/second"):
        with Faults() as faults:
            faults.at("receive", of=of)
            async with open_system() as system:
                first, second = [
                    await system.spawn(faults.wrap(child(adder).options(name=name))) for name in ("first", "second")
                ]
                assert await ask(first) == 3
                with pytest.raises(ActorCrashed, match="/second"):
                    await ask(second)
                assert await ask(first) == 3


async def test_a_behaviour_may_handle_a_fault():
    """It is an error like any other."""
    handled: list[str] = []

    async def patient(ctx: Context[str]) -> None:
        while True:
            try:
                await ctx.receive()
            except InjectedFault as fault:
                handled.append(str(fault))

    with Faults() as faults:
        faults.at("receive", nth=2, of="patient")
        async with open_system() as system:
            ref = await system.spawn(faults.wrap(child(patient)))
            for text in "abc":
                await ref.send(text)
            await settle()
    assert handled == ["receive number 2 of patient, in /patient"]


async def test_a_receive_that_does_not_wait_is_a_point_too():
    """As every receive."""
    with Faults() as faults:
        faults.at("receive")

        async def hasty(ctx: Context[str]) -> None:
            await ctx.self.send("a")
            with pytest.raises(InjectedFault):
                ctx.receive_nowait()
            await ctx.self.send("b")
            assert ctx.receive_nowait() == "b"

        async with open_system() as system:
            await system.spawn(faults.wrap(child(hasty)))


def test_a_fault_that_never_fired_is_an_error():
    """It would test nothing."""
    never = r"^1 of 1 faults never fired: receive number 3 of worker \(0 passed\)$"
    with pytest.raises(AssertionError, match=never), Faults() as faults:
        faults.at("receive", nth=3, of="worker")


def test_an_error_of_the_block_leaves_it_as_it_is():
    """What went wrong first is what is told."""
    with pytest.raises(ValueError, match="first"), Faults() as faults:
        faults.at("receive")
        raise ValueError("first")


def test_misuse_is_told_what_to_write():
    """Wrong points, numbers, errors and children."""
    faults = Faults()
    with pytest.raises(ValueError, match=r"'start', 'receive', 'reply', 'cleanup', got 'send'"):
        faults.at("send")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="counts from 1, got 0"):
        faults.at("receive", nth=0)
    with pytest.raises(TypeError, match="error is an exception"):
        faults.at("receive", error=ValueError)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"faults\.wrap\(child\(behaviour"):
        faults.wrap(adder)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="adopted task"):
        faults.wrap(child(task(settle)))
