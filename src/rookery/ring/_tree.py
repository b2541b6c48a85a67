"""What is launched below what: kernels, and groups of kernels that are supervised together.

The core ends an actor's children before the actor, and starts a crashed actor again without them: who they were is
for its behaviour to say anew. Kernels are known by name to those who send to them, and they know nothing of a
crash above. So what was launched below a kernel or a group is started again with it, in order of launch.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Never, final

from .._core.children import KEPT_ERRORS
from .._core.context import Context, incarnation_of
from .._core.instruments import Instrument
from .._core.ref import cell_of
from .._core.spec import child
from .._model.errors import ActorStopped, StartFailed
from .._model.lifecycle import FINAL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._core.cell import Cell
    from .._core.ref import ActorRef
    from .._core.spec import ChildSpec
    from .._core.system import System
    from .._model.options import SupervisorOptions
    from ._errors import StateNotSaved


class Node(ABC):
    """An actor of a runtime that is known by its id, and what was launched below it."""

    spec: ChildSpec[Any]

    def __init__(self, parent: Node | None) -> None:
        """Stand below that one, or directly in the runtime."""
        self.parent: Final = parent
        self.over: bool = False
        """Whether it has ended for good: neither it nor what is above it will be started again."""
        self.leaving: bool = False
        """Whether it was told to end, and not because of what is above it."""
        self.error_count: int = 0
        """How many times it crashed."""
        self.last_error: Exception | None = None
        """What it crashed with the last time."""
        self._below: dict[Node, None] = {}
        self._context: Context[Any] | None = None  # of the latest incarnation
        self._failure: Exception | None = None  # what that crashed with
        self._heard: deque[Exception] = deque(maxlen=KEPT_ERRORS)  # crashes below, of those that were being stopped
        self._terminators = 0  # who waits for its end
        self._unsaved: list[StateNotSaved] = []  # what they are told

    @property
    def node_id(self) -> str:
        """The id it is known by."""
        return self.spec.name

    @property
    def cell(self) -> Cell:
        """The actor: after a restart of what is above it, another one."""
        cell = cell_of(self.spec.ref)
        assert cell is not None, "a node is in nobody's hands before it was spawned"
        return cell

    async def spawn(self, system: System) -> None:
        """Start its actor where it belongs, and wait until it runs. If cancelled, or refused, it has ended.

        Raises:
            ActorStopped: if it cannot start, or was ended before it had.
        """
        try:
            if self.parent is None:
                await system.spawn(self.spec)
            else:
                await self.parent._have(self)
        except BaseException as error:
            self.leaving = True
            if cell_of(self.spec.ref) is None or self.cell.state in FINAL:
                self.finish()
            if isinstance(error, StartFailed) and isinstance(error.__cause__, ActorStopped):
                raise ActorStopped(
                    f"{self.node_id!r} was ended before it had started: somebody terminated it, or what it was launched below"
                ) from error
            raise

    async def terminate(self, timeout: float) -> None:
        """Stop it and what is below it, and wait for the end. If cancelled, the stop goes on.

        Raises:
            StateNotSaved: if a last state was not saved, its own or that of a kernel below it.
            ExceptionGroup: of these, if there are several.
        """
        self.cell.refuse_from_within()
        self.leaving = True
        if self.cell.state in FINAL:
            self.finish()
        self._terminators += 1
        try:
            await self.cell.stop(drain=False, timeout=timeout)
        except BaseException:
            if self._terminators == 1:
                self._leave_to_block()
            raise
        finally:
            self._terminators -= 1
        if len(self._unsaved) == 1:
            raise self._unsaved[0]
        if self._unsaved:
            raise ExceptionGroup("the states of kernels were not saved at their end", self._unsaved)

    # ---- for its actor

    async def begin(self, context: Context[Any]) -> None:
        """An incarnation has begun: start again what was below the one before. Then it is ready."""
        self._context = context
        self._failure = None
        self._heard.clear()
        for node in list(self._below):
            if not (context.stopping or node.over):
                await context.spawn(node.spec)
        context.ready()

    def not_saved(self, error: StateNotSaved) -> None:
        """Its last state was not: tell whoever terminates it, or something above it, or else the block."""
        for node in self._upwards():
            if node._terminators:
                node._unsaved.append(error)
                return
        self._tell_block([error])

    # ---- what is told of its actor

    def crashed(self, crash: Exception) -> None:
        """An incarnation has crashed: keep what with. What only those below it crashed with is counted there."""
        self._failure = self._own(crash)
        if self._failure is not None:
            self.error_count += 1
            self.last_error = self._failure
        above = [] if self.parent is None else [*self.parent._upwards()]
        if above and above[0]._stops_those_below:
            for node in above:
                node._heard.append(crash)

    def forget_crashes(self) -> None:
        """Count them anew."""
        self.error_count = 0
        self.last_error = None

    def ended(self) -> None:
        """Its actor has ended: by itself, or because what is above it did, which may be started again."""
        if self.parent is None or self.parent.over or self.leaving or self.ends_alone():
            self.finish()

    @abstractmethod
    def ends_alone(self) -> bool:
        """Whether its actor has ended for reasons of its own."""

    def finish(self) -> None:
        """It has ended for good, and so has what is below it. Idempotent."""
        self.over = True
        if self.parent is not None:
            self.parent._below.pop(self, None)
        for node in list(self._below):
            node.finish()

    # ---- its own

    def _upwards(self) -> Iterator[Node]:
        """It, and what is above it."""
        node: Node | None = self
        while node is not None:
            yield node
            node = node.parent

    @property
    def _stops_those_below(self) -> bool:
        family = self.cell.children
        return family is not None and family.stopping

    def _own(self, crash: Exception) -> Exception | None:
        """What is left of a crash without what it was told of those below it; None if that is nothing."""
        below, own = ExceptionGroup("", [crash]).split(lambda error: any(error is known for known in self._heard))
        if below is None or own is None:
            return None if own is None else crash
        (rest,) = own.exceptions
        parts: tuple[Exception, ...] = getattr(rest, "exceptions", ())
        return parts[0] if len(parts) == 1 else rest

    def _leave_to_block(self) -> None:
        """Nobody waits for its end any more."""
        unsaved, self._unsaved = self._unsaved, []
        self._tell_block(unsaved)

    def _tell_block(self, unsaved: list[StateNotSaved]) -> None:
        *_, top = self._upwards()
        top.cell.owner.keep_stop_errors(self.cell, unsaved)

    async def _have(self, node: Node) -> None:
        if self.over or self._context is None:
            raise ActorStopped(f"{self.node_id!r} has ended, or has yet to start, and nothing is launched below it now")
        self._below[node] = None
        await self._context.spawn(node.spec)


@final
class Group(Node):
    """A supervisor: nothing is sent to it, and what is launched below it is restarted as it says."""

    def __init__(self, group_id: str, options: SupervisorOptions, parent: Node | None) -> None:
        super().__init__(parent)
        self.options: Final = options
        self.spec = child(run_group, self).options(name=group_id, stop_timeout=math.inf)

    def ends_alone(self) -> bool:
        """A group only ends when it is told to, or with what is above it."""
        return False


async def run_group(context: Context[Never], group: Group) -> None:
    """The behaviour of a group's actor."""
    if not context.stopping:
        incarnation_of(context).family(group.options)
    await group.begin(context)
    await context.wait_stopping()


@final
class Lives(Instrument):
    """Tells the nodes of a runtime what becomes of their actors."""

    def crashed(self, ref: ActorRef[Any], incarnation: int, crash: Exception, decision: str) -> None:  # noqa: ARG002
        """Whatever follows from it."""
        _node(ref).crashed(crash)

    def ended(self, ref: ActorRef[Any], reason: Exception | None) -> None:  # noqa: ARG002
        """Nothing follows from it."""
        _node(ref).ended()


def _node(ref: ActorRef[Any]) -> Node:
    cell = cell_of(ref)
    assert cell is not None, "which has just been heard of"
    node = cell.spec.args[0]
    assert isinstance(node, Node), "every actor of a runtime runs one"
    return node
