"""One runtime under random use, beside a naive model: states and telemetry are what was counted, on each loop."""

from __future__ import annotations

import itertools
import math
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import attrs
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from rookery import ActorStopped, Intensity, MailboxFull
from rookery._core.system import engine_of
from rookery.ring import KernelContext, KernelState, KernelStateError, RingKernelRuntime
from stepped import Backend, Stepped
from worlds import set_turns

from .support import Ping, Pong

WORK, TALK, ANSWER, CRASH, RETURN = range(5)
PLAIN, GROUPED = ("a",), ("b", "c")
KERNELS = st.sampled_from([*PLAIN, *GROUPED])
ERRANDS = st.tuples(st.sampled_from([WORK, WORK, TALK, ANSWER, CRASH, RETURN]), st.sampled_from([0, 128, 128, 255]))
CAPACITY = 2


async def kernel(ctx: KernelContext[Any, Any]) -> None:
    """Does what it is told."""
    while not ctx.should_terminate:
        ping = await ctx.receive()
        match ping.number:
            case 1:
                await ctx.send(Pong(ping.priority))
            case 2:
                await ctx.send(Pong(ping.priority, correlation_id=ping.message_id))
            case 3:
                raise ValueError(f"crash {ping.priority}")
            case 4:
                return
            case _:
                pass


@attrs.define
class Modelled:
    """What there is to know of a kernel, by the most naive means. Between two steps it has no message in work."""

    strategy: str
    state: KernelState = KernelState.LAUNCHED
    waiting: list[tuple[int, int]] = attrs.Factory(list)
    output: list[int] = attrs.Factory(list)
    processed: int = 0
    dropped: int = 0
    errors: list[str] = attrs.Factory(list)

    def accepts(self) -> bool:
        """Whether one more message is accepted."""
        return self.strategy == "drop_oldest" or len(self.waiting) < CAPACITY

    def put(self, errand: tuple[int, int]) -> None:
        """It is sent this."""
        self.waiting.append(errand)
        if len(self.waiting) > CAPACITY:
            self.waiting.remove(min(self.waiting, key=lambda waiting: waiting[1]))
            self.dropped += 1

    def say(self, number: int) -> None:
        """It sends this: what it crashes with is that it could not."""
        if len(self.output) < CAPACITY:
            self.output.append(number)
        elif self.strategy == "drop_oldest":
            self.output = [*self.output[1:], number]
            self.dropped += 1
        else:
            raise ValueError("the output queue")

    def work(self) -> bool:
        """Do the most urgent errand; whether it crashed."""
        errand = max(self.waiting, key=lambda waiting: waiting[1])
        self.waiting.remove(errand)
        what, priority = errand
        try:
            if what == CRASH:
                raise ValueError(f"crash {priority}")
            if what in (TALK, ANSWER):
                self.say(priority)
        except ValueError as error:
            self.errors.append(str(error))
            return True
        self.processed += 1
        if what == RETURN:
            self.end()
        return False

    def end(self) -> None:
        """It has ended; what it has sent can still be received."""
        self.state = KernelState.TERMINATED
        self.waiting.clear()

    def reset(self) -> None:
        """Count anew."""
        self.processed = self.dropped = 0
        self.errors.clear()


class RuntimeMachine(RuleBasedStateMachine):
    """Kernels of their own, and kernels in a group that tolerates no crash, so that all of them begin a new life."""

    backend: Backend

    def __init__(self) -> None:
        super().__init__()
        self.model: dict[str, Modelled] = {}
        self.ended: dict[str, float] = {}
        self.stepped = Stepped(self.backend)
        self.stepped.run(lambda: self.stepped.start(self.block))

    async def block(self) -> None:
        self.leave = anyio.Event()
        async with RingKernelRuntime(intensity=Intensity(10**6, per=1.0)) as self.runtime:
            system = self.runtime._running()
            set_turns(system, (reading * 1e-9 for reading in itertools.count()))
            self.turn = engine_of(system).turn
            await self.runtime.supervise("group", intensity=Intensity(0, per=1.0))
            await self.leave.wait()

    def teardown(self) -> None:
        self.stepped.run(self.leave.set)
        self.stepped.close()

    def do(self, call: Callable[[], Any], error: type[Exception] | None = None) -> Any:
        """Call it, and let it come to rest; it is to raise that."""

        async def attempt() -> Any:
            self.turn.renew()  # so that nobody else has a turn before the step is over
            try:
                result = call()
                return await result if isinstance(result, Awaitable) else result
            except Exception as raised:  # noqa: BLE001  # a step that raises is not waited for to come to rest
                return raised

        result = self.stepped.run(attempt)
        if error is None and isinstance(result, Exception):
            raise result
        if error is not None:
            assert isinstance(result, error), result
            return None
        return result

    def alive(self, kernel_id: str) -> bool:
        return kernel_id in self.model and self.model[kernel_id].state is not KernelState.TERMINATED

    def let_work(self) -> None:
        """Whoever is active does what waits for it."""
        for kernel_id, modelled in self.model.items():
            while modelled.state is KernelState.ACTIVE and modelled.waiting:
                crashed = modelled.work()
                if crashed and kernel_id in GROUPED:
                    for other in GROUPED:
                        if other in self.model:
                            self.model[other].waiting.clear()

    # ---- what is done

    @initialize(strategies=st.lists(st.sampled_from(["reject", "drop_oldest"]), min_size=3, max_size=3))
    def launch_all(self, strategies: list[str]) -> None:
        for kernel_id, strategy in zip([*PLAIN, *GROUPED], strategies, strict=True):
            self.launch(kernel_id, strategy)
            self.switch(kernel_id, activate=True)

    @rule(kernel_id=KERNELS, strategy=st.sampled_from(["reject", "drop_oldest"]))
    def launch(self, kernel_id: str, strategy: str) -> None:
        parent = "group" if kernel_id in GROUPED else None
        alive = self.alive(kernel_id)
        self.do(
            lambda: self.runtime.launch(kernel_id, kernel, parent=parent, queue_size=CAPACITY, backpressure=strategy),
            KernelStateError if alive else None,
        )
        if not alive:
            self.model.pop(kernel_id, None)
            self.model[kernel_id] = Modelled(strategy)

    @rule(kernel_id=KERNELS, activate=st.booleans())
    def switch(self, kernel_id: str, activate: bool) -> None:
        if kernel_id not in self.model:
            return
        modelled = self.model[kernel_id]
        possible = self.alive(kernel_id) and (modelled.state is KernelState.ACTIVE) != activate
        possible &= activate or modelled.state is not KernelState.LAUNCHED
        step = self.runtime.activate if activate else self.runtime.deactivate
        self.do(lambda: step(kernel_id), None if possible else KernelStateError)
        if possible:
            modelled.state = KernelState.ACTIVE if activate else KernelState.DEACTIVATED
            self.let_work()

    @rule(kernel_id=KERNELS, errands=st.lists(ERRANDS, min_size=1, max_size=5))
    def send(self, kernel_id: str, errands: list[tuple[int, int]]) -> None:
        """Nobody works before all of them are there, as nothing lets the kernel run until then."""
        if kernel_id not in self.model:
            return
        modelled = self.model[kernel_id]
        pings = [Ping(what, priority=priority) for what, priority in errands]
        sent: list[int] = []

        async def send() -> None:
            batch = self.runtime.send_batch(kernel_id, pings)
            try:
                await batch
            finally:
                sent.append(batch.sent)

        expected = 0
        while self.alive(kernel_id) and expected < len(errands) and modelled.accepts():
            modelled.put(errands[expected])
            expected += 1
        error = None if expected == len(errands) else MailboxFull if self.alive(kernel_id) else ActorStopped
        self.do(send, error)
        assert sent == [expected]
        self.let_work()

    @rule(kernel_id=KERNELS)
    def ask(self, kernel_id: str) -> None:
        """The reply is the caller's, and takes no room in the output queue."""
        if kernel_id not in self.model or (
            self.alive(kernel_id) and self.model[kernel_id].state is not KernelState.ACTIVE
        ):
            return
        alive = self.alive(kernel_id)
        call = lambda: self.runtime.send_and_receive(kernel_id, Ping(ANSWER))  # noqa: E731
        assert self.do(call, None if alive else ActorStopped) == (Pong(128) if alive else None)
        self.model[kernel_id].processed += alive

    @rule(kernel_id=KERNELS, count=st.integers(1, 3))
    def receive(self, kernel_id: str, count: int) -> None:
        if kernel_id not in self.model or (self.alive(kernel_id) and not self.model[kernel_id].output):
            return
        modelled = self.model[kernel_id]
        taken, modelled.output = modelled.output[:count], modelled.output[count:]
        call = lambda: self.runtime.receive_batch(kernel_id, count)  # noqa: E731
        pongs = self.do(call, None if taken else ActorStopped)
        assert [pong.number for pong in pongs or ()] == taken

    @rule(kernel_id=KERNELS)
    def terminate(self, kernel_id: str) -> None:
        if kernel_id in self.model:
            self.do(lambda: self.runtime.terminate(kernel_id))
            self.model[kernel_id].end()

    @rule()
    def terminate_all(self) -> None:
        self.do(self.runtime.terminate_all)
        for modelled in self.model.values():
            modelled.end()

    @rule(kernel_id=st.one_of(st.none(), KERNELS))
    def reset(self, kernel_id: str | None) -> None:
        if kernel_id is None or kernel_id in self.model:
            self.do(lambda: self.runtime.reset_telemetry(kernel_id))
            for known, modelled in self.model.items():
                if kernel_id in (None, known):
                    modelled.reset()
                    self.ended.pop(known, None)

    # ---- what is to be seen

    @invariant()
    def everything_is_as_counted(self) -> None:
        self.do(self.check)

    def check(self) -> None:
        runtime, model = self.runtime, self.model
        assert list(runtime.get_all_telemetry()) == list(model)
        assert runtime.kernel_ids == [kernel_id for kernel_id in model if self.alive(kernel_id)]
        assert runtime.active_kernels == [
            kernel_id for kernel_id, modelled in model.items() if modelled.state is KernelState.ACTIVE
        ]
        for kernel_id, modelled in model.items():
            assert runtime.get_kernel_state(kernel_id) is modelled.state
            self.check_telemetry(kernel_id, modelled)
        summary = runtime.get_summary()
        assert summary["total_messages_processed"] == sum(modelled.processed for modelled in model.values())
        assert summary["total_messages_dropped"] == sum(modelled.dropped for modelled in model.values())
        assert summary["total_queue_depth"] == sum(len(modelled.waiting) for modelled in model.values())
        assert summary["total_errors"] == sum(len(modelled.errors) for modelled in model.values())
        assert summary["states"] == {kernel_id: modelled.state.value for kernel_id, modelled in model.items()}

    def check_telemetry(self, kernel_id: str, modelled: Modelled) -> None:
        seen = self.runtime.get_telemetry(kernel_id)
        assert seen is not None
        assert seen.messages_processed == modelled.processed
        assert seen.messages_dropped == modelled.dropped
        assert seen.queue_depth == len(modelled.waiting)
        assert seen.error_count == len(modelled.errors)
        if modelled.errors:
            assert modelled.errors[-1] in str(seen.last_error)
        else:
            assert seen.last_error is None
        assert 0 <= seen.min_latency <= seen.p50_latency <= seen.p99_latency <= seen.max_latency
        assert seen.min_latency <= seen.avg_latency * (1 + 1e-9)
        assert seen.avg_latency <= seen.max_latency * (1 + 1e-9)
        assert (seen.max_latency > 0) == (modelled.processed > 0)
        assert math.isclose(seen.throughput * seen.uptime_seconds, modelled.processed)
        if modelled.state is KernelState.TERMINATED:
            assert self.ended.setdefault(kernel_id, seen.uptime_seconds) == seen.uptime_seconds
        else:
            self.ended.pop(kernel_id, None)


def test_a_runtime_is_its_naive_model(anyio_backend: Backend) -> None:
    """States, ids, queues, errors and every field of the telemetry, per kernel, for all and summed."""
    machine = type("Machine", (RuntimeMachine,), {"backend": anyio_backend})
    run_state_machine_as_test(
        machine, settings=settings(max_examples=max(settings().max_examples, min(2 * settings().max_examples, 1000)))
    )
