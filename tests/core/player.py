"""Plays the scenario as people run programs, and judges what an interrupt has left of it.

As a program (``python -m tests.core.player``) it plays for signals from outside, once for each loop that it is told.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator

import trio

from rookery import ActorStopped, StartFailed

from .scenario import Books, play


def outcome(loop: str, program: Callable[[Books], Awaitable[None]], books: Books) -> list[BaseException]:
    """Run it as people do, because each loop treats Ctrl-C in its own way; what left the run, groups taken apart."""
    try:
        if loop == "trio":
            trio.run(program, books)
        elif loop == "asyncio":
            asyncio.run(program(books))
        else:
            import uvloop

            uvloop.run(program(books))
    except BaseException as error:  # noqa: BLE001  # told as a value
        return list(_leaves(error))
    return []


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from _leaves(part)
    else:
        yield error


def verdict(left: list[BaseException], books: Books) -> str:
    """What is wrong after an interrupt, in words; empty if nothing is."""
    try:
        assert left, "nothing left the run"
        assert isinstance(left[0], KeyboardInterrupt), left
        # Whoever uses an actor that was stopped by then is told so: secondary, behind the interrupt.
        assert all(isinstance(error, KeyboardInterrupt | ActorStopped | StartFailed) for error in left), left
        books.audit()
    except AssertionError as error:
        return str(error) or repr(error)
    return ""


def main() -> None:
    """Play for signals from outside: one comes after each "playing", sooner or later, and then a line that says so."""
    logging.disable()
    for loop in iter(sys.stdin.readline, ""):
        books = Books()
        left: list[BaseException] = []
        try:
            print("playing", flush=True)
            left = outcome(loop.strip(), play, books)
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        except KeyboardInterrupt:
            pass  # before the run, or after it
        sys.stdin.readline()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # drops the one that is waiting
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        if not books.began:  # `asyncio.run`, interrupted before that, may raise `CancelledError`
            print("not begun", flush=True)
        elif left:
            print(verdict(left, books) or "interrupted", flush=True)
        else:
            books.audit()
            print("finished", flush=True)


if __name__ == "__main__":
    main()
