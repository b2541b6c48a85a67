"""A buffer on a real device against one numpy array: whatever happens to either side, the data is right."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from rookery import gpu
from rookery.gpu import BufferState

from .support import KERNELS, Stepped, without_shared_memory

N = 16
VALUES = st.integers(-1000, 1000)


class Buffer(RuleBasedStateMachine):
    """`expected` is the data, `stale` the side that has an older version of it, if any."""

    @initialize(shared=st.booleans())
    def open(self, shared: bool) -> None:
        self.stepped = Stepped()
        self.device = self.stepped.device if shared else without_shared_memory(self.stepped.device)
        self.shared = self.device.info.shares_host_memory
        self.increment = self.stepped.run(self.device.kernel(KERNELS, "increment"))
        self.buffer = self.stepped.run(self.device.empty(N))
        self.expected: np.ndarray | None = None
        self.on_host = self.on_device = False
        self.uploads = self.downloads = 0

    def teardown(self) -> None:
        if hasattr(self, "stepped"):
            self.stepped.close()

    def to_host(self) -> None:
        self.downloads += not self.on_host
        self.on_host = True

    def to_device(self) -> None:
        self.uploads += not self.on_device
        self.on_device = True

    @rule(value=VALUES, at_once=st.booleans())
    def write(self, value: int, at_once: bool) -> None:
        array = np.arange(value, value + 2 * N, 2, dtype=np.float32)
        self.expected = array.copy()
        if at_once:
            self.buffer.copy_from(array)
        else:
            self.stepped.run(self.buffer.write(array))
        array[:] = -1  # the caller's own, to be reused at once
        self.on_host, self.on_device = True, False

    @rule(index=st.integers(0, N - 1), value=VALUES)
    def write_through_the_view(self, index: int, value: int) -> None:
        if not self.on_host:
            with pytest.raises((gpu.StaleHost, gpu.NoData)):
                _ = self.buffer.host
            with pytest.raises((gpu.StaleHost, gpu.NoData)):
                self.buffer.mark_host_dirty()
            return
        assert self.expected is not None
        self.buffer.host[index] = self.expected[index] = value
        self.buffer.mark_host_dirty()
        self.on_device = False

    @rule(times=st.integers(1, 3))
    def launch(self, times: int) -> None:
        if self.expected is None:  # a kernel may fill a buffer: not this one
            return
        operations = [self.increment.submit(self.buffer) for _ in range(times)]
        self.stepped.run(operations[-1])
        self.expected = self.expected + times
        self.to_device()
        self.on_host = False

    @rule(awaited=st.booleans())
    def read(self, awaited: bool) -> None:
        if self.expected is None:
            with pytest.raises(gpu.NoData):
                self.stepped.run(self.buffer.read())
            return
        if awaited:
            result = self.stepped.run(self.buffer.read())
        else:
            self.stepped.run(self.buffer.ensure_on_host())
            self.buffer.copy_to(result := np.empty(N, np.float32))
        self.to_host()
        np.testing.assert_array_equal(self.expected, result)

    @rule()
    def ensure_on_device(self) -> None:
        if self.expected is None:
            with pytest.raises(gpu.NoData):
                self.stepped.run(self.buffer.ensure_on_device())
            return
        self.stepped.run(self.buffer.ensure_on_device())
        self.to_device()

    @invariant()
    def transfers_are_exactly_those_that_were_needed(self) -> None:
        if not hasattr(self, "buffer"):
            return
        seen = self.device.statistics()
        expected = (0, 0) if self.shared else (self.uploads, self.downloads)
        assert (seen.uploads, seen.downloads) == expected
        assert (seen.uploaded_bytes, seen.downloaded_bytes) == (expected[0] * N * 4, expected[1] * N * 4)

    @invariant()
    def the_state_is_exact(self) -> None:
        if not hasattr(self, "buffer") or self.expected is None:
            return
        state = self.buffer.state
        if self.on_host and self.on_device:
            assert state is BufferState.SYNCHRONIZED
        elif self.on_host:
            assert state in (BufferState.HOST_ONLY, BufferState.HOST_DIRTY)
        else:
            assert state in (BufferState.DEVICE_ONLY, BufferState.DEVICE_DIRTY)


TestBuffer = Buffer.TestCase
TestBuffer.settings = settings(max_examples=max(10, settings.default.max_examples // 2))
