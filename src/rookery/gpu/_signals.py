"""Keeping Ctrl-C from a driver's compiler."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator


@contextmanager
def compiler_undisturbed() -> Generator[None]:
    """Run what may start a driver's compiler.

    PoCL links in a child process, when a program is built and again at the first launch with each local size. A
    terminal's Ctrl-C goes to every process in front of it, and a linker that is killed makes the launch fail, where
    the program is about to stop in order. Children inherit what their thread blocks, so SIGINT is blocked in this
    thread for the while; Python hears of it afterwards, or through another thread.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
