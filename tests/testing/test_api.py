"""Rules of the public interface of `rookery.testing`, kept as tests."""

from __future__ import annotations

import inspect
import sys
from typing import Any

import pytest

import rookery.testing
from rookery.testing import fixtures, strategies

PUBLIC = [
    *((name, getattr(rookery.testing, name)) for name in rookery.testing.__all__),
    *((name, getattr(strategies, name)) for name in strategies.__all__),
]
NAMES = [name for name, _ in PUBLIC]


def test_every_public_name_is_listed():
    """``__all__`` is sorted, without doubles, and holds exactly what does not begin with an underscore."""
    assert sorted(set(rookery.testing.__all__)) == rookery.testing.__all__
    wings = {"annotations", "fixtures", "machine", "story", "strategies"}
    assert {name for name in vars(rookery.testing) if not name.startswith("_")} - wings == set(rookery.testing.__all__)


@pytest.mark.parametrize(("name", "thing"), PUBLIC, ids=NAMES)
def test_every_public_name_is_documented(name: str, thing: Any):
    """Public methods of classes as well."""
    assert thing.__name__ == name
    assert vars(thing).get("__doc__") if inspect.isclass(thing) else thing.__doc__, name
    for attribute, value in vars(thing).items() if inspect.isclass(thing) else ():
        if not attribute.startswith("_") and (inspect.isroutine(value) or isinstance(value, property)):
            assert inspect.getdoc(value), f"{name}.{attribute}"


@pytest.mark.parametrize(("name", "thing"), PUBLIC, ids=NAMES)
def test_every_public_name_is_at_home_where_it_is_imported_from(name: str, thing: Any):
    """As tracebacks show it, and pickles by reference."""
    home = strategies if name in strategies.__all__ else rookery.testing
    assert thing.__module__ == home.__name__
    assert getattr(sys.modules[thing.__module__], name) is thing


@pytest.mark.parametrize("name", ["system", "probe", "shuffled", "no_leaks", "virtual_backend"])
def test_every_fixture_is_documented(name: str):
    """`pytest --fixtures` shows it, and so does the module."""
    assert inspect.getdoc(
        getattr(fixtures, name).__wrapped__
        if hasattr(getattr(fixtures, name), "__wrapped__")
        else getattr(fixtures, name)
    )
    assert f"``{name}``" in (fixtures.__doc__ or "")
