"""The system as a whole: its tree, its names, several at once, and random lives of a small one."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import anyio
import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rookery import (
    ActorCrashed,
    ActorRef,
    ActorState,
    ActorStopped,
    AskTimeout,
    Context,
    Intensity,
    MailboxFull,
    Overflow,
    Reason,
    Request,
    Restart,
    RestartIntensityExceeded,
    System,
    UnknownActor,
    WrongLoop,
    child,
    message,
    open_system,
)
from support import settle


async def idle(ctx: Context[Any]) -> None:
    """Receives, and does nothing with it; crashes on "crash"."""
    async for item in ctx:
        if item == "crash":
            raise ValueError(item)


async def family(ctx: Context[Any], names: str) -> None:
    """Has children of these names."""
    for name in names:
        await ctx.spawn(idle, name=name)
    await idle(ctx)


# ---- the tree and its names


async def test_the_tree_shows_names_states_queues_and_restarts() -> None:
    """One line for each live actor, below its parent, in start order."""
    async with open_system(name="colony") as system:
        assert system.tree() == system.name == "colony"
        first = await system.spawn(family, "xy", name="first")
        second = await system.spawn(child(idle).options(name="second", capacity=7))
        await system.spawn(family, "z", name="third")
        second.send_nowait("crash")
        await settle()
        await second.pause()
        second.send_nowait("queued")
        expected = """\
colony
├── first  running  queue 0/1000
│   ├── x  running  queue 0/1000
│   └── y  running  queue 0/1000
├── second  paused  queue 1/7  restarts 1
└── third  running  queue 0/1000
    └── z  running  queue 0/1000"""
        assert system.tree() == expected
        await first.stop()
        assert "first" not in system.tree()
        assert "x" not in system.tree()


async def test_lookup_by_name_and_by_path() -> None:
    """A name is that of a child of the root; everybody else has a path."""
    async with open_system() as system:
        ref = await system.spawn(family, "ab")
        kid = system.lookup("/family/a")
        assert system.lookup("family") is ref
        assert system.lookup("/family") is ref
        assert (kid.name, kid.path) == ("a", "/family/a")
        with pytest.raises(UnknownActor, match=r"no live actor '/famly'; did you mean /family"):
            system.lookup("famly")
        with pytest.raises(UnknownActor, match=r"'/a'"):
            system.lookup("a")
        with pytest.raises(UnknownActor, match=r"print\(system.tree\(\)\)"):
            system.lookup("/nothing/like/it")
        await ref.stop()
        with pytest.raises(UnknownActor):
            system.lookup("/family/a")


async def test_the_context_knows_its_place() -> None:
    """Name, path, incarnation, system, and a logger named after the path."""
    seen: list[Any] = []

    async def curious(ctx: Context[Any]) -> None:
        seen.extend([ctx.name, ctx.self.path, ctx.incarnation, ctx.system, ctx.logger.name, ctx.stopping])
        await idle(ctx)

    async def owner(ctx: Context[Any]) -> None:
        await ctx.spawn(curious)
        await idle(ctx)

    async with open_system() as system:
        await system.spawn(owner)
    assert seen == ["curious", "/owner/curious", 1, system, "rookery.actor.owner.curious", False]


# ---- several systems


async def test_systems_do_not_know_each_other() -> None:
    """Names, dead letters and failures are each system's own."""
    async with open_system() as one, open_system() as other:
        await one.spawn(idle)
        ref = await other.spawn(idle)
        assert other.lookup("idle") is ref
        await ref.pause()
        await ref.send("unread")
        await ref.stop()
        assert (one.dead_letters.statistics().total, other.dead_letters.statistics().total) == (0, 1)


async def test_a_spec_can_run_in_one_system_after_another() -> None:
    """Its reference leads to the latest."""
    spec = child(idle)
    for _ in range(2):
        async with open_system() as system:
            ref = await system.spawn(spec)
            assert (ref, ref.state) == (spec.ref, ActorState.RUNNING)
        assert ref.state is ActorState.STOPPED


async def test_nobody_is_spawned_from_another_thread() -> None:
    """The error names the way to do it, and that way works."""
    async with open_system() as system:

        def elsewhere() -> None:
            with pytest.raises(WrongLoop, match=r"anyio.from_thread.run\(system.spawn, behaviour\)"):
                system.spawn(idle).send(None)
            anyio.from_thread.run(system.spawn, idle)

        await anyio.to_thread.run_sync(elsewhere)
        assert system.lookup("idle").state is ActorState.RUNNING


def test_systems_in_several_threads() -> None:
    """Each on a loop of its own, of either kind, at the same time."""
    together = threading.Barrier(4, timeout=10)
    outcomes: list[int] = []

    async def main() -> None:
        async with open_system() as system:
            ref = await system.spawn(worker)
            await anyio.to_thread.run_sync(together.wait)
            outcomes.append(await ref.ask(Task(1, "reply"), timeout=10))

    threads = [threading.Thread(target=anyio.run, args=(main,), kwargs={"backend": kind}) for kind in LOOPS * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert outcomes == [1] * 4


LOOPS = ["trio", "asyncio"]


# ---- random lives


@message
class Task(Request[int]):
    """A numbered piece of work, and what its actor does with it."""

    number: int
    act: str


async def worker(
    ctx: Context[Task], handled: list[int] | None = None, others: list[ActorRef[Task]] | None = None
) -> None:
    """Does what each message says, and writes down its number first."""
    kept: list[Task] = []

    async def answer_later(task: Task) -> None:
        await settle()
        ctx.reply(task, task.number)

    async for task in ctx:
        if handled is not None:
            handled.append(task.number)
        match task.act:
            case "reply":
                ctx.reply(task, task.number)
            case "fail":
                ctx.fail(task, OSError(task.number))
            case "crash":
                raise ValueError(task.number)
            case "return":
                return
            case "keep":
                kept.append(task)
            case "answer all":
                for old in kept:
                    ctx.reply(old, old.number)
                kept.clear()
                ctx.reply(task, task.number)
            case "slow":
                await settle()
                ctx.reply(task, task.number)
            case "later":
                ctx.start_soon(answer_later, task)
            case "forward" if others:
                ctx.forward(task, others[task.number % len(others)])
            case _:
                pass


ACTS = ["reply", "reply", "fail", "crash", "return", "keep", "answer all", "slow", "later", "forward", "ignore"]

actors = st.integers(0, 2)
deliveries = st.tuples(
    st.sampled_from(["send", "send", "send_nowait", "ask", "ask", "ask in time"]),
    actors,
    st.sampled_from(ACTS),
    st.sampled_from([0, 128, 128, 255]),
)
commands = st.tuples(st.sampled_from(["pause", "resume", "stop_soon", "stop", "drain"]), actors)
cancellations = st.tuples(st.just("cancel"), st.integers(0, 40))
pauses = st.tuples(st.just("tick"), st.integers(1, 4))
specs = st.fixed_dictionaries(
    {
        "capacity": st.sampled_from([1, 2, 3, 100]),
        "overflow": st.sampled_from(Overflow),
        "restart": st.sampled_from(Restart),
        "stop_timeout": st.sampled_from([0.0, 5.0, 5.0]),
    }
)


@attrs.define
class Delivery:
    """One attempt to deliver, and what its sender got."""

    number: int
    how: str
    act: str
    scope: anyio.CancelScope
    outcome: Any = None


class Script:
    """Carries out random commands; every command that may wait is a task of its own."""

    def __init__(self, tasks: anyio.abc.TaskGroup, options: list[dict[str, Any]]) -> None:
        self.tasks = tasks
        self.handled: list[int] = []
        self.deliveries: list[Delivery] = []
        refs: list[ActorRef[Task]] = []
        self.specs = [
            child(worker, self.handled, refs).options(name=str(number), **given) for number, given in enumerate(options)
        ]
        refs.extend(spec.ref for spec in self.specs)
        self.refs = refs

    async def run(self, system: System, steps: list[tuple[Any, ...]]) -> None:
        for spec in self.specs:
            await system.spawn(spec)
        for step in steps:
            match step:
                case ("cancel", which):
                    if self.deliveries:
                        self.deliveries[which % len(self.deliveries)].scope.cancel()
                case ("tick", times):
                    for _ in range(times):
                        await anyio.lowlevel.checkpoint()
                case (command, which):
                    self.tasks.start_soon(self.command, command, self.refs[which])
                case (how, which, act, priority):
                    delivery = Delivery(len(self.deliveries), how, act, anyio.CancelScope())
                    self.deliveries.append(delivery)
                    task = Task(delivery.number, act)
                    self.tasks.start_soon(self.deliver, delivery, self.refs[which], task, priority)

    async def command(self, command: str, ref: ActorRef[Task]) -> None:
        try:
            match command:
                case "stop_soon":
                    ref.stop_soon()
                case "stop" | "drain":
                    await ref.stop(drain=command == "drain")
                case "pause":
                    await ref.pause()
                case _:
                    await ref.resume()
        except ActorStopped:
            pass

    async def deliver(self, delivery: Delivery, ref: ActorRef[Task], task: Task, priority: int) -> None:
        delivery.outcome = "cancelled"
        with delivery.scope:
            try:
                match delivery.how:
                    case "send":
                        await ref.send(task, priority=priority)
                        delivery.outcome = "sent"
                    case "send_nowait":
                        ref.send_nowait(task, priority=priority)
                        delivery.outcome = "sent"
                    case _:
                        timeout = 0.001 if delivery.how == "ask in time" else None
                        answer = await ref.ask(task, priority=priority, timeout=timeout)
                        assert answer == delivery.number
                        delivery.outcome = "answered"
            except (ActorStopped, ActorCrashed, AskTimeout, MailboxFull, OSError) as error:
                delivery.outcome = type(error)

    def check(self, dead: Counter[int]) -> None:
        """Every message was handled or is a dead letter or was never accepted, and no two of these."""
        handled = Counter(self.handled)
        for delivery in self.deliveries:
            times_handled, times_dead = handled[delivery.number], dead[delivery.number]
            if delivery.how.startswith("ask"):
                # Each forward hands a request on: to be handled once more, or to be a dead letter in the end.
                assert times_dead <= 1, delivery
                assert delivery.outcome != "answered" or (times_handled >= 1 and times_dead == 0), delivery
                assert times_handled <= 1 or delivery.act == "forward", delivery
                assert times_handled + times_dead <= 1 or delivery.act == "forward", delivery
            else:
                expected = 1 if delivery.outcome == "sent" else 0
                assert times_handled + times_dead == expected, delivery


@given(
    st.lists(specs, min_size=3, max_size=3),
    st.lists(deliveries | deliveries | commands | cancellations | pauses, max_size=40),
    st.sampled_from([Intensity(1000, per=1.0), Intensity(1, per=60.0)]),
)
async def test_nothing_is_lost_and_nobody_is_stuck(
    options: list[dict[str, Any]], steps: list[tuple[Any, ...]], intensity: Intensity
) -> None:
    """Whatever happens: sent = handled + dead letters, nothing is delivered twice, and every caller gets an answer."""
    failures: list[BaseException] = []
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            script = Script(tasks, options)
            try:
                async with open_system(intensity=intensity) as system:
                    await script.run(system, steps)
            # A ValueError is a scripted crash that came up while the tree was being stopped.
            except* (RestartIntensityExceeded, ActorStopped, ValueError) as group:
                failures.extend(group.exceptions)
    assert all(delivery.outcome is not None for delivery in script.deliveries)
    statistics = system.dead_letters.statistics()
    letters = system.dead_letters.recent
    assert len(letters) == statistics.total
    answers = {Reason.NOT_ASKED, Reason.LATE_REPLY}
    script.check(Counter(letter.message.number for letter in letters if letter.reason not in answers))
    assert {ref.state for ref in script.refs} <= {ActorState.STOPPED, ActorState.FAILED, ActorState.NEW}
    assert all(ref.statistics().unanswered == 0 for ref in script.refs if ref.state is not ActorState.NEW)
