"""What a kernel accepts, as its compiler reports it, and what it says to everything else. No OpenCL in here."""

from __future__ import annotations

import math
import operator
import re
from typing import TYPE_CHECKING, Any, Final, Literal, SupportsFloat, SupportsIndex, TypeAlias

import attrs
import numpy as np

from ._errors import ArgumentTypeError, ArgumentValueError

if TYPE_CHECKING:
    from collections.abc import Sequence

Size: TypeAlias = int | tuple[int, ...]

_DTYPES: Final = {
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
_TYPE: Final = re.compile(r"(?P<base>[a-z ]*[a-z])(?P<lanes>2|3|4|8|16)?")


@attrs.frozen
class LocalMemory:
    """An argument for a ``__local`` pointer: that many bytes for each work-group.

    Attributes:
        nbytes: Size in bytes.
    """

    nbytes: int = attrs.field()

    @nbytes.validator
    def _positive(self, _attribute: object, value: int) -> None:
        if not value > 0:
            raise ValueError(f"local memory needs at least one byte, got {value!r}")


@attrs.frozen
class Parameter:
    """One parameter of a compiled kernel."""

    index: int
    name: str
    type_name: str
    """As in the source, without qualifiers: ``float``, ``float4*``."""
    kind: Literal["scalar", "buffer", "local"]
    dtype: np.dtype[Any] | None
    """Of one lane. None where numpy has no such type (a struct): then any buffer is accepted."""
    lanes: int
    """How many of ``dtype`` make one element of a vector type."""
    writes: bool
    """Whether a launch may write it: a pointer that is not ``const``."""

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
                f"kernel {self.kernel!r} takes {len(self.parameters)} arguments, got {given}: it is {self}"
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
                f"got a buffer of {nbytes} bytes"
            )

    def scalar(self, parameter: Parameter, value: object) -> int | float:
        """The number to pass for a scalar.

        Raises:
            ArgumentTypeError: if it is no number of the parameter's kind.
            ArgumentValueError: if the parameter's type cannot hold it.
        """
        dtype = parameter.dtype
        assert dtype is not None
        if isinstance(value, (bool, np.bool)):
            raise self._not_a_number(parameter, value)
        if dtype.kind == "f":
            return self._floating(parameter, dtype, value)
        if not isinstance(value, SupportsIndex):
            raise self._not_a_number(parameter, value)
        number = operator.index(value)
        limits = np.iinfo(dtype)
        if not limits.min <= number <= limits.max:
            raise ArgumentValueError(
                f"{self.describe(parameter)} holds {limits.min} to {limits.max}, got {number}: "
                "pass a smaller number, or give the parameter a wider type"
            )
        return number

    def _floating(self, parameter: Parameter, dtype: np.dtype[Any], value: object) -> float:
        if not isinstance(value, SupportsFloat) or isinstance(value, np.ndarray):
            raise self._not_a_number(parameter, value)
        number = float(value)
        if math.isfinite(number) and abs(number) > float(np.finfo(dtype).max):
            raise ArgumentValueError(
                f"{self.describe(parameter)} holds numbers up to {np.finfo(dtype).max:.6g}, got {number!r}: "
                "pass a smaller number, or give the parameter a wider type"
            )
        return number

    def _not_a_number(self, parameter: Parameter, value: object) -> ArgumentTypeError:
        assert parameter.dtype is not None
        wanted = "a number" if parameter.dtype.kind == "f" else "a whole number"
        return ArgumentTypeError(
            f"{self.describe(parameter)} needs {wanted}, got {value!r}: pass {'1.5' if wanted == 'a number' else '10'}, "
            f"or an array's element, or np.{parameter.dtype}(x)"
        )


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
    dtype = _DTYPES.get(match["base"]) if match else None
    lanes = int(match["lanes"] or 1) if match and dtype else 1
    if not pointer and (dtype is None or lanes > 1 or dtype == np.float16):
        raise ArgumentTypeError(
            f"kernel {kernel!r} takes {type_name} {name!r} by value, and only plain numbers can be passed so: "
            "pass its parts as separate numbers, or a buffer"
        )
    return Parameter(
        index=index,
        name=name,
        type_name=type_name,
        kind="scalar" if not pointer else "local" if space == "local" else "buffer",
        dtype=dtype,
        lanes=4 if lanes == 3 else lanes,  # a vector of three takes the room of four
        writes=pointer and not const and space == "global",
    )


# --- sizes -----------------------------------------------------------------------------------------


def understand_size(kernel: str, what: str, size: Size) -> tuple[int, ...]:
    """A size in full: one to three whole numbers above zero."""
    try:
        sides = tuple(map(operator.index, size)) if isinstance(size, tuple) else (operator.index(size),)
    except TypeError:
        sides = ()
    if not 1 <= len(sides) <= 3 or min(sides) < 1:
        raise ArgumentValueError(
            f"{what} of kernel {kernel!r} is one to three whole numbers above zero, got {size!r}: "
            f"write {what}=1024 or {what}=(64, 32)"
        )
    return sides


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
        raise ArgumentValueError(f"local={local} of kernel {kernel!r} needs as many sides as size={size}")
    if math.prod(local) > largest:
        raise ArgumentValueError(
            f"local={local} of kernel {kernel!r} makes groups of {math.prod(local)}, and at most {largest} are possible"
        )
    return tuple(-(-side // group) * group for side, group in zip(size, local, strict=True)), local
