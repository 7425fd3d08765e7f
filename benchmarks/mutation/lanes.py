"""The fast lane of a mutant: tests that run its statement, cheap ones and its own file's, 10 CPU seconds."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import cache
from itertools import zip_longest
from pathlib import Path

from coverage import CoverageData

from benchmarks.mutation.rooms import ROOT, compiled, statements

TESTS = 240


class Lanes:
    """Lanes from the maps in a folder (`plain` with numba's compiler on, `slow` with it off)."""

    def __init__(self, folder: Path, seconds: float) -> None:
        """Read the coverage data and the costs of both maps."""
        self._seconds = seconds
        self._data, self._costs = {}, {}
        for name in ("plain", "nojit"):
            data = CoverageData(basename=str(folder / f"{name}.coverage"))
            data.read()
            self._data[name] = data
            self._costs[name] = json.loads((folder / f"{name}.json").read_text())

    def lane(self, file: str, line: int) -> list[str]:
        """Test names for a change at a line; one run at import is judged by the tests of the whole file."""
        first, last, outside = _statements(file).get(line, (line, line, True))
        by_line = self._by_line(file)
        lines: Iterable[int] = by_line if outside else range(first, last + 1)
        seen = {test for number in lines for test in by_line.get(number, ()) if test}
        costs = self._costs[_map(file)]
        if outside and not any(test for tests in by_line.values() for test in tests):
            seen = {test for test in costs if "::" in test}  # nothing but constants: any test may show one
        near = _naming(file, line) if outside else frozenset(path for path in by_file(seen) if akin(file, path))
        first = {test for test in (costs if outside else seen) if test.partition("::")[0] in near}
        return self._chosen(file, seen, first, costs)

    def _chosen(self, file: str, tests: set[str], first: set[str], costs: dict[str, float]) -> list[str]:
        """The `first` ones, to half of the time; the cheapest; then those that run little else than this file."""
        known = sorted((test for test in tests if test in costs), key=lambda test: (costs[test], test))
        share = self._shares(file)
        lane: list[str] = []
        spent = 0.0
        collected: set[str] = set()
        half = self._seconds / 2
        for order, seconds in (
            (_turns(sorted((t for t in first if "::" in t and t in costs), key=lambda t: (costs[t], t))), half),
            (_turns(known), 3 * half / 2),
            (_turns(sorted(known, key=lambda test: -share.get(test, 0.0))), self._seconds),
        ):
            for test in order:
                home = test.partition("::")[0]
                more = costs[test] + (0.0 if home in collected else costs.get(home, 0.0))
                if test in lane or spent + more > seconds or len(lane) == TESTS:
                    continue
                spent += more
                collected.add(home)
                lane.append(test)
        return lane

    @cache  # noqa: B019 - one object per run
    def _shares(self, file: str) -> dict[str, float]:
        """Per test: the part of all the lines that it runs that are this file's."""
        own, every = Counter[str](), self._lines(_map(file))
        for tests in self._by_line(file).values():
            own.update(tests)
        return {test: count / every[test] for test, count in own.items()}

    @cache  # noqa: B019 - one object per run
    def _lines(self, name: str) -> Counter[str]:
        found = Counter[str]()
        data = self._data[name]
        for file in data.measured_files():
            for tests in data.contexts_by_lineno(file).values():
                found.update(tests)
        return found

    @cache  # noqa: B019 - one object per run
    def _by_line(self, file: str) -> dict[int, list[str]]:
        return self._data[_map(file)].contexts_by_lineno(str(ROOT / file))


def _turns(tests: list[str]) -> list[str]:
    """First one test of every function, then a second one of each, and so on."""
    groups: dict[str, list[str]] = defaultdict(list)
    for test in tests:
        groups[test.partition("[")[0]].append(test)
    rounds = zip_longest(*groups.values())
    return [test for turn in rounds for test in turn if test is not None]


def by_file(tests: Iterable[str]) -> set[str]:
    """Files of tests."""
    return {test.partition("::")[0] for test in tests}


def akin(file: str, test: str) -> bool:
    """Whether the name of a test's file has a word of the module's."""
    return not set(Path(file).stem.split("_")).isdisjoint(Path(test).stem.split("_"))


@cache
def _naming(file: str, line: int) -> frozenset[str]:
    """Test files that name the constant which a line of a module sets, or, for a class, its module in their own name.

    They may read what was set at import and run nothing of the file.
    """
    tests = {str(path.relative_to(ROOT)): path for path in (ROOT / "tests").rglob("test_*.py")}
    for node in ast.parse((ROOT / file).read_text()).body:
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
        if isinstance(node, ast.ClassDef) and first <= line <= (node.end_lineno or line):
            return frozenset(path for path in tests if akin(file, path))
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.lineno <= line <= (node.end_lineno or line):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
            word = re.compile(rf"\b({'|'.join(map(re.escape, names))})\b")
            module = Path(file).stem
            texts = {path: path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}
            return frozenset(
                str(p.relative_to(ROOT)) for p, text in texts.items() if word.search(text) and module in text
            )
    return frozenset()


def _map(file: str) -> str:
    return "nojit" if compiled(file) else "plain"


@cache
def _statements(file: str) -> dict[int, tuple[int, int, bool]]:
    return statements((ROOT / file).read_text())
