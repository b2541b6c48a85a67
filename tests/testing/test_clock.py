"""The virtual clock: time jumps when everybody sleeps, and only then."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import anyio
import pytest
import trio

from rookery import ActorRef, AskTimeout, Backoff, Context, Intensity, Request, child, message, open_system
from rookery.testing import settle, shuffled, virtual_clock

HOUR = 3600.0


@pytest.fixture(
    params=[("trio", False), ("asyncio", True), ("asyncio", False)], ids=["trio", "asyncio-debug", "asyncio"]
)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    name, debug = request.param
    return virtual_clock(name, debug=debug)


@message
class Ping(Request[str]):
    pass


async def test_it_begins_at_zero():
    """Each clock is a new one."""
    assert 0 <= anyio.current_time() < 1e-6


async def test_a_sleep_takes_exactly_its_time():
    """To the digit: no time passes besides, however long the work takes."""
    began = anyio.current_time()
    await anyio.sleep(HOUR)
    assert anyio.current_time() == pytest.approx(began + HOUR, abs=1e-9)


async def test_time_stands_still_while_somebody_runs():
    """Real time goes on, and that is of no concern."""
    began = anyio.current_time()
    for _ in range(20):
        time.sleep(0.001)  # noqa: ASYNC251  # work that takes its time
        await anyio.lowlevel.checkpoint()
    assert anyio.current_time() == began


async def test_sleepers_wake_in_the_order_of_their_times():
    """Each at its own time."""
    woken: list[tuple[float, float]] = []

    async def sleeper(seconds: float) -> None:
        await anyio.sleep(seconds)
        woken.append((seconds, round(anyio.current_time() - began, 6)))

    began = anyio.current_time()
    async with anyio.create_task_group() as tasks:
        for seconds in (50.0, 0.5, HOUR, 7.0):
            tasks.start_soon(sleeper, seconds)
    assert woken == [(0.5, 0.5), (7.0, 7.0), (50.0, 50.0), (HOUR, HOUR)]


async def test_timeouts_are_virtual():
    """Of anyio's scopes, and of rookery's asks."""

    async def silent(ctx: Context[Ping]) -> None:
        async for _ in ctx:
            pass

    async with open_system() as system:
        ref = await system.spawn(silent)
        began = anyio.current_time()
        with pytest.raises(AskTimeout):
            await ref.ask(Ping(), timeout=60)
        with anyio.move_on_after(HOUR) as scope:
            await ref.ask(Ping())
        assert scope.cancelled_caught
    assert anyio.current_time() == pytest.approx(began + 60 + HOUR, abs=1e-6)


async def test_backoffs_are_virtual():
    """A restart that waits for an hour happens after an hour."""
    starts: list[float] = []

    async def flaky(ctx: Context[object]) -> None:
        starts.append(anyio.current_time())
        ctx.ready()
        if len(starts) == 1:
            raise ValueError("once")
        await ctx.wait_stopping()

    async with open_system() as system:
        await system.spawn(child(flaky).options(backoff=Backoff(HOUR, maximum=HOUR, jitter=0)))
        await anyio.sleep(2 * HOUR)
    first, second = starts
    assert second - first == pytest.approx(HOUR, abs=1e-6)


async def test_time_stands_still_while_wake_ups_are_pending():
    """In a `shuffled` order somebody may run as long as one is left to be drawn."""

    async def link(ctx: Context[Ping], following: ActorRef[Ping] | None) -> None:
        async for ping in ctx:
            ctx.reply(ping, "pong" if following is None else await following.ask(Ping(), timeout=0.001))

    with shuffled(1):
        async with open_system() as system:
            ref: ActorRef[Ping] | None = None
            for _ in range(20):
                ref = await system.spawn(link, ref)
            assert ref is not None
            began = anyio.current_time()
            assert await ref.ask(Ping(), timeout=0.001) == "pong"
            assert anyio.current_time() == began


async def timed_history(seed: int) -> list[object]:
    """Actors that time out, crash and back off."""
    history: list[object] = []

    async def restless(ctx: Context[int], number: int) -> None:
        for step in range(4):
            try:
                await ctx.receive(timeout=0.5)
            except TimeoutError:
                history.append((number, step, round(anyio.current_time() - began, 6)))
        raise ValueError(number)

    began = anyio.current_time()
    with shuffled(seed):
        async with open_system(intensity=Intensity(100, per=1.0)) as system:
            for number in range(4):
                spec = child(restless, number).options(backoff=Backoff(1.0, jitter=0), stop_timeout=0)
                await system.spawn(spec)
            await anyio.sleep(5.2)
    assert len(history) == 4 * (4 + 4)
    return history


async def test_one_seed_makes_one_history_with_timers_too():
    """On a virtual clock time is no accident; which of those that time out together goes first is drawn."""
    first = await timed_history(3)
    for _ in range(4):
        assert await timed_history(3) == first
    assert len({tuple(await timed_history(seed)) for seed in range(4)}) == 4


async def test_settling_takes_no_time():
    """Those who sleep, rest."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.sleep, HOUR)
        began = anyio.current_time()
        await settle()
        assert anyio.current_time() == began
        tasks.cancel_scope.cancel()


async def test_a_thread_can_wake_a_loop_that_waits_without_a_timer():
    """With nothing to jump to, the loop waits in real time."""
    done = await anyio.to_thread.run_sync(lambda: time.sleep(0.01) or threading.get_ident())
    assert done != threading.get_ident()


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
@pytest.mark.parametrize(("threshold", "in_time"), [(0.0, False), (5.0, True)], ids=["none", "5 s"])
def test_time_jumps_past_threads_unless_a_threshold_is_set(backend: str, threshold: float, in_time: bool):
    """The limit of the promise: nobody on the loop can run while a thread works."""
    free = threading.Event()
    works_for = 0.05 if in_time else 60.0

    async def main() -> bool:
        with anyio.move_on_after(HOUR) as scope:
            await anyio.to_thread.run_sync(free.wait, works_for, abandon_on_cancel=True)
        free.set()
        return not scope.cancelled_caught

    name, options = virtual_clock(backend, threshold=threshold)
    assert anyio.run(main, backend=name, backend_options=options) is in_time


def test_asyncios_own_executor_is_shut_down_in_real_time():
    """Or Python 3.12 would say that its threads took 300 seconds to end."""
    free = threading.Event()

    async def main() -> None:
        asyncio.get_running_loop().run_in_executor(None, free.wait, 0.05)

    name, options = virtual_clock("asyncio")
    anyio.run(main, backend=name, backend_options=options)


def test_uvloop_is_refused_with_the_reason():
    """Its timers are libuv's."""
    with pytest.raises(ValueError, match=r"libuv.*virtual_clock\('asyncio'\)"):
        virtual_clock("uvloop")


def test_an_unknown_backend_is_refused():
    """With those that there are."""
    with pytest.raises(ValueError, match="'trio' and for 'asyncio', got 'curio'"):
        virtual_clock("curio")


@pytest.mark.parametrize("threshold", [-1.0, float("nan")])
def test_a_threshold_is_not_negative(threshold: float):
    """Nor NaN."""
    with pytest.raises(ValueError, match="0 seconds or more"):
        virtual_clock("trio", threshold=threshold)


def test_the_clock_of_a_run_is_its_own():
    """Two runs of the same options do not share their time on asyncio; each call makes another clock on trio."""

    async def sleep() -> float:
        await anyio.sleep(HOUR)
        return anyio.current_time()

    for backend in ("trio", "asyncio"):
        for _ in range(2):
            name, options = virtual_clock(backend)
            assert anyio.run(sleep, backend=name, backend_options=options) == pytest.approx(HOUR)
    assert trio.run(sleep, clock=virtual_clock("trio")[1]["clock"]) == pytest.approx(HOUR)
