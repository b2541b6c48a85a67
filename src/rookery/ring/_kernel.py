"""One launched kernel: an actor, an output queue beside its mailbox, and what is known about both."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, final

import attrs

from .._core.mailbox import NOTHING, Mailbox
from .._core.ref import cell_of
from .._core.spec import child
from .._core.system import engine_of
from .._core.waiting import Latch
from .._model.checks import check_priority
from .._model.dead_letter import Reason
from .._model.errors import ActorStopped, AskTimeout, MailboxFull
from .._model.lifecycle import FINAL, ActorState
from .._model.messages import DEFAULT_PRIORITY
from .._model.restart import Restart
from ._callers import Callers
from ._definition import BackpressureStrategy, KernelDefinition, wrong_type
from ._errors import KernelTimeout
from ._persistence import Keeper
from ._run import run_kernel, run_stateful_kernel
from ._state import KernelState, check_transition
from ._tree import Node

if TYPE_CHECKING:
    from .._core.cell import Cell
    from .._core.context import Context
    from .._core.spec import ChildSpec
    from .._core.system import System
    from ._context import KernelContext
    from ._telemetry import KernelTelemetry, Meter


@final
class Kernel(Node):
    """What its id stands for in a runtime, from its launch on.

    The input queue is the actor's mailbox. Its state is read from the actor; kept here is what the actor does not
    know, whether it was ever activated, and what outlives it when it is started again with what is above it.
    """

    def __init__(
        self, definition: KernelDefinition, system: System, meter: Meter | None, parent: Node | None = None
    ) -> None:
        super().__init__(parent)
        self.definition: Final = definition
        self.meter: Final = meter
        engine = engine_of(system)
        self._engine: Final = engine
        self.activated: Latch = Latch(engine.loop)  # a new one after each deactivation
        self.callers: Final = Callers()
        options = definition.actor_options()
        self.output: Final[Mailbox[Any]] = Mailbox(
            engine.loop,
            engine.turn,
            capacity=definition.output_capacity,
            overflow=options.overflow,
            discard=self._dropped,
        )
        state = definition.state
        self.keeper: Final = None if state is None else Keeper(definition.kernel_id, state, engine.loop)
        behaviour = run_kernel if state is None else run_stateful_kernel
        self.spec: ChildSpec[Any] = child(behaviour, self).options(**attrs.asdict(options, recurse=False))
        self.returned: bool = False
        """Whether the latest run of its function has ended well, and nobody had asked it to."""
        self._was_active = False
        self.context: KernelContext[Any, Any] | None = None  # of the latest run
        self._former: Cell | None = None  # the latest actor so far, and what was counted by those before it,
        self._dropped_before: int = 0  # less what was counted before the latest reset
        self._received_before: int = 0
        self._in_vain: int = 0  # messages that were in work when a run did not end well

    @property
    def kernel_id(self) -> str:
        """The id it was launched under."""
        return self.definition.kernel_id

    # ---- its life

    @property
    def state(self) -> KernelState:
        """Where it is in its life."""
        if self.over:
            return KernelState.TERMINATED
        if cell_of(self.spec.ref) is None:
            return KernelState.CREATED
        if self.activated.is_set:
            return KernelState.ACTIVE
        return KernelState.DEACTIVATED if self._was_active else KernelState.LAUNCHED

    @property
    def never_ran(self) -> bool:
        """Whether its actor was refused, so that there is nothing to it."""
        return cell_of(self.spec.ref) is None

    def activate(self) -> None:
        """Hand it messages."""
        check_transition(self.kernel_id, self.state, KernelState.ACTIVE)
        if not self._between_lives:
            self.cell.resume()
        self._was_active = True
        self.activated.set()

    def deactivate(self) -> None:
        """Hand it no more messages."""
        check_transition(self.kernel_id, self.state, KernelState.DEACTIVATED)
        if not self._between_lives:
            self.cell.pause()
        self.activated = Latch(self._engine.loop)

    @property
    def _between_lives(self) -> bool:
        """Whether its actor has ended with what is above it, and another one follows."""
        return self.cell.state in FINAL

    async def begin(self, context: Context[Any]) -> None:
        """A run of its function comes next."""
        self.returned = False
        if self.context is not None and self.context.in_work:
            self._in_vain += 1
        if self._former is not None and self._former is not self.cell:
            self._dropped_before += self._former.mailbox.dropped
            self._received_before += self._former.received
        self._former = self.cell
        if not (self.activated.is_set or context.stopping):
            self.cell.pause()
        await super().begin(context)

    def ends_alone(self) -> bool:
        """Whether its function returned, or its end is never answered with a restart."""
        restart = self.definition.restart
        return restart is Restart.TEMPORARY or (self.returned and not restart.applies(crashed=False))

    def finish(self) -> None:
        """Nothing more comes: who receives gets what is left, then `ActorStopped`."""
        super().finish()
        self.output.halt(self._nothing_left, drain=True)
        if self.meter is not None:
            self.meter.end()
        if self.keeper is not None:
            self.keeper.close()

    def forget_output(self) -> None:
        """Nobody will receive what is left."""
        for message, priority in self.output.withdraw():
            self.cell.dead_letter(message, Reason.UNREAD, priority)

    async def save_last(self) -> None:
        """An incarnation has ended well: save its state. Whoever terminates it is told if that fails, or else the block."""
        assert self.keeper is not None
        unsaved, pierced = await self.keeper.save_reported()
        if unsaved is not None:
            self.not_saved(unsaved)
        if pierced is not None:
            raise pierced

    # ---- its queues, seen from outside

    async def send(self, message: Any, timeout: float | None) -> None:
        """Put a message into the input queue; see `RingKernelRuntime.send`."""
        await self.put(message, self.accept(message), self.deadline(timeout), timeout)

    def deadline(self, timeout: float | None) -> float:
        """When a wait that begins now is over, on the loop's clock."""
        return math.inf if timeout is None else self._engine.loop.now() + timeout

    def accept(self, message: object) -> int:
        """Check a message that is to be sent, and tell its priority."""
        accepted = self.definition.input_type
        if accepted is not None and not isinstance(message, accepted):
            raise wrong_type(message, accepted, f"the kernel {self.kernel_id!r}")
        priority: int = getattr(message, "priority", DEFAULT_PRIORITY)
        if priority is not DEFAULT_PRIORITY:
            check_priority(priority)
        return priority

    async def put(self, message: Any, priority: int, deadline: float, timeout: float | None) -> None:
        """Put a message that was accepted into the input queue, waiting for room until ``deadline``."""
        mailbox = self.cell.mailbox
        if mailbox.offer(message, priority):
            return
        try:
            if deadline == math.inf:
                await mailbox.insist(message, priority)
                return
            in_time = await mailbox.insist(message, priority, deadline, self._engine.deadlines)
        except MailboxFull:
            raise self.full("input") from None
        except ActorStopped as error:
            raise self._explained(error) from self._last_words
        if not in_time:
            raise KernelTimeout(f"{self.full('input')}; there was no room within {timeout} s")

    async def receive(self, timeout: float | None) -> Any:
        """Take a message from the output queue; see `RingKernelRuntime.receive`."""
        if timeout is None:
            return await self.output.get()
        message = await self.output.get_until(self._engine.loop.now() + timeout, self._engine.deadlines)
        if message is NOTHING:
            raise KernelTimeout(
                f"the kernel {self.kernel_id!r} sent nothing within {timeout} s "
                f"(state: {self.state.value}, waiting in its input queue: {len(self.cell.mailbox)})"
            )
        return message

    async def receive_batch(self, max_count: int, timeout: float | None) -> list[Any]:
        """Take what is in the output queue, once there is something; see `RingKernelRuntime.receive_batch`."""
        batch = [await self.receive(timeout)]
        while len(batch) < max_count and self.output.available():
            batch.append(self.output.get_nowait())
        return batch

    async def ask(self, message: Any, timeout: float | None) -> Any:
        """Send a request and wait for its reply; see `RingKernelRuntime.send_and_receive`."""
        priority = self.accept(message)
        message_id, request = self.callers.begin(message)
        before = self.callers.uncorrelated
        try:
            return await self.spec.ref.ask(request, priority=priority, timeout=timeout)
        except MailboxFull:
            if self.definition.backpressure is BackpressureStrategy.REJECT:
                raise self.full("input") from None
            raise
        except ActorStopped as error:
            raise self._explained(error) from self._last_words
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
    def queued(self) -> int:
        """How many messages wait in its input queue."""
        return len(self.cell.mailbox)

    @property
    def processed(self) -> int:
        """How many messages it has processed: those it was handed, but the one in work and those it crashed on."""
        in_work = self.context is not None and self.context.in_work
        return self._received_before + self.cell.received - self._in_vain - in_work

    @property
    def dropped(self) -> int:
        """How many messages the strategy dropped, at either queue."""
        return self._dropped_before + self.cell.mailbox.dropped + self.output.dropped

    def telemetry(self) -> KernelTelemetry | None:
        """What was measured, if it was."""
        if self.meter is None:
            return None
        return self.meter.snapshot(
            self.kernel_id,
            processed=self.processed,
            queued=self.queued,
            dropped=self.dropped,
            errors=self.error_count,
            last_error=self.last_error,
        )

    def reset(self) -> None:
        """Count anew."""
        self._dropped_before -= self.dropped
        self._received_before -= self.processed
        self.forget_crashes()
        if self.meter is not None:
            self.meter.reset()

    def full(self, which: str) -> MailboxFull:
        """The error of a full queue."""
        capacity = self.output.capacity if which == "output" else self.cell.mailbox.capacity
        return MailboxFull(
            f"the {which} queue of the kernel {self.kernel_id!r} is full ({capacity} messages, "
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

    def _dropped(self, message: object, priority: int, reason: Reason) -> None:
        self.cell.dead_letter(message, reason, priority)

    def _nothing_left(self) -> ActorStopped:
        error = ActorStopped(
            f"the kernel {self.kernel_id!r} has ended, and everything it sent was received; {self._how_it_ended()}"
        )
        error.__cause__ = self._last_words
        return error

    def _explained(self, error: ActorStopped) -> ActorStopped:
        """The core's error, with what it means for a kernel; unless it is something else that has ended."""
        ending = self.over or self.returned or self.cell.state in FINAL or self.cell.state is ActorState.STOPPING
        if not ending:
            return error
        by_others = self.cell.end_reason is not None and self._last_words is None
        what = f"{self.cell.path} has ended and takes no more messages" if by_others else error
        return ActorStopped(f"{what}; {self._how_it_ended()}")

    @property
    def _last_words(self) -> Exception | None:
        """The crash that it has ended by; None if only those below it crashed."""
        return self._failure if self.cell.end_reason is not None else None

    def _how_it_ended(self) -> str:
        """Why nobody receives, and what can be done about it."""
        again = f"`await runtime.launch({self.kernel_id!r}, ...)` makes a new one"
        if self.returned and self.cell.state is not ActorState.RESTARTING:
            return (
                f"its function has returned by itself, and a kernel lives as long as that runs: {again}; "
                "to go on until it is terminated, loop `while not ctx.should_terminate`"
            )
        if self._last_words is not None and self.over:
            return f"it crashed and was not restarted: {again}"
        if self.leaving or self.parent is None or self.over:
            return f"it was terminated: {again}"
        return f"it is started again with {self.parent.node_id!r}, below which it was launched"
