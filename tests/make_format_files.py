"""Writes `tests/data/formats/*`: one small file of every kind in the current format version.

Run once when a format version is raised, before the change: `python tests/make_format_files.py`. Files that are there
stay as they are; the tests read all of them with every later release.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from snn2chip import Input, Output, Program, Soma, Synapse
from snn2chip.checkpoint import CheckpointHeader, InputSpec, save_checkpoint
from snn2chip.checkpoint_header import VERSION as CHECKPOINT_VERSION
from snn2chip.ir.files import version_of
from snn2chip.testing.edges import edge_cases

PROGRAMS = (
    "edge-three-hop-loop",
    "edge-two-windows",
    "edge-largest-products",
    "edge-sparse-rows-empty",
    "edge-many-levels",
    "edge-changes-follow-changes",
    "edge-widest-changes",
)
FOLDER = Path(__file__).parent / "data" / "formats"


def program_files(folder: Path) -> list[Path]:
    """Programs with products, recurrent delays, sparse maps, windows, changes, each with golden vectors of two samples.

    Each in the oldest version that can say it.
    """
    paths = []
    for case in edge_cases():
        if case.name in PROGRAMS:
            path = folder / f"{case.name}-v{version_of(case.program)}.s2c"
            if not path.exists():
                case.program.save(path, golden=2)
            paths.append(path)
    assert len(paths) == len(PROGRAMS)
    return [*paths, packed_file(folder)]


def packed_file(folder: Path) -> Path:
    """A program whose weights are stored in one bit each (from version 2 on)."""
    path = folder / "binary-weights-v2.s2c"
    if not path.exists():
        signs = np.random.default_rng(9).choice([-1, 1], (40, 40))
        nodes = [
            Input("in", (40,), 0, 1),
            Synapse("w", "linear", signs),
            Soma("n", (40,), theta=3),
            Output("out", "count"),
        ]
        Program(nodes=nodes, edges=[("in", "w"), ("w", "n"), ("n", "out")], steps=3).save(path, golden=2)
    return path


def checkpoint_file(folder: Path) -> Path:
    """A small multi-level net with its header."""
    import torch
    from snn2chip_models import build

    path = folder / f"checkpoint-v{CHECKPOINT_VERSION}.safetensors"
    if not path.exists():
        torch.manual_seed(5)
        args = {"input_shape": [6], "hidden": [5], "classes": 3, "T": 2, "L": 2}
        header = CheckpointHeader(
            model="mlp", args=args, method="lmht", T=2, L=2, input=InputSpec(shape=(6,)), classes=("a", "b", "c")
        )
        save_checkpoint(path, build("mlp", **args), header)
    return path


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    print(*program_files(FOLDER), checkpoint_file(FOLDER))
