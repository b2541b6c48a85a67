"""Fixtures for pytest, with anyio's plugin.

Named in the ``conftest.py`` at the top of the tests::

    pytest_plugins = ["rookery.testing.fixtures"]

Then async tests can ask for:

* ``system``: an open system, which is closed at the end of the test. If it gives up, the test goes on without it, and
  why it did is an error of the test's teardown;
* ``probe``: a factory of probes in that system, ``db = await probe(name="db")``;
* ``shuffled``: wake-ups come in an order drawn from a seed. A failure shows the seed, and ``--rookery-seed=...``
  replays it;
* ``no_leaks``: no task outlives the test. For all tests of a module,
  ``pytestmark = pytest.mark.usefixtures("no_leaks")``;
* ``virtual_backend``: trio and asyncio, each with a virtual clock. What a test runs on, anyio's plugin reads from the
  fixture ``anyio_backend``, so let that return it.

``shuffled`` and ``no_leaks`` are set up before all others that are set up for each test, in whatever order a test names
them. A test that is not async can have them too: ``shuffled`` holds for the loops that it runs itself, ``no_leaks``
has nothing to look at.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

import anyio

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

    from anyio.abc import TaskStatus

SEED: Final = "--rookery-seed"

FIRST: Final = ("no_leaks", "shuffled")
"""What has to be there before a test's system is opened, and to end after it."""

_shuffle_of: Final = pytest.StashKey[Shuffle]()


class ProbeFactory(Protocol):
    """What the fixture ``probe`` gives."""

    async def __call__(self, *, name: str | None = None) -> Probe[Any]:
        """Start a probe in the test's system; see `spawn_probe`."""
        ...


@pytest.fixture
async def system() -> AsyncGenerator[System]:
    """An open system, closed at the end of the test, with an error if it had to give up."""
    over = anyio.Event()
    failures: list[Exception] = []
    async with anyio.create_task_group() as tasks:
        yield await tasks.start(_host, over, failures)
        over.set()
    for failure in failures:
        raise failure


async def _host(over: anyio.Event, failures: list[Exception], *, task_status: TaskStatus[System]) -> None:
    """Keep a system open, in a task of its own: one that gives up cancels its block, and that must not be pytest's."""
    try:
        async with open_system() as system:
            task_status.started(system)
            await over.wait()
    except Exception as failure:  # noqa: BLE001  # raised where the test is over
        failures.append(failure)


@pytest.fixture
async def probe(system: System) -> ProbeFactory:
    """A factory of probes in the test's system."""

    async def spawn(*, name: str | None = None) -> Probe[Any]:
        return await spawn_probe(system, name=name)

    return spawn


@pytest.fixture
def no_leaks(request: pytest.FixtureRequest) -> None:
    """No task that was started in the test outlives it, and what was set up for it."""
    if _has_a_loop(request):
        request.getfixturevalue(_no_leaks.__name__)


@pytest.fixture
async def _no_leaks() -> AsyncGenerator[None]:
    async with checking_for_leaks():
        yield


@pytest.fixture
def shuffled(request: pytest.FixtureRequest) -> Generator[Shuffle]:
    """An order of wake-ups drawn from the seed on the command line, or else from a new one."""
    shuffle = request.node.stash[_shuffle_of] = in_drawn_order(request.config.getoption(SEED))
    if _has_a_loop(request):
        request.getfixturevalue(_shuffled.__name__)
        yield shuffle
    else:
        with shuffle:
            yield shuffle


@pytest.fixture
async def _shuffled(request: pytest.FixtureRequest) -> AsyncGenerator[None]:
    with request.node.stash[_shuffle_of]:  # in the context of the loop, which is not that of pytest
        yield


def _has_a_loop(request: pytest.FixtureRequest) -> bool:
    """Whether anyio's plugin runs this test, and its async fixtures."""
    return "anyio_backend" in request.fixturenames


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
            item.fixturenames.sort(key=partial(_turn, item))  # stable


def _turn(item: pytest.Function, name: str) -> int:
    """When a fixture is set up: those that several tests share, those of `FIRST`, and the others."""
    definitions = item._fixtureinfo.name2fixturedefs.get(name)  # pyright: ignore[reportPrivateUsage]
    if definitions and definitions[-1].scope != "function":
        return 0
    return 1 if name in FIRST else 2


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Of pytest's: a failure shows the seed."""
    report = yield
    shuffle = item.stash.get(_shuffle_of, None)
    if report.failed and shuffle is not None:
        report.sections.append(("rookery's order of wake-ups", f"replay with {SEED}={shuffle.seed}"))
    return report
