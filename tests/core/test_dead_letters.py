"""Dead letters: counted, kept for a while, observable."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from rookery import (
    ActorStopped,
    Context,
    DeadLetter,
    MailboxFull,
    Overflow,
    Reason,
    System,
    child,
    open_system,
)
from support import settle


async def patient(ctx: Context[Any]) -> None:
    """Receives, and does nothing with it."""
    async for _ in ctx:
        pass


async def filled(system: System, overflow: Overflow, *priorities: int) -> Any:
    """A paused actor with room for two, to which messages 0, 1, … were sent."""
    ref = await system.spawn(child(patient).options(capacity=2, overflow=overflow))
    await ref.pause()
    for number, priority in enumerate(priorities):
        await ref.send(number, priority=priority)
    return ref


@pytest.mark.parametrize(
    ("overflow", "expected"),
    [
        (Overflow.DROP_NEWEST, DeadLetter(2, Reason.DROPPED_NEWEST, "/patient", 128)),
        (Overflow.DROP_OLDEST, DeadLetter(1, Reason.DROPPED_OLDEST, "/patient", 5)),
    ],
)
async def test_what_a_policy_drops_is_a_dead_letter(overflow: Overflow, expected: DeadLetter) -> None:
    """With the reason, the actor and the priority."""
    async with open_system() as system:
        await filled(system, overflow, 200, 5, 128)
        assert system.dead_letters.recent == (expected,)
        assert system.dead_letters.statistics().by_reason == {expected.reason: 1}


async def test_a_newcomer_that_is_less_urgent_than_all_is_the_one_that_drops() -> None:
    """DROP_OLDEST never evicts an urgent message for a less urgent one."""
    async with open_system() as system:
        await filled(system, Overflow.DROP_OLDEST, 200, 200, 5)
        assert system.dead_letters.recent == (DeadLetter(2, Reason.DROPPED_NEWEST, "/patient", 5),)


async def test_what_was_refused_is_no_dead_letter() -> None:
    """Its sender knows already."""
    async with open_system() as system:
        ref = await filled(system, Overflow.REJECT, 128, 128)
        with pytest.raises(MailboxFull, match=r"full \(2 messages, REJECT\): .*`child\(\.\.\.\)\.options\(capacity"):
            await ref.send("refused")
        blocking = await filled(system, Overflow.BLOCK, 128, 128)
        with pytest.raises(MailboxFull):
            blocking.send_nowait("refused")
        await ref.stop()
        before = system.dead_letters.statistics().total
        with pytest.raises(ActorStopped):
            ref.send_nowait("refused")
        assert (before, system.dead_letters.statistics().total) == (2, 2)


async def test_what_was_never_read_is_a_dead_letter() -> None:
    """In the order in which it would have been received, at any kind of end."""

    async def crasher(ctx: Context[Any]) -> None:
        await ctx.receive()
        raise ValueError

    async with open_system() as system:
        ref = await filled(system, Overflow.BLOCK, 1, 255)
        await ref.stop()
        assert [letter.message for letter in system.dead_letters.recent] == [1, 0]
        with pytest.raises(ExceptionGroup):
            async with open_system() as inner:
                failing = await inner.spawn(crasher)
                for number in range(6):
                    failing.send_nowait(number)
                await anyio.sleep_forever()
        assert inner.dead_letters.recent == tuple(
            DeadLetter(number, Reason.UNREAD, "/crasher", 128) for number in (4, 5)
        )


async def test_counts_are_complete_and_the_last_hundred_are_kept() -> None:
    """What is kept is bounded."""
    async with open_system() as system:
        ref = await system.spawn(child(patient).options(capacity=1, overflow=Overflow.DROP_OLDEST))
        await ref.pause()
        for number in range(251):
            await ref.send(number)
        assert system.dead_letters.statistics().total == 250
        assert [letter.message for letter in system.dead_letters.recent] == list(range(150, 250))


async def test_listening() -> None:
    """Every listener gets each letter from when it began until it leaves."""
    async with open_system() as system:
        ref = await filled(system, Overflow.DROP_NEWEST, 128, 128, 128)
        async with system.dead_letters.listen() as one:
            await ref.send("a")
            async with system.dead_letters.listen() as other:
                await ref.send("b")
            await ref.send("c")
            assert [(await one.receive()).message for _ in range(3)] == ["a", "b", "c"]
            assert [letter.message async for letter in other] == ["b"]
        assert system.dead_letters.statistics().total == 4


async def test_a_slow_listener_misses_the_oldest() -> None:
    """It holds nobody up, and what it missed stays counted."""
    async with open_system() as system:
        ref = await filled(system, Overflow.DROP_NEWEST, 128, 128)
        async with system.dead_letters.listen(capacity=2) as letters:
            for number in range(5):
                await ref.send(number)
            assert [letters.receive_nowait().message for _ in range(2)] == [3, 4]
        assert system.dead_letters.statistics().total == 5


async def test_a_listener_that_closes_its_end_harms_nobody() -> None:
    """Whoever causes a dead letter does not get its error."""
    async with open_system() as system:
        ref = await filled(system, Overflow.DROP_NEWEST, 128, 128)
        async with system.dead_letters.listen() as closed, system.dead_letters.listen() as other:
            closed.close()
            await ref.send("dropped")
            assert (await other.receive()).message == "dropped"


async def test_a_listener_of_a_stopping_system_hears_the_last_letters() -> None:
    """What was never read is told while the block is being left."""
    heard: list[Any] = []

    async def listen(system: System) -> None:
        async with system.dead_letters.listen() as letters:
            async for letter in letters:
                heard.append(letter.message)  # noqa: PERF401  # each at once

    async with anyio.create_task_group() as tasks:
        async with open_system() as system:
            tasks.start_soon(listen, system)
            await settle()
            await filled(system, Overflow.BLOCK, 128, 128)
        await settle()
        tasks.cancel_scope.cancel()
    assert heard == [0, 1]
