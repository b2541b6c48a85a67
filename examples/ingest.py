"""Connection, parser, writer: a supervised ingest that goes on where it was, however often the peer hangs up.

The peer hangs up in the middle of every 300th line, and one line is garbage: `python examples/ingest.py`.
"""

import logging

import trio

from rookery import (
    ActorRef,
    AutoShutdown,
    Backoff,
    Context,
    Intensity,
    Request,
    Restart,
    child,
    message,
    open_system,
    task,
)

LINES = [f"{number} sensor-{number % 7} {number / 10}" for number in range(1000)]
LINES[500] = "500 sensor-3 n/a"


@message
class Line:
    number: int
    text: str


@message
class Reading:
    number: int
    sensor: str
    value: float


@message
class Next(Request[int]):
    """Which line is wanted next?"""


async def peer(stream: trio.SocketStream) -> None:
    """Send lines from the one that it is asked for, and hang up in the middle of the 300th."""
    first = int(await stream.receive_some())
    for line in LINES[first : first + 299]:
        await stream.send_all(f"{line}\n".encode())
    if first + 299 < len(LINES):
        await stream.send_all(b"29")
    await stream.aclose()


async def writer(ctx: Context[Reading | Next], readings: list[Reading]) -> None:
    """Keep readings, and know from them which line is next: also in its next life, should this one crash."""
    async for item in ctx:
        if isinstance(item, Reading):
            readings.append(item)
        else:
            ctx.reply(item, readings[-1].number + 1 if readings else 0)


async def parser(ctx: Context[Line | Next], writer: ActorRef[Reading | Next]) -> None:
    """A line that cannot be read crashes it, and is left out: the next one is parsed by its next life."""
    async for item in ctx:
        if isinstance(item, Next):
            ctx.forward(item, writer)
        else:
            _, sensor, value = item.text.split()
            await writer.send(Reading(item.number, sensor, float(value)))


async def connection(ctx: Context[None], port: int, parser: ActorRef[Line | Next]) -> None:
    """Read on from where the writer is; a peer that hangs up is a crash, so the supervisor connects again."""
    number = await parser.ask(Next())  # behind all lines that are still under way
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        ctx.ready()
        await stream.send_all(str(number).encode())
        rest = b""
        async for chunk in stream:
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                await parser.send(Line(number, line.decode()))
                number += 1
    if number < len(LINES):
        raise ConnectionError(f"hung up before line {number}")
    await parser.ask(Next())  # everything has been written


async def main() -> None:
    readings: list[Reading] = []
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    write = child(writer, readings)
    parse = child(parser, write.ref)
    connect = child(connection, port, parse.ref).options(backoff=Backoff(0.01), significant=True)
    async with open_system() as system:
        await system.spawn(child(task(trio.serve_listeners, peer, [listener])).options(restart=Restart.PERMANENT))
        ingest = await system.supervise(
            write, parse, connect, name="ingest", intensity=Intensity(10, per=5.0), auto_shutdown=AutoShutdown.ANY
        )
        await ingest.wait_stopped()  # the connection has come to its end, and with it all of them
        drops, skips = (ref.statistics().restarts for ref in (connect.ref, parse.ref))

    assert [reading.number for reading in readings] == [*range(500), *range(501, 1000)]
    print(f"{len(readings)} of {len(LINES)} lines, each once, over {drops + 1} connections; {skips} could not be read")


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # or each crash would be logged with its traceback
    trio.run(main)
