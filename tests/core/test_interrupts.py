"""Ctrl-C at any moment: a scenario that uses everything is interrupted anywhere, and its books have to balance."""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
import logging
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from subprocess import PIPE
from typing import Any

import anyio
import pytest
import trio
from hypothesis import settings

import rookery
from rookery import Context, child, open_system

from . import scenario
from .aim import Aim
from .player import outcome, verdict
from .scenario import Books, play, play_briefly

LOOPS = ["trio", "asyncio"]
if importlib.util.find_spec("uvloop"):
    LOOPS.append("uvloop")

ROOT = Path(__file__).parents[2]
PACKAGE = Path(rookery.__file__).parent
EVERYWHERE = (str(PACKAGE), scenario.__file__)
AT_THE_EDGES = (str(PACKAGE / "_core" / "system.py"), str(PACKAGE / "_core" / "engine.py"), scenario.__file__)

# As with hypothesis's examples: new ones each time, the same ones where `ci` is set, and all of them at night.
STRIDE = 1 if settings.get_current_profile_name() == "nightly" else 61
FIRST = 1 if settings().derandomize else random.randint(1, STRIDE)
SEED = 0 if settings().derandomize else random.randrange(2**32)

# An interrupt between the call of an async function and its `await` is Python's affair.
pytestmark = pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """A failure is to be read without the records of a hundred crashes that are part of the scenario."""
    caplog.set_level(logging.CRITICAL, "rookery.supervision")


def strike(
    loop: str, *moments: int, program: Callable[[Books], Any] = play, within: tuple[str, ...] = EVERYWHERE
) -> list[int]:
    """Interrupt a program at these moments, and check what is left of it; those that never came are returned."""
    aim, books = Aim(*moments, within=within), Books()
    with aim.taken():
        left = outcome(loop, program, books)
    if len(aim.left) == len(moments):
        assert not left, left
        books.audit()
    else:
        wrong = verdict(left, books)
        assert not wrong, f"on {loop}, interrupted at {moments}: {wrong}"
    return aim.left


@pytest.mark.parametrize("loop", LOOPS)
def test_ctrl_c_at_any_moment_ends_the_tree_in_order_and_loses_nothing(loop: str) -> None:
    """A `KeyboardInterrupt` leaves the run; each actor has ended once, in order; each message has one end."""
    end = next(moment for moment in itertools.count(FIRST, STRIDE) if strike(loop, moment))
    assert end > 2000, "the scenario was watched from its beginning to its end"


@pytest.mark.parametrize("loop", LOOPS)
def test_ctrl_c_on_the_edges_of_the_block_does_not_tear_it(loop: str) -> None:
    """From before the first checkpoint to after the last one, no moment is too early or too late."""
    end = next(
        moment for moment in itertools.count(1) if strike(loop, moment, program=play_briefly, within=AT_THE_EDGES)
    )
    assert end > 30


def test_ctrl_c_twice_at_any_moments_hurries_the_stop_and_keeps_its_order() -> None:
    """On trio; on asyncio a second one is raised wherever the loop stands, which then cancels every task itself."""
    hit = 0
    for number in itertools.count():
        first, second = FIRST + number * 2 * STRIDE, 1 + number * 197 % 1500
        missed = strike("trio", first, second)
        hit += not missed
        if len(missed) == 2:
            break
    assert hit > number / 3


@pytest.mark.parametrize("loop", LOOPS)
def test_a_second_ctrl_c_ends_cleanup_that_would_take_for_ever(loop: str) -> None:
    """Also on asyncio, where it ends the loop, if that is what it hits: nobody is left behind, and nothing hangs."""
    log: list[str] = []

    async def lingering(ctx: Context[Any]) -> None:
        try:
            await ctx.wait_stopping()
            press_soon()
            await anyio.sleep_forever()
        finally:
            log.append(ctx.name)

    async def program(books: Books) -> None:
        async with open_system() as system:
            for name in ("first", "second"):
                await system.spawn(child(lingering).options(name=name, stop_timeout=math.inf))
            signal.raise_signal(signal.SIGINT)
            await anyio.sleep_forever()

    assert [type(error) for error in outcome(loop, program, Books())] == [KeyboardInterrupt]
    assert set(log) == {"first", "second"}


def press_soon() -> None:
    """Ctrl-C while the loop is on its own, and no task runs."""
    if trio.lowlevel.in_trio_task():
        trio.lowlevel.current_trio_token().run_sync_soon(signal.raise_signal, signal.SIGINT)
    else:
        asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGINT)


@pytest.mark.skipif(sys.platform == "win32", reason="signals are different there")
def test_signals_from_outside_at_any_time_are_survived() -> None:
    """As `kill -INT` sends them, also between the lines of the event loop; a few come before the run, or after it."""
    times = random.Random(SEED)
    heard: Counter[str] = Counter()
    command = [sys.executable, "-W", "ignore::RuntimeWarning", "-m", "tests.core.player"]  # for what was never awaited
    # A signal in coverage's own code would leave its lock taken.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, text=True, cwd=ROOT, env=environment) as player:
        for loop in ["trio", "asyncio"]:  # uvloop, on its way out, cannot be interrupted safely
            for _ in range(2):  # the first time is no measure: much is imported then
                began = time.perf_counter()
                assert play_to(player, loop, strike_after=None) == "finished"
                length = time.perf_counter() - began
            heard.update(play_to(player, loop, strike_after=times.uniform(0, length)) for _ in range(40))
        assert player.stdin
        player.stdin.close()
    assert heard.keys() <= {"not begun", "interrupted", "finished"}, f"seed {SEED}"
    assert heard["interrupted"] > 0


def play_to(player: subprocess.Popen[str], loop: str, strike_after: float | None) -> str:
    """Have the scenario played, and perhaps struck after so many seconds; the player's verdict."""
    assert player.stdin
    assert player.stdout
    print(loop, file=player.stdin, flush=True)
    assert player.stdout.readline() == "playing\n"
    if strike_after is not None:
        time.sleep(strike_after)  # nothing is waited for: this is the moment of the signal
        player.send_signal(signal.SIGINT)
    print("sent", file=player.stdin, flush=True)
    return player.stdout.readline().strip()
