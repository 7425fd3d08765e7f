"""A small program for the tests of the command line, and ways to call the command."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from snn2chip import Input, Output, Program, Soma, Synapse
from snn2chip.cli import app
from snn2chip.data import load_data


def _network(*, fault: int = 0) -> Program:
    """64 pixels, 12 neurons, 10 classes, random weights; `fault` is added to one weight."""
    rng = np.random.default_rng(5)
    first, second = rng.integers(-7, 8, (12, 64)), rng.integers(-7, 8, (10, 12))
    first[3, 20] += fault
    return Program(
        nodes=[
            Input("pixels", (64,), 0, 16),
            Synapse("w1", weight=first, bits=8),
            Soma("hidden", (12,), theta=60, levels=3, leak=3000, layer="net.0"),
            Synapse("w2", weight=second, bits=8),
            Soma("logits", (10,), fire="none", layer="net.2"),
            Output("classes"),
        ],
        edges=[("pixels", "w1"), ("w1", "hidden"), ("hidden", "w2"), ("w2", "logits"), ("logits", "classes")],
        steps=3,
        meta={"name": "tiny", "data": "digits"},
    )


@pytest.fixture
def network() -> Callable[..., Program]:
    """`network(fault=0)`: 64 pixels, 12 neurons, 10 classes, the same random weights every time."""
    return _network


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """The network as a file with four golden samples."""
    x, _ = load_data("digits", split="test")
    _network().save(tmp_path / "tiny.s2c", golden=4, inputs=x[:4].reshape(4, 64))
    return tmp_path / "tiny.s2c"


def _invoke(*args: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(a) for a in args])
    assert result.exit_code == code, (result.output, result.exception)
    assert "Traceback" not in result.output
    return result.output


@pytest.fixture
def invoke() -> Callable[..., str]:
    """`invoke(*args, code=0)`: run the command in this process, expect the exit code, return all it printed."""
    return _invoke


def _outside(*args: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "snn2chip", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, env=dict(os.environ), timeout=120, check=False)


@pytest.fixture
def outside() -> Callable[..., subprocess.CompletedProcess[str]]:
    """`outside(*args)`: run the command as a process of its own."""
    return _outside
