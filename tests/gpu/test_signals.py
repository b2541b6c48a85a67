"""A terminal's Ctrl-C does not reach the driver's compiler."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from rookery import gpu
from rookery.gpu import _opencl
from rookery.gpu._signals import compiler_undisturbed

SOURCE = "kernel void copy(global const float *x, global float *y) { y[get_global_id(0)] = x[get_global_id(0)]; }"
ASK = "import signal; print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))"

pytestmark = pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="needs signal masks")


def blocked() -> bool:
    """Whether this thread blocks SIGINT, and so what it starts."""
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_what_is_started_meanwhile_is_deaf_to_it() -> None:
    """A child process inherits the mask, and this thread has its own back afterwards."""
    with compiler_undisturbed():
        answer = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, check=True)
    assert answer.stdout == "True\n"
    assert not blocked()


async def test_the_first_launch_with_a_local_size_is_undisturbed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Because the driver may compile then; later launches pay nothing for it."""
    seen: list[bool] = []
    launch = _opencl.launch

    def watched(*args: Any) -> Any:
        seen.append(blocked())
        return launch(*args)

    async with gpu.open_device("cpu") as device:
        copy = await device.kernel(SOURCE, "copy")
        x, y = await device.upload(np.arange(128, dtype=np.float32)), await device.empty(128)
        monkeypatch.setattr(_opencl, "launch", watched)
        for local in (64, 64, 32, 64):
            await copy(x, y, local=local)
    assert seen == [True, False, True, False]
