"""What travels through a pipeline: a message, what the steps have made of it so far, and the memory that is in."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, cast, final

from rookery._model.wording import brief

from ._buffer import UnifiedBuffer
from ._share import Drawing, Share, release_all

if TYPE_CHECKING:
    from collections.abc import Generator, Hashable, Iterable, Iterator

    from rookery._core.cell import Cell

    from ._pool import BufferPool


@final
class Item:
    """One message on its way, and the owner of the buffers that its steps take.

    After each step those that are not part of what the step handed on are released, and after a crash those that it took;
    at the end all of them. So no step can leak device memory, and its bytes come back at once.
    """

    __slots__ = ("_handed_on", "_in_hands", "_over", "_shares", "asked", "attempts", "key", "message", "value")

    def __init__(self, message: Any, *, asked: bool) -> None:
        self.message: Final[Any] = message
        self.asked: Final = asked
        """Whether somebody waits for what becomes of it."""
        self.value: Any = message
        """What the next step is given."""
        self.key: Hashable = self
        """Items of one key keep their order."""
        self.attempts = 0
        """How often the step that it is at has begun with it."""
        self._shares: dict[BufferPool, Share] = {}
        self._handed_on: list[UnifiedBuffer] = []  # of what steps took beside the shares, what the last one returned
        self._in_hands = False
        self._over = False

    async def set_aside(self, memory: Iterable[tuple[BufferPool, int]]) -> None:
        """Wait for its share of each pool. In one order, so that two pipelines cannot wait for each other."""
        for pool, nbytes in memory:
            self._shares[pool] = await pool.set_aside(nbytes)

    @contextmanager
    def in_hands_of(self, actor: Cell) -> Generator[None]:
        """A step works on it, and draws from its shares; what it took and did not put into `value` is released."""
        self._in_hands = True
        try:
            with Drawing(actor, self._shares) as call:
                yield
            mine = {*call.taken, *self._handed_on}
            self._handed_on = [buffer for buffer in buffers_in(self.value) if buffer in mine] if mine else []
        finally:
            self._in_hands = False
            self._tidy_up()

    @property
    def over(self) -> bool:
        """Whether it has come to its end."""
        return self._over

    @property
    def holds_buffers(self) -> bool:
        """Whether there are buffers in what the next step would be given."""
        return any(share.in_use for share in self._shares.values())

    def end(self) -> None:
        """It has come to its end; buffers that a step is working with are released when it is done with them."""
        self._over = True
        self.value = None
        if not self._in_hands:
            self._tidy_up()

    def _tidy_up(self) -> None:
        if self._over:
            for share in self._shares.values():
                share.close()
            release_all(self._handed_on)
        elif self.holds_buffers:
            kept = {id(buffer) for buffer in buffers_in(self.value)}
            for share in self._shares.values():
                share.keep_only(kept)

    def __repr__(self) -> str:
        return f"<Item {brief(self.message)}>"


def buffers_in(value: object) -> Iterator[UnifiedBuffer]:
    """The buffers in a value: itself, or in the fields of attrs classes and dataclasses, in tuples, lists and mappings."""
    seen: set[int] = set()
    todo: list[object] = [value]
    while todo:
        one = todo.pop()
        if isinstance(one, UnifiedBuffer):
            yield one
        elif id(one) not in seen:
            seen.add(id(one))
            todo.extend(_parts(one))


def _parts(value: object) -> Iterable[object]:
    if isinstance(value, tuple | list):
        return cast("Iterable[object]", value)
    if isinstance(value, Mapping):
        return cast("Iterable[object]", value.values())
    if (fields := getattr(value, "__attrs_attrs__", None)) is not None:
        return [getattr(value, field.name, None) for field in fields]  # one of `init=False` may not have been set
    return [getattr(value, name, None) for name in getattr(value, "__dataclass_fields__", ())]
