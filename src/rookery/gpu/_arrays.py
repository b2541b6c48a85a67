"""Which arrays a buffer can hold: shapes, dtypes and what is refused, each with what to write instead. No OpenCL."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np

from rookery._model.wording import brief

from ._errors import ArgumentTypeError, ArgumentValueError

if TYPE_CHECKING:
    import numpy.typing as npt

_NO_NUMBERS: Final = {
    "O": "Python objects live on the host: write `np.asarray(x, dtype=np.float32)`",
    "U": "kernels know no text: write `np.asarray(x, dtype=np.float32)`, or encode it, `np.frombuffer(x.encode(), np.uint8)`",
    "S": "kernels know no text: write `np.frombuffer(x, np.uint8)`",
    "M": "kernels know no dates: write `x.astype(np.int64)`",
    "m": "kernels know no time spans: write `x.astype(np.int64)`",
}


def understand_shape(shape: Any) -> tuple[int, ...]:
    """A shape in full.

    Args:
        shape: A whole number, or a sequence of them.

    Raises:
        ArgumentTypeError: for anything else, fractions and booleans among it.
        ArgumentValueError: if a side is below one.
    """
    sides: tuple[Any, ...] = tuple(cast("Any", shape)) if isinstance(shape, (tuple, list)) else (shape,)
    try:
        if any(isinstance(side, (bool, np.bool_)) for side in sides):
            raise TypeError
        whole = tuple(map(operator.index, sides))
    except TypeError:
        raise ArgumentTypeError(
            f"the shape of a buffer is a whole number or a tuple of them, got {shape!r}: "
            "write 1024, (64, 32) or array.shape"
        ) from None
    if any(side < 1 for side in whole):
        raise ArgumentValueError(
            f"a buffer needs at least one element, got the shape {shape!r}: make every side 1 or more"
        )
    return whole


def understand_dtype(dtype: npt.DTypeLike) -> np.dtype[Any]:
    """A dtype that device memory can hold.

    Raises:
        ArgumentTypeError: for objects, text, dates, numbers in another byte order, arrays as elements, and what is no
            dtype.
        ArgumentValueError: for elements of no bytes.
    """
    try:
        kind = np.dtype(dtype)
    except (TypeError, ValueError, SyntaxError, OverflowError) as error:  # the third for texts with commas
        raise ArgumentTypeError(
            f"the dtype of a buffer is one of numpy's, got {brief(dtype)} ({error}): write np.float32, or x.dtype"
        ) from None
    if kind.hasobject or kind.kind in _NO_NUMBERS:
        reason = _NO_NUMBERS["O" if kind.hasobject else kind.kind]
        raise ArgumentTypeError(f"a buffer holds numbers, not {kind!r}; {reason}")
    if not kind.isnative:
        raise ArgumentTypeError(
            f"a buffer holds numbers in the machine's own byte order, not {kind!r}: "
            "write `x.astype(x.dtype.newbyteorder('='))`"
        )
    if kind.subdtype is not None:
        raise ArgumentTypeError(
            f"the elements of a buffer are numbers, not arrays as of {kind!r}: write np.{kind.base!r}, and make "
            f"{kind.shape} the last sides of the shape"
        )
    if not kind.itemsize:
        raise ArgumentValueError(f"the elements of a buffer have bytes, those of {kind!r} have none: write np.float32")
    return kind


def check_computable(dtype: np.dtype[Any], described: str, device: str, *, doubles: bool) -> None:
    """Refuse numbers that a device cannot compute with.

    Args:
        dtype: Of what is to be on the device.
        described: What that is, for the message.
        device: The device's name.
        doubles: Whether it computes with ``double``.
    """
    if not doubles and _has_doubles(dtype):
        raise ArgumentTypeError(
            f"{described} is of {dtype}, and {device} does not compute with double: write `x.astype(np.float32)` and "
            "float in kernels, or open a device whose `info.fp64` is True"
        )


def _has_doubles(dtype: np.dtype[Any]) -> bool:
    parts = [part for part, *_ in (dtype.fields or {}).values()] or ([dtype.base] if dtype.base is not dtype else [])
    return any(map(_has_doubles, parts)) or dtype in (np.dtype(np.float64), np.dtype(np.complex128))


def check_plain(array: Any, example: str) -> None:
    """Refuse what is not a numpy array, or is more than one.

    Args:
        array: What was given.
        example: The dtype to show in the message, as it is written.
    """
    if not isinstance(array, np.ndarray):
        raise ArgumentTypeError(f"a buffer takes a numpy array, got {array!r}: write `np.asarray(x, dtype={example})`")
    if isinstance(array, np.ma.MaskedArray):
        raise ArgumentTypeError(
            "a buffer has no place for the mask of a masked array: write `x.filled(0)`, or another value"
        )


def check_fits(described: str, array: npt.NDArray[Any], shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Refuse an array of another dtype or shape than the buffer that ``described`` names."""
    if array.dtype != dtype:
        raise ArgumentTypeError(
            f"{described} holds {dtype}, got an array of {array.dtype}: write `np.asarray(x, dtype=np.{dtype})`"
        )
    if array.shape != shape:
        same_size = array.size == np.prod(shape)
        instead = f"`x.reshape({shape})`" if same_size else "`await device.upload(x)` for a buffer of that shape"
        raise ArgumentValueError(
            f"{described} has the shape {shape}, got an array of the shape {array.shape}: write {instead}"
        )
