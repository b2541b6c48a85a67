"""`Actor` classes: the class, the arguments and the result of a call; constructor arguments; who may stand in for whom."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Generic, TypeVar, assert_type

from rookery import Actor, ActorRef, Askable, ChildSpec, Context, Refused, Request, System, child, message, request_for

T = TypeVar("T")


class Calculator(Actor):
    concurrency = 2

    async def add(self, a: float, b: float = 1, *, exact: bool = False) -> float:
        if exact:
            raise Refused(ValueError("no"))
        return a + b

    async def label(self) -> str:
        assert_type(self.ctx, Context[Any])
        return self.ctx.name

    async def every(self, *numbers: int, method: str = "x", self_: int = 1) -> list[int]:
        return [*numbers, self_]

    def not_async(self) -> int:
        return 1


class Scientific(Calculator):
    async def add(self, a: float, b: float = 1, *, exact: bool = False) -> int:
        return int(a + b)

    async def root(self, a: float) -> float:
        return float(a**0.5)


class Store(Actor):
    def __init__(self, size: int, name: str = "x", *, calculator: ActorRef[Calculator] | None = None) -> None:
        self.size = size

    async def put(self, key: str, value: int) -> None: ...


class Cache(Actor, Generic[T]):
    def __init__(self, first: T) -> None:
        self.kept = first

    async def swap(self, value: T) -> T:
        self.kept, value = value, self.kept
        return value


class Abstract(Actor):
    @abstractmethod
    async def work(self) -> int: ...


@message
class Note(Request[str]):
    text: str


async def plain(ctx: Context[Note]) -> None: ...


# ---- a call: the class, the arguments and the result are the method's


async def calling(
    calc: ActorRef[Calculator], scientific: ActorRef[Scientific], notes: ActorRef[Note], anything: ActorRef[Any]
) -> None:
    assert_type(await calc.call(Calculator.add, 1), float)
    assert_type(await calc.call(Calculator.add, 1, 2, exact=True), float)
    assert_type(await calc.call(Calculator.add, a=1, b=2), float)
    assert_type(await calc.call(Calculator.label), str)
    assert_type(await calc.call(Calculator.every, 1, 2, method="y", self_=3), list[int])
    assert_type(await scientific.call(Calculator.add, 1), float)
    assert_type(await scientific.call(Scientific.add, 1), int)
    assert_type(await scientific.call(Scientific.label), str)
    assert_type(await anything.call(Scientific.root, 1), float)
    await calc.cast(Calculator.add, 1, 2)

    await calc.call(Calculator.add)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await calc.call(Calculator.add, "1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await calc.call(Calculator.label, 1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await calc.call(Calculator.add, 1, colour=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await calc.call(Store.put, "x", 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await calc.call(Scientific.root, 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await notes.call(Calculator.add, 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await calc.call(Calculator.not_async)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await calc.call(Calculator().add, 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await calc.call("add", 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    wrong: str = await calc.call(Calculator.add, 1)  # type: ignore[arg-type]  # pyright: ignore[reportAssignmentType]
    nothing: int = await calc.cast(Calculator.add, 1)  # type: ignore[func-returns-value, assignment]  # pyright: ignore[reportAssignmentType]
    await calc.cast(Calculator.add, "1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await calc.cast(Store.put, "x", 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    print(wrong, nothing)


# ---- the message on its own, for what a call has no room for


async def asking(calc: ActorRef[Calculator], scientific: ActorRef[Scientific], notes: ActorRef[Note]) -> None:
    request = request_for(Calculator.add, 1, exact=True)
    assert_type(request, Askable[Calculator, float])
    assert_type(await calc.ask(request, priority=200, timeout=1), float)
    assert_type(await calc.ask(request_for(Calculator.add, 1), priority=200, timeout=1), float)
    assert_type(await scientific.ask(request_for(Calculator.add, 1), timeout=1), float)
    await calc.send(request, priority=200)
    calc.send_nowait(request_for(Calculator.add, 1))

    request_for(Calculator.add)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    request_for(Calculator.add, "1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    request_for(Calculator.not_async)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await calc.ask(request_for(Store.put, "x", 1))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await notes.ask(request)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await notes.send(request)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await calc.send(Note("x"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await calc.ask(Note("x"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    wrong: str = await calc.ask(request)  # type: ignore[arg-type]  # pyright: ignore[reportAssignmentType]
    print(wrong)


# ---- child and spawn: arguments are those of `__init__`

assert_type(child(Calculator), ChildSpec[Calculator])
assert_type(child(Calculator).ref, ActorRef[Calculator])
assert_type(child(Store, 1, calculator=child(Calculator).ref).options(name="y"), ChildSpec[Store])
assert_type(child(Cache[int], 1), ChildSpec[Cache[int]])

child(Calculator, 1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
child(Store)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
child(Store, "1")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
child(Store, 1, colour=2)  # type: ignore[arg-type, call-arg]  # pyright: ignore[reportCallIssue]
child(Store, 1, calculator=child(plain).ref)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
child(Cache[int], "1")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
child(int, 1)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
child(Calculator())  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]


async def spawning(system: System, ctx: Context[Note]) -> None:
    assert_type(await system.spawn(Calculator), ActorRef[Calculator])
    assert_type(await system.spawn(Store, 1, name="y"), ActorRef[Store])
    assert_type(await ctx.spawn(Store, 1, "x"), ActorRef[Store])
    assert_type(await system.spawn(child(Store, 1, calculator=None)), ActorRef[Store])
    cache = await system.spawn(Cache[int], 1)
    assert_type(cache, ActorRef[Cache[int]])
    assert_type(await cache.call(Cache[int].swap, 2), int)

    await system.spawn(Store)  # type: ignore[call-arg, arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await system.spawn(Store, "1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await system.spawn(Calculator, 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await cache.call(Cache[int].swap, "2")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# ---- a subclass stands in for its base where that is said at the start


async def standing_in(system: System, scientific: ActorRef[Scientific]) -> None:
    calc: ActorRef[Calculator] = await system.spawn(Scientific)
    spec: ChildSpec[Calculator] = child(Scientific)
    late: ActorRef[Calculator] = scientific  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    print(calc, spec, late)


Refused("no")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Refused(ValueError)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
