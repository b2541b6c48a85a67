"""`Actor` classes as their callers see them: calls, casts, refusals."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from rookery import (
    Actor,
    ActorRef,
    AskTimeout,
    Context,
    MailboxFull,
    Overflow,
    Reason,
    Refused,
    Request,
    child,
    message,
    open_system,
    request_for,
)
from support import settle


@message
class Note(Request[str]):
    text: str


class Calculator(Actor):
    def __init__(self, log: list[Any] | None = None, *, rate: float = 1.0) -> None:
        self.log: list[Any] = [] if log is None else log
        self.rate = rate

    async def add(self, a: float, b: float = 1.0) -> float:
        self.log.append(("add", a, b))
        return (a + b) * self.rate

    async def divide(self, a: float, b: float) -> float:
        if b == 0:
            raise Refused(ZeroDivisionError(f"{a} / 0"))
        return a / b

    async def every(self, first: int, /, *more: int, last: int, **others: int) -> tuple[Any, ...]:
        return first, more, last, others

    async def nothing(self) -> None:
        pass

    async def _private(self) -> None: ...


class Scientific(Calculator):
    async def add(self, a: float, b: float = 100.0) -> float:
        return 1000 + await super().add(a, b)

    async def square(self, a: float) -> float:
        return a * a


class Other(Actor):
    async def multiply(self, a: float) -> float:
        return a


# ---- calls


async def test_a_call_returns_what_the_method_returns() -> None:
    """With arguments in order, by name, and by default."""
    async with open_system() as system:
        calc = await system.spawn(Calculator)
        assert await calc.call(Calculator.add, 10, 5) == 15
        assert await calc.call(Calculator.add, b=2, a=1) == 3
        assert await calc.call(Calculator.add, 1) == 2
        assert await calc.call(Calculator.every, 1, 2, 3, last=4, first=5) == (1, (2, 3), 4, {"first": 5})
        assert await calc.call(Calculator.nothing) is None  # type: ignore[func-returns-value]
        assert calc.statistics().received == 5
        assert system.dead_letters.statistics().total == 0


async def test_a_cast_is_sent_and_what_the_method_returns_is_discarded() -> None:
    """It does not wait, and is no dead letter."""
    log: list[Any] = []
    async with open_system() as system:
        calc = await system.spawn(Calculator, log)
        await calc.pause()
        await calc.cast(Calculator.add, 1, b=2)
        await calc.cast(Calculator.add, 3)
        assert (log, calc.statistics().queued) == ([], 2)
        await calc.resume()
        await settle()
        assert log == [("add", 1, 2), ("add", 3, 1.0)]
        assert system.dead_letters.statistics().total == 0


async def test_a_subclass_serves_the_requests_of_its_bases() -> None:
    """By what overrides them; the defaults are those of the method that is written in the call."""
    async with open_system() as system:
        ref: ActorRef[Calculator] = await system.spawn(Scientific)
        assert await ref.call(Calculator.add, 1, 2) == 1003
        assert await ref.call(Calculator.add, 1) == 1002
        scientific = await system.spawn(Scientific)
        assert await scientific.call(Scientific.add, 1) == 1101
        assert await scientific.call(Scientific.divide, 1, 2) == 0.5
        assert await scientific.call(Scientific.square, 3) == 9


async def test_requests_can_be_made_first_and_delivered_like_any_message() -> None:
    """`request_for` makes the message: with a priority, a timeout, `send_nowait`."""
    log: list[Any] = []
    async with open_system() as system:
        calc = await system.spawn(Calculator, log)
        assert await calc.ask(request_for(Calculator.add, 10, 5), priority=200, timeout=1) == 15
        log.clear()
        await calc.pause()
        await calc.send(request_for(Calculator.add, 1), priority=1)
        calc.send_nowait(request_for(Calculator.add, 2))
        await calc.send(request_for(Calculator.add, 3), priority=200)
        await calc.resume()
        await settle()
        assert [entry[1] for entry in log] == [3, 2, 1]


async def test_the_message_of_a_call_shows_what_is_called() -> None:
    """In dead letters and errors."""
    async with open_system() as system:
        calc = await system.spawn(child(Calculator).options(capacity=1, overflow=Overflow.REJECT))
        await calc.pause()
        await calc.cast(Calculator.add, 10, 5)
        with pytest.raises(MailboxFull):
            await calc.cast(Calculator.add, 1)
        with pytest.raises(MailboxFull):
            await calc.call(Calculator.add, 1)
        await calc.stop()
        (letter,) = system.dead_letters.recent
        assert (repr(letter.message), letter.reason) == ("Calculator.add(a=10, b=5)", Reason.UNREAD)
        again = await system.spawn(Calculator)
        await again.pause()
        with pytest.raises(AskTimeout, match=r"/Calculator did not answer Calculator\.add within 0 s"):
            await again.ask(request_for(Calculator.add, 1), timeout=0)


async def test_a_behaviour_in_front_of_an_actor_class_can_forward_its_requests() -> None:
    """They are requests like any other."""

    async def router(ctx: Context[Any], target: ActorRef[Calculator]) -> None:
        async for request in ctx:
            ctx.forward(request, target)

    async with open_system() as system:
        calc = await system.spawn(Calculator)
        front: ActorRef[Any] = await system.spawn(router, calc)
        assert await front.call(Calculator.add, 1, 2) == 3


async def test_calls_from_many_callers_each_get_their_own_answer() -> None:
    """Whatever the order of service."""
    answers: dict[int, float] = {}

    async def caller(calc: ActorRef[Calculator], number: int) -> None:
        answers[number] = await calc.call(Calculator.add, number, 1)

    async with open_system() as system, anyio.create_task_group() as tasks:
        calc = await system.spawn(child(Calculator).options(capacity=3))
        for number in range(50):
            tasks.start_soon(caller, calc, number)
    assert answers == {number: number + 1 for number in range(50)}


# ---- refusals


async def test_a_method_that_refuses_fails_its_asker_only() -> None:
    """The error itself is raised in the asker; the actor lives on, the same instance."""
    async with open_system() as system:
        calc = await system.spawn(Calculator)
        with pytest.raises(ZeroDivisionError, match="1 / 0"):
            await calc.call(Calculator.divide, 1, 0)
        assert await calc.call(Calculator.divide, 1, 4) == 0.25
        assert calc.statistics().restarts == 0


async def test_a_refusal_that_nobody_waits_for_is_a_dead_letter() -> None:
    """The error, as that of a failed answer to a mere message."""
    async with open_system() as system:
        calc = await system.spawn(Calculator)
        await calc.cast(Calculator.divide, 1, 0)
        await settle()
        (letter,) = system.dead_letters.recent
        assert (repr(letter.message), letter.reason) == ("ZeroDivisionError('1 / 0')", Reason.NOT_ASKED)


async def test_a_refusal_may_come_out_of_a_task_group() -> None:
    """Alone it is the error; several are a group of errors; beside an error that is none, the group is a crash."""

    class Grouped(Actor):
        async def work(self, *errors: Exception) -> None:
            raise ExceptionGroup("outer", [ExceptionGroup("inner", errors[:1]), *errors[1:]])

    async with open_system() as system:
        ref = await system.spawn(Grouped)
        with pytest.raises(KeyError, match="a"):
            await ref.call(Grouped.work, Refused(KeyError("a")))
        with pytest.raises(ExceptionGroup, match="outer") as raised:
            await ref.call(Grouped.work, Refused(KeyError("a")), Refused(OSError("b")))
        assert repr(raised.value.exceptions) == "(KeyError('a'), OSError('b'))"
        assert ref.statistics().restarts == 0
        await ref.cast(Grouped.work, Refused(KeyError("a")), ValueError("b"))
        await settle()
        assert ref.statistics().restarts == 1


@pytest.mark.parametrize("error", ["no", ValueError, None, KeyboardInterrupt()], ids=str)
def test_refused_takes_an_exception(error: Any) -> None:
    """Anything else says what to write."""
    with pytest.raises(TypeError, match=r"got .*: write `raise Refused\(ValueError\(\.\.\.\)\)`"):
        Refused(error)


# ---- what is refused in the caller


async def test_wrong_arguments_are_refused_in_the_caller() -> None:
    """Nothing is sent."""
    async with open_system() as system:
        calc = await system.spawn(Calculator)
        for wrong in (
            lambda: calc.call(Calculator.add),  # type: ignore[call-arg]
            lambda: calc.call(Calculator.add, 1, 2, 3),  # type: ignore[call-arg]
            lambda: calc.cast(Calculator.add, colour=3),  # type: ignore[call-arg]
        ):
            with pytest.raises(TypeError, match=r"Calculator\.add\(a, b=1\.0\) cannot be called with these arguments"):
                await wrong()
        assert calc.statistics().received == 0


async def test_only_methods_of_its_own_class_can_be_called() -> None:
    """The error names the method, the actor and what it has instead."""
    async with open_system() as system:
        calc = await system.spawn(Calculator)
        for wrong in (
            lambda: calc.call(Other.multiply, 1),  # type: ignore[arg-type]
            lambda: calc.call(Scientific.square, 1),  # type: ignore[arg-type]
            lambda: calc.cast(Other.multiply, 1),  # type: ignore[arg-type]
            lambda: calc.send(request_for(Other.multiply, 1)),  # type: ignore[arg-type]
        ):
            with pytest.raises(
                TypeError,
                match=r"/Calculator accepts Calculator\.add \| .*, not (Other\.multiply|Scientific\.square) "
                r"\(.*\(a=1\)\): call one of those: `await ref\.call\(Calculator\.add, \.\.\.\)`",
            ):
                await wrong()
        with pytest.raises(TypeError, match=r"Calculator\._private is private"):
            await calc.call(Calculator._private)
        assert calc.statistics().received == 0


async def test_a_plain_message_to_an_actor_class_is_refused() -> None:
    """With the line to write instead."""
    async with open_system() as system:
        calc = await system.spawn(Calculator)
        for wrong in (
            lambda: calc.send(Note("x")),  # type: ignore[arg-type]
            lambda: calc.ask(Note("x")),  # type: ignore[arg-type]
        ):
            with pytest.raises(
                TypeError, match=r"not Note \(Note\(text='x'\)\): call one of those: `await ref\.call\("
            ):
                await wrong()


async def test_a_call_to_a_function_is_refused_by_what_that_accepts() -> None:
    """As any message of a wrong type."""

    async def notes(ctx: Context[Note]) -> None:
        await ctx.wait_stopping()

    async with open_system() as system:
        ref: ActorRef[Any] = await system.spawn(notes)
        with pytest.raises(TypeError, match=r"/notes accepts Note, not Calculator\.add"):
            await ref.call(Calculator.add, 1)
