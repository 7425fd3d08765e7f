"""pytest plugin of the map: which test runs which line, and what each test and each file's collection costs."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import coverage
import pytest

from benchmarks.mutation.uncompiled import uncompile

if os.environ.get("MUTATION_UNCOMPILED"):
    uncompile()

COSTS: dict[str, float] = {}
PASSED: set[str] = set()


@pytest.hookimpl(hookwrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, Any, None]:
    """CPU seconds to collect a file."""
    start = time.process_time()
    yield
    if isinstance(collector, pytest.Module):
        COSTS[collector.nodeid] = time.process_time() - start


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, None]:
    """Name the coverage context after the test, and take its CPU seconds, those of its children included."""
    cover = coverage.Coverage.current()
    if cover is not None:
        cover.switch_context(item.nodeid)
    start = _cpu()
    yield
    COSTS[item.nodeid] = _cpu() - start
    if cover is not None:
        cover.switch_context("")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """A lane holds tests that pass on the unchanged code."""
    if report.when == "call" and report.passed:
        PASSED.add(report.nodeid)


def pytest_sessionfinish() -> None:
    """Write the costs beside the coverage data."""
    costs = {name: cost for name, cost in COSTS.items() if name in PASSED or "::" not in name}
    Path(os.environ["MUTATION_COSTS"]).write_text(json.dumps(costs))


def _cpu() -> float:
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system
