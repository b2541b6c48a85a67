"""The core's own tests hold in any order of wake-ups."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
FILES = [
    "test_mailbox.py",
    "test_channel.py",
    "test_lifecycle.py",
    "test_stopping.py",
    "test_rules_exits.py",
    "test_rules_stopping.py",
    "test_supervisor_requests.py",
    "test_group_asks.py",
]


@pytest.mark.once
def test_the_cores_tests_pass_in_another_order():
    """What they claim is claimed whatever the loop does."""
    # Without coverage, which has seen these tests and takes longer than they do.
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_PROCESS")}
    env |= {"ROOKERY_SEED": "1", "PYTHONPATH": os.pathsep.join([*sys.path, str(TESTS)])}
    arguments = ["-q", "-p", "any_order", "-p", "no:cacheprovider", *(str(TESTS / "core" / name) for name in FILES)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *arguments],
        check=False,
        env=env,
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    assert " passed" in done.stdout
