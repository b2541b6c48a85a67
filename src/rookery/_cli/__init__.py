"""The command line. Nothing in here is imported by the library itself."""

from __future__ import annotations

from .commands import main as main
