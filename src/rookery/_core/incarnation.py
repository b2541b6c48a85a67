"""One run of a behaviour. The only caller of user code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

from .._model.directives import Exit
from .._model.errors import ActorCrashed, ActorStopped
from .._model.lifecycle import FINAL
from .._model.options import SupervisorOptions
from ._parking import interruptible, stack_of, uninterrupted
from .departure import departure
from .ref import watched_by
from .reply import EMPTY
from .waiting import Latch
from .watching import Terminated
from .within import within_actor

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from ._parking import Scope
    from .cell import Cell
    from .children import Children
    from .reply import Hand
    from .spec import ChildSpec
    from .watching import WatchEvent

ONE_FOR_ONE: Final = SupervisorOptions()
"""How an actor supervises what it spawns."""


@final
class Incarnation:
    """What lives from a start to the next crash: the task, its further tasks, its children, its requests.

    It runs in a shielded cancel scope of its own. A cancellation from outside therefore reaches an actor only
    as an ordered stop, and `cancel` is how everything that may end it ends it.
    """

    __slots__ = (
        "_aftermath",
        "_children",
        "_failures",
        "_interrupt",
        "_over",
        "_scope",
        "_task_scopes",
        "_tasks_done",
        "_watched",
        "cell",
        "hand",
        "in_hand",
        "number",
        "ready",
        "receiving",
        "started_at",
    )

    def __init__(self, cell: Cell, number: int) -> None:
        self.cell: Final = cell
        self.number: Final = number
        self.hand: Hand = EMPTY
        self.in_hand: type | None = None  # of what it is working on: a type, which keeps no message alive
        self.ready: bool = False
        self.receiving: bool = False  # it has received, and is not over
        self.started_at: Final = cell.engine.loop.now()
        self._scope = cell.engine.loop.shield()
        self._failures: tuple[Exception, ...] = ()
        self._aftermath: tuple[Exception, ...] = ()  # what children raised while they were stopped
        self._interrupt: BaseException | None = None
        self._over = False  # the behaviour has returned or crashed
        self._task_scopes: dict[Scope, object] | None = None  # with the task, once that has begun
        self._tasks_done: Latch | None = None
        self._children: Children | None = None
        self._watched: set[Cell] | None = None

    @uninterrupted
    async def run(self) -> None:
        """The body of its task. Never raises: what happened is told to the cell as a value."""
        cell = self.cell
        within_actor.set(cell)
        cell.task = cell.engine.loop.current_task()
        try:
            with self._scope:
                await self._behave()
        except GeneratorExit:
            raise  # the loop itself was torn down; there is nothing left to await with
        except BaseException as error:  # noqa: BLE001  # every exit is a value from here on
            self._departed(error, self._scope)
        cell.task = None
        self._end_of_behaviour()
        await self._end_tasks()
        # Before the children end: one of them may be waiting for an answer from here.
        crash = self._crash()
        self._settle(crash)
        self._end_watches()
        cell.nobody_receives(crash)
        cell.engine.tell("left", cell.ref, self.number)
        await self._end_children()
        crash = self._crash()
        cell.incarnation_ended(self._exit(crash), self._interrupt)

    @uninterrupted
    def become_ready(self) -> None:
        """The end of start-up. Idempotent, and nothing once the behaviour has ended."""
        if not self.ready and not self._over:
            self.ready = True
            self.cell.became_ready()

    def begin_receiving(self) -> None:
        """The first receive, which ends the start-up.

        Raises:
            ActorStopped: if the behaviour has ended; what comes now is for the next incarnation.
        """
        if self._over:
            raise ActorStopped(f"this incarnation of {self.cell.path} has ended and receives no more messages")
        self.receiving = True
        self.become_ready()

    def cancel(self) -> None:
        """End the behaviour and its tasks; their cleanup runs."""
        self.cell.expect_end()
        self._scope.cancel()
        for scope in list(self._task_scopes or ()):
            scope.cancel()

    def crash(self, error: Exception) -> None:
        """End the behaviour, and count it as a crash."""
        self.cell.expect_end()
        self._failures += (error,)
        self._scope.cancel()

    @uninterrupted
    def start_soon(self, fn: Callable[..., Awaitable[object]], args: tuple[Any, ...], name: str | None) -> None:
        """Run a further task, ended with the behaviour.

        Raises:
            ActorStopped: if the behaviour has ended.
        """
        if self._over:
            raise ActorStopped(f"{self.cell.path} has ended and can start no more tasks")
        engine = self.cell.engine
        scope = engine.loop.shield()
        if self._task_scopes is None:
            self._task_scopes = {}
        self._task_scopes[scope] = None
        engine.nursery.start_soon(self._run_task, scope, fn, args, name=name or f"{self.cell.path} task")

    def watch(self, cell: Cell) -> None:
        """Be told of that actor's restarts, and of its end.

        Raises:
            ActorStopped: if the behaviour has ended.
            TypeError: if this actor does not accept to be told.
            ValueError: for itself.
        """
        own = self.cell
        if cell is own:
            raise ValueError(f"{own.path} cannot watch itself: it has ended when there is something to tell")
        if not own.accepts(Terminated):
            raise TypeError(
                f"{own.path} watches {cell.path}, but does not accept what it would be told: annotate its context as "
                "`Context[... | Terminated]`, or give its class an `async def on_terminated(self, event)`"
            )
        if self._over:
            raise ActorStopped(f"{own.path} has ended and can watch nobody any more")
        if cell.state in FINAL:
            own.mailbox.tell(Terminated(cell.ref, cell.end_reason))
            return
        if self._watched is None:
            self._watched = set()
        self._watched.add(cell)
        cell.add_watcher(self)

    def hear(self, event: WatchEvent) -> None:
        """Something happened to an actor that this one watches."""
        if self._watched is not None and isinstance(event, Terminated):
            self._watched.discard(watched_by(event.ref))
        if self.cell.accepts(type(event)):
            self.cell.mailbox.tell(event)

    def _end_watches(self) -> None:
        for cell in self._watched or ():
            cell.remove_watcher(self)
        self.cell.mailbox.forget_events()

    def family(self, options: SupervisorOptions = ONE_FOR_ONE) -> Children:
        """The children of this incarnation; if it had none yet, they are supervised as ``options`` say.

        Raises:
            ActorStopped: if it is ending.
        """
        if self._over or self.cell.stop_asked:
            raise ActorStopped(f"{self.cell.path} is stopping and can have no more children")
        if self._children is None:
            self._children = self._have_children(options)
        return self._children

    def supervise(self, specs: Sequence[ChildSpec[Any]], options: SupervisorOptions) -> None:
        """Have these children from the start, and be ready when they are.

        Raises:
            DuplicateName: if one of the specs runs already, somewhere else.
        """
        self._children = self._have_children(options)
        self._children.start(specs)

    def _have_children(self, options: SupervisorOptions) -> Children:
        cell = self.cell
        return cell.engine.family(cell.path, options, on_ready=self.become_ready, on_end=self._children_ended)

    def _children_ended(self, failure: Exception | None) -> None:
        """Not because this incarnation stopped them."""
        if failure is not None:
            self.crash(failure)
            self._failures = (failure, *self._failures[:-1])  # whatever the behaviour made of it comes after it
        else:
            self.become_ready()  # what has come to its end has started
            self._scope.cancel()

    def stacks(self) -> list[str]:
        """Where each of its tasks that has not ended stands."""
        tasks = [self.cell.task, *(self._task_scopes or {}).values()]
        return [stack_of(task) for task in tasks if task is not None]

    @property
    def over(self) -> bool:
        """Whether the behaviour has returned or crashed, so that it receives no more."""
        return self._over

    @property
    def children(self) -> Children | None:
        """Its children, if it ever had any."""
        return self._children

    @interruptible
    async def _behave(self) -> None:
        spec = self.cell.spec
        await spec.behaviour(self.cell.engine.context(self), *spec.args, **spec.kwargs)

    @uninterrupted
    async def _run_task(self, scope: Scope, fn: Callable[..., Awaitable[object]], args: tuple[Any, ...]) -> None:
        assert self._task_scopes is not None
        self._task_scopes[scope] = self.cell.engine.loop.current_task()
        try:
            with scope:
                await interruptible_call(fn, args)
        except GeneratorExit:
            raise
        except BaseException as error:  # noqa: BLE001  # becomes the actor's crash
            if self._departed(error, scope):
                self._scope.cancel()
        del self._task_scopes[scope]
        if self._tasks_done is not None and not self._task_scopes:
            self._tasks_done.set()

    def _departed(self, error: BaseException, scope: Scope | None = None) -> bool:
        """Keep what left the behaviour or a task; False if that was a normal end."""
        cancelled = scope is not None and scope.cancel_called
        crash, interrupt = departure(error, self.cell.path, cancelled=cancelled)
        if crash is not None:
            self._failures += (crash,)
        self._interrupt = self._interrupt or interrupt
        return crash is not None or interrupt is not None

    async def _end_tasks(self) -> None:
        if self._task_scopes:
            self.cell.expect_end()
            self._tasks_done = Latch(self.cell.engine.loop)
            for scope in list(self._task_scopes):
                scope.cancel()
            self._pierced(await self._tasks_done.outlast())

    async def _end_children(self) -> None:
        if self._children is not None:
            self._children.stop_all()
            self._pierced(await self._children.down.outlast(self._children.hurry))
            if self._failures or self.cell.stop_asked:
                self._aftermath = tuple(self._children.stop_errors)
            else:  # it has ended well, and is not started again for what its children did then
                self.cell.owner.keep_stop_errors(self.cell, self._children.stop_errors)

    def _pierced(self, error: BaseException | None) -> None:
        if error is not None:
            self._departed(error)

    def _crash(self) -> Exception | None:
        """Everything that went wrong, what followed from the end behind what led to it."""
        causes = self._failures or self._aftermath
        if self._failures and self._aftermath:
            causes += (ExceptionGroup(f"while the children of {self.cell.path} were stopped", self._aftermath),)
        if len(causes) > 1:
            return ExceptionGroup(f"{self.cell.path} crashed", causes)
        return causes[0] if causes else None

    def _settle(self, crash: Exception | None) -> None:
        """Nobody who asked this incarnation is left waiting."""
        for ask in self.hand.clear():
            if crash is None:
                ask.fail(ActorStopped(f"{self.cell.path} ended without answering {type(ask.request).__name__}"))
            else:
                error = ActorCrashed(f"{self.cell.path} crashed while it had {type(ask.request).__name__} in hand")
                error.__cause__ = crash
                ask.fail(error)

    def _end_of_behaviour(self) -> None:
        returned = not self._failures and self._interrupt is None and not self._scope.cancel_called
        if returned:
            self.become_ready()  # what has returned has started, even if its children take long to end
        self._over = True
        self.receiving = False

    def _exit(self, crash: Exception | None) -> Exit:
        lived = self.cell.engine.loop.now() - self.started_at
        interrupted = self._interrupt is not None
        return Exit(crash, lived, was_ready=self.ready, interrupted=interrupted, in_hand=self.in_hand)


@interruptible
async def interruptible_call(fn: Callable[..., Awaitable[object]], args: tuple[Any, ...]) -> None:
    """Call user code."""
    await fn(*args)
