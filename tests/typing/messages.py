"""Message classes and references: what may be sent where."""

from __future__ import annotations

from typing import Any

from rookery import ActorRef, Context, Request, System, message


@message
class Add(Request[float]):
    a: float
    b: float = 1.0


@message
class Name(Request[str]):
    number: int


@message(name="notes.v2")
class Note:
    text: str


@message
class Loud(Note):
    volume: int


# ---- messages are what their bodies say

Add(1, 2)
Add(1)
Add(a=1, b=2)
Note(text="x")
Loud("x", 3)
Add()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
Add("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Add(1, 2, 3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
Add(1, priority=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
Note("x").text = "y"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


# ---- sending


async def sending(notes: ActorRef[Note], both: ActorRef[Add | Note], anything: ActorRef[Any]) -> None:
    await notes.send(Note("x"))
    await notes.send(Loud("x", 1), priority=200)
    notes.send_nowait(Note("x"))
    await both.send(Note("x"))
    await both.send(Add(1))
    await anything.send(object())

    await notes.send(Add(1))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    notes.send_nowait("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await both.send(Name(1))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await notes.send(Note("x"), priority="high")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await notes.send(Note("x"), 200)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    notes.send(Note("x"))  # type: ignore[unused-coroutine]  # pyright: ignore[reportUnusedCoroutine]


# ---- who accepts more may stand in for who accepts less


def variance(notes: ActorRef[Note], both: ActorRef[Add | Note], loud: ActorRef[Loud]) -> None:
    fewer: ActorRef[Note] = both
    narrower: ActorRef[Loud] = notes
    more: ActorRef[Add | Note] = notes  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    wider: ActorRef[Note] = loud  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    print(fewer, narrower, more, wider)


# ---- references are made by rookery, lookup knows no types


async def looking_up(system: System) -> None:
    untyped = system.lookup("notes")
    await untyped.send(object())
    typed: ActorRef[Note] = system.lookup("notes")
    await typed.send("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def contexts_are_covariant(ctx: Context[Loud]) -> Context[Note]:
    return ctx


def contexts_are_not_contravariant(ctx: Context[Note]) -> Context[Loud]:
    return ctx  # type: ignore[return-value]  # pyright: ignore[reportReturnType]
