"""OpenCL C from texts and files, and what the compiler says about it, shown with the lines it speaks of."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio
import attrs

from ._errors import ArgumentTypeError, ArgumentValueError, BuildFailed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

UNNAMED: Final = "<source>"
"""What the compiler calls a source that is not from a file."""
GENERATED: Final = "<generated>"
"""What it calls the lines around a line of C that was made a kernel."""
_CONTINUED: Final = re.compile(r"\\\r?\n")
_INCLUDE: Final = re.compile(
    r"(?:#|%:|\?\?=)(?:\s|/\*.*?\*/)*(?:include|import|embed)|__has_(?:include|embed)", re.DOTALL
)
"""As the preprocessor reads it, and rather once too often: also where it is commented out."""
_LINE_END: Final = re.compile(r"\r\n?|\n")
_LOOKED_AT: Final = 1000
"""Characters of a line of a message in which it says where something is; to look takes the square of that."""
_NUMBER: Final = re.compile(r"^ *\d+ \|")
_USES: Final = (
    (re.compile(rf"^(.*){GENERATED}:\d+:\d+ <Spelling=(.+?:\d+:\d+)>(.*\n?)", re.MULTILINE), r"\1\2\3"),
    (
        re.compile(
            rf"^{GENERATED}:\d+:\d+(: .*\n)(?:(?!{GENERATED}).*\n)*?(<\w+>:\d+:\d+): note: expanded from macro .*\n"
            r"((?:[ \t].*\n?)*)",
            re.MULTILINE,
        ),
        r"\2\1\3",
    ),
)
"""How PoCL and other compilers say where in the generated lines a macro is used, and what is to be said: where in it."""


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
        return f"{self._line(1)}{self.text}"

    def as_macro(self, head: str) -> str:
        """The text as a macro, which is named and numbered as well.

        It may have no comments up to the end of a line. Its lines have to begin with a blank, or what they begin with is
        at the end of the line before to the compiler.
        """
        continued = self.text.replace("\n", " \\\n")
        return f"{self._line(0)}#define {head} \\\n{continued}\n"

    def _line(self, number: int) -> str:
        name = self.name.replace("\\", "\\\\").replace('"', '\\"')
        return f'#line {number} "{name}"\n'

    @property
    def options(self) -> list[str]:
        """What the compiler has to be told beside the text."""
        # Only where it is needed: some compilers cannot take a folder with a space in its name.
        return ["-I", self.folder] if self.folder is not None and self.includes else []

    @property
    def includes(self) -> bool:
        """Whether it is more than its text, so that an equal text may be another program."""
        return _INCLUDE.search(_CONTINUED.sub("", self.text)) is not None

    def failed(self, log: str, *, doubles: bool) -> BuildFailed:
        """The error for what the compiler said; ``doubles`` is whether the device computes with them."""
        hint = ""
        if "option" in log and any(" " in option for option in self.options):
            hint = (
                f"\nThis compiler cannot include from a folder with a space in its name, {self.folder}: move the files"
            )
        return build_failed(log, [self], doubles=doubles, hint=hint)


def build_failed(log: str, sources: Sequence[Source], *, doubles: bool, hint: str = "") -> BuildFailed:
    """The error for what the compiler said about sources that it was given together."""
    if not doubles and any("double" in source.text for source in sources):
        hint = "\nThis device does not compute with double: write float, or open another device"
    texts = {source.name: source.text for source in sources}
    return BuildFailed(f"the OpenCL source did not compile:\n{explain(log, texts)}{hint}", log)


def explain(log: str, texts: Mapping[str, str]) -> str:
    """The compiler's message, with the lines that it is about, unless it shows them itself.

    Args:
        log: What it said.
        texts: What it was given, by name; whatever else it names is looked for among the files.
    """
    # The compiler's own names first: they may have in them what no file's name has here.
    names = "|".join([*map(re.escape, texts), r"(?:[A-Za-z]:)?[^\s:<>=][^:<>=]*"])
    place = re.compile(rf"(?P<name>{names}):(?P<line>\d+):(?P<column>\d+)")
    said = _lines(_without_uses(log))
    shown: list[str] = []
    for one, following in zip(said, [*said[1:], ""], strict=True):
        shown.append(one)
        for at in place.finditer(one, 0, _LOOKED_AT):
            shown += _pointed_out(texts, at, following)
    return "\n".join(shown)


def _without_uses(log: str) -> str:
    """A message that says once what is wrong in a macro, and not for each of the generated lines that use it."""
    seen: set[str] = set()
    for uses, put in _USES:

        def once(found: re.Match[str], put: str = put) -> str:
            written = found.expand(put)
            if written in seen:
                return ""
            seen.add(written)
            return written

        log = uses.sub(once, log)
    return log


def _pointed_out(texts: Mapping[str, str], at: re.Match[str], following: str) -> Iterator[str]:
    """The line of a place, and a mark below the column."""
    lines = _lines(texts.get(at["name"]) or _text_of(at["name"]))
    if not 1 <= int(at["line"]) <= len(lines):
        return
    line = lines[int(at["line"]) - 1]
    if _NUMBER.sub("", following).strip() == line.strip():
        return
    yield f"    {line}"
    yield "    " + re.sub(r"\S", " ", line[: int(at["column"]) - 1]) + "^"


def _lines(text: str) -> list[str]:
    """The lines as a compiler counts them; `str.splitlines` ends them at form feeds as well, and at others."""
    lines = _LINE_END.split(text)
    return lines if lines[-1] else lines[:-1]


def _text_of(name: str) -> str:
    """A file that was included; empty if it is not to be found under the name that the compiler gives it."""
    try:
        return Path(name).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


async def read_source(source: object) -> Source:
    """What is to be compiled: text, or a file's.

    Raises:
        OSError: if the file cannot be read.
        ArgumentTypeError: if it is neither text nor a path.
        ArgumentValueError: if the file is not in UTF-8.
    """
    if isinstance(source, str):
        return Source(source)
    if not isinstance(source, os.PathLike):
        raise ArgumentTypeError(
            f"build takes OpenCL C as text, or the path of a file, got {source!r}: write build(Path('kernels.cl'))"
        )
    path = anyio.Path(source)  # pyright: ignore[reportUnknownArgumentType]
    try:
        text = await path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ArgumentValueError(
            f"{path} is not in UTF-8 ({error}): save it as that, or pass the text, "
            f"build(path.read_text(encoding='latin-1'))"
        ) from None
    return Source(text, str(path), str(path.parent))


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
