"""Every Python block of the README and the documentation is a program that runs."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```)?", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#]+)[^)]*\)")


class Block(NamedTuple):
    """A block of code, where it stands, and the block of text that follows it, if one does: what it prints."""

    page: Path
    line: int
    source: str
    printed: str | None


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    return [Block(page, text.count("\n", 0, match.start(1)), *match.groups()) for match in BLOCK.finditer(text)]


@pytest.fixture(autouse=True)
def logging_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """A block may say where its crashes are logged, as programs do; it says so for itself only."""
    for logger in map(logging.getLogger, ("rookery", "rookery.supervision", "rookery.debug")):
        monkeypatch.setattr(logger, "handlers", list(logger.handlers))
        monkeypatch.setattr(logger, "propagate", logger.propagate)
        monkeypatch.setattr(logger, "level", logger.level)


@pytest.mark.parametrize(
    "block", [block for page in PAGES for block in blocks(page)], ids=lambda block: f"{block.page.name}:{block.line}"
)
def test_the_block_runs(block: Block, capsys: pytest.CaptureFixture[str]):
    """As a program of its own, and it shows something: what the page says, if it says it right below."""
    # Blank lines in front, so that a traceback names the line of the page.
    code = compile("\n" * block.line + block.source, str(block.page), "exec")
    exec(code, {"__name__": "__main__"})
    printed = capsys.readouterr().out
    assert printed
    assert block.printed in {None, printed}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path):
    """Every relative link is a file or folder of the project."""
    links = [link for link in LINK.findall(page.read_text()) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []
