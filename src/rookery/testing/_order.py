"""The order of wake-ups, drawn from a seed.

A waker only grants, and schedules the parked task (see `rookery._core._parking`). Here the two come apart: the
grant is given at once, as the rule of the seam wants it, and the task waits in a pool, with all others that may
run. A pump on the loop lets one of them through, drawn from the seed; when what it did has settled, the next. The
first step of each task and each amortised yield go through the pool as well, so that of all the tasks that rookery
started, one runs at a time, and which one is the seed's choice alone.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any, ClassVar, Final, final

import trio

from .._core._parking import NO_WAIT, seen_through, uninterrupted
from .._core.waiting import Latch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from contextvars import Token
    from types import TracebackType
    from typing import Self

    from .._core._parking import Loop, Nursery, Scope, Spot

PASSES: Final = 4
"""Passes of the loop from one wake-up to the next.

In the first the task runs that was let through. trio runs what is runnable at the same time in an order that it
draws itself, so the pump must not draw in the same pass. The others are for what that task set going elsewhere: a
task group that ends, an event of anyio's.
"""

SEEDS: Final = 2**32


def shuffled(seed: int | None = None) -> Shuffle:
    """A block in which the wake-ups of rookery's tasks come in an order drawn from a seed.

    It holds for the systems, channels and devices that are opened in the block. With the same seed, tasks that
    rookery started wake up in the same sequence each time, on the same event loop, as long as all that they wait
    for is rookery's. Not in the seed's hands are:

    * what waits for something else: sleeps, sockets, threads, locks and events of other libraries. trio wakes such
      tasks in an order of its own, and draws it anew each time;
    * tasks of the test's own, before they first wait for something of rookery's;
    * what is cancelled, by a scope or by ``Task.cancel()``: a cancellation does not wait in the pool;
    * real time: use `virtual_clock` where there are timeouts;
    * what the program draws itself, and what rookery draws for ``Backoff(jitter=...)``: seed the `random` module;
    * the order of sets, where hashes differ from run to run: set ``PYTHONHASHSEED``.

    An error that leaves the block carries a note with the seed.

    Args:
        seed: Whatever `random.Random` takes as a whole number; None draws one.

    Example:
        >>> with shuffled() as shuffle:
        ...     async with open_system() as system:
        ...         ...
    """
    if seed is not None and not isinstance(seed, int):
        raise TypeError(f"a seed is a whole number, got {seed!r}: write `shuffled(1234)`, or `shuffled()` to draw one")
    return Shuffle(random.SystemRandom().randrange(SEEDS) if seed is None else seed)


@final
class Shuffle:
    """An order of wake-ups in force; made by `shuffled`.

    Attributes:
        seed: What replays it: ``shuffled(seed)``.
    """

    def __init__(self, seed: int) -> None:
        self.seed: Final = seed
        self._pool: _Pool | None = None
        self._before: Token[Callable[[Loop], Loop] | None] | None = None

    @property
    def pending(self) -> int:
        """How many tasks may run, and have not been let through yet."""
        return 0 if self._pool is None else len(self._pool)

    def __enter__(self) -> Self:
        if self._before is not None:
            raise RuntimeError(f"this order is in force already: write `with shuffled({self.seed}):` for another block")
        self._pool = None  # it replays from the beginning
        self._before = seen_through.set(self._see)
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        assert self._before is not None
        seen_through.reset(self._before)
        self._before = None
        if error is not None:
            error.add_note(f"replay with shuffled({self.seed})")

    def __repr__(self) -> str:
        return f"<Shuffle {self.seed}>"

    def _see(self, loop: Loop) -> Loop:
        """All that lives on one loop shares one pool."""
        if self._pool is None or not self._pool.loop.is_here():
            self._pool = _Pool(loop, random.Random(self.seed))
        return (_ShuffledTrioLoop if loop.name == "trio" else _ShuffledAsyncioLoop)(loop, self._pool)


def shuffle_in_force() -> Shuffle | None:
    """The innermost `shuffled` block around the running code."""
    lens = seen_through.get()
    owner = getattr(lens, "__self__", None)
    return owner if isinstance(owner, Shuffle) else None


@final
class _Pool:
    """Everybody who may run, and the pump that lets them through."""

    def __init__(self, loop: Loop, choices: random.Random) -> None:
        self.loop: Final = loop
        self._choices = choices
        self._wakers: list[Callable[[], object]] = []
        self._pumping = False
        self._soon = None if loop.name == "trio" else asyncio.get_running_loop().call_soon

    def __len__(self) -> int:
        return len(self._wakers)

    @uninterrupted
    def add(self, waker: Callable[[], object]) -> None:
        """Let somebody through when the seed says so."""
        self._wakers.append(waker)
        if not self._pumping:
            self._pumping = True
            if self._soon is None:
                trio.lowlevel.spawn_system_task(self._pump, name="rookery.testing: order of wake-ups")
            else:
                self._soon(self._tick, PASSES)

    async def _pump(self) -> None:
        """On trio a task: while it is runnable, nobody takes the loop to be at rest."""
        while self._pumping:
            for _ in range(PASSES):
                await trio.lowlevel.cancel_shielded_checkpoint()
            self._let_one_through()

    def _tick(self, passes: int) -> None:
        """On asyncio a callback: whoever cancels every task there is does not reach it."""
        if passes == 0:
            self._let_one_through()
            passes = PASSES
        if self._pumping:
            assert self._soon is not None
            self._soon(self._tick, passes - 1)

    @uninterrupted
    def _let_one_through(self) -> None:
        self._wakers.pop(self._choices.randrange(len(self._wakers)))()
        self._pumping = bool(self._wakers)


@final
class _ShuffledSpot:
    """A spot whose task is granted at once and woken by the pool."""

    __slots__ = ("_inner", "_parked", "_pool", "granted")

    def __init__(self, inner: Spot, pool: _Pool) -> None:
        self._inner = inner
        self._pool = pool
        self._parked = False
        self.granted = False

    @property
    def task(self) -> object:
        return self._inner.task

    @uninterrupted
    def park(self) -> Awaitable[object]:
        if self.granted:
            return NO_WAIT
        self._parked = True
        return self._inner.park()

    @uninterrupted
    def wake(self) -> None:
        if not self.granted:
            self.granted = True
            if self._parked:
                self._pool.add(self._inner.wake)


@final
class _ShuffledNursery:
    """A nursery whose tasks take their first step when they are let through."""

    __slots__ = ("_inner", "_pool")

    def __init__(self, inner: Nursery, pool: _Pool) -> None:
        self._inner = inner
        self._pool = pool

    def start_soon(self, fn: Callable[..., Coroutine[Any, Any, None]], /, *args: Any, name: str) -> None:
        gate = Latch(self._pool.loop)
        self._inner.start_soon(_behind, gate, fn, args, name=name)
        self._pool.add(gate.set)

    async def __aenter__(self) -> object:
        return await self._inner.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return await self._inner.__aexit__(kind, error, traceback)


@uninterrupted
async def _behind(gate: Latch, fn: Callable[..., Coroutine[Any, Any, None]], args: tuple[Any, ...]) -> None:
    """Run ``fn`` once the gate is open. It takes its first step whatever comes, as every task of a nursery does."""
    pierced = await gate.outlast()
    if pierced is not None:
        raise pierced  # a native cancellation before the first step, after which the nursery starts it again
    await fn(*args)


class _ShuffledLoop:
    """A loop whose wake-ups go through a pool."""

    def __init__(self, inner: Loop, pool: _Pool) -> None:
        self._inner = inner
        self._pool = pool
        self.thread: Final = inner.thread
        self.is_here: Final = inner.is_here
        self.current_task: Final = inner.current_task
        self.now: Final = inner.now
        self.effective_deadline: Final = inner.effective_deadline
        self.call_from_thread: Final = inner.call_from_thread
        self.is_running: Final = inner.is_running

    def spot(self) -> Spot:
        return _ShuffledSpot(self._inner.spot(), self._pool)

    def shield(self) -> Scope:
        return self._inner.shield()

    async def park_until(self, spot: Spot, when: float) -> None:
        await self._inner.park_until(spot, when)

    def nursery(self) -> Nursery:
        return _ShuffledNursery(self._inner.nursery(), self._pool)

    def stopwatch(self) -> float:
        return 0.0  # how quick this machine is decides nothing: a turn ends after a number of messages

    @uninterrupted
    async def checkpoint(self) -> None:
        spot = self.spot()
        parking = spot.park()
        spot.wake()
        await parking


@final
class _ShuffledTrioLoop(_ShuffledLoop):
    name: ClassVar[str] = "trio"


@final
class _ShuffledAsyncioLoop(_ShuffledLoop):
    name: ClassVar[str] = "asyncio"
