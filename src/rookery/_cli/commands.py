"""From the command line to an exit status."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from .errors import Unusable
from .output import whatever_the_encoding
from .parser import make_parser

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

UNUSABLE: Final = 2
"""Also argparse's status for wrong arguments."""
INTERRUPTED: Final = 130
"""128 and the number of SIGINT, as shells have it."""

OPTIONAL: Final = frozenset(
    {"joblib", "mako", "numpy", "pyopencl", "rich", "scipy", "sklearn", "threadpoolctl", "uvloop"}
)
"""What may be missing, because only the ``demo`` extra brings it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: What stands behind the program's name; by default that of this process.

    Returns:
        The exit status: 0 if all went well, 1 if the command found something wrong, 2 if it cannot run like
        this, 130 after Ctrl-C.
    """
    parser = make_parser()
    arguments = parser.parse_args(argv)
    if arguments.command is None:
        parser.print_help()
        return 0
    try:
        with whatever_the_encoding(sys.stdout):
            return _devices() if arguments.command == "devices" else _demo(arguments)
    except Unusable as error:
        print(f"rookery: {error}", file=sys.stderr)
        return UNUSABLE
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


def _devices() -> int:
    """List and try the devices, for which pyopencl may be missing."""
    from rookery._model.errors import RookeryError

    try:
        from .devices import main as devices
    except RookeryError as error:  # it says what to install
        raise Unusable(str(error)) from error
    return devices()


def _demo(arguments: argparse.Namespace) -> int:
    """Run the demo, whose imports take a second and may be missing."""
    try:
        from .demo import main as demo

        return demo(arguments.loop, arguments.device, arguments.seed, arguments.epochs)
    except ImportError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in OPTIONAL:
            raise
        raise Unusable(f'the demo needs {missing}, which cannot be imported: pip install "rookery[demo]"') from error
