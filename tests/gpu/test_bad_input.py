"""Bad input: one clear error for each, nothing left behind, and the device is usable afterwards."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rookery import RookeryError, gpu
from rookery.gpu._arrays import understand_dtype

from .support import DEVICE, KERNELS, Gate

LIMIT = 1 << 20

Misuse = Callable[[gpu.Device], Awaitable[Any]]


async def wrong_dtype(device: gpu.Device) -> None:
    await (await device.kernel(KERNELS, "increment"))(await device.upload(np.zeros(4, np.int32)))


async def wrong_dtype_written(device: gpu.Device) -> None:
    await (await device.empty(4)).write(np.zeros(4))


async def wrong_shape(device: gpu.Device) -> None:
    await (await device.empty((2, 3))).write(np.zeros((3, 2), np.float32))


async def wrong_lengths(device: gpu.Device) -> None:
    a, b = await device.upload(np.zeros(4, np.float32)), await device.upload(np.zeros(5, np.float32))
    await (await device.kernel(KERNELS, "add"))(a, b, b, 4)


async def no_elements(device: gpu.Device) -> None:
    await device.upload(np.zeros(0, np.float32))


async def no_work_items(device: gpu.Device) -> None:
    await (await device.kernel(KERNELS, "fill"))(await device.empty(4), 1, size=0)


async def above_the_limit(device: gpu.Device) -> None:
    await device.upload(np.zeros(LIMIT, np.float32))


async def above_what_the_device_allocates(device: gpu.Device) -> None:
    await device.empty(device.info.max_allocation + 1, np.int8)


async def closed_device(device: gpu.Device) -> None:
    async with gpu.open_device(DEVICE) as other:
        buffer = await other.upload(np.zeros(4, np.float32))
    await buffer.read()


async def copy_of_a_closed_device(device: gpu.Device) -> None:
    async with gpu.open_device(DEVICE) as other:
        buffer = await other.upload(np.zeros(4, np.float32))
    await device.copy(buffer)


async def foreign_buffer(device: gpu.Device) -> None:
    async with gpu.open_device(DEVICE) as other:
        await (await device.kernel(KERNELS, "increment"))(await other.upload(np.zeros(4, np.float32)))


async def foreign_release(device: gpu.Device) -> None:
    async with gpu.open_device(DEVICE) as other:
        device.pool.release(await other.empty(4))


async def released_buffer(device: gpu.Device) -> None:
    buffer = await device.upload(np.zeros(4, np.float32))
    device.pool.release(buffer)
    await device.copy(buffer)


async def unwritten_buffer(device: gpu.Device) -> None:
    await (await device.empty(4)).read()


async def broken_source(device: gpu.Device) -> None:
    await device.build("kernel void f(global float *x) { x[0] = ; }")


async def failing_kernel(device: gpu.Device) -> None:
    fill, x = await device.kernel(KERNELS, "fill"), await device.empty(4)
    with Gate(device.queue) as gate:
        operation = fill.submit(x, 1)
        gate.fail()
        await operation


@pytest.mark.parametrize(
    ("misuse", "error", "builtin", "instead"),
    [
        (wrong_dtype, gpu.ArgumentTypeError, TypeError, "make it with dtype=np.float32"),
        (wrong_dtype_written, gpu.ArgumentTypeError, TypeError, "`np.asarray(x, dtype=np.float32)`"),
        (wrong_shape, gpu.ArgumentValueError, ValueError, "`x.reshape((2, 3))`"),
        (wrong_lengths, gpu.ArgumentValueError, ValueError, "size=..."),
        (no_elements, gpu.ArgumentValueError, ValueError, "make every side 1 or more"),
        (no_work_items, gpu.ArgumentValueError, ValueError, "size=1024"),
        (above_the_limit, gpu.OutOfDeviceMemory, MemoryError, "a larger memory_limit"),
        (above_what_the_device_allocates, gpu.OutOfDeviceMemory, MemoryError, "split it"),
        (closed_device, gpu.DeviceClosed, RuntimeError, "`async with open_device()` block"),
        (copy_of_a_closed_device, gpu.DeviceClosed, RuntimeError, "`async with open_device()` block"),
        (foreign_buffer, gpu.ArgumentValueError, ValueError, "`await device.copy(buffer)`"),
        (foreign_release, gpu.ArgumentValueError, ValueError, "`buffer.pool.release(buffer)`"),
        (released_buffer, gpu.BufferReleased, RuntimeError, "acquire another"),
        (unwritten_buffer, gpu.NoData, ValueError, "`await buffer.write(array)` first"),
        (broken_source, gpu.BuildFailed, ValueError, "x[0] = ;"),
        (failing_kernel, gpu.CommandFailed, RuntimeError, "kernel 'fill' failed"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_bad_input_is_one_error_after_which_the_device_works(
    misuse: Misuse, error: type[Exception], builtin: type[Exception], instead: str
) -> None:
    """It is also the built-in that fits, says what to write instead, and takes no memory with it."""
    async with gpu.open_device(DEVICE, memory_limit=LIMIT) as device:
        with pytest.raises(error) as caught:
            await misuse(device)
        assert isinstance(caught.value, builtin)
        assert instead in str(caught.value)
        del caught
        increment = await device.kernel(KERNELS, "increment")
        x = await device.upload(np.zeros(100, np.float32))
        await increment(x)
        assert (await x.read() == 1).all()
        whole = LIMIT * 15 // 16 - 2 * x.reserved  # what rounding leaves of it
        device.pool.release(x)
        device.pool.trim()
        device.pool.release(await device.empty(whole, np.int8))
        assert device.pool.statistics().active_bytes == 0


# --- what is said --------------------------------------------------------------------------------------


@attrs.frozen
class Things:
    """What there is on a device to be used wrongly."""

    device: gpu.Device
    program: gpu.Program
    x: gpu.UnifiedBuffer
    """Eight floats."""
    six: gpu.UnifiedBuffer
    local: gpu.LocalMemory

    def fill(self, *args: Any, **how: Any) -> Any:
        return self.program.kernel("fill")(*(args or (self.x, 1)), **how)

    def everything(self, f: Any = 1, i: Any = 1, u: Any = 1, v: Any = None, scratch: Any = None) -> Any:
        kernel = self.program.kernel("everything")
        return kernel(f, i, u, 1, self.x if v is None else v, self.local if scratch is None else scratch, size=1)


BAD: list[tuple[Callable[[Things], Any], type[Exception], str, str]] = [
    # devices and programs
    (lambda _: gpu.open_device(1.5).__aenter__(), TypeError, "got 1.5", 'write open_device("gpu"), or open_device(0)'),  # type: ignore[arg-type]
    (lambda _: gpu.open_device(True).__aenter__(), TypeError, "got True", 'write open_device("gpu")'),
    (lambda _: gpu.open_device("radeon").__aenter__(), gpu.NoDevice, "'radeon'", "write open_device(0)"),
    (lambda _: gpu.open_device(99).__aenter__(), gpu.NoDevice, "99", "write open_device(0)"),
    (lambda _: gpu.open_device("").__aenter__(), gpu.NoDevice, "''", "write open_device()"),
    (lambda _: gpu.open_device(memory_limit=0).__aenter__(), ValueError, "got 0", "write 256 << 20"),
    (lambda _: gpu.open_device(close_timeout=-1).__aenter__(), ValueError, "got -1", "write close_timeout=30"),
    (lambda it: it.device.build(5), TypeError, "got 5", "write build(Path("),
    (lambda it: it.device.build(KERNELS, "-DN=1"), TypeError, "'-DN=1'", "write ['-DN=1']"),
    (lambda it: it.device.build(KERNELS, [1]), TypeError, "got [1]", 'write ["-DN=16"]'),
    (lambda it: it.program.kernel("nope"), LookupError, "'nope'", "write program.kernel("),
    (lambda it: it.device.elementwise("float a", "a"), ValueError, "'float a'", 'write "const float *x'),
    (lambda it: it.device.elementwise("float *x", 5), TypeError, "got 5", 'write operation="..."'),
    # buffers, their shapes and dtypes, and arrays
    (lambda it: it.device.empty(0), ValueError, "shape 0", "make every side 1 or more"),
    (lambda it: it.device.empty((2, -1)), ValueError, "(2, -1)", "make every side 1 or more"),
    (lambda it: it.device.empty(2.5), TypeError, "got 2.5", "write 1024, (64, 32) or array.shape"),
    (lambda it: it.device.empty("8"), TypeError, "got '8'", "write 1024"),
    (lambda it: it.device.empty(True), TypeError, "got True", "write 1024"),
    (lambda it: it.device.empty([2, True]), TypeError, "got [2, True]", "write 1024"),
    (lambda it: it.device.empty(3, "nonsense"), TypeError, "got 'nonsense'", "write np.float32, or x.dtype"),
    (lambda it: it.device.empty(3, "f4,("), TypeError, "got 'f4,('", "write np.float32"),
    (lambda it: it.device.empty(3, [("a", "f4"), ("a", "f4")]), TypeError, "[('a', 'f4')", "write np.float32"),
    (lambda it: it.device.empty(3, np.zeros(2)), TypeError, "got array([0., 0.])", "write np.float32"),
    (
        lambda it: it.device.empty(3, {"names": ["a"], "formats": ["f4"], "offsets": [10**30]}),
        TypeError,
        "'offsets': [1000000",
        "write np.float32, or x.dtype",
    ),
    (lambda it: it.device.empty(3, "V0"), ValueError, "dtype('V')", "write np.float32"),
    (lambda it: it.device.empty(3, []), ValueError, "dtype([])", "write np.float32"),
    (
        lambda it: it.device.empty(3, "(2,)f4"),
        TypeError,
        "dtype(('<f4', (2,)))",
        "write np.dtype('float32'), and make (2,)",
    ),
    (lambda it: it.device.empty(3, object), TypeError, "dtype('O')", "write `np.asarray(x, dtype=np.float32)`"),
    (lambda it: it.device.upload([1, 2]), TypeError, "got [1, 2]", "write `np.asarray(x, dtype=np.float32)`"),
    (lambda it: it.device.upload(None), TypeError, "got None", "write `np.asarray(x, dtype=np.float32)`"),
    (lambda it: it.device.upload(np.array(["a"])), TypeError, "dtype('<U1')", "write `np.asarray("),
    (lambda it: it.device.upload(np.zeros(2, "S")), TypeError, "dtype('S1')", "write `np.frombuffer("),
    (lambda it: it.device.upload(np.zeros(2, ">f4")), TypeError, "dtype('>f4')", "write `x.astype("),
    (lambda it: it.device.upload(np.ma.masked_array([1.0])), TypeError, "masked array", "write `x.filled(0)`"),
    (lambda it: it.device.copy(None), TypeError, "got None", "write `await device.upload(array)`"),
    (
        lambda it: it.device.copy(np.zeros(3)),
        TypeError,
        "got array([0., 0., 0.])",
        "write `await device.upload(array)`",
    ),
    (lambda it: it.device.pool.release(None), TypeError, "got None", "pass what `await pool.acquire(shape)` returned"),
    (lambda it: it.device.pool.release(np.zeros(1)), TypeError, "got array([0.])", "pass what `await pool.acquire("),
    # how large a launch is
    (lambda it: it.fill(size=0), ValueError, "got 0", "write size=1024 or size=(64, 32)"),
    (lambda it: it.fill(size=-1), ValueError, "got -1", "write size=1024"),
    (lambda it: it.fill(size=8.0), ValueError, "got 8.0", "write size=1024"),
    (lambda it: it.fill(size="8"), ValueError, "got '8'", "write size=1024"),
    (lambda it: it.fill(size=True), ValueError, "got True", "write size=1024"),
    (lambda it: it.fill(size=[2, True]), ValueError, "got [2, True]", "write size=1024"),
    (lambda it: it.fill(size=[1, 1, 1, 1]), ValueError, "got [1, 1, 1, 1]", "write size=1024"),
    (lambda it: it.fill(size=1 << 63), ValueError, "9223372036854775808", "launch it several times"),
    (lambda it: it.fill(local=True), ValueError, "got True", "write local=1024 or local=(64, 32)"),
    (lambda it: it.fill(local=1 << 20), ValueError, "groups of 1048576", "write local=64, or leave it out"),
    (lambda it: it.fill(size=8, local=(8, 1)), ValueError, "local=(8, 1)", "write local=64, or leave it out"),
    (lambda it: it.fill(size=(8, 1), local=8), ValueError, "local=(8,)", "write local=(64, 1), or leave it out"),
    # what a launch is given
    (lambda it: it.fill(it.x), TypeError, "got 1", "write `await fill(x, value)`"),
    (lambda it: it.fill(np.zeros(1), 1), TypeError, "got ndarray array([0.])", "make one with `await device.upload("),
    (lambda it: it.fill(None, 1), TypeError, "got NoneType None", "make one with `await device.upload(array)`"),
    (lambda it: it.fill(it.x, "1"), TypeError, "got str '1'", "pass 1.5, or np.float32(1.5)"),
    (lambda it: it.everything(f=1e40), ValueError, "got 1e+40", "pass a smaller number"),
    (lambda it: it.everything(i=1.0), TypeError, "got float 1.0", "pass 10, or np.int32(10)"),
    (lambda it: it.everything(i=True), TypeError, "got bool True", "pass 10, or np.int32(10)"),
    (lambda it: it.everything(u=256), ValueError, "got 256", "pass a smaller number"),
    (lambda it: it.everything(v=it.six), ValueError, "a buffer of 24 bytes", "make its length a multiple of 4"),
    (lambda it: it.everything(scratch=64), TypeError, "got int 64", "pass gpu.LocalMemory(nbytes)"),
    (
        lambda it: it.everything(scratch=gpu.LocalMemory(1 << 40)),
        ValueError,
        "1,099,511,627,776",
        "pass gpu.LocalMemory(",
    ),
    (lambda _: gpu.LocalMemory("a"), TypeError, "got 'a'", "write gpu.LocalMemory(64 * 4)"),  # type: ignore[arg-type]
    (lambda _: gpu.LocalMemory(True), TypeError, "got True", "write gpu.LocalMemory(64 * 4)"),
    (lambda _: gpu.LocalMemory(0), ValueError, "got 0", "write gpu.LocalMemory(64 * 4)"),
    (
        lambda it: it.fill(queue="q"),
        TypeError,
        "got str 'q'",
        "open one with `async with device.open_queue() as queue`",
    ),
    (lambda it: it.program.kernel("fill").submit(it.x, 1, after=["q"]), TypeError, "got ['q']", "write after=["),
]
"""What is done, the error, what it says came, and what it says to write instead."""


async def refusal(misuse: Callable[[Things], Any], things: Things) -> Exception | None:
    try:
        done = misuse(things)
        if inspect.isawaitable(done):
            await done
    except Exception as error:  # noqa: BLE001 - which one is what is looked at
        return error
    return None


async def test_every_error_shows_the_value_and_what_to_write_instead(device: gpu.Device, program: gpu.Program) -> None:
    """And is one of rookery's, but for a `LookupError`; after each the device is usable, and has no more in use."""
    six = await device.upload(np.zeros(6, np.float32))
    things = Things(device, program, await device.upload(np.zeros(8, np.float32)), six, gpu.LocalMemory(64))
    active = device.pool.statistics().active_bytes
    for number, (misuse, expected, got, instead) in enumerate(BAD, start=1):
        error = await refusal(misuse, things)
        assert isinstance(error, expected), (got, instead, error)
        assert isinstance(error, RookeryError) or expected is LookupError, error
        assert got in str(error), error
        assert instead in str(error), error
        await program.kernel("increment")(things.x)
        assert (await things.x.read() == number).all(), error
        assert device.pool.statistics().active_bytes == active, error


async def test_sides_may_be_in_a_list(device: gpu.Device, program: gpu.Program) -> None:
    """Those of a buffer as well as those of a launch."""
    x = await device.empty([2, 3])  # type: ignore[arg-type]
    assert x.shape == (2, 3)
    await program.kernel("fill")(x, 1, size=[6], local=[2])  # type: ignore[arg-type]
    assert (await x.read() == 1).all()


@given(st.text(alphabet="fiuSUVOT?248,()<>[]'x ", max_size=8) | st.integers() | st.lists(st.text(max_size=2)))
def test_whatever_is_given_as_a_dtype_is_understood_or_refused(dtype: Any) -> None:
    """In rookery's words, also where numpy raises something else for it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kind = None
        with suppress(gpu.ArgumentTypeError, gpu.ArgumentValueError):
            kind = understand_dtype(dtype)
    assert kind is None or kind.itemsize > 0
