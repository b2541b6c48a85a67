"""The command line in processes of its own, as users run it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from rookery._cli.demo.digits import Digits

EXTRA = ("numpy", "pyopencl", "rich", "sklearn", "uvloop")
if not all(map(importlib.util.find_spec, EXTRA)):
    collect_ignore_glob = ["test_*.py"]

LOOPS = ("trio", "asyncio", "uvloop")
COMMAND = [sys.executable, "-m", "rookery"]
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if name not in ("FORCE_COLOR", "TTY_COMPATIBLE")},
    "COLUMNS": "80",
    "PYTHONUNBUFFERED": "1",
}
"""Without what makes programs take a pipe for a terminal."""
HAMPERED = (
    "import runpy, sys; sys.modules.update(dict.fromkeys({missing!r})); "
    "runpy.run_module('rookery', run_name='__main__', alter_sys=True)"
)
"""The command line where some modules cannot be imported."""


class Rookery(Protocol):
    """Runs ``python -m rookery`` to its end."""

    def __call__(
        self, *arguments: str, without: tuple[str, ...] = (), **environment: str
    ) -> subprocess.CompletedProcess[str]: ...


@pytest.fixture
def rookery() -> Rookery:
    """The command line."""

    def run(*arguments: str, without: tuple[str, ...] = (), **environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", HAMPERED.format(missing=without)] if without else COMMAND
        environment = ENVIRONMENT | environment
        return subprocess.run(
            [*command, *arguments], check=False, env=environment, capture_output=True, text=True, timeout=120
        )

    return run


@pytest.fixture(scope="session")
def digits() -> Digits:
    """The images."""
    from rookery._cli.demo.digits import read_digits

    return read_digits()
