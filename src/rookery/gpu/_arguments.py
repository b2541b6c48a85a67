"""What a kernel accepts, as its compiler reports it, and what it says to everything else. No OpenCL in here."""

from __future__ import annotations

import math
import operator
import re
from typing import TYPE_CHECKING, Any, Final, Literal, SupportsFloat, SupportsIndex, TypeAlias

import attrs
import numpy as np

from rookery._model.wording import brief

from ._errors import ArgumentTypeError, ArgumentValueError

if TYPE_CHECKING:
    from collections.abc import Sequence

Size: TypeAlias = int | tuple[int, ...]

_DTYPES: Final[dict[str, np.dtype[Any]]] = {
    "char": np.dtype(np.int8),
    "uchar": np.dtype(np.uint8),
    "unsigned char": np.dtype(np.uint8),
    "short": np.dtype(np.int16),
    "ushort": np.dtype(np.uint16),
    "unsigned short": np.dtype(np.uint16),
    "int": np.dtype(np.int32),
    "uint": np.dtype(np.uint32),
    "unsigned int": np.dtype(np.uint32),
    "long": np.dtype(np.int64),
    "ulong": np.dtype(np.uint64),
    "unsigned long": np.dtype(np.uint64),
    "half": np.dtype(np.float16),
    "float": np.dtype(np.float32),
    "double": np.dtype(np.float64),
}
MOST_WORK_ITEMS: Final = 1 << 62
"""What still fits the 64 bits that devices count with, after rounding to whole groups."""
_TYPE: Final = re.compile(r"(?P<base>[a-z ]*[a-z])(?P<lanes>2|3|4|8|16)?")


def _local_bytes(nbytes: SupportsIndex) -> int:
    wrong = (
        f"nbytes of local memory is a whole number above zero, got {brief(nbytes)}: "
        "write gpu.LocalMemory(64 * 4) for 64 floats"
    )
    try:
        whole = _whole(nbytes)
    except TypeError:
        raise ArgumentTypeError(wrong) from None
    if whole < 1:
        raise ArgumentValueError(wrong)
    return whole


@attrs.frozen
class LocalMemory:
    """An argument for a ``__local`` pointer: that many bytes for each work-group.

    Attributes:
        nbytes: Size in bytes.

    Raises:
        ArgumentTypeError: if that is no whole number. A `TypeError`.
        ArgumentValueError: if it is below one. A `ValueError`.
    """

    nbytes: int = attrs.field(converter=_local_bytes)


@attrs.frozen
class Parameter:
    """One parameter of a compiled kernel."""

    index: int
    name: str
    type_name: str
    """As in the source, without qualifiers: ``float``, ``float4*``."""
    kind: Literal["scalar", "buffer", "local"]
    dtype: np.dtype[Any] | None
    """Of one lane. None for a type of one's own, a struct or a typedef: then any buffer is accepted."""
    lanes: int
    """How many of ``dtype`` make one element of a vector type."""
    writes: bool
    """Whether a launch may write it: a pointer that is not ``const``."""
    number: type[int | float] | None = None
    """What Python calls a scalar of this type."""
    least: float = 0
    most: float = 0
    """The smallest and largest scalar of this type."""

    def __str__(self) -> str:
        return f"{'' if self.writes or self.kind != 'buffer' else 'const '}{self.type_name} {self.name}"


@attrs.frozen
class Signature:
    """The name and parameters of a kernel, and the checks that need nothing else."""

    kernel: str
    parameters: tuple[Parameter, ...]

    def __str__(self) -> str:
        return f"{self.kernel}({', '.join(map(str, self.parameters))})"

    def describe(self, parameter: Parameter) -> str:
        """How to call an argument in a message."""
        return f"argument {parameter.name!r} ({parameter}) of kernel {self.kernel!r}"

    def check_count(self, given: int) -> None:
        """Refuse the wrong number of arguments."""
        if given != len(self.parameters):
            raise ArgumentTypeError(
                f"kernel {self.kernel!r} takes {len(self.parameters)} arguments, got {given}: it is {self}, "
                f"write `await {self.kernel}({', '.join(one.name for one in self.parameters)})`"
            )

    def check_local_memory(self, sizes: Sequence[int], spare: int) -> None:
        """Refuse more local memory than a work-group can have."""
        if sum(sizes) > spare:
            raise ArgumentValueError(
                f"kernel {self.kernel!r} got {sum(sizes):,} bytes of local memory, and the device has {spare:,} for "
                f"each of its work-groups: pass gpu.LocalMemory({max(spare // len(sizes), 1)}) or less, and use less of "
                "it in the kernel"
            )

    def check_dtype(self, parameter: Parameter, dtype: np.dtype[Any], nbytes: int) -> None:
        """Refuse a buffer of another dtype, or of a size that is no whole number of elements."""
        if parameter.dtype is None:
            return
        if dtype != parameter.dtype:
            raise ArgumentTypeError(
                f"{self.describe(parameter)} needs a buffer of {parameter.dtype}, got one of {dtype}: "
                f"make it with dtype=np.{parameter.dtype}"
            )
        element = parameter.dtype.itemsize * parameter.lanes
        if nbytes % element:
            raise ArgumentValueError(
                f"{self.describe(parameter)} needs a whole number of {parameter.type_name[:-1]}, {element} bytes each, "
                f"got a buffer of {nbytes} bytes: make its length a multiple of {parameter.lanes}"
            )

    def scalar(self, parameter: Parameter, value: Any) -> int | float:
        """The number to pass for a scalar.

        Raises:
            ArgumentTypeError: if it is no number of the parameter's kind.
            ArgumentValueError: if the parameter's type cannot hold it.
        """
        if parameter.number is float:
            return self._floating(parameter, value)
        if _is_no_number(value) or not isinstance(value, SupportsIndex):
            raise self._not_a_number(parameter, value)
        number = operator.index(value)
        if not parameter.least <= number <= parameter.most:
            raise self._out_of_range(parameter, number)
        return number

    def _floating(self, parameter: Parameter, value: Any) -> float:
        if _is_no_number(value) or not isinstance(value, SupportsFloat):
            raise self._not_a_number(parameter, value)
        number = float(value)
        if math.isfinite(number) and not parameter.least <= number <= parameter.most:
            raise self._out_of_range(parameter, number)
        return number

    def _out_of_range(self, parameter: Parameter, number: float) -> ArgumentValueError:
        return ArgumentValueError(
            f"{self.describe(parameter)} holds {parameter.least} to {parameter.most}, got {number!r}: "
            "pass a smaller number, or give the parameter a wider type"
        )

    def _not_a_number(self, parameter: Parameter, value: object) -> ArgumentTypeError:
        wanted, example = ("a number", "1.5") if parameter.number is float else ("a whole number", "10")
        return ArgumentTypeError(
            f"{self.describe(parameter)} needs {wanted}, got {type(value).__name__} {value!r}: "
            f"pass {example}, or np.{parameter.dtype}({example})"
        )


def _is_no_number(value: object) -> bool:
    """Whether Python would make a number of it although nobody means it as one."""
    return isinstance(value, (bool, np.bool_, np.ndarray, str))


def parse(kernel: str, reported: Sequence[tuple[str, str, bool, str]]) -> Signature:
    """Understand what the compiler reports about a kernel's parameters.

    Args:
        kernel: Its name.
        reported: Name, type, whether it is const, and address space, of each.

    Raises:
        ArgumentTypeError: for parameters that rookery cannot pass: images, samplers, vectors and structs by value.
    """
    return Signature(
        kernel,
        tuple(_parameter(kernel, index, *one) for index, one in enumerate(reported)),
    )


def _parameter(kernel: str, index: int, name: str, type_name: str, const: bool, space: str) -> Parameter:
    pointer = type_name.endswith("*")
    match = _TYPE.fullmatch(type_name.rstrip("* "))
    dtype: np.dtype[Any] | None = _DTYPES.get(match["base"]) if match else None
    lanes = int(match["lanes"] or 1) if match and dtype else 1
    if pointer:
        return Parameter(
            index=index,
            name=name,
            type_name=type_name,
            kind="local" if space == "local" else "buffer",
            dtype=dtype,
            lanes=4 if lanes == 3 else lanes,  # a vector of three takes the room of four
            writes=not const and space == "global",
        )
    if dtype is None or lanes > 1 or dtype == np.float16:
        raise ArgumentTypeError(
            f"kernel {kernel!r} takes {type_name} {name!r} by value, and only plain numbers can be passed so: "
            "pass its parts as separate numbers, or a buffer"
        )
    floating = dtype.kind == "f"
    limits = np.finfo(dtype) if floating else np.iinfo(dtype)
    return Parameter(
        index=index,
        name=name,
        type_name=type_name,
        kind="scalar",
        dtype=dtype,
        lanes=1,
        writes=False,
        number=float if floating else int,
        least=float(limits.min) if floating else int(limits.min),
        most=float(limits.max) if floating else int(limits.max),
    )


# --- sizes -----------------------------------------------------------------------------------------


def is_plain(size: Size) -> bool:
    """Whether a size is made of plain numbers, so that what was worked out for an equal one holds for it."""
    return type(size) is int or (type(size) is tuple and {*map(type, size)} == {int})


def understand_size(kernel: str, what: str, size: Size) -> tuple[int, ...]:
    """A size in full: one to three whole numbers above zero, and not more in all than devices count."""
    try:
        sides = tuple(map(_whole, size)) if isinstance(size, (tuple, list)) else (_whole(size),)
    except TypeError:
        sides = ()
    if not 1 <= len(sides) <= 3 or min(sides) < 1:
        raise ArgumentValueError(
            f"{what} of kernel {kernel!r} is one to three whole numbers above zero, got {size!r}: "
            f"write {what}=1024 or {what}=(64, 32)"
        )
    if math.prod(sides) > MOST_WORK_ITEMS:
        raise ArgumentValueError(
            f"{what}={size!r} of kernel {kernel!r} is more than {MOST_WORK_ITEMS:,}, the most work items of a launch: "
            "launch it several times, or let each work item do more"
        )
    return sides


def _whole(number: Any) -> int:
    """A whole number, as one is meant: True is none."""
    if isinstance(number, bool):
        raise TypeError
    return operator.index(number)


def work_sizes(
    kernel: str, size: tuple[int, ...], local: tuple[int, ...] | None, preferred: int, largest: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The global and local size of a launch.

    A driver may compile a kernel anew for each local size, so there have to be few of them. With a local size the
    global one is rounded up to a multiple, and the kernel has to guard (``if (i < n)``). Without one nothing is
    rounded, because an unguarded kernel would write out of bounds: the local size is the largest power of two, up
    to ``preferred``, that divides the first side.

    Args:
        kernel: Its name, for messages.
        size: Work items asked for.
        local: Work items in a group, if given.
        preferred: The largest group to choose by itself; a power of two.
        largest: The largest group that kernel and device allow.
    """
    if local is None:
        first = math.gcd(size[0], min(preferred, 1 << (largest.bit_length() - 1)))
        return size, (first,) + (1,) * (len(size) - 1)
    if len(local) != len(size):
        raise ArgumentValueError(
            f"local={local} of kernel {kernel!r} needs as many sides as size={size}: write "
            f"local={_example(len(size), min(preferred, largest))}, or leave it out"
        )
    if math.prod(local) > largest:
        raise ArgumentValueError(
            f"local={local} of kernel {kernel!r} makes groups of {math.prod(local)}, and at most {largest} are possible: "
            f"write local={_example(len(size), min(preferred, largest))}, or leave it out"
        )
    return tuple(-(-side // group) * group for side, group in zip(size, local, strict=True)), local


def _example(sides: int, first: int) -> int | tuple[int, ...]:
    """A local size of so many sides."""
    return first if sides == 1 else (first,) + (1,) * (sides - 1)
