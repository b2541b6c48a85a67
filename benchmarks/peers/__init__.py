"""Other actor libraries doing the same work, each the way its own documentation shows it.

Those that are not installed are left out.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Final

import attrs

from harness import NO_LOOP

if TYPE_CHECKING:
    from harness import Measure
    from workload import Transport

PLACES: Final = {
    "pykka": (NO_LOOP,),
    "thespian": (NO_LOOP,),
    "xoscar": ("asyncio", "uvloop"),
}
"""The libraries, and where each of them runs."""


@attrs.frozen
class Peer:
    """What one library is measured doing, on one kind of loop.

    Attributes:
        name: What it is called in the report.
        note: What a reader of its numbers has to know.
        ask: Seconds for that many asks, a fresh request each.
        send: Seconds until that many messages have been handled.
        spawn: Seconds until that many actors can be used, one started after another.
        stop: Seconds until that many idle actors have ended well.
    """

    name: str
    note: str
    ask: Measure
    send: Transport
    spawn: Measure | None = None
    stop: Measure | None = None


def peers(loop: str) -> list[Peer]:
    """Those who run there, and are installed."""
    return [
        peer
        for name, places in PLACES.items()
        if loop in places and importlib.util.find_spec(name)
        for peer in importlib.import_module(f"peers.with_{name}").PEERS
    ]
