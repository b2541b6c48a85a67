"""The command line says in one line what is wrong, and needs no extra to say it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .conftest import EXTRA

if TYPE_CHECKING:
    from .conftest import Rookery

pytestmark = pytest.mark.once  # a process each, and words


def test_without_a_command_it_shows_help(rookery: Rookery) -> None:
    """Also where nothing but the core is installed."""
    done = rookery(without=EXTRA)
    assert (done.returncode, done.stderr) == (0, "")
    assert "demo" in done.stdout


@pytest.mark.parametrize("option", ["--loop", "--device", "--seed", "--epochs"])
def test_help_of_the_demo_names_every_option(rookery: Rookery, option: str) -> None:
    """Without extras as well: who has to install something should be able to read what for."""
    done = rookery("demo", "--help", without=EXTRA)
    assert (done.returncode, done.stderr) == (0, "")
    assert option in done.stdout


@pytest.mark.parametrize("module", [*EXTRA, "scipy", "joblib"])
def test_a_missing_extra_is_one_line_that_says_what_to_install(rookery: Rookery, module: str) -> None:
    """Whichever part of it is missing."""
    done = rookery("demo", "--loop", "uvloop", without=(module,))
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert module in line
    assert 'pip install "rookery[demo]"' in line


def test_a_module_of_our_own_that_is_missing_is_no_missing_extra(rookery: Rookery) -> None:
    """It would be our mistake, and is shown as one."""
    done = rookery("demo", without=("rookery._cli.demo.plan",))
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "pip install" not in done.stderr


def test_an_unknown_device_is_one_line_that_names_it(rookery: Rookery) -> None:
    """And says which devices there are."""
    done = rookery("demo", "--device", "abacus")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert "'abacus'" in line
    assert "[0]" in line


def test_the_environment_names_the_device_where_no_option_does(rookery: Rookery) -> None:
    """An unknown one is told apart from an option by its name."""
    done = rookery("demo", ROOKERY_DEVICE="abacus")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "ROOKERY_DEVICE=abacus" in line


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--loop", "curio"], "'curio'"),
        (["--seed", "-1"], "'-1'"),
        (["--seed", "one"], "'one'"),
        (["--epochs", "0"], "'0'"),
    ],
)
def test_a_wrong_option_is_named(rookery: Rookery, arguments: list[str], named: str) -> None:
    """Below the usage, as argparse has it."""
    done = rookery("demo", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert named in done.stderr.splitlines()[-1]
