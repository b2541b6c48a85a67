"""The table of buffer states, against a model that just counts versions."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from rookery.gpu import BufferState, NoData, StaleHost
from rookery.gpu._states import HOST_READABLE, TRANSITIONS, Action, Transfer, step


class TwoSides(RuleBasedStateMachine):
    """A side is the version of the data it holds, None before it ever held any."""

    def __init__(self) -> None:
        super().__init__()
        self.state = BufferState.UNINITIALIZED
        self.clock = 0
        self.host: int | None = None
        self.device: int | None = None

    def newest(self) -> int | None:
        return max((side for side in (self.host, self.device) if side is not None), default=None)

    def tick(self) -> int:
        self.clock += 1
        return self.clock

    @rule()
    def replace_host(self) -> None:
        self.state, transfer = step(self.state, Action.REPLACE_HOST)
        assert transfer is None
        self.host = self.tick()

    @rule()
    def write_device(self) -> None:
        self.state, transfer = step(self.state, Action.WRITE_DEVICE)
        assert transfer is None
        self.device = self.tick()

    @rule()
    def modify_host(self) -> None:
        if self.newest() is None or self.host != self.newest():
            with pytest.raises((NoData, StaleHost)):
                step(self.state, Action.MODIFY_HOST)
        else:
            self.state, transfer = step(self.state, Action.MODIFY_HOST)
            assert transfer is None
            self.host = self.tick()

    @rule(side=st.sampled_from(["host", "device"]))
    def need(self, side: str) -> None:
        action, copy = {
            "host": (Action.NEED_HOST, Transfer.TO_HOST),
            "device": (Action.NEED_DEVICE, Transfer.TO_DEVICE),
        }[side]
        if self.newest() is None:
            with pytest.raises(NoData):
                step(self.state, action)
            return
        current = getattr(self, side) == self.newest()
        self.state, transfer = step(self.state, action)
        assert transfer is (None if current else copy), "exactly one transfer for each change"
        setattr(self, side, self.newest())

    @rule()
    def transfer_to_device_fails(self) -> None:
        if self.host is None or self.device is None:
            return
        self.state, _ = step(self.state, Action.LOSE_DEVICE)
        if self.device == self.newest() and self.host == self.newest():
            self.host = self.tick()  # as good as newer: the device does not have it

    @invariant()
    def the_state_says_which_side_is_newer(self) -> None:
        if self.host is None:
            expected = BufferState.UNINITIALIZED if self.device is None else BufferState.DEVICE_ONLY
        elif self.device is None:
            expected = BufferState.HOST_ONLY
        elif self.host == self.device:
            expected = BufferState.SYNCHRONIZED
        else:
            expected = BufferState.HOST_DIRTY if self.host > self.device else BufferState.DEVICE_DIRTY
        assert expected is self.state
        assert (self.host is not None and self.host == self.newest()) is (self.state in HOST_READABLE)


TestTwoSides = TwoSides.TestCase


def test_every_state_is_reached_and_left() -> None:
    """No row of the table is dead."""
    reached = {after for row in TRANSITIONS.values() for after, _ in row.values()}
    assert set(BufferState) - {BufferState.UNINITIALIZED} == reached


def test_a_forbidden_step_says_what_to_write_instead() -> None:
    """One error for each reason."""
    with pytest.raises(NoData, match=r"nothing was written to this buffer yet; write `await buffer\.write\(array\)`"):
        step(BufferState.UNINITIALIZED, Action.NEED_HOST)
    with pytest.raises(StaleHost, match=r"'device dirty'.*`await buffer\.ensure_on_host\(\)`"):
        step(BufferState.DEVICE_DIRTY, Action.MODIFY_HOST)
