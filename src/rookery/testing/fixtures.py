"""Fixtures for pytest, with anyio's plugin.

Named in the ``conftest.py`` at the top of the tests::

    pytest_plugins = ["rookery.testing.fixtures"]

Then async tests can ask for:

* ``system``: an open system, which is closed at the end of the test;
* ``probe``: a factory of probes in that system, ``db = await probe(name="db")``;
* ``shuffled``: wake-ups come in an order drawn from a seed. A failure shows the seed, and ``--rookery-seed=...``
  replays it;
* ``no_leaks``: no task outlives the test. For all tests of a module,
  ``pytestmark = pytest.mark.usefixtures("no_leaks")``;
* ``virtual_backend``: trio and asyncio, each with a virtual clock. What a test runs on, anyio's plugin reads from the
  fixture ``anyio_backend``, so let that return it.

``shuffled`` and ``no_leaks`` are set up before all others, in whatever order a test names them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from .._core.system import System, open_system
from ._clock import virtual_clock
from ._extra import missing_extra
from ._leaks import no_leaks as checking_for_leaks
from ._order import Shuffle
from ._order import shuffled as in_drawn_order
from ._probe import Probe, spawn_probe

try:
    import pytest
except ImportError as _error:
    raise missing_extra(__name__, "pytest", _error) from _error

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

SEED: Final = "--rookery-seed"

FIRST: Final = ("no_leaks", "shuffled")
"""What has to be there before a system is opened, and to end after it."""

_shuffle_of: Final = pytest.StashKey[Shuffle]()


class ProbeFactory(Protocol):
    """What the fixture ``probe`` gives."""

    async def __call__(self, *, name: str | None = None) -> Probe[Any]:
        """Start a probe in the test's system; see `spawn_probe`."""
        ...


@pytest.fixture
async def system() -> AsyncGenerator[System]:
    """An open system, closed at the end of the test."""
    async with open_system() as system:
        yield system


@pytest.fixture
async def probe(system: System) -> ProbeFactory:
    """A factory of probes in the test's system."""

    async def spawn(*, name: str | None = None) -> Probe[Any]:
        return await spawn_probe(system, name=name)

    return spawn


@pytest.fixture
async def no_leaks() -> AsyncGenerator[None]:
    """No task that was started in the test outlives it, and what was set up for it."""
    async with checking_for_leaks():
        yield


@pytest.fixture
async def shuffled(request: pytest.FixtureRequest) -> AsyncGenerator[Shuffle]:
    """An order of wake-ups drawn from the seed on the command line, or else from a new one."""
    with in_drawn_order(request.config.getoption(SEED)) as shuffle:
        request.node.stash[_shuffle_of] = shuffle
        yield shuffle


@pytest.fixture(params=["trio", "asyncio"])
def virtual_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """A backend for anyio with a virtual clock of its own, once for trio and once for asyncio."""
    return virtual_clock(request.param)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Of pytest's: the seed to replay."""
    parser.getgroup("rookery").addoption(
        SEED, type=int, default=None, help="the seed of every `shuffled` test, as a failure has shown it"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of pytest's: fixtures are set up in the order of their names here."""
    for item in items:
        if isinstance(item, pytest.Function):
            item.fixturenames.sort(key=lambda name: name not in FIRST)  # stable


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Of pytest's: a failure shows the seed."""
    report = yield
    shuffle = item.stash.get(_shuffle_of, None)
    if report.failed and shuffle is not None:
        report.sections.append(("rookery's order of wake-ups", f"replay with {SEED}={shuffle.seed}"))
    return report
