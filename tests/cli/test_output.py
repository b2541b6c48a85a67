"""Terminals that cannot show everything are shown what they can."""

from __future__ import annotations

import io
import logging

import pytest
from rich.console import Console

from rookery._cli.demo.display import ConsoleHandler
from rookery._cli.output import whatever_the_encoding

from .conftest import COMMAND
from .terminal import Terminal

pytestmark = pytest.mark.once  # a process each


def encoded(encoding: str, text: str) -> bytes:
    """What arrives of a text at a stream of this encoding."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding, write_through=True)
    with whatever_the_encoding(stream):
        stream.write(text)
    assert stream.errors == "strict"
    return raw.getvalue()


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("ascii", b"|-- ?"),
        ("latin-1", b"|-- \xe9"),
        ("utf-8", "├── é".encode()),
    ],
)
def test_what_an_encoding_lacks_has_a_stand_in(encoding: str, shown: bytes) -> None:
    """Lines are drawn with what there is, other characters are question marks; what it has is left alone."""
    assert encoded(encoding, "├── é") == shown


def test_a_stream_that_keeps_text_is_left_alone() -> None:
    """It shows everything."""
    stream = io.StringIO()
    with whatever_the_encoding(stream):
        stream.write("├── é")
    assert stream.getvalue() == "├── é"


def test_a_record_that_cannot_be_shown_harms_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    """It goes the way of all such records: a note on standard error, and whoever logs goes on."""
    strict = io.TextIOWrapper(io.BytesIO(), "ascii", write_through=True)
    record = logging.LogRecord("rookery", logging.INFO, __file__, 1, "opened %s", ("é",), None)
    ConsoleHandler(Console(file=strict)).emit(record)
    assert "UnicodeEncodeError" in capsys.readouterr().err


def test_the_demo_runs_on_a_terminal_without_lines() -> None:
    """To its table, and all of its checks hold."""
    with Terminal([*COMMAND, "demo", "--device", "pocl"], PYTHONIOENCODING="ascii") as terminal:
        status = terminal.wait()
    assert status == 0, terminal.shown
    assert terminal.shown.isascii()
    assert "`-- " in terminal.shown
    assert "images classified" in terminal.shown
    assert "Traceback" not in terminal.shown
