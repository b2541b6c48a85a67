"""What a command says when it cannot do what it was asked."""

from __future__ import annotations


class Unusable(Exception):
    """The machine or the arguments do not allow it; the message is one line that says what to do instead."""
