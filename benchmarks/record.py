"""A run on file: every round of every candidate, and the machine and the versions that it was measured with."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

import rookery
from harness import Kind, Result

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(rookery.__file__).parents[2]
"""The checkout that rookery is imported from, if it is one."""

PACKAGES = ("trio", "anyio", "uvloop", "pykka", "xoscar", "thespian")
"""Whose versions belong to the numbers."""


@attrs.frozen
class Run:
    """What was measured in one go.

    Attributes:
        environment: The machine, the commit and the versions.
        rounds: How many rounds counted.
        share: The operations were divided by this: 1 but in a quick run.
        results: One for each candidate in each place.
    """

    environment: Mapping[str, str | int | None]
    rounds: int
    share: int
    results: Sequence[Result]

    def topics(self) -> dict[str, list[Result]]:
        """The results, by what is shown together."""
        topics: dict[str, list[Result]] = {}
        for result in self.results:
            topics.setdefault(result.topic, []).append(result)
        return topics


def write(run: Run, path: Path) -> None:
    """Write a run as JSON, with the medians."""
    content = {
        "environment": run.environment,
        "rounds": run.rounds,
        "share": run.share,
        "results": [
            attrs.asdict(result) | {"median_value": result.value(), "median_speed": result.speed()}
            for result in run.results
        ],
    }
    path.write_text(json.dumps(content, indent=2) + "\n")


def read(path: Path) -> Run:
    """Read what `write` has written."""
    content = json.loads(path.read_text())
    return Run(content["environment"], content["rounds"], content["share"], [*map(_result, content["results"])])


def _result(stored: dict[str, Any]) -> Result:
    """A result without the medians, which follow from the rest."""
    fields = {field.name: stored[field.name] for field in attrs.fields(Result)}
    fields["kind"] = Kind(stored["kind"])
    return Result(**fields)


def environment() -> dict[str, str | int | None]:
    """The versions, the commit and the machine."""
    return {
        "rookery": rookery_version(),
        "commit": _commit(),
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        **{name: installed_version(name) for name in PACKAGES},
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cpu_count": os.cpu_count(),
    }


def _commit() -> str | None:
    """The commit of what is measured, with a `+` where files differ from it; None where there is no repository."""
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        return None
    told = subprocess.run(
        [git, "-C", str(ROOT), "describe", "--always", "--exclude=*", "--dirty=+"],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    return told.stdout.strip() or None


def _processor() -> str:
    """Its name, as the Linux kernel or the platform knows it."""
    known = Path("/proc/cpuinfo")
    lines = known.read_text().splitlines() if known.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def installed_version(package: str) -> str | None:
    """The version of an installed distribution; None if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def rookery_version() -> str | None:
    """The version of the rookery that is imported, also when it runs from its sources."""
    project = ROOT / "pyproject.toml"
    if not project.exists():
        return installed_version("rookery")
    version: str = tomllib.loads(project.read_text())["project"]["version"]
    return version
