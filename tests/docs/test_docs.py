"""Every Python block of the README and the documentation is a program that runs."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#]+)[^)]*\)")


class Block(NamedTuple):
    """A block of code, and where it stands."""

    page: Path
    line: int
    source: str


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    return [Block(page, text.count("\n", 0, match.start(1)), match[1]) for match in BLOCK.finditer(text)]


@pytest.fixture(autouse=True)
def logging_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """A block may say where its crashes are logged, as programs do; it says so for itself only."""
    logger = logging.getLogger("rookery.supervision")
    monkeypatch.setattr(logger, "handlers", list(logger.handlers))
    monkeypatch.setattr(logger, "propagate", logger.propagate)


@pytest.mark.parametrize(
    "block", [block for page in PAGES for block in blocks(page)], ids=lambda block: f"{block.page.name}:{block.line}"
)
def test_the_block_runs(block: Block, capsys: pytest.CaptureFixture[str]):
    """As a program of its own, and it shows something."""
    # Blank lines in front, so that a traceback names the line of the page.
    code = compile("\n" * block.line + block.source, str(block.page), "exec")
    exec(code, {"__name__": "__main__"})
    assert capsys.readouterr().out


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path):
    """Every relative link is a file or folder of the project."""
    links = [link for link in LINK.findall(page.read_text()) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []
