"""Every Python block of the README and the documentation is a program that runs."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from weakref import WeakSet

import pytest

from rookery.ring import _registry

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
GUIDES = [
    ROOT / "docs" / f"{name}.md"
    for name in (
        "ring",
        "first_kernel",
        "building_actors",
        "pipelines",
        "gpu_optimisation",
        "testing_kernels",
        "migration",
    )
]
"""Pages whose programs are shown under asyncio and are to run under any loop."""
START = "asyncio.run(main())"

BLOCK = re.compile(r"^```python( continued)?\n(.*?)^```\n(?:\n```text\n(.*?)^```)?", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A block of code, where it stands, and the block of text that follows it, if one does: what it prints."""

    page: Path
    line: int
    continued: bool
    source: str
    printed: str | None


Program = list[Block]
"""A block, and those that continue it: they see what the ones above them have defined."""


def programs(page: Path) -> list[Program]:
    text = page.read_text()
    found: list[Program] = []
    for match in BLOCK.finditer(text):
        continued, source, printed = match.groups()
        block = Block(page, text.count("\n", 0, match.start(2)), bool(continued), source, printed)
        if block.continued:
            found[-1].append(block)
        else:
            found.append([block])
    return found


def name_of(program: Program) -> str:
    return f"{program[0].page.name}:{program[0].line}"


def run(program: Program, capsys: pytest.CaptureFixture[str], start: str = START) -> None:
    """Run it, and see that it shows something, and each block what the page says, if it says it right below."""
    namespace: dict[str, object] = {"__name__": "__main__"}
    shown = ""
    for block in program:
        source = block.source.replace(START, start)
        # Blank lines in front, so that a traceback names the line of the page.
        exec(compile("\n" * block.line + source, str(block.page), "exec", dont_inherit=True), namespace)
        printed = capsys.readouterr().out
        assert block.printed in {None, printed}
        shown += printed
    assert shown


@pytest.fixture(autouse=True)
def logging_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A block may say where its crashes are logged, as programs do; it says so for itself only."""
    loggers = [logging.getLogger(name) for name in ("rookery", "rookery.supervision", "rookery.debug")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        monkeypatch.setattr(logger, "handlers", list(logger.handlers))
        monkeypatch.setattr(logger, "propagate", logger.propagate)
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)  # loggers remember for what they are enabled, until this is called


@pytest.fixture(autouse=True)
def kernels_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program knows the kernels that it registers, and none of other tests."""
    monkeypatch.setattr(_registry, "_tables", WeakSet())


@pytest.mark.parametrize("program", [program for page in PAGES for program in programs(page)], ids=name_of)
def test_the_program_runs(program: Program, capsys: pytest.CaptureFixture[str]) -> None:
    """Every block, together with those that it continues, is a program, and prints what the page says it prints."""
    run(program, capsys)


@pytest.mark.once
@pytest.mark.parametrize(
    "start",
    [
        pytest.param('__import__("anyio").run(main, backend="trio")', id="trio"),
        pytest.param("__import__('uvloop').run(main())", id="uvloop"),
    ],
)
@pytest.mark.parametrize(
    "program",
    [program for page in GUIDES for program in programs(page) if any(START in block.source for block in program)],
    ids=name_of,
)
def test_the_guides_hold_on_every_loop(program: Program, start: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What the guides show under asyncio prints the same under trio and uvloop."""
    run(program, capsys, start)


def anchors(page: Path) -> set[str]:
    """What the headings of a page are linked by."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link is a file or folder of the project, and, where it names one, a heading of it."""
    links = [link for link in LINK.findall(FENCED.sub("", page.read_text())) if "://" not in link]
    for link in links:
        target, _, heading = link.partition("#")
        led = page.parent / target if target else page
        assert led.exists(), link
        assert not heading or heading in anchors(led), link
