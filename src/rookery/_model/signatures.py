"""Signatures, to check arguments against and to show."""

from __future__ import annotations

import inspect
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

AS_WRITTEN: Final[dict[str, Any]] = (
    {"annotation_format": import_module("annotationlib").Format.STRING} if sys.version_info >= (3, 14) else {}
)
"""Options with which `inspect.signature` evaluates no annotation: some may name what only type checkers see."""


def plain_signature(function: Callable[..., Any]) -> inspect.Signature:
    """The signature without annotations, which need not be there at run time, and are long.

    Raises:
        ValueError: if it has none, as some functions and classes that are written in C.
    """
    whole = inspect.signature(function, **AS_WRITTEN)
    bare = [parameter.replace(annotation=parameter.empty) for parameter in whole.parameters.values()]
    return whole.replace(parameters=bare, return_annotation=whole.empty)


def known_signature(function: Callable[..., Any]) -> inspect.Signature | None:
    """As `plain_signature`; None where nothing is known of the arguments."""
    try:
        return plain_signature(function)
    except ValueError:
        return None
