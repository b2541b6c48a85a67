"""A supervisor's decisions in words, so that a test reads like the rule it checks."""

from __future__ import annotations

from typing import Any

from rookery._model.directives import (
    AbortStart,
    AllDown,
    AllReady,
    Exit,
    Finish,
    Forget,
    GiveUp,
    Keep,
    Start,
    Stop,
)
from rookery._model.restart import Backoff, Intensity, Restart
from rookery._model.strategy import AutoShutdown, Strategy
from rookery._model.supervision import Supervision

CRASH = ValueError("crash")


def words(directives: list[Any]) -> list[str]:
    """Each directive as a few words; whose exit a `Keep` or a `Finish` is about, and how, the machine checks."""
    return [_words(directive) for directive in directives]


def _words(directive: Any) -> str:
    match directive:
        case Start(child, delay):
            return f"start {child} in {delay}" if delay else f"start {child}"
        case Stop(child, for_good):
            return f"stop {child}" if for_good else f"stop {child} for now"
        case Keep(child):
            return f"keep {child}"
        case Finish(child):
            return f"finish {child}"
        case Forget(child):
            return f"forget {child}"
        case AllReady():
            return "all ready"
        case AbortStart(child):
            return f"abort for {child}"
        case GiveUp():
            return "give up"
        case AllDown():
            return "all down"
        case _:
            raise AssertionError(directive)


class Supervisor:
    """A `Supervision` of children called by letters; every event answers with the directives in words."""

    def __init__(
        self,
        strategy: Strategy = Strategy.ONE_FOR_ONE,
        auto_shutdown: AutoShutdown = AutoShutdown.NEVER,
        *,
        intensity: Intensity | None = None,
        concurrent_stop: bool = False,
    ) -> None:
        self.model: Supervision[str] = Supervision(
            intensity or Intensity(3, per=5.0),
            strategy=strategy,
            auto_shutdown=auto_shutdown,
            concurrent_stop=concurrent_stop,
        )
        self.now = 0.0

    def declare(
        self,
        *children: str,
        restart: Restart = Restart.TRANSIENT,
        backoff: Backoff | None = None,
        significant: bool = False,
    ) -> Supervisor:
        """Have static children."""
        for child in children:
            self.model.declare(child, restart, backoff, significant=significant)
        return self

    def up(self) -> Supervisor:
        """Start the static children and have each of them ready."""
        told = self.start()
        for child in self.model.children:
            assert f"start {child}" in told
            told = self.ready(child)
        assert told == ["all ready"]
        return self

    def having(
        self, *children: str, restart: Restart = Restart.TRANSIENT, backoff: Backoff | None = None
    ) -> Supervisor:
        """Have dynamic children that are ready."""
        for child in children:
            assert self.admit(child, restart, backoff) == [f"start {child}"]
            assert self.ready(child) == []
        return self

    def start(self) -> list[str]:
        return words(self.model.start())

    def admit(
        self,
        child: str,
        restart: Restart = Restart.TRANSIENT,
        backoff: Backoff | None = None,
        *,
        significant: bool = False,
    ) -> list[str]:
        return words(self.model.admit(child, restart, backoff, significant=significant))

    def ready(self, child: str) -> list[str]:
        return words(self.model.became_ready(child))

    def returns(self, child: str) -> list[str]:
        return self.exits(child, Exit())

    def crashes(self, child: str, *, lived: float = 0.0) -> list[str]:
        return self.exits(child, Exit(CRASH, lived))

    def fails_to_start(self, child: str) -> list[str]:
        return self.exits(child, Exit(CRASH, was_ready=False))

    def exits(self, child: str, how: Exit) -> list[str]:
        return words(self.model.exited(child, how, self.now, 0.5))

    def stop(self, child: str) -> list[str]:
        return words(self.model.stop(child))

    def restart(self, child: str) -> list[str]:
        return words(self.model.restart(child))

    def remove(self, child: str) -> list[str]:
        return words(self.model.remove(child))

    def stop_all(self) -> list[str]:
        return words(self.model.stop_all())
