"""Children that are added, restarted, stopped and removed on request."""

from __future__ import annotations

import traceback
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from family import RETURN, held, member, members, names, until_restarted
from rookery import (
    ActorRef,
    ActorState,
    ActorStopped,
    Backoff,
    Context,
    Intensity,
    Restart,
    StartFailed,
    Strategy,
    SupervisorRef,
    SupervisorSpec,
    UnknownActor,
    child,
    open_system,
    supervisor,
    task,
)
from stepped import Backend, jumping
from support import settle


@pytest.fixture(scope="module")
def anyio_backend(anyio_backend: Backend) -> Backend:
    """Time passes when everybody waits."""
    return jumping(anyio_backend)


class Gate:
    """A behaviour whose starts and ends a test lets through, or fails."""

    def __init__(self) -> None:
        self.starts = 0
        self.may_start = anyio.Event()
        self.may_end = anyio.Event()
        self.error: Exception | None = None

    def close(self) -> None:
        self.may_start, self.may_end = anyio.Event(), anyio.Event()

    def open(self) -> None:
        self.may_start.set()
        self.may_end.set()

    async def __call__(self, ctx: Context[Any]) -> None:
        self.starts += 1
        await self.may_start.wait()
        if self.error is not None:
            raise self.error
        await ctx.wait_stopping()
        await self.may_end.wait()


async def outcome_of(call: Any, outcomes: list[Any]) -> None:
    """Await something, and keep what came of it."""
    try:
        outcomes.append(await call)
    except Exception as error:  # noqa: BLE001  # looked at by the test
        outcomes.append(error)


# ---- restart_child


@pytest.mark.parametrize("strategy", Strategy)
async def test_a_running_child_is_stopped_and_started_again_alone(strategy: Strategy) -> None:
    """Gracefully, under the same reference, with what was queued; neither siblings nor the intensity are concerned."""
    diary: list[str] = []
    a, b, c = members("abc", diary)
    async with open_system() as system:
        top = await system.supervise(a, b, c, strategy=strategy, intensity=Intensity(0, per=60))
        held(diary)
        for times in range(1, 6):
            b.ref.send_nowait(f"queued {times}")
            await top.restart_child(b.ref)
            assert (b.ref.state, b.ref.statistics().restarts) == (ActorState.RUNNING, times)
        await settle()
        assert [line for line in diary if "got" not in line] == ["-b", "+b"] * 5
        assert [line for line in diary if "got" in line] == [f"b got queued {times}" for times in range(1, 6)]
        assert (names(top.children()), top.statistics().restarts) == ("abc", 0)
        assert system.dead_letters.statistics().total == 0


@pytest.mark.parametrize("how", ["returned", "stopped", "failed"])
async def test_a_finished_child_is_started_again_in_a_new_life(how: str) -> None:
    """Under the same reference and at the same place in the order, however it had ended."""
    diary: list[str] = []
    gate = Gate()
    gate.open()
    a, c = members("ac", diary)
    b = child(gate).options(name="b")
    async with open_system() as system:
        top = await system.supervise(a, b, c)
        match how:
            case "returned":
                a, b = b, a  # the one that returns is a member
                await b.ref.send(RETURN)
                await b.ref.wait_stopped()
            case "stopped":
                await top.stop_child(b.ref)
            case _:
                gate.error = OSError("disk")
                with pytest.raises(StartFailed):
                    await top.restart_child(b.ref)
                assert b.ref.state is ActorState.FAILED
                gate.error = None
        before = names(top.children())
        await top.restart_child(b.ref)
        assert (b.ref.state, b.ref.statistics().restarts) == (ActorState.RUNNING, 0)
        assert (names(top.children()), top[b]) == (before, b.ref)


@pytest.mark.parametrize("strategy", Strategy)
async def test_a_child_in_its_backoff_is_started_at_once(strategy: Strategy) -> None:
    """The delay is over; and what is queued is handed out, also to the next incarnation."""
    diary: list[str] = []
    (a,) = members("a", diary, backoff=Backoff(3600))
    with anyio.fail_after(5):
        async with open_system() as system:
            top = await system.supervise(a, strategy=strategy)
            await a.ref.send(ValueError())
            await settle()
            a.ref.send_nowait("queued")
            assert a.ref.state is ActorState.RESTARTING
            await top.restart_child(a.ref)
            await settle()
            assert a.ref.state is ActorState.RUNNING
            await a.ref.send("more")
            await settle()
            await top.restart_child(a.ref)
            assert diary == ["+a", "-a", "+a", "a got queued", "a got more", "-a", "+a"]
            assert a.ref.statistics().restarts == 2


@pytest.mark.parametrize("running", [False, True])
async def test_a_restart_whose_start_fails_is_told_with_its_cause_and_not_retried(running: bool) -> None:
    """The child stays down; the supervisor and the siblings go on."""
    gate = Gate()
    gate.open()
    (a,) = members("a", [])
    b = child(gate).options(name="b")
    async with open_system() as system:
        top = await system.supervise(a, b)
        if not running:
            await top.stop_child(b.ref)
        gate.error = OSError("disk")
        with pytest.raises(StartFailed, match=r"/supervisor/b did not start: OSError\('disk'\)") as raised:
            await top.restart_child(b.ref)
        assert raised.value.__cause__ is gate.error
        await settle()
        assert (b.ref.state, a.ref.state, gate.starts) == (ActorState.FAILED, ActorState.RUNNING, 2)
        assert names(top.children()) == "ab"


async def test_a_restart_that_is_too_slow_is_told_as_a_start_that_is() -> None:
    """With the `TimeoutError` as its cause."""
    gate = Gate()
    gate.open()
    spec = child(gate).options(start_timeout=0.01)
    async with open_system() as system:
        top = await system.supervise(spec)
        gate.may_start = anyio.Event()
        with pytest.raises(StartFailed) as raised:
            await top.restart_child(spec.ref)
        assert isinstance(raised.value.__cause__, TimeoutError)
        assert spec.ref.state is ActorState.FAILED


@pytest.mark.parametrize("starting", [False, True])
async def test_a_restart_that_nobody_waits_for_any_more_goes_on(starting: bool) -> None:
    """While the child is being stopped, and while it starts; in the end it is ready, as if somebody had waited."""
    gate = Gate()
    gate.may_start.set()
    spec = child(gate)
    async with open_system() as system:
        top = await system.supervise(spec)
        if starting:
            gate.close()
            gate.may_end.set()
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(top.restart_child, spec.ref)
                await settle()
                assert gate.starts == (2 if starting else 1)
                assert spec.ref.state is (ActorState.STARTING if starting else ActorState.RESTARTING)
                scope.cancel()
        gate.open()
        await until_restarted(spec.ref)
        assert (gate.starts, spec.ref.state) == (2, ActorState.RUNNING)
        await top.restart_child(spec.ref)
        assert gate.starts == 3


@pytest.mark.parametrize(("state", "starts"), [("running", 1), ("down", 2), ("starting", 2)])
async def test_concurrent_restarts_are_all_told_when_the_child_is_ready(state: str, starts: int) -> None:
    """A child that is still being stopped for one of them is not stopped again; one that is starting is."""
    gate = Gate()
    gate.open()
    spec = child(gate)
    outcomes: list[Any] = []
    async with open_system() as system, anyio.create_task_group() as tasks:
        top = await system.supervise(spec)
        before = gate.starts
        if state == "down":
            await top.stop_child(spec.ref)
        gate.close()
        if state == "starting":
            gate.may_end.set()
            tasks.start_soon(outcome_of, top.restart_child(spec.ref), outcomes)
            await settle()
        for _ in range(3):
            tasks.start_soon(outcome_of, top.restart_child(spec.ref), outcomes)
        await settle()
        assert outcomes == []
        gate.open()
        await settle()
        assert outcomes == [None] * (4 if state == "starting" else 3)
        assert (gate.starts - before, spec.ref.state) == (starts, ActorState.RUNNING)


@pytest.mark.parametrize("static", [False, True])
async def test_a_child_that_is_restarted_while_it_starts_is_ready_when_its_next_start_has_succeeded(
    static: bool,
) -> None:
    """The one that is told to stop may still get as far as its first receive; that is not what is waited for."""
    told: list[str] = []
    gate = Gate()
    gate.may_end.set()
    spec = child(gate)
    (a,) = members("a", told)

    async def ask_again(top: SupervisorRef) -> None:
        await top.restart_child(spec.ref)
        told.append(f"restarted {spec.ref.state.value} {gate.starts}")

    async def start(top: SupervisorRef) -> None:
        await (system.spawn(declared) if static else top.spawn(spec))
        told.append(f"started {spec.ref.state.value} {gate.starts}")

    declared = supervisor(*([spec, a] if static else []), name="top")
    async with open_system() as system, anyio.create_task_group() as tasks:
        if not static:
            await system.spawn(declared)
        tasks.start_soon(start, declared.ref)
        await settle()
        tasks.start_soon(ask_again, declared.ref)
        await settle()
        assert (told, spec.ref.state) == ([], ActorState.RESTARTING)
        gate.may_start, may_start = anyio.Event(), gate.may_start
        may_start.set()
        await settle()
        assert (told, gate.starts, spec.ref.state) == ([], 2, ActorState.STARTING)
        gate.open()
        await settle()
        assert sorted(told) == [*(["+a"] if static else []), "restarted running 2", "started running 2"]


async def test_a_restart_that_is_stopped_meanwhile_is_told_so() -> None:
    """Nobody waits for ever for a child that will not be ready."""
    gate = Gate()
    gate.may_start.set()
    spec = child(gate)
    outcomes: list[Any] = []
    async with open_system() as system, anyio.create_task_group() as tasks:
        top = await system.supervise(spec)
        tasks.start_soon(outcome_of, top.restart_child(spec.ref), outcomes)
        await settle()
        tasks.start_soon(top.stop_child, spec.ref)
        await settle()
        gate.open()
        await settle()
        assert spec.ref.state is ActorState.STOPPED
        assert [type(outcome) for outcome in outcomes] == [StartFailed]
        assert "was stopped before it was ready" in str(outcomes[0].__cause__)


async def test_a_restart_during_a_group_restart_is_part_of_it() -> None:
    """Whoever asked for it is told when the child is ready."""
    diary: list[str] = []
    gate = Gate()
    gate.may_start.set()
    a, c = members("ac", diary)
    b = child(gate).options(name="b")
    outcomes: list[Any] = []
    async with open_system() as system, anyio.create_task_group() as tasks:
        top = await system.supervise(a, b, c, strategy=Strategy.ONE_FOR_ALL)
        await a.ref.send(ValueError())
        await settle()
        for spec in (a, b, c):
            tasks.start_soon(outcome_of, top.restart_child(spec.ref), outcomes)
        await settle()
        assert outcomes == []
        gate.open()
        await until_restarted(c.ref)
        assert outcomes == [None] * 3
        assert [spec.ref.statistics().restarts for spec in (a, b, c)] == [1, 1, 1]


# ---- stop_child and remove_child


@pytest.mark.parametrize("strategy", Strategy)
async def test_a_child_that_is_stopped_on_request_stays_down_and_concerns_nobody(strategy: Strategy) -> None:
    """Whatever its restart type; twice is once; it is known, and can be restarted."""
    diary: list[str] = []
    a, b, c = members("abc", diary, restart=Restart.PERMANENT)
    async with open_system() as system:
        top = await system.supervise(a, b, c, strategy=strategy)
        held(diary)
        await top.stop_child(b.ref)
        await top.stop_child(b.ref)
        await settle()
        assert (diary, b.ref.state, names(top.children())) == (["-b"], ActorState.STOPPED, "abc")
        await top.restart_child(b.ref)
        assert (diary, b.ref.state) == (["-b", "+b"], ActorState.RUNNING)


async def test_a_stop_that_nobody_waits_for_any_more_goes_on() -> None:
    """The child is down in the end, and so is one that is being removed."""
    for call in ("stop_child", "remove_child"):
        gate = Gate()
        gate.may_start.set()
        spec = child(gate)
        async with open_system() as system:
            top = await system.supervise(spec)
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(getattr(top, call), spec.ref)
                    await settle()
                    assert spec.ref.state is ActorState.STOPPING
                    scope.cancel()
            gate.open()
            await settle()
            assert spec.ref.state is ActorState.STOPPED
            assert top.children() == ([spec.ref] if call == "stop_child" else [])


@pytest.mark.parametrize("state", ["running", "down", "backoff"])
async def test_a_removed_child_is_forgotten_and_no_group_restart_brings_it_back(state: str) -> None:
    """Its name is free; a restart of the supervisor itself declares it anew."""
    diary: list[str] = []
    a, c = members("ac", diary)
    (b,) = members("b", diary, backoff=Backoff(3600))
    inner = supervisor(a, b, c, name="inner", strategy=Strategy.ONE_FOR_ALL, intensity=Intensity(2, per=60))
    with anyio.fail_after(5):
        async with open_system() as system:
            await system.supervise(inner)
            top = inner.ref
            if state == "down":
                await top.stop_child(b.ref)
            elif state == "backoff":
                await b.ref.send(ValueError())
                await settle()
                assert b.ref.state is ActorState.RESTARTING
            await top.remove_child(b.ref)
            await settle()
            with pytest.raises(UnknownActor, match=r"remove_child\(\): .* is not a child of /supervisor/inner"):
                await top.remove_child(b.ref)
            assert (b.ref.state, names(top.children())) == (ActorState.STOPPED, "ac")
            held(diary)
            before = c.ref.statistics().restarts
            await a.ref.send(ValueError())
            await until_restarted(c.ref, before + 1)
            assert diary == ["-a", "-c", "+a", "+c"]
            other = await top.spawn(member, diary, name="b")
            assert other.path == "/supervisor/inner/b"
            for times in range(2):
                await c.ref.send(ValueError(times))
                await settle()
            await until_restarted(inner.ref)
            assert (names(top.children()), b.ref.state) == ("abc", ActorState.RUNNING)


@pytest.mark.parametrize("call", ["stop_child", "remove_child", "restart_child"])
async def test_requests_about_a_child_of_somebody_else_are_refused(call: str) -> None:
    """Also of a child's own child, of one that is forgotten, and of what has never been spawned."""
    (a,) = members("a", [])
    never = child(member, [])
    inner = supervisor(a, name="inner")
    async with open_system() as system:
        top = await system.supervise(inner)
        finished = await top.spawn(member, [], name="finished")
        await finished.stop()
        for ref in (a.ref, top, finished, never.ref):
            with pytest.raises(
                UnknownActor, match=rf"{call}\(\): .* is not a child of /supervisor; `sup.children\(\)`"
            ):
                await getattr(top, call)(ref)


@pytest.mark.parametrize("call", ["stop_child", "remove_child", "restart_child"])
async def test_requests_to_a_supervisor_that_has_ended_are_refused(call: str) -> None:
    """It has no children any more."""
    (a,) = members("a", [])
    async with open_system() as system:
        top = await system.supervise(a)
        await top.stop()
        with pytest.raises(ActorStopped, match="/supervisor is stopped and has no children"):
            await getattr(top, call)(a.ref)


async def test_what_cannot_be_restarted_is_refused_with_the_reason() -> None:
    """A TEMPORARY child, and one that is being stopped; neither is touched."""
    diary: list[str] = []
    gate = Gate()
    gate.may_start.set()
    (a,) = members("a", diary, restart=Restart.TEMPORARY)
    b = child(gate)
    async with open_system() as system, anyio.create_task_group() as tasks:
        top = await system.supervise(a, b)
        with pytest.raises(ValueError, match=r"is Restart\.TEMPORARY and never restarted: stop it, and spawn another"):
            await top.restart_child(a.ref)
        tasks.start_soon(top.stop_child, b.ref)
        await settle()
        with pytest.raises(ValueError, match="is being stopped: wait until it is down before it is restarted"):
            await top.restart_child(b.ref)
        assert (a.ref.state, b.ref.state, diary) == (ActorState.RUNNING, ActorState.STOPPING, ["+a"])
        gate.open()


# ---- during start-up


async def start(spec: SupervisorSpec, place: Any, outcomes: list[Any]) -> None:
    await outcome_of(place.spawn(spec), outcomes)


async def test_a_child_that_is_stopped_while_it_starts_holds_up_nobody() -> None:
    """The others start, and the supervisor is ready; those that were stopped or removed before their turn never start."""
    diary: list[str] = []
    gate = Gate()
    a, b, c, d = members("abcd", diary)
    slow = child(gate).options(name="slow")
    spec = supervisor(a, slow, b, c, d, name="top")
    outcomes: list[Any] = []
    async with open_system() as system, anyio.create_task_group() as tasks:
        tasks.start_soon(start, spec, system, outcomes)
        await settle()
        for ref in (slow.ref, b.ref):
            tasks.start_soon(spec.ref.stop_child, ref)
        tasks.start_soon(spec.ref.remove_child, c.ref)
        await settle()
        assert outcomes == []
        gate.open()
        await settle()
        assert outcomes == [spec.ref]
        assert diary == ["+a", "+d"]
        assert [(ref.name, ref.state.value) for ref in spec.ref.children()] == [
            ("a", "running"),
            ("slow", "stopped"),
            ("b", "stopped"),
            ("d", "running"),
        ]
        await spec.ref.restart_child(b.ref)
        assert diary == ["+a", "+d", "+b"]


async def test_a_restart_that_fails_while_the_supervisor_starts_is_no_failure_of_that_start() -> None:
    """The child takes its turn; if it does not start, whoever asked is told, it stays down, and the rest starts."""
    diary: list[str] = []
    first, slow = Gate(), Gate()
    first.open()
    a, b = child(first).options(name="a"), child(slow).options(name="b")
    (c,) = members("c", diary)
    spec = supervisor(a, b, c, name="top")
    started: list[Any] = []
    restarted: list[Any] = []
    async with open_system() as system, anyio.create_task_group() as tasks:
        tasks.start_soon(start, spec, system, started)
        await settle()
        first.error = OSError("disk")
        tasks.start_soon(outcome_of, spec.ref.restart_child(a.ref), restarted)
        await settle()
        assert (started, restarted, first.starts) == ([], [], 1)
        slow.open()
        await settle()
        assert [type(outcome) for outcome in restarted] == [StartFailed]
        assert (started, first.starts, diary) == ([spec.ref], 2, ["+c"])
        assert [ref.state.value for ref in spec.ref.children()] == ["failed", "running", "running"]


async def test_a_supervisor_that_is_stopped_while_it_starts_has_not_started() -> None:
    """Whoever waits for it is told, once those of its children that have started are down."""
    diary: list[str] = []
    gate = Gate()
    a, b = members("ab", diary)
    spec = supervisor(a, child(gate), b, name="top")
    outcomes: list[Any] = []
    async with open_system() as system, anyio.create_task_group() as tasks:
        tasks.start_soon(start, spec, system, outcomes)
        await settle()
        tasks.start_soon(spec.ref.stop)
        await settle()
        assert (outcomes, spec.ref.state) == ([], ActorState.STOPPING)
        gate.open()
        await settle()
        assert (diary, spec.ref.state) == (["+a", "-a"], ActorState.STOPPED)
        assert [type(outcome) for outcome in outcomes] == [StartFailed]
        assert "/top was stopped before it was ready" in str(outcomes[0].__cause__)


async def test_whoever_waits_for_a_restart_is_told_when_the_supervisor_gives_up() -> None:
    """That restart will not come: what its supervisor's own restart brings is a new life."""
    gate = Gate()
    gate.may_start.set()
    (a,) = members("a", [])
    spec = child(gate)
    inner = supervisor(a, spec, name="inner", intensity=Intensity(0, per=60))
    outcomes: list[Any] = []
    async with open_system() as system, anyio.create_task_group() as tasks:
        await system.supervise(inner)
        tasks.start_soon(outcome_of, inner.ref.restart_child(spec.ref), outcomes)
        await settle()
        await a.ref.send(ValueError())
        await settle()
        assert outcomes == []
        gate.open()
        await until_restarted(inner.ref)
        assert [type(outcome) for outcome in outcomes] == [StartFailed]
        assert (spec.ref.state, inner.ref.state) == (ActorState.RUNNING, ActorState.RUNNING)


# ---- who is restarted with whom


async def test_a_pause_outlives_a_group_restart_and_a_restart_on_request() -> None:
    """What is queued waits for the resume."""
    diary: list[str] = []
    a, b = members("ab", diary)
    async with open_system() as system:
        top = await system.supervise(a, b, strategy=Strategy.ONE_FOR_ALL)
        await b.ref.pause()
        b.ref.send_nowait("queued")
        await a.ref.send(ValueError())
        await until_restarted(b.ref)
        assert b.ref.state is ActorState.PAUSED
        await top.restart_child(b.ref)
        assert (b.ref.state, "b got queued" in diary) == (ActorState.PAUSED, False)
        await b.ref.resume()
        await settle()
        assert diary[-1] == "b got queued"


async def test_an_adopted_task_is_a_static_child_like_any_other() -> None:
    """Cancelled where others are told to stop; ready when it says so."""
    log: list[str] = []

    async def adopted(*, task_status: Any) -> None:
        log.append("+")
        await checkpoint()
        task_status.started()
        try:
            await anyio.sleep_forever()
        finally:
            log.append("-")

    (a,) = members("a", [])
    spec = child(task(adopted))
    async with open_system() as system:
        top = await system.supervise(spec, a, strategy=Strategy.ONE_FOR_ALL)
        await a.ref.send(ValueError())
        await until_restarted(spec.ref)
        await top.restart_child(spec.ref)
        assert log == ["+", "-", "+", "-", "+"]
    assert log == ["+", "-"] * 3


async def test_an_actor_supervises_children_that_die_before_its_next_incarnation() -> None:
    """Of `ctx.supervise` as of `ctx.spawn`."""
    diary: list[str] = []
    a, b = members("ab", diary)

    async def owner(ctx: Context[Any]) -> None:
        await ctx.supervise(a, b)
        await member(ctx, diary)

    async with open_system() as system:
        ref = await system.spawn(owner)
        await ref.send(ValueError())
        await until_restarted(ref)
        assert diary == ["+a", "+b", "+owner", "-owner", "-b", "-a", "+a", "+b", "+owner"]


async def test_a_static_child_that_was_removed_may_be_spawned_as_a_dynamic_one() -> None:
    """A restart of the supervisor puts it back in its place."""
    a, b = members("ab", [])
    inner = supervisor(a, b, name="inner", intensity=Intensity(0, per=60))
    async with open_system() as system:
        await system.supervise(inner)
        await inner.ref.remove_child(a.ref)
        assert await inner.ref.spawn(a) is a.ref
        assert names(inner.ref.children()) == "ba"
        await b.ref.send(ValueError())
        await until_restarted(inner.ref)
        assert names(inner.ref.children()) == "ab"
        assert a.ref.state is ActorState.RUNNING


# ---- dynamic children


async def test_dynamic_children_come_behind_the_static_ones_and_are_forgotten_at_their_end() -> None:
    """A name is free then; a crash restarts them like the others."""
    diary: list[str] = []
    a, b = members("ab", diary)
    async with open_system() as system:
        top = await system.supervise(a)
        dynamic = [await top.spawn(member, diary, name=name) for name in "xy"]
        assert await top.spawn(b) is b.ref
        assert names(top.children()) == "axyb"
        await dynamic[0].send(ValueError())
        await until_restarted(dynamic[0])
        await dynamic[1].send(RETURN)
        await dynamic[1].wait_stopped()
        assert names(top.children()) == "axb"
        again = await top.spawn(member, diary, name="y")
        assert (again is dynamic[1], names(top.children())) == (False, "axby")
    assert diary[-4:] == ["-y", "-b", "-x", "-a"]


async def test_a_dynamic_child_may_be_a_supervisor() -> None:
    """With a tree of its own; `supervise` below a supervisor is the same."""
    diary: list[str] = []
    a, b, c = members("abc", diary)
    async with open_system() as system:
        top = await system.supervise(a)
        inner = supervisor(b, name="inner")
        assert await top.spawn(inner) is inner.ref is top[inner]
        low = await inner.ref.supervise(c, name="low")
        assert isinstance(low, SupervisorRef)
        assert c.ref.path == "/supervisor/inner/low/c"
    assert diary == ["+a", "+b", "+c", "-c", "-b", "-a"]


async def test_a_spawn_that_is_cancelled_takes_its_child_along() -> None:
    """And leaves the supervisor as it was."""
    gate = Gate()
    async with open_system() as system:
        top = await system.supervise()
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(top.spawn, gate)
                await settle()
                scope.cancel()
        await settle()
        assert (gate.starts, top.children(), top.state) == (1, [], ActorState.RUNNING)


async def test_a_spawn_during_a_group_restart_waits_for_its_turn() -> None:
    """It starts when those that were there before are ready."""
    diary: list[str] = []
    gate = Gate()
    gate.may_start.set()
    (a,) = members("a", diary)
    b = child(gate).options(name="b")
    async with open_system() as system, anyio.create_task_group() as tasks:
        top = await system.supervise(a, b, strategy=Strategy.ONE_FOR_ALL)
        held(diary)
        await a.ref.send(ValueError())
        await settle()

        async def spawn() -> None:
            await top.spawn(member, diary, name="new")

        tasks.start_soon(spawn)
        await settle()
        assert diary == ["-a"]
        gate.open()
        await settle()
        assert diary == ["-a", "+a", "+new"]


async def test_a_child_spawns_a_sibling_once_it_is_ready() -> None:
    """On its own supervisor, which is not waiting for it then."""
    diary: list[str] = []
    tops: list[SupervisorRef] = []
    siblings: list[ActorRef[Any]] = []

    async def has_siblings(ctx: Context[Any]) -> None:
        async for name in ctx:
            siblings.append(await tops[0].spawn(member, diary, name=name))  # noqa: PERF401  # one by one

    spec = child(has_siblings)
    async with open_system() as system:
        tops.append(await system.supervise(spec))
        await spec.ref.send("x")
        await spec.ref.send("y")
        for _ in range(3):
            await settle()
            await checkpoint()
        assert [ref.path for ref in siblings] == ["/supervisor/x", "/supervisor/y"]


async def test_requests_are_turned_away_by_a_supervisor_that_is_stopping() -> None:
    """Nobody is started again, nobody is added; and what is no reference is named."""
    diary: list[str] = []

    async def asking(ctx: Context[Any]) -> None:
        async for _ in ctx:
            pass
        for request in (top.restart_child(first.ref), top.spawn(child(asking))):
            try:
                await request
            except ActorStopped as error:
                diary.append(str(error))

    first = child(asking).options(name="first")
    async with open_system() as system:
        top = await system.supervise(first)
        with pytest.raises(
            TypeError, match=r"restart_child\(\) takes the reference of a child.*`sup\.restart_child\(spec\.ref\)`"
        ):
            await top.restart_child(first)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="is a supervisor and receives nothing: pause its children"):
            await top.pause()
        top.stop_soon()
        await top.wait_stopped()
    assert diary == ["/supervisor is stopping and can have no more children"] * 2


async def test_who_gives_up_again_and_again_is_told_in_full_only_once() -> None:
    """Each level tells of the last failure below it, so that what leaves the block grows with the depth only."""
    leaf: Any = child(crashing).options(name="leaf")
    tree = leaf
    for level in range(4):
        tree = supervisor(tree, name=f"level-{level}", intensity=Intensity(1, per=60.0))
    with pytest.raises(ExceptionGroup) as caught:
        async with open_system(intensity=Intensity(1, per=60.0)) as system:
            await system.spawn(tree)
            await anyio.sleep_forever()
    text = "".join(traceback.format_exception(caught.value))
    assert text.count("ArithmeticError: leaf") == 2, text
    assert str(caught.value.exceptions[0]).endswith("the last crash: ArithmeticError('leaf')")


async def crashing(ctx: Context[Any]) -> None:
    """Once it is ready."""
    ctx.ready()
    raise ArithmeticError("leaf")


async def test_nobody_is_restarted_by_a_supervisor_that_gives_up() -> None:
    """Its children are being stopped, though nobody has asked it to."""
    errors: list[str] = []

    async def slow_to_end(ctx: Context[Any]) -> None:
        async for _ in ctx:
            pass
        with pytest.raises(ActorStopped, match="/supervisor is stopping and starts nobody again") as caught:
            await top.restart_child(fragile.ref)
        errors.append(str(caught.value))

    async def crashes(ctx: Context[Any]) -> None:
        await ctx.receive()
        raise ValueError

    slow, fragile = child(slow_to_end), child(crashes)
    async with open_system() as system:
        top = await system.spawn(
            supervisor(slow, fragile, intensity=Intensity(0, per=60.0)).options(restart=Restart.TEMPORARY)
        )
        await fragile.ref.send("crash")
        await top.wait_stopped()
    assert len(errors) == 1
