"""Output on terminals whose encoding does not have every character that is to be shown."""

from __future__ import annotations

import codecs
import io
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TextIO

if TYPE_CHECKING:
    from collections.abc import Generator

STAND_INS: Final = str.maketrans("└├│─", "`||-")
"""What trees are drawn with where there are no lines; any other character becomes a question mark."""
HANDLER: Final = "rookery.stand_in"
"""The name under which codecs know `stand_in`."""


def stand_in(error: UnicodeError) -> tuple[str, int]:
    """An error handler for codecs: what to write instead, and where to go on."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    instead = error.object[error.start : error.end].translate(STAND_INS)
    return instead.encode("ascii", "replace").decode("ascii"), error.end


codecs.register_error(HANDLER, stand_in)


@contextmanager
def whatever_the_encoding(stream: TextIO) -> Generator[None]:
    """In this block, writing to the stream shows what its encoding has, and stand-ins for the rest."""
    if not isinstance(stream, io.TextIOWrapper):  # it keeps text, and has nothing to encode
        yield
        return
    before = stream.errors
    stream.reconfigure(errors=HANDLER)
    try:
        yield
    finally:
        stream.reconfigure(errors=before)
