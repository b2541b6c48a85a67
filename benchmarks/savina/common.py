"""What several of the programs need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rookery import ActorRef


def shares(count: int, parts: int) -> list[int]:
    """``count`` in that many parts, as equal as can be."""
    return [(count + part) // parts for part in range(parts)]


async def all_ended(refs: Iterable[ActorRef[Any]]) -> None:
    """Wait for actors that come to an end by themselves."""
    for ref in refs:
        await ref.wait_stopped()
