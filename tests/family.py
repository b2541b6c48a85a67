"""Children that keep a diary, for tests of who starts, ends and is restarted when."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import anyio
from anyio.lowlevel import checkpoint

from rookery import ActorRef, ChildSpec, Context, child
from support import settle

RETURN = "return"


async def member(ctx: Context[Any], diary: list[str]) -> None:
    """Writes ``+name`` when it starts, and ``-name`` when it has cleaned up after a stop, a crash or its return.

    Cancelled instead, it writes ``!name``. It raises the exceptions it receives, returns on `RETURN`, and writes down
    whatever else comes.
    """
    diary.append(f"+{ctx.name}")
    try:
        await _live(ctx, diary)
        for _ in range(3):
            await checkpoint()  # cleanup may await
    except anyio.get_cancelled_exc_class():
        diary.append(f"!{ctx.name}")
        raise
    except BaseException:
        diary.append(f"-{ctx.name}")
        raise
    diary.append(f"-{ctx.name}")


async def _live(ctx: Context[Any], diary: list[str]) -> None:
    async for item in ctx:
        if isinstance(item, BaseException):
            raise item
        if item == RETURN:
            return
        diary.append(f"{ctx.name} got {item}")


def members(names: Iterable[str], diary: list[str], **options: Any) -> list[ChildSpec[Any]]:
    """One `member` for each name, with these options."""
    return [child(member, diary).options(name=name, **options) for name in names]


def names(refs: Iterable[ActorRef[Any]]) -> str:
    """Their names, as one word where each is a letter."""
    return "".join(ref.name for ref in refs)


async def until_restarted(ref: ActorRef[Any], times: int = 1) -> None:
    """Wait for a number of restarts, and for the latest to be ready."""
    with anyio.fail_after(5):
        while ref.statistics().restarts < times:
            await settle()
    await settle()


def held(lines: list[str]) -> list[str]:
    """Take what is written in a diary so far out of it."""
    taken, lines[:] = list(lines), []
    return taken
