"""Operations chained across queues, when they ran, counts of kernels, and the trace of it all."""

from __future__ import annotations

import json
from collections import Counter, deque
from time import perf_counter
from types import SimpleNamespace
from typing import Any

import anyio
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rookery import Context, gpu, open_system
from rookery._core.within import within_actor
from rookery.gpu import Operation, _profile
from rookery.gpu._buffer import LARGE

from .stages import SQUARE, Learn, Square, noting, row
from .support import DEVICE, KERNELS, Gate, without_shared_memory

COUNTED = ("launched", "completed", "failed", "seconds")


def launched(tallies: _profile.Tallies, path: str) -> Operation:
    """A launch by the actor of that path, or outside of all."""
    actor: Any = SimpleNamespace(path=path) if path else None
    token = within_actor.set(actor)
    tally = tallies.mine()
    within_actor.reset(token)
    no_lane: Any = None
    operation = Operation(no_lane, [tally], lambda: "launch")
    tally.started(operation)
    return operation


def end(operation: Operation, seconds: float | None) -> float:
    """It is over, well after so many seconds, or not; returns how long it ran."""
    if seconds is None:
        operation.raised, operation.reported = RuntimeError(), True
    else:
        operation.profile = gpu.OperationProfile(0.0, 0.0, 0.0, seconds)
    operation.settle()
    return seconds or 0.0


# --- chaining ---------------------------------------------------------------------------------------


async def test_operations_are_chained_across_queues(device: gpu.Device, program: gpu.Program) -> None:
    """Also where they share no buffer."""
    fill = program.kernel("fill")
    a, b = await device.empty(4), await device.empty(4)
    async with device.open_queue() as queue:
        with Gate(device.queue) as gate:
            first = fill.submit(a, 1)
            second = fill.submit(b, 2, queue=queue, after=[first])
            third = fill.submit(b, 3, queue=queue)
            await anyio.wait_all_tasks_blocked()
            assert not second.done
            gate.open()
            await third
        assert second.done
        await fill.submit(b, 4, after=[first, third], queue=queue)  # what is over is waited for at once
    assert (await b.read()).tolist() == [4] * 4


async def test_generated_kernels_are_chained_as_well(device: gpu.Device) -> None:
    """Both kinds."""
    twice = await device.elementwise("float *x", "x[i] *= 2")
    total = await device.reduction(np.float32, neutral=0, reduce="a + b", map="x[i]", arguments="const float *x")
    a, b = await device.upload(np.ones(4, np.float32)), await device.upload(np.ones(4, np.float32))
    out = await device.empty(())
    async with device.open_queue() as queue:
        with Gate(device.queue) as gate:
            first = twice.submit(a)
            second = twice.submit(b, queue=queue, after=[first])
            third = total.submit(b, out=out, queue=queue, after=[first])
            await anyio.wait_all_tasks_blocked()
            assert not second.done
            assert not third.done
            gate.open()
            await third
    assert await out.read() == 8


async def test_what_follows_a_failure_fails(device: gpu.Device, program: gpu.Program) -> None:
    """On whichever queue; and the device remains usable."""
    fill = program.kernel("fill")
    a, b = await device.empty(4), await device.empty(4)
    async with device.open_queue() as queue:
        with Gate(device.queue) as gate:
            first = fill.submit(a, 1)
            second = fill.submit(b, 2, queue=queue, after=[first])
            gate.fail()
            with pytest.raises(gpu.CommandFailed):
                await second
            with pytest.raises(gpu.CommandFailed):
                await first
        with pytest.raises(gpu.CommandFailed, match="kernel 'fill' failed"):
            fill.submit(b, 3, queue=queue, after=[first])
    async with device.open_queue() as queue:
        await fill(b, 4, queue=queue)
    assert (await b.read()).tolist() == [4] * 4


async def test_the_event_of_what_failed_outlives_it(device: gpu.Device, program: gpu.Program) -> None:
    """PoCL goes on to look at it, and aborts the process, sooner or later, where it is gone."""
    fill, a = program.kernel("fill"), await device.empty(4)
    with Gate(device.queue) as gate:
        operation = fill.submit(a, 1)
        event = operation.event
        gate.fail()
        with pytest.raises(gpu.CommandFailed):
            await operation
    assert operation.event is None
    await fill(a, 2)
    assert [*device.failures] == [event]


async def test_operations_that_cannot_be_waited_for_are_refused(device: gpu.Device, program: gpu.Program) -> None:
    """What is none, and those of another opening."""
    fill, a = program.kernel("fill"), await device.empty(4)
    for wrong in ([1], 1, "ab"):
        with pytest.raises(TypeError, match=r"after is a list of operations, got .*: write after=\[kernel\.submit"):
            fill.submit(a, 1, after=wrong)  # type: ignore[arg-type]
    async with gpu.open_device(DEVICE) as other:
        foreign = await other.kernel(KERNELS, "fill")
        with Gate(other.queue):
            operation = foreign.submit(await other.empty(4), 1)
            with pytest.raises(ValueError, match=r"of another `open_device\(\)` than 'queue 0 .*: write `await operat"):
                fill.submit(a, 1, after=[operation])
    await fill(a, 5)
    assert (await a.read()).tolist() == [5] * 4


# --- times ------------------------------------------------------------------------------------------


async def test_an_operation_tells_when_it_was_where() -> None:
    """On the clock of the host, to which the device's is fitted when it is opened."""
    async with gpu.open_device(DEVICE, profile=True) as device:
        increment = await device.kernel(KERNELS, "increment")
        x = await device.upload(np.zeros(1000, np.float32))
        before = perf_counter()
        operation = increment.submit(x)
        assert operation.profile is None
        await operation
        after = perf_counter()
        times = operation.profile
        assert times is not None
        slack = 0.01  # of the fit
        assert before - slack < times.queued <= times.submitted <= times.started < times.ended < after + slack
        assert operation.seconds == times.seconds == times.ended - times.started
        assert times.waited >= 0


async def test_a_command_that_failed_has_no_times() -> None:
    """The device does not tell them."""
    async with gpu.open_device(DEVICE, profile=True) as device:
        increment = await device.kernel(KERNELS, "increment")
        x = await device.upload(np.zeros(1000, np.float32))
        with Gate(device.queue) as gate:
            operation = increment.submit(x)
            gate.fail()
            with pytest.raises(gpu.CommandFailed):
                await operation
        assert operation.profile is None
        seen = device.statistics().kernels["increment"]
        assert (seen.launched, seen.completed, seen.failed, seen.seconds) == (1, 0, 1, 0)


# --- counts -----------------------------------------------------------------------------------------


async def test_launches_are_counted_for_each_kernel(device: gpu.Device, program: gpu.Program) -> None:
    """Those on their way, and those that are over; without times unless they were asked for."""
    fill, increment = program.kernel("fill"), program.kernel("increment")
    again = program.kernel("fill")
    x = await device.empty(4)
    with Gate(device.queue):
        fill.submit(x, 1)
        again.submit(x, 1)
        last = increment.submit(x)
        kernels = device.statistics().kernels
        assert (kernels["fill"].launched, kernels["fill"].completed) == (2, 0)
    await last
    assert device.statistics().kernels == {
        "fill": gpu.KernelStatistics(launched=2, completed=2, failed=0, seconds=None),
        "increment": gpu.KernelStatistics(launched=1, completed=1, failed=0, seconds=None),
    }


async def test_the_times_of_a_kernel_are_added_up() -> None:
    """Over all its launches, on every queue."""
    async with gpu.open_device(DEVICE, profile=True) as device:
        increment = await device.kernel(KERNELS, "increment")
        x = await device.upload(np.zeros(1000, np.float32))
        async with device.open_queue() as queue:
            operations = [increment.submit(x, queue=one) for one in (device.queue, queue, device.queue)]
            for operation in operations:
                await operation
        seen = device.statistics().kernels["increment"]
        assert seen.completed == 3
        assert seen.seconds == pytest.approx(sum(operation.seconds or 0 for operation in operations))


async def test_a_warm_up_is_neither_counted_nor_timed() -> None:
    """What a kernel takes on average is ``seconds / completed``."""
    async with gpu.open_device(DEVICE, profile=True) as device:
        increment = await device.kernel(KERNELS, "increment")
        x = await device.upload(np.zeros(1000, np.float32))
        await increment.warm_up(x)
        assert device.statistics().kernels["increment"] == gpu.KernelStatistics(0, 0, 0, 0.0)
        operation = increment.submit(x)
        await operation
        seen = device.statistics().kernels["increment"]
        assert (await x.read() == 2).all()
    assert (seen.launched, seen.completed, seen.seconds) == (1, 1, operation.seconds)
    names = [event["name"] for event in device.trace()["traceEvents"] if event["ph"] == "X"]
    assert names.count("kernel 'increment'") == 1


async def test_launches_are_counted_for_each_actor(device: gpu.Device, program: gpu.Program) -> None:
    """By its path, in all its incarnations and those after it, and apart from what is launched outside."""
    fill, increment = program.kernel("fill"), program.kernel("increment")
    x = await device.empty(4)

    async def user(ctx: Context[Learn]) -> None:
        async for request in ctx:
            await increment(x)
            await fill(x, request.row)
            ctx.reply(request, None)

    await fill(x, 1)
    async with open_system() as system:
        for _ in range(2):
            ref = await system.spawn(user, name="user")
            await ref.ask(Learn(2))
            await ref.ask(Learn(3))
            await ref.stop()
        stage = await system.spawn(noting([], max_items=1), device, await device.kernel(SQUARE, "square"))
        await stage.ask(Square(row(1, 2, 3)))
        path = stage.path
    counted = {
        actor: {kernel: (one.launched, one.completed, one.failed, one.seconds) for kernel, one in kernels.items()}
        for actor, kernels in device.statistics().actors.items()
    }
    assert counted == {
        "": {"fill": (1, 1, 0, None)},
        ref.path: {"fill": (4, 4, 0, None), "increment": (4, 4, 0, None)},
        path: {"square": (1, 1, 0, None)},
    }


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.sampled_from(["fill", "add"]), st.integers(0, 3), st.booleans()), max_size=60
    )
)
def test_the_counts_of_actors_add_up_to_those_of_kernels(steps: list[tuple[int, str, int, bool]]) -> None:
    """However many actors there were, and whatever is in flight; and those that launched last are told apart."""
    apart, naive = 2, Counter[tuple[str, str]]()
    latest: dict[tuple[str, str], None] = {}
    in_flight: deque[tuple[str, Operation]] = deque()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_profile, "ACTORS", apart)
        tallies = {"fill": _profile.Tallies(), "add": _profile.Tallies()}
        for actor, kernel, over, well in steps:
            path = f"/{actor}" if actor else ""
            in_flight.append((kernel, launched(tallies[kernel], path)))
            naive["launched", kernel] += 1
            naive[path, kernel] += 1
            latest.pop((path, kernel), None)
            latest[path, kernel] = None
            for _ in range(min(over, len(in_flight))):
                ended, operation = in_flight.popleft()
                naive["completed" if well else "failed", ended] += 1
                naive["seconds", ended] += end(operation, 3 if well else None)
            told = _profile.count_by_actor(tallies, timed=True)
            for name, one in tallies.items():
                shares = [kernels[name] for kernels in told.values() if name in kernels]
                seen = one.total()
                sums = [sum(getattr(share, what) for share in shares) for what in COUNTED]
                assert sums == [naive[what, name] for what in COUNTED]
                assert sums == [seen.launched, seen.completed_well, seen.failed, seen.seconds]
                mine = [path for path, kernel in latest if kernel == name]
                assert all(path in told for path in mine[-apart:])
                if len(mine) <= apart:
                    assert {path: told[path][name].launched for path in mine} == {
                        path: naive[path, name] for path in mine
                    }


async def test_actors_that_have_not_launched_for_long_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless they go on launching, have something in flight, or are none."""
    monkeypatch.setattr(_profile, "ACTORS", 10)
    tallies = _profile.Tallies()
    waits = launched(tallies, "/waits")
    end(launched(tallies, ""), 1)
    for number in range(1000):
        end(launched(tallies, "/busy"), 1)
        end(launched(tallies, f"/{number}"), 1)
    told = _profile.count_by_actor({"fill": tallies}, timed=True)
    assert 10 <= len(told) <= 25
    assert [told[path]["fill"].launched for path in ("", "/busy", "/waits", "/999")] == [1, 1000, 1, 1]
    assert sum(kernels["fill"].launched for kernels in told.values()) == 2002
    assert "(others)" in told
    end(waits, 1)


# --- traces -----------------------------------------------------------------------------------------


async def test_a_trace_has_a_row_for_each_queue_and_direction(anyio_backend_name: str) -> None:
    """In Chrome's format, in the order of time, also after the device was closed."""
    async with gpu.open_device(DEVICE, profile=True) as device:
        without_shared_memory(device)
        increment = await device.kernel(KERNELS, "increment")
        x = await device.upload(np.zeros(LARGE // 4, np.float32))
        async with device.open_queue() as queue:
            await increment(x)
            await increment(x, queue=queue)
        await x.read()
        names = [device.queue.name, queue.name]
    trace = json.loads(json.dumps(device.trace()))["traceEvents"]
    rows = {event["tid"]: event["args"]["name"] for event in trace if event["name"] == "thread_name"}
    assert {*names, "copies to the device", "copies to the host", device.copies.name} == set(rows.values())
    shown = [(rows[event["tid"]], event["name"]) for event in trace if event["ph"] == "X"]
    assert [row for row, name in shown if name == "kernel 'increment'"] == names
    assert shown.index((names[0], "kernel 'increment'")) > [row for row, _ in shown].index("copies to the device")
    assert all(event["dur"] >= 0 and event["args"]["queued"] <= event["ts"] for event in trace if event["ph"] == "X")
    (process,) = [event for event in trace if event["name"] == "process_name"]
    assert process["args"]["name"] == str(device.info)


async def test_a_trace_has_a_row_for_each_actor_that_started_something() -> None:
    """A stage's are those of its copies and launches; what overlaps goes into a further row; others have none."""
    calls: list[list[Any]] = []
    async with gpu.open_device(DEVICE, profile=True) as device, open_system() as system:
        without_shared_memory(device)
        stage = await system.spawn(noting(calls, max_items=1), device, await device.kernel(SQUARE, "square"))
        await stage.ask(Square(row(1, 2, 3)))
        await (await device.upload(np.zeros(4, np.float32))).read()
        path = stage.path
    shown = [record for record in device._recorder.records if record.actor is not None]  # type: ignore[union-attr]
    assert {record.actor for record in shown} == {path}
    assert {record.row for record in shown} == {"copies to the device", "copies to the host", device.queue.name}
    trace = json.loads(json.dumps(device.trace()))["traceEvents"]
    rows = {event["tid"]: event["args"]["name"] for event in trace if event["name"] == "thread_name"}
    mine = [event for event in trace if event["ph"] == "X" and rows[event["tid"]].startswith(f"actor {path}")]
    assert [event["name"] for event in mine] == [
        event["name"] for event in trace if event["ph"] == "X" and event not in mine and "actor" in event["args"]
    ]
    assert len(mine) == len(shown) == 3


def test_operations_of_one_actor_that_overlap_are_in_different_rows() -> None:
    """A row shows one thing at a time: whatever else is in it would be drawn as a part of it."""

    def record(started: float, ended: float, actor: str | None = "a") -> _profile.Record:
        return _profile.Record("queue", "x", gpu.OperationProfile(0.0, started, started, ended), actor)

    trace = _profile.chrome_trace(0, "device", [record(2, 4), record(1, 3), record(3, 5), record(6, 7, None)])
    events: list[dict[str, Any]] = trace["traceEvents"]
    rows = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
    seen = [(rows[event["tid"]], event["ts"]) for event in events if event["ph"] == "X"]
    assert seen == [
        ("queue", 1e6), ("actor a", 1e6),
        ("queue", 2e6), ("actor a (2)", 2e6),
        ("queue", 3e6), ("actor a", 3e6),
        ("queue", 6e6),
    ]  # fmt: skip


async def test_a_trace_has_the_shape_of_the_trace_event_format() -> None:
    """What the viewers need: complete events with times in microseconds, and the names of processes and rows."""
    async with gpu.open_device(DEVICE, profile=True) as device:
        increment = await device.kernel(KERNELS, "increment")
        await increment(await device.upload(np.zeros(4, np.float32)))
    trace = json.loads(json.dumps(device.trace(), allow_nan=False))
    assert set(trace) == {"traceEvents", "displayTimeUnit"}
    assert trace["displayTimeUnit"] in ("ms", "ns")
    rows = [event["tid"] for event in trace["traceEvents"] if event["name"] == "thread_name"]
    assert len(rows) == len(set(rows))
    for event in trace["traceEvents"]:
        assert {type(event["pid"]), type(event["tid"])} == {int}
        assert isinstance(event["name"], str)
        if event["ph"] == "X":
            assert event["tid"] in rows
            assert {type(event["ts"]), type(event["dur"])} == {float}
            assert event["dur"] >= 0
        else:
            assert event["ph"] == "M"
            assert event["name"] in ("process_name", "thread_name")
            assert isinstance(event["args"]["name"], str)


async def test_a_trace_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest operations go first."""
    monkeypatch.setattr(_profile, "KEPT", 3)
    async with gpu.open_device(DEVICE, profile=True) as device:
        increment = await device.kernel(KERNELS, "increment")
        x = await device.upload(np.zeros(4, np.float32))
        for _ in range(5):
            await increment(x)
    assert len([event for event in device.trace()["traceEvents"] if event["ph"] == "X"]) == 3


async def test_without_times_there_is_no_trace(device: gpu.Device) -> None:
    """And the error says how to have one."""
    with pytest.raises(gpu.ArgumentValueError, match=r"keeps no times: open it with `open_device\(profile=True\)`"):
        device.trace()
