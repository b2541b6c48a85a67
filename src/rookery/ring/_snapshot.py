"""A state on disk: a file, the one before it, and how neither is ever half written or wrong without a word.

A file is one line and what was to be kept, as bytes::

    rookery-state 1 <length of the rest> <checksum>
    ...

The checksum covers the line as well. A file is read by making it again from its contents: if that is not byte for
byte the same, it is damaged.
"""

from __future__ import annotations

import contextlib
import os
import sys
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, final

import attrs

from ._errors import StateDamaged, StateFileError

if TYPE_CHECKING:
    from pathlib import Path

MAGIC: Final = b"rookery-state"
VERSION: Final = b"1"

PREVIOUS: Final = ".previous"
PARTIAL: Final = ".partial"
LOCK: Final = ".lock"
BESIDE: Final = (PREVIOUS, PARTIAL, LOCK)
"""What the names of the files beside a state file end in."""


def pack(payload: bytes) -> bytes:
    """The contents of a file."""
    head = b"%s %s %d " % (MAGIC, VERSION, len(payload))
    checksum = blake2b(head + payload, digest_size=16).hexdigest()
    return b"%s%s\n%s" % (head, checksum.encode(), payload)


def unpack(contents: bytes) -> bytes:
    """What `pack` was given.

    Raises:
        ValueError: saying what is wrong with the file.
    """
    head, _, payload = contents.partition(b"\n")
    if contents == pack(payload):
        return payload
    raise ValueError(_what_is_wrong(head, payload))


def _what_is_wrong(head: bytes, payload: bytes) -> str:
    match head.split(b" "):
        case [b"rookery-state", b"1", length, _] if length.isdigit() and len(payload) < int(length):
            return f"it is cut off: {len(payload)} of {int(length)} bytes are there"
        case [b"rookery-state", b"1", *_]:
            return "its checksum is wrong"
        case [b"rookery-state", *_]:
            return "its format is not known: it is damaged, or was written by a later version of rookery"
        case _:
            return "it does not begin as a state file does"


@final
@attrs.frozen
class Restored:
    """What was found on disk.

    Attributes:
        payload: The state, as bytes; None if nothing was ever saved.
        source: The file that it comes from.
        damage: Why that is not the latest, if it is not.
    """

    payload: bytes | None = None
    source: Path | None = None
    damage: str | None = None


@final
class Generations:
    """The file with the latest state, and the one with the state before it.

    A new state is written beside them and takes its place whole. At each moment, whenever the power fails, one of
    the two is good. For one thread at a time.

    Attributes:
        path: The latest.
        previous: The one before.
    """

    def __init__(self, path: Path) -> None:
        self.path: Final = path
        self.previous: Final = path.with_name(f"{path.name}{PREVIOUS}")
        self._partial: Final = path.with_name(f"{path.name}{PARTIAL}")
        self._good = False  # what is in `path`, so that it may take the place of the previous one

    def probe(self) -> None:
        """Find out whether files can be written here.

        Raises:
            OSError: if not.
        """
        self._partial.open("wb").close()
        self._partial.unlink()

    def read(self) -> Restored:
        """The latest good state.

        Raises:
            StateDamaged: if there is something, and nothing that is good.
            OSError: if a file is there and cannot be read.
        """
        latest, before = _load(self.path), _load(self.previous)
        self._good = isinstance(latest, bytes)
        if isinstance(latest, bytes):
            return Restored(latest, self.path)
        if latest is None and before is None:
            return Restored()
        damage = f"{self.path} is damaged ({latest})" if latest else f"{self.path} is missing"
        if isinstance(before, bytes):
            return Restored(before, self.previous, damage)
        also = f"{self.previous} too ({before})" if before else f"there is no {self.previous.name}"
        raise StateDamaged(
            f"{damage}, and {also}: put a good copy back in place of {self.path}; or, to begin anew, move "
            "what there is of these two out of the way"
        )

    def write(self, payload: bytes) -> None:
        """Make this the latest state, on the disk when it returns.

        Raises:
            OSError: if that fails; the two files are as they were, or the latest has become the previous one.
        """
        try:
            with self._partial.open("wb") as file:
                file.write(pack(payload))
                file.flush()
                os.fsync(file.fileno())
            if self._good:  # a damaged one must not take the place of the good one that it was replaced by
                self._good = False
                with contextlib.suppress(FileNotFoundError):  # somebody has taken it away
                    self.path.replace(self.previous)
            self._partial.replace(self.path)
        except OSError:
            with contextlib.suppress(OSError):
                self._partial.unlink()  # room, if the disk is full
            raise
        self._good = True
        _sync_folder(self.path.parent)


def _load(path: Path) -> bytes | str | None:
    """What is in a file: its contents, or what is wrong with it, or None if it is not there."""
    try:
        return unpack(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        return str(error)


def _sync_folder(folder: Path) -> None:
    """Have the new names on the disk as well; Windows does that by itself, and has no way to ask for it."""
    if sys.platform != "win32":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@final
class FileLock:
    """Whoever has it is the only one who saves to a file, in this process and among all others.

    The operating system takes it back when the process ends, however it ends; the lock's own file stays, and says
    who had it last.
    """

    def __init__(self, path: Path, holder: str) -> None:
        """Take it.

        Raises:
            StateFileError: naming who has it, and who wants it.
            OSError: if the lock's file cannot be made.
        """
        file = path.with_name(f"{path.name}{LOCK}")
        self._process: Final = os.getpid()
        self._descriptor: int | None = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _lock(self._descriptor)
            os.ftruncate(self._descriptor, 0)
            os.write(self._descriptor, holder.encode())
        except BlockingIOError:
            other = os.read(self._descriptor, 1000).decode(errors="replace")
            self.release()
            raise StateFileError(
                f"{holder} cannot keep its state in {path}, because {other or 'somebody'} keeps it there: give each a "
                'file of its own, `StateFile("state/{kernel_id}.json")`'
            ) from None
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Give it back. Idempotent."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        try:
            if os.getpid() == self._process:  # a process that was forked off has the lock too, and cannot give it back
                _unlock(descriptor)
        finally:
            os.close(descriptor)


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        os.lseek(descriptor, 1 << 30, os.SEEK_SET)  # far behind the text, which others may read
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            raise BlockingIOError(*error.args) from None
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)

    def _unlock(descriptor: int) -> None:
        """Nothing to do: no process is forked off on Windows, and the lock goes when the file is closed."""
else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # closing it is not enough where a process was forked off meanwhile
