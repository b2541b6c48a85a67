"""Banking: tellers ask accounts to transfer money, and those ask other accounts: asks in chains."""

from __future__ import annotations

from random import Random
from typing import Final, Never, TypeAlias

from harness import expect
from rookery import ActorRef, Context, Request, message, open_system
from workload import Stopwatch, Tally

from .common import all_ended, shares

ACCOUNTS: Final = 100
TELLERS: Final = 10
OPENING_BALANCE: Final = 1_000
LARGEST_AMOUNT: Final = 100


@message
class Deposit(Request[None]):
    """Put money into the account."""

    amount: int


@message
class Transfer(Request[None]):
    """Take money out of the account and put it into another; answered when it is there."""

    amount: int
    to: ActorRef[Deposit]


@message
class Balance(Request[int]):
    """What is in the account."""


Account: TypeAlias = ActorRef[Deposit | Transfer | Balance]


async def account(ctx: Context[Deposit | Transfer | Balance]) -> None:
    """Keep money. It may be overdrawn."""
    balance = OPENING_BALANCE
    async for request in ctx:
        match request:
            case Deposit(amount):
                balance += amount
                ctx.reply(request, None)
            case Transfer(amount, to):
                balance -= amount
                await to.ask(Deposit(amount))
                ctx.reply(request, None)
            case Balance():
                ctx.reply(request, balance)


async def teller(ctx: Context[Never], accounts: list[Account], transfers: int, chance: Random, tally: Tally) -> None:
    """Order transfers. Always to an account further down the list, so that accounts never ask in a circle."""
    ctx.ready()
    for _ in range(transfers):
        source, target = sorted(chance.sample(range(ACCOUNTS), 2))
        amount = chance.randint(1, LARGEST_AMOUNT)
        await accounts[source].ask(Transfer(amount, accounts[target]))
        tally.handled += 1


async def banking(count: int) -> float:
    """Seconds for that many transfers."""
    tally = Tally()
    async with open_system() as system:
        watch = Stopwatch()
        accounts = [await system.spawn(account) for _ in range(ACCOUNTS)]
        tellers = [
            await system.spawn(teller, accounts, transfers, Random(seed), tally)
            for seed, transfers in enumerate(shares(count, TELLERS))
        ]
        await all_ended(tellers)
        seconds = watch.seconds()
        money = sum([await one.ask(Balance()) for one in accounts])
    expect(tally.handled, count, "transfers")
    expect(money, ACCOUNTS * OPENING_BALANCE, "money in the bank")
    return seconds
