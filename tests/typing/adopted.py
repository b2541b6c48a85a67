"""Adopting functions that take no context: arguments, and references that accept nothing."""

from __future__ import annotations

from typing import Any, Never, assert_type

import anyio
from anyio.abc import TaskStatus

from rookery import ActorRef, ChildSpec, Context, Restart, System, child, task


async def plain() -> None: ...
async def serve(host: str, port: int = 80, *, backlog: int = 1) -> object: ...
async def announces(port: int, *, task_status: TaskStatus[int] = anyio.TASK_STATUS_IGNORED) -> None: ...
async def has_to_announce(port: int, name: str, *, task_status: TaskStatus[None]) -> None: ...
def not_async(port: int) -> None: ...


class Server:
    async def serve_forever(self) -> None: ...


assert_type(child(task(plain)), ChildSpec[Never])
assert_type(child(task(serve, "localhost", 80, backlog=2)), ChildSpec[Never])
assert_type(child(task(Server().serve_forever)).options(restart=Restart.PERMANENT), ChildSpec[Never])
assert_type(child(task(announces, 80)), ChildSpec[Never])
assert_type(child(task(has_to_announce, 80, "x")), ChildSpec[Never])
child(task(anyio.sleep, 1.0))

task(plain, 1)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue]
task(serve)  # type: ignore[call-arg, arg-type]  # pyright: ignore[reportCallIssue]
task(serve, 80)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
task(serve, "localhost", size=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
task(has_to_announce, 80)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue]
task(not_async, 80)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
task(plain())  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
child(task(serve, "localhost"), 80)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
child(plain)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]


async def spawning(system: System, ctx: Context[str]) -> None:
    ref = await system.spawn(task(serve, "localhost"), name="server")
    assert_type(ref, ActorRef[Never])
    assert_type(await ctx.spawn(child(task(plain))), ActorRef[Never])
    await ref.send("anything")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ref.send_nowait(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def anything(value: Any) -> None:
    child(task(value, 1, "x", colour=2))
