"""What the whole suite shares: skips with the backend's own reason, one thread, seeds, files kept on one worker."""

from __future__ import annotations

import os
import random
import zlib

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: the suite's networks are small, its workers are two

import numpy as np
import pytest
import torch

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


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test draws the same numbers alone, in its file, and on whichever worker it lands."""
    _seed(item.nodeid)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """What the fixtures drew, or had drawn for an earlier test, does not show in the test's own numbers."""
    _seed(item.nodeid)


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(request: pytest.FixtureRequest) -> None:
    """A fixture that several tests share draws the same numbers whichever of them comes first."""
    if request.scope != "function":
        _seed(f"{request.node.nodeid}::{request.fixturename}[{getattr(request, 'param_index', 0)}]")


def _seed(name: str) -> None:
    seed = zlib.crc32(name.encode())
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  # the libraries under test may draw from the global generator
    torch.manual_seed(seed)
