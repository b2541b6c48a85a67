"""Running on a loop by its name, and what becomes of Ctrl-C."""

from __future__ import annotations

import asyncio

import pytest
import trio

from rookery._cli.loops import run_on

from .conftest import LOOPS


@pytest.mark.parametrize("loop", LOOPS)
def test_it_is_the_loop_that_was_named(loop: str) -> None:
    """And the result comes back."""

    async def name(*parts: str) -> str:
        running = "trio" if trio.lowlevel.in_trio_run() else type(asyncio.get_running_loop()).__module__.split(".")[0]
        return "-".join([*parts, running])

    assert run_on(loop, name, "a", "b") == f"a-b-{loop}"


@pytest.mark.parametrize("loop", LOOPS)
def test_interrupts_leave_alone(loop: str) -> None:
    """Who presses Ctrl-C twice gets no group with a traceback of its own."""

    async def pressed_twice() -> None:
        raise BaseExceptionGroup("both", [KeyboardInterrupt(), KeyboardInterrupt()])

    with pytest.raises(KeyboardInterrupt):
        run_on(loop, pressed_twice)


@pytest.mark.parametrize("loop", LOOPS)
def test_an_interrupt_hides_no_error(loop: str) -> None:
    """What went wrong while stopping is told as well."""

    async def failed_meanwhile() -> None:
        raise BaseExceptionGroup("both", [KeyboardInterrupt(), ValueError("meanwhile")])

    with pytest.raises(BaseExceptionGroup) as caught:
        run_on(loop, failed_meanwhile)
    assert caught.group_contains(ValueError, match="meanwhile")
