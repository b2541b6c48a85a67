"""Supervisors: what is declared, what is looked up, and what comes back."""

from __future__ import annotations

from typing import Any, Never, assert_type

from rookery import (
    Actor,
    ActorRef,
    AutoShutdown,
    Backoff,
    ChildSpec,
    Context,
    Intensity,
    Request,
    Restart,
    Strategy,
    SupervisorRef,
    SupervisorSpec,
    System,
    child,
    message,
    supervisor,
    task,
)


@message
class Add(Request[float]):
    a: float


@message
class Note:
    text: str


class Calculator(Actor):
    async def add(self, a: float, b: float) -> float:
        return a + b


async def server(ctx: Context[Add]) -> None: ...
async def archive(ctx: Context[Note], other: ActorRef[Add]) -> None: ...
async def poll() -> None: ...


served = child(server)
archived = child(archive, served.ref)
calculating = child(Calculator)
polling = child(task(poll))

# ---- supervisor: specs of any kind, also those of supervisors

inner = supervisor(served, archived)
assert_type(inner, SupervisorSpec)
assert_type(inner.ref, SupervisorRef)
assert_type(inner.options(name="inner", restart=Restart.PERMANENT, backoff=Backoff(1)), SupervisorSpec)
tree = supervisor(
    inner,
    calculating,
    polling,
    name="tree",
    strategy=Strategy.REST_FOR_ONE,
    intensity=Intensity(3, per=5),
    auto_shutdown=AutoShutdown.ANY,
    concurrent_stop=True,
)
assert_type(supervisor(), SupervisorSpec)
as_child: ChildSpec[Never] = inner
several: list[ChildSpec[Any]] = [served, archived, inner]
supervisor(*several)

supervisor(server)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
supervisor(served.ref)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
supervisor([served, archived])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
supervisor(served, strategy="one for all")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
supervisor(served, intensity=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
supervisor(served, auto_shutdown=True)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
supervisor(served, restart=Restart.PERMANENT)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
child(server).options(significant="yes")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
child(supervisor)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]

# ---- supervise and spawn: a supervisor's reference for a supervisor


async def starting(system: System, ctx: Context[Note], sup: SupervisorRef) -> None:
    assert_type(await system.supervise(served, archived), SupervisorRef)
    assert_type(await ctx.supervise(served, strategy=Strategy.ONE_FOR_ALL, name="x"), SupervisorRef)
    assert_type(await sup.supervise(), SupervisorRef)
    assert_type(await system.spawn(tree), SupervisorRef)
    assert_type(await sup.spawn(supervisor(served)), SupervisorRef)
    assert_type(await sup.spawn(tree.options(name="other")), SupervisorRef)
    assert_type(await sup.spawn(served), ActorRef[Add])
    assert_type(await sup.spawn(archived), ActorRef[Note])
    assert_type(await sup.spawn(calculating), ActorRef[Calculator])
    assert_type(await sup.spawn(polling), ActorRef[Never])
    assert_type(await sup.spawn(server), ActorRef[Add])
    assert_type(await sup.spawn(archive, served.ref, name="x"), ActorRef[Note])
    assert_type(await sup.spawn(Calculator), ActorRef[Calculator])

    await system.supervise(server)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await system.supervise(served, strategy="all")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await system.supervise(served, restart=Restart.PERMANENT)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await sup.spawn(tree, name="x")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await sup.spawn(archive)  # type: ignore[arg-type, call-arg]  # pyright: ignore[reportArgumentType, reportCallIssue]


# ---- sup[spec]: the child's own reference


async def looking_up(sup: SupervisorRef) -> None:
    assert_type(sup[served], ActorRef[Add])
    assert_type(sup[archived], ActorRef[Note])
    assert_type(sup[calculating], ActorRef[Calculator])
    assert_type(sup[polling], ActorRef[Never])
    assert_type(sup[inner], SupervisorRef)
    assert_type(sup[inner][served], ActorRef[Add])
    assert_type(await sup[served].ask(Add(1)), float)
    assert_type(await sup[calculating].call(Calculator.add, 1, 2), float)
    assert_type(sup.children(), list[ActorRef[Any]])
    await sup[archived].send(Note("x"))

    await sup[archived].send(Add(1))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await sup[served].ask(Note("x"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    sup["server"]  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    sup[0]  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    sup[served.ref]  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    sup[served][archived]  # type: ignore[index]  # pyright: ignore[reportIndexIssue]


# ---- requests: by reference; and a supervisor receives nothing


async def requesting(sup: SupervisorRef) -> None:
    assert_type(await sup.restart_child(served.ref), None)
    await sup.stop_child(sup[inner])
    await sup.remove_child(sup.children()[0])
    plain: ActorRef[Never] = sup
    print(plain)

    await sup.restart_child(served)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await sup.stop_child("server")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await sup.send(Note("x"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await sup.ask(Add(1))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
