"""Batched stages: who shares a batch, who is answered with what, and how much is on its way at once."""

from __future__ import annotations

import math
import threading
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import numpy as np
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st

from rookery import (
    ActorCrashed,
    ActorStopped,
    Reason,
    Refused,
    StartFailed,
    UnresolvedAnnotation,
    child,
    gpu,
    open_system,
)
from rookery._core.system import engine_of
from rookery._core.turn import MESSAGES
from rookery.gpu._buffer import LARGE, UnifiedBuffer
from rookery.gpu._share import Drawing
from support import settle

from .stages import NEVER, SQUARE, Array, Asker, Learn, Square, noting, row
from .support import DEVICE, KERNELS, Gate, without_shared_memory

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator

    from rookery import System


@pytest.fixture
async def system(device: gpu.Device) -> AsyncIterator[System]:
    """A system that ends before its device."""
    async with open_system() as system:
        yield system


@pytest.fixture
async def square(device: gpu.Device) -> gpu.Kernel:
    return await device.kernel(SQUARE, "square")


# --- the same as one launch for each message ----------------------------------------------------------

NUMBERS = st.integers(-1000, 1000).map(float)
GOOD = st.one_of(
    st.lists(NUMBERS, min_size=3, max_size=3).map(lambda values: row(*values)),
    st.lists(NUMBERS, min_size=4, max_size=4).map(lambda values: row(*values).reshape(2, 2)),
    NUMBERS.map(lambda value: np.full((5, 7), value, np.float32).T[::2]),  # not contiguous
    NUMBERS.map(lambda value: np.array(value, np.float32)),  # without any sides
)
BAD = st.sampled_from([np.zeros(3), np.zeros(0, np.float32), [1.0, 2.0], None, 3, np.zeros(100, np.float32)])
DEEDS = st.tuples(
    st.one_of(GOOD, GOOD, GOOD, BAD),
    st.sampled_from(["ask", "ask", "ask", "send", "ask and leave"]),
    st.booleans(),  # whether all tasks go as far as they can, before the next one
)


@settings(max_examples=25)
@given(
    st.lists(DEEDS, max_size=20),
    st.integers(1, 6),
    st.sampled_from([64, 200, 396, 1 << 20]),
    st.sampled_from([0, 0.0005]),
    st.integers(0, 20),
    st.booleans(),
)
async def test_whatever_is_batched_each_gets_what_one_launch_would_give_it(
    deeds: list[tuple[Any, str, bool]], max_items: int, max_bytes: int, max_delay: float, opened: int, shared: bool
) -> None:
    """However messages meet in batches; bad ones fail alone, nothing is computed twice, and no byte is kept."""
    calls: list[list[Any]] = []
    stage = noting(calls, max_items=max_items, max_bytes=max_bytes, max_delay=max_delay)
    async with gpu.open_device(DEVICE) as device:
        if not shared:
            without_shared_memory(device)
        kernel = await device.kernel(SQUARE, "square")
        async with open_system() as system, anyio.create_task_group() as tasks:
            ref = await system.spawn(stage, device, kernel)
            with Gate(device.queue) as gate:
                askers: list[tuple[str, Asker]] = []
                for number, (value, how, rest) in enumerate(deeds):
                    if number == opened:
                        gate.open()
                    if how == "send":
                        await ref.send(Square(value, number))
                        continue
                    askers.append((how, Asker(tasks, ref, Square(value, number))))
                    if rest:
                        await settle()
                    if how == "ask and leave":
                        askers[-1][1].scope.cancel()
            fits = [number for number, (value, _, _) in enumerate(deeds) if is_good(value, max_bytes)]
            await settle()
            # What is sent last, and answered, is computed last: then all is over.
            assert np.array_equal(await ref.ask(Square(row(3), len(deeds)), priority=0), [10])
        for how, asker in askers:
            if how == "ask and leave":
                continue
            if asker.request.label in fits:
                assert np.array_equal(asker.outcome, await one_launch(device, kernel, asker.request.row))
            else:
                assert isinstance(asker.outcome, gpu.ArgumentTypeError | gpu.ArgumentValueError)
        left = {asker.request.label for how, asker in askers if how == "ask and leave"}
        computed = [each.label for call in calls for each in call]
        assert len(computed) == len(set(computed))
        assert {*fits, len(deeds)} - left <= set(computed) <= {*fits, len(deeds)}
        assert computed[-1] == len(deeds)
        for call in calls:
            assert len(call) <= max_items
            assert len({each.row.shape for each in call}) == 1
            assert len(call) == 1 or 2 * sum(each.row.nbytes for each in call) <= max_bytes
        assert device.pool.statistics().active_bytes == 0


def is_good(value: Any, max_bytes: int) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == np.float32 and 0 < value.nbytes <= max_bytes


async def one_launch(device: gpu.Device, kernel: gpu.Kernel, value: Array) -> Array:
    x, y = await device.upload(value), await device.empty(value.shape)
    await kernel(x, y, value.size, size=value.size, local=64)
    result = await y.read()
    device.pool.release(x)
    device.pool.release(y)
    return result


# --- who shares a batch ---------------------------------------------------------------------------------


async def test_what_waits_in_the_mailbox_goes_in_one_call(
    device: gpu.Device, system: System, square: gpu.Kernel
) -> None:
    """Up to ``max_items``, the most urgent first."""
    calls: list[list[Square]] = []
    spec = child(noting(calls, max_items=4, max_delay=0), device, square)
    async with anyio.create_task_group() as tasks:
        ref = await system.spawn(spec)
        await ref.pause()
        askers = [Asker(tasks, ref, Square(row(i), i), priority=100 + i) for i in range(6)]
        await settle()
        await ref.resume()
    assert [[each.label for each in call] for call in calls] == [[5, 4, 3, 2], [1, 0]]
    assert [asker.outcome.tolist() for asker in askers] == [[i * i + 1] for i in range(6)]


async def test_without_a_delay_all_that_is_there_goes_in_one_call(
    device: gpu.Device, system: System, square: gpu.Kernel
) -> None:
    """Also what is more than the stage takes before it gives way to others."""
    calls: list[list[Square]] = []
    ref = await system.spawn(noting(calls, max_items=200, max_delay=0), device, square)
    await ref.pause()
    for i in range(200):
        ref.send_nowait(Square(row(i)))
    await ref.resume()
    await ref.ask(Square(row(0)))
    assert [len(call) for call in calls] == [200, 1]


async def test_whoever_is_answered_may_ask_again_at_once(
    device: gpu.Device, system: System, square: gpu.Kernel
) -> None:
    """The turn of the task that answered is over, and is no longer counted against those that go on."""
    ref = await system.spawn(noting([], max_items=1, max_delay=0), device, square)
    turn = engine_of(system).turn
    async with anyio.create_task_group() as tasks:
        with Gate(device.queue):
            asker = Asker(tasks, ref, Square(row(1)))
            await settle()
            turn.left = 0
        while isinstance(asker.outcome, str):
            await checkpoint()
    assert turn.left == MESSAGES


async def test_a_batch_waits_until_it_is_full(device: gpu.Device, system: System, square: gpu.Kernel) -> None:
    """No longer than ``max_delay``, which here is longer than any test."""
    calls: list[list[Square]] = []
    ref = await system.spawn(noting(calls, max_items=3, max_delay=NEVER), device, square)
    async with anyio.create_task_group() as tasks:
        for i in range(3):
            assert calls == []
            Asker(tasks, ref, Square(row(i)))
            await settle()
    assert [len(call) for call in calls] == [3]


async def test_a_batch_that_is_not_full_goes_after_its_delay(
    device: gpu.Device, system: System, square: gpu.Kernel
) -> None:
    """One message is answered as well."""
    ref = await system.spawn(noting([], max_delay=0.001), device, square)
    assert (await ref.ask(Square(row(1, 2)))).tolist() == [2, 5]


async def test_the_first_message_of_another_shape_begins_the_next_batch(
    device: gpu.Device, system: System, square: gpu.Kernel
) -> None:
    """At once: those that wait for company of their own shape would be overtaken."""
    calls: list[list[Square]] = []
    ref = await system.spawn(noting(calls, max_items=2, max_delay=NEVER), device, square)
    async with anyio.create_task_group() as tasks:
        for i, values in enumerate([(1,), (1, 2), (3, 4)]):
            Asker(tasks, ref, Square(row(*values), i))
            await settle()
    assert [[each.label for each in call] for call in calls] == [[0], [1, 2]]


async def test_whoever_left_or_is_too_late_is_not_computed(
    device: gpu.Device, system: System, square: gpu.Kernel
) -> None:
    """As with any actor."""
    calls: list[list[Square]] = []
    ref = await system.spawn(noting(calls, max_delay=0), device, square)
    async with anyio.create_task_group() as tasks:
        await ref.pause()
        leaves, stays = (Asker(tasks, ref, Square(row(i), i)) for i in range(2))
        await settle()
        leaves.scope.cancel()
        await settle()
        await ref.resume()
    assert [[each.label for each in call] for call in calls] == [[1]]
    assert stays.outcome.tolist() == [2]


async def test_the_same_request_asked_twice_is_answered_twice(
    device: gpu.Device, system: System, square: gpu.Kernel
) -> None:
    """And sent besides, it is computed, and harms nobody."""
    request = Square(row(2))
    ref = await system.spawn(noting([], max_items=3, max_delay=NEVER), device, square)
    async with anyio.create_task_group() as tasks:
        first, second = Asker(tasks, ref, request), Asker(tasks, ref, request)
        await ref.send(request)
    assert first.outcome.tolist() == second.outcome.tolist() == [5]
    await settle()
    assert (ref.statistics().restarts, system.dead_letters.statistics().total) == (0, 0)


async def test_a_message_may_be_an_array_itself(device: gpu.Device, system: System) -> None:
    """One that nobody waits for an answer to."""
    seen: list[Array] = []

    @gpu.batched(max_items=2, max_delay=NEVER)
    async def sink(device: gpu.Device, batch: gpu.Batch[np.ndarray[Any, Any]]) -> None:
        seen.append((await batch.rows.read())[: batch.n])

    ref = await system.spawn(sink, device)
    await ref.send(row(1, 2))
    await ref.send(row(3, 4))
    await settle()
    await ref.stop()
    assert [batch.tolist() for batch in seen] == [[[1, 2], [3, 4]]]
    assert system.dead_letters.statistics().total == 0


@pytest.mark.parametrize("nbytes", [4, 1 << 20])
async def test_rows_are_padded_to_powers_of_two(device: gpu.Device, system: System, nbytes: int) -> None:
    """Up to what a batch can hold, so that there are few sizes of buffers; those of 1 MiB and more as well."""
    capacities: list[tuple[int, int]] = []

    @gpu.batched(max_items=6, max_bytes=64 << 20, max_delay=0)
    async def same(device: gpu.Device, batch: gpu.Batch[Square]) -> gpu.UnifiedBuffer:
        capacities.append((batch.n, batch.capacity))
        return batch.rows

    ref = await system.spawn(same, device)
    for n in range(1, 7):
        await ref.pause()
        async with anyio.create_task_group() as tasks:
            askers = [Asker(tasks, ref, Square(np.full(nbytes // 4, i, np.float32))) for i in range(n)]
            await settle()
            await ref.resume()
        assert all(np.array_equal(asker.outcome, asker.request.row) for asker in askers)
    assert capacities == [(1, 1), (2, 2), (3, 4), (4, 4), (5, 6), (6, 6)]


# --- what comes back --------------------------------------------------------------------------------------


@pytest.mark.parametrize("of", ["buffer", "array", "labels"])
async def test_every_asker_gets_an_array_of_its_own(device: gpu.Device, system: System, of: str) -> None:
    """Who keeps one does not keep the others, nor changes them."""

    @gpu.batched(max_items=2, max_delay=NEVER)
    async def same(device: gpu.Device, batch: gpu.Batch[Square]) -> gpu.UnifiedBuffer | Array:
        rows = await batch.rows.read()
        return {"buffer": batch.rows, "array": rows, "labels": rows.sum(axis=1)}[of]

    ref = await system.spawn(same, device)
    async with anyio.create_task_group() as tasks:
        askers = [Asker(tasks, ref, Square(row(i, i))) for i in range(2)]
    if of == "labels":
        assert [asker.outcome for asker in askers] == [0, 2]
    else:
        assert all(asker.outcome.base is None for asker in askers)
        assert [asker.outcome.tolist() for asker in askers] == [[0, 0], [1, 1]]


async def test_an_array_that_the_function_fills_each_time_anew_is_copied_before_the_next_call(
    device: gpu.Device, system: System
) -> None:
    """It is the function's own: however long a thread takes to copy it."""
    result, copying, calls = np.zeros((1, LARGE // 4), np.float32), threading.Event(), list[int]()

    @gpu.batched(max_items=1, max_delay=0)
    async def stage(device: gpu.Device, batch: gpu.Batch[Square]) -> Array:
        calls.append(batch.messages[0].label)
        result[:] = batch.messages[0].row[0]
        return result

    ref = await system.spawn(stage, device)
    async with anyio.create_task_group() as tasks:
        device.copies.submit(copying.wait, (), lambda: "what is copied before")
        askers = [Asker(tasks, ref, Square(row(i), i)) for i in range(3)]
        await settle()
        assert len(calls) == 1
        copying.set()
    assert [set(asker.outcome) for asker in askers] == [{0}, {1}, {2}]


async def test_a_chain_of_kernels_gives_back_what_is_between_them(
    device: gpu.Device, system: System, square: gpu.Kernel
) -> None:
    """Before they have run: the memory is theirs until then, and no row takes a trip through the host."""
    without_shared_memory(device)

    @gpu.batched(max_items=2, max_delay=NEVER)
    async def twice(device: gpu.Device, batch: gpu.Batch[Square]) -> gpu.UnifiedBuffer:
        between, out = await device.empty(batch.rows.shape), await device.empty(batch.rows.shape)
        square.submit(batch.rows, between, batch.n, size=batch.n, local=64)
        square.submit(between, out, batch.n, size=batch.n, local=64)
        device.pool.release(between)
        return out

    ref = await system.spawn(twice, device)
    async with anyio.create_task_group() as tasks:
        askers = [Asker(tasks, ref, Square(row(i))) for i in range(8)]
    assert [asker.outcome.tolist() for asker in askers] == [[(i * i + 1) ** 2 + 1] for i in range(8)]
    assert (device.statistics().uploads, device.statistics().downloads) == (4, 4)
    assert device.pool.statistics().active_bytes == 0


async def test_none_answers_everyone_with_none(device: gpu.Device, system: System) -> None:
    """A request may be for nothing but to be done."""

    @gpu.batched(max_delay=0)
    async def learn(device: gpu.Device, batch: gpu.Batch[Learn]) -> None: ...

    ref = await system.spawn(learn, device)
    assert await ref.ask(Learn(row(1))) is None


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (lambda rows: rows.host[:1], r"returned the shape \(1, 1\) for a batch of 2: return one row for each message"),
        (lambda rows: np.float32(1), r"returned .*: return a buffer or an array with a row for each message, or None"),
        (lambda rows: np.array(1), r"returned the shape \(\) for a batch of 2"),
        (lambda rows: rows.pool.release(rows) or rows, r"released>: return a buffer of `await device\.empty\(shape\)`"),
    ],
)
async def test_a_function_that_returns_nonsense_crashes(
    device: gpu.Device, system: System, result: Any, said: str
) -> None:
    """It is its mistake, not its callers'."""

    @gpu.batched(max_items=2, max_delay=NEVER)
    async def stage(device: gpu.Device, batch: gpu.Batch[Square]) -> Any:
        return result(batch.rows)

    ref = await system.spawn(stage, device)
    async with anyio.create_task_group() as tasks:
        askers = [Asker(tasks, ref, Square(row(i))) for i in range(2)]
    for asker in askers:
        assert isinstance(asker.outcome, ActorCrashed)
        with pytest.raises((gpu.ArgumentTypeError, gpu.ArgumentValueError), match=said):
            raise asker.outcome.__cause__ or asker.outcome


# --- what goes wrong ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (np.zeros(2), r"square takes rows of float32, got one of float64: write `np\.asarray\(x, dtype=np\.float32\)`"),
        (row(1), r"square takes rows of the shape \(2,\), got one of the shape \(1,\): write `@gpu\.batched\(shape=\(1,\)\)`"),
        (row(1, 2).reshape(2, 1), r"got one of the shape \(2, 1\): write `x\.reshape\(\(2,\)\)`"),
        ([1.0, 2.0], r"takes a numpy array, got \[1\.0, 2\.0\]: write `np\.asarray\(x, dtype=np\.float32\)`"),
        (np.ma.masked_array(row(1, 2)), r"no place for the mask"),
    ],
)  # fmt: skip
async def test_a_message_that_does_not_fit_fails_alone(
    device: gpu.Device, system: System, square: gpu.Kernel, value: Any, said: str
) -> None:
    """The others of its batch are computed without it; only sent, it is a dead letter."""
    calls: list[list[Square]] = []
    ref = await system.spawn(noting(calls, max_items=2, max_delay=NEVER, shape=2), device, square)
    async with anyio.create_task_group() as tasks:
        askers = [Asker(tasks, ref, Square(one, i)) for i, one in enumerate([row(1, 2), value])]
        await ref.send(Square(value))
        await settle()
        askers.append(Asker(tasks, ref, Square(row(3, 4), 2)))
    with pytest.raises((TypeError, ValueError), match=said):
        raise askers[1].outcome
    assert [askers[i].outcome.tolist() for i in (0, 2)] == [[2, 5], [10, 17]]
    assert [len(call) for call in calls] == [2]
    assert system.dead_letters.statistics().by_reason == {Reason.NOT_ASKED: 1}


async def test_a_row_that_is_larger_than_all_that_may_be_in_flight_fails_alone(
    device: gpu.Device, system: System, square: gpu.Kernel
) -> None:
    """One of exactly that size is served."""
    ref = await system.spawn(noting([], max_bytes=8, max_delay=0), device, square)
    with pytest.raises(gpu.ArgumentValueError, match=r"at most 8 bytes in flight, got a row of 12: split it, or write"):
        await ref.ask(Square(row(1, 2, 3)))
    assert (await ref.ask(Square(row(1, 2)))).tolist() == [2, 5]


async def test_a_row_that_leaves_no_room_for_its_result_fails_alone() -> None:
    """Larger than a quarter of the pool, and all the more one that the pool can never hold; the stage goes on."""
    async with gpu.open_device(DEVICE, memory_limit=4096) as device, open_system() as system:
        ref = await system.spawn(noting([], max_delay=0), device, await device.kernel(SQUARE, "square"))
        for size in (257, 2000):
            with pytest.raises(
                gpu.OutOfDeviceMemory, match=r"rows have 1,024 of the device's 4,096, .*: split it, or open"
            ):
                await ref.ask(Square(np.zeros(size, np.float32)))
        assert (await ref.ask(Square(np.full(256, 2, np.float32)))).tolist() == [5] * 256
        assert (await ref.ask(Square(row(1, 2)))).tolist() == [2, 5]


async def test_what_the_function_raises_crashes_the_stage(device: gpu.Device, system: System) -> None:
    """What was taken fails with it; what was queued is served by the next incarnation."""

    @gpu.batched(max_items=2, max_delay=0)
    async def stage(device: gpu.Device, batch: gpu.Batch[Square]) -> gpu.UnifiedBuffer:
        if not batch.messages[0].label:
            raise ZeroDivisionError("none of these")
        return batch.rows

    ref = await system.spawn(stage, device)
    async with anyio.create_task_group() as tasks:
        await ref.pause()
        askers = [Asker(tasks, ref, Square(row(i), i // 2), priority=200 - i) for i in range(4)]
        await settle()
        await ref.resume()
    for asker in askers[:2]:
        assert isinstance(asker.outcome, ActorCrashed)
        assert isinstance(asker.outcome.__cause__, ZeroDivisionError)
    # The next batch, or one of it, may have been taken already.
    assert all(isinstance(asker.outcome, ActorCrashed) or asker.outcome == asker.request.row for asker in askers[2:])
    assert ref.statistics().restarts == 1
    assert device.pool.statistics().active_bytes == 0


@pytest.mark.parametrize("how", ["raises", "refuses", "returns what it must not", "is cancelled"])
async def test_what_a_call_took_comes_back_when_it_fails(how: str) -> None:
    """Although a crash is kept, and its traceback sees the buffers; what is on its way is waited for."""
    kept: list[gpu.UnifiedBuffer] = []
    forever = anyio.Event()

    @gpu.batched(max_items=1, max_delay=0)
    async def stage(device: gpu.Device, batch: gpu.Batch[Square], kernel: gpu.Kernel) -> Any:
        async with device.pool.lease(8):
            between = await device.empty(256)
        out = await device.empty(256)
        kept.extend([between, out])
        if batch.messages[0].label:
            kernel.submit(out, 1)
            if how == "raises":
                raise ZeroDivisionError
            if how == "refuses":
                raise Refused(ZeroDivisionError())
            if how == "is cancelled":
                forever.set()
                await anyio.sleep_forever()
            return (between, out)
        device.pool.release(between)
        kernel.submit(out, 1)
        return batch.rows

    async with gpu.open_device(DEVICE, memory_limit=4096) as device, open_system() as system:
        fill = await device.kernel(KERNELS, "fill")
        ref = await system.spawn(child(stage, device, fill).options(name="stage", stop_timeout=0))
        if how == "is cancelled":
            async with anyio.create_task_group() as tasks:
                Asker(tasks, ref, Square(row(1), 1))
                await forever.wait()
                await ref.stop()
            ref = await system.spawn(child(stage, device, fill).options(name="another"))
        else:
            with pytest.raises(ZeroDivisionError if how == "refuses" else ActorCrashed):
                await ref.ask(Square(row(1), 1))
        assert [buffer.released for buffer in kept] == [True, True]
        assert device.pool.statistics().active_bytes == 0
        assert (await ref.ask(Square(row(2)))).tolist() == [2]
        assert [buffer.released for buffer in kept[2:]] == [True, False], "what it may have given to somebody else"


async def test_what_a_call_keeps_for_later_ones_outlives_their_crashes(
    device: gpu.Device, system: System, square: gpu.Kernel
) -> None:
    """Also while its own result is still on its way: the call has succeeded."""
    kept: list[gpu.UnifiedBuffer] = []

    @gpu.batched(max_items=1, max_delay=0)
    async def stage(device: gpu.Device, batch: gpu.Batch[Square]) -> gpu.UnifiedBuffer:
        if not kept:
            kept.append(await device.empty(1))
        if batch.messages[0].label:
            raise ZeroDivisionError
        out = await device.empty(batch.rows.shape)
        square.submit(batch.rows, out, 1, size=1, local=64)
        return out

    ref = await system.spawn(stage, device)
    async with anyio.create_task_group() as tasks:
        with Gate(device.queue):
            askers = []
            for label in (0, 1):
                assert [asker.outcome for asker in askers] == ["none yet"] * label
                askers.append(Asker(tasks, ref, Square(row(1), label)))
                await settle()
    assert [type(asker.outcome) for asker in askers] == [ActorCrashed] * 2
    assert [buffer.released for buffer in kept] == [False]
    assert (await ref.ask(Square(row(2)))).tolist() == [5]
    assert device.pool.statistics().active_bytes == kept[0].reserved


async def test_what_a_call_took_comes_back_when_its_loop_is_torn_down(device: gpu.Device) -> None:
    """By whoever closes its coroutine, in a context where nothing of the call's is known."""
    taken: list[gpu.UnifiedBuffer] = []

    class Parked:
        def __await__(self) -> Generator[None]:
            yield

    async def call() -> None:
        with Drawing(None):  # type: ignore[arg-type]
            buffer = device.pool.try_acquire(1)
            assert buffer is not None
            taken.append(buffer)
            await Parked()

    running = call()
    copy_context().run(running.send, None)
    with pytest.raises(ValueError, match="different Context"):
        running.close()
    assert [buffer.released for buffer in taken] == [True]


@pytest.mark.parametrize("fails", ["gathering", "the upload"])
async def test_a_batch_that_cannot_be_copied_gives_its_bytes_back(fails: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of its rows was changed while it waited, or the device takes no more commands."""
    async with gpu.open_device(DEVICE, memory_limit=64 << 10) as device, open_system() as system:
        ref = await system.spawn(
            noting([], max_items=2, max_delay=NEVER), device, await device.kernel(SQUARE, "square")
        )
        changed = np.zeros(512, np.float32)
        async with anyio.create_task_group() as tasks:
            asker = Asker(tasks, ref, Square(changed))
            await settle()
            with monkeypatch.context() as patch:
                if fails == "gathering":
                    changed.resize(256, refcheck=False)
                else:
                    patch.setattr(UnifiedBuffer, "start_upload", refuse)
                other = Asker(tasks, ref, Square(np.zeros(512, np.float32)))
                await settle()
        assert [type(each.outcome) for each in (asker, other)] == [ActorCrashed] * 2
        assert device.pool.statistics().active_bytes == 0
        rows = device.pool.for_rows
        assert rows.take_more(rows.for_several), "nothing is taken of what stages have together"


def refuse(*_: object) -> None:
    raise MemoryError("as the driver does when the host has none left")


async def test_after_a_crash_nothing_more_is_computed_or_taken(device: gpu.Device, system: System) -> None:
    """Not even the batch that was waiting for its turn; what is still queued is for the next incarnation."""
    calls: list[int] = []
    crash = anyio.Event()

    @gpu.batched(max_items=1, max_delay=0)
    async def stage(device: gpu.Device, batch: gpu.Batch[Square]) -> gpu.UnifiedBuffer:
        calls.append(batch.messages[0].label)
        await crash.wait()
        if batch.messages[0].label == 0:
            raise ZeroDivisionError
        return batch.rows

    # However long it may take to stop: there is nothing to wait for.
    ref = await system.spawn(child(stage, device).options(stop_timeout=math.inf))
    async with anyio.create_task_group() as tasks:
        await ref.pause()
        askers = [Asker(tasks, ref, Square(row(i), i), priority=200 - i) for i in range(6)]
        await settle()
        await ref.resume()
        await settle()
        # Three batches are in flight, and the next is being filled.
        assert (calls, ref.statistics().unanswered, ref.statistics().queued) == ([0], 4, 2)
        crash.set()
    assert calls == [0, 4, 5]
    assert all(isinstance(asker.outcome, ActorCrashed) for asker in askers[:4])
    assert [asker.outcome.tolist() for asker in askers[4:]] == [[4], [5]]


async def test_a_batch_that_was_taken_before_a_crash_and_not_begun_is_not_computed(
    device: gpu.Device, system: System, square: gpu.Kernel
) -> None:
    """Its function is not even called."""
    calls: list[list[Square]] = []
    ref = await system.spawn(noting(calls, max_items=1, max_delay=0), device, square)
    without_its_row = Square(row(2))
    object.__delattr__(without_its_row, "row")
    engine_of(system).turn.clock = lambda: 0.0  # type: ignore[misc]  # however long it takes to come to the second one
    await ref.pause()
    ref.send_nowait(Square(row(1)))
    ref.send_nowait(without_its_row)
    await ref.resume()
    assert (await ref.ask(Square(row(3), label=3))).tolist() == [10]
    assert [[each.label for each in call] for call in calls] == [[3]]


async def test_refusing_fails_the_requests_of_one_batch(device: gpu.Device, system: System) -> None:
    """The stage goes on, with the batches behind it."""

    @gpu.batched(max_items=2, max_delay=NEVER)
    async def stage(device: gpu.Device, batch: gpu.Batch[Square]) -> gpu.UnifiedBuffer:
        if batch.messages[0].label == 0:
            raise Refused(LookupError("no such model"))
        return batch.rows

    ref = await system.spawn(stage, device)
    async with anyio.create_task_group() as tasks:
        await ref.pause()
        askers = [Asker(tasks, ref, Square(row(i), i // 2), priority=200 - i) for i in range(4)]
        await settle()
        await ref.resume()
    assert [type(asker.outcome) for asker in askers[:2]] == [LookupError, LookupError]
    assert [asker.outcome.tolist() for asker in askers[2:]] == [[2], [3]]
    assert ref.statistics().restarts == 0


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_command_that_fails_crashes_the_stage(
    device: gpu.Device, system: System, square: gpu.Kernel, when: str
) -> None:
    """Whether or not its function has returned by then. The next incarnation computes."""
    if when == "after" and not device.info.shares_host_memory:
        pytest.skip("what fails here is no command, and a copy to the host does not wait for it")
    failing = threading.Event()

    def fail() -> None:
        failing.wait()
        raise ZeroDivisionError

    @gpu.batched(max_delay=0)
    async def stage(device: gpu.Device, batch: gpu.Batch[Square]) -> gpu.UnifiedBuffer:
        out = await device.empty(batch.rows.shape)
        square.submit(batch.rows, out, 1, size=1, local=64)
        if not batch.messages[0].label:
            # PoCL may abort if one of its own fails.
            operation = device.copies.submit(fail, (out,), lambda: "the command")
            out.written_by(operation)
            if when == "before":
                await operation.settled()
        return out

    ref = await system.spawn(stage, device)
    async with anyio.create_task_group() as tasks:
        asker = Asker(tasks, ref, Square(row(1)))
        await settle()
        failing.set()
    assert isinstance(asker.outcome, ActorCrashed)
    assert isinstance(asker.outcome.__cause__, gpu.CommandFailed)
    assert (await ref.ask(Square(row(2), 1))).tolist() == [5]


# --- how much is on its way --------------------------------------------------------------------------------


async def down_to(device: gpu.Device, commands: int) -> None:
    """Wait until that many commands are in flight."""
    with anyio.fail_after(30):
        while device.statistics().in_flight > commands:
            await checkpoint()


async def test_the_next_batch_is_copied_while_one_computes(device: gpu.Device) -> None:
    """It does not wait in the queue of the kernels."""
    without_shared_memory(device)
    async with open_system() as system, anyio.create_task_group() as tasks:
        stage = noting([], max_items=1, max_delay=0)
        ref = await system.spawn(stage, device, await device.kernel(SQUARE, "square"))
        with Gate(device.queue):
            askers = [Asker(tasks, ref, Square(row(i))) for i in range(2)]
            await settle()
            assert device.statistics().uploads == 2
            await down_to(device, 4)  # two kernels and what copies their results back; the uploads are over
    assert [asker.outcome.tolist() for asker in askers] == [[1], [2]]


async def test_the_next_batch_is_computed_while_a_result_is_copied_back(device: gpu.Device) -> None:
    """Nor do the kernels wait for that."""
    without_shared_memory(device)
    async with open_system() as system, anyio.create_task_group() as tasks:
        stage = noting([], max_items=1, max_delay=0)
        ref = await system.spawn(stage, device, await device.kernel(SQUARE, "square"))
        with Gate(device.downloads):
            askers = [Asker(tasks, ref, Square(row(i))) for i in range(2)]
            await settle()
            assert device.statistics().downloads == 2
            await down_to(device, 2)  # the downloads
            assert [asker.outcome for asker in askers] == ["none yet"] * 2
    assert [asker.outcome.tolist() for asker in askers] == [[1], [2]]


async def test_at_most_three_batches_are_in_flight(device: gpu.Device, system: System, square: gpu.Kernel) -> None:
    """One is copied there, one computes, one is copied back."""
    calls: list[list[Square]] = []
    ref = await system.spawn(noting(calls, max_items=1, max_delay=0), device, square)
    async with anyio.create_task_group() as tasks:
        with Gate(device.queue):
            for i in range(6):
                Asker(tasks, ref, Square(row(i)))
            await settle()
            assert len(calls) == 3
            # The one that is to be the next batch has been taken as well.
            assert (ref.statistics().unanswered, ref.statistics().queued) == (4, 2)
    assert len(calls) == 6


async def test_senders_wait_when_enough_bytes_are_in_flight(
    device: gpu.Device, system: System, square: gpu.Kernel
) -> None:
    """From the device back to whoever sends."""
    calls: list[list[Square]] = []
    stage = noting(calls, max_items=1, max_bytes=16, max_delay=0)
    ref = await system.spawn(child(stage, device, square).options(capacity=1))
    async with anyio.create_task_group() as tasks:
        with Gate(device.queue):
            for i in range(5):
                Asker(tasks, ref, Square(row(i, i)))
            await settle()
            assert sum(each.row.nbytes for call in calls for each in call) == 16
            numbers = ref.statistics()
            assert (numbers.unanswered, numbers.queued, numbers.blocked_senders) == (3, 1, 1)
    assert len(calls) == 5


async def test_a_batch_has_half_of_what_may_be_in_flight(
    device: gpu.Device, system: System, square: gpu.Kernel
) -> None:
    """So that one is copied while another computes, also where bytes are the limit."""
    calls: list[list[Square]] = []
    ref = await system.spawn(noting(calls, max_items=8, max_bytes=32, max_delay=0), device, square)
    async with anyio.create_task_group() as tasks:
        await ref.pause()
        for i in range(8):
            Asker(tasks, ref, Square(row(i)))
        await settle()
        with Gate(device.queue):
            await ref.resume()
            await settle()
            assert [len(call) for call in calls] == [4, 4]


async def test_a_stage_leaves_room_for_its_results() -> None:
    """Its function acquires them while the next batch has its memory: with all of it, both would wait for ever."""
    async with gpu.open_device(DEVICE, memory_limit=64 << 10) as device, open_system() as system:
        ref = await system.spawn(noting([], max_items=16, max_delay=0), device, await device.kernel(SQUARE, "square"))
        async with anyio.create_task_group() as tasks:
            askers = [Asker(tasks, ref, Square(np.full(1024, i, np.float32))) for i in range(50)]
        assert all((asker.outcome == i * i + 1).all() for i, asker in enumerate(askers))
        assert device.pool.statistics().active_bytes == 0


async def test_all_stages_of_a_device_leave_room_for_their_results() -> None:
    """Together, however many there are; each gets its turn."""
    async with gpu.open_device(DEVICE, memory_limit=64 << 10, debug=True) as device, open_system() as system:
        stage, kernel = noting([], max_items=1, max_delay=0), await device.kernel(SQUARE, "square")
        refs = [await system.spawn(stage, device, kernel, name=f"stage-{i}") for i in range(5)]
        async with anyio.create_task_group() as tasks:
            rows = [np.full(4096 - i, i, np.float32) for i in range(4)]
            askers = [Asker(tasks, ref, Square(one)) for one in rows for ref in refs]
        assert all((asker.outcome == asker.request.row[0] ** 2 + 1).all() for asker in askers)
        assert device.pool.statistics().active_bytes == 0


async def test_a_stage_may_ask_another_one_of_its_device() -> None:
    """Rows of its own that wait for the answer leave room for those that are asked with."""
    async with gpu.open_device(DEVICE, memory_limit=64 << 10) as device, open_system() as system:
        kernel = await device.kernel(SQUARE, "square")
        inner = await system.spawn(noting([], max_items=1, max_delay=0), device, kernel)

        @gpu.batched(max_items=1, max_delay=0)
        async def outer(device: gpu.Device, batch: gpu.Batch[Square]) -> Array:
            return np.stack([await inner.ask(each) for each in batch.messages])

        ref = await system.spawn(outer, device)
        async with anyio.create_task_group() as tasks:
            askers = [Asker(tasks, ref, Square(np.full(2048, i, np.float32))) for i in range(20)]
        assert all((asker.outcome == i * i + 1).all() for i, asker in enumerate(askers))


async def test_a_stage_that_is_cancelled_while_it_waits_for_others_lets_them_go_on() -> None:
    """Nothing of what stages have together is lost."""
    async with gpu.open_device(DEVICE, memory_limit=64 << 10) as device, open_system() as system:
        kernel, large = await device.kernel(SQUARE, "square"), np.full(4096, 2, np.float32)
        refs = [
            await system.spawn(child(noting([], max_items=1, max_delay=0), device, kernel).options(stop_timeout=0))
            for _ in range(3)
        ]
        async with anyio.create_task_group() as tasks:
            with Gate(device.queue):
                askers = []
                for ref in refs:
                    askers.append(Asker(tasks, ref, Square(large)))
                    await settle()
                await refs[1].stop()
        assert isinstance(askers[1].outcome, ActorStopped)
        assert [set(askers[i].outcome) for i in (0, 2)] == [{5}, {5}]
        for ref in (refs[0], refs[2]):
            assert set(await ref.ask(Square(large))) == {5}


async def test_a_stage_that_waits_for_its_own_memory_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    """In debug mode: with all that its batches hold, and where its function waits."""

    @gpu.batched(max_items=1, max_delay=0)
    async def greedy(device: gpu.Device, batch: gpu.Batch[Square]) -> gpu.UnifiedBuffer:
        first = await device.empty(8000)
        await device.empty(9000)
        return first

    async with gpu.open_device(DEVICE, memory_limit=64 << 10, debug=True) as device, open_system() as system:
        ref = await system.spawn(child(greedy, device).options(stop_timeout=0))
        async with anyio.create_task_group() as tasks:
            for _ in range(2):
                Asker(tasks, ref, Square(row(1)))
                await settle()  # at once, trio's order of tasks would decide whether it is one deadlock or two
            await ref.stop()
    (reported,) = [record.getMessage() for record in caplog.records if "deadlock" in record.getMessage()]
    assert "float32 (8000,)" in reported
    assert "float32 (9000,)" in reported
    assert f"{ref.path} batch" in reported


async def test_batches_that_wait_for_their_turn_are_not_reported(caplog: pytest.LogCaptureFixture) -> None:
    """They hold their rows, and what they wait for holds nothing any more when it is done, or has crashed."""
    begun = anyio.Event()

    @gpu.batched(max_items=1, max_delay=0)
    async def same(device: gpu.Device, batch: gpu.Batch[Square]) -> Array:
        begun.set()
        await settle()
        if batch.messages[0].label:
            raise ZeroDivisionError
        return await batch.rows.read()

    async with gpu.open_device(DEVICE, memory_limit=64 << 10, debug=True) as device, open_system() as system:
        ref = await system.spawn(same, device)

        async def want_everything() -> None:
            async with device.pool.lease(16_000):
                pass

        for label in (0, 1):
            async with anyio.create_task_group() as tasks:
                for number in range(5):
                    Asker(tasks, ref, Square(row(number), label=label if number == 3 else 0))
                await begun.wait()
                if not label:
                    tasks.start_soon(want_everything)
    assert not [record for record in caplog.records if "deadlock" in record.getMessage()]


# --- the life of a stage -------------------------------------------------------------------------------------


async def test_what_was_taken_is_answered_before_a_graceful_stop(
    device: gpu.Device, system: System, square: gpu.Kernel
) -> None:
    """Batches that wait for more at once, those in flight when they are computed; what is queued is not taken."""
    calls: list[list[Square]] = []
    ref = await system.spawn(noting(calls, max_items=2, max_delay=NEVER), device, square)
    async with anyio.create_task_group() as tasks:
        with Gate(device.queue):
            askers = [Asker(tasks, ref, Square(row(i))) for i in range(3)]
            await settle()
            assert len(calls) == 1
            tasks.start_soon(ref.stop)
            await settle()
            assert [len(call) for call in calls] == [2, 1]
    assert [asker.outcome.tolist() for asker in askers] == [[1], [2], [5]]
    with pytest.raises(ActorStopped):
        await ref.ask(Square(row(1)))


async def test_a_stage_that_is_cancelled_gives_its_memory_back(either: gpu.Device) -> None:
    """When its commands are over: the stage does not wait for them. Who waits for an answer is told."""
    async with open_system() as system, anyio.create_task_group() as tasks:
        stage = noting([], max_items=1, max_delay=0)
        spec = child(stage, either, await either.kernel(SQUARE, "square")).options(stop_timeout=0)
        ref = await system.spawn(spec)
        with Gate(either.queue):
            asker = Asker(tasks, ref, Square(row(1)))
            await settle()
            await ref.stop()
            assert either.pool.statistics().active_bytes == 0
            assert either.pool.statistics().in_flight_bytes > 0
        await settle()
        assert isinstance(asker.outcome, ActorStopped)
    await either.synchronize()
    assert either.pool.statistics().in_flight_bytes == 0


async def test_a_paused_stage_takes_nothing(device: gpu.Device, system: System, square: gpu.Kernel) -> None:
    """What it has taken goes on."""
    calls: list[list[Square]] = []
    ref = await system.spawn(noting(calls, max_items=1, max_delay=0), device, square)
    async with anyio.create_task_group() as tasks:
        await ref.pause()
        Asker(tasks, ref, Square(row(1)))
        await settle()
        assert calls == []
        await ref.resume()
    assert len(calls) == 1


# --- what a stage is made of -----------------------------------------------------------------------------------


async def test_what_is_passed_behind_the_device_reaches_the_function(device: gpu.Device, system: System) -> None:
    """By position or by name, and checked like any child's; or it is bound before."""

    @gpu.batched(max_delay=0)
    async def scale(device: gpu.Device, batch: gpu.Batch[Square], factor: float, *, offset: float = 0) -> Array:
        return await batch.rows.read() * factor + offset  # type: ignore[no-any-return]

    ref = await system.spawn(child(scale, device, 3, offset=1))
    assert (await ref.ask(Square(row(1, 2)))).tolist() == [4, 7]
    assert ref.name == "scale"
    bound = gpu.batched(max_delay=0)(partial(scale.fn, factor=2))
    assert (await (await system.spawn(bound, device)).ask(Square(row(1, 2)))).tolist() == [2, 4]
    with pytest.raises(TypeError, match=r"scale\(ctx.*device.*factor.*offset.* cannot be started with these arguments"):
        child(scale, device)  # type: ignore[call-overload]


async def test_a_stage_accepts_the_messages_of_its_batch(device: gpu.Device, system: System) -> None:
    """Or anything, if that is not annotated, and whatever has no row fails."""

    @gpu.batched(max_delay=0)
    async def typed(device: gpu.Device, batch: gpu.Batch[Square]) -> gpu.UnifiedBuffer:
        return batch.rows

    @gpu.batched(max_delay=0)
    async def untyped(device, batch):  # type: ignore[no-untyped-def]
        return batch.rows

    with pytest.raises(TypeError, match="/typed accepts Square, not int"):
        await (await system.spawn(typed, device)).ask(3)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=r"untyped takes messages whose first field is an array, got 3: write an attrs"):
        await (await system.spawn(untyped, device)).ask(3)


async def test_a_stage_runs_on_a_device(system: System) -> None:
    """It says so."""

    @gpu.batched()
    async def stage(device: gpu.Device, batch: gpu.Batch[Square]) -> None: ...

    with pytest.raises(StartFailed) as failed:
        await system.spawn(stage, "pocl")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=r"stage runs on a device, got 'pocl': write `child\(stage, device\)`"):
        raise failed.value.__cause__ or failed.value


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_items": 0}, "max_items is how many messages a batch has at most, a whole number from 1 on, got 0"),
        ({"max_bytes": 1.5}, "max_bytes is how many bytes may be in flight, a whole number from 1 on, got 1.5"),
        ({"max_delay": -1}, "max_delay is a number of seconds from 0 on, got -1"),
        ({"max_delay": "soon"}, "max_delay is a number of seconds from 0 on, got 'soon'"),
        ({"shape": (0,)}, "a buffer needs at least one element"),
        ({"dtype": object}, "a buffer holds numbers"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(options: dict[str, Any], said: str) -> None:
    """Where they are written."""
    with pytest.raises((TypeError, ValueError), match=said):
        gpu.batched(**options)


def test_what_is_no_function_of_a_device_and_a_batch_is_refused() -> None:
    """With what to write instead."""

    async def alone(device: gpu.Device) -> None: ...

    async def starred(*args: Any) -> None: ...

    def not_async(device: gpu.Device, batch: gpu.Batch[Square]) -> None: ...

    async def annotated(device: gpu.Device, batch: Array) -> None: ...

    for fn in (alone, starred):
        with pytest.raises(
            TypeError, match=r"is called with a device and a batch, and does not take them: write `async"
        ):
            gpu.batched()(fn)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"is written above an async function, got .*not_async"):
        gpu.batched()(not_async)  # type: ignore[arg-type]
    with pytest.raises(UnresolvedAnnotation, match=r"write `batch: gpu\.Batch\[Message\]`"):
        child(gpu.batched()(annotated), None)  # type: ignore[arg-type]
