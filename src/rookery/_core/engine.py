"""What all parts of one running system share: the loop, the time, the nursery, and who runs in which task."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, final

import anyio

from .._model.restart import Intensity
from ._parking import current_loop
from .children import Children
from .dead_letters import DeadLetters
from .deadlines import Deadlines
from .turn import Turn

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from .cell import Cell
    from .system import System

DEFAULT_INTENSITY: Final = Intensity(3, per=5.0)


@final
class Engine:
    """The inside of a `System`."""

    def __init__(self, system: System, intensity: Intensity) -> None:
        self.system: Final = system
        self.loop: Final = current_loop()
        self.nursery: Final = self.loop.nursery()
        self.turn: Final = Turn(self.loop)
        self.deadlines: Final = Deadlines(self.loop)
        self.dead_letters: Final = DeadLetters()
        self.body: Final = anyio.CancelScope()
        self.root: Final = Children(self, "/", intensity, self.interrupt)
        self.failures: Final[list[BaseException]] = []
        self.undeclared: Final[set[type]] = set()  # types that were asked and are not declared as a `Request`
        self._graces: set[anyio.CancelScope] = set()
        self._hurried = False

    def family_of(self, path: str, on_failure: Callable[[Exception], object]) -> Children:
        """Room for the children of an actor."""
        return Children(self, path, DEFAULT_INTENSITY, on_failure)

    def interrupt(self, error: BaseException) -> None:
        """The root gave up, or something that no actor may handle left one: the host stops the tree and raises."""
        self.failures.append(error)
        self.body.cancel()

    @contextmanager
    def grace(self, seconds: float) -> Generator[anyio.CancelScope]:
        """Time for cleanup that no cancellation takes away; only `hurry` does. The scope shows whether it was enough."""
        with anyio.CancelScope(deadline=self.loop.now() + seconds, shield=True) as scope:
            if self._hurried:
                scope.cancel()
            self._graces.add(scope)
            try:
                yield scope
            finally:
                self._graces.discard(scope)

    def hurry(self) -> None:
        """A second interrupt: every grace is over, and every actor that is stopping, or will be, is cancelled."""
        self._hurried = True
        self.root.hurry()
        for scope in self._graces:
            scope.cancel()

    def cells(self) -> Iterator[Cell]:
        """Every live actor, parents before their children."""
        return _descendants(self.root)


def _descendants(children: Children | None) -> Iterator[Cell]:
    for cell in [] if children is None else children.cells:
        yield cell
        yield from _descendants(cell.children)
