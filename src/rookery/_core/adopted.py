"""Adopted tasks: async functions that know nothing of actors, supervised like them."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Final, Never, ParamSpec, Protocol, TypeVarTuple, final, overload

from .._model.checks import check_function
from .._model.signatures import known_signature
from .._model.wording import brief
from .actor import Actor
from .context import Context  # noqa: TC001  # the annotation of `__call__` is evaluated by `child`
from .spec import behaviour_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.abc import TaskStatus

P = ParamSpec("P")
Ts = TypeVarTuple("Ts")

STATUS: Final = "task_status"


class Announcing(Protocol[*Ts]):
    """An async function that cannot do without a ``task_status``, to a type checker."""

    def __call__(self, *args: *Ts, task_status: TaskStatus[Any]) -> Awaitable[object]: ...


@final
class AdoptedTask:
    """A behaviour that runs somebody else's function; made by `task`.

    It takes no messages, and cannot hear that it is to stop: the cell cancels it instead.
    """

    __slots__ = ("__name__", "_announces", "_args", "_fn", "_kwargs")

    def __init__(
        self, fn: Callable[..., Awaitable[object]], args: tuple[Any, ...], kwargs: dict[str, Any], *, announces: bool
    ) -> None:
        self.__name__: Final = behaviour_name(fn)
        self._fn: Final = fn
        self._args: Final = args
        self._kwargs: Final = kwargs
        self._announces: Final = announces

    async def __call__(self, ctx: Context[Never]) -> None:
        """Run it, and tell when it is ready."""
        status = _Status(ctx)
        running = self._called({STATUS: status} if self._announces else {})
        if not self._announces:
            status.started()  # what is no async function has not started; what its first step raises is a crash
        await running
        if not (status.was_called or ctx.stopping):
            raise RuntimeError(
                f"{self.__name__} returned without calling `task_status.started()`: call it when it is ready, or "
                "leave the parameter out, and it counts as ready from the start"
            )

    def _called(self, status: dict[str, _Status]) -> Awaitable[object]:
        result = self._fn(*self._args, **self._kwargs, **status)
        if not isinstance(result, Awaitable):
            raise TypeError(
                f"task() takes an async function, got {brief(self._fn)}, which returned {brief(result)}: write it as "
                "`async def`, or run it in a thread, `task(anyio.to_thread.run_sync, fn, *args)`"
            )
        return result

    def __repr__(self) -> str:
        return f"<AdoptedTask {self.__name__}>"


@final
class _Status:
    """What an adopted function is given as its ``task_status``: anyio's protocol, and trio's."""

    __slots__ = ("_ctx", "was_called")

    def __init__(self, ctx: Context[Never]) -> None:
        self._ctx = ctx
        self.was_called: bool = False

    def started(self, value: object = None) -> None:  # noqa: ARG002  # for callers of `TaskGroup.start`
        """It is ready, and ``spawn`` returns."""
        if self.was_called:
            raise RuntimeError("called 'started' twice on the same task status")
        self.was_called = True
        self._ctx.ready()


@overload
def task(fn: Callable[P, Awaitable[object]], /, *args: P.args, **kwargs: P.kwargs) -> AdoptedTask: ...
@overload
def task(fn: Announcing[*Ts], /, *args: *Ts) -> AdoptedTask: ...


def task(fn: Callable[..., Awaitable[object]], /, *args: object, **kwargs: object) -> AdoptedTask:
    """Adopt an async function that knows nothing of actors, so that it can be a child: ``child(task(serve, 80))``.

    A server's ``serve_forever``, say. It is supervised, restarted and stopped like any actor, and nobody can send
    it a message. It counts as ready before its first step, so that what it raises is a crash; or, if it has a
    parameter ``task_status``, when it calls ``task_status.started()``, and what it raises before is a start failure.

    It cannot hear a request to stop: instead it is cancelled at once, whatever its ``stop_timeout``. Its cleanup
    runs; as in all code that is cancelled, what cleanup awaits has to be shielded, ``with CancelScope(shield=True)``.
    What it raises then is a crash while stopping.

    Args:
        fn: The async function. Each incarnation calls it anew.
        *args: What it is called with.
        **kwargs: Likewise. ``task_status`` is passed by rookery.

    Returns:
        A behaviour, for `child` and ``spawn``.

    Raises:
        TypeError: if ``fn`` is no function, or an `Actor` class, or the arguments do not fit it.

    Example:
        >>> spec = child(task(server.serve_forever)).options(restart=Restart.PERMANENT)
        >>> await system.spawn(spec)
    """
    check_function("task", fn)
    _check_no_actor(fn)
    name = behaviour_name(fn)
    if STATUS in kwargs:
        raise TypeError(f"{name} is given its `task_status` by rookery: leave it out of `task({name}, ...)`")
    accepts = known_signature(fn)
    announces = accepts is not None and STATUS in accepts.parameters
    if accepts is not None:
        try:
            accepts.bind(*args, **kwargs, **({STATUS: None} if announces else {}))
        except TypeError as error:
            raise TypeError(
                f"{name}{accepts} cannot be called with these arguments: {error}; they go after the function, "
                f"`task({name}, ...)`"
            ) from None
    return AdoptedTask(fn, args, kwargs, announces=announces)


def _check_no_actor(fn: object) -> None:
    if inspect.isclass(fn) and issubclass(fn, Actor):
        raise TypeError(
            f"task() takes an async function, got {brief(fn)}, an `Actor` class, which is a behaviour already: write "
            f"`child({fn.__name__}, ...)`"
        )
