"""Adopted tasks: functions that know nothing of actors are started, supervised and stopped like them."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from anyio.abc import TaskStatus

from rookery import (
    Actor,
    ActorState,
    ActorStopped,
    Context,
    Request,
    Restart,
    RestartIntensityExceeded,
    StartFailed,
    StopFromWithin,
    child,
    message,
    open_system,
    task,
)
from support import settle


@message
class Question(Request[int]):
    pass


class Boom(Exception):
    pass


async def forever() -> None:
    await anyio.sleep_forever()


class Server:
    """Something with a life of its own that a program would adopt."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.runs = 0
        self.go = anyio.Event()

    async def serve_forever(self, greeting: str = "serving", *, times: int = 1) -> None:
        self.runs += 1
        self.log.extend([greeting] * times)
        try:
            await anyio.sleep_forever()
        finally:
            self.log.append("cleaned up")

    async def start_and_serve(self, greeting: str, *, task_status: TaskStatus[str]) -> None:
        self.runs += 1
        await self.go.wait()
        self.log.append(greeting)
        task_status.started(greeting)
        await anyio.sleep_forever()

    async def crash(self) -> None:
        self.runs += 1
        raise Boom(self.runs)

    async def end(self) -> None:
        self.runs += 1


# ---- what can be adopted


async def test_an_adopted_task_runs_with_its_arguments_until_it_is_stopped() -> None:
    """It is named after its function, seen in the tree, and its cleanup has run when `stop` returns."""
    server = Server()
    async with open_system() as system:
        ref = await system.spawn(child(task(server.serve_forever, "hello", times=2)))
        await settle()
        assert server.log == ["hello", "hello"]
        assert ref.path == "/serve_forever"
        assert ref.state is ActorState.RUNNING
        assert "serve_forever  running" in system.tree()
        await ref.stop()
        assert server.log == ["hello", "hello", "cleaned up"]
        assert ref.state is ActorState.STOPPED


class Callable_:  # noqa: N801
    async def __call__(self) -> None:
        await anyio.sleep_forever()


@pytest.mark.parametrize(
    ("fn", "name"),
    [
        (forever, "forever"),
        (Server().serve_forever, "serve_forever"),
        (functools.partial(anyio.sleep, 3600), "sleep"),
        (Callable_(), "Callable_"),
        (lambda: forever(), "lambda"),  # noqa: PLW0108  # not async itself, but what it returns is awaited
    ],
)
async def test_whatever_is_awaited_can_be_adopted(fn: Callable[[], Awaitable[object]], name: str) -> None:
    """Functions, methods, partials, callable objects, and what returns an awaitable."""
    async with open_system() as system:
        ref = await system.spawn(task(fn))
        await settle()
        assert (ref.name, ref.state) == (name, ActorState.RUNNING)
    assert repr(task(fn)) == f"<AdoptedTask {name}>"


async def test_functions_that_hide_their_arguments_are_called_all_the_same() -> None:
    """Without a signature nothing can be checked beforehand."""

    async def note(number: int) -> None:
        received.append(number)

    received: list[int] = []
    async with open_system() as system:
        ref = await system.spawn(child(task(next, map(note, [3]))).options(restart=Restart.TEMPORARY))
        await ref.wait_stopped()
    assert received == [3]


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda: task(Server().serve_forever, "a", "b"), r"serve_forever\(.*cannot be called.*too many positional"),
        (lambda: task(Server().serve_forever, colour=1), r"serve_forever\(.*unexpected keyword argument 'colour'"),
        (lambda: task(Server().start_and_serve), r"start_and_serve\(.*missing a required argument: 'greeting'"),
        (lambda: task(Server().start_and_serve, "x", task_status=None), r"start_and_serve.*by rookery: leave it out"),
        (lambda: task(3), r"task\(\) takes an async function, got 3: write `task\(fn, \*args\)`"),
        (lambda: task(forever()), r"do not call it: pass the function and its arguments, `task\(forever, \.\.\.\)`"),
    ],
)
async def test_what_does_not_fit_is_refused_where_it_is_adopted(call: Callable[[], object], expected: str) -> None:
    """With the function's name, its signature and the reason."""
    with pytest.raises(TypeError, match=expected):
        call()


def test_a_function_without_a_context_is_shown_how_to_be_adopted() -> None:
    """Passed to `child` as it is, it is no behaviour."""
    wrong: Any = forever
    with pytest.raises(TypeError, match=r"forever has no parameter for its context.*`child\(task\(fn, \.\.\.\)\)`"):
        child(wrong)


async def test_arguments_belong_to_the_task_and_not_to_the_child() -> None:
    """The error shows where they go."""
    wrong: Any = task(Server().serve_forever)
    with pytest.raises(TypeError, match=r"serve_forever.*too many positional arguments.*`child\(task\(fn, \*args\)\)`"):
        child(wrong, "hello")


def test_an_actor_class_is_not_adopted() -> None:
    """It is a behaviour already; an instance that is called as an async function may be adopted like any other."""

    class Server(Actor):
        async def serve(self) -> None: ...

        async def __call__(self) -> None: ...

    with pytest.raises(TypeError, match=r"^task\(\) takes an async function, got .*Server.*: write `child\(Server, "):
        task(Server)
    assert "Server" in repr(task(Server()))


# ---- nobody can message it


async def test_nobody_can_message_an_adopted_task() -> None:
    """Whatever is sent or asked is refused, with what would receive it."""
    no_messages, never = "/forever accepts no messages", r"what `task\(fn\)` has adopted takes no messages at all"
    async with open_system() as system:
        ref: Any = await system.spawn(task(forever))
        for deliver in (ref.send, ref.ask):
            with pytest.raises(TypeError, match=f"{no_messages}, not Question.*Context.Question.*{never}"):
                await deliver(Question())
        with pytest.raises(TypeError, match=no_messages):
            ref.send_nowait(1)


# ---- starting


async def test_an_adopted_task_is_ready_before_its_first_step() -> None:
    """What it raises at once is a crash, not a start failure: it is restarted until that is too much."""
    server = Server()
    with pytest.raises(ExceptionGroup) as caught:
        async with open_system() as system:
            ref = await system.spawn(task(server.crash))
            await ref.wait_stopped()
    (failure,) = caught.value.exceptions
    assert isinstance(failure, RestartIntensityExceeded)
    assert isinstance(failure.__cause__, ExceptionGroup)
    assert [str(crash) for crash in failure.__cause__.exceptions] == ["1", "2", "3", "4"]


async def test_one_that_takes_a_status_is_ready_when_it_says_so() -> None:
    """Until `started()` it is starting, and its spawner waits."""
    server = Server()
    async with open_system() as system:
        spec = child(task(server.start_and_serve, "hello"))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(system.spawn, spec)
            await settle()
            assert spec.ref.state is ActorState.STARTING
            server.go.set()
        assert spec.ref.state is ActorState.RUNNING
        assert server.log == ["hello"]


async def test_what_is_raised_before_started_is_a_start_failure() -> None:
    """With its true cause, and without a restart."""

    async def fails(*, task_status: TaskStatus[None]) -> None:
        attempts.append("one")
        await settle()
        raise Boom("no port")

    attempts: list[str] = []
    async with open_system() as system:
        with pytest.raises(StartFailed, match="/fails did not start: Boom") as caught:
            await system.spawn(task(fails))
    assert isinstance(caught.value.__cause__, Boom)
    assert attempts == ["one"]


async def test_what_is_raised_after_started_is_a_crash() -> None:
    """And is answered with a restart, for which `started()` counts anew."""

    async def flaky(*, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        runs.append("run")
        task_status.started()
        if len(runs) < 3:
            raise Boom
        await anyio.sleep_forever()

    runs: list[str] = []
    async with open_system() as system:
        ref = await system.spawn(task(flaky))
        await settle()
        assert (ref.state, ref.statistics().restarts) == (ActorState.RUNNING, 2)


async def test_returning_without_started_is_a_start_failure() -> None:
    """The error says what to do about it."""

    async def forgets(task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        await settle()

    async with open_system() as system:
        with pytest.raises(StartFailed) as caught:
            await system.spawn(task(forgets))
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert "forgets returned without calling `task_status.started()`: call it" in str(caught.value.__cause__)


async def test_calling_started_twice_is_an_error_in_the_function() -> None:
    """The same one that anyio's and trio's task groups raise."""

    async def eager(*, task_status: TaskStatus[int]) -> None:
        task_status.started(1)
        try:
            task_status.started(2)
        except RuntimeError as error:
            errors.append(str(error))

    errors: list[str] = []
    async with open_system() as system:
        await (await system.spawn(task(eager))).wait_stopped()
    assert errors == ["called 'started' twice on the same task status"]


async def test_one_that_never_says_started_runs_out_of_time() -> None:
    """The error names the call that was missing."""
    server = Server()
    async with open_system() as system:
        with pytest.raises(StartFailed, match=r"not ready within 0\.01 s.*`task_status\.started\(\)`"):
            await system.spawn(child(task(server.start_and_serve, "x")).options(start_timeout=0.01))


def returns_nothing(number: int) -> int:
    return number


async def generates() -> Any:
    yield 1


@pytest.mark.parametrize("fn", [functools.partial(returns_nothing, 1), generates])
async def test_what_is_no_async_function_fails_to_start(fn: Any) -> None:
    """Only what it returns tells, and the error shows both."""
    async with open_system() as system:
        with pytest.raises(StartFailed) as caught:
            await system.spawn(task(fn))
    assert isinstance(caught.value.__cause__, TypeError)
    assert "task() takes an async function, got" in str(caught.value.__cause__)


# ---- ending


async def test_a_function_that_returns_has_ended_normally() -> None:
    """A transient child stays down after that, and a permanent one is started again."""
    transient, permanent = Server(), Server()
    async with open_system() as system:
        ref = await system.spawn(task(transient.end))
        await ref.wait_stopped()
        assert (ref.state, transient.runs) == (ActorState.STOPPED, 1)
        with pytest.raises(ExceptionGroup):
            async with open_system() as other:
                spec = child(task(permanent.end)).options(restart=Restart.PERMANENT)
                await (await other.spawn(spec)).wait_stopped()
    assert permanent.runs == 4


@pytest.mark.parametrize("stop_timeout", [0, 5, math.inf])
async def test_a_stop_cancels_at_once_what_cannot_hear_it(stop_timeout: float) -> None:
    """Whatever its `stop_timeout` is: nobody waits for what does not come."""
    server = Server()
    with anyio.fail_after(4):
        async with open_system() as system:
            await system.spawn(child(task(server.serve_forever)).options(stop_timeout=stop_timeout))
            await settle()
    assert server.log == ["serving", "cleaned up"]


async def test_a_cleanup_that_shields_itself_is_waited_for() -> None:
    """The stop has ended when the cleanup has."""

    async def careful() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await settle()
                log.append("cleaned up")

    log: list[str] = []
    async with open_system() as system:
        ref = await system.spawn(task(careful))
        await settle()
        await ref.stop()
        log.append("stopped")
    assert log == ["cleaned up", "stopped"]


async def test_what_its_cleanup_raises_is_a_crash_while_stopping() -> None:
    """It leaves the block, as any actor's does."""

    async def careless() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            raise Boom("while stopping")

    with pytest.raises(ExceptionGroup) as caught:
        async with open_system() as system:
            await system.spawn(task(careless))
            await settle()
    assert [str(error) for error in caught.value.exceptions] == ["while stopping"]


async def test_one_that_is_stopped_before_its_first_step_ends() -> None:
    """The stop is not missed by what has not begun: here it comes when the crash has been answered and is logged."""

    class StopSoon(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            assert spec.ref.state is ActorState.STARTING
            spec.ref.stop_soon()

    async def crashes_once() -> None:
        log.append("run")
        if len(log) == 1:
            raise Boom
        await anyio.sleep_forever()

    log: list[str] = []
    spec = child(task(crashes_once)).options(stop_timeout=math.inf)
    handler = StopSoon()
    async with open_system() as system:
        logging.getLogger("rookery.supervision").addHandler(handler)
        try:
            await system.spawn(spec)
            await spec.ref.wait_stopped()
        finally:
            logging.getLogger("rookery.supervision").removeHandler(handler)
    assert log == ["run", "run"]


async def test_a_stop_while_it_starts_fails_the_start() -> None:
    """It cannot hear the stop later, so it is cancelled; its spawner is told why it did not start."""
    server = Server()
    spec = child(task(server.start_and_serve, "hello"))
    async with open_system() as system:

        async def spawn() -> None:
            with pytest.raises(StartFailed) as caught:
                await system.spawn(spec)
            assert isinstance(caught.value.__cause__, ActorStopped)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(spawn)
            await settle()
            await spec.ref.stop()
    assert spec.ref.state is ActorState.STOPPED


async def test_one_that_swallows_its_cancellation_while_it_starts_has_been_stopped() -> None:
    """Returning then is no failure of its own."""

    async def polite(*, task_status: TaskStatus[None]) -> None:
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            return

    spec = child(task(polite))
    async with open_system() as system:

        async def spawn() -> None:
            with pytest.raises(StartFailed) as caught:
                await system.spawn(spec)
            assert isinstance(caught.value.__cause__, ActorStopped)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(spawn)
            await settle()
            spec.ref.stop_soon()


# ---- being a child


async def test_adopted_tasks_are_stopped_in_order_with_the_others() -> None:
    """In reverse order of start, each when the one before is down."""

    async def adopted(name: str) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            log.append(name)

    async def actor(ctx: Context[int], name: str) -> None:
        async for _ in ctx:
            pass
        log.append(name)

    log: list[str] = []
    async with open_system() as system:
        await system.spawn(task(adopted, "first"))
        await system.spawn(actor, "second")
        await system.spawn(task(adopted, "third"))
        await settle()
    assert log == ["third", "second", "first"]


async def test_an_actor_may_own_adopted_tasks() -> None:
    """They end with it."""

    async def owner(ctx: Context[int]) -> None:
        await ctx.spawn(task(server.serve_forever))
        async for _ in ctx:
            pass

    server = Server()
    async with open_system() as system:
        ref = await system.spawn(owner)
        assert system.lookup("/owner/serve_forever").state is ActorState.RUNNING
        await settle()
        await ref.stop()
        assert server.log == ["serving", "cleaned up"]


async def test_an_adopted_task_is_inside_its_actor() -> None:
    """It cannot wait for its own stop, and is told what to call."""

    async def adopted() -> None:
        with pytest.raises(StopFromWithin, match=r"stop_soon\(\)"):
            await spec.ref.stop()
        spec.ref.stop_soon()
        await anyio.sleep_forever()

    spec = child(task(adopted))
    async with open_system() as system:
        await system.spawn(spec)
        await spec.ref.wait_stopped()
    assert spec.ref.state is ActorState.STOPPED


async def test_an_adopted_task_may_ask_actors() -> None:
    """Its main task waits for the answer like any."""

    async def answers(ctx: Context[Question]) -> None:
        async for request in ctx:
            ctx.reply(request, 42)

    async with open_system() as system:
        ref = await system.spawn(answers)
        answers_got: list[int] = []

        async def adopted() -> None:
            answers_got.append(await ref.ask(Question(), timeout=5))

        await (await system.spawn(task(adopted))).wait_stopped()
    assert answers_got == [42]
