"""Tasks that outlive their block."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio

from ._settle import settle

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator


@asynccontextmanager
async def no_leaks() -> AsyncGenerator[None]:
    """A block that no task outlives that was started in it, rookery's or not.

    Looks when the block is left without an error, and everybody rests (see `settle`). Tasks that were there before may
    stay.

    Raises:
        AssertionError: which names them.
    """
    before = set(_tasks())
    yield
    await settle()
    left = [task for task in _tasks() if task not in before]
    if left:
        raise AssertionError(f"{len(left)} tasks outlive their block: {', '.join(sorted(map(_name, left)))}")


def _tasks() -> Iterator[Any]:
    """Every task of the running loop but the one that asks."""
    if not trio.lowlevel.in_trio_task():
        # anyio's pytest plugin has a task of its own for each call into the task in which tests and fixtures run.
        yield from (task for task in asyncio.all_tasks() - {asyncio.current_task()} if not _drives_tests(task))
        return
    root = trio.lowlevel.current_root_task()
    assert root is not None
    here = trio.lowlevel.current_task()
    yield from (task for task in _below(root) if task is not here)


def _drives_tests(task: asyncio.Task[Any]) -> bool:
    return getattr(task.get_coro(), "__qualname__", "") == "TestRunner._call_in_runner_task"


def _below(task: trio.lowlevel.Task) -> Iterator[trio.lowlevel.Task]:
    yield task
    for nursery in task.child_nurseries:
        for child in nursery.child_tasks:
            yield from _below(child)


def _name(task: Any) -> str:
    return str(task.get_name() if isinstance(task, asyncio.Task) else task.name)
