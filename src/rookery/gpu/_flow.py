"""One run of a pipeline: items come in, pass from step to step, and are answered.

The pipeline is an actor, and each step has one worker or several, actors too, its children. An item is one message to a
worker, and handing it on is a plain call that cannot be interrupted: at any moment exactly one mailbox or one worker has
it. Only what comes in waits, for its place and its memory; what has set off finds room in every mailbox.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, final

from anyio.lowlevel import checkpoint_if_cancelled

from rookery._core._parking import interruptible, uninterrupted
from rookery._core.context import Context, incarnation_of
from rookery._core.spec import child
from rookery._core.waiting import Latch
from rookery._model.dead_letter import Reason
from rookery._model.errors import ActorCrashed, ActorStopped, Refused
from rookery._model.wording import brief

from ._errors import ArgumentTypeError
from ._item import Item, buffers_in

if TYPE_CHECKING:
    from collections.abc import Hashable

    from rookery._core.ref import ActorRef

    from ._pipeline import Plan, Step


@final
class Flow:
    """A pipeline while it runs."""

    def __init__(self, ctx: Context[Any], plan: Plan) -> None:
        self._ctx = ctx
        self._plan = plan
        self._incarnation = incarnation_of(ctx)
        self._cell = self._incarnation.cell
        self._items: dict[Item, None] = {}
        self._one_ended: Latch | None = None
        self._crews = [Crew(self, step, plan.max_items) for step in plan.steps]
        for crew, following in zip(self._crews, self._crews[1:], strict=False):
            crew.following = following

    @uninterrupted
    async def run(self) -> None:
        """Serve until a graceful stop; what has been taken until then comes to its end."""
        self._incarnation.supervise([spec for crew in self._crews for spec in crew.specs], self._plan.supervision)
        try:
            async for message in self._ctx:
                await self._admit(message)
            while self._items:
                await self._ending()
        finally:
            for item in self._items:
                item.end()

    async def _admit(self, message: Any) -> None:
        """Have a message set off, when there is a place and memory for it."""
        item = Item(message, asked=self._asked(message))
        self._items[item] = None
        if not self._understood(item):
            return
        while len(self._items) > self._plan.max_items:
            await self._ending()
        if self.unwanted(item):
            self.end(item)  # before it waits for memory, which others need
            return
        await item.set_aside(self._plan.memory)
        self._crews[0].enter(item)

    def _understood(self, item: Item) -> bool:
        """Look at a message; one that cannot be served fails alone."""
        try:
            if self._plan.memory and (buffer := next(buffers_in(item.message), None)) is not None:
                raise ArgumentTypeError(
                    f"{self._cell.path} got a message with {buffer!r} in it, whose memory it did not set aside: send an "
                    "array, and `await device.upload(array)` in the first step"
                )
            if self._plan.key is not None:
                item.key = self._plan.key(item.message)
                hash(item.key)
        except Exception as error:  # noqa: BLE001 - told to whoever sent it
            self.fail(item, error)
            return False
        return True

    async def _ending(self) -> None:
        """Wait until an item has come to its end."""
        self._one_ended = Latch(self._cell.engine.loop)
        await self._one_ended.wait()
        await checkpoint_if_cancelled()  # if it has crashed, nothing more may set off

    # --- for its workers ---

    def unwanted(self, item: Item) -> bool:
        """Whether nobody waits any more for what becomes of an item that somebody asked for."""
        now = self._cell.engine.loop.now
        return item.asked and all(ask.stale(now) for ask in self._incarnation.hand.asks_of(item.message))

    def finish(self, item: Item) -> None:
        """It has passed the last step."""
        if self._asked(item.message):
            self._ctx.reply(item.message, item.value)
        self.end(item)

    def fail(self, item: Item, error: BaseException) -> None:
        """It goes no further: its asker gets the error; if it was only sent, that is a dead letter."""
        if self._asked(item.message):
            self._ctx.fail(item.message, error)
        elif not item.asked:
            self._cell.dead_letter(error, Reason.NOT_ASKED)
        self.end(item)

    def end(self, item: Item) -> None:
        """It leaves, and its place and its memory are free."""
        item.end()
        del self._items[item]
        if self._one_ended is not None:
            self._one_ended.set()

    def _asked(self, message: object) -> bool:
        return self._incarnation.hand.peek(message) is not None


@final
class Crew:
    """The workers of one step, and which of them gets what."""

    def __init__(self, flow: Flow, step: Step[Any, Any], capacity: int) -> None:
        self.flow: Final = flow
        self.step: Final = step
        self.following: Crew | None = None
        self._workers = [Worker(self, number) for number in range(step.workers)]
        self._at: dict[Hashable, tuple[Worker, int]] = {}  # who has items of a key, and how many
        # Cancelled at once: in an orderly stop they are idle by then.
        self.specs: Final = [child(one).options(capacity=capacity, stop_timeout=0) for one in self._workers]
        for worker, spec in zip(self._workers, self.specs, strict=True):
            worker.ref = spec.ref

    @uninterrupted
    def enter(self, item: Item) -> None:
        """Give an item to a worker: to the one that has items of its key, so that these keep their order."""
        least_busy = min(self._workers, key=lambda worker: worker.load)
        worker, others = self._at.get(item.key, (least_busy, 0))
        self._at[item.key] = worker, others + 1
        worker.load += 1
        item.attempts = 0
        with suppress(ActorStopped):  # then the pipeline is coming down, which ends this item with all others
            worker.ref.send_nowait(item)

    @uninterrupted
    def leave(self, item: Item) -> None:
        """A worker is done with an item."""
        worker, there = self._at.pop(item.key)
        worker.load -= 1
        if there > 1:
            self._at[item.key] = worker, there - 1


@final
class Worker:
    """One of the actors that work for a step. This outlives its incarnations, and what a crash left in hand with it."""

    ref: ActorRef[Item]

    def __init__(self, crew: Crew, number: int) -> None:
        step = crew.step
        self.__name__: str = step.name if step.workers == 1 else f"{step.name}-{number + 1}"
        self.load = 0
        """Items in its mailbox and in its hand."""
        self._crew = crew
        self._item: Item | None = None

    @uninterrupted
    async def __call__(self, ctx: Context[Item]) -> None:
        """One incarnation."""
        if self._item is not None:
            await self._once_more(ctx, self._item)
        async for item in ctx:
            await self._work_on(ctx, item)

    async def _once_more(self, ctx: Context[Item], item: Item) -> None:
        """Come back to what was in hand at a crash: before all others, which are behind it in its key's order."""
        if item.attempts < self._crew.step.attempts:
            ctx.ready()
            await self._work_on(ctx, item)
            return
        cell = incarnation_of(ctx).cell
        error = ActorCrashed(f"{cell.path} crashed while it had {brief(item.message)} in hand")
        error.__cause__ = cell.last_crash
        self._crew.flow.fail(item, error)
        self._put_down(item)

    async def _work_on(self, ctx: Context[Item], item: Item) -> None:
        self._item = item
        flow, following = self._crew.flow, self._crew.following
        if flow.unwanted(item):
            self._put_down(item)
            flow.end(item)
            return
        item.attempts += 1
        try:
            with item.in_hands_of(incarnation_of(ctx).cell):
                item.value = await self._call(item)
        except Refused as refused:
            flow.fail(item, refused.error)
            self._put_down(item)
            return
        # If it is over already, the pipeline came down meanwhile.
        if following is None and not item.over:
            item.attempts = self._crew.step.attempts  # what the step was given is gone: if this raises, the item fails
            flow.finish(item)
        self._put_down(item)
        if following is not None and not item.over:
            following.enter(item)

    def _put_down(self, item: Item) -> None:
        self._item = None
        self._crew.leave(item)

    async def _call(self, item: Item) -> object:
        step = self._crew.step
        value = await _call(step, item.value)
        if self._crew.following is None and (buffer := next(buffers_in(value), None)) is not None:
            raise ArgumentTypeError(
                f"{step.name}, the last step, returned {buffer!r}, whose memory stays in the pipeline: return an array, "
                "`await buffer.read()`"
            )
        return value


@interruptible
async def _call(step: Step[Any, Any], value: object) -> object:
    """Call user code."""
    result: object = await step.fn(value, *step.args, **step.kwargs)
    return result
