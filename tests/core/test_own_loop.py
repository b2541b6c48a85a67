"""A reference belongs to one event loop: another one in the same thread is told so, too."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from rookery import (
    ActorRef,
    ActorState,
    ActorStopped,
    Context,
    Request,
    System,
    WrongLoop,
    message,
    open_priority_channel,
    open_system,
)
from rookery._core.turn import MESSAGES

ANOTHER = r"belongs to another event loop than the one that runs here.*one `trio\.run\(main\)`"


@message
class Question(Request[int]):
    pass


async def recorder(ctx: Context[Any], received: list[Any]) -> None:
    received.extend([item async for item in ctx])


def uses(ref: ActorRef[Any]) -> list[Callable[[], Awaitable[object]]]:
    """Whatever else one can do with a reference."""

    async def stop_soon() -> None:
        ref.stop_soon()

    return [ref.stop, stop_soon, ref.wait_stopped, ref.pause, ref.resume]


async def refused_at_once(system: System, ref: ActorRef[Any]) -> None:
    for use in (*uses(ref), lambda: system.spawn(recorder, [])):
        with pytest.raises(WrongLoop, match=ANOTHER):
            await use()


async def asks_are_refused_at_once(ref: ActorRef[Any], *errors: type[Exception]) -> None:
    for timeout in (None, 1):
        with pytest.raises(errors):
            await ref.ask(Question(), timeout=timeout)


async def send_until_refused(ref: ActorRef[Any], sent: list[int]) -> None:
    with pytest.raises(WrongLoop, match=ANOTHER):
        while True:
            await ref.send(len(sent))
            sent.append(len(sent))


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, pytest.param("uvloop", id="uvloop")])
def test_two_loops_that_take_turns_in_one_thread(new_loop: Any) -> None:
    """What waits is refused at once in the other loop, a sender before it gives way; what was sent is received."""
    if new_loop == "uvloop":
        new_loop = pytest.importorskip("uvloop").new_event_loop
    received: list[Any] = []
    sent: list[int] = []
    own, other = new_loop(), new_loop()
    running, goes_on = own.create_future(), own.create_future()

    async def host() -> None:
        async with open_system() as system:
            ref = await system.spawn(recorder, received)
            running.set_result((system, ref))
            await goes_on
            await ref.stop(drain=True)

    hosting = own.create_task(host())
    try:
        system, ref = own.run_until_complete(running)
        other.run_until_complete(refused_at_once(system, ref))
        other.run_until_complete(asks_are_refused_at_once(ref, WrongLoop))
        other.run_until_complete(send_until_refused(ref, sent))
        assert len(sent) <= MESSAGES
        assert (ref.name, ref.path, ref.state) == ("recorder", "/recorder", ActorState.RUNNING)
        goes_on.set_result(None)
        own.run_until_complete(hosting)
    finally:
        own.close()
        other.close()
    assert received == sent


@pytest.mark.parametrize("first", ["asyncio", "trio"])
@pytest.mark.parametrize("second", ["asyncio", "trio"])
def test_a_reference_that_outlived_its_loop(first: str, second: str) -> None:
    """Its actor has stopped, and it is another loop: whoever does not wait is told the first, and who stops it the second.

    A sender that has to give way is told that it is another loop; so is an asker, unless trio runs both.
    """

    async def leave_behind() -> tuple[System, ActorRef[Any]]:
        async with open_system() as system:
            return system, await system.spawn(recorder, [])

    async def find() -> None:
        with pytest.raises(ActorStopped, match="/recorder is stopped"):
            ref.send_nowait(1)
        with pytest.raises((ActorStopped, WrongLoop)):
            await ref.send(1)
        await refused_at_once(system, ref)
        await asks_are_refused_at_once(ref, ActorStopped, WrongLoop)

    system, ref = anyio.run(leave_behind, backend=first)
    anyio.run(find, backend=second)
    assert (ref.path, ref.state, ref.statistics().queued) == ("/recorder", ActorState.STOPPED, 0)


async def test_a_channel_is_refused_in_another_thread_before_its_user_gives_way() -> None:
    """Threads share no channel; this one is found out after a bounded number of items."""
    send, _ = open_priority_channel[int](1000)

    async def flood() -> None:
        for number in range(1000):
            await send.send(number)

    with pytest.raises(WrongLoop, match="this mailbox belongs to the event loop of another thread"):
        await anyio.to_thread.run_sync(anyio.run, flood)
    assert send.statistics().queued <= MESSAGES


async def test_an_answer_from_a_worker_thread_is_refused_and_can_be_given_again() -> None:
    """The request stays in hand, and the error shows how to answer from there."""

    async def threaded(ctx: Context[Any]) -> None:
        async for request in ctx:
            with pytest.raises(WrongLoop, match=r"anyio\.from_thread\.run_sync\(ctx\.reply, request, value\)"):
                await anyio.to_thread.run_sync(ctx.reply, request, 1)
            await anyio.to_thread.run_sync(anyio.from_thread.run_sync, ctx.reply, request, 2)

    async with open_system() as system:
        ref = await system.spawn(threaded)
        assert await ref.ask(Question()) == 2
