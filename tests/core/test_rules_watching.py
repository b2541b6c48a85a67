"""Rules 16, 23 and 24: what is told of an actor that does not end, restarts, or has ended."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import pytest

from family import RETURN, member, members, until_restarted
from rookery import (
    ActorCrashed,
    ActorRef,
    ActorState,
    ActorStopped,
    Backoff,
    ChildSpec,
    Context,
    Intensity,
    Request,
    Restart,
    Restarted,
    RestartIntensityExceeded,
    Strategy,
    StuckActor,
    Terminated,
    child,
    message,
    open_system,
    supervisor,
)
from rookery._core import cell as cells
from rookery._core.incarnation import Incarnation
from rookery._core.reply import Ask
from stepped import Backend, jumping
from support import broken_logging, settle

Event = Restarted | Terminated


@pytest.fixture(scope="module")
def anyio_backend(anyio_backend: Backend) -> Backend:
    """Time passes when everybody waits."""
    return jumping(anyio_backend)


# ---- rule 16


async def stuck(ctx: Context[Any], may_end: anyio.Event) -> None:
    """Hears neither a stop nor its cancellation."""
    ctx.ready()
    with anyio.CancelScope(shield=True):
        await may_end.wait()  # where it stands


def reports(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]


@contextmanager
def noticed() -> Iterator[anyio.Event]:
    """Set when something is logged."""
    event = anyio.Event()
    handler = logging.Handler()
    handler.emit = lambda _: event.set()  # type: ignore[method-assign]
    logger = logging.getLogger("rookery.supervision")
    logger.addHandler(handler)
    try:
        yield event
    finally:
        logger.removeHandler(handler)


async def test_rule_16_past_stop_timeout_plus_a_grace_a_stuck_actor_is_reported_and_waited_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Not before, once, with the stack of its task; the supervisor is not stuck, it waits."""
    times: list[float] = []

    may_end = anyio.Event()
    a, b = members("ab", [])
    spec = child(stuck, may_end).options(stop_timeout=7.0)
    async with open_system() as system, anyio.create_task_group() as tasks:
        top = await system.supervise(a, supervisor(spec, name="inner"), b)
        tasks.start_soon(top.stop)
        try:
            await anyio.sleep(7.0 + cells.STUCK_AFTER - 0.1)
            assert reports(caplog) == []
            await anyio.sleep(0.2)
            assert len(reports(caplog)) == 1
            await anyio.sleep(10**6)
            assert (spec.ref.state, a.ref.state, top.state) == (
                ActorState.STOPPING,
                ActorState.RUNNING,
                ActorState.STOPPING,
            )
        finally:
            may_end.set()
        await top.wait_stopped()
        assert {ref.state for ref in (spec.ref, a.ref, top)} == {ActorState.STOPPED}
        times.append(anyio.current_time())
    (report,) = reports(caplog)
    assert report.startswith("/supervisor/inner/stuck was cancelled 5 s ago and has not ended")
    assert "await may_end.wait()  # where it stands" in report
    assert "in stuck" in report
    assert issubclass(StuckActor, Exception)
    assert len(times) == 1


async def test_rule_16_a_report_of_a_stuck_actor_that_cannot_be_logged_harms_nobody(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It is printed what was raised, and the actor is waited for."""
    may_end = anyio.Event()
    spec = child(stuck, may_end).options(stop_timeout=0)
    async with open_system() as system, anyio.create_task_group() as tasks:
        await system.spawn(spec)
        tasks.start_soon(spec.ref.stop)
        with broken_logging("rookery.supervision", "handler"):
            await anyio.sleep(2 * cells.STUCK_AFTER)
        assert spec.ref.state is ActorState.STOPPING
        may_end.set()
    assert spec.ref.state is ActorState.STOPPED
    assert capsys.readouterr().err.count("ZeroDivisionError: /stuck was cancelled") == 1


async def test_rule_16_a_stuck_actor_is_reported_while_the_block_is_cancelled_from_outside(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With its stack too; and nothing is abandoned."""
    may_end = anyio.Event()
    spec = child(stuck, may_end).options(stop_timeout=0)

    async def let_go(reported: anyio.Event) -> None:
        with anyio.fail_after(2 * cells.STUCK_AFTER):
            await reported.wait()
        assert spec.ref.state is ActorState.STOPPING
        may_end.set()

    with noticed() as reported:
        await host(spec, lambda tasks: tasks.start_soon(let_go, reported))
    (report,) = reports(caplog)
    assert "await may_end.wait()  # where it stands" in report
    assert spec.ref.state is ActorState.STOPPED


async def host(spec: ChildSpec[Any], when_cancelled: Callable[[anyio.abc.TaskGroup], object]) -> None:
    """A block that is cancelled from outside."""
    async with anyio.create_task_group() as tasks:
        with anyio.CancelScope() as scope:
            async with open_system() as system:
                await system.supervise(spec)
                when_cancelled(tasks)
                scope.cancel()
                await anyio.sleep_forever()


@pytest.mark.parametrize(
    ("seconds", "who"), [(cells.STUCK_AFTER - 0.1, None), (cells.STUCK_AFTER + 1, "/supervisor/owner/slow")]
)
async def test_rule_16_who_ends_in_time_is_not_reported(
    seconds: float, who: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither then nor in its next life; nor is an owner whose child takes longer, which is reported itself."""

    async def slow(ctx: Context[Any]) -> None:
        ctx.ready()
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(seconds)

    async def owner(ctx: Context[Any]) -> None:
        await ctx.spawn(child(slow).options(stop_timeout=0))
        await ctx.receive()

    spec = child(owner).options(stop_timeout=0)
    async with open_system() as system:
        top = await system.supervise(spec)
        began = anyio.current_time()
        await top.restart_child(spec.ref)
        assert anyio.current_time() - began == pytest.approx(seconds)
        await anyio.sleep(2 * cells.STUCK_AFTER)
        assert [report.split()[0] for report in reports(caplog)] == ([who] if who else [])


# ---- rule 23


async def watcher(ctx: Context[Event], log: list[Any], *refs: ActorRef[Any]) -> None:
    """Records what it is told."""
    for ref in refs:
        ctx.watch(ref)
    async for event in ctx:
        log.append(event)  # noqa: PERF401  # one by one, as they come


@pytest.mark.parametrize("how", ["return", "crash", "stop", "stop_child", "remove_child", "supervisor", "backoff"])
async def test_rule_23_watch_delivers_exactly_one_terminated(how: str) -> None:
    """With the crash as its reason, if it was one; nothing follows."""
    log: list[Any] = []
    crash = ValueError("crash")
    backoff = Backoff(3600) if how == "backoff" else None
    (a,) = members("a", [], restart=Restart.TEMPORARY if how == "crash" else Restart.TRANSIENT, backoff=backoff)
    async with open_system() as system:
        top = await system.supervise(a)
        await system.spawn(watcher, log, a.ref)
        match how:
            case "return":
                await a.ref.send(RETURN)
            case "crash":
                await a.ref.send(crash)
            case "stop":
                await a.ref.stop()
            case "stop_child":
                await top.stop_child(a.ref)
            case "remove_child":
                await top.remove_child(a.ref)
            case "supervisor":
                await top.stop()
            case _:
                await a.ref.send(crash)
                await settle()
                assert log == []
                await a.ref.stop()
        await settle()
        assert log == [Terminated(a.ref, crash if how == "crash" else None)]
        if how not in {"remove_child", "supervisor", "crash"}:
            await top.restart_child(a.ref)
            await a.ref.stop()
            await settle()
        assert len(log) == 1


async def test_rule_23_a_target_that_is_gone_already_is_told_at_once() -> None:
    """With the reason it ended for, also one that its supervisor has forgotten."""
    log: list[Any] = []
    crash = ValueError("crash")
    a, b = members("ab", [], restart=Restart.TEMPORARY)
    async with open_system() as system:
        top = await system.supervise(a)
        await top.spawn(b)
        await a.ref.send(crash)
        await b.ref.stop()
        await settle()
        assert top.children() == []
        await system.spawn(watcher, log, a.ref, b.ref)
        await settle()
        assert log == [Terminated(a.ref, crash), Terminated(b.ref, None)]


@pytest.mark.parametrize("strategy", Strategy)
async def test_rule_23_a_restart_delivers_restarted_and_no_terminated(strategy: Strategy) -> None:
    """For each incarnation, with the crash that made it necessary; who had to go with it has no reason of its own."""
    log: list[Any] = []
    a, b = members("ab", [])
    crashes = [ValueError(1), ValueError(2)]
    async with open_system() as system:
        top = await system.supervise(a, b, strategy=strategy)
        await system.spawn(watcher, log, a.ref, b.ref)
        for times, crash in enumerate(crashes, start=1):
            await a.ref.send(crash)
            await until_restarted(a.ref, times)
        await settle()
        grouped = strategy is not Strategy.ONE_FOR_ONE
        expected: list[Any] = []
        for incarnation, crash in enumerate(crashes, start=2):
            expected += [Restarted(a.ref, incarnation, crash), *([Restarted(b.ref, incarnation, None)] * grouped)]
        assert log == expected
        await top.restart_child(b.ref)
        await settle()
        assert log[len(expected) :] == [Restarted(b.ref, 4 if grouped else 2, None)]


async def test_rule_23_a_finished_child_that_a_group_restart_starts_again_is_a_new_life() -> None:
    """Its `Terminated` has ended that watch; of the new life is told who watches it then."""
    log: list[Any] = []
    later: list[Any] = []
    a, b = members("ab", [])
    async with open_system() as system:
        await system.supervise(a, b, strategy=Strategy.ONE_FOR_ALL)
        await system.spawn(watcher, log, b.ref)
        await b.ref.send(RETURN)
        await b.ref.wait_stopped()
        await a.ref.send(ValueError())
        await until_restarted(a.ref)
        assert b.ref.state is ActorState.RUNNING
        await system.spawn(watcher, later, b.ref)
        await a.ref.send(ValueError())
        await until_restarted(a.ref, 2)
        assert log == [Terminated(b.ref, None)]
        assert later == [Restarted(b.ref, 2, None)]


async def test_rule_23_a_supervisor_is_watched_like_any_other_and_its_restart_ends_its_childrens_lives() -> None:
    """It is told before whose end it was that."""
    log: list[Any] = []
    a, b = members("ab", [])
    inner = supervisor(a, b, name="inner", intensity=Intensity(0, per=60))
    crash = ValueError("too much")
    async with open_system() as system:
        await system.supervise(inner)
        await system.spawn(watcher, log, inner.ref, a.ref, b.ref)
        await a.ref.send(crash)
        await until_restarted(inner.ref)
        await settle()
        assert log[:2] == [Terminated(a.ref, crash), Terminated(b.ref, None)]
        (restarted,) = log[2:]
        assert (type(restarted), restarted.ref, restarted.incarnation) == (Restarted, inner.ref, 2)
        assert isinstance(restarted.reason, RestartIntensityExceeded)
        await inner.ref.stop()
        await settle()
        assert log[3:] == [Terminated(inner.ref, None)]


# ---- rule 24


@message
class Question(Request[str]):
    pass


@contextmanager
def observed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """In which order asks are resolved and watchers told: tasks that are woken in the same tick run in any order."""
    order: list[str] = []
    fail, hear = Ask.fail, Incarnation.hear

    def note_fail(ask: Ask, error: BaseException) -> bool:
        order.append("resolved")
        return fail(ask, error)

    def note_hear(incarnation: Incarnation, event: Event) -> None:
        order.append("told")
        hear(incarnation, event)

    with monkeypatch.context() as patched:
        patched.setattr(Ask, "fail", note_fail)
        patched.setattr(Incarnation, "hear", note_hear)
        yield order


@pytest.mark.parametrize("how", ["crash", "return", "stop", "give up"])
async def test_rule_24_every_ask_that_will_not_be_served_is_resolved_before_the_watchers_are_told(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In its hands and in its queue; its own children, which take long to end, keep nobody waiting but the watchers."""
    log: list[Any] = []
    outcomes: list[Exception] = []
    taken, go_on, may_end = anyio.Event(), anyio.Event(), anyio.Event()

    async def busy(ctx: Context[Any]) -> None:
        await ctx.spawn(child(lingers, may_end).options(stop_timeout=math.inf))
        await ctx.receive()
        taken.set()
        await go_on.wait()
        if how in {"crash", "give up"}:
            raise ValueError(how)

    async def lingers(ctx: Context[Any], may_end: anyio.Event) -> None:
        await ctx.wait_stopping()
        await may_end.wait()

    async def asks(ref: ActorRef[Any]) -> None:
        try:
            await ref.ask(Question())
        except Exception as error:  # noqa: BLE001  # looked at below
            outcomes.append(error)

    restart = Restart.TEMPORARY if how == "crash" else Restart.TRANSIENT
    spec = child(busy).options(restart=restart, stop_timeout=math.inf)
    async with open_system() as system, anyio.create_task_group() as tasks:
        sup = supervisor(spec, name="top", intensity=Intensity(0, per=60)).options(restart=Restart.TEMPORARY)
        await system.spawn(sup)
        await system.spawn(watcher, log, spec.ref)
        for _ in range(3):
            tasks.start_soon(asks, spec.ref)
        with observed(monkeypatch) as order:
            await taken.wait()
            await settle()
            if how == "stop":
                spec.ref.stop_soon()
            go_on.set()
            await settle()
            assert len(outcomes) == (1 if how == "give up" else 3), "a crash may be answered with a restart"
            assert log == []
            may_end.set()
            await settle()
        assert order == ["resolved"] * 3 + ["told"]
        assert [type(event) for event in log] == [Terminated]
        hand = ActorCrashed if how in {"crash", "give up"} else ActorStopped
        assert sorted(type(error).__name__ for error in outcomes) == sorted(
            [hand.__name__, "ActorStopped", "ActorStopped"]
        )


async def test_rule_24_an_ask_that_the_next_incarnation_will_serve_waits_across_the_restart() -> None:
    """What was in hand is resolved before the restart is told; what was queued is served after it."""
    log: list[Any] = []
    outcomes: list[Any] = []

    async def answers(ctx: Context[Any]) -> None:
        async for request in ctx:
            if ctx.incarnation == 1:
                await settle()
                raise ValueError
            ctx.reply(request, f"by {ctx.incarnation}")

    async def asks(ref: ActorRef[Any]) -> None:
        try:
            outcomes.append(await ref.ask(Question()))
        except ActorCrashed:
            outcomes.append("crashed")

    spec = child(answers)
    async with open_system() as system, anyio.create_task_group() as tasks:
        await system.supervise(spec)
        await system.spawn(watcher, log, spec.ref)
        for _ in range(3):
            tasks.start_soon(asks, spec.ref)
        await until_restarted(spec.ref)
        await settle()
        assert sorted(outcomes) == ["by 2", "by 2", "crashed"]
        assert [type(event) for event in log] == [Restarted]


async def test_rule_24_a_watcher_may_spawn_in_the_place_of_who_has_ended() -> None:
    """It is told when the name is free."""
    diary: list[str] = []
    a, _ = members("ab", diary, restart=Restart.TEMPORARY)
    again: list[ActorRef[Any]] = []

    async def replaces(ctx: Context[Terminated], top: Any) -> None:
        ctx.watch(a.ref)
        async for _event in ctx:
            again.append(await top.spawn(member, diary, name="a"))  # noqa: PERF401  # one by one

    async with open_system() as system:
        top = await system.supervise(a)
        await system.spawn(replaces, top)
        await a.ref.send(ValueError())
        await settle()
        assert [ref.path for ref in again] == ["/supervisor/a"]
