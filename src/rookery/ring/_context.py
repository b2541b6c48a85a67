"""The context: what a kernel function is given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar, final

from .._model.checks import check_priority
from .._model.dead_letter import Reason
from .._model.errors import MailboxFull, StopRequested
from .._model.messages import DEFAULT_PRIORITY
from ._definition import BackpressureStrategy, wrong_type
from ._errors import KernelStateError
from ._state_file import HOW_TO_WRITE
from ._stopping import UntilStop

if TYPE_CHECKING:
    from .._core.context import Context
    from ._kernel import Kernel
    from ._persistence import Keeper

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

    __slots__ = ("_context", "_kernel", "_message", "_received", "_until_stop")

    def __init__(self, context: Context[Any], kernel: Kernel) -> None:
        self._context = context
        self._kernel = kernel
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
        keeper = self._kernel.keeper
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
        self.came_back()
        keeper = self._kernel.keeper
        if keeper is not None:
            keeper.rest()
        try:
            message: TIn_co = await self._context.receive(timeout)
        except TimeoutError:
            raise  # waiting for it has been a checkpoint
        except Exception as error:
            await self._kernel.checkpoint()
            if timeout is not None and isinstance(error, StopRequested):
                raise TimeoutError(f"the kernel {self.kernel_id!r} is to terminate") from None
            raise
        finally:
            if keeper is not None:
                keeper.work()
        if self._kernel.meter is not None:
            self._message, self._received = message, self._kernel.meter.now()
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
            answers = getattr(message, "correlation_id", None)
            self._kernel.callers.uncorrelated += answers is None
            if answers is None or not self._reply(answers, message):
                await self._put(message)
        except Exception:
            await self._kernel.checkpoint()
            raise
        if self._received is not None and answers is not None and answers == getattr(self._message, "message_id", None):
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
        return self._keeper().value

    @state.setter
    def state(self, value: Any) -> None:
        self._keeper().value = value

    async def save_state(self) -> None:
        """Save the state now: when this returns it is on the disk. If cancelled, it is saved all the same.

        For what must not be lost once it was confirmed; other changes are saved periodically, whenever the kernel
        has come back for its next message, and when it ends.

        Raises:
            StateNotSaved: if that fails. What was saved before is as it was.
            KernelStateError: if the kernel has no state file.
        """
        await self._keeper().save()

    # ---- for the kernel that runs it

    def came_back(self) -> None:
        """The message in work, if any, has been processed."""
        if self._received is not None:
            meter = self._kernel.meter
            assert meter is not None
            meter.done(self._received)
            self._message = self._received = None

    # ---- its own

    def _keeper(self) -> Keeper:
        keeper = self._kernel.keeper
        if keeper is None:
            raise KernelStateError(f"the kernel {self.kernel_id!r} has no state file: {HOW_TO_WRITE}")
        return keeper

    def _reply(self, message_id: object, reply: object) -> bool:
        """Give a reply to the caller that waits for it, if one does; False if it is no reply to any caller."""
        callers = self._kernel.callers
        if not callers.knows(message_id):
            return False
        request = callers.request(message_id)
        if request is not None and self._in_hand(request):
            self._context.reply(request, reply)
        else:
            self._kernel.cell.dead_letter(reply, Reason.LATE_REPLY)
        return True

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
