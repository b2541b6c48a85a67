"""Devices for tests: PoCL, so that no test needs a GPU."""

from __future__ import annotations

import importlib.util
import inspect
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if importlib.util.find_spec("pyopencl") is None or importlib.util.find_spec("numpy") is None:
    collect_ignore_glob = ["test_*.py"]
else:
    from rookery import gpu

    from .support import DEVICE, KERNELS, without_shared_memory

    if TYPE_CHECKING:
        from collections.abc import AsyncIterator

    HELD_BACK = ("Gate(", ".wait, (), lambda", "_start_replacing(")
    """What makes commands wait until another thread, or the test itself, lets them go on."""

    def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
        """Leave out what another device than PoCL cannot do, or not in a minute."""
        if DEVICE != "pocl":
            for item in items:
                if item.path.parent == Path(__file__).parent and (reason := too_much(item)):
                    item.add_marker(pytest.mark.skip(reason))

    def too_much(item: pytest.Item) -> str | None:
        """Why a test is left out; None if it is not."""
        values = item.callspec.params.values() if hasattr(item, "callspec") else ()
        functions = [item.function, *filter(inspect.isfunction, values)] if isinstance(item, pytest.Function) else []
        # The function of a stateful machine does not say what that does.
        machine = item.name == "runTest"
        source = inspect.getsource(item.module) if machine else "".join(map(inspect.getsource, functions))
        if ".fail()" in source:
            return "what stands behind a failed command is run all the same"
        if DEVICE != "oclgrind":
            return None
        if any(held_back in source for held_back in HELD_BACK):
            return "it runs a command when it is flushed, and would wait there for the gate to be opened"
        if "raises(gpu.BuildFailed" in "".join(source.split()):
            return "its compiler takes no note of #line"
        if any(isinstance(value, int) and value > 10_000 for value in values):
            return "it takes a microsecond for each instruction of each work item, and waits for ever for what a thread copies"
        return None

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
