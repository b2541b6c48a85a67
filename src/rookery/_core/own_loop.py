"""Everything belongs to one event loop, and is refused in another."""

from __future__ import annotations

from threading import get_ident
from typing import TYPE_CHECKING

from .._model.errors import WrongLoop

if TYPE_CHECKING:
    from ._parking import Loop


def check_own_loop(loop: Loop, what: str, call: str) -> None:
    """Refuse to be used from another event loop, whether that runs in this thread or in another.

    On the way of every message it is enough to compare threads, which is quicker; this is for the others.

    Args:
        loop: The loop that it belongs to.
        what: What is used, for the message.
        call: What to write after ``anyio.from_thread.``: ``run(ref.send, message)``.

    Raises:
        WrongLoop: with the line to write instead.
    """
    if loop.is_here():
        return
    if loop.thread != get_ident():
        raise WrongLoop(
            f"{what} belongs to the event loop of another thread: call it from there, for example with "
            f"`anyio.from_thread.{call}`"
        )
    raise WrongLoop(
        f"{what} belongs to another event loop than the one that runs here: a system and all who use it live in one "
        "`trio.run(main)` or `asyncio.run(main())`"
    )
