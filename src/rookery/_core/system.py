"""The system: the block that owns a tree of actors."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, Final, final

import anyio

from .._model.errors import RestartIntensityExceeded, UnknownActor
from .._model.restart import Intensity
from ._parking import current_loop, uninterrupted
from .cell import Cell, within_actor
from .children import Children
from .dead_letters import DeadLetters
from .deadlines import Deadlines
from .spawner import Spawner
from .tree import render
from .turn import Turn

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from .ref import ActorRef

DEFAULT_INTENSITY: Final = Intensity(3, per=5.0)


@final
class System(Spawner):
    """A running system of actors; made by `open_system`.

    Attributes:
        name: Its name, in logs and in `tree`.
        dead_letters: Messages that nobody handled.
    """

    def __init__(self, name: str, intensity: Intensity, tasks: anyio.abc.TaskGroup) -> None:
        self.name: Final = name
        self.loop: Final = current_loop()
        self.turn: Final = Turn(self.loop)
        self.deadlines: Final = Deadlines(self.loop)
        self.dead_letters: Final = DeadLetters()
        self.body: Final = anyio.CancelScope()
        self.root: Final = Children(self, "/", intensity, self._root_failed)
        self.failures: Final[list[BaseException]] = []
        self._tasks = tasks
        self._mains: dict[object, Cell] = {}

    # ---- for users

    def tree(self) -> str:
        """The tree of actors as text: names, states, queue depths, restarts."""
        return render(self.name, self.root)

    def lookup(self, name: str) -> ActorRef[Any]:
        """The live actor of that name or path.

        Args:
            name: A path (``"/workers/calculator"``), or the name of an actor directly under the root.

        Raises:
            UnknownActor: if there is none.
        """
        path = name if name.startswith("/") else f"/{name}"
        known = {cell.path: cell for cell in _descendants(self.root)}
        if path not in known:
            close = difflib.get_close_matches(path, known, n=3)
            hint = f"; did you mean {' or '.join(close)}?" if close else "; `print(system.tree())` shows who lives"
            raise UnknownActor(f"there is no live actor {path!r}{hint}")
        return known[path].ref

    # ---- for the core

    def start_task(self, fn: Callable[..., Coroutine[Any, Any, None]], *args: object, name: str) -> None:
        """Run a task inside the block."""
        self._tasks.start_soon(fn, *args, name=name)

    def family_of(self, path: str, on_failure: Callable[[Exception], object]) -> Children:
        """Room for the children of an actor."""
        return Children(self, path, DEFAULT_INTENSITY, on_failure)

    def entered(self, cell: Cell) -> None:
        """The running task is an actor's main task now."""
        within_actor.set(cell)
        self._mains[self.loop.current_task()] = cell

    def left(self) -> None:
        """The running task is past the actor's behaviour."""
        del self._mains[self.loop.current_task()]

    def main_of(self, task: object) -> Cell | None:
        """The actor whose main task this is."""
        return self._mains.get(task)

    def interrupt(self, error: BaseException) -> None:
        """Something that no actor may handle left one: the host stops the tree and raises it."""
        self.failures.append(error)
        self.body.cancel()

    def _family(self) -> Children:
        return self.root

    def _root_failed(self, error: Exception) -> None:
        self.failures.append(error)
        self.body.cancel()


def open_system(
    *, name: str = "rookery", intensity: Intensity = DEFAULT_INTENSITY
) -> AbstractAsyncContextManager[System]:
    """Open a block in which actors can be spawned, and which none of them outlives.

    When the block is left, for whatever reason, its actors are stopped gracefully, one after another in
    reverse order of start, each within its ``stop_timeout``. The same happens when it is cancelled from
    outside; a second interrupt (another native ``Task.cancel()`` or ``KeyboardInterrupt``) ends every grace.

    Args:
        name: The system's name, in logs and in `System.tree`.
        intensity: How many restarts of actors directly under the root are tolerated.

    Raises:
        ExceptionGroup: with `RestartIntensityExceeded`, if actors under the root crashed too often; the
            block's body is cancelled then. Also with what actors raised while the tree was being stopped. An
            exception of the body itself leaves the block as it is, unless there is also something else to raise.
        RuntimeError: outside of an event loop.

    Example:
        >>> async with open_system() as system:
        ...     calc = await system.spawn(calculator)
        ...     assert await calc.ask(Add(10, 5), timeout=1) == 15
    """
    return _SystemBlock(name, intensity)


@final
class _SystemBlock:
    """What the block owns, and in which order it goes: the body, the actors, the timer, the nursery."""

    def __init__(self, name: str, intensity: Intensity) -> None:
        self._name = name
        self._intensity = intensity

    async def __aenter__(self) -> System:
        self._tasks = anyio.create_task_group()
        self._system = System(self._name, self._intensity, self._tasks)
        await self._tasks.__aenter__()
        self._system.start_task(self._system.deadlines.run, name=f"{self._name} deadlines")
        self._system.body.__enter__()
        return self._system

    @uninterrupted
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        system = self._system
        errors = [*_left_of(system.body, error)]
        system.root.stop_all()
        pierced = await system.root.down.outlast(system.root.hurry)
        system.deadlines.close()
        if pierced is not None:
            errors.append(pierced)
        return await self._leave(_combined(self._name, system.failures, errors, system.root.stop_errors))

    async def _leave(self, error: BaseException | None) -> bool | None:
        """Leave the nursery, which is empty by now, with this error, and take its wrapping off again."""
        if error is None:
            return await self._tasks.__aexit__(None, None, None)
        try:
            return await self._tasks.__aexit__(type(error), error, error.__traceback__)
        except BaseExceptionGroup as wrapped:
            if len(wrapped.exceptions) != 1:  # something else came up while leaving
                raise
            (leaving,) = wrapped.exceptions
        raise leaving


def _left_of(scope: anyio.CancelScope, error: BaseException | None) -> Iterator[BaseException]:
    """Leave the body's scope; what is left of its error once the scope has taken its own cancellation."""
    try:
        absorbed = scope.__exit__(type(error) if error else None, error, error.__traceback__ if error else None)
    except BaseException as rest:  # noqa: BLE001  # raised again when the tree is down
        yield rest
    else:
        if error is not None and not absorbed:
            yield error


def _combined(
    name: str, failures: list[BaseException], errors: list[BaseException], stop_errors: list[Exception]
) -> BaseException | None:
    """What leaves the block.

    Failures of the tree come first, crashes while it was stopped come last, and both always in a group.
    """
    cancelled = anyio.get_cancelled_exc_class()
    if all(isinstance(error, cancelled) for error in errors):
        del errors[1:]  # two cancellations are one
    everything = [*failures, *errors, *stop_errors]
    if not everything:
        return None
    if len(everything) == 1 and not stop_errors and not isinstance(everything[0], RestartIntensityExceeded):
        return everything[0]
    return BaseExceptionGroup(f"the system {name!r} failed", everything)


def _descendants(children: Children | None) -> Iterator[Cell]:
    for cell in [] if children is None else children.cells:
        yield cell
        yield from _descendants(cell.children)
