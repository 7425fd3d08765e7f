"""SHA-256 of Python sources: whether two calls run the same code, edited clones and user modules included."""

from __future__ import annotations

import hashlib
import os
import sys
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path

OWN = ("snn2chip", "snn2chip_backends", "snn2chip_models")


@cache
def source_digest(*names: str) -> str:
    """SHA-256 of every `.py` file of packages or modules (none named: this program's), which are not imported.

    Of `a.b.c` the package `a` counts; one that is nowhere, or has no Python files, counts with its name only.
    """
    found = hashlib.sha256()
    for name in sorted({name.partition(".")[0] for name in names or OWN}):
        found.update(f"{name}\n".encode())
        for place, path in _files(name):
            data = path.read_bytes()
            found.update(f"{place} {len(data)}\n".encode() + data)
    return found.hexdigest()


def _files(name: str) -> list[tuple[str, Path]]:
    """The files by their place in the package, in the order of these."""
    spec = _spec(name)
    if spec is None:
        return []
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    if not folders:
        return [(name, Path(spec.origin))] if spec.origin is not None and spec.origin.endswith(".py") else []
    return sorted((path.relative_to(top).as_posix(), path) for top in folders for path in top.rglob("*.py"))


def _spec(name: str) -> ModuleSpec | None:
    """Where a module would be imported from: the current folder as for `--model`, or as anywhere."""
    here = None if name in sys.modules else PathFinder.find_spec(name, [os.getcwd()])
    if here is not None and here.origin is not None:
        return here
    try:
        return find_spec(name)
    except (ImportError, ValueError):
        return None
