"""Tests marked `lava` or `cuda` are skipped, with the backend's own reason, where it cannot run."""

from __future__ import annotations

import pytest

from snn2chip.checks.usable import why_missing
from snn2chip.registry import get_backend


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip by marker; Lava's tests stay on one worker, since each of its runs already fills the cores."""
    marked = {name: [item for item in items if item.get_closest_marker(name)] for name in ("lava", "cuda")}
    for item in marked["lava"]:
        item.add_marker(pytest.mark.xdist_group("lava"))
    if marked["lava"] and (reason := why_missing("lava")):
        _skip(marked["lava"], reason)
    if marked["cuda"] and (reason := get_backend("torch", device="cuda").missing()):
        _skip(marked["cuda"], reason)


def _skip(items: list[pytest.Item], reason: str) -> None:
    for item in items:
        item.add_marker(pytest.mark.skip(reason=reason))
