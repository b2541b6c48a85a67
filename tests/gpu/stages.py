"""What the tests of stages share: messages, a stage that notes its calls, and tasks that ask it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import numpy as np
import numpy.typing as npt

from rookery import ActorRef, Request, gpu, message

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

SQUARE = """
kernel void square(global const float *x, global float *y, int n)
{
    int i = get_global_id(0);
    if (i < n)
        y[i] = x[i] * x[i] + 1;
}
"""

NEVER = 3600.0
"""A delay after which no test waits: a batch goes when it is full."""

Array = npt.NDArray[Any]


@message
class Square(Request[Array]):
    row: Any
    label: int = 0


@message
class Learn(Request[None]):
    row: Any


def row(*values: float) -> Array:
    return np.array(values, np.float32)


def noting(calls: list[list[Any]], **options: Any) -> gpu.Stage[Square, [gpu.Kernel]]:
    """A stage that squares and adds 1, and notes what it is called with."""

    @gpu.batched(**options)
    async def square(device: gpu.Device, batch: gpu.Batch[Square], kernel: gpu.Kernel) -> gpu.UnifiedBuffer:
        calls.append(list(batch.messages))
        out = await device.empty(batch.rows.shape)
        items = batch.rows.size // batch.capacity * batch.n
        kernel.submit(batch.rows, out, items, size=items, local=64)
        return out

    return square


class Asker:
    """Asks, in a task of its own."""

    def __init__(self, tasks: TaskGroup, ref: ActorRef[Any], request: Square, **how: Any) -> None:
        self.request = request
        self.outcome: Any = "none yet"
        self.scope = anyio.CancelScope()
        self._ask = lambda: ref.ask(request, **how)
        tasks.start_soon(self._run)

    async def _run(self) -> None:
        with self.scope:
            try:
                self.outcome = await self._ask()
            except Exception as error:  # noqa: BLE001
                self.outcome = error
