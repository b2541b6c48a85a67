"""PageRank by ring kernels: each has a part of a graph, and they send each other what their nodes give to its neighbours.

The graph is who meets whom in Les Misérables, which comes with networkx; its own PageRank is what ours has to be:
`python examples/pagerank.py`, or with the path of a picture to be drawn.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# networkx says nothing of its types, and those of matplotlib's keyword arguments are incomplete.

import sys
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import trio
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from rich import box
from rich.console import Console
from rich.table import Table

from rookery import ring

PARTS = 4
DAMPING = 0.85
PICTURE = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).with_name("out") / "pagerank.png")


@ring.message
class Step(ring.Message):
    """Take part in one more step of the power iteration."""


@ring.message
class Stepped(ring.Message):
    """How much the ranks of a part have changed, summed."""

    change: float


@ring.message
class Share(ring.Message):
    """What the nodes of one part give to those of another."""

    part: int
    values: np.ndarray[Any, Any]


def part_of_the_graph(to_parts: list[np.ndarray[Any, Any]], ranks: np.ndarray[Any, Any], nodes: int) -> Any:
    """A kernel whose state is the ranks of its nodes.

    Args:
        to_parts: For each part, the matrix that makes its share of the ranks here.
        ranks: The ranks to begin with; they are kept up to date in place.
        nodes: How many there are in the whole graph.
    """

    async def kernel(ctx: ring.KernelContext[Step | Share, Stepped | Share]) -> None:
        while True:
            step, received = None, []
            while step is None or len(received) < PARTS:  # a quick neighbour's share may come before the step
                message = await ctx.receive()
                if isinstance(message, Share):
                    received.append(message.values)
                    continue
                step = message
                for part, matrix in enumerate(to_parts):
                    await ctx.send(Share(part, matrix @ ranks))
            better = (1 - DAMPING) / nodes + DAMPING * np.sum(received, axis=0)
            change = float(np.abs(better - ranks).sum())
            ranks[:] = better
            await ctx.send(Stepped(change, correlation_id=step.message_id))

    return kernel


async def deliver(runtime: ring.RingKernelRuntime, part: int) -> None:
    """Take the shares that a part sends to where they belong."""
    while True:
        share: Share = await runtime.receive(f"part {part}")
        await runtime.send(f"part {share.part}", share)


async def step_together(runtime: ring.RingKernelRuntime) -> float:
    """One step of all parts; how much the ranks have changed."""
    changes: list[float] = []

    async def ask(part: int) -> None:
        stepped: Stepped = await runtime.send_and_receive(f"part {part}", Step(), timeout=5)
        changes.append(stepped.change)

    async with trio.open_nursery() as nursery:
        for part in range(PARTS):
            nursery.start_soon(ask, part)
    return sum(changes)


async def rank(weights: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], list[float]]:
    """The ranks of all nodes, and how much they changed in each step."""
    size = len(weights)
    transition = weights / weights.sum(axis=0)  # what a node gives away adds up to 1
    own = np.array_split(np.arange(size), PARTS)
    ranks = [np.full(len(nodes), 1 / size) for nodes in own]
    changes: list[float] = []
    async with ring.RingKernelRuntime() as runtime, trio.open_nursery() as nursery:
        for part, nodes in enumerate(own):
            matrices = [transition[np.ix_(others, nodes)] for others in own]
            await runtime.launch(f"part {part}", part_of_the_graph(matrices, ranks[part], size))
            await runtime.activate(f"part {part}")
            nursery.start_soon(deliver, runtime, part)
        while not changes or changes[-1] > 1e-12:
            changes.append(await step_together(runtime))
        messages = runtime.get_summary()["total_messages_processed"]
        print(f"{len(changes)} steps, {messages:,} messages between {PARTS} kernels")
        nursery.cancel_scope.cancel()
    return np.concatenate(ranks), changes


def draw(graph: Any, ranks: np.ndarray[Any, Any], changes: list[float]) -> None:
    """The graph, each node as large as its rank and in the colour of its part; and how the ranks settled."""
    places = np.array(list(nx.kamada_kawai_layout(graph, weight=None).values()))
    number = {name: index for index, name in enumerate(graph)}
    parts = np.concatenate([np.full(len(nodes), part) for part, nodes in enumerate(np.array_split(ranks, PARTS))])
    figure = Figure(figsize=(11, 6.5), layout="constrained")
    network, settling = figure.subplots(1, 2, width_ratios=[2.4, 1])
    lines = [[places[number[one]], places[number[other]]] for one, other in graph.edges]
    network.add_collection(LineCollection(lines, colors="#cbd5e1", linewidths=0.7, zorder=0))
    network.scatter(*places.T, s=ranks * 9000, c=parts, cmap="Set2", edgecolors="white", zorder=1)
    for index in np.argsort(ranks)[-10:]:
        network.annotate(list(graph)[index], places[index], fontsize=8, ha="center", va="center")
    network.set_title(f"Who meets whom in Les Misérables: PageRank, {PARTS} parts", loc="left")
    network.set_axis_off()
    settling.semilogy(range(1, len(changes) + 1), changes, color="#2563eb")
    settling.set_title("Change of all ranks", loc="left")
    settling.set_xlabel("step")
    settling.spines[["top", "right"]].set_visible(False)
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(PICTURE, dpi=110)


async def main() -> None:
    graph = nx.les_miserables_graph()
    ranks, changes = await rank(nx.to_numpy_array(graph))
    theirs = np.array(list(nx.pagerank(graph, alpha=DAMPING, tol=1e-10).values()))

    table = Table("character", "rank", "networkx's", "apart", box=box.SIMPLE)
    for index in np.argsort(-ranks)[:10]:
        apart = abs(ranks[index] - theirs[index])
        table.add_row(list(graph)[index], f"{ranks[index]:.6f}", f"{theirs[index]:.6f}", f"{apart:.0e}")
    Console().print(table)
    furthest = np.abs(ranks - theirs).max()
    assert furthest < 1e-6, f"a rank is {furthest} from networkx's"
    draw(graph, ranks, changes)
    print(
        f"{len(ranks)} characters, {len(graph.edges)} pairs who meet; no rank is more than {furthest:.0e} from networkx's"
    )
    print(f"picture: {PICTURE}")


if __name__ == "__main__":
    trio.run(main)
