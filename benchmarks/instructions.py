"""Machine instructions for each operation, counted by callgrind: `python benchmarks/instructions.py [--record]`.

A count is the difference between a process that does some operations and one that does twice as many, so that imports
and the start of the system cancel out. It is the same on a busy machine, to less than a percent, where times differ by
a third. It holds for one build of Python and one version of each package below: the baseline says which.
"""

from __future__ import annotations

import argparse
import functools
import gc
import importlib
import json
import math
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import anyio

import core
from harness import LOOPS
from record import installed_version
from rookery._core import turn
from workload import ONE_OBJECT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

OPERATIONS: Final[dict[str, tuple[Callable[[int], Awaitable[float]], int]]] = {
    "ask": (core.ask_plain, 500),
    "send": (functools.partial(core.send, sending=ONE_OBJECT), 1_920),
    "spawn and stop": (core.spawn, 200),
}
"""What is measured, and how many in the shorter of the two runs: for `send`, 30 whole turns."""

PACKAGES: Final = ("anyio", "attrs", "trio")
"""Whose instructions are counted with rookery's."""

MEASURED_ON: Final = ("trio", "asyncio")
"""uvloop is left out: most of what it executes is not Python's, and not ours."""

BASELINE: Final = Path(__file__).with_name("instructions.json")

TOLERANCE: Final = 0.02
"""What an operation may cost more than the baseline, as a part of it."""

Counts: TypeAlias = dict[str, dict[str, int]]
"""For each loop and operation, the instructions."""


class CannotCountError(Exception):
    """Valgrind is missing, or did not say what was asked for."""


class CannotCompareError(Exception):
    """The baseline is missing, or holds for something else than what runs here."""


# ---- counting


def count_everything() -> Counts:
    """Every operation on every loop: about two minutes."""
    return {loop: {name: count(loop, name) for name in OPERATIONS} for loop in MEASURED_ON}


def count(loop: str, name: str) -> int:
    """Instructions for one operation."""
    _, operations = OPERATIONS[name]
    once, twice = (_instructions_of_process(loop, name, times * operations) for times in (1, 2))
    each = round((twice - once) / operations)
    print(f"{loop:8} {name:15} {each:9,}", flush=True)
    return each


def _instructions_of_process(loop: str, name: str, operations: int) -> int:
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise CannotCountError("valgrind is not installed: `apt-get install valgrind`, or your system's way to do that")
    measured = (sys.executable, __file__, "--run", loop, name, str(operations))
    ran = subprocess.run(
        [valgrind, "--tool=callgrind", "--callgrind-out-file=/dev/null", *measured],
        env=os.environ | {"PYTHONHASHSEED": "0"},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    collected = re.search(r"Collected\s*:\s*(\d+)", ran.stderr)
    if ran.returncode or collected is None:
        raise CannotCountError(f"callgrind ended with {ran.returncode} and said:\n{ran.stderr}")
    return int(collected[1])


def run(loop: str, name: str, operations: str) -> None:
    """Do the operations: what the measured process is for."""
    gc.disable()  # how often it runs depends on everything that was imported
    turn.__dict__.update(SECONDS=math.inf)  # fifty times slower, a turn would end by its time and not by its messages
    # The order in which trio runs what is ready is random; this is how it lets Hypothesis repeat a run.
    scheduler = importlib.import_module("trio._core._run").__dict__
    scheduler["_ALLOW_DETERMINISTIC_SCHEDULING"] = True
    scheduler["_r"].seed(0)
    measure, _ = OPERATIONS[name]
    anyio.run(measure, int(operations), **LOOPS[loop])


# ---- the baseline


def build() -> dict[str, str | None]:
    """What the counts hold for."""
    return {
        "python": f"{platform.python_version()}, {platform.python_compiler()}",
        "machine": platform.machine(),
        "libc": " ".join(platform.libc_ver()),
        **{name: installed_version(name) for name in PACKAGES},
    }


def read_baseline() -> Counts:
    """What operations took before.

    Raises:
        CannotCompareError: if that was not recorded, or with another build or other versions.
    """
    if not BASELINE.exists():
        raise CannotCompareError(f"there is no {BASELINE.name}: record it with --record")
    recorded: dict[str, Any] = json.loads(BASELINE.read_text())
    here, there = build(), recorded["build"]
    differing = [f"{what} {there.get(what)}, here {here[what]}" for what in here if there.get(what) != here[what]]
    if differing:
        raise CannotCompareError(
            f"{BASELINE.name} was recorded with {'; '.join(differing)}: nothing is compared. "
            "Record it with --record before a change, and compare behind it"
        )
    counts: Counts = recorded["instructions"]
    return counts


def dearer(counts: Counts, baseline: Counts) -> list[str]:
    """What costs more than the baseline allows."""
    return [
        f"{name} on {loop}: {counts[loop][name]:,} instructions, {counts[loop][name] / before - 1:+.1%}"
        for loop, operations in baseline.items()
        for name, before in operations.items()
        if counts[loop][name] > before * (1 + TOLERANCE)
    ]


def verdict(counts: Counts, baseline: Counts) -> str | None:
    """What is wrong; None if nothing is."""
    worse = dearer(counts, baseline)
    if not worse:
        print(f"nothing costs more than {BASELINE.name} says, within {TOLERANCE:.0%}")
        return None
    return "\n".join([*worse, "if that is meant to be, record a new baseline with --record, and commit it"])


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Machine instructions for each operation, beside a baseline.")
    parser.add_argument("--record", action="store_true", help=f"write {BASELINE.name} instead of comparing with it")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the counts to a file as well")
    parser.add_argument("--run", nargs=3, metavar=("LOOP", "OPERATION", "COUNT"), help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> str | None:
    """Count, compare or record; what is wrong, if anything."""
    options = arguments()
    if options.run:
        run(*options.run)
        return None
    try:
        baseline = None if options.record else read_baseline()  # before two minutes of counting
        counts = count_everything()
    except (CannotCountError, CannotCompareError) as error:
        return str(error)
    content = json.dumps({"build": build(), "instructions": counts}, indent=2) + "\n"
    if options.json:
        options.json.write_text(content)
    if baseline is not None:
        return verdict(counts, baseline)
    BASELINE.write_text(content)
    return None


if __name__ == "__main__":
    sys.exit(main())
