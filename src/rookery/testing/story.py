"""What happened in a system, as a Mermaid sequence diagram."""

from __future__ import annotations

import re
from collections import deque
from reprlib import Repr
from typing import TYPE_CHECKING, Any, Final, final

from .._core.instruments import Instrument
from .._core.watching import Restarted, Terminated
from .._model.checks import check_count

if TYPE_CHECKING:
    from .._core.ref import ActorRef
    from .._model.dead_letter import DeadLetter
    from .._model.errors import StuckActor

OUTSIDE: Final = "outside"
"""Whoever is no actor."""

_REPR: Final = Repr()
_REPR.maxstring = _REPR.maxother = 60

_UNSAFE: Final = re.compile(r"[^ \w.,:/()\[\]{}='\"+*!?&@|-]|\b(end|wrap|nowrap)\b", re.IGNORECASE)
"""What Mermaid takes for something else than text: some punctuation, HTML's, and words of its own."""


@final
class Story(Instrument):
    """Records what happens in a system, and tells it actor by actor.

    ``open_system(instruments=[story])``, and then ``story.mermaid()`` is the text of a diagram: an arrow for each message
    when it is in the mailbox, with a cross if nobody gets it, a dashed one for each answer, and notes about starts,
    crashes, stops and ends. It keeps text only, and keeps no message alive.

    Args:
        limit: How many arrows and notes it keeps, the latest ones.

    Example:
        >>> story = Story()
        >>> async with open_system(instruments=[story]) as system:
        ...     ...
        >>> print(story.mermaid())
        sequenceDiagram
            participant p0 as outside
            participant p1 as /calculator
            note over p1: started
            p0->>p1: Add(a=1, b=2)
            p1-->>p0: 3
    """

    def __init__(self, limit: int = 500) -> None:
        check_count("Story: limit must be a whole number, 1 or more", limit, least=1)
        self._lines: deque[tuple[str, str, str, str]] = deque(
            maxlen=limit
        )  # from, arrow, to, text; a note has no arrow
        self._left_out = 0
        self._in_hand: dict[ActorRef[Any], str] = {}

    def note(self, text: str, over: ActorRef[Any] | None = None) -> None:
        """Add a remark, about an actor or about everything outside."""
        self._add(_path(over), "", _path(over), text)

    def mermaid(self) -> str:
        """The diagram so far, as text."""
        paths = {path for start, _, end, _ in self._lines for path in (start, end)}
        names = {path: f"p{at}" for at, path in enumerate(sorted(paths, key=lambda path: (path != OUTSIDE, path)))}
        head = [f"participant {name} as {_escaped(path)}" for path, name in names.items()]
        if self._left_out:
            head.append(f"note over p0: {self._left_out} before these are left out")
        told = [
            f"{names[start]}{arrow}{names[end]}: {_escaped(text)}"
            if arrow
            else f"note over {names[end]}: {_escaped(text)}"
            for start, arrow, end, text in self._lines
        ]
        return "\n    ".join(["sequenceDiagram", *head, *told])

    # ---- what it hears

    def started(self, ref: ActorRef[Any], incarnation: int) -> None:
        """A note."""
        self._in_hand.pop(ref, None)
        self.note("started" if incarnation == 1 else f"started again, incarnation {incarnation}", ref)

    def sent(self, ref: ActorRef[Any], message: object, priority: int, sender: ActorRef[Any] | None) -> None:
        """An arrow."""
        urgency = "" if priority == 128 else f", priority {priority}"
        self._add(_path(sender), "->>", ref.path, f"{_REPR.repr(message)}{urgency}")

    def received(self, ref: ActorRef[Any], message: object) -> None:
        """Nothing new, unless it is of one that the actor watches: then an arrow from there."""
        self._in_hand[ref] = type(message).__name__
        if isinstance(message, Terminated | Restarted):
            self._add(message.ref.path, "-)", ref.path, type(message).__name__)

    def answered(
        self,
        ref: ActorRef[Any],
        request: object,
        answer: object,
        error: BaseException | None,
        asker: ActorRef[Any] | None,
    ) -> None:
        """A dashed arrow."""
        self._add(ref.path, "-->>", _path(asker), _REPR.repr(answer if error is None else error))

    def crashed(self, ref: ActorRef[Any], incarnation: int, crash: Exception, decision: str) -> None:
        """A note with what it had last received, and the decision."""
        last = self._in_hand.get(ref)
        self.note(f"crashed{f' on {last}' if last else ''}, {_REPR.repr(crash)}: {decision}", ref)

    def stopping(self, ref: ActorRef[Any]) -> None:
        """A note."""
        self.note("is to stop", ref)

    def ended(self, ref: ActorRef[Any], reason: Exception | None) -> None:
        """A note."""
        self._in_hand.pop(ref, None)
        self.note("ended" if reason is None else "ended by its crash", ref)

    def stuck(self, ref: ActorRef[Any], error: StuckActor) -> None:
        """A note."""
        self.note("was cancelled and does not end", ref)

    def dead_letter(self, letter: DeadLetter) -> None:
        """A crossed arrow from the actor to itself."""
        text = f"{_REPR.repr(letter.message)} is a dead letter, {letter.reason.name}"
        self._add(letter.actor, "--x", letter.actor, text)

    def _add(self, start: str, arrow: str, end: str, text: str) -> None:
        self._left_out += len(self._lines) == self._lines.maxlen
        self._lines.append((start, arrow, end, text))


def _path(ref: ActorRef[Any] | None) -> str:
    return OUTSIDE if ref is None else ref.path


def _escaped(text: str) -> str:
    """As Mermaid reads it: what is not plain is an entity."""
    return _UNSAFE.sub(lambda found: "".join(f"#{ord(char)};" for char in found[0]), text) or " "
