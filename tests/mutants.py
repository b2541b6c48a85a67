"""Mutants of the model: each is one small change to its code, and the tests of the model have to fail for it.

`nox -s mutants` changes every module, one place at a time; `nox -s mutants -- queue order` these two. It works in a
copy of the tree. A mutant that passes the tests shows what they do not hold the code to. Write that test, or simplify
the code so that the mutant no longer exists; what remains stands in `model/survivors.toml`, with the reason.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from time import monotonic

import attrs
from cosmic_ray.commands import execute, init
from cosmic_ray.config import ConfigDict
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import WorkerOutcome, WorkItem, WorkResult

ROOT = Path(__file__).parent.parent
MODEL = Path("src/rookery/_model")
TESTS = Path("tests/model")
FLOOR = 0.9

NO_OTHER_PROGRAM = re.compile(
    # Each `|` of the model is a union of types, nearly always in an annotation, which nothing evaluates.
    "core/ReplaceBinaryOperator_BitOr_"
    # `is` compares with None, classes and members of enums, which are equal to themselves only, and with an empty lane,
    # for which any other would do; the numbers and names that `==` compares exist once. So identity and equality are
    # the same here, while every other change of a comparison makes another program.
    r"|core/ReplaceComparisonOperator_(Is_Eq|IsNot_NotEq|Eq_Is|NotEq_IsNot)$"
)
FOR_CHECKERS = re.compile(r"\s*(if TYPE_CHECKING|@overload|@dataclass_transform)")


@attrs.frozen
class Survivor:
    """A mutant that the tests do not notice; lines move, so it is known by what it changes."""

    module: str
    line: str
    becomes: str

    @classmethod
    def from_diff(cls, module: str, diff: str) -> Survivor:
        """What one hunk removes and adds; what is only removed is shown with the line below it."""
        hunk = diff.split("@@\n", 1)[1].splitlines()
        removed, added = ([line[1:].strip() for line in hunk if line[0] == sign] for sign in "-+")
        if not any(added):
            last = max(place for place, line in enumerate(hunk) if line[0] == "-")
            below = hunk[last + 1].strip()
            removed, added = [*removed, below], [below]
        return cls(module, *("\n".join(filter(None, lines)) for lines in (removed, added)))


def listed() -> dict[Survivor, str]:
    """The survivors that are known, each with the reason."""
    entries = tomllib.loads(Path(ROOT, TESTS, "survivors.toml").read_text()).get("survivor", [])
    return {
        Survivor(entry["module"], entry["line"], becomes): entry["reason"]
        for entry in entries
        for becomes in entry["becomes"]
    }


def command(module: str) -> list[str]:
    """The tests of the model, those of the mutated module first, and first the fast ones."""

    def order(file: Path) -> tuple[bool, bool, bool, str]:
        own = f"_model.{module} " in file.read_text()
        return not own, "supervision" not in file.stem, "machine" in file.stem, file.name

    files = sorted(TESTS.glob("test_*.py"), key=order)
    return [sys.executable, "-m", "pytest", "-x", "-q", "--tb=no", "-p", "no:cacheprovider", *map(str, files)]


def leave_out(mutants: WorkDB) -> None:
    """Skip what is no other program than the original, or none at all: whether a test fails for it says nothing."""
    for item in mutants.pending_work_items:
        if not _is_another_program(item):
            mutants.set_result(item.job_id, WorkResult(WorkerOutcome.SKIPPED))


def _is_another_program(item: WorkItem) -> bool:
    (change,) = item.mutations
    if NO_OTHER_PROGRAM.match(change.operator_name):
        return False
    source = change.module_path.read_text()
    if FOR_CHECKERS.match(source.splitlines()[change.start_pos[0] - 1]):
        return False
    try:
        compile(mutate_code(source, get_operator(change.operator_name)(), change.occurrence), "mutant", "exec")
    except SyntaxError:  # `def f(a, *, b)` with another operator
        return False
    return True


def mutate(module: str, timeout: float) -> tuple[int, list[Survivor]]:
    """How many mutants a module has, and which of them survive."""
    config = ConfigDict(distributor={"name": "local"}, timeout=timeout)
    config["test-command"] = shlex.join(command(module))
    with use_db(f"{module}.sqlite") as mutants:
        init([MODEL / f"{module}.py"], mutants, {})
        leave_out(mutants)
        execute(mutants, config)
        tested = [result for _, result in mutants.results if result.worker_outcome is not WorkerOutcome.SKIPPED]
    assert {result.worker_outcome for result in tested} <= {WorkerOutcome.NORMAL}, tested
    return len(tested), [Survivor.from_diff(module, result.diff or "") for result in tested if not result.is_killed]


def unchanged() -> float:
    """Seconds that the tests take, which have to pass, and to import the copy."""
    where = subprocess.check_output([sys.executable, "-c", "import rookery; print(rookery.__file__)"], text=True)
    assert Path(where).is_relative_to(Path.cwd()), where
    began = monotonic()
    subprocess.run(command("supervision"), check=True)
    return monotonic() - began


def report(modules: list[str]) -> Iterator[tuple[int, list[Survivor]]]:
    """Mutate modules, and tell how each fared: how many mutants it has, and which of them survive."""
    timeout = 5 * unchanged()
    known = listed()
    for module in modules:
        began = monotonic()
        count, survivors = mutate(module, timeout)
        print(f"{module}: {count - len(survivors)} of {count} killed, {monotonic() - began:.0f} s", flush=True)
        for survivor in survivors:
            reason = known.get(survivor, "NOT LISTED in tests/model/survivors.toml")
            print(f"    {survivor.line}\n -> {survivor.becomes}\n    {reason}", flush=True)
        yield count, survivors


@contextmanager
def copy_of_the_tree() -> Iterator[None]:
    """Mutants are made in place, so in a folder that goes afterwards; what is imported is its package."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder).resolve()
        shutil.copy(ROOT / "pyproject.toml", scratch)
        for part in ("src", "tests"):
            shutil.copytree(ROOT / part, scratch / part, ignore=shutil.ignore_patterns("__pycache__"))
        os.environ |= {"PYTHONPATH": str(scratch / "src"), "HYPOTHESIS_PROFILE": "mutants"}
        with chdir(scratch):
            yield


def main(chosen: list[str]) -> str | None:
    """What is wrong, if anything is."""
    with copy_of_the_tree():
        modules = chosen or sorted(file.stem for file in MODEL.glob("[!_]*.py"))
        counts, found = zip(*report(modules), strict=True)
    survivors = [survivor for of_module in found for survivor in of_module]
    rate = 1 - len(survivors) / sum(counts)
    print(f"{sum(counts)} mutants, {len(survivors)} survivors: {rate:.1%} killed")
    known = {survivor for survivor in listed() if survivor.module in modules}
    for gone in known - set(survivors):
        print(f"listed, and no survivor: {gone}")
    if set(survivors) != known:
        return f"{len(set(survivors) - known)} survivors are not listed, {len(known - set(survivors))} listed ones are none"
    return None if chosen or rate >= FLOOR else f"fewer than {FLOOR:.0%} are killed"  # the floor is for the whole


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
