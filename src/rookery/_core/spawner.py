"""What a system and a context share: they can have children."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Final, TypeVar, overload

import attrs

from .._model.checks import called_already
from .._model.options import Options
from .._model.restart import Intensity
from .._model.strategy import AutoShutdown, Strategy
from .._model.wording import brief

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import TypeVarTuple

    from .actor import Actor
    from .children import Children
    from .context import Context
    from .ref import ActorRef
    from .spec import ChildSpec
    from .supervisor import SupervisorRef, SupervisorSpec

    Ts = TypeVarTuple("Ts")

M = TypeVar("M")
A = TypeVar("A", bound="Actor")

OPTIONS: Final = frozenset(field.name for field in attrs.fields(Options))


class Spawner(ABC):
    """Something under which actors can be spawned."""

    __slots__ = ()

    @abstractmethod
    def _family(self) -> Children:
        """The children to add to; raises `ActorStopped` if there can be no more."""
        ...

    @overload
    async def spawn(self, spec: SupervisorSpec, /) -> SupervisorRef: ...  # type: ignore[overload-overlap]  # no M fits both
    @overload
    async def spawn(self, spec: ChildSpec[M], /) -> ActorRef[M]: ...
    @overload
    async def spawn(
        self,
        behaviour: Callable[[Context[M], *Ts], Awaitable[object]],
        /,
        *args: *Ts,
        name: str | None = None,
    ) -> ActorRef[M]: ...
    @overload
    async def spawn(self, behaviour: Callable[[*Ts], A], /, *args: *Ts, name: str | None = None) -> ActorRef[A]: ...

    async def spawn(
        self, behaviour: object, /, *args: object, name: str | None = None, **kwargs: object
    ) -> ActorRef[Any]:
        """Start an actor and wait until it is ready.

        An actor is ready when it first receives, when it calls ``ctx.ready()``, or when it has returned; one of
        an `Actor` class when its ``on_start`` has returned. A new child of a supervisor that is restarting a group waits
        for its turn, and for their backoff. If this call is cancelled, the actor is cancelled with it.

        Args:
            behaviour: An async function whose first parameter is the context, an `Actor` class, or a spec made by
                `child`.
            *args: What the function is called with after its context, or the class is instantiated with.
            name: Its name among its siblings; by default the behaviour's, numbered if that is taken.
            **kwargs: Refused: `child(behaviour, x=1)` passes arguments by name.

        Returns:
            The reference to talk to it, valid across its restarts.

        Raises:
            StartFailed: if it does not become ready; what it raised is the ``__cause__``.
            DuplicateName: if a live sibling has the name.
            ActorStopped: if this parent is stopping.
            TypeError: if the arguments do not fit the behaviour.
            UnresolvedAnnotation: if its annotation does not lead to types that can be checked.
            ValueError: for a significant child, if its end could not be that of this parent.
            SpawnFromWithin: from a child that is starting, on its own supervisor, if that starts its children in turn.
            WrongLoop: from another thread than the system's.
        """
        if kwargs or inspect.iscoroutine(behaviour):
            raise _misuse(behaviour, kwargs)
        return await self._family().spawn(behaviour, args, name)

    async def supervise(
        self,
        *specs: ChildSpec[Any],
        name: str | None = None,
        strategy: Strategy = Strategy.ONE_FOR_ONE,
        intensity: Intensity = Intensity(3, per=5.0),  # noqa: B008  # a frozen value
        auto_shutdown: AutoShutdown = AutoShutdown.NEVER,
        concurrent_stop: bool = False,
    ) -> SupervisorRef:
        """Start a supervisor with these children, and wait until all of them are ready.

        The same as to ``spawn`` a `supervisor`, which says what the arguments mean. If this call is cancelled, the
        children are stopped again, each within its ``stop_timeout``, also the one that is starting.

        Raises:
            StartFailed: if one of the children does not become ready; the others are stopped again. What it raised
                is the ``__cause__``.
            DuplicateName, ActorStopped, TypeError, ValueError, SpawnFromWithin, WrongLoop: as `supervisor` and `spawn`.
        """
        return await self._family().supervise(
            specs,
            name=name,
            strategy=strategy,
            intensity=intensity,
            auto_shutdown=auto_shutdown,
            concurrent_stop=concurrent_stop,
        )


def _misuse(behaviour: object, kwargs: dict[str, object]) -> TypeError:
    """The error for what `Spawner.spawn` does not take, though one may well think so."""
    if inspect.iscoroutine(behaviour):
        wanted = "a behaviour is an async function whose first parameter is the context"
        return called_already(behaviour, wanted, f"write `spawn({behaviour.__name__}, ...)`")
    given = ", ".join(f"{key}={brief(value)}" for key, value in kwargs.items())
    fn = str(getattr(behaviour, "__name__", None) or "behaviour")
    write = f"to pass that to the behaviour, write `spawn(child({fn}, {given}))`"
    if kwargs.keys() <= OPTIONS:
        write += f"; to run it so, `spawn(child({fn}).options({given}))`"
    return TypeError(f"spawn() hands on positional arguments only, got {given}: {write}")
