"""Supervisors: actors that receive nothing, and have children."""

from __future__ import annotations

import contextvars
import inspect
import math
from typing import TYPE_CHECKING, Any, Final, Never, TypeVar, cast, final, overload

import attrs

from .._model.checks import called_already
from .._model.errors import ActorStopped, DuplicateName, UnknownActor
from .._model.options import Options, SupervisorOptions
from .._model.restart import Intensity
from .._model.strategy import AutoShutdown, Strategy
from .._model.wording import brief
from .context import incarnation_of
from .ref import ActorRef
from .spawner import Spawner
from .spec import NONE, ChildSpec

if TYPE_CHECKING:
    from .children import Children
    from .context import Context

M = TypeVar("M")

OPTIONS: Final = Options(start_timeout=math.inf, stop_timeout=math.inf)
"""Its children have limits of their own."""


@final
class SupervisorRef(ActorRef[Never], Spawner):
    """The address of a supervisor: its children are found, added, restarted and removed through it.

    It accepts no messages. What is spawned through it are dynamic children, behind the static ones in order: when
    the supervisor itself is restarted they are gone, and the static ones are started anew under the same references.
    """

    __slots__ = ()

    @overload
    def __getitem__(self, spec: SupervisorSpec) -> SupervisorRef: ...  # type: ignore[overload-overlap]  # no M fits both
    @overload
    def __getitem__(self, spec: ChildSpec[M]) -> ActorRef[M]: ...

    def __getitem__(self, spec: ChildSpec[Any]) -> ActorRef[Any]:
        """The reference of the child that this spec declares.

        Raises:
            UnknownActor: if it is not a child of this supervisor; it is a `LookupError`.
            TypeError: for anything but a spec.
        """
        if not isinstance(spec, ChildSpec):
            raise TypeError(f"a child is looked up by its spec, got {brief(spec)}: write `sup[spec]`")
        family = self._started().children
        if not (spec in _declared(self) if family is None else family.has(spec.ref)):
            raise UnknownActor(
                f"{spec!r} is not a child of {self.name}: `sup.children()` are, `sup.spawn(spec)` makes it one"
            )
        return spec.ref

    def children(self) -> list[ActorRef[Any]]:
        """Its children in start order: those that run, and static ones that have ended unless they are TEMPORARY.

        Raises:
            NotStarted: if the supervisor has not been spawned.
        """
        family = self._started().children
        return [] if family is None else [cell.ref for cell in family.cells]

    async def restart_child(self, ref: ActorRef[Any]) -> None:
        """Start a child again, alone and at once, and wait until it is ready; one that runs is stopped first.

        Its siblings are not concerned, and it does not count towards the intensity. If cancelled, the restart goes on.
        While the supervisor itself is starting, a child that had started takes its turn again; should that fail, the
        start-up goes on all the same.

        Raises:
            StartFailed: if it does not become ready; it stays down then.
            ValueError: if it is TEMPORARY, or is being stopped.
            UnknownActor: if it is not a child of this supervisor, or has been forgotten: a dynamic child that ended is.
            ActorStopped: if the supervisor does not run.
            StopFromWithin: from inside the child, which would wait for its own end.
            SpawnFromWithin: from a child that is starting, while its siblings wait for it.
        """
        await self._family().restart(ref)

    async def stop_child(self, ref: ActorRef[Any]) -> None:
        """Stop a child and wait until its cleanup has run. Idempotent. If cancelled, the stop goes on.

        It stays down until `restart_child`, or until a group restart, which starts it with its siblings.

        Raises:
            UnknownActor, ActorStopped, StopFromWithin: as `restart_child`.
        """
        await self._running().stop_one(ref)

    async def remove_child(self, ref: ActorRef[Any]) -> None:
        """Stop a child if it runs, and forget it: no restart brings it back. If cancelled, the removal goes on.

        Static children are declared for each incarnation of their supervisor, so its own restart does.

        Raises:
            UnknownActor, ActorStopped, StopFromWithin: as `restart_child`.
        """
        await self._running().remove(ref)

    async def pause(self) -> None:
        """Refused: a supervisor receives nothing that could be held back.

        Raises:
            TypeError: always.
        """
        raise TypeError(f"{self.name} is a supervisor and receives nothing: pause its children, `sup[spec].pause()`")

    def _running(self) -> Children:
        cell = self._on_loop()
        if cell.children is None:
            raise ActorStopped(f"{cell.path} is {cell.state.value} and has no children")
        return cell.children

    def _family(self) -> Children:
        children = self._running()
        if self._on_loop().stop_asked:
            raise ActorStopped(f"{children.path} is stopping and can have no more children")
        return children


@final
class SupervisorSpec(ChildSpec[Never]):
    """A supervisor as a child to be; made by `supervisor`, run by ``spawn``."""

    __slots__ = ()
    _reference = SupervisorRef

    @property
    def ref(self) -> SupervisorRef:
        """The reference that the supervisor will have."""
        return cast("SupervisorRef", self._ref)


@final
@attrs.frozen(eq=False)
class Supervising:
    """The behaviour of a supervisor: it waits until it is to stop, while others see to its children."""

    specs: tuple[ChildSpec[Any], ...]
    options: SupervisorOptions
    __name__: str = "supervisor"

    async def __call__(self, ctx: Context[Never]) -> None:
        """One incarnation."""
        incarnation = incarnation_of(ctx)
        incarnation.supervise(self.specs, self.options)
        await incarnation.cell.wait_stop_asked()
        if not incarnation.ready:
            incarnation.cancel()  # by returning it would have started, though some of its children have not


def supervisor(
    *specs: ChildSpec[Any],
    name: str | None = None,
    strategy: Strategy = Strategy.ONE_FOR_ONE,
    intensity: Intensity = Intensity(3, per=5.0),  # noqa: B008  # a frozen value
    auto_shutdown: AutoShutdown = AutoShutdown.NEVER,
    concurrent_stop: bool = False,
) -> SupervisorSpec:
    """Declare a supervisor, so that trees can be declared whole: ``supervisor(supervisor(a, b), c)``.

    It is a TRANSIENT child like any other, without limits of time of its own: those of its children add up.

    Args:
        *specs: Its static children. They start in this order, each when the one before is ready or has returned, and
            stop in reverse. If one does not start, those before it are stopped and the supervisor does not start.
        name: Its name among its siblings; by default ``supervisor``, numbered if that is taken.
        strategy: Who is restarted with a child that has to be.
        intensity: How many restarts are tolerated in how many seconds; more, and it stops its children and fails with
            `RestartIntensityExceeded`, which is a crash to its own supervisor. A group restart counts once.
        auto_shutdown: When the end of significant children is its own, which is a normal one.
        concurrent_stop: Whether dynamic children are stopped all at once. Static ones always go one after another.

    Raises:
        TypeError: for anything but specs, and for an option of the wrong kind.
        ValueError: for a significant child whose end could not be the supervisor's: under ``AutoShutdown.NEVER``, or if
            it is PERMANENT.
        DuplicateName: if the same spec, or the same name, is given twice.

    Example:
        >>> db = child(database)
        >>> api = child(server, db.ref)
        >>> top = await system.spawn(supervisor(db, api, strategy=Strategy.REST_FOR_ONE))
        >>> await top[api].send(Hello())
    """
    options = SupervisorOptions(
        strategy=strategy, intensity=intensity, auto_shutdown=auto_shutdown, concurrent_stop=concurrent_stop
    )
    _check(specs, options)
    spec = SupervisorSpec(
        Supervising(specs, options),
        (),
        NONE,
        accepted=(),
        options=OPTIONS,
        context=contextvars.copy_context(),
    )
    return spec.options(name=name)


def _check(specs: tuple[ChildSpec[Any], ...], options: SupervisorOptions) -> None:
    names: set[str] = set()
    seen: set[ChildSpec[Any]] = set()
    for spec in specs:
        if not isinstance(spec, ChildSpec):
            raise _no_spec(spec)
        name = spec.settings.name
        if spec in seen:
            raise DuplicateName(f"{spec!r} is given twice: `spec.options()` makes another child of it")
        if name in names:
            raise DuplicateName(
                f"two children are called {name!r}: names are unique among siblings; choose another, or leave it out to "
                "have one numbered"
            )
        seen.add(spec)
        if name is not None:
            names.add(name)
        if spec.settings.significant:
            options.auto_shutdown.check_significant(spec.settings.restart)


def _no_spec(given: object) -> TypeError:
    wanted = "a supervisor's static children are specs"
    if inspect.iscoroutine(given):
        return called_already(given, wanted, f"write `child({given.__name__}, ...)`")
    name = getattr(given, "__name__", "behaviour")
    return TypeError(f"{wanted}, got {brief(given)}: write `child({name}, ...)`")


def _declared(ref: SupervisorRef) -> tuple[ChildSpec[Any], ...]:
    behaviour = ref._started().spec.behaviour  # pyright: ignore[reportPrivateUsage]
    assert isinstance(behaviour, Supervising)
    return behaviour.specs
