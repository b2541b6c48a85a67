"""Rows: what a message gives to a batch, and what it gets back from the batch's result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard, cast

import attrs
import numpy as np

from rookery._model.wording import brief

from ._arrays import check_plain
from ._buffer import UnifiedBuffer
from ._errors import ArgumentTypeError, ArgumentValueError

if TYPE_CHECKING:
    import numpy.typing as npt


class Taken(NamedTuple):
    """A message that was taken from the mailbox, and its row."""

    message: Any
    row: npt.NDArray[Any]


@attrs.frozen
class RowRules:
    """What a stage takes: rows of one dtype, perhaps of one shape, and of a size that its bytes allow."""

    stage: str
    shape: tuple[int, ...] | None
    dtype: np.dtype[Any]
    max_bytes: int

    def row_of(self, message: Any) -> npt.NDArray[Any]:
        """The row that a message carries: its first field, or itself if it is an array.

        Raises:
            ArgumentTypeError: if that is no array, or one of another dtype.
            ArgumentValueError: if it is of another shape, or empty, or too large.
        """
        row: npt.NDArray[Any] | None = _array_in(message)
        if self._is_plainly_good(row):  # nearly all are; the checks that explain take longer than a row's copy
            return row
        if row is None:
            raise ArgumentTypeError(
                f"{self.stage} takes messages whose first field is an array, got {brief(message)}: write an attrs class, "
                "`@message class Classify(Request[np.ndarray])`, with the array as its first field"
            )
        if type(row) is not np.ndarray:
            check_plain(row, f"np.{self.dtype}")
        if row.dtype != self.dtype:
            raise ArgumentTypeError(
                f"{self.stage} takes rows of {self.dtype}, got one of {row.dtype}: write "
                f"`np.asarray(x, dtype=np.{self.dtype})`, or `@gpu.batched(dtype=np.{row.dtype})` for a stage of those"
            )
        self._check_size(row)
        return row

    def _is_plainly_good(self, row: Any) -> TypeGuard[npt.NDArray[Any]]:
        return (
            type(row) is np.ndarray
            and row.dtype == self.dtype
            and (self.shape is None or row.shape == self.shape)
            and 0 < row.nbytes <= self.max_bytes
        )

    def _check_size(self, row: npt.NDArray[Any]) -> None:
        if self.shape is not None and row.shape != self.shape:
            instead = (
                f"x.reshape({self.shape})" if row.size == np.prod(self.shape) else f"@gpu.batched(shape={row.shape})"
            )
            raise ArgumentValueError(
                f"{self.stage} takes rows of the shape {self.shape}, got one of the shape {row.shape}: write `{instead}`"
            )
        if not row.size:
            raise ArgumentValueError(
                f"{self.stage} takes rows of at least one element, got the shape {row.shape}: do not send it"
            )
        if row.nbytes > self.max_bytes:
            raise ArgumentValueError(
                f"{self.stage} has at most {self.max_bytes:,} bytes in flight, got a row of {row.nbytes:,}: split it, or "
                f"write `@gpu.batched(max_bytes={row.nbytes})`"
            )

    def check_result(self, result: Any, n: int, capacity: int) -> UnifiedBuffer | npt.NDArray[Any]:
        """Refuse what a stage's function must not return: that is its error, and not its callers'.

        Raises:
            ArgumentTypeError: for what has no rows.
            ArgumentValueError: for another number of rows than the batch has, and for a buffer that was released.
        """
        if not isinstance(result, UnifiedBuffer | np.ndarray):
            raise ArgumentTypeError(
                f"{self.stage} returned {brief(result)}: return a buffer or an array with a row for each message, or None "
                "if they get none"
            )
        rows = cast("UnifiedBuffer | npt.NDArray[Any]", result)
        if not rows.shape or rows.shape[0] not in (n, capacity):
            raise ArgumentValueError(
                f"{self.stage} returned the shape {rows.shape} for a batch of {n}: return one row for each message, "
                "`await device.empty((batch.capacity, ...))`"
            )
        if isinstance(rows, UnifiedBuffer) and rows.released:
            raise ArgumentValueError(
                f"{self.stage} returned {rows!r}: return a buffer of `await device.empty(shape)`, which the stage "
                "releases, not one of a lease that has ended, nor the same one twice"
            )
        return rows


def _array_in(message: Any) -> Any:
    """The first field of a message, or itself if it is an array; None if it is neither."""
    if issubclass(type(message), np.ndarray):
        return message
    # What `attrs.fields` returns, without its checks: this is done for every message.
    fields: tuple[attrs.Attribute[Any], ...] = getattr(message, "__attrs_attrs__", ())
    return getattr(message, fields[0].name) if fields else None
