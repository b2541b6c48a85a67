"""A tree of three levels that is cancelled from outside at every moment in turn, and twice in a row: order, grace, leaks.

Supervisors and actors with children of their own, all of whose cleanup awaits, are started, used, restarted and
stopped. The same life is repeated with its host cancelled at its first await, its second, ..., and after one pass of
the loop, two passes, ... Whatever is going on at that moment, every level is taken down in reverse of its start,
everybody who began to receive has cleaned up, and neither a task nor somebody who waits is left.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from types import coroutine
from typing import Any, Self

import anyio
import pytest
from anyio.lowlevel import checkpoint

from rookery import (
    ActorCrashed,
    ActorRef,
    ActorState,
    ActorStopped,
    ChildSpec,
    Context,
    NotStarted,
    Request,
    Strategy,
    SupervisorSpec,
    child,
    message,
    open_system,
    supervisor,
)
from support import settle

FINAL = {ActorState.STOPPED, ActorState.FAILED}


@message
class Ping(Request[str]):
    pass


# ---- the tree


class Tree:
    """Three levels, and a diary: who started (``+``), cleaned up (``-``), crashed (``x``), or was cancelled instead (``!``)."""

    def __init__(self) -> None:
        self.diary: list[str] = []
        self.leaving = False
        self.refs: set[ActorRef[Any]] = set()
        self.c, self.d = self._leaf("c"), self._leaf("d")
        low = supervisor(self.c, self.d, name="low", strategy=Strategy.ONE_FOR_ALL)
        mid = supervisor(self._leaf("b"), low, self._spec(self.owner, "owner"), name="mid")
        self.top: SupervisorSpec = supervisor(self._leaf("a"), mid, self._leaf("e"), name="top")
        # Under a supervisor: an actor whose own spawn is cancelled is cancelled with it, and has no grace.
        self.dynamic = supervisor(self._spec(self.owner, "owner"), name="dynamic")
        self.refs |= {low.ref, mid.ref, self.top.ref, self.dynamic.ref}

    def _leaf(self, name: str) -> ChildSpec[Any]:
        return self._spec(self.leaf, name)

    def _spec(self, behaviour: Callable[[Context[Any]], Awaitable[None]], name: str) -> ChildSpec[Any]:
        spec = child(behaviour).options(name=name, stop_timeout=math.inf)
        self.refs.add(spec.ref)
        return spec

    async def leaf(self, ctx: Context[Any]) -> None:
        with self.noted(ctx) as note:
            await checkpoint()
            await self.live(ctx)
            note.cleaned_up = True

    async def owner(self, ctx: Context[Any]) -> None:
        """Has children of its own, one of them a supervisor."""
        with self.noted(ctx) as note:
            kids = supervisor(self._leaf("k"), self._leaf("l"), name="kids")
            self.refs.add(kids.ref)
            try:
                await ctx.spawn(self._leaf("j"))
                await ctx.spawn(kids)
            except ActorStopped:  # it was told to stop while it starts
                note.cleaned_up = True
                raise
            await self.live(ctx)
            note.cleaned_up = True

    async def live(self, ctx: Context[Any]) -> None:
        async for item in ctx:
            if isinstance(item, Exception):
                await checkpoint()
                raise item
            ctx.reply(item, ctx.name)
        for _ in range(3):
            await checkpoint()

    def noted(self, ctx: Context[Any]) -> Note:
        return Note(self.diary, ctx.self.path)

    # ---- what must hold

    def check(self, *, grace: bool = True) -> None:
        """Everything has ended, each level in reverse of its start: after all that began behind it, however deep."""
        live: set[str] = set()
        began: dict[str, int] = {}
        crashed: dict[str, str] = {}  # under which parent who has not begun again
        for line in self.diary:
            what, path = line[0], line[1:]
            parent = path.rpartition("/")[0]
            if what == "+":
                live.add(path)
                if crashed.get(parent) == path:
                    del crashed[parent]
                for each in lineage(path):
                    began.setdefault(each, len(began))
                continue
            live.remove(path)
            assert what != "!" or not grace, (line, self.diary)
            if what == "x":
                crashed[parent] = path
            for other in live:
                mine, its = parting(path, other)
                # A crash and the group restart after it concern one supervisor's children only.
                concerned = parent not in crashed or (what != "x" and other.startswith(f"{parent}/"))
                assert not concerned or began[its] < began[mine], (line, other, self.diary)
        assert not live, self.diary
        assert all(ref.state in FINAL | {ActorState.NEW} for ref in self.refs), self.refs


def parting(path: str, other: str) -> tuple[str, str]:
    """The siblings from which two actors descend; what is an ancestor of the other counts as begun later."""
    mine, its = list(lineage(path)), list(lineage(other))
    pairs = (pair for pair in zip(mine, its, strict=False) if pair[0] != pair[1])
    return next(pairs, (max(path, other, key=len), min(path, other, key=len)))


def lineage(path: str) -> Iterator[str]:
    """A path's ancestors, the topmost first, and itself."""
    names = path.split("/")
    return ("/".join(names[:depth]) for depth in range(2, len(names) + 1))


class Note:
    """Writes when an actor starts and ends."""

    def __init__(self, diary: list[str], path: str) -> None:
        self._diary = diary
        self._path = path
        self.cleaned_up = False

    def __enter__(self) -> Self:
        self._diary.append(f"+{self._path}")
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self._diary.append(f"{self._how(error)}{self._path}")

    def _how(self, error: BaseException | None) -> str:
        if isinstance(error, anyio.get_cancelled_exc_class()) and not self.cleaned_up:
            return "!"
        return "x" if isinstance(error, ValueError) else "-"


# ---- its host


async def host(tree: Tree) -> None:
    """Opens the tree, adds to it, uses it, has a part of it restart, stops a part of it, and leaves."""
    async with open_system() as system:
        top = await system.spawn(tree.top)
        await top.spawn(tree.dynamic)
        assert await tree.c.ref.ask(Ping()) == "c"
        await tree.d.ref.send(ValueError("restart the two of them"))
        assert await tree.c.ref.ask(Ping()) == "c"
        await top.restart_child(tree.dynamic.ref)
        await top.stop_child(tree.dynamic.ref)
        await checkpoint()
        tree.leaving = True


async def asks(tree: Tree, over: anyio.Event) -> None:
    """Somebody outside, who must never be left waiting."""
    while not over.is_set():
        try:
            assert await tree.c.ref.ask(Ping()) == "c"
        except NotStarted:
            pass
        except (ActorStopped, ActorCrashed):
            if tree.c.ref.state in FINAL:
                return
        await checkpoint()


# ---- how it is cancelled


class Cancellation:
    """Cancels a host once or more; each time from another scope around it, or natively."""

    def __init__(self, tree: Tree, how: str, times: int) -> None:
        self.how = how
        self.over = anyio.Event()
        self.done = 0
        self.hurries = False  # a native one while the tree is being stopped ends every grace
        self._disturbs = False  # one came before the host did nothing but wait for the end of its tree
        self._tree = tree
        self._scopes = [anyio.CancelScope() for _ in range(times)]
        self._task: asyncio.Task[None] | None = None

    def start(self, tasks: anyio.abc.TaskGroup, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if self.how == "scope":
            tasks.start_soon(self._run, run)
        else:
            self._task = asyncio.create_task(self._run(run))

    async def _run(self, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        outer, inner = self._scopes[-1], self._scopes[0]
        try:
            with outer if outer is not inner else anyio.CancelScope(), inner:
                await run()
        finally:
            self.over.set()

    def now(self) -> None:
        """Cancel once more."""
        self._disturbs |= not self._tree.leaving
        if self._task is None:
            self._scopes[self.done].cancel()
        else:
            self.hurries = self.done > 0 or self._tree.leaving
            self._task.cancel()
        self.done += 1

    def check(self) -> None:
        """A cancellation arrives in the end where it belongs, whatever was going on.

        Of scopes that is the outermost one that was cancelled; and none, if all that the host did was to wait for the
        end of its tree, which a scope does not interrupt. A native one is raised even then.
        """
        if self._task is None:
            caught = [scope for scope in self._scopes if scope.cancelled_caught]
            assert caught == (self._scopes[self.done - 1 : self.done] if self._disturbs else [])
        else:
            assert self._task.done()
            assert self._task.cancelled() == (self.done > 0)


@coroutine
def interrupted_at(
    moments: tuple[int, ...], run: Coroutine[Any, Any, None], interrupt: Callable[[], object]
) -> Generator[Any, Any, None]:
    """Run something, and interrupt it as it is about to wait at these times; each is counted from the one before."""
    left = list(moments)
    resume, value = run.send, None
    while True:
        try:
            awaited = resume(value)
        except StopIteration:
            return
        if left:
            left[0] -= 1
            if not left[0]:
                del left[0]
                interrupt()
        try:
            resume, value = run.send, (yield awaited)
        except BaseException as error:  # noqa: BLE001  # goes where it was meant to go
            resume, value = run.throw, error


async def at_its_awaits(tree: Tree, cancellation: Cancellation, moments: tuple[int, ...]) -> None:
    async with anyio.create_task_group() as tasks:
        cancellation.start(tasks, lambda: interrupted_at(moments, host(tree), cancellation.now))
        tasks.start_soon(asks, tree, cancellation.over)
        await cancellation.over.wait()


async def after_passes(tree: Tree, cancellation: Cancellation, moments: tuple[int, ...]) -> None:
    """From another task, after so many passes of the loop: whatever anybody in the tree is doing then."""
    async with anyio.create_task_group() as tasks:
        cancellation.start(tasks, lambda: host(tree))
        tasks.start_soon(asks, tree, cancellation.over)
        for passes in moments:
            for _ in range(passes):
                await checkpoint()
            if cancellation.over.is_set():
                break
            cancellation.now()
        await cancellation.over.wait()


async def lives(moments: tuple[int, ...], how: str, place: Any) -> bool:
    """One life, cancelled at these moments; whether it came to the last of them."""
    tree = Tree()
    cancellation = Cancellation(tree, how, len(moments))
    before = len(anyio.get_running_tasks())
    with anyio.fail_after(20):
        await place(tree, cancellation, moments)
        await settle()
    tree.check(grace=not cancellation.hurries)
    cancellation.check()
    assert len(anyio.get_running_tasks()) == before
    return cancellation.done == len(moments)


@pytest.fixture(scope="module")
def anyio_backend(anyio_backend: tuple[str, dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    """Without asyncio's debug mode, which takes most of the time."""
    name, options = anyio_backend
    return name, {key: value for key, value in options.items() if key != "debug"}


def hows(anyio_backend: tuple[str, dict[str, Any]]) -> Iterator[str]:
    yield "scope"
    if anyio_backend[0] == "asyncio":
        yield "native"


PLACES = pytest.mark.parametrize("place", [at_its_awaits, after_passes])


# ---- tests


async def test_a_tree_of_three_levels_stops_in_reverse_of_its_start() -> None:
    """Undisturbed, so that it is seen what the others disturb."""
    tree = Tree()
    await host(tree)
    tree.check()
    start = ["/top/a", "/top/mid/b", "/top/mid/low/c", "/top/mid/low/d", "/top/mid/owner"]
    assert [line for line in tree.diary if line[0] == "+"][:5] == [f"+{path}" for path in start]
    order = ["owner", "owner/kids/l", "owner/kids/k", "owner/j", "low/d", "low/c", "b"]
    assert tree.diary[-9:] == ["-/top/e", *(f"-/top/mid/{path}" for path in order), "-/top/a"]


@PLACES
async def test_a_cancellation_from_outside_at_every_moment_keeps_order_and_grace_and_leaks_nothing(
    anyio_backend: tuple[str, dict[str, Any]], place: Any
) -> None:
    """At every await of the host, and after every pass of the loop, by a scope and natively."""
    for how in hows(anyio_backend):
        moment = 1
        while await lives((moment,), how, place):
            moment += 1
        assert moment > (8 if place is at_its_awaits else 100)


@PLACES
async def test_a_second_cancellation_at_every_moment_keeps_the_order_and_leaks_nothing(
    anyio_backend: tuple[str, dict[str, Any]], place: Any
) -> None:
    """A second scope changes nothing at all; a second native cancellation ends every grace, still one by one."""
    for how in hows(anyio_backend):
        moment, reached = 0, True
        while reached:
            moment += 1
            gaps = (1, 2, 3) if place is at_its_awaits else (1 + moment % 17,)
            reached = any([await lives((moment, gap), how, place) for gap in gaps])
        assert moment > (4 if place is at_its_awaits else 80)


async def test_the_checks_of_this_file_see_a_wrong_order_and_a_lost_grace() -> None:
    """A diary in which siblings end in order of start, one in which somebody is missing, one without a grace."""
    for diary in (
        ["+/a", "+/b", "-/a", "-/b"],
        ["+/a", "+/b", "-/b"],
        ["+/a", "!/a"],
    ):
        tree = Tree()
        tree.diary[:] = diary
        with pytest.raises(AssertionError):
            tree.check()
