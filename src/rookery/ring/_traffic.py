"""What is sent to a runtime's kernels, and received from them, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._model.checks import check_count, check_timeout
from ._batch import SendBatch
from ._block import Block

if TYPE_CHECKING:
    from collections.abc import Iterable


class Traffic(Block):
    """The part of a runtime that feeds kernels and reads what they send."""

    async def send(self, kernel_id: str, message: object, *, timeout: float | None = None) -> None:
        """Put a message into a kernel's input queue. If cancelled, it was not sent.

        Args:
            kernel_id: Which.
            message: Of the kernel's input type. Its ``priority``, if it has one, says how urgent it is. One that
                `send_and_receive` was called with has had its reply: what replies to it now is a dead letter, so
                send another one to see the reply in `receive`.
            timeout: Seconds to wait for room under ``BLOCK``; None waits for ever.

        Raises:
            KernelTimeout: a ``TimeoutError``, if there was no room within ``timeout``.
            MailboxFull: under ``REJECT``, when the queue is full.
            ActorStopped: if the kernel has ended or is ending.
            KernelStateError: if it was not launched.
            TypeError: for a message of another type, or a timeout that is no number.
            UnknownKernel: if there is none.
            ValueError: for a priority out of range, or a timeout of NaN.
        """
        kernel = self._launched(kernel_id)
        if timeout is not None:
            check_timeout(timeout)
        await kernel.send(message, timeout)

    def send_batch(self, kernel_id: str, messages: Iterable[object], *, timeout: float | None = None) -> SendBatch:
        """Send several messages, in order; to be awaited, for how many were sent.

        Each of them is sent as by `send`: under ``BLOCK`` it waits for room, under ``DROP_OLDEST`` it may have an older one
        dropped; messages of other senders may come between. Nothing is sent before all of them have been checked.

        How many were sent is known also when this raises or is cancelled, and so is what was not. Keep what the call
        gives, and ask it::

            batch = runtime.send_batch("k", messages, timeout=1)
            try:
                await batch
            except TimeoutError:
                print(batch.sent, "are in the queue, left are", batch.unsent)

        Args:
            kernel_id: Which.
            messages: Of the kernel's input type. They are taken out of an iterator here and now.
            timeout: Seconds to wait for room under ``BLOCK``, for all of them together; None waits for ever.

        Raises:
            KernelTimeout: a ``TimeoutError``, if there was no room for all of them within ``timeout``.
            MailboxFull: under ``REJECT``, when the queue is full.
            ActorStopped: if the kernel has ended or is ending.
            KernelStateError, UnknownKernel: as `send`.
            TypeError, ValueError: as `send`, and none was sent.
        """
        return SendBatch(lambda: self._launched(kernel_id), messages, timeout)

    async def receive(self, kernel_id: str, *, timeout: float | None = None) -> Any:
        """Take the most urgent message from a kernel's output queue. If cancelled, nothing was taken.

        Args:
            kernel_id: Which.
            timeout: Seconds to wait for one; None waits for ever.

        Raises:
            KernelTimeout: a ``TimeoutError``, if there was none within ``timeout``.
            ActorStopped: if the kernel has ended and nothing is left.
            KernelStateError: if it was not launched.
            TypeError: for a timeout that is no number.
            UnknownKernel: if there is none.
            ValueError: for a timeout of NaN.
        """
        kernel = self._launched(kernel_id)
        if timeout is not None:
            check_timeout(timeout)
        return await kernel.receive(timeout)

    async def receive_batch(self, kernel_id: str, max_count: int, *, timeout: float | None = None) -> list[Any]:
        """Wait for a message in a kernel's output queue, then take what else is there. If cancelled, nothing was taken.

        Args:
            kernel_id: Which.
            max_count: How many at most.
            timeout: Seconds to wait for the first one; None waits for ever.

        Returns:
            At least one message, the most urgent first.

        Raises:
            ValueError: for a ``max_count`` that is no whole number, or below 1.
            KernelTimeout, ActorStopped, KernelStateError, TypeError, UnknownKernel, ValueError: as `receive`, and nothing
                was taken.
        """
        kernel = self._launched(kernel_id)
        check_count("receive_batch takes a whole number: max_count must be 1 or more", max_count, least=1)
        if timeout is not None:
            check_timeout(timeout)
        return await kernel.receive_batch(max_count, timeout)

    async def send_and_receive(self, kernel_id: str, message: object, *, timeout: float | None = None) -> Any:
        """Send a request and wait for its reply: the message whose ``correlation_id`` is its ``message_id``.

        The first such message is the reply; others reach nobody, however late they come. If cancelled or timed
        out, the request is not served any more if it is still queued.

        Args:
            kernel_id: Which.
            message: Of the kernel's input type, with a ``message_id``.
            timeout: Seconds to wait, for room and for the reply together; None for no limit.

        Raises:
            AskTimeout: a ``TimeoutError``, if no reply came within ``timeout``.
            ActorCrashed: if the kernel crashed on this request; the crash is the ``__cause__``.
            ActorStopped: if it ends without answering.
            AskCycle: if it is itself waiting for the calling kernel's answer.
            KernelStateError, MailboxFull, TypeError, UnknownKernel, ValueError: as `send`.
        """
        return await self._launched(kernel_id).ask(message, timeout)
