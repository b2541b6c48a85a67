"""An actor that answers requests: `python examples/calculator.py`."""

import trio

from rookery import Context, Request, message, open_system


@message
class Add(Request[float]):
    a: float
    b: float


@message
class Divide(Request[float]):
    a: float
    b: float


async def calculator(ctx: Context[Add | Divide]) -> None:
    async for request in ctx:
        match request:
            case Add(a, b):
                ctx.reply(request, a + b)
            case Divide(a, 0):
                # The asker gets the error; the calculator goes on.
                ctx.fail(request, ZeroDivisionError(f"{a} cannot be divided by 0"))
            case Divide(a, b):
                ctx.reply(request, a / b)


async def main() -> None:
    async with open_system() as system:
        calc = await system.spawn(calculator)
        print("10 + 5 =", await calc.ask(Add(10, 5), timeout=1))
        print("10 / 4 =", await calc.ask(Divide(10, 4), timeout=1))
        try:
            await calc.ask(Divide(10, 0), timeout=1)
        except ZeroDivisionError as error:
            print("10 / 0:", error)


if __name__ == "__main__":
    trio.run(main)  # or asyncio.run(main())
