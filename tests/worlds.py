"""Stateful tests with a model that does not know what a loop does first: it follows every possibility.

A *world* is one state that the thing under test may be in: a frozen value that lists the worlds which one move of
one task leads to. A step, and whatever tasks do before the loop is at rest, leads from a set of worlds to another;
what is seen then rules out those that look different; when none is left, there is a bug.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, Protocol, Self, TypeVar

from anyio.lowlevel import checkpoint
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from rookery import ActorRef, System
from rookery._core.ref import cell_of
from rookery._core.reply import Ask
from rookery._core.system import engine_of
from stepped import Job, Stepped


class World(Protocol):
    """One state that the thing under test may be in; hashable."""

    def moves(self) -> Iterator[Self]:
        """The worlds that one move of one task leads to."""
        ...

    def inevitable(self) -> Self | None:
        """Where one move leads that will be made in any case and makes no difference to the others, if there is one.

        With it the other moves need not be tried in every order. It may count on no further step being taken.
        """
        ...

    def look(self) -> dict[str, Any]:
        """What can be seen of it."""
        ...

    def forget(self) -> Self:
        """The same without what has been seen and need not be compared again."""
        ...


W = TypeVar("W", bound=World)

Model = Callable[[Any], Iterable[tuple[Any, Any]]]
"""From the world before a step to what the step may say and the world after it."""

Step = tuple[Callable[[], Any], Model, bool]
"""What is done, its model, and whether others may move before it takes effect."""


def reachable(worlds: Iterable[W], only_at_rest: bool = False) -> set[W]:
    """These and all that any number of moves leads to, or only those of them in which nothing can move any more."""
    found: set[W] = set()
    moving: set[W] = set()
    todo = list(worlds)
    while todo:
        world = todo.pop()
        if world not in found:
            found.add(world)
            inevitable = world.inevitable() if only_at_rest else None
            following = list(world.moves()) if inevitable is None else [inevitable]
            todo.extend(following)
            if following:
                moving.add(world)
    return found - moving if only_at_rest else found


class WorldMachine(RuleBasedStateMachine):
    """Takes each step on a real loop and in every possible world.

    A step ``together`` with the next is taken in the same tick: no task runs between them.
    """

    backend: tuple[str, dict[str, Any]]
    at_once = 6
    """So many steps at most are taken together: the more, the more worlds there are."""

    def begin(self, world: Any) -> None:
        self.stepped = Stepped(self.backend)
        self.worlds = {world}
        self.jobs: dict[int, Job] = {}
        self.number = 0
        self._batch: list[Step] = []
        self._broken = False

    def look(self) -> dict[str, Any]:
        """What is seen, in the shape of the world's `look`; jobs that are done can be had from `done_jobs`."""
        raise NotImplementedError

    def finish(self) -> None:
        """At the end of a history in which nothing was wrong: the last steps and checks."""

    def release(self) -> None:
        """Let go of what would keep the loop from ending."""

    def teardown(self) -> None:
        if not hasattr(self, "stepped"):
            return
        try:
            if not self._broken:
                self.rest()
                self.finish()
        finally:
            self.stepped.run(self.release)
            self.stepped.close()

    def next_number(self) -> int:
        self.number += 1
        return self.number

    def start(self, number: int, fn: Callable[[], Awaitable[Any]]) -> None:
        """In the loop: start a numbered job."""
        self.jobs[number] = self.stepped.start(fn)

    def cancel_job(self, number: int, native: bool) -> str:
        """In the loop: cancel a job, unless it is done.

        Returns:
            "native" or "scope". Only in the first case is it sure that what it waits for raises: a scope spares who
            has been woken.
        """
        job = self.jobs.get(number)
        return "scope" if job is None else job.cancel(native)

    def done_jobs(self) -> list[tuple[int, Any]]:
        """Jobs that are done, and what came of them; those seen before are left out."""
        done = {number: job for number, job in self.jobs.items() if job.outcome is not None}
        for number in done:
            del self.jobs[number]
        return sorted((number, job.summary()) for number, job in done.items())

    def step(self, together: bool, do: Callable[[], Any], model: Model, after_others: bool = False) -> None:
        """Do something in the loop, a plain call or an async one, now or together with the steps that follow.

        After others: every task may have moved, or not yet, before it takes effect.
        """
        self._batch.append((do, model, after_others))
        if not together or len(self._batch) == self.at_once:
            batch, self._batch = self._batch, []
            self._broken = True
            self._carry_out(batch)
            self._broken = False

    def rest(self) -> None:
        """Take the steps that are pending, and let the loop come to rest."""
        self.step(False, lambda: None, unseen)

    def a_tick(self) -> None:
        """Every task may have moved, or not yet, before the next step of this batch."""
        self.step(True, checkpoint, unseen, after_others=True)

    def _carry_out(self, batch: list[Step]) -> None:
        said = self.stepped.run(self._do_all, [do for do, _, _ in batch])
        for (_, model, after_others), result in zip(batch, said, strict=True):
            before = reachable(self.worlds) if after_others else self.worlds
            expected = {answer for world in before for answer in model(world)}
            self.worlds = {after for answer, after in expected if answer == result}
            assert self.worlds, f"{result!r} instead of {[answer for answer, _ in expected]}"
        self._compare(self.look())

    async def _do_all(self, steps: list[Callable[[], Any]]) -> list[Any]:
        said = []
        for do in steps:
            try:
                result = do()
                said.append(await result if isinstance(result, Awaitable) else result)
            except Exception as error:  # noqa: BLE001  # the model knows which
                said.append(type(error).__name__)
        return said

    def _compare(self, seen: dict[str, Any]) -> None:
        possible = reachable(self.worlds, only_at_rest=True)
        self.worlds = {world.forget() for world in possible if world.look() == seen}
        if not self.worlds:
            others = sorted({str(_differences(world.look(), seen)) for world in possible}, key=len)
            raise AssertionError(f"seen:\n  {seen}\npossible instead:\n  " + "\n  ".join(others[:10]))


def run_machine(machine: type[WorldMachine], backend: tuple[str, dict[str, Any]], times: int) -> None:
    """Run a machine on a loop, with so many times the profile's examples: one is a matter of milliseconds.

    The nightly profile has enough of them as it is.
    """
    profile = settings.default.max_examples
    examples = max(profile, min(times * profile, 1000))
    run_state_machine_as_test(
        type(machine.__name__, (machine,), {"backend": backend}), settings=settings(max_examples=examples)
    )


def set_turns(system: System, clock: Iterator[float]) -> None:
    """Measure the turns of a system's tasks by this clock instead of real time, which no test can repeat."""
    turn = engine_of(system).turn
    turn.clock = lambda: next(clock)
    turn.renew()


def queue_of(ref: ActorRef[Any]) -> list[int]:
    """The numbers of what is in an actor's mailbox, in the order in which it will receive it."""
    cell = cell_of(ref)
    assert cell is not None
    queued = [item.request if isinstance(item, Ask) else item for item, _ in cell.mailbox._queue]
    return [message.number for message in queued]


def unseen(world: Any) -> list[tuple[None, Any]]:
    """The model of a step that changes nothing."""
    return [(None, world)]


def _differences(possible: dict[str, Any], seen: dict[str, Any]) -> dict[str, Any]:
    return {what: value for what, value in possible.items() if value != seen[what]}
