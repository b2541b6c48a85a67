"""What the ring-kernel face raises beside the core's own errors."""

from __future__ import annotations

from .._model.errors import RookeryError


class KernelTimeout(RookeryError, TimeoutError):
    """A kernel took or gave no message within the ``timeout``."""


class KernelStateError(RookeryError, RuntimeError):
    """The kernel's state does not allow what was asked for."""


class UnknownKernel(RookeryError, LookupError):
    """No kernel of this id was launched here, or none is registered under it."""


class AmbiguousKernel(RookeryError, LookupError):
    """Several kernels are registered under one id, and a launch by that id cannot mean all of them."""


class RuntimeNotOpen(RookeryError, RuntimeError):
    """A runtime was used outside of its ``async with`` block, or opened twice."""


class StateFileError(RookeryError, OSError):
    """A kernel cannot keep its state in this file: another does, or the file cannot be read or written here."""


class StateDamaged(RookeryError, ValueError):
    """Neither the file of a kernel's state nor the one before it is good, so that nothing can be restored."""


class StateNotSaved(RookeryError, RuntimeError):
    """A kernel's state could not be saved; what was saved before is as it was. The reason is the ``__cause__``."""
