"""The migration page: what its tables say is here, is here."""

from __future__ import annotations

import inspect
import re
from functools import reduce
from pathlib import Path
from typing import Any

import pytest

import rookery
from rookery import gpu, ring

PAGE = Path(__file__).parents[2] / "docs" / "migration.md"
MODULES = {"ring": ring, "gpu": gpu}
CODE = re.compile(r"`([^`]+)`")
NAME = re.compile(r"([A-Za-z_.]+)(?:\((\w+)=\))?")
VERDICTS = ("same", "renamed", "write instead", "left out")


def rows() -> list[list[str]]:
    """The cells of all rows of all tables, without their heads."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if row[:2] != ["there", "here"] and set(row[0]) != {"-"}]


def names_here() -> list[str]:
    return sorted({name for row in rows() for name in CODE.findall(row[1])})


def step(owner: Any, name: str) -> Any:
    """A public name of a module, or a member of a class, also one that only its instances have."""
    if inspect.ismodule(owner):
        assert name in owner.__all__
    if not inspect.isclass(owner) or hasattr(owner, name):
        return getattr(owner, name)
    assert f"self.{name}: " in inspect.getsource(owner)
    return None


def resolve(path: str) -> Any:
    first, *rest = path.split(".")
    if first in MODULES:
        return reduce(step, rest, MODULES[first])
    return reduce(step, [first, *rest], rookery)


@pytest.mark.parametrize("text", names_here())
def test_what_the_second_column_names_exists(text: str) -> None:
    """As a public name, as its member, and, where a parameter is named, as its parameter."""
    parsed = NAME.fullmatch(text)
    assert parsed
    path, parameter = parsed.groups()
    found = resolve(path)
    if parameter is not None:
        assert parameter in inspect.signature(found).parameters


def test_each_row_says_what_became_of_a_name() -> None:
    """Same, renamed, something else to write, or left out; whatever is not left out is somewhere."""
    for there, here, verdict in rows():
        assert there
        assert verdict.startswith(VERDICTS), there
        assert CODE.findall(here) or verdict.startswith("left out") or CODE.findall(verdict), there


def test_no_name_that_is_the_same_is_spelled_differently() -> None:
    """The last part of what stands in the second column is what stands in the first."""
    for there, here, verdict in rows():
        if verdict.startswith("same") and "renamed" not in verdict:
            spelled = {name.rstrip("=)").replace("(", ".").rsplit(".", 1)[-1] for name in CODE.findall(here)}
            assert spelled & set(CODE.findall(there)) or spelled == {"UnifiedBuffer"}, there
