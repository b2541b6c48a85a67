"""Rules of the public interface, kept as tests."""

from __future__ import annotations

import inspect
import subprocess
import sys
from enum import Enum
from typing import Any

import pytest

import rookery

PUBLIC = [(name, getattr(rookery, name)) for name in rookery.__all__]
CLASSES = [(name, thing) for name, thing in PUBLIC if inspect.isclass(thing)]


def run(code: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_every_public_name_is_listed() -> None:
    """``__all__`` is sorted, without doubles, and holds exactly what does not begin with an underscore."""
    assert sorted(set(rookery.__all__)) == rookery.__all__
    wings = {"annotations", "cluster", "gpu", "persistence", "ring", "telemetry", "testing"}  # once imported
    visible = {name for name in vars(rookery) if not name.startswith("_")} - wings
    assert visible == set(rookery.__all__)


@pytest.mark.parametrize(("name", "thing"), PUBLIC, ids=[name for name, _ in PUBLIC])
def test_every_public_name_is_documented(name: str, thing: Any) -> None:
    """With a docstring of its own that begins with a sentence."""
    docstring = vars(thing).get("__doc__") if inspect.isclass(thing) else thing.__doc__
    assert docstring, name
    first = docstring.strip().split("\n\n")[0]
    assert first.endswith((".", "::", ":")), first


@pytest.mark.parametrize(("name", "cls"), CLASSES, ids=[name for name, _ in CLASSES])
def test_every_public_method_is_documented(name: str, cls: type) -> None:
    """Methods and properties alike."""
    if issubclass(cls, Enum):
        return
    for attribute, value in vars(cls).items():
        if not attribute.startswith("_") and (inspect.isroutine(value) or isinstance(value, property)):
            assert inspect.getdoc(getattr(cls, attribute)), f"{name}.{attribute}"


@pytest.mark.parametrize(("name", "thing"), PUBLIC, ids=[name for name, _ in PUBLIC])
def test_no_public_name_is_shadowed(name: str, thing: Any) -> None:
    """Each is known by the name under which it was defined, and pickles by reference."""
    assert thing.__name__ == name
    assert getattr(sys.modules[thing.__module__], name) is thing


def test_async_functions_can_block_and_others_cannot() -> None:
    """What ends in ``_nowait`` or ``_soon`` returns at once; what waits, is awaited."""
    for _, cls in CLASSES:
        for attribute, value in vars(cls).items():
            if attribute.endswith(("_nowait", "_soon")):
                assert not inspect.iscoroutinefunction(value), f"{cls.__name__}.{attribute}"
            if attribute.startswith("wait_"):
                assert inspect.iscoroutinefunction(value), f"{cls.__name__}.{attribute}"


def test_importing_imports_nothing_heavy() -> None:
    """Neither the extras nor uvloop, whether or not they are installed."""
    heavy = {"mako", "numpy", "pyopencl", "ray", "rich", "sklearn", "uvloop"}
    loaded = run("import rookery, sys; print(*{name.partition('.')[0] for name in sys.modules})")
    assert set(loaded.split()) & heavy == set()


def test_importing_changes_nothing() -> None:
    """No event-loop policy, no handler or level of any logger, no signal handler, no warning filter, no thread."""
    state = (
        "import anyio, asyncio, logging, signal, sys, threading, trio, warnings\n"
        "def state():\n"
        "    loggers = [logging.root, *map(logging.getLogger, list(logging.root.manager.loggerDict))]\n"
        "    return (\n"
        "        getattr(getattr(asyncio, 'events', None), '_event_loop_policy', None),\n"
        "        {logger.name: (list(logger.handlers), logger.level) for logger in loggers\n"
        "         if logger.handlers or logger.level},\n"
        "        signal.getsignal(signal.SIGINT), list(warnings.filters), threading.active_count(),\n"
        "        sys.excepthook, sys.getswitchinterval(), sys.get_asyncgen_hooks(),\n"
        "    )\n"
        "before = state()\n"
        "import rookery\n"
        "after = state()\n"
        "print(before == after, *(pair for pair in zip(before, after) if pair[0] != pair[1]))"
    )
    assert run(state) == "True"


def test_the_package_is_typed() -> None:
    """It ships the marker that tells type checkers so."""
    from importlib.resources import files

    assert files("rookery").joinpath("py.typed").is_file()


def test_outside_of_an_event_loop_the_error_says_how_to_start_one() -> None:
    """A channel is made inside a loop."""
    with pytest.raises(RuntimeError, match=r"trio\.run\(main\), or asyncio\.run\(main\(\)\)"):
        rookery.open_priority_channel(1)
