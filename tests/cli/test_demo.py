"""The main job from the command line: what it shows, and when its exit status is 0."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from .conftest import LOOPS

if TYPE_CHECKING:
    from .conftest import Rookery


def rows(output: str) -> dict[str, str]:
    """The table that ends the output: what stands behind each name."""
    lines = (line.strip("│").split("│") for line in output.splitlines() if line.startswith("│"))
    return {name.strip(): " ".join(" ".join(rest).split()) for name, *rest in lines}


@pytest.mark.parametrize("loop", LOOPS)
def test_all_of_it_holds(rookery: Rookery, loop: str) -> None:
    """Every image once, accurate, equal to the reference, one restart; on each loop, with another seed each."""
    done = rookery("demo", "--loop", loop, "--device", "pocl", "--seed", str(LOOPS.index(loop)))
    assert (done.returncode, done.stderr) == (0, "")
    shown = rows(done.stdout)
    assert shown["images classified"] == "1,797 of 1,797, each counted once ok"
    accuracy = re.match(r"(\S+)%, \d+ of 360; .* ok$", shown["held-out accuracy"])
    reference = re.match(r"(\S+)%; same answers, .* ok$", shown["NumPy reference"])
    assert accuracy
    assert reference
    assert accuracy[1] == reference[1]
    assert float(accuracy[1]) >= 95
    assert shown["restarts"] == "1 of the network ok"
    assert re.fullmatch(r"[1-9]\d* asked again, [1-9]\d* duplicates? dropped", shown["redelivery"])
    assert float(shown["messages per second"].split()[0].replace(",", "")) > 0
    assert re.match(r"\d+\.\d / \d+\.\d ms", shown["latency p50 / p99"])
    assert re.match(r"[1-9][\d,]* bytes", shown["peak device memory"])


def test_the_table_says_which_check_failed(rookery: Rookery) -> None:
    """One epoch is too little to learn from; all else holds."""
    done = rookery("demo", "--device", "pocl", "--epochs", "1")
    assert (done.returncode, done.stderr) == (1, "")
    verdicts = {name: value.endswith("FAILED") for name, value in rows(done.stdout).items()}
    assert [name for name, failed in verdicts.items() if failed] == ["held-out accuracy"]
    assert done.stdout.splitlines()[-1] == "failed: held-out accuracy"


def test_no_line_is_wider_than_the_terminal(rookery: Rookery) -> None:
    """Where the terminal has 80 columns."""
    done = rookery("demo", "--device", "pocl", "--epochs", "1")
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_the_tree_comes_down_in_order(rookery: Rookery) -> None:
    """Who feeds before who is fed, and the device last."""
    done = rookery("demo", "--device", "pocl", "--epochs", "1")
    ends = [line.split()[0] for line in done.stdout.splitlines() if re.match(r"\w+ stopped|released ", line)]
    assert ends == ["sink", "mathematician", "network", "released"]
