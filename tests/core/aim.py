"""A SIGINT that can be aimed at any moment at which Python would look for one."""

from __future__ import annotations

import dis
import signal
import sys
from _thread import interrupt_main
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from types import CodeType, FrameType
from typing import Any

LOOKS_AFTER = ("RESUME", "PRECALL", "CALL", "JUMP_BACKWARD", "POP_JUMP_BACKWARD")
"""Beginnings of the names of instructions after which the interpreter looks for signals."""


class Aim:
    """A trace function that lets SIGINT arrive at chosen moments of what runs in some files.

    A moment is an instruction after which the interpreter looks for signals: the beginning of a function, a call, a
    jump back. The signal arrives just before, and is handled where the interpreter then looks. So nothing is
    interrupted here that a key could not interrupt, and nothing is spared that it could.
    """

    def __init__(self, *moments: int, within: tuple[str, ...]) -> None:
        """Aim at moments, each counted from the one before, in files whose paths begin with one of ``within``."""
        self.left = list(moments)
        self._within = within
        self._handler: Callable[[int, FrameType | None], object] | None = None

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Watch until then; a tracer of somebody else's, and the handler, are put back afterwards."""
        tracer, handler = sys.gettrace(), signal.getsignal(signal.SIGINT)
        sys._getframe().f_trace_opcodes = True  # from 3.12 on, `settrace` looks whether any frame wants them
        sys.settrace(self._enter)
        try:
            yield
        finally:
            sys.settrace(tracer)
            signal.signal(signal.SIGINT, handler)

    def _enter(self, frame: FrameType, event: str, _: object) -> Any:
        if not frame.f_code.co_filename.startswith(self._within):
            return None
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        return self._step

    def _step(self, frame: FrameType, event: str, _: object) -> Any:
        if event == "opcode" and frame.f_lasti in _moments(frame.f_code):
            self.left[0] -= 1
            if not self.left[0]:
                self._get_ready()
                # Without a call or a jump behind it: a signal that this function notices interrupts this function.
                (_,) = map(interrupt_main, (signal.SIGINT,))
        return self._step

    def _get_ready(self) -> None:
        """Be deaf until the signal has been handled, and then watch for the next moment."""
        sys.settrace(None)
        del self.left[0]
        handler = signal.getsignal(signal.SIGINT)  # the event loop's
        if self.left and callable(handler):
            self._handler = handler
            signal.signal(signal.SIGINT, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.left:
            sys.settrace(self._enter)
        assert self._handler is not None
        self._handler(number, frame)


@cache
def _moments(code: CodeType) -> frozenset[int]:
    return frozenset(step.offset for step in dis.get_instructions(code) if step.opname.startswith(LOOKS_AFTER))
