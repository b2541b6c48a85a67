"""Every async test runs on trio, asyncio and uvloop; hypothesis runs under a named profile."""

from __future__ import annotations

import importlib.util
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings

# asyncio's debug mode reports calls from a wrong thread and coroutines that nobody awaited, and is slow;
# uvloop runs without it, so that the loop which people choose for speed is tested as they run it.
LOOPS = [
    pytest.param(("trio", {}), id="trio"),
    pytest.param(("asyncio", {"debug": True}), id="asyncio"),
]
if importlib.util.find_spec("uvloop"):
    LOOPS.append(pytest.param(("asyncio", {"debug": False, "use_uvloop": True}), id="uvloop"))


@pytest.fixture(scope="module", params=LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Parametrise every async test: anyio's plugin reads the loop and its options from here."""
    return request.param


@pytest.fixture(autouse=True)
def as_in_the_foreground() -> Iterator[None]:
    """A shell that runs the tests in the background has them ignore SIGINT, and what they start inherits it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


# No profile has a deadline: on a slow or shared machine it fails by chance. `dev` draws new examples each time, to
# find what nobody thought of. `ci` draws the same ones every time, so that a red run means that the change broke
# something and can be repeated anywhere; looking for new failures is the nightly run's job.
settings.register_profile("dev", deadline=None, max_examples=50)
settings.register_profile("ci", deadline=None, max_examples=30, derandomize=True, print_blob=True)
# `mutants` is `ci` for tests that are expected to fail: that they do is enough, nobody asks for the smallest example.
settings.register_profile("mutants", settings.get_profile("ci"), phases=(Phase.explicit, Phase.generate))
settings.register_profile("brief", settings.get_profile("ci"), max_examples=10)
settings.register_profile(
    "nightly",
    deadline=None,
    max_examples=10_000,
    stateful_step_count=100,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))
