"""Declaring and spawning children: arguments, reference types, options."""

from __future__ import annotations

from typing import assert_type

from rookery import (
    ActorRef,
    Backoff,
    ChildSpec,
    Context,
    DeadLetter,
    Intensity,
    Overflow,
    PriorityReceiver,
    PrioritySender,
    Request,
    Restart,
    System,
    child,
    message,
    open_priority_channel,
    open_system,
)


@message
class Add(Request[float]):
    a: float


@message
class Note:
    text: str


async def plain(ctx: Context[Add | Note]) -> None: ...
async def with_arguments(ctx: Context[Note], number: int, name: str = "x", *, size: int = 1) -> None: ...
async def with_reference(ctx: Context[Note], other: ActorRef[Add]) -> None: ...
async def no_context(number: int) -> None: ...
def not_async(ctx: Context[Note]) -> None: ...


class Stateful:
    async def __call__(self, ctx: Context[Note], number: int) -> object: ...

    async def run(self, ctx: Context[Add]) -> None: ...


# ---- child: arguments are those of the behaviour after its context

assert_type(child(plain), ChildSpec[Add | Note])
assert_type(child(with_arguments, 1), ChildSpec[Note])
assert_type(child(with_arguments, 1, "y", size=2).options(name="z"), ChildSpec[Note])
assert_type(child(Stateful(), 1), ChildSpec[Note])
assert_type(child(Stateful().run), ChildSpec[Add])
child(with_reference, child(plain).ref)

child(plain, 1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
child(with_arguments)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
child(with_arguments, "1")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
child(with_arguments, 1, size="2")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
child(with_arguments, 1, colour=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
child(with_reference, child(with_arguments, 1).ref)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
child(no_context)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
child(not_async)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
child(plain(child))  # type: ignore[arg-type, call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]

# ---- options

assert_type(
    child(plain).options(
        name=None,
        restart=Restart.PERMANENT,
        start_timeout=1,
        stop_timeout=2.5,
        capacity=3,
        overflow=Overflow.DROP_OLDEST,
        backoff=Backoff(1, maximum=2.0),
    ),
    ChildSpec[Add | Note],
)
child(plain).options(capacity="3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
child(plain).options(restart="always")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
child(plain).options(colour=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
child(plain).options("name")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
Intensity(3, 5.0)
Intensity("3", per=5.0)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

# ---- spawn: the same checks, and a reference of the behaviour's message types


async def spawning(system: System, ctx: Context[Note]) -> None:
    assert_type(await system.spawn(plain), ActorRef[Add | Note])
    assert_type(await system.spawn(plain, name="x"), ActorRef[Add | Note])
    assert_type(await system.spawn(with_arguments, 1, "y"), ActorRef[Note])
    assert_type(await system.spawn(child(plain)), ActorRef[Add | Note])
    assert_type(await ctx.spawn(Stateful().run), ActorRef[Add])
    ref = await ctx.spawn(child(with_arguments, 1).options(capacity=1))
    await ref.send(Note("x"))

    await ref.send(Add(1))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await system.spawn(plain, 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await system.spawn(with_reference, ref)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await system.spawn(not_async)  # type: ignore[call-arg, arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
    await system.spawn(child(plain), name="x")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await system.spawn(3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    wrong: ActorRef[Add] = await system.spawn(with_arguments, 1)  # type: ignore[arg-type]  # pyright: ignore[reportAssignmentType]
    print(wrong)


async def inside(ctx: Context[Add | Note]) -> None:
    assert_type(await ctx.receive(), Add | Note)
    assert_type(await ctx.receive(timeout=1), Add | Note)
    assert_type(ctx.receive_nowait(), Add | Note)
    assert_type(await ctx.receive_batch(3), list[Add | Note])
    async for received in ctx:
        assert_type(received, Add | Note)
    ctx.start_soon(no_context, 1)
    ctx.start_soon(no_context, "1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ctx.start_soon(no_context)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# ---- the block, dead letters, the channel


async def running() -> None:
    async with open_system(name="x", intensity=Intensity(1, per=2)) as system:
        assert_type(system, System)
        async with system.dead_letters.listen(capacity=3) as letters:
            assert_type(letters, PriorityReceiver[DeadLetter])
            async for letter in letters:
                assert_type(letter, DeadLetter)
    open_system("x")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def channels() -> None:
    send, receive = open_priority_channel[Note](3, overflow=Overflow.REJECT)
    assert_type(send, PrioritySender[Note])
    assert_type(await receive.receive(), Note)
    await send.send(Note("x"), priority=3)
    await send.send(Add(1))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
