"""One actor, from its spawn to its end, across its incarnations."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, final

from .._model.dead_letter import Reason
from .._model.directives import Exit
from .._model.errors import ActorStopped, MailboxFull, NotStarted, StopFromWithin, StopRequested
from .._model.lifecycle import FINAL, ActorState, LifeEvent, after
from .._model.wording import brief
from ._parking import uninterrupted
from .adopted import AdoptedTask
from .crash_report import report_stuck
from .incarnation import Incarnation
from .ref import ActorStatistics
from .reply import Ask
from .waiting import Latch
from .watching import Restarted, Terminated, Watchers
from .within import lies_within, within_actor

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from .children import Children
    from .deadlines import Alarm
    from .engine import Engine
    from .mailbox import Mailbox
    from .ref import ActorRef
    from .spec import ChildSpec
    from .watching import WatchEvent


STUCK_AFTER: Final = 5.0
"""Seconds after its cancellation in which an actor is expected to have ended."""

UNDECIDED: Final = frozenset({ActorState.NEW, ActorState.RESTARTING})
"""States in which there is nothing to end yet."""


@final
class Cell:
    """The actor that references point to: its mailbox, its state, and its current incarnation.

    What is decided about it (start again? give up?) is decided by its `owner`.
    """

    __slots__ = (
        "_drain",
        "_ended",
        "_incarnation",
        "_start_alarm",
        "_stop_alarm",
        "_stop_latch",
        "_stop_timeout",
        "_stuck_alarm",
        "_watchers",
        "accepted",
        "asking",
        "engine",
        "incarnations",
        "last_crash",
        "mailbox",
        "name",
        "owner",
        "path",
        "received",
        "ref",
        "restart_alarm",
        "spec",
        "start_error",
        "started",
        "state",
        "stop_asked",
        "task",
        "thread",
    )

    def __init__(
        self, spec: ChildSpec[Any], ref: ActorRef[Any], name: str, path: str, engine: Engine, owner: Children
    ) -> None:
        self.spec: Final = spec
        self.ref: Final[ActorRef[Any]] = ref
        self.name: Final = name
        self.path: Final = path
        self.engine: Final = engine
        self.owner: Final = owner
        self.thread: Final = engine.loop.thread
        self.accepted: Final = spec.accepted
        self.mailbox: Final[Mailbox[Any]] = engine.mailbox(self)
        self.state: ActorState = ActorState.NEW
        self.incarnations: int = 0
        self.received: int = 0
        self.last_crash: Exception | None = None
        self.asking: Ask | None = None  # what its main task waits for
        self.started: Latch = Latch(engine.loop)  # once that is over, the one that all have in common
        self.start_error: Exception | None = None
        self.stop_asked: bool = False  # of the current incarnation
        self._stop_latch: Latch | None = None  # made by who waits
        self._stop_timeout: float = spec.settings.stop_timeout  # unless it is stopped with another
        self.task: object = None  # the main task, while its behaviour runs
        self._drain = False
        self.restart_alarm: Alarm | None = None
        self._incarnation: Incarnation | None = None
        self._ended: Latch | None = None  # made by who waits
        self._start_alarm: Alarm | None = None
        self._stop_alarm: Alarm | None = None
        self._stuck_alarm: Alarm | None = None
        self._watchers: Watchers | None = None

    # ---- incarnations

    @uninterrupted
    def begin(self) -> None:
        """Start an incarnation."""
        self._happen(LifeEvent.START)
        if self.stop_asked:  # the one before had to go for its siblings' sake
            self.stop_asked = False
            self.mailbox.unhalt()
        self.incarnations += 1
        self.restart_alarm = None
        self._incarnation = incarnation = Incarnation(self, self.incarnations)
        timeout = self.spec.settings.start_timeout
        if timeout < math.inf:
            self._start_alarm = self.engine.deadlines.at(incarnation.started_at + timeout, self._start_timed_out)
        self.spec.context.run(self.engine.nursery.start_soon, incarnation.run, name=self.path)  # which copies it
        if self._watchers is not None and self.incarnations > 1:
            self._tell_watchers(Restarted(self.ref, self.incarnations, self._watchers.reason))
        if self.engine.instruments is not None:
            self.engine.tell("started", self.ref, self.incarnations)

    def became_ready(self) -> None:
        """The incarnation is ready."""
        self._cancel_start_alarm()
        if self.state is ActorState.RESTARTING:
            return  # it has been told to go, and to start again: that start is the one which is waited for
        if self.state is ActorState.STARTING:
            self._happen(LifeEvent.READY)
            if self.mailbox.held:  # a pause outlives a restart
                self._happen(LifeEvent.PAUSE)
        if self.engine.instruments is not None:
            self.engine.tell("ready", self.ref, self.incarnations)
        self.owner.became_ready(self)
        self._end_start()

    @uninterrupted
    def incarnation_ended(self, how: Exit, interrupt: BaseException | None) -> None:
        """The incarnation is over, its tasks, children and requests with it."""
        self._cancel_start_alarm()
        self._cancel_stop_alarm()
        self._cancel_stuck_alarm()
        self._incarnation = None
        if how.crash is not None:
            self.last_crash = how.crash
        if self._watchers is not None:
            self._watchers.reason = how.crash
        if interrupt is not None:
            self.engine.interrupt(interrupt)
        self.engine.tell("exited", self.ref, self.incarnations, how.crash)
        self.owner.exited(self, how)

    def nobody_receives(self, crash: Exception | None) -> None:
        """The behaviour and its tasks are over; its children have yet to end, and may be waiting for it.

        Whoever is sure to wait in vain is told now: everybody if no other incarnation follows, else those among its own
        descendants, because their end is what the next incarnation waits for.
        """
        again = self.state is ActorState.RESTARTING or self.spec.settings.restart.applies(crashed=crash is not None)
        if self.state is ActorState.STOPPING or not again:
            self._turn_everyone_away()
        elif self.children is not None:  # without them nobody waits from below: spare a look through the mailbox
            self.end_vain_waits()

    def will_restart(self) -> None:
        """Another incarnation follows."""
        if self.state is not ActorState.RESTARTING:
            self._happen(LifeEvent.RETRY)

    def finish(self, how: Exit) -> None:
        """No other incarnation follows: nobody who waits for this actor is left waiting."""
        if not self.started.is_set:
            self.start_error = how.crash or ActorStopped(f"{self.path} was stopped before it was ready")
        if self.state in UNDECIDED or (how.crash is None and self.state is ActorState.STARTING):
            self._happen(LifeEvent.STOP)
        self._happen(LifeEvent.END if how.crash is None else LifeEvent.FAIL)
        self._turn_everyone_away()
        self._end_start()
        self._tell_to_stop()
        if self.engine.instruments is not None:
            self.engine.tell("ended", self.ref, how.crash)
        if self._ended is not None:
            self._ended.set()
        if self._watchers is not None:
            self._tell_watchers(Terminated(self.ref, how.crash))
            self._watchers.listening.clear()

    def abandon_start(self) -> None:
        """Whoever spawned it has left before it was ready."""
        self.stop_soon()
        if self._incarnation is not None:
            self._incarnation.cancel()

    @property
    def end_reason(self) -> Exception | None:
        """The crash that it ended by; None if it lives, or ended normally."""
        return self.last_crash if self.state is ActorState.FAILED else None

    @property
    def children(self) -> Children | None:
        """The children of the current incarnation, if it ever had any."""
        return None if self._incarnation is None else self._incarnation.children

    # ---- stopping

    def wait_stop_asked(self) -> Awaitable[None]:
        """Wait until the incarnation is asked to stop; a checkpoint in any case."""
        if self.stop_asked:
            return self.engine.loop.checkpoint()
        if self._stop_latch is None:
            self._stop_latch = Latch(self.engine.loop)
        return self._stop_latch.wait()

    def _tell_to_stop(self) -> None:
        self.stop_asked = True
        latch, self._stop_latch = self._stop_latch, None
        if latch is not None:
            latch.set()

    def _end_start(self) -> None:
        """It is ready, or never will be."""
        self.started.set()
        self.started = self.engine.happened

    def stop_soon(self) -> None:
        """Ask the owner for a graceful stop."""
        self.owner.stop(self)

    async def stop(self, *, drain: bool, timeout: float | None = None) -> None:
        """Stop gracefully, and wait for the end.

        Args:
            drain: Let it receive what is queued first.
            timeout: Seconds until it is cancelled; by default its spec's ``stop_timeout``. A stop that is under
                way keeps its own.
        """
        self.refuse_from_within()
        if self.state is not ActorState.STOPPING:
            self._drain = drain
            self._stop_timeout = self._stop_timeout if timeout is None else timeout
        self.owner.stop(self)
        await self._wait_ended()

    async def wait_stopped(self) -> None:
        """Wait for the end."""
        self.refuse_from_within()
        await self._wait_ended()

    async def _wait_ended(self) -> None:
        if self.state in FINAL:
            await self.engine.loop.checkpoint()
            return
        if self._ended is None:
            self._ended = Latch(self.engine.loop)
        await self._ended.wait()

    def refuse_from_within(self) -> None:
        """Raise `StopFromWithin` if the running code would wait for its own end."""
        inside = within_actor.get()
        if inside is not None and inside.engine is self.engine and lies_within(inside.path, self.path):
            raise StopFromWithin(
                f"{inside.path} cannot wait for {self.path} to stop, because that would wait for {inside.path} "
                "itself: use `ref.stop_soon()`, which does not wait"
            )

    @uninterrupted
    def begin_stop(self, *, for_good: bool) -> None:
        """The owner's: tell the behaviour, and set the limit.

        Args:
            for_good: Turn senders away. Otherwise messages queue up for the next incarnation. A stop that has begun
                so may become one for good.
        """
        told_before = self.stop_asked
        self._tell_to_stop()
        if for_good:
            self.mailbox.close(self._stopped)
            self._happen(LifeEvent.STOP)
            if self.engine.instruments is not None:
                self.engine.tell("stopping", self.ref)
        elif self.state is not ActorState.RESTARTING:
            self._happen(LifeEvent.RETRY)
        if self.restart_alarm is not None:
            self.restart_alarm.cancel()
            self.restart_alarm = None
            self.owner.exited(self, Exit())
        elif not told_before:
            self._end_incarnation(drain=for_good and self._drain)

    def _end_incarnation(self, *, drain: bool) -> None:
        self.mailbox.halt(StopRequested, drain=drain)
        if self._stop_timeout <= 0 or isinstance(self.spec.behaviour, AdoptedTask):
            self.cancel()
        elif self._stop_timeout < math.inf:
            self._stop_alarm = self.engine.deadlines.at(self.engine.loop.now() + self._stop_timeout, self.cancel)

    def cancel(self) -> None:
        """End the grace: cancel the incarnation."""
        if self._incarnation is not None:
            self._incarnation.cancel()
            if self._incarnation.children is not None:
                self._incarnation.children.hurry()

    @uninterrupted
    def crash(self, error: Exception) -> None:
        """Have the current incarnation crash with this.

        Raises:
            ActorStopped: if it has ended for good.
            NotStarted: between two incarnations.
        """
        if self.state in FINAL:
            raise ActorStopped(f"{self.path} is {self.state.value} and cannot crash any more")
        if self._incarnation is None:
            raise NotStarted(f"{self.path} is {self.state.value}: it can crash when it has started again")
        self._incarnation.crash(error)

    def await_start(self) -> Latch:
        """What tells that the start that comes next succeeded, or that none will."""
        if self.started.is_set:
            self.started = Latch(self.engine.loop)
            self.start_error = None
        return self.started

    def expect_end(self) -> None:
        """The incarnation has been cancelled, and should end soon."""
        if self._stuck_alarm is None:
            self._stuck_alarm = self.engine.deadlines.at(self.engine.loop.now() + STUCK_AFTER, self._report_stuck)

    def _report_stuck(self) -> None:
        assert self._incarnation is not None, "whose end cancels the alarm"
        stacks = self._incarnation.stacks()
        if stacks:  # otherwise it waits for its children, which are reported themselves
            self.engine.tell("stuck", self.ref, report_stuck(self, STUCK_AFTER, stacks))

    def _cancel_stuck_alarm(self) -> None:
        if self._stuck_alarm is not None:
            self._stuck_alarm.cancel()
            self._stuck_alarm = None

    # ---- watching

    def accepts(self, kind: type) -> bool:
        """Whether messages of that type may be sent to it."""
        return self.accepted is None or issubclass(kind, self.accepted)

    def add_watcher(self, watcher: Incarnation) -> None:
        """It wants to hear of restarts, and of the end."""
        if self._watchers is None:
            self._watchers = Watchers()
        self._watchers.listening[watcher] = None

    def remove_watcher(self, watcher: Incarnation) -> None:
        """It has ended."""
        assert self._watchers is not None, "since it was added"
        self._watchers.listening.pop(watcher, None)

    def _tell_watchers(self, event: WatchEvent) -> None:
        assert self._watchers is not None
        for watcher in list(self._watchers.listening):
            watcher.hear(event)

    # ---- pausing

    @uninterrupted
    def pause(self) -> None:
        """Hand out no more messages."""
        self._refuse_if_ending("paused")
        self.mailbox.hold()
        if self.state is ActorState.RUNNING:
            self._happen(LifeEvent.PAUSE)

    @uninterrupted
    def resume(self) -> None:
        """Hand out messages again."""
        self._refuse_if_ending("resumed")
        self.mailbox.release()
        if self.state is ActorState.PAUSED:
            self._happen(LifeEvent.RESUME)

    def _refuse_if_ending(self, what: str) -> None:
        if self.state is ActorState.STOPPING or self.state in FINAL:
            raise ActorStopped(f"{self.path} is {self.state.value} and cannot be {what}")

    # ---- observation

    def statistics(self) -> ActorStatistics:
        """The actor now."""
        return ActorStatistics(
            state=self.state,
            queued=len(self.mailbox),
            capacity=self.mailbox.capacity,
            blocked_senders=self.mailbox.blocked_senders,
            received=self.received,
            dropped=self.mailbox.dropped,
            unanswered=0 if self._incarnation is None else len(self._incarnation.hand),
            restarts=max(0, self.incarnations - 1),
            last_crash=self.last_crash,
        )

    def dead_letter(self, message: object, reason: Reason, priority: int = 128) -> None:
        """A message or reply of this actor's that nobody gets."""
        self.engine.dead_letters.add(message, reason, self.path, priority)

    # ---- its own

    def _happen(self, event: LifeEvent) -> None:
        self.state = after(self.state, event)

    def discard(self, item: object, priority: int, reason: Reason) -> None:
        """The overflow policy dropped this."""
        if isinstance(item, Ask):
            item.fail(MailboxFull(f"the mailbox of {self.path} was full and dropped this request"))
            item = item.request
        self.dead_letter(item, reason, priority)

    def _turn_everyone_away(self) -> None:
        """Senders from now on, and whatever is still queued."""
        self.mailbox.close(self._stopped)
        self._turn_away(self.mailbox.withdraw())

    def _turn_away(self, unread: list[tuple[Any, int]]) -> None:
        for item, priority in unread:
            if isinstance(item, Ask):
                item.fail(self._stopped())
            self.dead_letter(item.request if isinstance(item, Ask) else item, Reason.UNREAD, priority)

    def begins_after(self, asker: Cell) -> bool:
        """Whether that actor has to end before the next incarnation begins, so that it cannot wait for that."""
        if asker.engine is not self.engine:
            return False
        if self._incarnation is not None and self._incarnation.over and asker.path.startswith(f"{self.path}/"):
            return True
        return self.state is ActorState.RESTARTING and self.owner.awaits_end_of(asker.path)

    @uninterrupted
    def end_vain_waits(self) -> None:
        """Tell whoever waits for the next incarnation, for room or an answer, and has to end before that begins."""
        self.mailbox.refuse(self._why_not_wait)  # before the requests leave, which makes room
        if len(self.mailbox):
            self._turn_away(self.mailbox.withdraw(self._asked_in_vain))

    def _why_not_wait(self, sender: Cell) -> ActorStopped | None:
        if not self.begins_after(sender):
            return None
        return ActorStopped(
            f"{self.path} does not go on before {sender.path} has ended, which so cannot wait for room in its mailbox"
        )

    def _asked_in_vain(self, item: object) -> bool:
        asker = item.asker if isinstance(item, Ask) else None
        return asker is not None and self.begins_after(asker)

    def _stopped(self) -> ActorStopped:
        state = self.state.value if self.state is ActorState.STOPPING or self.state in FINAL else "ending"
        how = f" ({brief(self.last_crash)})" if self.state is ActorState.FAILED else ""
        return ActorStopped(f"{self.path} is {state}{how} and takes no more messages")

    def _start_timed_out(self) -> None:
        assert self._incarnation is not None, "whose end cancels the alarm"
        late = self._late()
        why = "" if late is self else f", because it waits for {late.path}, which is {late.state.value}"
        self._incarnation.crash(
            TimeoutError(
                f"{self.path} was not ready within {self.spec.settings.start_timeout} s{why}: receive, call `ctx.ready()` "
                "at the end of start-up (an adopted task calls `task_status.started()`), or give it "
                "`child(...).options(start_timeout=...)`"
            )
        )

    def _late(self) -> Cell:
        """Who is not ready: the actor itself, or of a supervisor the one whose turn it is, at the bottom."""
        late = None if self.children is None else self.children.awaited
        return self if late is None else late._late()

    def _cancel_start_alarm(self) -> None:
        if self._start_alarm is not None:
            self._start_alarm.cancel()
            self._start_alarm = None

    def _cancel_stop_alarm(self) -> None:
        if self._stop_alarm is not None:
            self._stop_alarm.cancel()
            self._stop_alarm = None
