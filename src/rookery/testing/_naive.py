"""Supervision, naively: after each event the list of children is walked again from the top.

Written from the rules, not from the code. Nothing is queued, counted or remembered in passing: who has to go and
who waits is a mark on each child, and the restarts within the window are counted anew from the whole history.
"""

from __future__ import annotations

from typing import Any

import attrs

from .._model.directives import AbortStart, AllDown, AllReady, Exit, Finish, Forget, GiveUp, Keep, Start, Stop
from .._model.restart import Backoff, Intensity, Restart
from .._model.strategy import AutoShutdown, Strategy


@attrs.define(eq=False)
class NaiveChild:
    """A child and what is to become of it."""

    key: int
    restart: Restart
    backoff: Backoff | None
    significant: bool
    static: bool
    status: str = "waiting"  # or "starting", "up", "down"
    fate: str = ""  # after the next end: "again", "down", or what its restart type says
    told: str = ""  # to stop "for now", "for good"
    has_to_go: bool = False  # before anybody starts
    in_turn: bool = False  # the next start waits for this one
    somebody_waits: bool = True
    has_lived: bool = False
    removed: bool = False
    delay: float = 0.0
    unstable: int = 0

    @property
    def live(self) -> bool:
        return self.status in ("starting", "up")


class NaiveSupervisor:
    """The same events as `Supervision`, and the same answers."""

    def __init__(
        self, intensity: Intensity, strategy: Strategy, auto_shutdown: AutoShutdown, concurrent_stop: bool
    ) -> None:
        self.intensity = intensity
        self.strategy = strategy
        self.auto_shutdown = auto_shutdown
        self.concurrent_stop = concurrent_stop
        self.family: list[NaiveChild] = []
        self.restarts: list[tuple[float, Exception | None]] = []
        self.starting_up = False
        self.going_down = False
        self.over = False
        self.said: list[Any] = []

    def __getitem__(self, key: int) -> NaiveChild:
        (child,) = [child for child in self.family if child.key == key]
        return child

    # ---- events

    def declare(self, key: int, restart: Restart, backoff: Backoff | None, significant: bool) -> None:
        self.family.append(NaiveChild(key, restart, backoff, significant, static=True))

    def start(self) -> list[Any]:
        self.starting_up = True
        return self.walk()

    def admit(self, key: int, restart: Restart, backoff: Backoff | None, significant: bool) -> list[Any]:
        child = NaiveChild(key, restart, backoff, significant, static=False)
        at_once = not self.in_the_middle()
        self.family.append(child)
        if at_once:
            self.start_child(child)
        return self.walk()

    def became_ready(self, key: int) -> list[Any]:
        child = self[key]
        child.status = "up"
        child.in_turn = child.somebody_waits = False
        child.has_lived = True
        child.delay = 0.0
        return self.walk()

    def stop(self, key: int) -> list[Any]:
        for child in self.family:
            if child.key == key and child.status == "waiting":
                self.end(child, Exit())
            elif child.key == key and child.live:
                child.fate = "down"
                self.tell(child)
        return self.walk()

    def refuses_restart(self, key: int) -> bool:
        """Whether a request to restart this child is an error."""
        known = [child for child in self.family if child.key == key]
        return not known or self.going_down or known[0].restart is Restart.TEMPORARY or known[0].fate == "down"

    def restart(self, key: int) -> list[Any]:
        child = self[key]
        child.delay = 0.0
        if child.status != "waiting" and child.fate != "again":
            child.somebody_waits = True
            if child.live:
                child.fate = "again"
                self.tell(child)
            elif self.in_the_middle():
                child.status = "waiting"
            else:
                self.start_child(child)
        return self.walk()

    def remove(self, key: int) -> list[Any]:
        for child in self.family:
            if child.key == key:
                child.removed = True
                if child.status == "down":
                    self.family.remove(child)
                    self.said.append(Forget(key))
                    break
        return self.stop(key)

    def stop_all(self) -> list[Any]:
        self.everybody_has_to_go()
        return self.walk()

    def exited(self, key: int, how: Exit, now: float, chance: float) -> list[Any]:
        child = self[key]
        fate, in_the_middle = child.fate, self.in_the_middle()
        failed_start = how.crash is not None and not how.was_ready and child.somebody_waits
        child.status, child.fate, child.told = "down", "", ""
        child.has_to_go = child.in_turn = False
        if self.going_down or how.interrupted or fate == "down":
            self.end(child, how)
        elif fate == "again":
            self.said.append(Keep(key, how))
            child.status = "waiting"
            if not in_the_middle:
                self.start_child(child)
        elif failed_start and self.starting_up and child.static and not child.has_lived:
            self.said.append(AbortStart(key, how))
            self.end(child, how)
            self.everybody_has_to_go()
        elif failed_start or not self.comes_back(child, how):
            self.end(child, how)
            if not failed_start and self.significant_end(child):
                self.everybody_has_to_go()
        else:
            self.restart_by_type(child, how, now, chance)
        return self.walk()

    # ---- what follows

    def comes_back(self, child: NaiveChild, how: Exit) -> bool:
        if how.crash is None:
            return child.restart is Restart.PERMANENT
        return child.restart is not Restart.TEMPORARY

    def significant_end(self, child: NaiveChild) -> bool:
        left = [other for other in self.family if other.significant and other.status != "down"]
        if not child.significant or self.auto_shutdown is AutoShutdown.NEVER:
            return False
        return self.auto_shutdown is AutoShutdown.ANY or not left

    def restart_by_type(self, child: NaiveChild, how: Exit, now: float, chance: float) -> None:
        self.restarts.append((now, how.crash))
        recent = [crash for when, crash in self.restarts if now - self.intensity.per <= when]
        if len(recent) > self.intensity.max_restarts:
            self.said.append(GiveUp(tuple(crash for crash in recent if crash is not None)))
            self.end(child, how)
            self.everybody_has_to_go()
            return
        self.said.append(Keep(child.key, how))
        child.delay = 0.0
        if child.backoff is not None:
            child.unstable = 0 if how.lived >= child.backoff.reset_after else child.unstable
            child.delay = child.backoff.delay(child.unstable, chance)
            child.unstable += 1
        if self.strategy is Strategy.ONE_FOR_ONE:
            self.start_child(child)
        else:
            self.restart_group(child)

    def restart_group(self, crashed: NaiveChild) -> None:
        for child in self.family:
            if self.strategy is Strategy.REST_FOR_ONE and child.key < crashed.key:
                continue
            if child.live:
                child.has_to_go = True
                child.fate = child.fate or ("down" if child.restart is Restart.TEMPORARY else "again")
            else:
                child.status = "waiting"

    def everybody_has_to_go(self) -> None:
        self.going_down = True
        self.starting_up = False
        for child in reversed(list(self.family)):
            child.has_to_go = child.live
            if child.status == "waiting":
                self.end(child, Exit())

    def end(self, child: NaiveChild, how: Exit) -> None:
        child.status = "down"
        child.has_to_go = child.somebody_waits = False
        child.has_lived = True
        child.delay, child.unstable = 0.0, 0
        self.said.append(Finish(child.key, how))
        if child.removed or not child.static or child.restart is Restart.TEMPORARY:
            self.family.remove(child)
            self.said.append(Forget(child.key))

    def tell(self, child: NaiveChild) -> None:
        how = "for good" if self.going_down or child.fate == "down" else "for now"
        if child.told not in ("for good", how):
            child.told = how
            self.said.append(Stop(child.key, how == "for good"))

    def start_child(self, child: NaiveChild) -> None:
        child.status = "starting"
        self.said.append(Start(child.key, child.delay))

    # ---- order

    def in_the_middle(self) -> bool:
        """Whether children are being stopped or started one after another."""
        return any(child.has_to_go or child.in_turn for child in self.family)

    def walk(self) -> list[Any]:
        """Down the list for the next to stop, or up the list for the next to start."""
        self.walk_down()
        if self.going_down and not self.over and not any(child.has_to_go for child in self.family):
            self.over = True
            self.said.append(AllDown())
        if not self.going_down and not self.in_the_middle():
            self.walk_up()
        said, self.said = self.said, []
        return said

    def walk_down(self) -> None:
        last = None
        for child in reversed([child for child in self.family if child.has_to_go]):
            if last is None or (self.concurrent_stop and not child.static):
                self.tell(child)
                last = child

    def walk_up(self) -> None:
        waiting = [child for child in self.family if child.status == "waiting"]
        if self.starting_up and not any(child.static for child in waiting):
            self.starting_up = False
            self.said.append(AllReady())
        if waiting:
            waiting[0].in_turn = True
            self.start_child(waiting[0])
