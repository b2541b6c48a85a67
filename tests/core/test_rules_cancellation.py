"""Rules 20 to 22: what a cancellation is to a supervised actor, what ends a shield, and which context variables it has."""

from __future__ import annotations

import asyncio
import logging
import math
from contextvars import ContextVar
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from family import RETURN, held, members, until_restarted
from rookery import Actor, ActorState, Context, Intensity, Strategy, child, open_system, supervisor
from stepped import Backend, jumping
from support import settle


@pytest.fixture(scope="module")
def anyio_backend(anyio_backend: Backend) -> Backend:
    """Time passes when everybody waits."""
    return jumping(anyio_backend)


# ---- rule 20


async def test_rule_20_a_crash_is_an_exception_also_in_a_group() -> None:
    """Which is kept whole; the supervisor restarts it."""
    (a,) = members("a", [])
    crash = ExceptionGroup("two", [ValueError(1), OSError(2)])
    async with open_system() as system:
        await system.supervise(a)
        await a.ref.send(crash)
        await until_restarted(a.ref)
        assert repr(a.ref.statistics().last_crash) == repr(crash)


async def test_rule_20_in_a_mixed_group_the_cancelled_part_is_separated_and_the_rest_is_the_crash() -> None:
    """A cancelled task group, one of whose tasks fails in its cleanup."""
    diary: list[str] = []

    async def clumsy(ctx: Context[Any]) -> None:
        async with anyio.create_task_group() as tasks:
            for fails in (True, False):
                tasks.start_soon(sleeper, fails)
            ctx.ready()
            await anyio.sleep_forever()

    async def sleeper(fails: bool) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            diary.append("cancelled")
            if fails:
                raise ValueError("cleanup")

    spec = child(clumsy).options(stop_timeout=0)
    async with open_system() as system:
        top = await system.supervise(spec)
        await top.stop_child(spec.ref)
        crash = spec.ref.statistics().last_crash
        assert isinstance(crash, ExceptionGroup)
        assert _leaves(crash) == ["ValueError('cleanup')"]
        assert (spec.ref.state, top.state, diary) == (ActorState.FAILED, ActorState.RUNNING, ["cancelled"] * 2)


def _leaves(error: BaseException) -> list[str]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for each in error.exceptions for leaf in _leaves(each)]
    return [repr(error)]


@pytest.mark.parametrize("crash", [False, True])
async def test_rule_20_cancelled_is_never_swallowed(crash: bool) -> None:
    """Whoever cancels the block sees the cancellation arrive, also when the tree crashes on its way down."""

    async def clumsy(ctx: Context[Any]) -> None:
        await ctx.wait_stopping()
        if crash:
            raise ValueError("while stopping")

    passed: list[str] = []
    errors: list[BaseException] = []
    with anyio.CancelScope() as scope:
        try:
            async with open_system() as system:
                await system.supervise(child(clumsy))
                scope.cancel()
                await anyio.sleep_forever()
        except ExceptionGroup as error:
            errors.append(error)
        passed.append("after the block")
        await checkpoint()
        passed.append("the scope is cancelled, and that is forgotten")
    assert passed == (["after the block"] if crash else [])
    assert [_leaves(error) for error in errors] == ([["ValueError('while stopping')"]] if crash else [])
    assert scope.cancelled_caught


async def test_rule_20_a_cancellation_that_an_actor_catches_for_itself_is_nobody_elses() -> None:
    """Scopes of its own work as ever, inside and around its receive."""
    got: list[Any] = []

    async def behaviour(ctx: Context[Any]) -> None:
        with anyio.move_on_after(0):
            await ctx.receive()
        with anyio.CancelScope() as scope:
            scope.cancel()
            await checkpoint()
        got.append(scope.cancelled_caught)
        async for item in ctx:
            got.append(item)  # noqa: PERF401  # one by one

    async with open_system() as system:
        spec = child(behaviour)
        await system.supervise(spec)
        await spec.ref.send("still here")
        await settle()
        assert (got, spec.ref.statistics().restarts) == ([True, "still here"], 0)


@pytest.mark.parametrize("strategy", Strategy)
async def test_rule_20_a_cancelled_error_from_nowhere_is_a_crash(anyio_backend_name: str, strategy: Strategy) -> None:
    """The actor awaited a future that somebody cancelled: it restarts, and the block goes on."""
    if anyio_backend_name != "asyncio":
        pytest.skip("trio has no such cancellations")

    async def awaits_a_future(ctx: Context[Any]) -> None:
        ctx.ready()
        if ctx.incarnation == 1:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(future.cancel)
            await future
        await ctx.wait_stopping()

    spec = child(awaits_a_future)
    async with open_system() as system:
        top = await system.supervise(supervisor(spec, strategy=strategy))
        await until_restarted(spec.ref)
        crash = spec.ref.statistics().last_crash
        assert "let a cancellation out that nobody asked for" in str(crash)
        assert crash is not None
        assert isinstance(crash.__cause__, asyncio.CancelledError)
        assert (spec.ref.state, top.statistics().restarts) == (ActorState.RUNNING, 0)


async def test_rule_20_a_supervisor_whose_task_is_cancelled_natively_crashes_and_takes_its_children_along(
    anyio_backend_name: str,
) -> None:
    """In order and with their grace; its own supervisor starts it again."""
    if anyio_backend_name != "asyncio":
        pytest.skip("trio has no such cancellations")
    diary: list[str] = []
    a, b = members("ab", diary)
    inner = supervisor(a, b, name="inner")
    async with open_system() as system:
        await system.supervise(inner)
        held(diary)
        (task,) = [task for task in asyncio.all_tasks() if task.get_name() == "/supervisor/inner"]
        task.cancel()
        await until_restarted(inner.ref)
        assert diary == ["-b", "-a", "+a", "+b"]


# ---- rule 21


class Endless(Actor):
    """Its cleanup never comes to an end by itself."""

    async def on_stop(self) -> None:
        await anyio.sleep_forever()


@pytest.mark.parametrize("how", ["stop", "scope"])
async def test_rule_21_every_shield_around_on_stop_has_a_deadline(how: str, caplog: pytest.LogCaptureFixture) -> None:
    """Also in a block that is cancelled from outside: it is cut off, and a warning says so."""
    spec = child(Endless).options(stop_timeout=0.01)
    with anyio.fail_after(5), anyio.CancelScope() as scope, caplog.at_level(logging.WARNING, "rookery"):
        async with open_system() as system:
            top = await system.supervise(supervisor(spec, name="inner"))
            if how == "scope":
                scope.cancel()
                await anyio.sleep_forever()
            await top.stop()
    assert [record.getMessage() for record in caplog.records] == [
        "/supervisor/inner/Endless: on_stop was cut off before its end (stop_timeout: 0.01 s)"
    ]


async def test_rule_21_the_trees_own_shield_has_none() -> None:
    """A tree whose children have infinite patience is waited for as long as it takes."""
    ends: list[float] = []

    async def patient(ctx: Context[Any]) -> None:
        await ctx.wait_stopping()
        await anyio.sleep(10**6)
        ends.append(anyio.current_time())

    specs = [child(patient).options(name=name, stop_timeout=math.inf) for name in "ab"]
    with anyio.move_on_after(1) as scope:
        began = anyio.current_time()
        async with open_system() as system:
            await system.supervise(*specs)
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert ends == pytest.approx([began + 1 + 10**6, began + 1 + 2 * 10**6])


# ---- rule 22

colour: ContextVar[str] = ContextVar("colour", default="none")


async def chameleon(ctx: Context[Any], seen: list[str]) -> None:
    """Tells the colour that it finds, and leaves another one behind."""
    seen.append(f"{ctx.name}: {colour.get()}")
    colour.set(f"of {ctx.name} {ctx.incarnation}")
    async for item in ctx:
        if isinstance(item, BaseException):
            raise item
        if item == RETURN:
            return


async def test_rule_22_each_incarnation_runs_in_a_fresh_copy_of_its_declarers_context() -> None:
    """Static and dynamic children, after a crash, a group restart, a request and their supervisor's own restart."""
    seen: list[str] = []
    specs = {}
    for name in ("red", "green"):
        colour.set(name)
        specs[name] = child(chameleon, seen).options(name=name)
    colour.set("blue")
    inner = supervisor(*specs.values(), name="inner", strategy=Strategy.ONE_FOR_ALL, intensity=Intensity(1, per=60))
    colour.set("of whoever starts them")
    red, green = (spec.ref for spec in specs.values())
    both = ["red: red", "green: green"]
    async with open_system() as system:
        await system.supervise(inner)
        assert held(seen) == both
        await inner.ref.restart_child(red)
        assert held(seen) == both[:1]
        await red.send(ValueError())
        await until_restarted(green)
        assert held(seen) == both
        await green.send(RETURN)
        await green.wait_stopped()
        await inner.ref.restart_child(green)
        assert held(seen) == both[1:]
        await green.send(ValueError("too many"))
        await until_restarted(inner.ref)
        assert held(seen) == both
        colour.set("yellow")
        dynamic = await inner.ref.spawn(chameleon, seen, name="dynamic")
        await inner.ref.restart_child(dynamic)
        assert seen == ["dynamic: yellow"] * 2
    assert colour.get() == "yellow"
