"""One run of a batched stage: take, copy, compute, answer, several batches at once.

The main task takes messages, and starts to copy their rows to the device. Each batch then flies in a task of its own: it
waits until the function has been called for the one before, calls it, and answers. So while one batch computes, the
next is copied there, and the one before is copied back; and all of it waits for the slowest of the three.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

import anyio
import numpy as np
from anyio.lowlevel import checkpoint_if_cancelled

from rookery._core._parking import interruptible, uninterrupted
from rookery._core.context import incarnation_of, receiving_of
from rookery._core.mailbox import NOTHING
from rookery._core.waiting import Latch
from rookery._model.dead_letter import Reason
from rookery._model.errors import Refused, StopRequested

from ._buffer import LARGE, UnifiedBuffer
from ._errors import ArgumentTypeError, ArgumentValueError, OutOfDeviceMemory
from ._row_budget import SHARE
from ._rows import RowRules, Taken
from ._share import Drawing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    import numpy.typing as npt

    from rookery._core.context import Context

    from ._device import Device

AT_ONCE: Final = 3
"""Batches in flight: one is copied there, one computes, one is copied back."""


@final
class Flight:
    """A batch on its way."""

    __slots__ = ("before", "called", "messages", "rows", "scope")

    def __init__(self, messages: Sequence[Any], rows: UnifiedBuffer, before: Latch | None, called: Latch) -> None:
        self.messages: Final = messages
        self.rows: Final = rows
        self.before: Final = before
        """Set when the function has been called for the batch before."""
        self.called: Final = called
        """Set when it has been for this one."""
        self.scope: Final = anyio.CancelScope()


@final
class Staging:
    """A stage while it runs."""

    def __init__(
        self,
        ctx: Context[Any],
        device: Device,
        rules: RowRules,
        max_items: int,
        max_delay: float,
        serve: Callable[[Sequence[Any], UnifiedBuffer], Awaitable[object]],
    ) -> None:
        self._ctx = ctx
        self._incarnation = incarnation_of(ctx)
        self._cell = self._incarnation.cell
        self._name = f"{self._cell.path} batch"
        self._poll, self._receive_within = receiving_of(ctx)
        self._device = device
        self._rules = rules
        # By the class, where that says it all: what a pool is asked for so it has looked at before.
        self._dtype = np.float32 if rules.dtype == np.float32 else rules.dtype
        self._max_items = max_items
        self._max_delay = max_delay
        self._of_all = device.pool.for_rows
        self._max_bytes = min(rules.max_bytes, self._of_all.for_several)
        self._serve = serve
        self._next: Taken | None = None  # taken, and not of the shape of the batch that was being filled
        self._flights: dict[Flight, None] = {}  # oldest first
        self._latest: Latch | None = None  # set when the function has been called for the latest of them
        self._one_ended: Latch | None = None

    @uninterrupted
    async def run(self) -> None:
        """Serve until a graceful stop; what has been taken until then is answered."""
        try:
            while (first := await self._first()) is not None:
                most = self._most(first.row.nbytes)
                await self._room(most * first.row.nbytes)
                await self._set_off(*await self._fill(first, most))
            await self._land()
        except GeneratorExit:
            raise  # the loop itself was torn down; there is nothing left to await with
        except BaseException:
            for flight in self._flights:
                flight.scope.cancel()
            with self._cell.engine.grace(self._cell.spec.settings.stop_timeout):
                await self._land()
            raise

    # --- taking ---

    async def _first(self) -> Taken | None:
        """The first message of a batch; None at a graceful stop."""
        taken, self._next = self._next, None
        try:
            while taken is None:
                message = await self._ctx.receive()
                row = self._row_of(message)
                taken = None if row is None else Taken(message, row)
        except StopRequested:
            return None
        return taken

    async def _fill(self, first: Taken, most: int) -> tuple[list[Any], list[npt.NDArray[Any]]]:
        """That message and its row, with what else comes for the batch in time."""
        messages, rows, shape = [first.message], [first.row], first.row.shape
        ends = self._device.loop.now() + self._max_delay
        while len(rows) < most:
            message = self._poll(None)
            if message is NOTHING:
                message = await self._in_time(ends)
            if message is NOTHING:
                break
            row = self._row_of(message)
            if row is None:
                continue
            if row.shape != shape:
                self._next = Taken(message, row)
                break
            messages.append(message)
            rows.append(row)
        return messages, rows

    async def _in_time(self, ends: float) -> Any:
        """A message that comes in time; NOTHING if none does."""
        left = ends - self._device.loop.now()
        if left <= 0 and not self._cell.mailbox.available():
            return NOTHING  # to wait for no time at all takes several rounds of the loop
        try:
            return await self._receive_within(left)
        except StopRequested:
            return NOTHING

    def _row_of(self, message: Any) -> npt.NDArray[Any] | None:
        """The row of a message; None for one that fails alone."""
        try:
            row = self._rules.row_of(message)
            if row.nbytes > self._of_all.limit:
                raise self._too_large(row.nbytes)
        except (ArgumentTypeError, ArgumentValueError, OutOfDeviceMemory) as error:
            self._fail(message, error)
            return None
        return row

    def _too_large(self, nbytes: int) -> OutOfDeviceMemory:
        """A row leaves no room for its result."""
        limit = self._device.pool.statistics().limit_bytes
        return OutOfDeviceMemory(
            f"{self._rules.stage} got a row of {nbytes:,} bytes, and rows have {self._of_all.limit:,} of the device's "
            f"{limit:,}, so that there is room for results: split it, or open the device with "
            f"memory_limit={SHARE * nbytes} or more"
        )

    def _most(self, nbytes: int) -> int:
        """How many rows of that many bytes a batch has at most: half of what may be in flight, so that there are two."""
        return max(1, min(self._max_items, self._max_bytes // 2 // nbytes))

    async def _room(self, nbytes: int) -> None:
        """Wait until that many bytes more may be in flight. What is larger than that altogether flies alone."""
        while self._flights and not self._has_room(nbytes):
            await self._landing()

    def _has_room(self, nbytes: int) -> bool:
        in_flight = sum(flight.rows.nbytes for flight in self._flights)
        return len(self._flights) < AT_ONCE and in_flight + nbytes <= self._max_bytes

    # --- flying ---

    async def _set_off(self, messages: Sequence[Any], rows: Sequence[npt.NDArray[Any]]) -> None:
        """Start to copy a batch, and a task that sees to the rest."""
        row = rows[0]
        capacity = min(_power_of_two(len(rows)), self._most(row.nbytes))
        nbytes = capacity * row.nbytes
        await self._reserve(nbytes)
        try:
            buffer = await self._copying(rows, (capacity, *row.shape))
        except OutOfDeviceMemory as error:
            self._of_all.give_back(nbytes)
            self._fail_all(messages, error)
            return
        except BaseException:
            self._of_all.give_back(nbytes)
            raise
        before, self._latest = self._latest, Latch(self._device.loop)
        flight = Flight(messages, buffer, before, self._latest)
        self._flights[flight] = None
        self._incarnation.start_soon(self._fly, (flight,), self._name)

    async def _copying(self, rows: Sequence[npt.NDArray[Any]], shape: tuple[int, ...]) -> UnifiedBuffer:
        """A buffer of that shape, to which the rows are being copied."""
        buffer = await self._device.pool.acquire(shape, self._dtype)
        try:
            buffer.gather(rows)
            buffer.start_upload(self._device.uploads)
        except BaseException:
            self._release(buffer)
            raise
        return buffer

    async def _reserve(self, nbytes: int) -> None:
        """Wait until that many bytes fit what all stages of the device may have in flight together."""
        while self._flights:
            if self._of_all.take_more(nbytes):
                return
            await self._landing()
        await self._of_all.take(nbytes)

    @uninterrupted
    async def _fly(self, flight: Flight) -> None:
        """Compute a batch when its turn has come, and answer."""
        result: UnifiedBuffer | npt.NDArray[Any] | None = None
        pool = self._device.pool
        pool.adopt(flight.rows)
        try:
            with flight.scope:
                if flight.before is not None and not flight.before.is_set:
                    with pool.waiting("its turn", until=flight.before):
                        await flight.before.wait()
                await checkpoint_if_cancelled()  # what has crashed computes nothing more
                try:
                    result = await self._compute(flight)
                except Refused as refused:
                    flight.called.set()
                    self._fail_all(flight.messages, refused.error)
                else:
                    # Not set if that raised: what has crashed computes nothing more.
                    if not issubclass(type(result), np.ndarray):
                        flight.called.set()
                    await self._answer(flight, result)
                    flight.called.set()  # an array is the function's own, which may fill it again in its next call
        finally:
            self._release(flight.rows)
            if isinstance(result, UnifiedBuffer):
                self._release(result)
            self._of_all.give_back(flight.rows.nbytes)
            del self._flights[flight]
            if self._one_ended is not None:
                self._one_ended.set()

    async def _compute(self, flight: Flight) -> UnifiedBuffer | npt.NDArray[Any] | None:
        """Call the function. Once that has succeeded, what it has taken and not returned is its own affair."""
        with Drawing(self._cell):
            result = await _call(self._serve, flight.messages, flight.rows)
            if result is None:
                return None
            return self._rules.check_result(result, len(flight.messages), flight.rows.shape[0])

    def _release(self, buffer: UnifiedBuffer) -> None:
        if not (buffer.released or self._device.closed) and buffer.owner is self._device:
            self._device.pool.release(buffer)

    async def _land(self) -> None:
        """Wait until no batch is in flight."""
        while self._flights:
            await self._landing()

    async def _landing(self) -> None:
        """Wait until a batch is no longer in flight."""
        self._one_ended = Latch(self._device.loop)
        await self._one_ended.wait()
        await checkpoint_if_cancelled()  # if it has crashed, nothing more may be taken

    # --- answering ---

    async def _answer(self, flight: Flight, result: UnifiedBuffer | npt.NDArray[Any] | None) -> None:
        """Give every request its row."""
        if result is None:
            answers: Iterable[object] = [None] * len(flight.messages)
        else:
            answers = await self._own_rows(result, len(flight.messages))
        asked, reply = self._incarnation.hand.peek, self._ctx.reply
        for message, answer in zip(flight.messages, answers, strict=True):
            if asked(message) is not None:  # nobody waits for what was only sent
                reply(message, answer)
        # This task gives way, as one that parks does: those that were answered begin their turns, and may ask again.
        self._cell.engine.turn.renew()

    async def _own_rows(self, result: UnifiedBuffer | npt.NDArray[Any], n: int) -> list[Any]:
        """The rows of a result, each an array of its own: who keeps one does not keep them all."""
        used: tuple[UnifiedBuffer, ...] = ()
        if isinstance(result, UnifiedBuffer):
            used = (result,)
            result.start_download(self._device.downloads)
            await result.ensure_on_host()
            result = result.host
        rows, copies = result[:n], list[Any]()
        if rows.nbytes < LARGE:
            return [row.copy() for row in rows]

        def copy() -> None:
            copies.extend(row.copy() for row in rows)

        await self._device.copies.submit(copy, used, lambda: f"reading a result of {self._cell.path}")
        return copies

    def _asked(self, message: Any) -> bool:
        """Whether somebody asked, and has had no answer; nobody waits for what was only sent."""
        return self._incarnation.hand.peek(message) is not None

    def _fail_all(self, messages: Sequence[Any], error: BaseException) -> None:
        for message in messages:
            self._fail(message, error)

    def _fail(self, message: Any, error: BaseException) -> None:
        """Fail one message: its asker gets the error; if it was only sent, that is a dead letter."""
        if self._asked(message):
            self._ctx.fail(message, error)
        else:
            self._cell.dead_letter(error, Reason.NOT_ASKED)


def _power_of_two(n: int) -> int:
    """The smallest that is not below ``n``."""
    return 1 << (n - 1).bit_length()


@interruptible
async def _call(serve: Callable[..., Awaitable[object]], *args: Any) -> object:
    """Call user code."""
    return await serve(*args)
