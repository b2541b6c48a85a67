"""What holds of every class and function of the model."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from enum import Enum
from types import FunctionType
from typing import Any

import attrs
import pytest

import rookery._model
from rookery._model.messages import Request
from rookery._model.methods import MethodRequest

MODULES = [
    importlib.import_module(f"rookery._model.{found.name}") for found in pkgutil.iter_modules(rookery._model.__path__)
]


def is_ours(value: Any) -> bool:
    """Whether rookery defines it: what is public says that it lives in `rookery` itself."""
    return value.__module__.partition(".")[0] == "rookery"


CLASSES = sorted(
    {value for module in MODULES for value in vars(module).values() if inspect.isclass(value) and is_ours(value)},
    key=lambda cls: cls.__qualname__,
)
BASES = {Request, MethodRequest}
"""The classes that are made to be inherited from, beside the errors. An enum with members cannot be."""


def functions() -> Iterator[FunctionType]:
    """All that the modules define, and the methods of their classes, but for what attrs makes."""
    for holder in (*MODULES, *CLASSES):
        for name, value in vars(holder).items():
            made = inspect.isclass(holder) and attrs.has(holder) and name.startswith("__")
            if isinstance(value, FunctionType) and is_ours(value) and not made:
                yield value


@pytest.mark.parametrize("cls", CLASSES)
def test_what_is_not_made_to_be_inherited_from_is_final(cls: type[Any]) -> None:
    """Checkers refuse to inherit from it."""
    is_base = cls in BASES or issubclass(cls, (Enum, Exception))
    assert getattr(cls, "__final__", False) is not is_base


def test_a_boolean_is_passed_by_name() -> None:
    """`applies(True)` would say nothing."""
    flags = [
        (function.__qualname__, parameter.kind)
        for function in functions()
        for parameter in inspect.signature(function).parameters.values()
        if parameter.annotation == "bool"
    ]
    assert flags
    assert {kind for _, kind in flags} == {inspect.Parameter.KEYWORD_ONLY}, flags
