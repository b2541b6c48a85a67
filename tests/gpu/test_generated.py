"""Elementwise kernels and reductions: against numpy, and what is refused."""

from __future__ import annotations

import re
from typing import Any

import anyio
import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rookery import gpu

from .support import DEVICE, Gate, Stepped

AXPY = "float a, const float *x, float *y"


@pytest.mark.parametrize("size", [1, 63, 64, 1000, 300_001])
async def test_an_elementwise_kernel_touches_each_element_once(either: gpu.Device, size: int) -> None:
    """Whatever their number, and none behind the last."""
    axpy = await either.elementwise(AXPY, "y[i] += a * x[i]", name="axpy")
    x, y = np.arange(size, dtype=np.float32), np.ones(size, np.float32)
    on_device = await either.upload(x), await either.upload(y)
    await axpy(2, *on_device)
    np.testing.assert_array_equal(2 * x + y, await on_device[1].read())
    assert on_device[0].state is gpu.BufferState.SYNCHRONIZED, "const is read only"
    assert str(axpy.signature) == "axpy(float a, const float* x, float* y)"


async def test_an_elementwise_kernel_is_launched_like_any_other(device: gpu.Device) -> None:
    """Chains, queues, shapes, and the order of those that share a buffer."""
    twice = await device.elementwise("float *x", "x[i] = F(x[i])", preamble="#define F(x) (2 * (x))")
    x = await device.upload(np.ones((3, 5), np.float32))
    async with device.open_queue() as queue:
        with Gate(device.queue):
            twice.submit(x)
            last = twice.submit(x, queue=queue)
            assert not last.done
        await last
    assert (await x.read() == 4).all()


@pytest.mark.parametrize("size", [1, 4096, 4097, 1_000_003])
@pytest.mark.parametrize("dtype", [np.int32, np.float64])
async def test_a_reduction_is_that_of_numpy(device: gpu.Device, size: int, dtype: type) -> None:
    """Of one group, and of many."""
    c_name = {np.int32: "int", np.float64: "double"}[dtype]
    dot = await device.reduction(
        dtype, neutral=0, reduce="a + b", map="x[i] * y[i]", arguments=f"const {c_name} *x, const {c_name} *y"
    )
    rng = np.random.default_rng(size)
    x, y = (rng.integers(0, 10, size).astype(dtype) for _ in range(2))
    result = await dot(await device.upload(x), await device.upload(y))
    assert (result, result.dtype) == (np.dot(x, y), dtype)


class TestModel:
    """Against numpy, for any numbers."""

    stepped: Stepped
    largest: gpu.Reduction

    @classmethod
    def setup_class(cls) -> None:
        cls.stepped = Stepped()
        cls.largest = cls.stepped.run(
            cls.stepped.device.reduction(
                np.int64, neutral="LONG_MIN", reduce="a > b ? a : b", map="x[i]", arguments="const long *x"
            )
        )

    @classmethod
    def teardown_class(cls) -> None:
        del cls.largest
        cls.stepped.close()

    @given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=300), st.integers(1, 200))
    def test_the_largest_is_found_wherever_it_is(self, numbers: list[int], times: int) -> None:
        """In any group."""
        array = np.tile(np.array(numbers, np.int64), times)
        assert self.stepped.run(self.largest(self.stepped.run(self.stepped.device.upload(array)))) == max(numbers)


async def test_reductions_in_flight_do_not_disturb_each_other(device: gpu.Device) -> None:
    """Although they share what is between their stages; on one queue and on several."""
    total = await device.reduction(np.float32, neutral=0, reduce="a + b", map="x[i]", arguments="const float *x")
    ones, twos = await device.upload(np.ones(100_000, np.float32)), await device.upload(np.full(200_000, 2, np.float32))
    outs = [await device.empty((), np.float32) for _ in range(4)]
    async with device.open_queue() as queue:
        with Gate(device.queue):
            total.submit(ones, out=outs[0])
            total.submit(twos, out=outs[1], queue=queue)
            total.submit(ones, out=outs[2], queue=queue)
            total.submit(twos, out=outs[3])
    await device.synchronize()
    assert [float(await out.read()) for out in outs] == [100_000, 400_000, 100_000, 400_000]


async def test_a_cancelled_reduction_gives_its_memory_back(device: gpu.Device) -> None:
    """When it is over."""
    total = await device.reduction(np.float32, neutral=0, reduce="a + b", map="x[i]", arguments="const float *x")
    x = await device.upload(np.ones(10, np.float32))
    before = device.pool.statistics()
    with Gate(device.queue), anyio.CancelScope() as scope:
        scope.cancel()
        await total(x)
    await device.synchronize()
    after = device.pool.statistics()
    assert (after.active_bytes, after.in_flight_bytes) == (before.active_bytes, 0)


async def test_a_reduction_is_counted_as_one_launch_under_its_name() -> None:
    """Of one stage or two, with the time of both, also if it fails."""
    async with gpu.open_device(DEVICE, profile=True) as device:
        total = await device.reduction(
            np.float32, neutral=0, reduce="a + b", map="x[i]", arguments="const float *x", name="total"
        )
        for launches, size in enumerate((10, 100_000), start=1):
            assert await total(await device.upload(np.ones(size, np.float32))) == size
            shown = [event for event in device.trace()["traceEvents"] if event["name"] == "kernel 'total'"]
            assert len(shown) == 2 * launches - 1
            (counted,) = device.statistics().kernels.items()
            seconds = counted[1].seconds
            assert counted == ("total", gpu.KernelStatistics(launches, launches, 0, seconds))
            assert seconds == pytest.approx(sum(event["dur"] for event in shown) / 1e6)


async def test_a_reduction_that_fails_is_counted_and_told_once(
    device: gpu.Device, caplog: pytest.LogCaptureFixture
) -> None:
    """Although both of its stages fail."""
    total = await device.reduction(
        np.float32, neutral=0, reduce="a + b", map="x[i]", arguments="const float *x", name="total"
    )
    x, out = await device.upload(np.ones(100_000, np.float32)), await device.empty(())
    with Gate(device.queue) as gate:
        operation = total.submit(x, out=out)
        gate.fail()
        with pytest.raises(gpu.CommandFailed, match="kernel 'total' failed"):
            await operation
    assert device.statistics().kernels == {"total": gpu.KernelStatistics(1, 0, 1, None)}
    await device.synchronize()
    assert not caplog.records


async def test_wrong_uses_of_generated_kernels_are_refused(device: gpu.Device) -> None:
    """In the words of what was declared; afterwards both still work."""
    axpy = await device.elementwise(AXPY, "y[i] += a * x[i]", name="axpy")
    total = await device.reduction(
        np.float32, neutral=0, reduce="a + b", map="x[i]", arguments="const float *x", name="total"
    )
    x, short = await device.upload(np.ones(10, np.float32)), await device.upload(np.ones(3, np.float32))
    with pytest.raises(TypeError, match=r"kernel 'axpy' takes 3 arguments, got 2: .* `await axpy\(a, x, y\)`"):
        await axpy(1, x)
    with pytest.raises(ValueError, match=r"argument 'y' .* has 3 elements and 'x' has 10"):
        await axpy(1, x, short)
    with pytest.raises(TypeError, match=r"argument 'x' .* needs a buffer of float32, got one of int32"):
        await axpy(1, await device.upload(np.ones(10, np.int32)), x)
    with pytest.raises(TypeError, match=r"kernel 'total' takes 1 arguments, got 0"):
        await total()
    with pytest.raises(TypeError, match=r"argument 'x' \(const float\* x\) of kernel 'total' needs a buffer, got"):
        await total(np.ones(3))  # type: ignore[arg-type]
    for wrong in (await device.empty((), np.int32), 5):
        with pytest.raises(TypeError, match=r"out of 'total' is a buffer of float32, got .*empty\(\(\), np\.float32\)"):
            total.submit(x, out=wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"out of 'total' has one element, got"):
        total.submit(x, out=await device.empty(2))
    async with gpu.open_device(DEVICE) as other:
        foreign = await other.upload(np.ones(10, np.float32))
        with pytest.raises(ValueError, match=r"'y' .* needs a buffer of its own device"):
            axpy.submit(1, x, foreign)
        with pytest.raises(ValueError, match=r"'x' .* needs a buffer of its own device"):
            total.submit(foreign, out=await device.empty(()))
    await axpy(1, x, x)
    assert await total(x) == 20


async def test_what_cannot_be_generated_is_refused(device: gpu.Device) -> None:
    """Before or by the compiler, with what to write."""
    for arguments, message in [
        ("float a", "has no buffer to take elements from: write"),
        ("flaot *x", r"is no C argument list \(unknown type 'flaot'\)"),
        ("__local float *x", r"is no C argument list \(cannot deal with local"),
        ("", "is no C argument list"),
    ]:
        with pytest.raises(gpu.ArgumentValueError, match=message):
            await device.elementwise(arguments, "x[i] = 0")
    with pytest.raises(gpu.ArgumentTypeError, match="operation is a text in C, got 5"):
        await device.elementwise("float *x", 5)  # type: ignore[arg-type]
    with pytest.raises(gpu.ArgumentValueError, match=r"returns, and would .*: write PYOPENCL_ELWISE_CONTINUE"):
        await device.elementwise("float *x", "if (x[i] > 0) return; x[i] = 0")
    with pytest.raises(gpu.ArgumentValueError, match="named like a function in C, got name='a b'"):
        await device.elementwise("float *x", "x[i] = 0", name="a b")
    with pytest.raises(gpu.BuildFailed, match="did not compile"):
        await device.elementwise("const float *x", "x[i] = 0")
    for part in ("reduce", "map"):
        code = {"reduce": "a + b", "map": "x[i]", part: "a // sum\n + b"}
        with pytest.raises(gpu.ArgumentValueError, match=rf"{part}='a // sum.* becomes a macro, .*: write /\* "):
            await device.reduction(np.float32, neutral=0, arguments="const float *x", **code)
    device.info = attrs.evolve(device.info, fp64=False)  # type: ignore[misc]
    with pytest.raises(
        gpu.ArgumentTypeError, match=r"the result of a reduction is of float64, and .* does not compute"
    ):
        await device.reduction(np.float64, neutral=0, reduce="a + b", map="x[i]", arguments="const float *x")
    with pytest.raises(gpu.ArgumentTypeError, match="does not compute with double"):
        await device.elementwise("double *x", "x[i] = 0")


ELEMENTWISE = {"operation": "x[i] = 0"}
REDUCTION = {"neutral": "0", "reduce": "a + b", "map": "x[i]"}


@pytest.mark.parametrize(
    ("parts", "shown"),
    [
        ({**ELEMENTWISE, "operation": "x[i] += 1;\nx[i] = q"}, {"<operation>:2:8": "x[i] = q"}),
        (
            {"operation": "F(x[i])", "preamble": "\n#define F(a) q"},
            {"<operation>:1:1": "F(x[i])", "<preamble>:2:14": "#define F(a) q"},
        ),
        ({**ELEMENTWISE, "preamble": "float f(float a)\n{ return q; }"}, {"<preamble>:2:10": "{ return q; }"}),
        ({**REDUCTION, "preamble": "float f(float a)\n{ return q; }"}, {"<preamble>:2:10": "{ return q; }"}),
        ({**REDUCTION, "reduce": "a + q"}, {"<reduce>:1:6": "a + q"}),
        ({**REDUCTION, "reduce": "q +\na + b"}, {"<reduce>:1:2": "q +"}),
        ({**REDUCTION, "map": "x[i] +\nq"}, {"<map>:2:2": "q"}),
        ({**REDUCTION, "neutral": "q"}, {"<neutral>:1:1": "q"}),
    ],
)
async def test_a_build_error_shows_the_line_that_was_written(
    device: gpu.Device, parts: dict[str, Any], shown: dict[str, str]
) -> None:
    """Of each part, once, however often it is used; and of a macro where it was written as well."""
    with pytest.raises(gpu.BuildFailed, match="undeclared identifier 'q'") as caught:
        if "operation" in parts:
            await device.elementwise("float *x", **parts)
        else:
            await device.reduction(np.float32, arguments="const float *x", **parts)
    said = str(caught.value)
    assert said.count("undeclared identifier 'q'") == 1
    for place, line in shown.items():
        assert said.count(place) == 1
        assert len(re.findall(rf"^[ \d|]*{re.escape(line)}$", said, re.MULTILINE)) == 1
