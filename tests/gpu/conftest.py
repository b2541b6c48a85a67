"""Devices for tests: PoCL, so that no test needs a GPU."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import pytest

if importlib.util.find_spec("pyopencl") is None or importlib.util.find_spec("numpy") is None:
    collect_ignore_glob = ["test_*.py"]
else:
    from rookery import gpu

    from .support import DEVICE, KERNELS, without_shared_memory

    if TYPE_CHECKING:
        from collections.abc import AsyncIterator

    @pytest.fixture
    async def device() -> AsyncIterator[gpu.Device]:
        """An open device."""
        async with gpu.open_device(DEVICE) as device:
            yield device

    @pytest.fixture(params=["shared memory", "own memory"])
    async def either(request: pytest.FixtureRequest) -> AsyncIterator[gpu.Device]:
        """An open device that shares the host's memory, and one that does not."""
        async with gpu.open_device(DEVICE) as device:
            yield device if request.param == "shared memory" else without_shared_memory(device)

    @pytest.fixture
    async def program(device: gpu.Device) -> gpu.Program:
        """The kernels of these tests."""
        return await device.build(KERNELS)
