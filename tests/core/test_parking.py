"""The seam: what `park` and `wake` promise under cancellation."""

from __future__ import annotations

import asyncio
import threading

import anyio
import pytest
from anyio.lowlevel import checkpoint

from rookery._core._parking import Loop, Spot, current_loop
from support import settle


@pytest.fixture
async def loop() -> Loop:
    return current_loop()


class Parked:
    """A task that parks in a spot of its own, and how that went."""

    def __init__(self) -> None:
        self.scope = anyio.CancelScope()
        self.spot: Spot | None = None
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

    def wake(self) -> None:
        assert self.spot is not None
        self.spot.wake()


@pytest.fixture
async def parked():
    task = Parked()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(task.run)
        await settle()
        yield task
        tasks.cancel_scope.cancel()


async def test_a_cancellation_and_a_wake_in_the_same_tick_never_lose_the_grant(parked: Parked):
    """Cancelled first, woken second: the task still sees that it holds a grant."""
    parked.scope.cancel()
    parked.wake()
    await settle()
    assert parked.outcome in {"woken", "cancelled with a grant"}


async def test_a_wake_and_a_cancellation_in_the_same_tick_never_lose_the_grant(parked: Parked):
    """Woken first, cancelled second: the task still sees that it holds a grant."""
    parked.wake()
    parked.scope.cancel()
    await settle()
    assert parked.outcome in {"woken", "cancelled with a grant"}


async def test_a_cancelled_spot_was_not_granted(parked: Parked):
    """A task that is cancelled while nobody wakes it holds nothing."""
    parked.scope.cancel()
    await settle()
    assert parked.outcome == "cancelled"


async def test_a_parked_task_runs_when_it_is_woken(parked: Parked):
    """`wake` schedules the task, and does not switch to it."""
    parked.wake()
    assert parked.outcome == "parked"
    await settle()
    assert parked.outcome == "woken"


async def test_waking_twice_is_waking_once(parked: Parked):
    """`wake` is idempotent, before the task has resumed and after."""
    parked.wake()
    parked.wake()
    await settle()
    parked.wake()
    await settle()
    assert parked.outcome == "woken"


async def test_waking_a_task_that_has_left_is_harmless(parked: Parked):
    """A waker that comes after the cancellation was handled changes nothing."""
    parked.scope.cancel()
    await settle()
    parked.wake()
    await settle()
    assert parked.outcome == "cancelled"


async def test_a_spot_that_was_granted_before_parking_does_not_wait(loop: Loop):
    """The grant may come first."""
    spot = loop.spot()
    spot.wake()
    await spot.park()
    assert spot.granted


async def test_a_spot_belongs_to_the_task_that_made_it(loop: Loop):
    """`task` is the identity that `current_task` gives."""
    assert loop.spot().task is loop.current_task()


async def test_another_thread_can_wake(loop: Loop, parked: Parked):
    """`call_from_thread` runs the call on the loop, in the loop's thread."""
    ran_in: list[int] = []

    def wake() -> None:
        ran_in.append(threading.get_ident())
        parked.wake()

    told = await anyio.to_thread.run_sync(loop.call_from_thread, wake)
    while parked.outcome == "parked":
        await checkpoint()
    assert told
    assert [loop.thread] == ran_in


async def test_the_time_is_the_loops(loop: Loop):
    """`now` and the enclosing deadline are on one clock."""
    with anyio.CancelScope(deadline=loop.now() + 60) as scope:
        await loop.checkpoint()
        assert loop.effective_deadline() == scope.deadline
    assert loop.now() <= anyio.current_time()


async def test_a_checkpoint_lets_others_run(loop: Loop):
    """`checkpoint` schedules everybody else once."""
    ran = anyio.Event()

    async def other() -> None:
        ran.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(other)
        await loop.checkpoint()
        await loop.checkpoint()
        assert ran.is_set()


def test_there_is_no_loop_outside_of_one():
    """The error says what to start."""
    with pytest.raises(RuntimeError, match=r"trio\.run\(main\)"):
        current_loop()


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_an_ended_loop_says_so(backend: str):
    """A thread that comes too late is told that nobody is left."""

    async def main() -> Loop:
        return current_loop()

    ended = anyio.run(main, backend=backend)
    assert not ended.call_from_thread(print)


@pytest.mark.parametrize("wake_first", [True, False], ids=["wake-cancel", "cancel-wake"])
async def test_a_native_cancellation_never_loses_the_grant(anyio_backend_name: str, wake_first: bool):
    """`Task.cancel()` in the tick of a wake: cancelled, with the grant in sight."""
    if anyio_backend_name != "asyncio":
        return
    parked = Parked()
    task = asyncio.create_task(parked.run())
    await settle()
    for call in (parked.wake, task.cancel) if wake_first else (task.cancel, parked.wake):
        call()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert parked.outcome == "cancelled with a grant"


async def test_an_asyncio_timeout_never_loses_the_grant(anyio_backend_name: str):
    """`asyncio.timeout` that runs out in the tick of a wake raises, with the grant in sight."""
    if anyio_backend_name != "asyncio":
        return
    running = asyncio.get_running_loop()
    spot = current_loop().spot()

    async def park_until_timeout() -> None:
        async with asyncio.timeout(None) as limit:
            running.call_soon(spot.wake)
            running.call_soon(limit.reschedule, running.time() - 1)
            await spot.park()
            await checkpoint()

    with pytest.raises(TimeoutError):
        await park_until_timeout()
    assert spot.granted


async def test_the_enclosing_deadline_is_known_also_if_anyio_moves_what_is_behind_it(
    anyio_backend_name: str, monkeypatch: pytest.MonkeyPatch
):
    """The short cut is one; without it the public function answers."""
    if anyio_backend_name != "asyncio":
        pytest.skip("asyncio only")
    monkeypatch.delattr("anyio._core._eventloop.get_async_backend")
    loop = current_loop()
    monkeypatch.undo()
    assert loop.effective_deadline is anyio.current_effective_deadline
    with anyio.CancelScope(deadline=loop.now() + 60) as scope:
        await loop.checkpoint()
        assert loop.effective_deadline() == scope.deadline == current_loop().effective_deadline()
