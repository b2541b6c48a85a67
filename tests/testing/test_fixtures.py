"""The fixtures, each in a run of pytest of its own."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap

import pytest

pytest_plugins = ["pytester"]

CONFTEST = """
import pytest
pytest_plugins = ["rookery.testing.fixtures"]

@pytest.fixture(params=["trio", "asyncio"])
def anyio_backend(request):
    return request.param
"""

HEAD = """
import anyio
import pytest
import rookery
from rookery import Context, open_system
from rookery.testing import settle
pytestmark = pytest.mark.anyio
"""


@pytest.fixture
def run(pytester: pytest.Pytester):
    """Run tests that are given as text."""
    pytester.makeconftest(CONFTEST)

    def run(tests: str, *arguments: str, within: float = 60.0) -> pytest.RunResult:
        """In a process of their own, which ends within so many seconds."""
        pytester.makepyfile(HEAD + textwrap.dedent(tests))
        return pytester.runpytest_subprocess("-p", "no:cacheprovider", *arguments, timeout=within)

    return run


def test_a_system_is_open_in_the_test_and_closed_after_it(run):
    """Its actors are stopped then."""
    result = run("""
        opened = []

        async def test_open(system):
            async def waiting(ctx: Context[object]):
                await ctx.wait_stopping()

            opened.append(await system.spawn(waiting))

        def test_closed():
            assert [ref.state.value for ref in opened] == ["stopped", "stopped"]
    """)
    result.assert_outcomes(passed=3)


def test_a_system_that_gives_up_leaves_the_test_running(run):
    """Why it did is an error when the test is over, and the tests after it have systems of their own."""
    result = run(
        """
        async def crashing(ctx: Context[str]):
            async for text in ctx:
                raise ValueError(text)

        async def test_gives_up(no_leaks, system):
            ref = await system.spawn(crashing)
            for _ in range(4):
                await ref.send("boom")
            await ref.wait_stopped()
            await anyio.sleep(0)
            with pytest.raises(rookery.ActorStopped):
                await ref.send("more")

        async def test_after_it(no_leaks, system):
            await system.spawn(crashing)
    """,
        within=60,
    )
    result.assert_outcomes(passed=4, errors=2)
    result.stdout.fnmatch_lines(["*ERROR at teardown of test_gives_up*", "*RestartIntensityExceeded*"])


def test_probes_live_in_the_systems_tree(run):
    """Any number of them."""
    result = run("""
        async def test_probes(system, probe):
            one, two = await probe(), await probe(name="db")
            await two.ref.send("hello")
            await two.expect("hello")
            await one.expect_nothing()
            assert system.lookup("db") == two.ref
    """)
    result.assert_outcomes(passed=2)


def test_a_leak_is_an_error_of_its_test(run):
    """Also where the test asks for other fixtures first."""
    result = run("""
        import asyncio, trio

        async def linger(system):
            if anyio.get_current_task() and trio.lowlevel.in_trio_task():
                trio.lowlevel.spawn_system_task(trio.sleep_forever, name="lingering")
            else:
                leaked.append(asyncio.create_task(asyncio.sleep(3600), name="lingering"))

        leaked = []

        async def test_leak(system, no_leaks):
            await linger(system)

        async def test_none(system, probe, no_leaks):
            await probe()
    """)
    result.assert_outcomes(passed=4, errors=2)
    result.stdout.fnmatch_lines(["*AssertionError: 1 tasks outlive their block: lingering"])


def test_a_test_that_is_not_async_may_ask_for_all(run):
    """Between others, as where a whole module does."""
    result = run("""
        from rookery._core._parking import seen_through
        pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_leaks", "shuffled")]

        async def test_one(system): pass

        def test_sync(shuffled):
            async def order():
                return seen_through.get()

            assert anyio.run(order) == shuffled._see

        async def test_two(system): pass

        def test_nothing_is_left():
            pass

        @pytest.fixture(scope="session", autouse=True)
        def gone():
            yield
            assert seen_through.get() is None
    """)
    result.assert_outcomes(passed=6)


def test_what_is_shared_by_tests_is_no_leak_of_the_first(run):
    """A fixture of the module is set up before the check, and outlives it."""
    result = run("""
        @pytest.fixture(scope="module", params=["trio", "asyncio"])
        def anyio_backend(request):
            return request.param

        @pytest.fixture(scope="module")
        async def shared():
            async with open_system() as system:
                yield system

        async def test_one(no_leaks, shared): pass

        async def test_two(no_leaks, system, shared): pass
    """)
    result.assert_outcomes(passed=4)


ORDER = r"(?m)^E +AssertionError: order (\[.*\])"

FAILING = """
    async def test_order(system, shuffled, probe):
        seen = await probe()

        async def actor(ctx: Context[object], number):
            await ctx.wait_stopping()
            seen.ref.send_nowait(number)

        for number in range(8):
            await system.spawn(actor, number)
        for number in range(8):
            system.lookup("actor" if number == 0 else f"actor-{number + 1}").stop_soon()
        await settle()
        assert [], f"order {seen.received}"
        """


def test_a_failure_shows_the_seed_and_the_seed_replays_it(run):
    """The same order of wake-ups, also where the system is asked for before the order."""
    first = run(FAILING).stdout.str()
    seeds = re.findall(r"replay with --rookery-seed=(\d+)", first)
    orders = re.findall(ORDER, first)
    assert len(seeds) == len(orders) == 2
    assert any(order != str(list(range(8))) for order in orders)
    for loop, seed in enumerate(seeds):
        again = run(FAILING, f"--rookery-seed={seed}").stdout.str()
        assert re.findall(ORDER, again)[loop] == orders[loop]


def test_a_test_that_passes_shows_no_seed(run):
    """Only failures are replayed."""
    result = run("async def test_fine(shuffled, system): pass", "-rA")
    result.assert_outcomes(passed=2)
    result.stdout.no_fnmatch_line("*replay with*")


def test_the_order_is_in_force_in_the_test_and_its_system(run):
    """And gone in the next test."""
    result = run("""
        from rookery._core._parking import seen_through
        from rookery._core.system import engine_of

        async def test_shuffled(system, shuffled):
            assert seen_through.get() is not None
            assert "Shuffled" in type(engine_of(system).loop).__name__

        async def test_plain(system):
            assert seen_through.get() is None
            assert "Shuffled" not in type(engine_of(system).loop).__name__
    """)
    result.assert_outcomes(passed=4)


def test_tests_run_on_the_virtual_backends(run):
    """By one fixture of their own."""
    result = run("""
        @pytest.fixture
        def anyio_backend(virtual_backend):
            return virtual_backend

        async def test_an_hour(system, probe):
            one = await probe()
            await one.expect_nothing(seconds=3600)
            assert 3600 <= anyio.current_time() < 3601
    """)
    result.assert_outcomes(passed=2)


@pytest.mark.parametrize(("module", "package"), [("fixtures", "pytest"), ("strategies", "hypothesis")])
def test_a_missing_package_is_named_with_its_extra(module: str, package: str):
    """And `rookery.testing` itself needs neither."""
    code = f"""
import sys
sys.modules["{package}"] = None
import rookery.testing
try:
    import rookery.testing.{module}
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert f"rookery.testing.{module} needs {package}" in done.stdout
    assert "pip install 'rookery[testing]'" in done.stdout


def test_importing_the_package_imports_neither_pytest_nor_hypothesis():
    """They are looked for where they are used."""
    code = "import sys, rookery.testing; print({'pytest', 'hypothesis'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
