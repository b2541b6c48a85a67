"""Rules 6 to 12: what a supervisor does when a child ends."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import anyio
import pytest

from family import RETURN, held, member, members, names, until_restarted
from rookery import (
    ActorRef,
    ActorState,
    AutoShutdown,
    Backoff,
    Context,
    Intensity,
    Restart,
    RestartIntensityExceeded,
    Strategy,
    child,
    open_system,
    supervisor,
)
from stepped import Backend, jumping
from support import settle

GROUPS = [Strategy.ONE_FOR_ALL, Strategy.REST_FOR_ONE]


@pytest.fixture(scope="module")
def anyio_backend(anyio_backend: Backend) -> Backend:
    """Time passes when everybody waits."""
    return jumping(anyio_backend)


# ---- rule 6


async def test_rule_6_a_behaviour_that_returns_ended_normally_and_an_exception_is_a_crash() -> None:
    """The former leaves a transient child down and its supervisor untroubled, the latter restarts it."""
    diary: list[str] = []
    a, b = members("ab", diary)
    async with open_system() as system:
        top = await system.supervise(a, b)
        await a.ref.send(RETURN)
        await b.ref.send(ValueError("crash"))
        await until_restarted(b.ref)
        assert (a.ref.state, a.ref.statistics().last_crash) == (ActorState.STOPPED, None)
        assert (b.ref.state, str(b.ref.statistics().last_crash)) == (ActorState.RUNNING, "crash")
        assert top.statistics().restarts == 0


@pytest.mark.parametrize("strategy", Strategy)
@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
async def test_rule_6_an_interrupt_stops_the_tree_in_order_and_leaves_the_block(
    interrupt: type[BaseException], strategy: Strategy
) -> None:
    """No supervisor handles it, whatever it would do about a crash; everybody has their grace."""
    diary: list[str] = []
    a, b, c, d = members("abcd", diary, restart=Restart.PERMANENT)
    with pytest.raises(interrupt) as raised:
        async with open_system() as system:
            await system.supervise(a, supervisor(b, c, strategy=strategy), d, strategy=strategy)
            held(diary)
            await b.ref.send(interrupt("now"))
            await anyio.sleep(5)
    assert raised.value.args == ("now",)
    assert diary == ["-b", "-d", "-c", "-a"]


# ---- rule 7


@pytest.mark.parametrize(
    ("restart", "what", "again"),
    [
        (Restart.PERMANENT, RETURN, True),
        (Restart.PERMANENT, ValueError(), True),
        (Restart.TRANSIENT, RETURN, False),
        (Restart.TRANSIENT, ValueError(), True),
        (Restart.TEMPORARY, RETURN, False),
        (Restart.TEMPORARY, ValueError(), False),
    ],
    ids=lambda value: getattr(value, "name", repr(value)),
)
@pytest.mark.parametrize("strategy", Strategy)
async def test_rule_7_the_restart_type_decides(restart: Restart, what: Any, again: bool, strategy: Strategy) -> None:
    """PERMANENT always, TRANSIENT after a crash, TEMPORARY never; without a restart no sibling is concerned."""
    diary: list[str] = []
    (a,) = members("a", diary, restart=restart)
    (b,) = members("b", diary)
    async with open_system() as system:
        top = await system.supervise(a, b, strategy=strategy)
        await a.ref.send(what)
        await settle()
        assert (a.ref.state is ActorState.RUNNING) is again
        assert a.ref.statistics().restarts == again
        assert b.ref.statistics().restarts == (again and strategy is not Strategy.ONE_FOR_ONE)
        assert top.statistics().restarts == 0


@pytest.mark.parametrize("strategy", GROUPS)
@pytest.mark.parametrize("dynamic", [False, True])
async def test_rule_7_a_temporary_child_that_a_siblings_failure_stops_stays_down(
    strategy: Strategy, dynamic: bool
) -> None:
    """It is stopped with its group, in order, and forgotten."""
    diary: list[str] = []
    a, c = members("ac", diary)
    (b,) = members("b", diary, restart=Restart.TEMPORARY)
    async with open_system() as system:
        top = await system.supervise(*([a] if dynamic else [a, b, c]), strategy=strategy)
        for spec in (b, c) if dynamic else ():
            await top.spawn(spec)
        held(diary)
        await a.ref.send(ValueError())
        await until_restarted(a.ref)
        assert diary == ["-a", "-c", "-b", "+a", "+c"]
        assert names(top.children()) == "ac"
        assert b.ref.state is ActorState.STOPPED


# ---- rule 8


async def test_rule_8_restarts_are_counted_within_a_sliding_window() -> None:
    """On the loop's clock: as many as allowed within any ``per`` seconds are tolerated for ever, one more is not."""
    (a,) = members("a", [])

    async with open_system() as system:
        top = await system.supervise(a, intensity=Intensity(2, per=10.0))
        for number in range(20):
            await anyio.sleep(5.1)
            await a.ref.send(ValueError(number))
        await anyio.sleep(1)
        assert (a.ref.statistics().restarts, top.statistics().restarts) == (20, 0)
        await a.ref.send(ValueError("too soon"))
        await anyio.sleep(1)
        assert top.statistics().restarts == 1


@pytest.mark.parametrize("strategy", Strategy)
async def test_rule_8_a_supervisor_gives_up_when_restarts_exceed_the_limit(strategy: Strategy) -> None:
    """The limit itself is tolerated, whoever of the children it was; a group restart counts once."""
    a, b, c = members("abc", [])
    async with open_system() as system:
        top = await system.supervise(a, b, c, strategy=strategy, intensity=Intensity(3, per=60))
        for times, spec in enumerate((a, b, a), start=1):
            await spec.ref.send(ValueError(times))
            await settle()
            assert spec.ref.state is ActorState.RUNNING
        assert top.statistics().restarts == 0
        await c.ref.send(ValueError(4))
        await until_restarted(top)
        assert isinstance(top.statistics().last_crash, RestartIntensityExceeded)


async def test_rule_8_intensity_belongs_to_each_supervisor() -> None:
    """What one tolerates is nothing to another, nor to the one above."""
    a, b = members("ab", [])
    patient = supervisor(a, name="patient", intensity=Intensity(100, per=60))
    strict = supervisor(b, name="strict", intensity=Intensity(0, per=60))
    async with open_system() as system:
        top = await system.supervise(patient, strict, intensity=Intensity(1, per=60))
        for times in range(1, 11):
            await a.ref.send(ValueError())
            await until_restarted(a.ref, times)
        assert [ref.statistics().restarts for ref in (patient.ref, strict.ref, top)] == [0, 0, 0]
        await b.ref.send(ValueError())
        await until_restarted(strict.ref)
        assert [ref.statistics().restarts for ref in (patient.ref, strict.ref, top)] == [0, 1, 0]


# ---- rule 9


@pytest.mark.parametrize("strategy", Strategy)
async def test_rule_9_giving_up_stops_all_in_reverse_and_is_a_crash_to_the_supervisor_above(
    strategy: Strategy,
) -> None:
    """Its cause is a group of the crashes in the window; restarted, it has its static children anew."""
    diary: list[str] = []
    a, b, c, d = members("abcd", diary)
    inner = supervisor(a, b, c, name="inner", strategy=strategy, intensity=Intensity(1, per=60))
    async with open_system() as system:
        await system.supervise(inner, d)
        await b.ref.send(ValueError(1))
        await until_restarted(b.ref)
        held(diary)
        await b.ref.send(ValueError(2))
        await until_restarted(inner.ref)
        assert diary == ["-b", "-c", "-a", "+a", "+b", "+c"]
        crash = inner.ref.statistics().last_crash
        assert isinstance(crash, RestartIntensityExceeded)
        assert str(crash).startswith("children of /supervisor/inner needed more than 1 restarts in 60 s")
        assert isinstance(crash.__cause__, ExceptionGroup)
        assert [repr(each) for each in crash.__cause__.exceptions] == ["ValueError(1)", "ValueError(2)"]
        assert d.ref.statistics().restarts == 0


async def test_rule_9_a_transient_supervisor_that_gives_up_is_restarted_and_a_temporary_one_is_not() -> None:
    """Where OTP takes it for a shutdown, which would leave a transient one down, it is a crash here."""
    a, b = members("ab", [])
    never = Intensity(0, per=60)
    transient = supervisor(a, name="transient", intensity=never)
    temporary = supervisor(b, name="temporary", intensity=never).options(restart=Restart.TEMPORARY)
    async with open_system() as system:
        await system.supervise(transient, temporary)
        for spec in (a, b):
            await spec.ref.send(ValueError())
        await until_restarted(transient.ref)
        assert (transient.ref.state, a.ref.state) == (ActorState.RUNNING, ActorState.RUNNING)
        assert (temporary.ref.state, b.ref.state) == (ActorState.FAILED, ActorState.FAILED)


async def test_rule_9_at_the_root_it_leaves_open_system() -> None:
    """Escalated from level to level, each failure the cause of the next, after the whole tree has cleaned up."""
    diary: list[str] = []
    never = Intensity(0, per=60)
    a, b, c = members("abc", diary)
    low = supervisor(b, name="low", intensity=never)
    with pytest.raises(ExceptionGroup) as raised:
        async with open_system(intensity=never) as system:
            await system.supervise(a, low, c, name="top", intensity=never)
            await b.ref.send(ValueError("true cause"))
            await anyio.sleep_forever()
    assert diary == ["+a", "+b", "+c", "-b", "-c", "-a"]
    failure: BaseException = raised.value
    for path in ("/", "/top", "/top/low"):
        assert isinstance(failure, ExceptionGroup)
        (failure,) = failure.exceptions
        assert isinstance(failure, RestartIntensityExceeded)
        assert str(failure).startswith(f"children of {path} ")
        assert failure.__cause__ is not None
        failure = failure.__cause__
    assert isinstance(failure, ExceptionGroup)
    assert repr(failure.exceptions) == "(ValueError('true cause'),)"


# ---- rule 10


async def test_rule_10_one_for_all_stops_in_reverse_and_starts_in_order_those_that_had_finished_included() -> None:
    """Also what had been stopped on request; each is started when the one before is ready."""
    diary: list[str] = []
    a, b, c, d, e = members("abcde", diary)
    async with open_system() as system:
        top = await system.supervise(a, b, c, d, e, strategy=Strategy.ONE_FOR_ALL)
        await b.ref.send(RETURN)
        await b.ref.wait_stopped()
        await top.stop_child(d.ref)
        held(diary)
        await c.ref.send(ValueError())
        await until_restarted(a.ref)
        assert diary == ["-c", "-e", "-a", "+a", "+b", "+c", "+d", "+e"]
        assert {ref.state for ref in top.children()} == {ActorState.RUNNING}
        assert [spec.ref.statistics().restarts for spec in (a, b, c, d, e)] == [1, 0, 1, 0, 1], "others are new lives"


async def test_rule_10_rest_for_one_concerns_only_those_that_started_later() -> None:
    """The ones before it are not touched, not even those of them that had finished."""
    diary: list[str] = []
    a, b, c, d = members("abcd", diary)
    async with open_system() as system:
        top = await system.supervise(a, b, c, d, strategy=Strategy.REST_FOR_ONE)
        dynamic = await top.spawn(member, diary, name="e")
        await a.ref.send(RETURN)
        await a.ref.wait_stopped()
        held(diary)
        await c.ref.send(ValueError())
        await until_restarted(dynamic)
        assert diary == ["-c", "-e", "-d", "+c", "+d", "+e"]
        assert [ref.state.value for ref in top.children()] == ["stopped", *["running"] * 4]


async def test_rule_10_one_for_one_concerns_nobody_else() -> None:
    diary: list[str] = []
    a, b, c = members("abc", diary)
    async with open_system() as system:
        await system.supervise(a, b, c)
        held(diary)
        await b.ref.send(ValueError())
        await until_restarted(b.ref)
        assert diary == ["-b", "+b"]


@pytest.mark.parametrize("strategy", GROUPS)
async def test_rule_10_a_supervisor_in_a_group_restarts_with_its_own_children(strategy: Strategy) -> None:
    """In reverse and in order on every level; what is below it does not count for it."""
    diary: list[str] = []
    a, b, c, d = members("abcd", diary)
    inner = supervisor(b, c, name="inner")
    async with open_system() as system:
        top = await system.supervise(a, inner, d, strategy=strategy)
        held(diary)
        await a.ref.send(ValueError())
        await until_restarted(d.ref)
        assert diary == ["-a", "-d", "-c", "-b", "+a", "+b", "+c", "+d"]
        assert (inner.ref.statistics().restarts, inner.ref.statistics().last_crash) == (1, None)
        assert names(top[inner].children()) == "bc"


@pytest.mark.parametrize("strategy", GROUPS)
async def test_rule_10_messages_that_are_queued_survive_a_group_restart(strategy: Strategy) -> None:
    """In the mailboxes of all members, and what is sent meanwhile; none is a dead letter, and references stay valid."""
    diary: list[str] = []
    may_end = anyio.Event()

    async def slow(ctx: Context[Any]) -> None:
        if ctx.incarnation == 1:
            await ctx.wait_stopping()
            await may_end.wait()
        else:
            await member(ctx, diary)

    (a,) = members("a", diary)
    b, c = (child(slow).options(name=name) for name in "bc")
    async with open_system() as system:
        top = await system.supervise(a, b, c, strategy=strategy)
        refs = [top[spec] for spec in (a, b, c)]
        a.ref.send_nowait(ValueError())
        for ref in refs:
            ref.send_nowait("queued")
        await settle()
        assert {ref.state for ref in refs} >= {ActorState.RESTARTING}
        for ref in refs:
            ref.send_nowait("sent meanwhile")
        held(diary)
        may_end.set()
        await until_restarted(c.ref)
        assert sorted(diary) == sorted(
            line for name in "abc" for line in (f"+{name}", f"{name} got queued", f"{name} got sent meanwhile")
        )
        assert system.dead_letters.statistics().total == 0
        assert [spec.ref for spec in (a, b, c)] == refs


@pytest.mark.parametrize("strategy", GROUPS)
async def test_rule_10_a_stop_ends_a_group_restart_wherever_it_is(strategy: Strategy) -> None:
    """While its members are being stopped and while they are being started; nobody is left waiting."""
    for starting in (False, True):
        diary: list[str] = []
        may_go_on = anyio.Event()

        async def slow(ctx: Context[Any], starting: bool, may_go_on: anyio.Event) -> None:
            if starting and ctx.incarnation > 1:
                await may_go_on.wait()
            await ctx.wait_stopping()
            await may_go_on.wait()

        (a, c) = members("ac", diary)
        b = child(slow, starting, may_go_on).options(name="b")
        with anyio.fail_after(5):
            async with open_system() as system, anyio.create_task_group() as tasks:
                top = await system.supervise(a, b, c, strategy=strategy)
                await a.ref.send(ValueError())
                await settle()
                tasks.start_soon(top.stop)
                may_go_on.set() if not starting else None
                await settle()
                may_go_on.set()
        assert {spec.ref.state for spec in (a, b, c)} == {ActorState.STOPPED}
        assert diary.count("+a") == diary.count("-a")
        assert diary.count("+c") == diary.count("-c")


@pytest.mark.parametrize("strategy", Strategy)
async def test_references_are_valid_after_a_supervisors_own_restart(strategy: Strategy) -> None:
    """Static children are new lives under the same references and paths; dynamic ones are gone."""
    diary: list[str] = []
    a, b = members("ab", diary)
    inner = supervisor(a, b, name="inner", strategy=strategy, intensity=Intensity(0, per=60))
    async with open_system() as system:
        top = await system.supervise(inner)
        dynamic = await inner.ref.spawn(member, diary, name="dynamic")
        refs: list[ActorRef[Any]] = [a.ref, b.ref]
        await a.ref.send(ValueError())
        await until_restarted(inner.ref)
        held(diary)
        for ref in refs:
            assert (ref.state, ref.statistics().restarts) == (ActorState.RUNNING, 0)
            await ref.send("hello")
        await settle()
        assert sorted(diary) == ["a got hello", "b got hello"]
        assert top[inner].children() == refs == [top[inner][a], top[inner][b]]
        assert dynamic.state is ActorState.STOPPED
        assert await inner.ref.spawn(member, diary, name="dynamic") is not dynamic


# ---- rule 11


async def test_rule_11_backoff_delays_a_restart_and_never_blocks_the_supervisor() -> None:
    """By the growing, capped delays of its child; meanwhile siblings crash and restart, start and stop."""
    starts: list[float] = []
    diary: list[str] = []

    async def patient(ctx: Context[Any]) -> None:
        starts.append(anyio.current_time())
        await member(ctx, [])

    a = child(patient).options(backoff=Backoff(1.0, jitter=0.0, maximum=3.0, reset_after=100.0))
    (b,) = members("b", diary)
    async with open_system() as system:
        top = await system.supervise(a, b, intensity=Intensity(100, per=60))
        for number in range(4):
            await a.ref.send(ValueError(number))
        await anyio.sleep(0.2)
        await b.ref.send(ValueError())
        await anyio.sleep(0.2)
        await top.spawn(member, diary, name="c")
        await anyio.sleep(0.1)
        assert a.ref.state is ActorState.RESTARTING
        assert diary == ["+b", "-b", "+b", "+c"]
        await anyio.sleep(1000)
        await a.ref.send(ValueError("after a stable life"))
        await anyio.sleep(1.5)
        assert a.ref.state is ActorState.RUNNING
    gaps = [later - earlier for earlier, later in pairwise(starts)]
    assert gaps == pytest.approx([1.0, 2.0, 3.0, 3.0, 1000.5 - 9.0 + 1.0])


async def test_rule_11_backoff_delays_a_group_restart_where_it_belongs() -> None:
    """The others are down at once; the one with the delay comes after it, and those behind it then."""
    diary: list[str] = []

    a, c = members("ac", diary)
    (b,) = members("b", diary, backoff=Backoff(10.0, jitter=0.0))
    async with open_system() as system:
        await system.supervise(a, b, c, strategy=Strategy.ONE_FOR_ALL)
        held(diary)
        await b.ref.send(ValueError())
        await anyio.sleep(9)
        assert held(diary) == ["-b", "-c", "-a", "+a"]
        await anyio.sleep(2)
        assert held(diary) == ["+b", "+c"]


@pytest.mark.parametrize("how", ["stop_child", "remove_child", "stop the supervisor", "leave the block"])
async def test_rule_11_a_stop_ends_the_wait_at_once(how: str) -> None:
    """Whoever asks for it."""
    (a,) = members("a", [], backoff=Backoff(3600))
    with anyio.fail_after(5):
        async with open_system() as system:
            top = await system.supervise(a)
            await a.ref.send(ValueError())
            await settle()
            assert a.ref.state is ActorState.RESTARTING
            match how:
                case "stop_child":
                    await top.stop_child(a.ref)
                case "remove_child":
                    await top.remove_child(a.ref)
                case "stop the supervisor":
                    await top.stop()
    assert a.ref.state is ActorState.STOPPED


# ---- rule 12


@pytest.mark.parametrize(
    ("auto_shutdown", "ending", "ends"),
    [
        (AutoShutdown.ANY, "a", True),
        (AutoShutdown.ANY, "x", False),
        (AutoShutdown.ALL, "a", False),
        (AutoShutdown.ALL, "ba", True),
        (AutoShutdown.ALL, "xa", False),
    ],
    ids=lambda value: getattr(value, "name", repr(value)),
)
async def test_rule_12_auto_shutdown_any_stops_the_supervisor_with_one_significant_child_and_all_with_the_last(
    auto_shutdown: AutoShutdown, ending: str, ends: bool
) -> None:
    """That is a normal end: its children are stopped in reverse, and the supervisor above does not restart it."""
    diary: list[str] = []
    a, b = members("ab", diary, significant=True)
    (x,) = members("x", diary)
    specs = {"a": a, "b": b, "x": x}
    inner = supervisor(a, b, x, name="inner", auto_shutdown=auto_shutdown)
    async with open_system() as system:
        top = await system.supervise(inner)
        held(diary)
        for name in ending:
            await specs[name].ref.send(RETURN)
            await settle()
        left = [name for name in "xba" if name not in ending]
        assert diary == [f"-{name}" for name in [*ending, *(left if ends else [])]]
        assert inner.ref.state is (ActorState.STOPPED if ends else ActorState.RUNNING)
        assert (inner.ref.statistics().last_crash, top.state) == (None, ActorState.RUNNING)


@pytest.mark.parametrize("auto_shutdown", [AutoShutdown.ANY, AutoShutdown.ALL])
async def test_rule_12_a_child_that_is_stopped_on_request_or_restarted_does_not_count(
    auto_shutdown: AutoShutdown,
) -> None:
    """Neither by a request, nor for a sibling's sake, nor by a crash that is answered with a restart."""
    diary: list[str] = []
    a, b = members("ab", diary, significant=True)
    async with open_system() as system:
        top = await system.supervise(a, b, auto_shutdown=auto_shutdown, strategy=Strategy.ONE_FOR_ALL)
        await a.ref.send(ValueError())
        await until_restarted(b.ref)
        await top.restart_child(b.ref)
        await top.stop_child(b.ref)
        await top.remove_child(a.ref)
        await settle()
        assert top.state is ActorState.RUNNING
        await top.restart_child(b.ref)
        await b.ref.send(RETURN)
        await top.wait_stopped()


async def test_rule_12_a_significant_temporary_child_counts_when_it_crashes() -> None:
    """It ends by itself too; its supervisor ends normally all the same."""
    diary: list[str] = []
    (a,) = members("a", diary)
    (b,) = members("b", diary, significant=True, restart=Restart.TEMPORARY)
    async with open_system() as system:
        top = await system.supervise(a, auto_shutdown=AutoShutdown.ANY)
        await top.spawn(b)
        await b.ref.send(ValueError())
        await top.wait_stopped()
        assert (top.state, top.statistics().last_crash) == (ActorState.STOPPED, None)
        assert b.ref.state is ActorState.FAILED
    assert diary == ["+a", "+b", "-b", "-a"]


async def test_rule_12_the_crash_report_of_a_significant_child_says_that_its_supervisor_shuts_down(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """If it does: before the last one, all that follows is that this one stays down; and so it is during the shutdown."""
    a, b = members("ab", [], significant=True, restart=Restart.TEMPORARY)
    spec = child(crashes_at_the_end).options(name="c", restart=Restart.TEMPORARY)
    async with open_system() as system:
        top = await system.supervise(spec, a, b, name="top", auto_shutdown=AutoShutdown.ALL)
        for each in (a, b):
            await each.ref.send(ValueError())
            await each.ref.wait_stopped()
        await top.wait_stopped()
    assert [record.getMessage() for record in caplog.records] == [
        "/top/a (incarnation 1) crashed on ValueError: it stays down",
        "/top/b (incarnation 1) crashed on ValueError: /top shuts down",
        "/top/c (incarnation 1) crashed: it stays down",
    ]


async def crashes_at_the_end(ctx: Context[Any]) -> None:
    await ctx.wait_stopping()
    raise ValueError


async def test_rule_12_an_auto_shutdown_during_start_up_is_a_normal_start_and_end() -> None:
    """Having returned, it is ready, so the next is told to start; then all that have started are stopped in reverse."""
    diary: list[str] = []

    async def brief(ctx: Context[Any]) -> None:
        diary.append("brief")

    a, c = members("ac", diary)
    async with open_system() as system:
        top = await system.supervise(a, child(brief).options(significant=True), c, auto_shutdown=AutoShutdown.ANY)
        await top.wait_stopped()
        assert (top.state, top.statistics().last_crash) == (ActorState.STOPPED, None)
    assert diary == ["+a", "brief", "+c", "-c", "-a"]


async def test_rule_12_the_end_of_a_significant_supervisor_ends_the_one_above() -> None:
    """From level to level, up to one that is not significant."""
    diary: list[str] = []
    a, b, c = members("abc", diary)
    low = supervisor(a.options(significant=True, name="a"), name="low", auto_shutdown=AutoShutdown.ANY)
    mid = supervisor(b, low.options(significant=True), name="mid", auto_shutdown=AutoShutdown.ALL)
    async with open_system() as system:
        top = await system.supervise(mid, c)
        held(diary)
        await system.lookup("/supervisor/mid/low/a").send(RETURN)
        await mid.ref.wait_stopped()
        assert (diary, top.state) == (["-a", "-b"], ActorState.RUNNING)
