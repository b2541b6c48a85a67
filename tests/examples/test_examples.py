"""Every script in examples/ runs as a user would run it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples"
SCRIPTS = sorted(FOLDER.glob("*.py"))


def run(script: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", script],
        check=False,
        cwd=FOLDER.parent,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_runs(script: Path) -> None:
    """It ends well, says something, and complains about nothing."""
    done = run(script)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()


def test_calculator_says_what_comes_out() -> None:
    """Results come back as replies, and the error for one request leaves the actor alive."""
    assert run(FOLDER / "calculator.py").stdout.splitlines() == [
        "10 + 5 = 15",
        "10 / 4 = 2.5",
        "10 / 0: 10 cannot be divided by 0",
    ]


def test_ingest_loses_only_what_cannot_be_read() -> None:
    """The peer hung up three times, and one line was garbage."""
    assert run(FOLDER / "ingest.py").stdout == (
        "999 of 1000 lines, each once, over 4 connections; 1 could not be read\n"
    )


def test_pipeline_is_right_after_its_crash() -> None:
    """The answer is the one that plain Python finds, and the stage did crash."""
    longest = max(range(1, 5001), key=collatz_steps)
    counted, found = run(FOLDER / "pipeline.py").stdout.splitlines()
    assert counted.startswith("5,000 numbers, each counted once, with 1 restart")
    assert found == f"{longest:,} takes longest: {collatz_steps(longest)} steps"


def collatz_steps(number: int) -> int:
    steps = 0
    while number > 1:
        number = 3 * number + 1 if number % 2 else number // 2
        steps += 1
    return steps
