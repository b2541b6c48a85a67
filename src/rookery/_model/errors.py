"""Everything rookery raises on purpose, under one root.

Where a built-in says the same, the error is one of those too, so that ``except TimeoutError`` works as
people expect.
"""

from __future__ import annotations

from .wording import brief


class RookeryError(Exception):
    """The root of rookery's own errors."""


class WouldBlock(RookeryError):
    """A ``..._nowait`` call found nothing to take."""


class MailboxFull(RookeryError):
    """A message was not accepted because the mailbox is at its capacity, or was evicted from it."""


class ActorStopped(RookeryError):
    """The actor has ended, or is ending, so the message or request will not be served."""


class NotStarted(RookeryError, LookupError):
    """A reference from ``spec.ref`` was used before its spec was spawned, or the context of an `Actor` before it runs."""


class ActorCrashed(RookeryError):
    """The actor crashed on this very request. The crash is the ``__cause__``."""


class AskTimeout(RookeryError, TimeoutError):
    """No reply came within the ``timeout`` of the ask."""


class AskCycle(RookeryError, RuntimeError):
    """This ask would close a circle of actors whose main tasks all wait for one another's answers."""


class AlreadyAnswered(RookeryError, RuntimeError):
    """A request was answered a second time by the actor that has it in hand."""


class Refused(RookeryError):
    """Raised in a method of an `Actor` class: its asker gets ``error``, and the actor lives on.

    Args:
        error: The exception to raise in the asker.

    Raises:
        TypeError: if it is no exception.
    """

    def __init__(self, error: Exception) -> None:
        if not isinstance(error, Exception):
            raise TypeError(
                f"Refused takes the exception to raise in the asker, got {brief(error)}: "
                "write `raise Refused(ValueError(...))`"
            )
        super().__init__(error)
        self.error = error


class StartFailed(RookeryError):
    """An actor did not become ready. What its start raised, if anything, is the ``__cause__``."""


class DuplicateName(RookeryError, ValueError):
    """A live sibling already has this name."""


class UnknownActor(RookeryError, LookupError):
    """No live actor has this name or path."""


class RestartIntensityExceeded(RookeryError):
    """Children crashed more often than their supervisor allows.

    The ``__cause__`` is an ``ExceptionGroup`` of the crashes within the window.
    """


class StopRequested(RookeryError):
    """The actor was asked to stop. Leaving the behaviour, it is a normal end."""


class StopFromWithin(RookeryError, RuntimeError):
    """``await stop()``, or ``wait_stopped()``, was called from inside what it would wait for; use ``stop_soon()``."""


class StuckActor(RookeryError):
    """An actor was cancelled long ago and has not ended. It is reported, and waited for: a task cannot be killed."""


class SpawnFromWithin(RookeryError, RuntimeError):
    """A child that is starting wants to wait for the start of a sibling, which would have to wait for it."""


class WrongLoop(RookeryError, RuntimeError):
    """A reference was used from another thread or event loop than its own."""


class UnresolvedAnnotation(RookeryError, TypeError):
    """A behaviour's ``Context[...]`` annotation cannot be resolved to types that can be checked."""
