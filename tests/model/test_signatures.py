"""Signatures, to check arguments against and to show."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import pytest

from rookery._model.signatures import known_signature, plain_signature

if TYPE_CHECKING:
    from decimal import Decimal


def function(a: Decimal, /, b: int = 2, *more: str, c: float, **others: Decimal) -> Decimal: ...


@pytest.mark.parametrize("signature_of", [plain_signature, known_signature])
def test_a_plain_signature_has_no_annotations(signature_of: type[inspect.Signature]) -> None:
    """It has the names, the kinds and the defaults; that an annotation means nothing at run time does not matter."""
    assert str(signature_of(function)) == "(a, /, b=2, *more, c, **others)"


def test_what_is_written_in_c_may_have_none() -> None:
    """Then nothing is known of its arguments."""
    with pytest.raises(ValueError, match="no signature found"):
        plain_signature(min)
    assert known_signature(min) is None
