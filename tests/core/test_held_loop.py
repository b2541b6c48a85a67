"""The debug mode reports who holds the event loop, for how long, and where."""

from __future__ import annotations

import asyncio
import gc
import logging
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from rookery import Actor, Context, open_system
from rookery._core import held_loop
from rookery._core._parking import current_loop
from rookery._core.held_loop import HeldLoop, look
from support import settle


class Log(logging.Handler):
    """What is reported of those who hold the loop by calling `hold`; a busy machine may hold it at other places too."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.looked = threading.Event()
        self.still_held = threading.Event()
        self.reports: list[Any] = []
        self.threads: set[threading.Thread] = set()

    def emit(self, record: logging.LogRecord) -> None:
        told: Any = record
        if "self.wait_there" not in told.stack:
            return
        if record.levelno == logging.DEBUG:
            self.looked.set()
            return
        if "still held" in record.getMessage():
            self.still_held.set()
        self.reports.append(told)
        self.threads.add(threading.current_thread())

    def hold(self) -> None:
        """Hold the loop until somebody has looked here."""
        self.wait_there(self.looked)

    def wait_there(self, event: threading.Event) -> None:
        event.wait()  # the loop stands here


@pytest.fixture
def log() -> Iterator[Log]:
    log, logger = Log(), logging.getLogger("rookery.debug")
    logger.addHandler(log)
    logger.setLevel(logging.DEBUG)
    yield log
    logger.setLevel(logging.NOTSET)
    logger.removeHandler(log)


def watchers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.endswith("watches the event loop")]


def joined(watch: HeldLoop) -> None:
    """It has ended."""
    watch.end()
    for thread in watchers():
        thread.join()


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert watchers() == []


async def holder(ctx: Context[Log]) -> None:
    """Holds the loop with each message."""
    async for log in ctx:
        log.hold()


async def test_an_actor_that_holds_the_loop_is_reported(log: Log) -> None:
    """With its path, what it had in hand, for how long, and the line; once, by another thread than the loop's."""
    async with open_system(debug=True) as system:
        ref = await system.spawn(holder, name="miner")
        await ref.send(log)
        await ref.stop(drain=True)
    (told,) = log.reports
    assert (told.actor, told.in_hand, told.levelno) == ("/miner", "Log", logging.WARNING)
    assert told.seconds >= held_loop.HELD_AFTER
    assert "log.hold()" in told.stack
    assert "incarnation.py" not in told.stack
    assert "/miner, at work on Log, at " in told.getMessage()
    assert threading.current_thread() not in log.threads


async def test_a_further_task_of_an_actor_is_that_actor(log: Log) -> None:
    """One that it started with ``start_soon``."""

    async def starter(ctx: Context[Any]) -> None:
        async def work() -> None:
            log.hold()

        ctx.start_soon(work)
        await ctx.wait_stopping()

    async with open_system(debug=True) as system:
        await system.spawn(starter, name="starter")
        await settle()
    assert [record.actor for record in log.reports] == ["/starter"]


async def test_a_task_group_of_an_actors_own_is_that_actor(log: Log, anyio_backend_name: str) -> None:
    """It is known who opened it, but not what for. uvloop's tasks do not say whose they are."""

    async def work() -> None:
        log.hold()

    async def grouped(ctx: Context[Any]) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(work)
        await ctx.wait_stopping()

    async with open_system(debug=True) as system:
        await system.spawn(grouped, name="grouped")
        await settle()
    known = anyio_backend_name == "trio" or type(asyncio.get_running_loop()).__module__ != "uvloop"
    assert [(record.actor, record.in_hand) for record in log.reports] == [("/grouped" if known else None, None)]


async def test_a_method_of_an_actor_is_that_actor(log: Log) -> None:
    """Classes too."""

    class Miner(Actor):
        async def mine(self) -> None:
            log.hold()

    async with open_system(debug=True) as system:
        ref = await system.spawn(Miner, name="miner")
        await ref.call(Miner.mine)
    assert [record.actor for record in log.reports] == ["/miner"]


async def test_whoever_is_no_actor_is_said_to_be_none(log: Log) -> None:
    """The body of the block, say; where it stands is told all the same."""
    async with open_system(debug=True):
        log.hold()
    (record,) = log.reports
    assert record.actor is None
    assert "held by code outside of the tasks of actors at " in record.getMessage()
    assert "self.wait_there" in record.getMessage()


async def test_a_loop_that_stays_held_is_reported_before_its_end(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which may never come."""
    monkeypatch.setattr(held_loop, "STILL_HELD", 0.0)
    async with open_system(debug=True):
        self = log
        self.wait_there(log.still_held)
    first, second = log.reports
    assert "and is still held by" in first.getMessage()
    assert "did not come round for at least" in second.getMessage()


def test_a_loop_that_answers_is_not_reported(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often it is asked."""
    monkeypatch.setattr(held_loop, "HELD_AFTER", 0.0)
    answers = 0

    class Loop:
        thread = threading.get_ident()

        def call_from_thread(self, fn: Any) -> bool:
            nonlocal answers
            answers += 1
            fn()
            return answers < 4

    loop: Any = Loop()
    watch = HeldLoop(loop, "test")
    watch.open()
    while watchers():
        pass  # until the loop says that it is closed
    joined(watch)
    assert (answers, log.reports) == (5, [])  # the last one says that the thread has ended


async def test_without_the_debug_mode_there_is_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment turns it on where the program says nothing."""
    monkeypatch.delenv("ROOKERY_DEBUG", raising=False)
    for value, debug, threads in (
        (None, None, 0), ("", None, 0), ("0", None, 0), ("1", None, 1), ("1", False, 0), ("0", True, 1),
        ("false", None, 0), ("No", None, 0), (" OFF ", None, 0), ("true", None, 1), ("on", None, 1),
    ):  # fmt: skip
        if value is not None:
            monkeypatch.setenv("ROOKERY_DEBUG", value)
        async with open_system(debug=debug):
            assert len(watchers()) == threads


def test_debug_is_a_boolean() -> None:
    """A string would not be what it seems."""
    with pytest.raises(TypeError, match=r"debug is True, False, or None .* got '0': write `open_system\(debug=True\)`"):
        open_system(debug="0")  # type: ignore[arg-type]


async def test_a_system_is_not_kept_alive_by_its_watcher() -> None:
    """The thread is over when the block is, also if that fails; nothing refers to the system then."""
    with pytest.raises(ZeroDivisionError):
        async with open_system(debug=True) as system:
            assert len(watchers()) == 1
            raise ZeroDivisionError
    assert watchers() == []
    gone = weakref.ref(system._engine)
    del system
    gc.collect()
    await settle()
    gc.collect()
    assert gone() is None


NO_THREAD = 0
"""As a thread that has ended, whose number another one may have by now."""


def test_a_thread_that_has_ended_stands_nowhere() -> None:
    """Its loop cannot answer any more, and there is nobody to blame."""
    assert look(NO_THREAD) is None


def test_a_loop_whose_thread_is_gone_is_not_reported(log: Log) -> None:
    """It neither answers nor is held."""
    looked = threading.Event()

    class Loop:
        def call_from_thread(self, fn: Any) -> bool:
            return True

        def is_running(self) -> bool:
            return True

        @property
        def thread(self) -> int:
            looked.set()
            return NO_THREAD

    loop: Any = Loop()
    watch = HeldLoop(loop, "test")
    watch.open()
    looked.wait()
    joined(watch)
    assert log.reports == []


class Mute:
    """A loop that answers nothing, and is closed once it was asked three times. The thread of the test is its own."""

    def __init__(self, *running: bool) -> None:
        self.thread = threading.get_ident()
        self.over = threading.Event()
        self._running = [*running]
        self._asked = 0

    def call_from_thread(self, fn: Any) -> bool:
        self._asked += 1
        if self._asked == 3:
            self.over.set()
        return self._asked < 3

    def is_running(self) -> bool:
        return self._running.pop(0) if len(self._running) > 1 else self._running[0]


@pytest.mark.parametrize(
    ("running", "told"),
    [([False], []), ([True, False], []), ([True], ["and is still held by"])],
    ids=["never ran", "stopped", "held to its end"],
)
def test_a_loop_that_never_answers_does_not_keep_the_thread(
    log: Log, monkeypatch: pytest.MonkeyPatch, running: list[bool], told: list[str]
) -> None:
    """One that does not run, between two calls of ``run_until_complete``, is held by nobody, wherever its thread is."""
    monkeypatch.setattr(held_loop, "HELD_AFTER", 0.01)
    monkeypatch.setattr(held_loop, "STILL_HELD", 0.01)
    loop: Any = Mute(*running)
    HeldLoop(loop, "test").open()
    self = log
    self.wait_there(loop.over)
    for thread in watchers():
        thread.join()
    assert log.looked.is_set() == running[0]
    assert [text in record.getMessage() for record, text in zip(log.reports, told, strict=True)] == [True] * len(told)


async def test_whoever_is_told_may_need_the_loop(log: Log) -> None:
    """The end of the block waits for the report, and leaves the loop to others meanwhile."""
    loop = current_loop()
    answered: list[bool] = []

    class Asks(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "did not come round" in record.getMessage() and not answered:
                answer = threading.Event()
                loop.call_from_thread(answer.set)
                answered.append(answer.wait(30))

    handler, logger = Asks(), logging.getLogger("rookery.debug")
    logger.addHandler(handler)
    try:
        async with open_system(debug=True):
            log.hold()
    finally:
        logger.removeHandler(handler)
    assert answered == [True]


def test_a_loop_that_is_closed_under_its_system_ends_the_thread() -> None:
    """Nobody asks it any more."""
    loop = asyncio.new_event_loop()

    async def abandon() -> Any:
        block = open_system(debug=True)
        await block.__aenter__()
        return block

    task = loop.create_task(abandon())
    loop.run_until_complete(task)
    for left in asyncio.all_tasks(loop):
        left.cancel()
    (thread,) = watchers()
    loop.close()
    thread.join()


def test_an_interpreter_ends_while_a_loop_is_watched() -> None:
    """The thread does not keep it."""
    code = """
import os, sys, trio
from rookery import open_system

async def main():
    async with open_system(debug=True):
        sys.exit(7)

trio.run(main)
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 7
