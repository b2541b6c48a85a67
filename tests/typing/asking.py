"""Asks: what comes back, who may be asked, and what may be replied."""

from __future__ import annotations

from typing import Any, assert_type

from rookery import ActorRef, Context, Request, message


@message
class Add(Request[float]):
    a: float


@message
class Name(Request[str]):
    number: int


@message
class Find(Request["Name | None"]):
    number: int


@message
class Save(Request[None]):
    number: int


@message
class Note:
    text: str


# ---- the result of an ask is the request's reply type


async def asking(
    adder: ActorRef[Add], both: ActorRef[Add | Name | Note], finder: ActorRef[Find | Save], anything: ActorRef[Any]
) -> None:
    assert_type(await adder.ask(Add(1)), float)
    assert_type(await both.ask(Add(1), timeout=1, priority=3), float)
    assert_type(await both.ask(Name(1)), str)
    assert_type(await finder.ask(Find(1)), Name | None)
    await finder.ask(Save(1))
    assert_type(await anything.ask(Name(1)), str)

    await adder.ask(Name(1))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await both.ask(Find(1))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await both.ask(Note("x"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await adder.ask(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await adder.ask(Add(1), timeout="1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    wrong: str = await adder.ask(Add(1))  # type: ignore[arg-type]  # pyright: ignore[reportAssignmentType]
    print(wrong)


# ---- a reply is of the request's reply type


async def replying(ctx: Context[Add | Name | Find | Save | Note]) -> None:
    async for received in ctx:
        assert_type(received, Add | Name | Find | Save | Note)
        match received:
            case Add(a):
                ctx.reply(received, a)
                ctx.reply(received, 1)
                ctx.reply(received, "one")  # type: ignore[misc]  # pyright: ignore[reportArgumentType]
                ctx.reply(received, None)  # type: ignore[misc]  # pyright: ignore[reportArgumentType]
            case Name():
                ctx.reply(received, "one")
                ctx.reply(received, 1)  # type: ignore[misc]  # pyright: ignore[reportArgumentType]
            case Find():
                ctx.reply(received, None)
                ctx.reply(received, Name(1))
                ctx.reply(received, "one")  # type: ignore[misc]  # pyright: ignore[reportArgumentType]
            case Save():
                ctx.reply(received, None)
            case Note():
                ctx.reply(received, None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def failing(ctx: Context[Add]) -> None:
    request = await ctx.receive()
    ctx.fail(request, ValueError("no"))
    ctx.fail(request, "no")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ctx.fail(Note("x"), ValueError())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with ctx.within(request):
        assert_type(ctx.abandoned(request), bool)


# ---- the reply type is invariant: neither a wider nor a narrower one will do


def invariant(request: Request[bool], wide: Request[int | str]) -> None:
    wider: Request[int] = request  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    narrower: Request[int] = wide  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    print(wider, narrower)


async def replying_a_union(ctx: Context[Add], value: float | str) -> None:
    ctx.reply(await ctx.receive(), value)  # type: ignore[misc]  # pyright: ignore[reportArgumentType]
