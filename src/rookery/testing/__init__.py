"""Tools for testing actors: time that jumps, an order that replays, actors that expect, faults on demand.

Time and order:

* ``virtual_clock("trio")`` is a backend for anyio whose time jumps to the next timer when everything rests.
* ``with shuffled(seed):`` lets the wake-ups of rookery's tasks through one by one, in an order drawn from the seed.
* ``await settle()`` waits until everybody else rests.

Actors that are watched and disturbed:

* ``probe = await spawn_probe(system)`` records what ``probe.ref`` is sent: ``await probe.expect(Note)``.
* ``crash(ref, error)`` makes an actor crash where it waits, or where it waits next.
* ``with Faults() as faults:`` makes the nth start, receive, reply or cleanup of chosen actors fail.
* ``async with no_leaks():`` fails if a task that was started in the block outlives it.
* ``story = Story()``, an instrument, tells what happened as a Mermaid sequence diagram: ``story.mermaid()``.

Three modules need packages that rookery itself does not: ``pip install 'rookery[testing]'``.

* `rookery.testing.fixtures` has all of this as fixtures for pytest, with anyio's plugin.
* `rookery.testing.strategies` has Hypothesis strategies for messages and priorities.
* `rookery.testing.machine` has `SystemMachine`, which drives a whole system at random and checks what must hold.
"""

from __future__ import annotations

from .._model.wording import at_home as _at_home
from ._clock import virtual_clock
from ._crash import crash
from ._faults import Faults, InjectedFault
from ._leaks import no_leaks
from ._order import Shuffle, shuffled
from ._probe import Probe, spawn_probe
from ._settle import settle
from .story import Story

__all__ = [
    "Faults",
    "InjectedFault",
    "Probe",
    "Shuffle",
    "Story",
    "crash",
    "no_leaks",
    "settle",
    "shuffled",
    "spawn_probe",
    "virtual_clock",
]

_at_home(globals(), __all__)
