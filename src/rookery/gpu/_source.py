"""OpenCL C from texts and files, and what the compiler says about it, shown with the lines it speaks of."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, Final

import anyio
import attrs

from ._errors import ArgumentTypeError, BuildFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

UNNAMED: Final = "<source>"
"""What the compiler calls a source that is not from a file."""
_AT: Final = re.compile(r"(?P<line>\d+):(?P<column>\d+): ")


@attrs.frozen
class Source:
    """OpenCL C, and what to call it."""

    text: str
    name: str = UNNAMED
    folder: str | None = None
    """Where ``#include`` looks first."""

    @property
    def numbered(self) -> str:
        """The text for the compiler, which then names this source and its own lines in messages."""
        name = self.name.replace("\\", "\\\\").replace('"', '\\"')
        return f'#line 1 "{name}"\n{self.text}'

    @property
    def options(self) -> list[str]:
        """What the compiler has to be told beside the text."""
        # Only where it is needed: some compilers cannot take a folder with a space in its name.
        return ["-I", self.folder] if self.folder is not None and self.includes else []

    @property
    def includes(self) -> bool:
        """Whether it is more than its text, so that an equal text may be another program."""
        return "#include" in self.text

    def failed(self, log: str, *, doubles: bool) -> BuildFailed:
        """The error for what the compiler said; ``doubles`` is whether the device computes with them."""
        hint = ""
        if "double" in self.text and not doubles:
            hint = "\nThis device does not compute with double: write float, or open another device"
        elif "option" in log and any(" " in option for option in self.options):
            hint = (
                f"\nThis compiler cannot include from a folder with a space in its name, {self.folder}: move the files"
            )
        return BuildFailed(f"the OpenCL source did not compile:\n{self.explain(log)}{hint}", log)

    def explain(self, log: str) -> str:
        """The compiler's message, with the lines of the source that it is about, unless it shows them itself."""
        said = log.splitlines()
        return "\n".join(line for at, one in enumerate(said) for line in self._explained(one, said[at + 1 : at + 2]))

    def _explained(self, said: str, following: list[str]) -> Iterator[str]:
        yield said
        _, named, rest = said.partition(f"{self.name}:")
        at = _AT.match(rest)
        lines = self.text.splitlines()
        if not (named and at) or not 1 <= int(at["line"]) <= len(lines):
            return
        line = lines[int(at["line"]) - 1]
        if following and line.strip() in following[0]:
            return
        yield f"    {line}"
        before = line[: int(at["column"]) - 1]
        yield "    " + re.sub(r"\S", " ", before) + "^"


async def read_source(source: object) -> Source:
    """What is to be compiled: text, or a file's.

    Raises:
        OSError: if the file cannot be read.
        ArgumentTypeError: if it is neither text nor a path.
    """
    if isinstance(source, str):
        return Source(source)
    if not isinstance(source, os.PathLike):
        raise ArgumentTypeError(
            f"build takes OpenCL C as text, or the path of a file, got {source!r}: write build(Path('kernels.cl'))"
        )
    path = anyio.Path(source)  # pyright: ignore[reportUnknownArgumentType]
    return Source(await path.read_text(encoding="utf-8"), str(path), str(path.parent))


def check_options(options: Any) -> None:
    """Refuse what is not a sequence of texts.

    Raises:
        ArgumentTypeError: showing what to write.
    """
    if isinstance(options, str):
        raise ArgumentTypeError(f"options are a list of texts, got {options!r}: write {options.split()}")
    given: list[object] = list(options) if isinstance(options, (list, tuple)) else [options]  # pyright: ignore[reportUnknownArgumentType]
    if not all(isinstance(option, str) for option in given):
        raise ArgumentTypeError(f'options are a list of texts, got {options!r}: write ["-DN=16"]')
