"""The writer of small `.net` files as a fixture."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


def _load(path: Path) -> ModuleType:
    """One Python file as a module of its own, without its package."""
    spec = importlib.util.spec_from_file_location(f"netx_test_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def load() -> Callable[[Path], ModuleType]:
    """Load one Python file."""
    return _load


@pytest.fixture(scope="session")
def files() -> ModuleType:
    """Layer descriptions: `files.dense(...)`, `files.conv(...)`, `files.inputs(...)`, `files.neuron(...)`."""
    return _load(Path(__file__).with_name("netx_files.py"))


@pytest.fixture
def net(files: ModuleType, tmp_path: Path) -> Callable[..., Path]:
    """`net(layer, layer, ...)` writes a file and returns its path."""

    def write(*layers: dict[str, Any], sample: int | None = 16, name: str = "small.net") -> Path:
        return files.write_net(tmp_path / name, layers, sample=sample)

    return write
