"""The crash that is made on purpose."""

from __future__ import annotations

from enum import Enum
from typing import final


class Moment(Enum):
    """Where an actor can be made to crash: always between two steps that belong together."""

    READING = "while reading"
    """A request is taken from the cursor and not asked yet."""
    LEARNED = "after learning"
    """The weights have moved, and the lesson is not answered yet."""
    ANSWERING = "while answering"
    """Some of a launch's answers have gone to the sink, the others have not."""


class Sabotaged(RuntimeError):
    """Nothing is wrong: the demo made this happen."""


@final
class Sabotage:
    """Lets one actor crash, once.

    It is made outside of the actor, so that the next incarnation is spared.
    """

    def __init__(self, moment: Moment, times: int) -> None:
        """Strike when ``moment`` has come ``times`` times."""
        self._moment = moment
        self._left = times

    def at(self, moment: Moment) -> None:
        """Called by actors at each such moment.

        Raises:
            Sabotaged: at the chosen one.
        """
        if moment is self._moment:
            self._left -= 1
            if self._left == 0:
                raise Sabotaged(f"on purpose, {moment.value}")
