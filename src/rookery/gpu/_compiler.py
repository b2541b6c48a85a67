"""Compiling off the event loop, each program once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar, final

from . import _opencl
from ._lane import Lane

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rookery._core._parking import Loop

    from ._operation import Operation, Used
    from ._select import DeviceInfo
    from ._source import Source

    T = TypeVar("T")

KEPT: Final = 64
"""Programs that are kept for when they are asked for again; those compiled first go first."""

Key: TypeAlias = tuple[str, tuple[str, ...]]


@final
class Compiler:
    """The thread that compiles for a device, and what it compiled."""

    __slots__ = ("_context", "_info", "_kept", "lane")

    def __init__(self, loop: Loop, context: _opencl.Context, info: DeviceInfo) -> None:
        self.lane: Final = Lane(loop, f"compiler for {info.name}")
        self._context = context
        self._info = info
        self._kept: dict[Key, _opencl.RawProgram] = {}  # changed by the thread only

    async def compile(self, source: Source, options: Sequence[str]) -> _opencl.RawProgram:
        """The program, compiled now or before.

        If cancelled: the compiler finishes what it began, and keeps that.

        Raises:
            BuildFailed: with the compiler's message.
        """
        key = (source.numbered, (*source.options, *options))
        if (kept := self._kept.get(key)) is not None:
            await self.lane.loop.checkpoint()
            return kept
        return await self.do(lambda: self._compile(source, key))

    def _compile(self, source: Source, key: Key) -> _opencl.RawProgram:
        """In the thread, which does one thing after the other: who asks for the same meanwhile finds it here."""
        if (kept := self._kept.get(key)) is not None:
            return kept
        try:
            program = _opencl.compile_program(self._context, *key)
        except _opencl.CompilerError as error:
            raise source.failed(error.log, doubles=self._info.fp64) from None
        if not source.includes:  # else the same text may be another program tomorrow
            self._kept[key] = program
            if len(self._kept) > KEPT:
                del self._kept[next(iter(self._kept))]
        return program

    async def do(self, work: Callable[[], T]) -> T:
        """Do something else that needs the compiler, in its thread."""
        done: list[T] = []
        await self.lane.submit(lambda: done.append(work()), (), lambda: "compiling")
        return done[0]

    def submit(
        self, work: Callable[[], object], used: Sequence[Used], event: _opencl.Event, label: Callable[[], str]
    ) -> Operation:
        """Start something in its thread that takes long for what it compiles.

        Args:
            work: What to do.
            used: What it uses, to be told when it is over.
            event: What commands that depend on it wait for.
            label: What to call it in messages.
        """
        return self.lane.submit(work, used, label, event)
