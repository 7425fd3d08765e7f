"""pytest plugin: import one module of the product from a changed source (a change of what runs at import)."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import resource
import sys
from collections.abc import Sequence
from types import CodeType, ModuleType

import pytest

from benchmarks.mutation.draw import Mutant
from benchmarks.mutation.rooms import ROOT, module_of
from benchmarks.mutation.uncompiled import uncompile

CPU_LIMIT = 90  # seconds of a process: imports, collection and three lanes; a change that never ends is found by this


class _Changed(importlib.machinery.SourceFileLoader):
    """Loads a module from a changed source."""

    def __init__(self, name: str, path: str, source: str) -> None:
        super().__init__(name, path)
        self._changed = source

    def get_code(self, fullname: str) -> CodeType:
        """Code of the changed source; nothing is cached."""
        return compile(self._changed, self.path, "exec", dont_inherit=True)


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, mutant: Mutant) -> None:
        self._name, self._path, self._source = module_of(mutant.file), str(ROOT / mutant.file), mutant.source()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The changed module under its own name; everything else as ever."""
        if fullname != self._name:
            return None
        loader = _Changed(fullname, self._path, self._source)
        return importlib.util.spec_from_file_location(fullname, self._path, loader=loader)


resource.setrlimit(resource.RLIMIT_CPU, (CPU_LIMIT, CPU_LIMIT))
if os.environ.get("MUTATION_UNCOMPILED"):
    uncompile()
given = json.loads(os.environ["MUTATION_CHANGE"])
change, lane = Mutant(**given["mutant"]), set(given["lane"])
assert module_of(change.file) not in sys.modules, "the module is imported already"
sys.meta_path.insert(0, _Finder(change))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests of the lane only; a file's others are left out."""
    items[:] = [item for item in items if lane & {item.nodeid, item.nodeid.partition("::")[0]}]
