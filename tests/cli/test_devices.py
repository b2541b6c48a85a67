"""``python -m rookery devices``: what it lists, what it tries, and what it finds missing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import pytest

from rookery import gpu
from rookery._cli import devices
from rookery._cli.devices import described, size
from rookery._cli.drivers import Machine, diagnose

from .conftest import COMMAND
from .terminal import Terminal

if TYPE_CHECKING:
    from .conftest import Rookery

pytestmark = pytest.mark.once  # a process each

# --- the command ------------------------------------------------------------------------------------


def test_every_device_is_listed_and_tried(rookery: Rookery) -> None:
    """With what it can do, and which one is taken by default."""
    done = rookery("devices", POCL_DEVICES="pthread pthread")
    assert (done.returncode, done.stderr) == (0, "")
    for index in (0, 1):
        assert re.search(rf"^\[{index}\] \S+", done.stdout, re.MULTILINE)
    assert len(re.findall(r"trial +compiled and ran a kernel in \d+\.\d\d s", done.stdout)) == 2
    assert re.search(r"memory +\d.* iB", done.stdout.replace("GiB", " iB").replace("MiB", " iB"))
    assert "open_device() takes [0]" in done.stdout
    assert "(ROOKERY_DEVICE is not set)" in done.stdout


def test_it_looks_the_same_on_a_terminal() -> None:
    """Plain lines, and nothing that a terminal would have to undo."""
    with Terminal([*COMMAND, "devices"]) as terminal:
        assert terminal.wait() == 0
    assert "\x1b" not in terminal.shown
    assert re.search(r"trial +compiled and ran a kernel", terminal.shown)
    assert "open_device() takes [0]" in terminal.shown


def test_no_device_is_said_with_what_to_install(rookery: Rookery, tmp_path: Path) -> None:
    """And is exit status 1."""
    done = rookery("devices", OCL_ICD_VENDORS=str(tmp_path / "nothing"))
    assert (done.returncode, done.stderr) == (1, "")
    assert "missing: no OpenCL device was found: install a driver for your GPU" in done.stdout


@pytest.mark.parametrize("environment", ["abacus", "gpu"])
def test_a_device_that_the_environment_asks_for_in_vain_is_named(rookery: Rookery, environment: str) -> None:
    """The others are listed all the same, but the exit status is 1: no program would get one."""
    done = rookery("devices", ROOKERY_DEVICE=environment, POCL_DEVICES="pthread")
    assert done.returncode == 1
    assert "compiled and ran a kernel" in done.stdout
    assert f"open_device() takes none: no OpenCL device answers to ROOKERY_DEVICE={environment}" in done.stdout


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("kernel void twice(global float *x) { oops; }", "FAILED: the OpenCL source did not compile"),
        ("kernel void twice(global float *x) { x[get_global_id(0)] *= 3; }", "FAILED: a kernel computed wrong numbers"),
        (None, "FAILED: build takes OpenCL C as text"),
    ],
)
def test_a_device_that_does_not_work_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], source: object, told: str
) -> None:
    """The exit status is 1, and what else is to be said is said."""
    monkeypatch.setattr(devices, "TRIAL", source)
    assert devices.main() == 1
    shown = capsys.readouterr().out
    assert re.search(told, shown)
    assert "open_device() takes [" in shown


def test_a_driver_that_raises_anything_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By what it raised."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError("by the driver")

    monkeypatch.setattr(gpu, "open_device", broken)
    assert devices.main() == 1
    assert "FAILED: ZeroDivisionError('by the driver')" in capsys.readouterr().out


@pytest.mark.parametrize("module", ["pyopencl", "numpy"])
def test_without_the_extra_it_is_one_line(rookery: Rookery, module: str) -> None:
    """That says what to install."""
    done = rookery("devices", without=(module,))
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert 'pip install "rookery[gpu]"' in line


def test_an_unwritable_cache_is_complained_about(rookery: Rookery, tmp_path: Path) -> None:
    """The device works, because a temporary folder stands in, or nothing is kept; and the advice helps."""
    blocked, folder = tmp_path / "file", str(tmp_path / "folder")
    blocked.touch()
    done = rookery("devices", POCL_CACHE_DIR="", XDG_CACHE_HOME=str(blocked))
    assert (done.returncode, done.stderr) == (0, "")
    pocl, pyopencl = re.findall("^missing: .*", done.stdout, re.MULTILINE)
    assert pocl.startswith(f"missing: PoCL cannot write to its cache, {blocked / 'pocl'}")
    assert "set POCL_CACHE_DIR" in pocl
    assert pyopencl.startswith(f"missing: pyopencl cannot write to its cache, {blocked / 'pytools'}")
    assert "set XDG_CACHE_HOME to a folder that can be written, or PYOPENCL_NO_CACHE=1" in pyopencl
    for done in (
        rookery("devices", POCL_CACHE_DIR="", XDG_CACHE_HOME=folder),
        rookery("devices", POCL_CACHE_DIR=folder, XDG_CACHE_HOME=str(blocked), PYOPENCL_NO_CACHE="1"),
    ):
        assert (done.returncode, "missing" in done.stdout) == (0, False)


def test_a_missing_home_folder_is_named(machine: Machine) -> None:
    """With what to set, unless that is set."""
    (line,) = diagnose([], attrs.evolve(machine, invokers=None))
    assert "no home folder: set HOME, or XDG_CACHE_HOME, to a folder" in line
    environment = {**machine.environment, "PYOPENCL_NO_CACHE": "1"}
    assert diagnose([], attrs.evolve(machine, invokers=None, environment=environment)) == []


# --- a device in lines ------------------------------------------------------------------------------


def test_a_device_is_described_by_all_it_can_do() -> None:
    """One line for each thing."""
    (mine, *_) = gpu.devices()
    info = attrs.evolve(mine, global_memory=3 << 29, fp64=False, fp16=True, svm=(), host_unified_memory=False)
    text = "\n".join(described(info))
    assert "1.5 GiB, its own" in text
    assert "fp64 no, fp16 yes" in text
    assert re.search(r"SVM +none", text)
    assert info.driver in text
    assert info.platform_version in text


@pytest.mark.parametrize(
    ("nbytes", "shown"), [(80 << 30, "80 GiB"), (48 << 10, "48 KiB"), (3 << 19, "1.5 MiB"), (12, "12 bytes")]
)
def test_sizes_are_readable(nbytes: int, shown: str) -> None:
    """In the largest unit that fits."""
    assert size(nbytes) == shown


# --- what is missing --------------------------------------------------------------------------------


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine with nothing in it."""
    return Machine({"POCL_CACHE_DIR": str(tmp_path / "cache")}, tmp_path, invokers=tmp_path / "invokers")


def place(machine: Machine, path: str, text: str) -> Path:
    file = machine.root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def test_nothing_is_missing_where_nothing_is(machine: Machine) -> None:
    """No GPU, no complaint."""
    assert diagnose(gpu.devices(), machine) == []


@pytest.mark.parametrize(
    ("number", "maker", "package"),
    [
        ("0x10de", "NVIDIA", "nvidia-opencl-icd"),
        ("0x1002", "AMD", "rocm-opencl"),
        ("0x8086", "Intel", "intel-opencl-icd"),
    ],
)
def test_a_gpu_without_a_driver_is_named_with_its_packages(
    machine: Machine, number: str, maker: str, package: str
) -> None:
    """Unless OpenCL has a GPU of that maker."""
    place(machine, "sys/class/drm/renderD128/device/vendor", number + "\n")
    (line,) = diagnose(gpu.devices(), machine)
    assert f"a GPU of {maker}" in line
    assert package in line
    there = attrs.evolve(gpu.devices()[0], kind="gpu", vendor=f"{maker} Corporation")
    assert diagnose([there], machine) == []
    processor = attrs.evolve(there, kind="cpu")
    assert len(diagnose([processor], machine)) == 1, "a processor of that maker is not its GPU"


def test_a_gpu_that_a_container_was_given_is_seen(machine: Machine) -> None:
    """It has no node for drawing there."""
    place(machine, "proc/driver/nvidia/version", "NVRM version: …")
    (line,) = diagnose([], machine)
    assert "NVIDIA_DRIVER_CAPABILITIES=compute" in line


def test_a_driver_that_does_not_load_is_named(machine: Machine) -> None:
    """With the file that announces it, and the reason."""
    file = place(machine, "etc/OpenCL/vendors/broken.icd", "libnothing-at-all.so.1\n")
    (line,) = diagnose([], machine)
    assert line.startswith(f"{file} announces a driver that does not load (libnothing-at-all.so.1")
    other = place(machine, "elsewhere/other.icd", "libnothing-else.so\n")
    (line,) = diagnose([], attrs.evolve(machine, environment={"OCL_ICD_VENDORS": str(other.parent)}))
    assert line.startswith(str(other)), "the folder that the environment names counts instead"
    assert diagnose([], attrs.evolve(machine, load=lambda _: None)) == []


def test_a_node_that_may_not_be_opened_is_named(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the group to join."""
    node = place(machine, "dev/dri/renderD128", "")
    assert diagnose([], machine) == []
    monkeypatch.setattr("os.access", lambda *_: False)
    (line,) = diagnose([], machine)
    assert f"may not open {node}" in line
    assert "usermod -aG render" in line
