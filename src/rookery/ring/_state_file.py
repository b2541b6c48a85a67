"""Where a kernel's state is kept, how often, and as what: an option of `ring_kernel`."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

import attrs

from ._snapshot import BESIDE

if TYPE_CHECKING:
    from collections.abc import Callable

    from attrs import Attribute

LONGEST_NAME: Final = 255 - max(map(len, BESIDE))
"""Bytes of a state file's name: those beside it have to have names as well, and file systems take 255 bytes."""

HOW_TO_WRITE: Final = 'write `@ring_kernel(..., state=StateFile("state/{kernel_id}.json", every=30))`'


def to_json(state: object) -> bytes:
    """A state as JSON, if that gives it back as it is.

    Raises:
        TypeError: for what JSON does not know, and for what it would make something else of, such as tuples and
            keys that are no strings.
        ValueError: for NaN and infinities, which are no JSON, and for what contains itself.
    """
    text = json.dumps(state, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    if json.loads(text) != state:
        raise TypeError(
            "JSON would give this state back as something else: it knows dicts with strings as keys, lists, strings, "
            "numbers, booleans and None, and no tuples; use these, or give `StateFile(..., encode=..., decode=...)` of "
            "your own"
        )
    return text.encode()


def from_json(data: bytes) -> Any:
    """What `to_json` was given."""
    return json.loads(data)


def _path(value: str | os.PathLike[str]) -> str:
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else ""
    if not isinstance(text, str) or not Path(text).name:
        raise ValueError(f"a state file has a path, got {value!r}: {HOW_TO_WRITE}")
    return text


def _check_name(path: Path) -> Path:
    """Refuse a file that would be one of those beside another, or could have none beside it."""
    if path.name.lower().endswith(BESIDE):
        raise ValueError(
            f"a state file's name does not end in {', '.join(BESIDE)}, which are the names of files beside it, got "
            f"{str(path)!r}: {HOW_TO_WRITE}"
        )
    length = len(os.fsencode(path.name))
    if length > LONGEST_NAME:
        raise ValueError(
            f"a state file's name is up to {LONGEST_NAME} bytes long, because those beside it have longer ones, got "
            f"{length} bytes, {path.name!r}: {HOW_TO_WRITE}"
        )
    return path


def _interval(_: object, __: Attribute[float], value: float) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
        raise ValueError(
            f"every is in seconds, more than 0, `math.inf` to save at the end only, got {value!r}: {HOW_TO_WRITE}"
        )


def _plain_call(_: object, attribute: Attribute[Any], value: object) -> None:
    if not callable(value):
        raise TypeError(f"{attribute.name} is a function, got {value!r}")


@final
@attrs.frozen
class StateFile:
    """Where a kernel's state is kept while it does not run.

    Beside the file stand ``<name>.previous`` with the state before, ``<name>.lock``, and while one is written
    ``<name>.partial``.

    Args:
        path: Of the file, in a folder that exists; ``{kernel_id}`` in it stands for the id of the kernel. What is
            relative is relative to the working directory at the launch.
        every: Seconds from one save to the next; ``math.inf`` saves at the end only.
        initial: Makes the state of a kernel that has none yet; by default an empty dict.
        encode: Makes bytes of a state; by default `json`'s, and a `TypeError` for what JSON would not give back as
            it is. It is called on the event loop, between two messages. Not pickle's: whoever can write a file that
            is unpickled can run code, and a class that has changed since cannot be unpickled.
        decode: The inverse.

    Raises:
        TypeError: for functions that are none.
        ValueError: for a path without a name, an interval that is not positive, and, where it is given to a kernel, a
            name that is longer than 246 bytes or ends in ``.previous``, ``.partial`` or ``.lock``.

    Example:
        >>> @ring_kernel(kernel_id="counter", state=StateFile("state/{kernel_id}.json", every=5))
        ... async def counter(ctx: KernelContext[Note, Total]) -> None:
        ...     while True:
        ...         note = await ctx.receive()
        ...         ctx.state[note.key] = ctx.state.get(note.key, 0) + 1
    """

    path: str = attrs.field(converter=_path)
    every: float = attrs.field(default=30.0, kw_only=True, validator=_interval)
    initial: Callable[[], Any] = attrs.field(default=dict, kw_only=True, validator=_plain_call)
    encode: Callable[[Any], bytes] = attrs.field(default=to_json, kw_only=True, validator=_plain_call)
    decode: Callable[[bytes], Any] = attrs.field(default=from_json, kw_only=True, validator=_plain_call)

    @property
    def is_periodic(self) -> bool:
        """Whether it is also saved while the kernel runs."""
        return self.every < math.inf

    def of(self, kernel_id: str) -> Path:
        """The file of one kernel."""
        return _check_name(self.named(kernel_id).resolve())

    def named(self, kernel_id: str) -> Path:
        """The same, as it was given.

        Raises:
            ValueError: for a name that no state file can have.
        """
        return _check_name(Path(self.path.replace("{kernel_id}", kernel_id)))


def state_file(_: object, __: Attribute[StateFile | None], value: StateFile | None) -> None:
    """Refuse what is no state file."""
    if value is not None and not isinstance(value, StateFile):
        raise TypeError(f"state says where a kernel's state is kept, or is None, got {value!r}: {HOW_TO_WRITE}")
