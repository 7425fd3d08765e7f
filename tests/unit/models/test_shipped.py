"""Trained nets that come with the zoo: small, whole, and what they say they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from snn2chip_models import shipped, shipped_names
from typer.testing import CliRunner

from snn2chip import load, run
from snn2chip.cli.command import app
from snn2chip.data.catalog import find_data
from snn2chip.errors import InputError

NAMES = tuple(sorted({Path(name).stem for name in shipped_names()}))
LARGEST = 1_000_000


def test_ships_the_trained_resnet() -> None:
    """The ResNet-20 is there as a checkpoint and as a program."""
    assert {"cifar10-resnet20-lmht.s2c", "cifar10-resnet20-lmht.safetensors"} <= set(shipped_names())


@pytest.mark.parametrize("name", shipped_names())
def test_size(name: str) -> None:
    """Every file is at most 1 MB."""
    assert shipped(name).stat().st_size <= LARGEST


def test_unknown_name() -> None:
    """An unknown file is an error that lists the known ones, also on the command line."""
    with pytest.raises(InputError, match=r"cifar10-resnet20-lmht\.s2c"):
        shipped("resnet-9000.s2c")
    result = CliRunner().invoke(app, ["inspect", "zoo:../../secret"])
    assert result.exit_code == 2


def test_nothing_is_written_to_the_zoo() -> None:
    """A shipped file as an output is refused."""
    name = shipped_names()[0]
    before = shipped(name).read_bytes()
    result = CliRunner().invoke(app, ["map", "zoo:cifar10-resnet20-lmht.s2c", "-o", f"zoo:{name}"])
    assert result.exit_code == 2
    assert shipped(name).read_bytes() == before


@pytest.mark.parametrize("name", NAMES)
def test_golden(name: str) -> None:
    """Reference and torch give the stored payloads of every soma at every step."""
    result = CliRunner().invoke(app, ["check", f"zoo:{name}.s2c", "--golden", "--backends", "torch"])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("name", NAMES)
def test_binary_weights(name: str) -> None:
    """All synapses between neurons but the last are of one bit, the first and the last of at most eight."""
    synapses = [s for s in load(shipped(f"{name}.s2c")).synapses if s.values().size > 100]
    assert sum(set(np.unique(s.values())) == {-1, 1} for s in synapses) >= len(synapses) - 2


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.skipif(find_data("cifar10") is None, reason="needs cifar10: set SNN2CHIP_DATA")
@pytest.mark.parametrize("name", NAMES)
def test_accuracy_and_origin(name: str) -> None:
    """The program is what its checkpoint compiles to, and knows 500 test images about as well as it says."""
    from snn2chip.checkpoint_compile import compile_checkpoint
    from snn2chip.data import open_data

    program = load(shipped(f"{name}.s2c"))
    assert compile_checkpoint(shipped(f"{name}.safetensors")).digest() == program.digest()
    arrays, labels = open_data("cifar10", split="test").take(500).arrays()
    trace = run(program, arrays["x"], backend="torch", record="outputs")
    said = program.meta["accuracy"]["float"]
    assert abs(float((trace.pred == labels).mean()) - said) < 0.05
