"""One root for all errors, each also the built-in that says the same."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from rookery._model import errors

ALL = [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, errors.RookeryError)]


def test_nothing_else_is_an_error_here() -> None:
    """Whatever is raised on purpose is found under the one root."""
    assert [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if cls not in ALL] == []


@pytest.mark.parametrize("cls", ALL)
def test_every_error_has_the_one_root(cls: type[Exception]) -> None:
    """``except RookeryError`` catches them all, and none is a base exception."""
    assert issubclass(cls, Exception)
    assert cls.__module__ == "rookery"


@pytest.mark.parametrize(
    ("cls", "builtin"),
    [
        (errors.AskTimeout, TimeoutError),
        (errors.DuplicateName, ValueError),
        (errors.NotStarted, LookupError),
        (errors.UnknownActor, LookupError),
        (errors.UnresolvedAnnotation, TypeError),
        (errors.AskCycle, RuntimeError),
        (errors.AlreadyAnswered, RuntimeError),
        (errors.StopFromWithin, RuntimeError),
        (errors.WrongLoop, RuntimeError),
    ],
)
def test_errors_are_the_fitting_built_in_too(cls: type[Exception], builtin: type[Exception]) -> None:
    """People catch what they know."""
    assert issubclass(cls, builtin)


def test_a_refusal_carries_the_error_to_raise_in_the_asker() -> None:
    """It is the one argument, too."""
    error = ValueError("too much")
    refused = errors.Refused(error)
    assert refused.error is error
    assert refused.args == (error,)


@pytest.mark.parametrize("given", ["too much", ValueError, None])
def test_a_refusal_takes_an_exception(given: Any) -> None:
    """Anything else is shown, and what to write instead."""
    with pytest.raises(
        TypeError, match=r"Refused takes the exception.*got .*write `raise Refused\(ValueError\(\.\.\.\)\)`"
    ):
        errors.Refused(given)
