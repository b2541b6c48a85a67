"""The story of a system is told shortly, in Mermaid's language, and never without bounds."""

from __future__ import annotations

import re
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rookery import ActorCrashed, Context, Request, Restarted, Terminated, message, open_system
from rookery.testing import Story
from support import settle

NAMES = st.text(st.characters(codec="utf-8"), max_size=20) | st.sampled_from(
    ["end", "loop a", "%%", "a->>b: c", "#35;"]
)
LINE = re.compile(r"    (participant p\d+ as|note over p\d+:|p\d+(->>|-->>|--x|-\))p\d+:) [^#;\n\r]*(#\d+;[^#;\n\r]*)*")


@message
class Add(Request[int]):
    a: int
    b: int


async def calculator(ctx: Context[Add]) -> None:
    async for request in ctx:
        if request.a < 0:
            raise ValueError("negative; #1")
        ctx.reply(request, request.a + request.b)


async def office(ctx: Context[Add | Terminated | Restarted], calc: Any) -> None:
    ctx.watch(calc)
    async for item in ctx:
        if isinstance(item, Add):
            ctx.reply(item, await calc.ask(item))


async def test_a_story_is_told_actor_by_actor() -> None:
    """Arrows for messages, answers and dead letters, notes for lives, in the order of what happened."""
    story = Story()
    async with open_system(instruments=[story]) as system:
        calc = await system.spawn(calculator)
        other = await system.spawn(office, calc)
        assert await other.ask(Add(1, 2), priority=200) == 3
        with pytest.raises(ActorCrashed):
            await calc.ask(Add(-1, 2))
        await settle()
        await calc.send(Add(3, 4))
        await settle()
        story.note("has seen enough")
        await calc.stop()
        await settle()
    assert story.mermaid().splitlines() == [
        "sequenceDiagram",
        "    participant p0 as outside",
        "    participant p1 as /calculator",
        "    participant p2 as /office",
        "    note over p1: started",
        "    note over p2: started",
        "    p0->>p2: Add(a=1, b=2), priority 200",
        "    p2->>p1: Add(a=1, b=2)",
        "    p1-->>p2: 3",
        "    p2-->>p0: 3",
        "    p0->>p1: Add(a=-1, b=2)",
        "    note over p1: crashed on Add, ValueError('negative#59; #35;1'): restarting",
        "    note over p1: started again, incarnation 2",
        "    p1-)p2: Restarted",
        "    p0->>p1: Add(a=3, b=4)",
        "    p1--xp1: 7 is a dead letter, NOT_ASKED",
        "    p1-->>p0: 7",
        "    note over p0: has seen enough",
        "    note over p1: is to stop",
        "    note over p1: ended",
        "    p1-)p2: Terminated",
        "    note over p2: is to stop",
        "    note over p2: ended",
    ]


def test_a_story_without_anything_is_a_diagram_too() -> None:
    """Of nobody."""
    assert Story().mermaid() == "sequenceDiagram"


def test_only_the_latest_is_kept() -> None:
    """And it is said how much is left out."""
    story = Story(limit=2)
    for text in ("one", "two", "three"):
        story.note(text)
    assert story.mermaid().splitlines()[2:] == [
        "    note over p0: 1 before these are left out",
        "    note over p0: two",
        "    note over p0: three",
    ]
    with pytest.raises(ValueError, match="whole number, 1 or more"):
        Story(limit=0)


@given(st.lists(NAMES, min_size=1, max_size=4))
def test_what_mermaid_would_take_for_syntax_is_escaped(texts: list[str]) -> None:
    """Every line is one statement, whatever actors and messages are called."""
    story = Story()
    for text in texts:
        story.note(text)
        story._add(f"/{text}", "->>", "/other", text)
    first, *lines = story.mermaid().split("\n")
    assert first == "sequenceDiagram"
    assert all(LINE.fullmatch(line) for line in lines), lines
    assert not any(re.search(r"\bend\b", line, re.IGNORECASE) for line in lines)


async def test_a_story_keeps_no_message_alive() -> None:
    """It keeps text."""
    import gc
    import weakref

    class Big:
        pass

    async def sink(ctx: Context[Any]) -> None:
        while True:
            await ctx.receive()

    story, big = Story(), Big()
    gone = weakref.ref(big)
    async with open_system(instruments=[story]) as system:
        ref = await system.spawn(sink)
        await ref.send(big)
        await anyio.lowlevel.checkpoint()
        await settle()
        del big
        gc.collect()
        assert gone() is None
    assert "Big object" in story.mermaid()
