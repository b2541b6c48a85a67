"""Every script in examples/ runs as a user would run it."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import TypeAlias

import pytest

FOLDER = Path(__file__).parents[2] / "examples"
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py"))
PNG = b"\x89PNG"

pytestmark = pytest.mark.once

Run: TypeAlias = Callable[[str], CompletedProcess[str]]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pictures")


@pytest.fixture(scope="module")
def run(pictures: Path) -> Run:
    """Runs an example once, whoever looks at it. The argument is no concern of those that draw nothing."""

    @functools.cache
    def run(name: str) -> CompletedProcess[str]:
        return subprocess.run(
            [
                sys.executable,
                "-W",
                "error",
                FOLDER / f"{name}.py",
                *([pictures / f"{name}.png"] if draws(name) else []),
            ],
            check=False,
            cwd=FOLDER.parent,
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


def draws(name: str) -> bool:
    return "PICTURE" in Path(FOLDER, f"{name}.py").read_text()


@pytest.mark.parametrize("name", SCRIPTS)
def test_runs(name: str, run: Run) -> None:
    """It ends well, says something, and complains about nothing."""
    done = run(name)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()


@pytest.mark.parametrize("name", [name for name in SCRIPTS if draws(name)])
def test_draws_a_picture(name: str, run: Run, pictures: Path) -> None:
    """Where it was told to, and says where that is."""
    picture = pictures / f"{name}.png"
    assert run(name).stdout.endswith(f"picture: {picture}\n")
    assert picture.read_bytes().startswith(PNG)


def test_calculator_says_what_comes_out(run: Run) -> None:
    """Results come back as replies, and the error for one request leaves the actor alive."""
    assert run("calculator").stdout.splitlines() == [
        "10 + 5 = 15",
        "10 / 4 = 2.5",
        "10 / 0: 10 cannot be divided by 0",
    ]


def test_ingest_loses_only_what_cannot_be_read(run: Run) -> None:
    """The peer hung up three times, and one line was garbage."""
    assert run("ingest").stdout == "999 of 1000 lines, each once, over 4 connections; 1 could not be read\n"


def test_anomaly_finds_the_days_that_stand_out(run: Run) -> None:
    """The day after the report of April 2008 among them, and the one on which all shares recovered in October."""
    printed = run("anomaly").stdout
    assert [day for day in ("2008-04-18", "2008-10-13", "2008-10-14") if day in printed] == ["2008-04-18", "2008-10-13"]
    assert "9 of 1,047 days; 6 came after one of 16 quarterly reports" in printed


def test_pagerank_is_that_of_networkx(run: Run) -> None:
    """The example fails by itself beyond 1e-6."""
    apart = re.search(r"no rank is more than (\S+) from networkx's", run("pagerank").stdout)
    assert apart
    assert 0 < float(apart[1]) < 1e-6


def test_streaming_pipeline_loses_no_line(run: Run) -> None:
    """Short queues make the source wait, and cost nothing."""
    assert "524 lines became 283 rows" in run("streaming_pipeline").stdout


def test_pipeline_is_right_after_its_crash(run: Run) -> None:
    """The answer is the one that plain Python finds, and the stage did crash."""
    longest = max(range(1, 5001), key=collatz_steps)
    counted, found = run("pipeline").stdout.splitlines()
    assert counted.startswith("5,000 numbers, each counted once, with 1 restart")
    assert found == f"{longest:,} takes longest: {collatz_steps(longest)} steps"


def collatz_steps(number: int) -> int:
    steps = 0
    while number > 1:
        number = 3 * number + 1 if number % 2 else number // 2
        steps += 1
    return steps
