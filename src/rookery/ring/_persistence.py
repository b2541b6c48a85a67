"""The state of a kernel, in memory and on disk.

A save has two steps. The state is made bytes on the event loop, where the kernel is between two messages, so that no
message is half in it; that is quick. The bytes are written by a thread, one save at a time; that may take long, and
holds nobody up.
"""

from __future__ import annotations

import logging
import os
from functools import partial
from typing import TYPE_CHECKING, Any, Final, final

import anyio
import attrs
from anyio.lowlevel import checkpoint

from .._core._parking import uninterrupted
from .._core.waiting import Latch
from .._model.errors import RookeryError
from ._errors import KernelStateError, StateFileError, StateNotSaved
from ._hands import Hands
from ._snapshot import FileLock, Generations, Restored
from ._thread import OneThread

if TYPE_CHECKING:
    from pathlib import Path

    from .._core._parking import Loop
    from .._core.context import Context
    from ._state_file import StateFile

logger: Final = logging.getLogger("rookery.ring")


@final
@attrs.frozen(kw_only=True)
class KernelPersistence:
    """How a kernel's state is kept, at one moment; counted since its launch.

    Attributes:
        path: The file with the latest state.
        restored_from: The file that its state was restored from; None if there was none, and it began anew.
        damage: What was wrong with ``path`` at the launch, if its predecessor had to be used.
        saves: How many states were written. One that has not changed is not written again.
        failed_saves: How many could not be.
        last_error: Why not, the last time.
    """

    path: Path
    restored_from: Path | None
    damage: str | None
    saves: int
    failed_saves: int
    last_error: StateNotSaved | None


@attrs.frozen
class _Snapshot:
    """A state at one moment, or why it could not be made bytes."""

    number: int
    payload: bytes
    error: Exception | None = None


@attrs.define
class _Due:
    """A snapshot that is to be taken when the kernel is at rest."""

    taken: Latch
    snapshot: _Snapshot | None = None


@final
class Keeper:
    """What keeps the state of one kernel, across its restarts.

    Attributes:
        value: The state, as the kernel sees it.
    """

    def __init__(self, kernel_id: str, file: StateFile, loop: Loop) -> None:
        self.value: Any = None
        self._kernel_id: Final = kernel_id
        self._file: Final = file
        self._loop: Final = loop
        self._generations: Final = Generations(file.of(kernel_id))
        self._lock: FileLock | None = None
        self._closed = False
        self._thread: Final = OneThread(loop, f"state of {kernel_id}")
        self._restored = Restored()
        self._incarnations = 0
        self._hands = Hands(loop)
        self._due: _Due | None = None  # a snapshot, as soon as it is at rest
        self._taken = 0  # how many snapshots
        self._stored = 0  # the number of the latest snapshot that is on disk,
        self._on_disk: bytes | None = None  # and its bytes
        self._saves = 0
        self._failed_saves = 0
        self._last_error: StateNotSaved | None = None

    # ---- its life

    async def open(self) -> None:
        """Take the file, and restore the state. If cancelled, nothing changed, and no thread is at it any more.

        Raises:
            StateFileError: if somebody else has it, or files cannot be written here.
            StateDamaged: if neither the file nor its predecessor is good.
            Exception: what ``decode`` or ``initial`` raises.
        """
        await checkpoint()
        try:
            self._restored = (await self._thread.call(self._take_file)).result()
            self._on_disk = self._restored.payload
            self.value = self._revived()
        except BaseException:
            self.close()
            raise
        if self._restored.damage is not None:
            logger.warning(
                "the kernel %r goes on from the state before its latest: %s, and %s is good",
                self._kernel_id,
                self._restored.damage,
                self._restored.source,
                extra={"kernel": self._kernel_id, "damage": self._restored.damage},
            )

    def close(self) -> None:
        """Let others have the file, once nothing is written any more. Idempotent."""
        self._closed = True
        self._let_go()

    async def begin(self, context: Context[Any]) -> None:
        """An incarnation begins: the first with what was restored, others with what was saved last."""
        await self._thread.rest()  # what a task that is not the kernel's has begun to save
        self._incarnations += 1
        if self._incarnations > 1:
            self.value = self._revived()
        self._hands = Hands(self._loop)
        self._due = None
        if self._file.is_periodic:
            context.start_soon(self._save_periodically, name=f"{context.name}: saves its state")

    def statistics(self) -> KernelPersistence:
        """How it is kept, now."""
        return KernelPersistence(
            path=self._generations.path,
            restored_from=self._restored.source,
            damage=self._restored.damage,
            saves=self._saves,
            failed_saves=self._failed_saves,
            last_error=self._last_error,
        )

    # ---- between two messages

    def rest(self) -> None:
        """The running task has come back for the next message: nothing of the one before is half done."""
        if not self._file.is_periodic:
            return
        self._hands.come_back()
        due = self._due
        if due is not None:
            self._hands.forget_ended()
            if self._hands.empty:
                due.snapshot, self._due = self._take(), None
                due.taken.set()

    def work(self) -> None:
        """It is going on."""
        if self._file.is_periodic:
            self._hands.take()

    # ---- saving

    async def save(self) -> None:
        """Save the state as it is now. Once begun it is completed, also if cancelled.

        Raises:
            StateNotSaved: if that fails.
        """
        failed, pierced = await self.save_reported()
        error = pierced or failed
        if error is not None:
            raise error

    async def save_reported(self) -> tuple[StateNotSaved | None, BaseException | None]:
        """The same; what went wrong is logged and counted.

        Returns:
            What went wrong, and what pierced the wait: it is to be raised by the caller.
        """
        return await self._keep(self._take())

    @uninterrupted
    async def _save_periodically(self) -> None:
        while True:
            await anyio.sleep(self._file.every)
            _, pierced = await self._keep(await self._take_at_rest())
            if pierced is not None:
                raise pierced

    async def _take_at_rest(self) -> _Snapshot:
        if self._hands.empty:
            return self._take()
        due = self._due = _Due(Latch(self._loop))
        await due.taken.wait()
        assert due.snapshot is not None
        return due.snapshot

    def _take(self) -> _Snapshot:
        self._taken += 1
        try:
            payload = self._file.encode(self.value)
            if not isinstance(payload, bytes):
                raise TypeError(f"`encode` returned {payload!r}, which is no bytes")
        except Exception as error:  # noqa: BLE001  # for `_keep`, which says so
            return _Snapshot(self._taken, b"", error)
        return _Snapshot(self._taken, payload)

    async def _keep(self, snapshot: _Snapshot) -> tuple[StateNotSaved | None, BaseException | None]:
        error: BaseException | None = snapshot.error
        pierced = None
        if self._closed:
            error = KernelStateError("the kernel has ended, and others may have the file: save before it returns")
        if error is None:
            call = await self._thread.call(partial(self._store, snapshot))
            error, pierced = call.error, call.pierced
            self._let_go()
        return (None if error is None else self._report(error)), pierced

    def _let_go(self) -> None:
        if self._closed and self._lock is not None and not self._thread.busy:
            self._lock.release()

    def _report(self, error: BaseException) -> StateNotSaved:
        path = self._generations.path
        failed = StateNotSaved(f"the state of the kernel {self._kernel_id!r} was not saved to {path}: {error}")
        failed.__cause__ = error
        self._failed_saves += 1
        self._last_error = failed
        logger.error("%s", failed, exc_info=error, extra={"kernel": self._kernel_id})
        return failed

    # ---- in the thread

    def _take_file(self) -> Restored:
        path = self._generations.path
        holder = f"the kernel {self._kernel_id!r} (process {os.getpid()})"
        try:
            self._lock = FileLock(path, holder)
            self._generations.probe()
            return self._generations.read()
        except OSError as error:
            if isinstance(error, RookeryError):
                raise
            raise StateFileError(
                f"{holder} cannot keep its state in {path} ({error}): give it a file in a folder that exists and that "
                'it may write, `StateFile("state/{kernel_id}.json")`'
            ) from error

    def _store(self, snapshot: _Snapshot) -> None:
        if snapshot.number < self._stored:
            return  # it waited while a later one was taken and written
        if snapshot.payload != self._on_disk:
            self._generations.write(snapshot.payload)
            self._on_disk = snapshot.payload
            self._saves += 1
        self._stored = snapshot.number

    def _revived(self) -> Any:
        return self._file.initial() if self._on_disk is None else self._file.decode(self._on_disk)
