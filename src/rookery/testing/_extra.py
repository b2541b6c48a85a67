"""What is missing when a module needs the extra."""

from __future__ import annotations


def missing_extra(module: str, package: str, error: ImportError) -> ImportError:
    """The error to raise when a module of this package is imported without what it stands on."""
    return ImportError(
        f"{module} needs {package}, which is not installed ({error}): pip install 'rookery[testing]'", name=error.name
    )
