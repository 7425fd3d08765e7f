"""What the whole suite shares: skips with the backend's own reason, one thread, files kept on one worker."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: the suite's networks are small, its workers are two

import pytest

from snn2chip.checks.usable import why_missing
from snn2chip.registry import get_backend


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip `lava` and `cuda` tests where the backend cannot run; with pytest-xdist keep a file on one worker."""
    marked = {name: [item for item in items if item.get_closest_marker(name)] for name in ("lava", "cuda")}
    if marked["lava"] and (reason := why_missing("lava")):
        _skip(marked["lava"], reason)
    if marked["cuda"] and (reason := get_backend("torch", device="cuda").missing()):
        _skip(marked["cuda"], reason)
    with_lava = {item.path for item in marked["lava"]}
    for item in items:  # fixtures of a file are made once, and Lava runs in one worker only
        item.add_marker(pytest.mark.xdist_group("lava" if item.path in with_lava else str(item.path)))


def _skip(items: list[pytest.Item], reason: str) -> None:
    for item in items:
        item.add_marker(pytest.mark.skip(reason=reason))
