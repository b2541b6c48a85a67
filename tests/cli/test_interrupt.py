"""Ctrl-C: a real SIGINT to a real process, at a moment that its output tells."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from subprocess import PIPE

import pytest

from .conftest import COMMAND, ENVIRONMENT, LOOPS
from .terminal import Terminal

ENDLESS = ["demo", "--device", "pocl", "--epochs", "2000"]  # a minute and more, of which a second is needed
IMPORTING = """
import os, runpy, signal, sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
runpy.run_module("rookery", run_name="__main__", alter_sys=True)
"""
IN_ORDER = ["reader stopped", "network stopped", "sink stopped"]


@pytest.fixture(params=LOOPS)
def demo(request: pytest.FixtureRequest) -> list[str]:
    """A demo that will not end by itself."""
    return [*COMMAND, *ENDLESS, "--loop", request.param]


def test_a_signal_stops_the_tree_in_order(demo: list[str]) -> None:
    """Then the device, and the exit status is 130; not a word of a traceback."""
    with subprocess.Popen(demo, stdout=PIPE, stderr=PIPE, text=True, env=ENVIRONMENT) as process:
        assert process.stdout
        for line in process.stdout:
            if line.startswith("training: "):
                process.send_signal(signal.SIGINT)
                break
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    ends = [line for line in out.splitlines() if not line.startswith("training: ")]
    assert ends[:-1] == IN_ORDER
    assert ends[-1].startswith("released ")
    assert err == "interrupted\n"


def test_ctrl_c_on_a_terminal_leaves_it_usable(demo: list[str]) -> None:
    """The keystroke itself, during the live display: the same order, and the cursor is back."""
    with Terminal(demo) as terminal:
        terminal.wait_for("mistaken")
        terminal.type("\x03")
        terminal.wait_for("interrupted")
        status = terminal.wait()
    assert status == 130
    assert "Traceback" not in terminal.shown
    ends = re.findall(r"\w+ stopped|released|interrupted", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.shown))
    assert ends == [*IN_ORDER, "released", "interrupted"]
    assert terminal.shown.rindex("\x1b[?25h") > terminal.shown.rindex("\x1b[?25l")


@pytest.mark.parametrize("module", ["argparse", "rookery._cli.parser", "numpy", "rich.console"])
def test_ctrl_c_while_modules_are_imported_is_no_traceback(module: str) -> None:
    """From the command line's first one to the demo's last; Python imports the package before it runs any of it."""
    program = IMPORTING.format(module=module)
    done = subprocess.run([sys.executable, "-c", program, "demo"], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")
