"""A small network with its checkpoint, its program and files of samples, and jobs over them."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

HERE = str(Path(__file__).parent)
sys.path.insert(0, HERE)
os.environ["PYTHONPATH"] = os.pathsep.join([HERE, os.environ.get("PYTHONPATH", "")])

SAMPLES = 150


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """An untrained MLP of two steps: `program` and `checkpoint` as files, `x` 150 digits with labels."""
    from snn2chip_models.registry import build

    from snn2chip.checkpoint import save_checkpoint
    from snn2chip.checkpoint_compile import compile_checkpoint
    from snn2chip.checkpoint_header import CheckpointHeader, InputSpec
    from snn2chip.data import load_data

    folder = tmp_path_factory.mktemp("shards")
    torch.manual_seed(3)
    args = {"hidden": [24], "T": 2, "input_shape": [1, 8, 8], "classes": 10}
    header = CheckpointHeader(
        model="mlp",
        args=args,
        method="lmht",
        T=2,
        L=4,
        input=InputSpec(shape=(1, 8, 8), mean=(5.0,), std=(6.0,)),
        classes=tuple(map(str, range(10))),
        provenance={"data": "digits"},
    )
    checkpoint = folder / "net.safetensors"
    save_checkpoint(checkpoint, build("mlp", **args), header)
    program = compile_checkpoint(checkpoint)
    program.save(folder / "net.s2c")
    x, y = load_data("digits", split="test")
    np.savez(folder / "x.npz", x=x[:SAMPLES], y=y[:SAMPLES])
    return SimpleNamespace(folder=folder, program=folder / "net.s2c", checkpoint=checkpoint, x=folder / "x.npz")


@pytest.fixture
def words(small):
    """`program`, `samples` and `total` of a job over the 150 samples."""
    from snn2chip.data.feed import FeedSpec
    from snn2chip.shards.opened import NamedFile

    return {
        "program": NamedFile.of(small.program),
        "samples": FeedSpec(path=str(small.x), samples=SAMPLES),
        "total": SAMPLES,
    }


@pytest.fixture
def measure(small, words):
    """A job that counts everything and measures fidelity."""
    from snn2chip.shards.measuring import Counting, FloatFile, MeasureJob
    from snn2chip.shards.opened import NamedFile

    counting = Counting(detail=True, neurobench=4)
    return MeasureJob(**words, counting=counting, float_file=FloatFile(file=NamedFile.of(small.checkpoint)))
