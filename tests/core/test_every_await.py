"""Cancellation at every await: fixed scenarios, repeated with one task interrupted at its first await, its second, ...

Two run the same scenario side by side, the victim and a rival. Wherever the victim is interrupted, the rival comes
through, and what the victim sent was handled or is a dead letter if it is known to be sent, and was never there if not.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from types import coroutine
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from rookery import ActorRef, ActorState, Context, Request, System, child, message, open_system
from support import settle
from worlds import set_turns

FINAL = {ActorState.STOPPED, ActorState.FAILED}
HOWS = ["scope", "native", "native, when woken"]


@message
class Task(Request[int]):
    number: int


@coroutine
def interrupted_at(
    which: int, run: Coroutine[Any, Any, Any], interrupt: Callable[[Any], object]
) -> Generator[Any, Any, int]:
    """Run something, and interrupt it just as it is about to wait for the so-manieth time.

    Returns:
        How often it has waited; fewer times than ``which`` if it was not interrupted.
    """
    waited, resume, value = 0, run.send, None
    while True:
        try:
            awaited = resume(value)
        except StopIteration:
            return waited
        waited += 1
        if waited == which:
            interrupt(awaited)
        try:
            resume, value = run.send, (yield awaited)
        except BaseException as error:  # noqa: BLE001  # goes where it was meant to go
            resume, value = run.throw, error


class Victim:
    """A task that is interrupted at one of its awaits."""

    def __init__(self, which: int, how: str) -> None:
        self.reached = False
        self.over = anyio.Event()
        self._which = which
        self._how = how
        self._scope = anyio.CancelScope()
        self._task: asyncio.Task[None] | None = None

    def start(self, tasks: anyio.abc.TaskGroup, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if self._how == "scope":
            tasks.start_soon(self._run, run)
        else:
            self._task = asyncio.create_task(self._run(run))

    async def _run(self, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            with self._scope:
                await interrupted_at(self._which, run(), self._interrupt)
        finally:
            self.over.set()

    def _interrupt(self, awaited: Any) -> None:
        self.reached = True
        match self._how:
            case "scope":
                self._scope.cancel()
            case "native":
                asyncio.current_task().cancel()
            case _ if awaited is None:  # a mere checkpoint: nobody wakes it
                asyncio.current_task().cancel()
            case _:
                # Called before the task's own callback: in the tick in which it is woken, and before it has resumed.
                task = asyncio.current_task()
                awaited.add_done_callback(lambda _: task.cancel())

    def check(self) -> None:
        """What is cancelled natively knows it."""
        if self._task is not None:
            assert self._task.cancelled() == self.reached


class Scene:
    """A system in which two clients do the same, and its books."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.numbers = itertools.count()
        self.delivered: dict[int, bool] = {}
        """Messages, and whether sending them returned."""
        self.asked: set[int] = set()
        self.handled: list[int] = []
        self.by_client: dict[str, list[int]] = {}
        self.own: dict[str, ActorRef[Any]] = {}
        self.spawned: set[str] = set()
        self.came_through: set[str] = set()

    async def open(self) -> None:
        self.server: ActorRef[Any] = await self.system.spawn(child(self.serve).options(capacity=1))

    async def serve(self, ctx: Context[Task]) -> None:
        """Slow enough for its mailbox to be full."""
        async for task in ctx:
            self.handled.append(task.number)
            await checkpoint()
            ctx.reply(task, task.number)

    async def slow(self, ctx: Context[Task]) -> None:
        await checkpoint()
        await checkpoint()
        await self.serve(ctx)

    async def client(self, name: str) -> None:
        """Uses everything that waits."""
        for _ in range(3):
            await self.send(name, self.server)
        await self.ask(name, self.server)
        await self.ask(name, self.server, timeout=3600)
        await self.send(name, self.server)
        spec = child(self.slow).options(name=name)
        self.own[name] = spec.ref
        await self.system.spawn(spec)
        self.spawned.add(name)
        await spec.ref.pause()
        await self.send(name, spec.ref)
        await spec.ref.resume()
        await spec.ref.stop(drain=True)
        await spec.ref.wait_stopped()
        self.came_through.add(name)

    async def send(self, name: str, ref: ActorRef[Any]) -> None:
        await self.deliver(name, ref.send)

    async def ask(self, name: str, ref: ActorRef[Any], timeout: float | None = None) -> None:
        async def ask(task: Task) -> None:
            self.asked.add(task.number)
            assert await ref.ask(task, timeout=timeout) == task.number

        await self.deliver(name, ask)

    async def deliver(self, name: str, how: Callable[[Task], Awaitable[None]]) -> None:
        task = Task(next(self.numbers))
        self.by_client.setdefault(name, []).append(task.number)
        self.delivered[task.number] = False
        await how(task)
        self.delivered[task.number] = True

    async def check(self) -> None:
        """The books are right, and the system is as good as before."""
        await settle()
        await self.ask("the next", self.server)
        after = self.server.statistics()
        assert (after.queued, after.blocked_senders, after.unanswered) == (0, 0, 0)
        await self.check_own("victim")
        self.check_messages()

    async def check_own(self, name: str) -> None:
        """A spawn that was cancelled took its actor along; what was spawned can be stopped; the name is free again."""
        if name in self.own and self.own[name].state is not ActorState.NEW:
            assert name in self.spawned or self.own[name].state in FINAL
            await self.own[name].stop()
            await self.system.spawn(child(self.serve).options(name=name))

    def check_messages(self) -> None:
        dead = Counter(letter.message.number for letter in self.letters())
        for number, delivered in self.delivered.items():
            seen = self.handled.count(number) + dead[number]
            assert seen == delivered or (number in self.asked and seen <= 1), number
        for numbers in self.by_client.values():
            assert [number for number in self.handled if number in numbers] == [n for n in numbers if n in self.handled]

    def letters(self) -> Iterator[Any]:
        return (letter for letter in self.system.dead_letters.recent if isinstance(letter.message, Task))


def hows(anyio_backend: tuple[str, dict[str, Any]]) -> list[str]:
    return HOWS if anyio_backend[0] == "asyncio" else HOWS[:1]


async def at_every_await(
    anyio_backend: tuple[str, dict[str, Any]], scenario: Callable[[Victim], Awaitable[None]], at_least: int
) -> None:
    """Repeat a scenario until the victim waits less often than that."""
    for how in hows(anyio_backend):
        for which in itertools.count(1):
            victim = Victim(which, how)
            with anyio.fail_after(20):
                await scenario(victim)
            if not victim.reached:
                break
        assert which > at_least


@pytest.mark.parametrize("short_turns", [False, True])
async def test_a_client_that_is_cancelled_anywhere_harms_nobody(anyio_backend, short_turns: bool):
    """What it did is done or not done; the rival behind it comes through, and the system is as good as before."""

    async def scenario(victim: Victim) -> None:
        async with open_system() as system, anyio.create_task_group() as tasks:
            if short_turns:
                set_turns(system, itertools.count())
            scene = Scene(system)
            await scene.open()
            victim.start(tasks, lambda: scene.client("victim"))
            tasks.start_soon(scene.client, "rival")
            await victim.over.wait()
            while "rival" not in scene.came_through:
                await settle()
            await scene.check()
            victim.check()
            assert ("victim" in scene.came_through) is not victim.reached

    await at_every_await(anyio_backend, scenario, at_least=10)


@pytest.mark.parametrize("short_turns", [False, True])
async def test_an_actor_that_is_cancelled_anywhere_leaves_nobody_waiting(short_turns: bool):
    """Stopped without a grace at each of its awaits: whoever asks is told, its child ends, no message is lost."""
    for which in itertools.count(1):
        with anyio.fail_after(20):
            async with open_system() as system, anyio.create_task_group() as tasks:
                if short_turns:
                    set_turns(system, itertools.count())
                came_through = await _interrupted_actor(system, tasks, which)
        if came_through:
            break
    assert which > 8


async def _interrupted_actor(system: System, tasks: anyio.abc.TaskGroup, which: int) -> bool:
    """Whether it was over before."""
    reached = anyio.Event()
    scene = Scene(system)
    await scene.open()
    outcomes: list[str] = []

    async def behave(ctx: Context[Task]) -> None:
        try:
            await interrupted_at(which, body(ctx), lambda _: reached.set())
        finally:
            outcomes.append("cleaned up")

    async def stop() -> None:
        """From another task: whoever is about to wait cannot be woken by itself."""
        await reached.wait()
        ref.stop_soon()

    async def body(ctx: Context[Task]) -> None:
        kept = await ctx.receive()
        scene.handled.append(kept.number)
        for task in await ctx.receive_batch(2):
            handle(ctx, task)
        kid = await ctx.spawn(child(scene.slow).options(name="kid"))
        kids.append(kid)
        await scene.send("actor", kid)
        await scene.ask("actor", kid)
        await scene.ask("actor", scene.server, timeout=3600)
        handle(ctx, await ctx.receive(timeout=3600))
        ctx.reply(kept, kept.number)
        await kid.stop(drain=True)
        async for task in ctx:
            handle(ctx, task)
            await checkpoint()

    def handle(ctx: Context[Task], task: Task) -> None:
        scene.handled.append(task.number)
        ctx.reply(task, task.number)

    async def asker(number: int) -> None:
        try:
            await scene.ask(f"asker {number}", ref)
        except Exception as error:  # noqa: BLE001  # counted below
            outcomes.append(type(error).__name__)
        else:
            outcomes.append("answered")

    kids: list[ActorRef[Any]] = []
    ref = await system.spawn(child(behave).options(stop_timeout=0, capacity=2))
    tasks.start_soon(stop)
    for number in range(6):
        tasks.start_soon(asker, number)
    while len(outcomes) < 6:
        await settle()
    came_through = not reached.is_set()
    reached.set()
    await ref.wait_stopped()
    await settle()
    assert Counter(outcomes)["cleaned up"] == 1
    assert set(outcomes) <= {"cleaned up", "answered", "ActorStopped"}
    assert ref.state is ActorState.STOPPED
    assert all(kid.state in FINAL for kid in kids)
    scene.check_messages()
    return came_through


async def test_a_host_that_is_cancelled_anywhere_takes_its_tree_along(anyio_backend):
    """In the block's first line, in its body and while it is left: every actor has ended, its cleanup run."""

    async def scenario(victim: Victim) -> None:
        begun: list[str] = []
        ended: list[str] = []
        refs: list[ActorRef[Any]] = []

        async def owner(ctx: Context[Task]) -> None:
            begun.append("owner")
            try:
                refs.append(await ctx.spawn(child(leaf).options(stop_timeout=math.inf)))
                await leaf(ctx)
            finally:
                ended.append("owner")

        async def leaf(ctx: Context[Task]) -> None:
            begun.append("leaf")
            try:
                async for task in ctx:
                    ctx.reply(task, task.number)
                with anyio.CancelScope(shield=True):
                    await checkpoint()
            finally:
                ended.append("leaf")

        async def host() -> None:
            async with open_system() as system:
                for _ in range(2):
                    refs.append(await system.spawn(child(owner).options(stop_timeout=math.inf)))
                    assert await refs[-1].ask(Task(1)) == 1
                await refs[-1].stop()
                await checkpoint()

        async with anyio.create_task_group() as tasks:
            victim.start(tasks, host)
            await victim.over.wait()
            await settle()
        assert Counter(begun) == Counter(ended)
        assert all(ref.state in FINAL for ref in refs)
        victim.check()

    await at_every_await(anyio_backend, scenario, at_least=8)
