"""`open_priority_channel`: the mailbox on its own."""

from __future__ import annotations

import anyio
import pytest

from rookery import ChannelStatistics, MailboxFull, Overflow, WouldBlock, open_priority_channel
from support import settle


async def test_items_come_by_urgency_and_arrival():
    """It is the mailbox, with two ends."""
    send, receive = open_priority_channel[str](10)
    await send.send("later")
    await send.send("now", priority=200)
    send.send_nowait("last", priority=1)
    assert [await receive.receive(), receive.receive_nowait(), await receive.receive()] == ["now", "later", "last"]


async def test_closing_the_sender_ends_the_iteration_when_all_was_received():
    """Nothing that was sent is lost, and `EndOfStream` follows it."""
    send, receive = open_priority_channel[int](10)
    for item in range(3):
        await send.send(item)
    send.close()
    send.close()
    assert [item async for item in receive] == [0, 1, 2]
    with pytest.raises(anyio.EndOfStream):
        await receive.receive()
    with pytest.raises(anyio.ClosedResourceError):
        await send.send(3)


async def test_closing_the_receiver_turns_senders_away():
    """A sender that waits for room is told, and so is a later one."""
    send, receive = open_priority_channel[int](1)
    outcomes: list[str] = []

    async def sender() -> None:
        try:
            await send.send(2)
        except anyio.ClosedResourceError:
            outcomes.append("closed")

    await send.send(1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sender)
        await settle()
        receive.close()
    await sender()
    assert outcomes == ["closed", "closed"]
    with pytest.raises(anyio.ClosedResourceError):
        await receive.receive()


async def test_a_full_channel_pushes_back():
    """`send` waits, `send_nowait` raises; an empty one makes `receive_nowait` raise."""
    send, receive = open_priority_channel[int](1)
    with pytest.raises(WouldBlock):
        receive.receive_nowait()
    await send.send(1)
    with pytest.raises(MailboxFull):
        send.send_nowait(2)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send.send, 3)
        await settle()
        assert send.statistics() == ChannelStatistics(queued=1, capacity=1, blocked_senders=1, dropped=0)
        assert await receive.receive() == 1
    assert await receive.receive() == 3


async def test_what_the_policy_drops_is_counted():
    """Nothing is lost without being counted, outside of a system as well."""
    send, receive = open_priority_channel[int](2, overflow=Overflow.DROP_OLDEST)
    for item in range(5):
        await send.send(item)
    assert receive.statistics() == ChannelStatistics(queued=2, capacity=2, blocked_senders=0, dropped=3)
    assert [await receive.receive(), await receive.receive()] == [3, 4]


async def test_bad_arguments_are_refused_by_value():
    """The capacity, the policy and the priority: each error shows the value."""
    with pytest.raises(ValueError, match=r"1 or more, got 0"):
        open_priority_channel[int](0)
    with pytest.raises(TypeError, match=r"Overflow\.BLOCK.*got 'block'"):
        open_priority_channel[int](1, overflow="block")
    send, _ = open_priority_channel[int](1)
    with pytest.raises(ValueError, match=r"from 0 to 255.*got 256"):
        await send.send(1, priority=256)


def test_a_channel_needs_a_loop():
    """Outside of an event loop the error says what to start."""
    with pytest.raises(RuntimeError, match=r"trio\.run\(main\)"):
        open_priority_channel[int](1)
