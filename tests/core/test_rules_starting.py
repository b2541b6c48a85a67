"""Rules 1 to 5: how a supervisor's children start."""

from __future__ import annotations

import math
from typing import Any

import anyio
import pytest

from family import RETURN, held, member, members, names, until_restarted
from rookery import (
    ActorState,
    AutoShutdown,
    Backoff,
    Context,
    DuplicateName,
    Intensity,
    NotStarted,
    Restart,
    RestartIntensityExceeded,
    SpawnFromWithin,
    StartFailed,
    Strategy,
    SupervisorRef,
    System,
    UnknownActor,
    child,
    open_system,
    supervisor,
)
from stepped import Backend, jumping
from support import settle


@pytest.fixture(scope="module")
def anyio_backend(anyio_backend: Backend) -> Backend:
    """Time passes when everybody waits."""
    return jumping(anyio_backend)


async def broken(ctx: Context[Any], error: Exception) -> None:
    """Raises before it is ready."""
    raise error


async def never_ready(ctx: Context[Any]) -> None:
    await anyio.sleep_forever()


# ---- rule 1


async def test_rule_1_children_start_in_order_each_when_the_one_before_is_ready_or_has_returned() -> None:
    """Ready by the end of start-up, or by having returned without one."""
    diary: list[str] = []

    async def slow(ctx: Context[Any]) -> None:
        diary.append(f"+{ctx.name}")
        await settle()
        diary.append(f"{ctx.name} ready")
        if ctx.name != "b":
            await ctx.wait_stopping()

    async with open_system() as system:
        await system.supervise(*(child(slow).options(name=name) for name in "abc"))
        assert diary == ["+a", "a ready", "+b", "b ready", "+c", "c ready"]


async def test_rule_1_a_supervisor_is_ready_when_its_children_are() -> None:
    """Its own siblings start after all of its children."""
    diary: list[str] = []
    async with open_system() as system:
        a, b, c, d = members("abcd", diary)
        inner = supervisor(b, c, name="inner")
        top = await system.supervise(a, inner, d)
        assert diary == ["+a", "+b", "+c", "+d"]
        assert top[inner].children() == [b.ref, c.ref]
        assert c.ref.path == "/supervisor/inner/c"


async def test_rule_1_whoever_waits_for_its_turn_is_new() -> None:
    """It is a child already, with a reference that takes messages, and has not begun."""
    diary: list[str] = []
    a, b = members("ab", diary)
    may_start = anyio.Event()

    async def waits(ctx: Context[Any]) -> None:
        await may_start.wait()
        await ctx.wait_stopping()

    top = supervisor(child(waits), a, b)
    async with open_system() as system, anyio.create_task_group() as tasks:
        tasks.start_soon(system.spawn, top)
        await settle()
        assert (top.ref.state, a.ref.state, b.ref.state) == (ActorState.STARTING, ActorState.NEW, ActorState.NEW)
        assert names(top.ref.children()) == "waitsab"
        b.ref.send_nowait("early")
        may_start.set()
        await settle()
        assert diary == ["+a", "+b", "b got early"]


async def test_rule_1_a_supervisor_without_children_is_ready_at_once() -> None:
    """It may have dynamic ones later."""
    diary: list[str] = []
    async with open_system() as system:
        top = await system.supervise()
        assert (top.state, top.children()) == (ActorState.RUNNING, [])
        ref = await top.spawn(member, diary, name="a")
        assert top.children() == [ref]
    assert diary == ["+a", "-a"]


async def test_rule_1_what_is_spawned_during_start_up_starts_after_the_static_children() -> None:
    """A child that is ready may add to its own supervisor; the new one is the last in order."""
    diary: list[str] = []
    tops: list[SupervisorRef] = []

    async def adds(ctx: Context[Any]) -> None:
        ctx.ready()
        await tops[0].spawn(member, diary, name="added")
        await ctx.wait_stopping()

    a, b = members("ab", diary)
    spec = supervisor(child(adds), a, b)
    tops.append(spec.ref)
    async with open_system() as system:
        await system.spawn(spec)
        await settle()
        assert diary == ["+a", "+b", "+added"]
        assert names(spec.ref.children()) == "addsabadded"


@pytest.mark.parametrize("deep", [False, True], ids=["itself", "its child"])
async def test_rule_1_a_child_that_is_starting_cannot_wait_for_a_sibling_to_start(deep: bool) -> None:
    """It would wait for itself, because siblings start when it is ready; once it is, it may spawn."""
    diary: list[str] = []
    refused: list[SpawnFromWithin] = []
    tops: list[SupervisorRef] = []

    async def adds(ctx: Context[Any]) -> None:
        if deep and ctx.name == "adds":
            await ctx.spawn(adds, name="kid")
        else:
            for call in (tops[0].spawn(member, diary), tops[0].restart_child(a.ref)):
                with pytest.raises(SpawnFromWithin) as raised:
                    await call
                refused.append(raised.value)
        ctx.ready()
        await tops[0].spawn(member, diary, name=f"{ctx.name}-sibling") if ctx.name == "adds" else None
        await ctx.wait_stopping()

    (a,) = members("a", diary)
    spec = supervisor(a, child(adds), name="top")
    tops.append(spec.ref)
    async with open_system() as system:
        await system.spawn(spec)
        await settle()
    who = "/top/adds/kid" if deep else "/top/adds"
    assert [str(error) for error in refused] == [
        f"/top starts its children in turn and /top/adds is not ready, so {who} cannot wait until it can {what}: "
        "call `ctx.ready()` first"
        for what in ("spawn member", "restart a")
    ]
    assert diary == ["+a", "+adds-sibling", "-adds-sibling", "-a"]


# ---- rule 2


async def test_rule_2_a_failed_start_stops_those_before_in_reverse_and_fails_the_supervisor_with_the_cause() -> None:
    """Those after it never start; nothing is retried, and nothing is left."""
    diary: list[str] = []
    error = OSError("disk")
    a, b, c = members("abc", diary)
    async with open_system() as system:
        with pytest.raises(StartFailed) as raised:
            await system.supervise(a, b, child(broken, error), c)
        assert diary == ["+a", "+b", "-b", "-a"]
        assert str(raised.value) == "/supervisor did not start, because /supervisor/broken did not: OSError('disk')"
        assert raised.value.__cause__ is error
        assert [spec.ref.state for spec in (a, b, c)] == [ActorState.STOPPED] * 3
        assert system.tree().count("\n") == 0, "nobody is left"
        top = await system.supervise(a, b, c)
        assert names(top.children()) == "abc"
        assert top.path == "/supervisor"


async def test_rule_2_a_failed_start_deep_in_the_tree_fails_every_supervisor_above_it() -> None:
    """Level by level, each in reverse, and the causes are chained up to the true one."""
    diary: list[str] = []
    error = OSError("disk")
    a, b, c, d = members("abcd", diary)
    inner = supervisor(b, supervisor(c, child(broken, error), name="low"), name="mid")
    async with open_system() as system:
        with pytest.raises(StartFailed) as raised:
            await system.supervise(a, inner, d, name="top")
    assert diary == ["+a", "+b", "+c", "-c", "-b", "-a"]
    causes: list[BaseException] = []
    cause: BaseException | None = raised.value
    while cause is not None:
        causes.append(cause)
        cause = cause.__cause__
    assert [type(each) for each in causes] == [StartFailed] * 3 + [OSError]
    assert [str(each).split(" did not")[0] for each in causes[:-1]] == ["/top", "/top/mid", "/top/mid/low"]


async def test_rule_2_a_supervisor_whose_spawn_is_cancelled_stops_those_that_have_started() -> None:
    """In reverse and with their grace; the one that was starting is cancelled when its own is over."""
    diary: list[str] = []
    a, b, c = members("abc", diary)
    async with open_system() as system:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(system.supervise, a, b, child(never_ready).options(stop_timeout=0), c)
                await settle()
                assert diary == ["+a", "+b"]
                scope.cancel()
        await settle()
        assert diary == ["+a", "+b", "-b", "-a"]
        assert system.tree().count("\n") == 0


# ---- rule 3


async def flaky(ctx: Context[Any], diary: list[str], *, good_from: int) -> None:
    """Its restarts fail up to a certain incarnation."""
    if 1 < ctx.incarnation < good_from:
        raise OSError(ctx.incarnation)
    await member(ctx, diary)


@pytest.mark.parametrize("strategy", Strategy)
async def test_rule_3_a_start_that_fails_in_a_restart_is_retried_under_the_same_intensity(strategy: Strategy) -> None:
    """As a crash is; within the intensity it comes back in the end, and its supervisor never knew."""
    diary: list[str] = []
    spec = child(flaky, diary, good_from=4).options(name="flaky")
    async with open_system() as system:
        top = await system.supervise(spec, strategy=strategy, intensity=Intensity(3, per=60))
        await spec.ref.send(ValueError())
        await until_restarted(spec.ref, 3)
        assert spec.ref.state is ActorState.RUNNING
        assert top.statistics().restarts == 0
    assert diary == ["+flaky", "-flaky", "+flaky", "-flaky"]


@pytest.mark.parametrize("strategy", Strategy)
async def test_rule_3_a_start_that_fails_in_a_restart_counts_as_a_crash(strategy: Strategy) -> None:
    """Beyond the intensity the supervisor gives up, with the failed starts among the crashes."""
    spec = child(flaky, [], good_from=99).options(name="flaky")
    async with open_system() as system:
        top = await system.supervise(spec, strategy=strategy, intensity=Intensity(2, per=60))
        await spec.ref.send(ValueError("first"))
        await until_restarted(top)
        crash = top.statistics().last_crash
        assert isinstance(crash, RestartIntensityExceeded)
        assert isinstance(crash.__cause__, ExceptionGroup)
        crashes = [repr(each) for each in crash.__cause__.exceptions]
        assert crashes == ["ValueError('first')", "OSError(2)", "OSError(3)"]


async def test_rule_3_a_supervisor_whose_restart_fails_is_retried_by_its_own() -> None:
    """Its child's failed start is its own, and a crash to the supervisor above, under that one's intensity."""
    diary: list[str] = []
    starts: list[str] = []

    async def fails_twice(ctx: Context[Any]) -> None:
        starts.append(ctx.name)
        if len(starts) in {2, 3}:
            raise OSError(len(starts))
        await member(ctx, diary)

    (a,) = members("a", diary)
    spec = child(fails_twice).options(name="b")
    inner = supervisor(a, spec, name="inner", intensity=Intensity(0, per=60))
    async with open_system() as system:
        top = await system.supervise(inner, intensity=Intensity(3, per=60))
        await spec.ref.send(ValueError())
        await until_restarted(inner.ref, 3)
        assert held(diary) == ["+a", "+b", "-b", "-a", "+a", "-a", "+a", "-a", "+a", "+b"]
        assert (inner.ref.state, top.statistics().restarts) == (ActorState.RUNNING, 0)
        assert isinstance(inner.ref.statistics().last_crash, StartFailed)


# ---- rule 4


@pytest.mark.parametrize("deep", [False, True], ids=["child", "grandchild"])
async def test_rule_4_start_timeout_bounds_the_start(deep: bool) -> None:
    """It is a start failure whose true cause is a `TimeoutError` that says what to do; siblings are stopped again."""
    diary: list[str] = []
    (a,) = members("a", diary)
    slow = child(never_ready).options(start_timeout=0.01)
    async with open_system() as system:
        with pytest.raises(StartFailed) as raised:
            await system.supervise(a, supervisor(slow) if deep else slow)
    cause = raised.value.__cause__
    while isinstance(cause, StartFailed):
        cause = cause.__cause__
    assert isinstance(cause, TimeoutError)
    assert "was not ready within 0.01 s: receive, call `ctx.ready()`" in str(cause)
    assert diary == ["+a", "-a"]


async def test_rule_4_the_time_out_of_a_supervisor_names_the_child_that_is_not_ready() -> None:
    """At the bottom of the tree."""
    a, b = members("ab", [])
    slow = child(never_ready).options(name="slow")
    inner = supervisor(a, slow, b, name="inner")
    async with open_system() as system:
        with pytest.raises(StartFailed, match=r"^/top did not start: ") as raised:
            await system.spawn(supervisor(inner, name="top").options(start_timeout=0.01))
    cause = raised.value.__cause__
    assert isinstance(cause, TimeoutError)
    assert str(cause).startswith(
        "/top was not ready within 0.01 s, because it waits for /top/inner/slow, which is starting: receive, call"
    )


async def test_rule_4_the_time_out_of_a_supervisor_names_the_child_that_has_to_end_first() -> None:
    """Nobody starts before that, in a group restart."""
    a, slow = members("a", [])[0], child(never_ready).options(name="slow", stop_timeout=20)
    top = supervisor(a, slow, name="top", strategy=Strategy.ONE_FOR_ALL).options(start_timeout=10)
    outcomes: list[Exception] = []

    async def start(system: System) -> None:
        try:
            await system.spawn(top)
        except StartFailed as error:
            outcomes.append(error)

    async with open_system() as system, anyio.create_task_group() as tasks:
        tasks.start_soon(start, system)
        await settle()
        await a.ref.send(ValueError())
    assert "/top was not ready within 10 s, because it waits for /top/slow, which is restarting" in str(outcomes[0])


async def test_rule_4_a_child_that_raises_before_it_is_ready_is_a_start_failure_with_its_true_cause() -> None:
    """That very exception, on a supervisor and under the root, static and dynamic; nobody is restarted."""
    error = OSError("disk")
    async with open_system() as system:
        top = await system.supervise()
        for place in (system, top):
            with pytest.raises(StartFailed, match=r"/broken did not start: OSError\('disk'\)$") as raised:
                await place.spawn(broken, error)
            assert raised.value.__cause__ is error
        assert (top.children(), top.state) == ([], ActorState.RUNNING)


async def test_rule_4_a_child_that_is_stopped_before_it_is_ready_is_a_start_failure_too() -> None:
    """With the reason as its cause, and never a bare `RuntimeError`."""
    spec = child(never_ready).options(stop_timeout=0)
    failures: list[StartFailed] = []

    async def start(top: SupervisorRef) -> None:
        with pytest.raises(StartFailed) as raised:
            await top.spawn(spec)
        failures.append(raised.value)

    async with open_system() as system, anyio.create_task_group() as tasks:
        top = await system.supervise()
        tasks.start_soon(start, top)
        await settle()
        await top.stop_child(spec.ref)
    assert "/supervisor/never_ready was stopped before it was ready" in str(failures[0].__cause__)


# ---- rule 5


async def test_rule_5_duplicate_live_names_are_refused() -> None:
    """Among static children where they are declared, and for dynamic ones where they are spawned."""
    diary: list[str] = []
    a, also_a, b = members("aab", diary)
    with pytest.raises(DuplicateName, match="two children are called 'a': names are unique among siblings"):
        supervisor(a, b, also_a)
    with pytest.raises(DuplicateName, match="<ChildSpec a> is given twice"):
        supervisor(a, a)
    async with open_system() as system:
        with pytest.raises(DuplicateName, match="called 'a'"):
            await system.supervise(a, also_a)
        top = await system.supervise(a)
        with pytest.raises(DuplicateName, match="/supervisor/a is alive: names are unique among live siblings"):
            await top.spawn(also_a)
        with pytest.raises(DuplicateName, match="this spec is running already, as /supervisor/a"):
            await top.spawn(a)
        with pytest.raises(DuplicateName, match="this spec is running already, as /supervisor/a"):
            await system.supervise(a)
        await system.supervise(also_a, name="other")
        assert (a.ref.path, also_a.ref.path) == ("/supervisor/a", "/other/a")


async def test_rule_5_unnamed_children_are_numbered_and_leave_a_name_to_who_asks_for_it() -> None:
    """Also to a sibling that starts after them."""
    specs = [child(member, []) for _ in range(3)]
    async with open_system() as system:
        top = await system.supervise(*specs)
        assert [ref.name for ref in top.children()] == ["member", "member-2", "member-3"]
        await top.stop()
        last = child(member, []).options(name="member")
        top = await system.supervise(*specs[:2], last)
        assert [ref.name for ref in top.children()] == ["member-2", "member-3", "member"]
        nested = await system.supervise(supervisor(), supervisor())
        assert [ref.name for ref in nested.children()] == ["supervisor", "supervisor-2"]


async def test_rule_5_a_finished_static_child_keeps_its_name() -> None:
    """Its supervisor may start it again; removed, it frees the name."""
    diary: list[str] = []
    a, also_a = members("aa", diary)
    async with open_system() as system:
        top = await system.supervise(a)
        await a.ref.send(RETURN)
        await a.ref.wait_stopped()
        with pytest.raises(DuplicateName, match="/supervisor/a has ended and is kept by its supervisor"):
            await top.spawn(also_a)
        with pytest.raises(DuplicateName, match=r"`await sup.restart_child\(spec.ref\)` does so"):
            await system.spawn(a)
        await top.remove_child(a.ref)
        assert await top.spawn(also_a) is also_a.ref


async def test_rule_5_significant_and_permanent_is_refused() -> None:
    """Such a child never ends by itself; also where it is spawned, and then nothing has changed."""
    (spec,) = members("a", [], significant=True, restart=Restart.PERMANENT)
    with pytest.raises(
        ValueError, match=r"Restart.PERMANENT brings it back each time: use `restart=Restart.TRANSIENT`"
    ):
        supervisor(spec, auto_shutdown=AutoShutdown.ANY)
    async with open_system() as system:
        top = await system.supervise(auto_shutdown=AutoShutdown.ALL)
        with pytest.raises(ValueError, match=r"Restart.PERMANENT"):
            await top.spawn(spec)
        assert (top.children(), spec.ref.state) == ([], ActorState.NEW)


async def test_rule_5_significant_under_auto_shutdown_never_is_refused() -> None:
    """By every supervisor that has it: declared, a system, an actor with children of its own."""
    (spec,) = members("a", [], significant=True)
    never = r"this one has AutoShutdown.NEVER: declare the supervisor with `auto_shutdown=AutoShutdown.ANY`"
    told: list[str] = []

    async def owner(ctx: Context[Any]) -> None:
        with pytest.raises(ValueError, match=never):
            await ctx.spawn(spec)
        told.append("refused")
        await ctx.wait_stopping()

    with pytest.raises(ValueError, match=never):
        supervisor(spec)
    async with open_system() as system:
        with pytest.raises(ValueError, match=never):
            await system.supervise(spec)
        with pytest.raises(ValueError, match=never):
            await system.spawn(spec)
        await system.spawn(owner)
        assert told == ["refused"]
        top = await system.supervise(spec, auto_shutdown=AutoShutdown.ANY)
        assert names(top.children()) == "a"


# ---- bad input


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"strategy": "all"}, r"strategy is one of Strategy.ONE_FOR_ONE, .*, got 'all'"),
        ({"intensity": 3}, r"intensity is an Intensity, got 3: write `Intensity\(3, per=5.0\)`"),
        ({"auto_shutdown": True}, r"auto_shutdown is one of AutoShutdown.NEVER, .*, got True"),
        ({"concurrent_stop": 1}, r"concurrent_stop is True or False, got 1: write `concurrent_stop=True`"),
    ],
    ids=lambda value: None if isinstance(value, str) else "-".join(value),
)
async def test_an_option_of_the_wrong_kind_is_refused_where_it_is_written(options: Any, expected: str) -> None:
    """By the value, with the choices or the line to write."""
    with pytest.raises(TypeError, match=expected):
        supervisor(**options)
    async with open_system() as system:
        with pytest.raises(TypeError, match=expected):
            await system.supervise(**options)


@pytest.mark.parametrize("name", ["", "a/b", 3, b"x"], ids=repr)
async def test_a_supervisor_has_a_name_like_any_other_child(name: Any) -> None:
    """And that is refused for the same reasons."""
    with pytest.raises(ValueError, match="a name is a string without '/'"):
        supervisor(name=name)


async def test_what_is_no_spec_is_refused_as_a_static_child() -> None:
    """With the line to write; a coroutine is closed, so that nothing warns of it."""
    with pytest.raises(
        TypeError, match=r"static children are specs, got <function member.*: write `child\(member, ...\)`"
    ):
        supervisor(member)
    with pytest.raises(TypeError, match=r"static children are specs, got 3: write `child\(behaviour, ...\)`"):
        supervisor(3)
    called: Any = member(None, [])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"do not call it: write `child\(member, ...\)`"):
        supervisor(called)
    async with open_system() as system:
        with pytest.raises(TypeError, match=r"write `child\(member, ...\)`"):
            await system.supervise(member)  # type: ignore[arg-type]


async def test_a_supervisor_takes_no_arguments_of_a_behaviour() -> None:
    """Everything is in its spec."""
    async with open_system() as system:
        with pytest.raises(TypeError, match=r"already says what to run and with what: write `spawn\(spec\)`"):
            await system.spawn(supervisor(), 1)


async def test_a_supervisor_receives_nothing() -> None:
    """A message to it is refused where it is sent."""
    async with open_system() as system:
        top: Any = await system.supervise()
        with pytest.raises(TypeError, match="/supervisor accepts no messages, not str"):
            await top.send("hello")


async def test_a_child_is_looked_up_by_its_spec() -> None:
    """A static one at any time, a dynamic one while it lives; anything else is an error that says what to write."""
    diary: list[str] = []
    a, b, other = members("abx", diary)
    top = supervisor(a, name="top")
    with pytest.raises(NotStarted, match="'top' has not been spawned yet"):
        top.ref[a]
    with pytest.raises(NotStarted):
        top.ref.children()
    async with open_system() as system:
        await system.spawn(top)
        await top.ref.spawn(b)
        assert (top.ref[a], top.ref[b]) == (a.ref, b.ref)
        with pytest.raises(UnknownActor, match=r"<ChildSpec x> is not a child of top: `sup.children\(\)` are"):
            top.ref[other]
        with pytest.raises(TypeError, match=r"a child is looked up by its spec, got 'a': write `sup\[spec\]`"):
            top.ref["a"]  # type: ignore[call-overload]
        for spec in (a, b):
            await spec.ref.stop()
        assert top.ref[a] is a.ref
        with pytest.raises(UnknownActor, match="is not a child of top"):
            top.ref[b]
    assert top.ref[a] is a.ref
    assert top.ref.children() == []


async def test_children_are_told_in_start_order_and_known_as_long_as_they_may_start_again() -> None:
    """Static ones after their end too, unless they are TEMPORARY; dynamic ones while they live or back off."""
    diary: list[str] = []
    a, c = members("ac", diary)
    (b,) = members("b", diary, restart=Restart.TEMPORARY)
    d, e = members("de", diary, backoff=Backoff(3600))
    async with open_system() as system:
        top = await system.supervise(a, b, c)
        await top.spawn(d)
        await top.spawn(e)
        assert names(top.children()) == "abcde"
        for spec in (a, b, d):
            await spec.ref.send(RETURN)
        await e.ref.send(ValueError())
        await settle()
        assert names(top.children()) == "ace"
        assert [ref.state for ref in top.children()] == [ActorState.STOPPED, ActorState.RUNNING, ActorState.RESTARTING]


async def test_a_child_without_a_limit_of_time_starts_when_it_is_ready() -> None:
    """The supervisor above sets none either: those of its children add up."""
    spec = supervisor(child(member, []).options(start_timeout=math.inf))
    assert (spec.settings.start_timeout, spec.settings.stop_timeout) == (math.inf, math.inf)
    async with open_system() as system:
        await system.spawn(spec)
        assert spec.ref.state is ActorState.RUNNING


async def test_rule_5_what_a_supervisor_does_not_have_is_not_found_in_it() -> None:
    """Neither a child that was removed, nor what accepts messages."""
    a, b = members("ab", [])
    async with open_system() as system:
        top = await system.supervise(a, b)
        assert top[a] is a.ref
        await top.remove_child(a.ref)
        with pytest.raises(UnknownActor, match=r"<ChildSpec a> is not a child of supervisor"):
            top[a]
        with pytest.raises(TypeError, match=r"/supervisor accepts no messages.*`sup\[spec\]\.send\(\.\.\.\)`"):
            await top.send("x")  # type: ignore[arg-type]
