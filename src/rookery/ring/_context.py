"""The context: what a kernel function is given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, final

from .._core.context import receiving_of
from .._core.mailbox import NOTHING
from .._model.checks import check_priority
from .._model.dead_letter import Reason
from .._model.errors import MailboxFull, StopRequested
from .._model.messages import DEFAULT_PRIORITY
from ._definition import BackpressureStrategy, wrong_type
from ._errors import KernelStateError
from ._state_file import HOW_TO_WRITE
from ._stopping import UntilStop
from ._telemetry import Meter

if TYPE_CHECKING:
    from .._core.context import Context
    from ._kernel import Kernel
    from ._persistence import Keeper

NOT_MEASURED: Final = Meter()
"""Stands where a meter would, and is never read."""

TIn_co = TypeVar("TIn_co", covariant=True)
TOut_contra = TypeVar("TOut_contra", contravariant=True)


@final
class KernelContext(Generic[TIn_co, TOut_contra]):
    """One run of a kernel, seen from inside: its two queues and what is wanted of it.

    The idiomatic loop, in which every line does what it says::

        while not ctx.should_terminate:
            if not ctx.is_active:
                await ctx.wait_active()
                continue
            try:
                request = await ctx.receive(timeout=0.1)
            except TimeoutError:
                continue
            await ctx.send(Response(..., correlation_id=request.message_id))
        # here is time to clean up

    The plain one, which costs nothing while there is nothing to do::

        while True:
            request = await ctx.receive()
            await ctx.send(Response(..., correlation_id=request.message_id))

    Whatever these methods raise, other tasks have had their turn before: a loop that swallows every exception
    wastes time, and blocks nobody.
    """

    __slots__ = (
        "_context",
        "_keeper",
        "_kernel",
        "_measured",
        "_message",
        "_now",
        "_poll",
        "_receive_within",
        "_received",
        "_time",
        "_until_stop",
    )

    def __init__(self, context: Context[TIn_co], kernel: Kernel) -> None:
        self._context: Context[TIn_co] = context
        self._kernel = kernel
        self._keeper = kernel.keeper
        self._poll, self._receive_within = receiving_of(context)
        self._measured = kernel.meter is not None
        meter = kernel.meter or NOT_MEASURED
        self._now = meter.now
        self._time = meter.latencies.append
        self._until_stop = UntilStop(context)
        self._message: object = None  # the one in work, for the telemetry,
        self._received: float | None = None  # and since when; None: there is none

    @property
    def kernel_id(self) -> str:
        """The id it was launched under."""
        return self._kernel.kernel_id

    @property
    def should_terminate(self) -> bool:
        """Whether it has been asked to terminate. Always true before it is cancelled."""
        return self._context.stopping

    @property
    def is_active(self) -> bool:
        """Whether it is handed messages: it was activated, and not deactivated since."""
        return self._kernel.activated.is_set

    async def wait_active(self) -> None:
        """Wait until the kernel is active, or is to terminate; always a checkpoint. If cancelled, nothing changed."""
        self.came_back()
        keeper = self._keeper
        if keeper is not None:
            keeper.rest()
        try:
            await self._kernel.checkpoint()
            while not (self.is_active or self.should_terminate):
                with self._until_stop.cutting_short():
                    await self._kernel.activated.wait()
        finally:
            if keeper is not None:
                keeper.work()

    async def receive(self, timeout: float | None = None) -> TIn_co:
        """The most urgent message of the input queue, waiting for one if need be.

        None is handed out while the kernel is not active. If cancelled, nothing was taken.

        Args:
            timeout: Seconds to wait; None waits for ever.

        Raises:
            TimeoutError: if there was no message within ``timeout``; at once when the kernel is to terminate, so
                that the code behind its loop runs.
            StopRequested: without a timeout, when the kernel is to terminate. Let it leave the function: it is a
                normal end.
        """
        keeper = self._keeper
        if keeper is not None:
            self.came_back()
            keeper.rest()
        try:
            if self._received is None:
                message = self._poll(None)
            else:  # `came_back`, spelled out: a call is a tenth of what a message costs
                now = self._now()
                self._time(now - self._received)
                message = self._poll(now)
                if message is not NOTHING:
                    self._message, self._received = message, now
                    return message
                self._message = self._received = None
            if message is NOTHING:
                message = await (self._context.receive() if timeout is None else self._receive_within(timeout))
        except Exception as error:
            await self._kernel.checkpoint()
            if timeout is not None and isinstance(error, StopRequested):
                raise TimeoutError(f"the kernel {self.kernel_id!r} is to terminate") from None
            raise
        finally:
            if keeper is not None:
                keeper.work()
        if message is NOTHING:
            raise TimeoutError  # waiting for it has been a checkpoint
        if self._measured:
            self.came_back()  # from the one that another task of the kernel has received meanwhile
            self._message, self._received = message, self._now()
        return message

    async def send(self, message: TOut_contra) -> None:
        """Send a message: a reply to whoever waits for it in ``send_and_receive``, or to the output queue.

        A reply is recognised by its ``correlation_id``, the request's ``message_id``; it never waits. The first
        one is the caller's. If the caller has left or has its reply, it becomes a dead letter and reaches nobody
        else. If cancelled, nothing was sent.

        Args:
            message: Of the kernel's output type.

        Raises:
            MailboxFull: under ``REJECT``, when the output queue is full.
            StopRequested: when there is no room and the kernel is to terminate. Let it leave the function: it is
                a normal end.
            TypeError: for a message of another type.
            ValueError: for a priority out of range.
        """
        try:
            accepted = self._kernel.definition.output_type
            if accepted is not None and not isinstance(message, accepted):
                raise wrong_type(message, accepted, f"the output queue of the kernel {self.kernel_id!r}")
            request, answers = None, getattr(message, "correlation_id", None)
            if answers is None:
                self._kernel.callers.uncorrelated += 1
                await self._put(message)
            else:
                request = self._kernel.callers.request(answers)
                if request is not None or self._kernel.callers.knows(answers):
                    self._reply(request, message)
                else:
                    await self._put(message)
        except Exception:
            await self._kernel.checkpoint()
            raise
        if answers is not None and self._received is not None:
            if request is None or request is not self._message:
                request = getattr(self._message, "message_id", None)
                if answers is not request and answers != request:  # comparing UUIDs takes long
                    return
            self.came_back()

    # ---- its state

    @property
    def state(self) -> Any:
        """What the kernel keeps in its state file: whatever that can encode, a dict unless it says otherwise.

        It is the kernel's own, to be changed in place or replaced. The first run after a launch begins with what is
        in the file. After a crash the next run begins with what was saved last, because what crashed may have left
        it half changed, or may have crashed because of it.

        Raises:
            KernelStateError: if the kernel has no state file.
        """
        return self._state_keeper().value

    @state.setter
    def state(self, value: Any) -> None:
        self._state_keeper().value = value

    async def save_state(self) -> None:
        """Save the state now: when this returns it is on the disk. If cancelled, it is saved all the same.

        For what must not be lost once it was confirmed; other changes are saved periodically, whenever the kernel
        has come back for its next message, and when it ends.

        Raises:
            StateNotSaved: if that fails. What was saved before is as it was.
            KernelStateError: if the kernel has no state file.
        """
        await self._state_keeper().save()

    # ---- for the kernel that runs it

    def came_back(self) -> None:
        """The message in work, if any, has been processed."""
        if self._received is not None:
            self._time(self._now() - self._received)
            self._message = self._received = None

    @property
    def in_work(self) -> bool:
        """Whether it has received a message, and not come back for the next one."""
        return self._received is not None

    # ---- its own

    def _state_keeper(self) -> Keeper:
        if self._keeper is None:
            raise KernelStateError(f"the kernel {self.kernel_id!r} has no state file: {HOW_TO_WRITE}")
        return self._keeper

    def _reply(self, request: Any, reply: object) -> None:
        """Give a reply to the caller that waits for it; late if it is none any more."""
        if request is not None and self._in_hand(request):
            self._context.reply(request, reply)
        else:
            self._kernel.cell.dead_letter(reply, Reason.LATE_REPLY)

    def _in_hand(self, request: Any) -> bool:
        """Whether it was received, and is waited for and not answered."""
        try:
            return not self._context.abandoned(request)
        except TypeError:  # no request of its type was received at all
            return False

    async def _put(self, message: Any) -> None:
        """Put into the output queue; while that is full, wait for room, but not beyond a stop."""
        kernel = self._kernel
        priority = getattr(message, "priority", DEFAULT_PRIORITY)
        if priority != DEFAULT_PRIORITY:
            check_priority(priority)
        await kernel.take_turn()
        try:
            kernel.output.put_nowait(message, priority)
        except MailboxFull:
            if kernel.definition.backpressure is not BackpressureStrategy.BLOCK:
                raise kernel.full("output") from None
        else:
            return
        with self._until_stop.cutting_short():
            await kernel.output.put(message, priority)
            return
        raise StopRequested(f"{kernel.full('output')}, and it is to terminate")
