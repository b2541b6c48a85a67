"""A terminal for a process under test, with a keyboard and what it shows."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from typing import TYPE_CHECKING

from .conftest import ENVIRONMENT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self


class Terminal:
    """A process on a terminal of its own, which turns ^C into SIGINT as any terminal does."""

    ATTACH = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"

    def __init__(self, command: list[str], **environment: str) -> None:
        self.shown = ""
        self._keyboard, screen = pty.openpty()
        self._process = subprocess.Popen(
            [sys.executable, "-c", self.ATTACH, *command],
            stdin=screen,
            stdout=screen,
            stderr=screen,
            start_new_session=True,
            env=ENVIRONMENT | {"TERM": "xterm-256color", "LINES": "30"} | environment,
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
