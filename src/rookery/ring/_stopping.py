"""Waits that end when the kernel is asked to terminate."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, final

import anyio

if TYPE_CHECKING:
    from collections.abc import Generator

    from .._core.context import Context


@final
class UntilStop:
    """The places where one incarnation of a kernel waits for something that may never come.

    A parked `receive` is woken by the core at a stop. A kernel also waits for room in its output queue, and to
    be activated. One task, started with the first such wait, stands for all of them and waits for the stop;
    what they waited for is left as it was, because their own tasks are the ones that are cancelled.
    """

    __slots__ = ("_context", "_scopes")

    def __init__(self, context: Context[Any]) -> None:
        self._context = context
        self._scopes: set[anyio.CancelScope] | None = None

    @contextmanager
    def cutting_short(self) -> Generator[None]:
        """Cancel what is awaited inside when a stop is asked for, or was; the block is then left at that point."""
        if self._scopes is None:
            self._context.start_soon(self._watch, name=f"{self._context.name}: waits until it is to terminate")
            self._scopes = set()
        with anyio.CancelScope() as scope:
            if self._context.stopping:
                scope.cancel()
            self._scopes.add(scope)
            try:
                yield
            finally:
                self._scopes.discard(scope)

    async def _watch(self) -> None:
        await self._context.wait_stopping()
        for scope in list(self._scopes or ()):
            scope.cancel()
