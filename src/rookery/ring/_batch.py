"""Several messages on their way into a kernel's input queue."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, final

from .._model.checks import check_timeout

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from ._kernel import Kernel


@final
class SendBatch(Coroutine[Any, Any, int]):
    """What ``send_batch`` gives: a coroutine that says, during and after its run, how far it has come.

    Awaiting it sends the messages and gives how many there were. It is awaited once.
    """

    __slots__ = ("_messages", "_run", "_sent")

    def __init__(self, kernel: Callable[[], Kernel], messages: Iterable[object], timeout: float | None) -> None:
        self._messages = tuple(messages)
        self._sent: list[object] = []
        self._run = _send(kernel, self._messages, timeout, self._sent)

    @property
    def sent(self) -> int:
        """How many messages, from the first one on, are in the kernel's queue, or were."""
        return len(self._sent)

    @property
    def unsent(self) -> list[Any]:
        """The messages that were not sent: the rest, in order."""
        return list(self._messages[self.sent :])

    # ---- a coroutine, so that it can be awaited, and started as a task

    def __await__(self) -> Generator[Any, Any, int]:
        return self._run.__await__()

    def send(self, value: Any, /) -> Any:
        """Of the coroutine."""
        return self._run.send(value)

    def throw(self, *error: Any) -> Any:
        """Of the coroutine."""
        return self._run.throw(*error)

    def close(self) -> None:
        """Of the coroutine."""
        self._run.close()


async def _send(
    find: Callable[[], Kernel], messages: tuple[object, ...], timeout: float | None, sent: list[object]
) -> int:
    """Does the sending. It knows nothing of the batch, which so is not kept alive if nobody awaits it."""
    kernel = find()
    if timeout is not None:
        check_timeout(timeout)
    priorities = [kernel.accept(message) for message in messages]
    deadline = kernel.deadline(timeout)
    for message, priority in zip(messages, priorities, strict=True):
        await kernel.put(message, priority, deadline, timeout)
        sent.append(message)
    return len(sent)
