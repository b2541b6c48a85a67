"""One launched kernel: an actor, an output queue beside its mailbox, and what is known about both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

import anyio

from .._core.context import Context  # noqa: TC001  # the core reads `run_kernel`'s annotation
from .._core.mailbox import Mailbox
from .._core.ref import cell_of, target_of
from .._core.spec import child
from .._core.system import engine_of
from .._core.waiting import Latch
from .._model.dead_letter import Reason
from .._model.errors import ActorStopped, AskTimeout, MailboxFull, StopRequested
from .._model.lifecycle import FINAL, ActorState
from .._model.messages import DEFAULT_PRIORITY
from ._callers import Callers
from ._context import KernelContext
from ._definition import BackpressureStrategy, KernelDefinition, wrong_type
from ._errors import KernelTimeout
from ._persistence import Keeper
from ._state import KernelState, check_transition

if TYPE_CHECKING:
    from .._core.cell import Cell
    from .._core.system import System
    from ._errors import StateNotSaved
    from ._telemetry import KernelTelemetry, Meter


@final
class Kernel:
    """What its id stands for in a runtime, from its launch on.

    The input queue is the actor's mailbox. Its state is read from the actor; kept here is only what the actor
    does not know, whether it was ever activated.
    """

    def __init__(self, definition: KernelDefinition, system: System, meter: Meter | None) -> None:
        self.definition: Final = definition
        self.meter: Final = meter
        engine = engine_of(system)
        self._engine: Final = engine
        self.activated: Latch = Latch(engine.loop)  # a new one after each deactivation
        self.callers: Final = Callers()
        overflow = definition.backpressure.overflow
        self.output: Final[Mailbox[Any]] = Mailbox(
            engine.loop, engine.turn, capacity=definition.queue_size, overflow=overflow, discard=self._dropped
        )
        state = definition.state
        self.keeper: Final = None if state is None else Keeper(definition.kernel_id, state, engine.loop)
        self.spec: Final = child(run_kernel if state is None else run_stateful_kernel, self).options(
            name=definition.kernel_id, capacity=definition.queue_size, overflow=overflow
        )
        self._was_active = False
        self._terminators = 0  # who waits for its end
        self._unsaved: StateNotSaved | None = None  # what they are told

    @property
    def kernel_id(self) -> str:
        """The id it was launched under."""
        return self.definition.kernel_id

    # ---- its life

    @property
    def state(self) -> KernelState:
        """Where it is in its life."""
        cell = cell_of(self.spec.ref)
        if cell is None:
            return KernelState.CREATED
        if cell.state in FINAL:
            return KernelState.TERMINATED
        if self.activated.is_set:
            return KernelState.ACTIVE
        return KernelState.DEACTIVATED if self._was_active else KernelState.LAUNCHED

    def activate(self) -> None:
        """Hand it messages."""
        check_transition(self.kernel_id, self.state, KernelState.ACTIVE)
        self.cell.resume()
        self._was_active = True
        self.activated.set()

    def deactivate(self) -> None:
        """Hand it no more messages."""
        check_transition(self.kernel_id, self.state, KernelState.DEACTIVATED)
        self.cell.pause()
        self.activated = Latch(self._engine.loop)

    async def terminate(self, timeout: float) -> None:
        """Stop it and wait for its end. If cancelled, the stop goes on."""
        if self.state is not KernelState.TERMINATED:  # it may end by itself at any time, which harms nobody
            check_transition(self.kernel_id, self.state, KernelState.TERMINATED)
        self._terminators += 1
        try:
            await self.cell.stop(drain=False, timeout=timeout)
        finally:
            self._terminators -= 1
        self.close_state()
        if self._unsaved is not None:
            raise self._unsaved

    def close_output(self) -> None:
        """Nothing more comes: who receives gets what is left, then `ActorStopped`."""
        self.output.halt(self._nothing_left, drain=True)
        if self.meter is not None:
            self.meter.end()

    def forget_output(self) -> None:
        """Nobody will receive what is left."""
        for message, priority in self.output.withdraw():
            self.cell.dead_letter(message, Reason.UNREAD, priority)
        self.close_state()

    async def save_last(self) -> None:
        """An incarnation has ended well: save its state. Whoever terminates it is told if that fails, or else the block."""
        assert self.keeper is not None
        unsaved = await self.keeper.save_reported()
        if unsaved is not None and self._terminators:
            self._unsaved = unsaved
        elif unsaved is not None:
            self.cell.owner.keep_stop_errors(self.cell, [unsaved])

    def close_state(self) -> None:
        """Let others have its state file, if it has ended for good. Idempotent."""
        if self.keeper is not None and self.state is KernelState.TERMINATED:
            self.keeper.close()

    def discard_state(self) -> None:
        """Its launch did not succeed: let others have its state file at once, or when what did start has ended."""
        if self.keeper is not None and self.state in {KernelState.CREATED, KernelState.TERMINATED}:
            self.keeper.close()

    # ---- its queues, seen from outside

    async def send(self, message: Any, timeout: float | None) -> None:
        """Put a message into the input queue; see `RingKernelRuntime.send`."""
        priority = self._accept(message)
        mailbox = target_of(self.spec.ref, message, priority).mailbox
        try:
            if timeout is None:
                await mailbox.put(message, priority)
                return
            deadline = self._engine.loop.now() + timeout
            in_time = await mailbox.put_until(message, priority, deadline, self._engine.deadlines)
        except MailboxFull:
            raise self.full("input") from None
        if not in_time:
            raise KernelTimeout(f"{self.full('input')}; there was no room within {timeout} s")

    async def receive(self, timeout: float | None) -> Any:
        """Take a message from the output queue; see `RingKernelRuntime.receive`."""
        if timeout is None:
            return await self.output.get()
        try:
            return await self.output.get_until(self._engine.loop.now() + timeout, self._engine.deadlines)
        except TimeoutError:
            raise KernelTimeout(
                f"the kernel {self.kernel_id!r} sent nothing within {timeout} s "
                f"(state: {self.state.value}, waiting in its input queue: {len(self.cell.mailbox)})"
            ) from None

    async def ask(self, message: Any, timeout: float | None) -> Any:
        """Send a request and wait for its reply; see `RingKernelRuntime.send_and_receive`."""
        priority = self._accept(message)
        message_id, request = self.callers.begin(message)
        before = self.callers.uncorrelated
        try:
            return await self.spec.ref.ask(request, priority=priority, timeout=timeout)
        except MailboxFull:
            if self.definition.backpressure is BackpressureStrategy.REJECT:
                raise self.full("input") from None
            raise
        except AskTimeout as error:
            if self.callers.uncorrelated == before:
                raise
            raise AskTimeout(
                f"{error}; meanwhile it sent what replies to nothing, so that it went to the output queue: "
                "for a reply write `correlation_id=request.message_id`"
            ) from None
        finally:
            self.callers.end(message_id)

    # ---- observation

    @property
    def error_count(self) -> int:
        """How many times it crashed: each crash but the last was followed by a restart."""
        actor = self.cell.statistics()
        return actor.restarts + (actor.state is ActorState.FAILED)

    @property
    def dropped(self) -> int:
        """How many messages the strategy dropped, at either queue."""
        return self.cell.mailbox.dropped + self.output.dropped

    def telemetry(self) -> KernelTelemetry | None:
        """What was measured, if it was."""
        if self.meter is None:
            return None
        return self.meter.snapshot(
            self.kernel_id, self.cell.statistics(), errors=self.error_count, dropped=self.dropped
        )

    def full(self, which: str) -> MailboxFull:
        """The error of a full queue."""
        return MailboxFull(
            f"the {which} queue of the kernel {self.kernel_id!r} is full ({self.definition.queue_size} messages, "
            f"{self.definition.backpressure.name}): take messages out faster, or launch it with a larger `queue_size`"
        )

    # ---- for its context

    async def checkpoint(self) -> None:
        """Let other tasks run."""
        await self._engine.loop.checkpoint()

    async def take_turn(self) -> None:
        """Let other tasks run if its turn is over."""
        if not self._engine.turn.count():
            await self._engine.turn.give_way()

    # ---- its own

    @property
    def cell(self) -> Cell:
        """The actor."""
        cell = cell_of(self.spec.ref)
        assert cell is not None  # a kernel is in nobody's hands before it was spawned
        return cell

    def _accept(self, message: object) -> int:
        """Check a message that was sent, and tell its priority."""
        accepted = self.definition.input_type
        if accepted is not None and not isinstance(message, accepted):
            raise wrong_type(message, accepted, f"the kernel {self.kernel_id!r}")
        return getattr(message, "priority", DEFAULT_PRIORITY)

    def _dropped(self, message: object, priority: int, reason: Reason) -> None:
        self.cell.dead_letter(message, reason, priority)

    def _nothing_left(self) -> ActorStopped:
        return ActorStopped(f"the kernel {self.kernel_id!r} has ended, and everything it sent was received")


async def run_kernel(context: Context[Any], kernel: Kernel) -> None:
    """The behaviour of every kernel's actor: run its function, paused until it is activated."""
    context.ready()
    if not (kernel.activated.is_set or context.stopping):
        kernel.cell.pause()
    ctx: KernelContext[Any, Any] = KernelContext(context, kernel)
    clean = False
    try:
        await kernel.definition.function(ctx)
        clean = True
    except (StopRequested, ExceptionGroup) as error:
        clean = not _crashes(error)
        if not clean:
            raise
    finally:
        if clean:
            ctx.came_back()
        if clean or context.stopping:  # otherwise it is started again
            kernel.close_output()


async def run_stateful_kernel(context: Context[Any], kernel: Kernel) -> None:
    """The same for a kernel with a state. A crash does not save: it may have left the state half changed."""
    assert kernel.keeper is not None
    kernel.keeper.begin(context)
    try:
        await run_kernel(context, kernel)
    except BaseException as error:
        if context.stopping and _is_cancelled(error):  # its time was over
            await kernel.save_last()
        raise
    await kernel.save_last()


def _is_cancelled(error: BaseException) -> bool:
    """Whether there is nothing to it but a cancellation."""
    cancelled = anyio.get_cancelled_exc_class()
    return BaseExceptionGroup("", [error]).split(cancelled)[1] is None


def _crashes(error: StopRequested | ExceptionGroup[Exception]) -> bool:
    """Whether there is more to it than that the kernel was asked to stop."""
    return isinstance(error, ExceptionGroup) and error.split(StopRequested)[1] is not None
