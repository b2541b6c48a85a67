"""What all parts of one running system share: the loop, the time, the nursery, and who runs in which task."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, final

import anyio

from .._model.lifecycle import FINAL
from ._parking import current_loop
from .children import Children, descendants
from .context import Context
from .dead_letters import DeadLetters
from .deadlines import Deadlines
from .instruments import ObservedContext, ObservedMailbox
from .mailbox import Mailbox
from .turn import Turn
from .waiting import Latch

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from .._model.options import SupervisorOptions
    from .cell import Cell
    from .incarnation import Incarnation
    from .instruments import Instruments
    from .system import System


@final
class Engine:
    """The inside of a `System`."""

    def __init__(self, system: System, options: SupervisorOptions, instruments: Instruments | None) -> None:
        self.system: Final = system
        self.loop: Final = current_loop()
        self.nursery: Final = self.loop.nursery()
        self.turn: Final = Turn(self.loop)
        self.happened: Final = Latch(self.loop)  # for all that is over and need not be waited for
        self.happened.set()
        self.deadlines: Final = Deadlines(self.loop)
        self.instruments: Final = instruments
        self.dead_letters: Final = DeadLetters(self.tell)
        self.body: Final = anyio.CancelScope()
        self.root: Final = Children(self, "/", options, on_ready=_nothing, on_end=self._gave_up)
        self.failures: Final[list[BaseException]] = []
        self.undeclared: Final[set[type]] = set()  # types that were asked and are not declared as a `Request`
        self._graces: set[anyio.CancelScope] = set()
        self._hurried = False

    def tell(self, event: str, *what: object) -> None:
        """Tell the instruments."""
        if self.instruments is not None:
            self.instruments.tell(event, *what)

    def mailbox(self, cell: Cell) -> Mailbox[Any]:
        """A mailbox for an actor."""
        if self.instruments is not None and self.instruments.hear_traffic:
            return ObservedMailbox(cell, self.instruments)
        settings = cell.spec.settings
        return Mailbox(
            self.loop, self.turn, capacity=settings.capacity, overflow=settings.overflow, discard=cell.discard
        )

    def context(self, incarnation: Incarnation) -> Context[Any]:
        """A context for a behaviour."""
        if self.instruments is not None and self.instruments.hear_traffic:
            return ObservedContext(incarnation)
        return Context(incarnation)  # `Context[Any](incarnation)` would take a microsecond longer

    def family(
        self,
        path: str,
        options: SupervisorOptions,
        *,
        on_ready: Callable[[], object],
        on_end: Callable[[Exception | None], object],
    ) -> Children:
        """Room for the children of an actor."""
        return Children(self, path, options, on_ready=on_ready, on_end=on_end)

    def interrupt(self, error: BaseException) -> None:
        """The root gave up, or something that no actor may handle left one: the host stops the tree and raises."""
        self.failures.append(error)
        self.body.cancel()

    def _gave_up(self, failure: Exception | None) -> None:
        assert failure is not None, "because the root has no significant children"
        self.interrupt(failure)

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
        return (cell for cell in descendants(self.root) if cell.state not in FINAL)


def _nothing() -> None:
    """The root has no static children that it could wait for."""
