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
