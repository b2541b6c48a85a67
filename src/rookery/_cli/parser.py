"""What can be typed behind ``python -m rookery``. Needs nothing but the standard library."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from .loops import LOOPS

if TYPE_CHECKING:
    from collections.abc import Callable


def make_parser() -> argparse.ArgumentParser:
    """The parser; each command is a subparser with a function of its own below."""
    parser = argparse.ArgumentParser(
        prog="python -m rookery", description="Supervised actors for trio and asyncio, with kernels on the GPU."
    )
    commands = parser.add_subparsers(dest="command", title="commands", metavar="COMMAND")
    summary = "train a classifier of handwritten digits on the device, in a supervised pipeline"
    demo = commands.add_parser(
        "demo",
        help=summary,
        description=f"The main job: {summary}. One of its actors is made to crash half-way. The exit status is 0 "
        "only if every image was counted once, at least 95 % of the images held out of training are recognised, "
        "and the same computation in NumPy gives the same answers.",
    )
    _add_demo_options(demo)
    summary = "list the OpenCL devices, try each, and say what is missing"
    commands.add_parser(
        "devices",
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}: a GPU without a driver, a driver that does not load, a cache "
        "that cannot be written. The exit status is 0 if every device works and there is one to be taken: with "
        "ROOKERY_DEVICE, one that answers to it.",
    )
    return parser


def _add_demo_options(demo: argparse.ArgumentParser) -> None:
    demo.add_argument("--loop", choices=LOOPS, default="trio", help="the event loop to run on (default: %(default)s)")
    demo.add_argument(
        "--device",
        metavar="NAME|gpu|cpu|INDEX",
        help="an OpenCL device: part of its name or vendor, its kind, or its index (default: $ROOKERY_DEVICE, else "
        "the first GPU, else PoCL)",
    )
    demo.add_argument(
        "--seed",
        type=_whole(0),
        metavar="N",
        default=0,
        help="of the split, the first weights and the order of lessons (default: %(default)s)",
    )
    demo.add_argument(
        "--epochs",
        type=_whole(1),
        metavar="N",
        default=40,
        help="how often each image is learned from (default: %(default)s)",
    )


def _whole(least: int) -> Callable[[str], int]:
    """A converter for whole numbers of at least ``least``."""

    def convert(text: str) -> Any:
        if text.isdecimal() and int(text) >= least:
            return int(text)
        raise argparse.ArgumentTypeError(f"must be a whole number from {least} up, got {text!r}")

    return convert
