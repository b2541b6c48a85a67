"""Declaring `Actor` classes: what they may be, how they are made, and when they have a context."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Generic, TypeVar

import attrs
import pytest

from rookery import Actor, ActorRef, NotStarted, StartFailed, child, open_system

T = TypeVar("T")


class Calculator(Actor):
    def __init__(self, log: list[Any] | None = None, *, rate: float = 1.0) -> None:
        self.rate = rate

    async def add(self, a: float, b: float = 1.0) -> float:
        return (a + b) * self.rate


class Other(Actor):
    async def multiply(self, a: float) -> float:
        return a


async def test_an_actor_class_is_a_behaviour() -> None:
    """Named after the class; its arguments are those of `__init__`; options are those of any child."""
    spec = child(Calculator, rate=2.0)
    assert (spec.name, spec.ref.name) == ("Calculator", "Calculator")
    assert "Calculator" in repr(spec.behaviour)
    named = spec.options(name="calc", capacity=3)
    async with open_system() as system:
        await system.spawn(spec)
        await system.spawn(named)
        numbered = await system.spawn(Calculator)
        assert await spec.ref.call(Calculator.add, 1, 2) == 6
        assert await named.ref.call(Calculator.add, 1, 2) == 6
        assert await numbered.call(Calculator.add, 1, 2) == 3
        assert (named.ref.path, numbered.path) == ("/calc", "/Calculator-2")
        assert named.ref.statistics().capacity == 3
        assert "Calculator-2  running" in system.tree()
        with pytest.raises(NotStarted):
            await child(Calculator).ref.call(Calculator.add, 1)


@pytest.mark.parametrize(
    ("args", "kwargs", "expected"),
    [((1, 2), {}, "too many"), ((), {"colour": 1}, "colour")],
    ids=["too many", "unknown"],
)
async def test_arguments_of_init_are_checked_at_child(args: Any, kwargs: Any, expected: str) -> None:
    """The error shows the signature."""
    with pytest.raises(TypeError, match=rf"^Calculator\(self, log=None, \*, rate=1\.0\) cannot be started.*{expected}"):
        child(Calculator, *args, **kwargs)


async def test_an_instance_is_no_behaviour() -> None:
    """The class is, because each incarnation is an instance of its own."""
    with pytest.raises(
        TypeError, match=r"got one that is made already, <.*Calculator.*: write `child\(Calculator, \.\.\.\)`"
    ):
        child(Calculator())  # type: ignore[call-overload]


async def test_an_init_may_take_what_it_likes() -> None:
    """Nothing at all, or positional arguments only; and it need not call that of `Actor`."""

    class Positional(Actor):
        def __init__(self, size: int, /) -> None:
            self.size = size

        async def get(self) -> int:
            return self.size

    async with open_system() as system:
        ref = await system.spawn(Positional, 3)
        assert await ref.call(Positional.get) == 3
        await system.spawn(Other)
        with pytest.raises(TypeError, match=r"^Other\(self\) cannot be started"):
            child(Other, 1)  # type: ignore[call-overload]


async def test_a_class_may_be_made_by_attrs_or_be_generic() -> None:
    """Slotted, frozen, with type arguments: its methods are requests all the same."""

    @attrs.frozen
    class Frozen(Actor):
        factor: int

        async def times(self, a: int) -> int:
            return self.factor * a

    class Cache(Actor, Generic[T]):
        def __init__(self, kept: T) -> None:
            self.kept = kept

        async def swap(self, value: T) -> T:
            self.kept, value = value, self.kept
            return value

    async with open_system() as system:
        frozen = await system.spawn(Frozen, 3)
        assert await frozen.call(Frozen.times, 4) == 12
        cache = await system.spawn(Cache[int], 1)
        assert await cache.call(Cache[int].swap, 2) == 1
        assert await cache.call(Cache.swap, 3) == 2


async def test_a_class_may_be_derived_from_one_that_is_written_in_c() -> None:
    """Its arguments cannot be checked beforehand; a wrong one is a start failure."""

    class Table(Actor, dict[str, int]):
        async def look_up(self, key: str) -> int:
            return self[key]

    async with open_system() as system:
        ref = await system.spawn(child(Table, {"a": 1}, b=2))
        assert (await ref.call(Table.look_up, "a"), await ref.call(Table.look_up, "b")) == (1, 2)
        with pytest.raises(StartFailed) as raised:
            await system.spawn(child(Table, 3))
        assert isinstance(raised.value.__cause__, TypeError)


async def test_an_actor_class_without_requests_accepts_nothing() -> None:
    """It may still have children, tasks, and hooks."""
    async with open_system() as system:
        ref = await system.spawn(Actor)
        with pytest.raises(TypeError, match=r"/Actor accepts no messages, not Other\.multiply"):
            await ref.call(Other.multiply, 1)  # type: ignore[arg-type]


def test_what_cannot_be_an_actor_class_is_refused_where_it_is_defined() -> None:
    """Requests with several answers or names, hooks that are not async, what takes the place of the context."""
    with pytest.raises(TypeError, match=r"Streaming\.stream has a `yield`"):

        class Streaming(Actor):
            async def stream(self) -> AsyncIterator[int]:
                yield 1

    with pytest.raises(TypeError, match=r"Sync\.on_start is awaited: write `async def on_start"):

        class Sync(Actor):
            def on_start(self) -> None: ...  # type: ignore[override]

    with pytest.raises(TypeError, match=r"Aliased\.plus is another name of Aliased\.add"):

        class Aliased(Actor):
            async def add(self) -> None: ...

            plus = add

    with pytest.raises(TypeError, match=r"^Shadowing\.ctx takes the place of `Actor\.ctx`.*choose another name"):

        class Shadowing(Actor):
            async def ctx(self) -> None: ...  # type: ignore[override]


@pytest.mark.parametrize(
    ("value", "error"), [(0, ValueError), (-1, ValueError), (1.5, ValueError), (True, TypeError), ("2", TypeError)]
)
def test_concurrency_is_a_count(value: Any, error: type[Exception]) -> None:
    """Anything else is refused where the class is defined."""
    with pytest.raises(error, match=rf"^Busy\.concurrency is how many requests .* from 1 on, got {value!r}"):
        type("Busy", (Actor,), {"concurrency": value})


async def test_the_context_is_there_once_the_actor_runs() -> None:
    """In `on_start` and in methods; in `__init__`, or without a system, the error says so."""
    seen: list[Any] = []

    class Curious(Actor):
        async def on_start(self) -> None:
            seen.append(self.ctx.name)

        async def me(self) -> ActorRef[Any]:
            return self.ctx.self

    class Hasty(Actor):
        def __init__(self) -> None:
            self.name = self.ctx.name

    with pytest.raises(NotStarted, match=r"Curious is not running yet, and has no `ctx`: .*on_start"):
        _ = Curious().ctx
    async with open_system() as system:
        ref = await system.spawn(Curious, name="x")
        assert seen == ["x"]
        assert await ref.call(Curious.me) is ref
        with pytest.raises(StartFailed) as raised:
            await system.spawn(Hasty)
        assert isinstance(raised.value.__cause__, NotStarted)
