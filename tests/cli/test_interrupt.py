"""Ctrl-C: a real SIGINT to a real process, at a moment that its output tells."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from subprocess import PIPE
from typing import TYPE_CHECKING

import pytest

from .conftest import COMMAND, ENVIRONMENT, LOOPS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

ENDLESS = ["demo", "--device", "pocl", "--epochs", "2000"]  # a minute and more, of which a second is needed
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


class Terminal:
    """A process on a terminal of its own, which turns ^C into SIGINT as any terminal does."""

    ATTACH = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"

    def __init__(self, command: list[str]) -> None:
        self.shown = ""
        self._keyboard, screen = pty.openpty()
        self._process = subprocess.Popen(
            [sys.executable, "-c", self.ATTACH, *command],
            stdin=screen,
            stdout=screen,
            stderr=screen,
            start_new_session=True,
            env=ENVIRONMENT | {"TERM": "xterm-256color", "LINES": "30"},
        )
        os.close(screen)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._keyboard)

    def wait_for(self, text: str) -> None:
        """Read until the text was shown."""
        while text not in self.shown:
            chunk = next(self._chunks(), None)
            assert chunk is not None, f"{text!r} was never shown: {self.shown}"

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._keyboard, keys.encode())

    def wait(self) -> int:
        """The exit status."""
        for _ in self._chunks():
            pass
        return self._process.wait(timeout=60)

    def _chunks(self) -> Iterator[str]:
        while True:
            try:
                data = os.read(self._keyboard, 65536)
            except OSError:  # the way of Linux to say that nobody is at the other end any more
                return
            self.shown += data.decode(errors="replace")
            yield self.shown
