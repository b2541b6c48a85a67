"""Whom a failure concerns: which siblings restart with a child, and which ends end the supervisor."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, TypeVar

from .restart import Restart

if TYPE_CHECKING:
    from collections.abc import Sequence

C = TypeVar("C")


class Strategy(Enum):
    """Which siblings are restarted together with a child that has to be restarted."""

    ONE_FOR_ONE = "one for one"
    """None: children do not depend on one another. The default."""
    ONE_FOR_ALL = "one for all"
    """All of them: each child depends on every other."""
    REST_FOR_ONE = "rest for one"
    """Those that were started after it: each child depends on the ones before it."""

    def affected(self, children: Sequence[C], child: C) -> Sequence[C]:
        """The children that are restarted when one has to be, that one included.

        Args:
            children: All of them, in start order.
            child: The one that has to be restarted.
        """
        if self is Strategy.ONE_FOR_ONE:
            return [child]
        return children if self is Strategy.ONE_FOR_ALL else children[children.index(child) :]


class AutoShutdown(Enum):
    """When a supervisor stops because significant children of it have ended by themselves.

    A child ends by itself when nobody asked it to stop, neither a request nor the restart of a sibling, and its
    restart type does not bring it back.
    """

    NEVER = "never"
    """Never: no child may be significant. The default."""
    ANY = "any"
    """When one of them has ended."""
    ALL = "all"
    """When one of them has ended and no other is left."""

    def applies(self, *, others_left: bool) -> bool:
        """Whether the supervisor stops, now that a significant child has ended by itself.

        Args:
            others_left: Whether another significant child is running, or about to.
        """
        return self is AutoShutdown.ANY or (self is AutoShutdown.ALL and not others_left)

    def check_significant(self, restart: Restart) -> None:
        """Refuse a significant child whose end could not stop the supervisor, as OTP does.

        Args:
            restart: The child's restart type.

        Raises:
            ValueError: under `AutoShutdown.NEVER`, and for a PERMANENT child.
        """
        if self is AutoShutdown.NEVER:
            raise ValueError(
                "a significant child ends its supervisor, but this one has AutoShutdown.NEVER: "
                "declare the supervisor with `auto_shutdown=AutoShutdown.ANY`, or leave out `significant=True`"
            )
        if restart is Restart.PERMANENT:
            raise ValueError(
                "a significant child ends its supervisor when it has ended, but Restart.PERMANENT brings it back "
                "each time: use `restart=Restart.TRANSIENT`, or leave out `significant=True`"
            )
