"""The system: the block that owns a tree of actors."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, Final, NoReturn, final

import anyio

from .._model.errors import RestartIntensityExceeded, UnknownActor
from .._model.options import SupervisorOptions
from .._model.restart import Intensity
from .._model.strategy import Strategy
from ._parking import uninterrupted
from .engine import Engine
from .held_loop import HeldLoop, debug_is_on
from .instruments import Instruments
from .spawner import Spawner
from .tree import render

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from .children import Children
    from .dead_letters import DeadLetters
    from .instruments import Instrument
    from .ref import ActorRef

HOW_TO_OPEN: Final = "a system is an asynchronous block: write `async with open_system() as system:`"


@final
class System(Spawner):
    """A running system of actors; made by `open_system`."""

    __slots__ = ("_engine", "_name")

    def __init__(self, name: str, options: SupervisorOptions, instruments: Instruments | None) -> None:
        self._name = name
        self._engine = Engine(self, options, instruments)

    @property
    def name(self) -> str:
        """Its name, in logs and in `tree`."""
        return self._name

    @property
    def dead_letters(self) -> DeadLetters:
        """Messages that nobody handled."""
        return self._engine.dead_letters

    def tree(self) -> str:
        """The tree of actors as text: names, states, queue depths, restarts."""
        return render(self._name, self._engine.root)

    def lookup(self, name: str) -> ActorRef[Any]:
        """The live actor of that name or path.

        Args:
            name: A path (``"/workers/calculator"``), or the name of an actor directly under the root.

        Raises:
            UnknownActor: if there is none.
            TypeError: for anything but a string.
        """
        if not isinstance(name, str):
            raise TypeError(f"an actor is looked up by its name or path, got {name!r}: write `system.lookup('/name')`")
        path = name if name.startswith("/") else f"/{name}"
        known = {cell.path: cell for cell in self._engine.cells()}
        if path not in known:
            close = difflib.get_close_matches(path, known, n=3)
            hint = f"; did you mean {' or '.join(close)}?" if close else "; `print(system.tree())` shows who lives"
            raise UnknownActor(f"there is no live actor {path!r}{hint}")
        return known[path].ref

    def _family(self) -> Children:
        return self._engine.root


def engine_of(system: System) -> Engine:
    """The inside of a system, for the faces that stand on the core."""
    return system._engine  # pyright: ignore[reportPrivateUsage]


def open_system(
    *,
    name: str = "rookery",
    strategy: Strategy = Strategy.ONE_FOR_ONE,
    intensity: Intensity = Intensity(3, per=5.0),  # noqa: B008  # a frozen value
    instruments: Iterable[Instrument] = (),
    debug: bool | None = None,
) -> AbstractAsyncContextManager[System]:
    """Open a block in which actors can be spawned, and which none of them outlives.

    When the block is left, for whatever reason, its actors are stopped gracefully, one after another in
    reverse order of start, each within its ``stop_timeout``. The same happens when it is cancelled from
    outside; a second interrupt (another native ``Task.cancel()`` or ``KeyboardInterrupt``) ends every grace.

    Args:
        name: The system's name, in logs and in `System.tree`.
        strategy: Which actors directly under the root are restarted together.
        intensity: How many restarts of actors directly under the root are tolerated.
        instruments: Who hears everything that happens in it.
        debug: Whether a thread watches the event loop and reports, to the logger ``rookery.debug``, which actor held
            it for how long and where; None does if the environment says ``ROOKERY_DEBUG=1``.

    Raises:
        ExceptionGroup: with `RestartIntensityExceeded`, if actors under the root crashed too often; the
            block's body is cancelled then. Also with what actors raised while the tree was being stopped. An
            exception of the body itself leaves the block as it is, unless there is also something else to raise.
        RuntimeError: outside of an event loop.

    Example:
        >>> async with open_system() as system:
        ...     calc = await system.spawn(calculator)
        ...     assert await calc.ask(Add(10, 5), timeout=1) == 15
    """
    if not isinstance(name, str):
        raise TypeError(f"a system's name is a string, got {name!r}: write `open_system(name='simulation')`")
    options = SupervisorOptions(strategy=strategy, intensity=intensity)
    heard_by = tuple(instruments)
    return _SystemBlock(name, options, Instruments(heard_by) if heard_by else None, debug=debug_is_on(debug))


@final
class _SystemBlock:
    """What the block owns, and in which order it goes: the body, the actors, the timer, the nursery."""

    def __init__(self, name: str, options: SupervisorOptions, instruments: Instruments | None, *, debug: bool) -> None:
        self._name = name
        self._options = options
        self._instruments = instruments
        self._debug = debug
        self._held_loop: HeldLoop | None = None
        self._entered = False

    @uninterrupted
    async def __aenter__(self) -> System:
        if self._entered:
            raise RuntimeError(
                "this block has been entered before, and a system runs once: write `async with open_system() as system:` again"
            )
        self._entered = True
        system = System(self._name, self._options, self._instruments)
        self._engine = engine_of(system)
        await self._engine.nursery.__aenter__()
        self._engine.nursery.start_soon(self._engine.deadlines.run, name=f"{self._name} deadlines")
        self._engine.body.__enter__()
        if self._debug:
            self._held_loop = HeldLoop(self._engine.loop, self._name)
            self._held_loop.open()
        return system

    def __enter__(self) -> NoReturn:
        raise TypeError(HOW_TO_OPEN)

    def __exit__(self, *_: object) -> None:
        raise TypeError(HOW_TO_OPEN)

    def __await__(self) -> NoReturn:
        raise TypeError(HOW_TO_OPEN)

    @uninterrupted
    def __aexit__(self, *left_by: Any) -> Any:
        # No async function: of those Python makes a coroutine, and if a signal came at the end of the body, raises
        # `KeyboardInterrupt` where that would be awaited. A plain function begins at once, and so does its protection.
        return self._exit(*left_by)

    @uninterrupted
    async def _exit(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> bool | None:
        engine = self._engine
        errors = [*_left_of(engine.body, error)]
        engine.root.stop_all()
        pierced = await engine.root.down.outlast(engine.hurry)
        engine.deadlines.close()
        if self._held_loop is not None:
            pierced = await self._held_loop.close() or pierced
        if pierced is not None:
            errors.append(pierced)
        return await self._leave(_combined(self._name, engine.failures, errors, [*engine.root.stop_errors]))

    async def _leave(self, error: BaseException | None) -> bool | None:
        """Leave the nursery, which is empty by now, with this error, and take its wrapping off again."""
        try:
            return await self._engine.nursery.__aexit__(*_exc_info(error))
        except BaseExceptionGroup as wrapped:
            leaving = _once(wrapped.exceptions)
            if len(leaving) != 1:  # something else came up while leaving
                raise
        raise leaving[0]


def _left_of(scope: anyio.CancelScope, error: BaseException | None) -> Iterator[BaseException]:
    """Leave the body's scope; what is left of its error once the scope has taken its own cancellation."""
    try:
        absorbed = scope.__exit__(*_exc_info(error))
    except BaseException as rest:  # noqa: BLE001  # raised again when the tree is down
        yield rest
    else:
        if error is not None and not absorbed:
            yield error


def _exc_info(
    error: BaseException | None,
) -> tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]:
    """The three arguments of ``__exit__``."""
    return (None, None, None) if error is None else (type(error), error, error.__traceback__)


def _combined(
    name: str, failures: list[BaseException], errors: list[BaseException], stop_errors: list[Exception]
) -> BaseException | None:
    """What leaves the block.

    Failures of the tree come first, crashes while it was stopped last, in a group of their own. A cancellation is raised if there is
    nothing else; an error that comes up on its way supersedes it, as one in a ``finally`` does.
    """
    cancelled = anyio.get_cancelled_exc_class()
    causes = _once([*failures, *(error for error in errors if not isinstance(error, cancelled))])
    if not causes and not stop_errors:
        return errors[0] if errors else None
    if len(causes) == 1 and not stop_errors and not isinstance(causes[0], RestartIntensityExceeded):
        return causes[0]
    if not causes:
        return ExceptionGroup(f"the system {name!r} failed while it was stopped", stop_errors)
    followed = [ExceptionGroup("while it was stopped", stop_errors)] if stop_errors else []
    return BaseExceptionGroup(f"the system {name!r} failed", [*causes, *followed])


def _once(errors: Sequence[BaseException]) -> list[BaseException]:
    """Of several `KeyboardInterrupt` only the first: a key that is pressed again hurries the stop, and says nothing new."""
    first = next((error for error in errors if isinstance(error, KeyboardInterrupt)), None)
    return [error for error in errors if error is first or not isinstance(error, KeyboardInterrupt)]
