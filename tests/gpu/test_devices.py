"""Choosing, opening and closing devices, and what is said where it cannot be done."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import anyio
import anyio.to_thread
import attrs
import numpy as np
import pytest
import trio
import trio.testing

from rookery import gpu
from rookery._core._parking import current_loop, uninterrupted
from rookery._model.errors import RookeryError, WrongLoop
from rookery.gpu._pocl import cache_folder, known_processor
from rookery.gpu._select import select
from rookery.testing import virtual_clock

from .support import DEVICE, KERNELS, Gate

# --- choosing ---------------------------------------------------------------------------------------

POCL = gpu.DeviceInfo(
    index=0, name="pthread-AMD EPYC", vendor="AuthenticAMD", platform="Portable Computing Language", kind="cpu",
    driver="3.0", global_memory=1 << 32, max_allocation=1 << 30, compute_units=2, max_work_group_size=4096,
    shares_host_memory=True, fp64=True, fp16=False, platform_version="OpenCL 3.0 PoCL 3.0", version="OpenCL 3.0 PoCL",
    local_memory=1 << 20, host_unified_memory=True, svm=("coarse buffer", "fine buffer"),
)  # fmt: skip
INTEL = attrs.evolve(POCL, name="Intel(R) Xeon(R)", vendor="Intel(R) Corporation", platform="Intel(R) OpenCL")
NVIDIA = attrs.evolve(
    POCL, name="NVIDIA H100 80GB HBM3", vendor="NVIDIA Corporation", platform="NVIDIA CUDA", kind="gpu"
)


def numbered(*infos: gpu.DeviceInfo) -> list[gpu.DeviceInfo]:
    return [attrs.evolve(info, index=index) for index, info in enumerate(infos)]


@pytest.mark.parametrize(
    ("selector", "environment", "expected"),
    [
        (None, None, 2),
        (None, "", 2),
        (None, " ", 2),
        (None, "intel", 0),
        (None, "1", 1),
        ("pocl", "intel", 1),
        ("gpu", None, 2),
        ("cpu", None, 0),
        ("GPU", None, 2),
        ("nvidia", None, 2),
        ("h100", None, 2),
        ("Portable Computing Language", None, 1),
        ("epyc", None, 1),
        (0, "gpu", 0),
        ("2", None, 2),
    ],
)
def test_a_selector_picks_one(selector: str | int | None, environment: str | None, expected: int) -> None:
    """A name, vendor or platform, or part of one; a kind; an index. The argument counts before the environment."""
    assert select(numbered(INTEL, POCL, NVIDIA), selector, environment).index == expected


def test_without_a_gpu_it_is_pocl_and_never_silently_the_first() -> None:
    """The first may be anything."""
    assert select(numbered(INTEL, POCL), None, None).is_pocl
    with pytest.raises(gpu.NoDevice, match=r"neither a GPU nor PoCL, only \[0\] Intel.*open_device\(0\), or install"):
        select(numbered(INTEL), None, None)


@pytest.mark.parametrize(
    ("selector", "environment", "shown"),
    [
        ("tpu", None, r"'tpu'; there is \[0\] Intel\(R\) Xeon\(R\) \(cpu, Intel\(R\) OpenCL\), \[1\] pthread-AMD EPYC"),
        (7, None, "7; there is"),
        (-1, None, "-1; there is"),
        (None, "matrox", "ROOKERY_DEVICE=matrox; there is"),
        ("gpu", None, r"'gpu'; there is .*; for a GPU, install a driver"),
    ],
)
def test_an_unknown_device_is_named_with_those_there_are(
    selector: str | int | None, environment: str | None, shown: str
) -> None:
    """One error, a `LookupError`."""
    with pytest.raises(LookupError, match=f"no OpenCL device answers to {shown}") as caught:
        select(numbered(INTEL, POCL), selector, environment)
    assert isinstance(caught.value, RookeryError)


@pytest.mark.parametrize("selector", ["", "  "])
def test_an_empty_selector_is_not_silently_the_first(selector: str) -> None:
    """Everything contains the empty text."""
    with pytest.raises(gpu.NoDevice, match=r"names no device: write open_device\(\) for the default.*there is \[0\]"):
        select(numbered(INTEL, POCL), selector, None)


@pytest.mark.parametrize("selector", [True, 1.5, b"gpu"])
def test_other_selectors_are_type_errors(selector: object) -> None:
    """Not taken for an index."""
    with pytest.raises(TypeError, match=r'selected by name, vendor, "gpu", "cpu" or index, got '):
        select(numbered(POCL), selector, None)  # type: ignore[arg-type]


async def test_a_real_device_is_found_by_everything_it_is_called() -> None:
    """And by the environment."""
    found = gpu.devices()
    assert [info.index for info in found] == list(range(len(found)))
    mine = next(info for info in found if info.is_pocl)
    assert mine.shares_host_memory
    for selector in ("pocl", mine.name, mine.index, str(mine.index)):
        async with gpu.open_device(selector) as device:
            assert device.info == mine
    with pytest.raises(gpu.NoDevice, match=r"'no such thing'; there is .*Portable"):
        await gpu.open_device("no such thing").__aenter__()


def test_a_device_tells_what_it_can_do() -> None:
    """Everything that decides what to run on it, before it is opened."""
    mine = next(info for info in gpu.devices() if info.is_pocl)
    assert (mine.kind, mine.host_unified_memory, mine.fp64) == ("cpu", True, True)
    assert mine.version.startswith("OpenCL ")
    assert mine.platform_version.startswith("OpenCL ")
    assert mine.driver
    assert 0 < mine.local_memory <= mine.max_allocation <= mine.global_memory
    assert min(mine.compute_units, mine.max_work_group_size) > 0
    assert "coarse buffer" in mine.svm


async def test_the_environment_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the call does not."""
    monkeypatch.setenv("ROOKERY_DEVICE", "pocl")
    async with gpu.open_device() as device:
        assert device.info.is_pocl
    monkeypatch.setenv("ROOKERY_DEVICE", "abacus")
    with pytest.raises(gpu.NoDevice, match="ROOKERY_DEVICE=abacus"):
        await gpu.open_device().__aenter__()


@pytest.mark.parametrize("limit", [0, -1, 1.5, True])
async def test_a_memory_limit_is_a_number_of_bytes(limit: object) -> None:
    """The error shows how to write one."""
    with pytest.raises(ValueError, match=r"memory_limit is a number of bytes above zero, got .*: write 256 << 20"):
        await gpu.open_device(DEVICE, memory_limit=limit).__aenter__()  # type: ignore[arg-type]


async def test_a_memory_limit_is_within_the_memory_of_the_device() -> None:
    """The pool could not keep its promise."""
    with pytest.raises(
        ValueError, match=r"memory_limit=1,152,921,504,606,846,976 is more than the .* bytes of .*: leave"
    ):
        await gpu.open_device(DEVICE, memory_limit=1 << 60).__aenter__()


@pytest.mark.parametrize("timeout", [-1, "x", None, True, float("nan")])
async def test_a_close_timeout_is_a_number_of_seconds(timeout: object) -> None:
    """Told when the device is opened, not when it is closed."""
    with pytest.raises(
        gpu.ArgumentValueError, match=r"close_timeout is a number of seconds, at least 0, got .*: write close_t"
    ):
        await gpu.open_device(DEVICE, close_timeout=timeout).__aenter__()  # type: ignore[arg-type]


async def test_more_than_the_device_can_allocate_is_refused(device: gpu.Device) -> None:
    """At once."""
    with pytest.raises(gpu.OutOfDeviceMemory, match=r"is more than .* can allocate at once, .*: split it"):
        await device.empty(device.info.max_allocation + 1, np.int8)


# --- other machines, in processes of their own --------------------------------------------------------


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("missing", ["pyopencl", "numpy"])
def test_without_the_extra_the_import_says_what_to_install(missing: str) -> None:
    """One error, an `ImportError`."""
    done = run(
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from rookery._model.errors import RookeryError\n"
        "try:\n import rookery.gpu\n"
        "except ImportError as error: assert isinstance(error, RookeryError); print(error)"
    )
    assert done.stderr == ""
    assert f"rookery.gpu needs numpy and pyopencl (import of {missing} halted" in done.stdout
    assert 'pip install "rookery[gpu]", or "rookery[pocl]"' in done.stdout


def test_without_any_platform_the_error_says_what_to_install(tmp_path: Path) -> None:
    """And listing devices finds none."""
    done = run(
        "import trio; from rookery import gpu\n"
        "assert gpu.devices() == []\n"
        "async def main():\n"
        "    try:\n        await gpu.open_device('gpu').__aenter__()\n"
        "    except gpu.NoDevice as error: print(error)\n"
        "trio.run(main)",
        OCL_ICD_VENDORS=str(tmp_path / "nothing"),
    )
    assert done.stderr == ""
    assert "no OpenCL device was found: install a driver for your GPU" in done.stdout
    assert 'pip install "rookery[pocl]"' in done.stdout


def test_an_unwritable_cache_folder_is_replaced(tmp_path: Path) -> None:
    """PoCL would silently have no devices, and pyopencl could make no kernel."""
    blocked = tmp_path / "file"
    blocked.touch()
    done = run(
        "import os, trio; from rookery import gpu\n"
        f"async def main():\n    async with gpu.open_device('pocl') as device:\n"
        f"        await device.kernel({KERNELS!r}, 'add')\n        print(os.environ['POCL_CACHE_DIR'])\n"
        "trio.run(main)",
        XDG_CACHE_HOME=str(blocked),
        POCL_CACHE_DIR="",
    )
    assert done.stderr == ""
    assert "rookery-pocl-" in done.stdout
    assert not Path(done.stdout.strip()).exists(), "removed at exit"


HOMELESS = f"""
import os, pwd
os.environ.pop("HOME", None), os.environ.pop("XDG_CACHE_HOME", None)

def unknown(user):
    raise KeyError(user)

pwd.getpwuid = unknown
import trio
from rookery import gpu

async def main():
    async with gpu.open_device("pocl") as device:
        await device.kernel({KERNELS!r}, "add")
        await device.elementwise("float *x", "x[i] += 1")
        print("made", os.path.exists("~"))
trio.run(main)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the home folder is found otherwise there")
@pytest.mark.parametrize("no_cache", ["", "1"])
def test_without_a_home_folder_kernels_are_made(tmp_path: Path, no_cache: str) -> None:
    """As in a container whose user is only a number; also where pyopencl's cache is off."""
    cache = {"PYOPENCL_NO_CACHE": no_cache} if no_cache else {}
    done = run(HOMELESS, POCL_CACHE_DIR=str(tmp_path), **cache)
    assert (done.stdout, done.stderr) == ("made False\n", "")


@pytest.mark.skipif(sys.platform == "win32", reason="the home folder is found otherwise there")
def test_where_its_cache_is_off_pyopencl_is_not_asked_for_it(tmp_path: Path) -> None:
    """And whatever stands in its place is left alone."""
    done = run(
        "from rookery.gpu import _opencl\n_opencl.platformdirs = None\n_opencl.enter_process()\nprint('entered')",
        POCL_CACHE_DIR=str(tmp_path),
        PYOPENCL_NO_CACHE="1",
    )
    assert (done.stdout, done.stderr) == ("entered\n", "")


def test_where_pocl_keeps_its_cache() -> None:
    """PoCL's own rule."""
    assert cache_folder({"POCL_CACHE_DIR": "/a", "XDG_CACHE_HOME": "/b"}) == Path("/a")
    assert cache_folder({"XDG_CACHE_HOME": "/b", "HOME": "/c"}) == Path("/b/pocl/kcache")
    assert cache_folder({"HOME": "/c"}) == Path("/c/.cache/pocl/kcache")


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        ("fpu sse sse2", "x86-64"),
        ("sse2 cx16 lahf_lm popcnt sse4_1 sse4_2 ssse3", "penryn"),
        ("cx16 lahf_lm popcnt sse4_1 sse4_2 ssse3 abm avx avx2 bmi1 bmi2 f16c fma movbe", "haswell"),
        (
            "cx16 lahf_lm popcnt sse4_1 sse4_2 ssse3 abm avx avx2 bmi1 bmi2 f16c fma movbe avx512bw avx512cd "
            "avx512dq avx512f avx512vl",
            "skylake-avx512",
        ),
        ("avx512f avx512bw avx512cd avx512dq avx512vl", "x86-64"),
    ],
)
def test_a_processor_that_pocl_does_not_know_gets_a_name_it_knows(flags: str, name: str) -> None:
    """Of the most capable one that has nothing this one lacks."""
    assert known_processor(flags.split()) == name


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_is_told() -> None:
    """Where drivers hang."""
    done = run(
        "import os, sys, trio, warnings; from rookery import gpu\n"
        "warnings.simplefilter('ignore')\n"
        "async def main():\n"
        "    async with gpu.open_device('pocl') as device:\n"
        "        child = os.fork()\n"
        "        if child == 0:\n"
        "            for use in (gpu.devices, device.check_usable, lambda: device.pool.try_acquire(4)):\n"
        "                try:\n                    use()\n"
        "                except gpu.ForkedProcess as error: print(error, flush=True)\n"
        "            os._exit(0)\n"
        "        assert os.waitpid(child, 0)[1] == 0\n"
        "        await device.empty(4)\n"
        "trio.run(main)"
    )
    assert done.stderr == ""
    assert done.stdout.count("which forked this one") == 3
    assert 'multiprocessing.get_context("spawn")' in done.stdout


# --- loops, threads, and the end ----------------------------------------------------------------------


def test_loops_in_several_threads_have_devices_of_their_own() -> None:
    """Nothing is shared by them."""
    sums: list[float] = []

    async def main() -> None:
        async with gpu.open_device(DEVICE) as device:
            increment = await device.kernel(KERNELS, "increment")
            buffer = await device.upload(np.zeros(1000, np.float32))
            for _ in range(20):
                await increment(buffer)
            sums.append(float((await buffer.read()).sum()))

    threads = [threading.Thread(target=trio.run, args=(main,)) for _ in range(3)]
    threads += [threading.Thread(target=anyio.run, args=(main,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sums == [20_000.0] * 6


async def test_use_from_another_thread_is_refused(device: gpu.Device) -> None:
    """A device belongs to the loop that opened it."""

    def elsewhere() -> None:
        with pytest.raises(WrongLoop, match=r"belongs to the event loop that opened it, in another thread"):
            device.pool.try_acquire(4)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()


async def test_waiting_in_another_thread_is_refused(device: gpu.Device) -> None:
    """It would never be woken there."""
    increment = await device.kernel(KERNELS, "increment")
    buffer = await device.upload(np.zeros(4, np.float32))

    async def elsewhere() -> None:
        with pytest.raises(WrongLoop, match="belongs to an event loop in another thread: await this there"):
            await operation
        with pytest.raises(WrongLoop, match="belongs to an event loop in another thread"):
            await device.queue.synchronize()
        with pytest.raises(WrongLoop, match="belongs to the event loop that opened it"):
            await device.synchronize()

    with Gate(device.queue):
        operation = increment.submit(buffer)
        await anyio.to_thread.run_sync(trio.run, elsewhere)


async def test_after_the_block_everything_says_so() -> None:
    """Whatever is used."""
    async with gpu.open_device(DEVICE) as device:
        kernel = await device.kernel(KERNELS, "increment")
        buffer = await device.upload(np.zeros(4, np.float32))
        program = await device.build(KERNELS)
    closed = "is closed: use it inside its `async with open_device"
    with pytest.raises(gpu.DeviceClosed, match=closed):
        await device.empty(4)
    with pytest.raises(gpu.DeviceClosed, match=closed):
        await kernel(buffer)
    with pytest.raises(gpu.DeviceClosed, match=closed):
        await buffer.read()
    with pytest.raises(gpu.DeviceClosed, match=closed):
        device.pool.release(buffer)
    with pytest.raises(gpu.DeviceClosed, match=closed):
        program.kernel("add")
    with pytest.raises(gpu.DeviceClosed, match=closed):
        await device.build(KERNELS)
    seen = device.statistics().pool
    assert (seen.active_bytes, seen.in_flight_bytes, seen.held_bytes) == (0, 0, 0)


async def test_no_thread_outlives_the_block() -> None:
    """All are joined."""
    before = set(threading.enumerate())
    async with gpu.open_device(DEVICE) as device:
        increment = await device.kernel(KERNELS, "increment")
        await increment.submit(await device.upload(np.zeros(1 << 20, np.float32)))
        async with device.open_queue() as queue:
            await increment.submit(await device.upload(np.zeros(4, np.float32)), queue=queue)
        assert {thread.name for thread in set(threading.enumerate()) - before} >= {f"rookery: {device.queue.name}"}
    assert not [thread for thread in set(threading.enumerate()) - before if thread.name.startswith("rookery")]


LEFT_OPEN = """
import asyncio, sys, threading
import numpy as np
from rookery import gpu

async def main():
    opened = gpu.open_device("pocl")
    device = await opened.__aenter__()
    slow = await device.kernel("kernel void slow(global float *x, int n) { while (n--) x[0] += n; }", "slow")
    await slow(await device.upload(np.zeros(1, np.float32)), 1, size=1)
    slow.submit(await device.upload(np.zeros(1, np.float32)), 100_000_000, size=1)
    return opened, device

def left_open():
    loop = NEW_LOOP()
    kept.append((loop, loop.run_until_complete(main())))

kept = []
left_open()
left_open()
kept[0][0].close()
for daemon in (False, True):
    thread = threading.Thread(target=left_open, daemon=daemon)
    thread.start()
    thread.join()
print("the program is over", flush=True)
"""


@pytest.mark.parametrize("loop", ["asyncio.new_event_loop", "__import__('uvloop').new_event_loop"])
def test_a_device_that_nobody_closes_does_not_keep_the_process(loop: str) -> None:
    """Whether its loop was closed, or only left; its threads see the commands in flight to their end, and end."""
    if "uvloop" in loop:
        pytest.importorskip("uvloop")
    done = run(LEFT_OPEN.replace("NEW_LOOP", loop))
    assert (done.stdout, done.returncode) == ("the program is over\n", 0)


async def test_what_a_thread_did_is_dropped_by_the_thread_of_the_loop(device: gpu.Device) -> None:
    """Memory that returns to its pool in another thread would corrupt that; also what failed lets go of it here."""
    dropped: list[int] = []

    class Memory:
        def __del__(self) -> None:
            dropped.append(threading.get_ident())

        def work(self) -> None:
            if len(operations) % 2:
                raise ValueError("half of all fail")

    operations: list[object] = []
    for _ in range(300):
        operations.append(device.copies.submit(Memory().work, (), lambda: "work"))
        await current_loop().checkpoint()
    await device.copies.drain()
    operations.clear()
    gc.collect()
    assert dropped == [threading.get_ident()] * 300


async def test_closing_sends_those_home_who_wait_for_memory() -> None:
    """They would wait forever."""
    opened = gpu.open_device(DEVICE, memory_limit=10_000)
    device = await opened.__aenter__()
    held = await device.empty(2000)
    async with anyio.create_task_group() as tasks:

        async def wait() -> None:
            with pytest.raises(gpu.DeviceClosed, match="closed while this task waited for its memory"):
                await device.empty(2000)

        tasks.start_soon(wait)
        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        await opened.__aexit__(None, None, None)
    assert held.released


async def test_a_task_outside_the_block_that_goes_on_launching_is_refused() -> None:
    """So that the device has an end of its work to wait for, and whoever holds a lease can give it back."""
    opened = gpu.open_device(DEVICE, close_timeout=20)
    device = await opened.__aenter__()
    increment = await device.kernel(KERNELS, "increment")
    gate = Gate(device.queue)
    async with anyio.create_task_group() as tasks:

        async def work() -> None:
            of_the_queue = r"queue 0 of .* is closed: use it inside the `async with`"
            of_the_device = (
                r"is closed: use it inside its `async with open_device\(\)` block"  # if it is closed by then
            )
            with pytest.raises(gpu.DeviceClosed, match=f"{of_the_queue}|{of_the_device}"):
                async with device.pool.lease(4) as x:
                    x.copy_from(np.zeros(4, np.float32))
                    while True:
                        await increment(x)

        async def begin_late() -> None:
            gate.open()
            with pytest.raises(gpu.DeviceClosed, match=r"is being closed: use it inside its `async with open_device"):
                _ = device.uploads
            with pytest.raises(gpu.DeviceClosed, match="is being closed"):
                await device.open_queue().__aenter__()
            with pytest.raises(gpu.DeviceClosed, match=r"host copies of .* is closed"):
                await large.write(np.zeros(1 << 20, np.float32))
            with pytest.raises(gpu.DeviceClosed, match=r"compiler for .* is closed"):
                await device.build("kernel void never_built(global float *x) {}")

        large = await device.empty(1 << 20)
        tasks.start_soon(work)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(begin_late)
        await opened.__aexit__(None, None, None)
    assert device.statistics().pool.active_bytes == 0
    assert not [thread for thread in threading.enumerate() if device.info.name in thread.name]


async def test_what_pierces_the_shield_of_a_closing_device_is_raised_when_it_is_closed(anyio_backend_name: str) -> None:
    """Only asyncio cancels tasks regardless of scopes; Ctrl-C on trio is likewise, below."""
    if anyio_backend_name == "trio":
        pytest.skip("trio has scopes only")
    gates: list[Gate] = []
    opened: list[gpu.Device] = []

    async def main(how: str, begun: anyio.Event) -> None:
        async with gpu.open_device(DEVICE) as device:
            opened.append(device)
            increment = await device.kernel(KERNELS, "increment")
            x = await device.upload(np.zeros(4, np.float32))
            if how == "queue":
                async with device.open_queue() as queue:
                    gates.append(Gate(queue))
                    increment.submit(x, queue=queue)
                    begun.set()
            gates.append(Gate(device.queue))
            increment.submit(x)
            begun.set()

    for how in ("device", "queue"):
        begun = anyio.Event()
        task = asyncio.create_task(main(how, begun))
        await begun.wait()
        await anyio.wait_all_tasks_blocked()
        for _ in range(2):
            task.cancel()
            await anyio.wait_all_tasks_blocked()
        assert not task.done(), "it waits for the command, whatever comes"
        gates.pop().open()
        with pytest.raises(asyncio.CancelledError):
            await task
        device = opened.pop()
        assert device.statistics().in_flight == 0
        assert device.statistics().queues == 1
        assert not [thread for thread in threading.enumerate() if device.info.name in thread.name]


async def test_what_pierces_the_shield_does_not_hide_that_a_device_did_not_finish(anyio_backend_name: str) -> None:
    """It carries the complaint as a note."""
    if anyio_backend_name == "trio":
        pytest.skip("trio has scopes only")
    gates: list[Gate] = []

    async def main() -> None:
        async with gpu.open_device(DEVICE, close_timeout=0.2) as device:
            increment = await device.kernel(KERNELS, "increment")
            x = await device.upload(np.zeros(4, np.float32))
            gates.append(Gate(device.queue))
            increment.submit(x)
            begun.set()

    begun = anyio.Event()
    task = asyncio.create_task(main())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    gates[0].open()
    assert re.match(r".* did not finish within \d+\.\d s", caught.value.__notes__[0])


@pytest.mark.skipif(sys.platform == "win32", reason="signals are different there")
def test_an_interrupt_while_a_device_closes_is_raised_when_it_is_closed() -> None:
    """On trio, where it is raised in the main task wherever that waits."""
    closed: list[gpu.Device] = []

    async def main() -> None:
        async with trio.open_nursery() as nursery, gpu.open_device(DEVICE) as device:
            increment = await device.kernel(KERNELS, "increment")
            gate = Gate(device.queue)
            increment.submit(await device.upload(np.zeros(4, np.float32)))
            closed.append(device)

            @uninterrupted  # else it would be raised in here
            async def interrupt() -> None:
                await trio.testing.wait_all_tasks_blocked()
                signal.raise_signal(signal.SIGINT)
                await trio.testing.wait_all_tasks_blocked()
                assert not device.closed
                gate.open()

            nursery.start_soon(interrupt)

    with pytest.raises(BaseExceptionGroup) as caught:
        trio.run(main)
    assert [type(error) for error in caught.value.exceptions] == [KeyboardInterrupt]
    assert closed[0].closed
    assert closed[0].statistics().in_flight == 0


async def test_a_device_that_does_not_finish_is_complained_about(caplog: pytest.LogCaptureFixture) -> None:
    """The block ends at its deadline, loudly, and says what is still in flight."""
    opened = gpu.open_device(DEVICE, close_timeout=0)
    device = await opened.__aenter__()
    increment = await device.kernel(KERNELS, "increment")
    buffer = await device.upload(np.zeros(4, np.float32))
    with Gate(device.queue) as gate:
        increment.submit(buffer)
        with pytest.raises(
            TimeoutError, match=r"did not finish within \d+\.\d s: 1 still in flight, <Operation kernel 'incr"
        ):
            await opened.__aexit__(None, None, None)
        assert [record.levelno for record in caplog.records] == [logging.CRITICAL]
        assert device.pool.statistics().in_flight_bytes == buffer.reserved, "its memory is not freed under it"
        gate.open()
    while device.queue.in_flight:
        await current_loop().checkpoint()
    pool = device.pool.statistics()
    assert (pool.active_bytes, pool.in_flight_bytes, pool.held_bytes) == (0, 0, 0), "nor is it kept for anybody"


@pytest.mark.parametrize("loop", ["trio", "asyncio"])
def test_a_device_is_waited_for_in_real_time(loop: str) -> None:
    """On a virtual clock an hour passes at once, while its commands take their time."""
    timers: list[threading.Timer] = []

    async def main() -> None:
        async with anyio.create_task_group() as tasks, gpu.open_device(DEVICE, close_timeout=100) as device:
            increment = await device.kernel(KERNELS, "increment")
            gate = Gate(device.queue)
            increment.submit(await device.upload(np.zeros(4, np.float32)))

            async def finish() -> None:
                await anyio.sleep(3600)
                timers.extend(thread for thread in threading.enumerate() if isinstance(thread, threading.Timer))
                gate.open()

            tasks.start_soon(finish)
        assert device.statistics().in_flight == 0
        assert [timer.daemon for timer in timers] == [True], "one that is abandoned does not keep the process"
        assert not [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]

    name, options = virtual_clock(loop)
    anyio.run(main, backend=name, backend_options=options)


def no_more_threads(_: threading.Timer) -> None:
    raise RuntimeError("can't start new thread")


async def test_where_no_thread_can_be_started_a_device_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the loop goes on meanwhile."""
    monkeypatch.setattr(threading.Timer, "start", no_more_threads)
    opened = gpu.open_device(DEVICE)
    device = await opened.__aenter__()
    increment = await device.kernel(KERNELS, "increment")
    gate = Gate(device.queue)
    increment.submit(await device.upload(np.zeros(4, np.float32)))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(opened.__aexit__, None, None, None)
        await anyio.wait_all_tasks_blocked()
        assert not device.closed
        gate.open()
    assert device.closed
    assert device.statistics().in_flight == 0


@pytest.mark.parametrize("loop", ["trio", "asyncio"])
def test_where_no_thread_can_be_started_the_loop_keeps_the_deadline(loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its own clock."""
    monkeypatch.setattr(threading.Timer, "start", no_more_threads)

    async def main() -> None:
        opened = gpu.open_device(DEVICE, close_timeout=100)
        device = await opened.__aenter__()
        increment = await device.kernel(KERNELS, "increment")
        with Gate(device.queue) as gate:
            increment.submit(await device.upload(np.zeros(4, np.float32)))
            began = anyio.current_time()
            with pytest.raises(gpu.DeviceStuck, match="1 still in flight"):
                await opened.__aexit__(None, None, None)
            assert 99 < anyio.current_time() - began < 101
            gate.open()
        while device.queue.in_flight:
            await current_loop().checkpoint()

    name, options = virtual_clock(loop)
    anyio.run(main, backend=name, backend_options=options)


async def test_whatever_else_keeps_the_deadline_from_being_set_is_raised(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """After the complaint: without an await, trying again would hold the loop for ever."""

    def no_memory(_: threading.Timer) -> None:
        raise MemoryError

    opened = gpu.open_device(DEVICE)
    device = await opened.__aenter__()
    increment = await device.kernel(KERNELS, "increment")
    with Gate(device.queue) as gate:
        increment.submit(await device.upload(np.zeros(4, np.float32)))
        with monkeypatch.context() as patched:
            patched.setattr(threading.Timer, "start", no_memory)
            with pytest.raises(MemoryError):
                await opened.__aexit__(None, None, None)
        gate.open()
    assert device.closed
    assert "1 still in flight" in caplog.text
    while device.queue.in_flight:
        await current_loop().checkpoint()


async def test_what_ended_the_block_is_not_hidden_by_a_device_that_does_not_finish() -> None:
    """It carries the complaint as a note."""
    gates: list[Gate] = []

    async def main() -> None:
        async with gpu.open_device(DEVICE, close_timeout=0) as device:
            increment = await device.kernel(KERNELS, "increment")
            buffer = await device.upload(np.zeros(4, np.float32))
            gates.append(Gate(device.queue))
            increment.submit(buffer)
            raise KeyError("the news")

    with pytest.raises(KeyError, match="the news") as caught:
        await main()
    assert re.search(r"did not finish within \d+\.\d s", caught.value.__notes__[0])
    gates[0].open()
