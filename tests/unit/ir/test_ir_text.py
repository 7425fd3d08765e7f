"""The text form and the file format do not change by accident: compared with files under tests/golden/programs.

Set SNN2CHIP_UPDATE_GOLDEN=1 to write the texts anew, then read the difference before committing it. The `.s2c`
files were written by the first version of the format and are never written anew: every later version reads them.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from snn2chip.checks.outside import check_golden
from snn2chip.golden import read_golden
from snn2chip.ir import files
from snn2chip.ir.nodes import Host, HostOp, Input, Output, Product, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.testing.worked import worked_examples

GOLDEN = Path(__file__).parents[2] / "golden" / "programs"
KERNEL = np.arange(-9, 9).reshape(2, 1, 3, 3)


def every_node() -> Program:
    """One of each kind of node, most fields away from their defaults."""
    return Program(
        nodes=[
            Input("pixels", (2, 4, 4), -8, 7, coding="steps", offset=[3, 4], layer="input"),
            Host("stem", (3,), 0, 15, sample_shape=(2,), ops=[HostOp(kind="linear", weight=[[1, 2], [3, 4], [5, 6]])]),
            Synapse("conv", "conv2d", KERNEL, 8, exponent=2, groups=2, padding=1, stride=2),
            Synapse("pool", "sumpool", [1, -1], kernel_size=2, layer="features.2"),
            Synapse("csr", "linear", [[0, 0, 3], [0, -2, 0]], 4, sparse=True),
            Soma("sheet", (2, 2, 2), theta=[[4, 5], [6, 7]], levels=3, leak=3072, window=[[1, 0], [-1, 2]]),
            Soma("steps", (2,), theta=[[1, 2], [3, 4], [9, 9]], levels=3, reset="drop", bias=[1, -1], out_gain=3),
            Product("gated", shift=2),
            Soma("potential", (2, 2, 2), fire="none", v_init=7, syn_leak=2048, layer="readout"),
            Soma("lookup", (2,), fire="table", reset="drop", table=np.arange(256) - 128, table_shift=2, out_max=127),
            Synapse("again", "identity", layer="skip"),
            Output("logits"),
            Output("spikes", "count"),
        ],
        edges=[
            *(("pixels", "conv"), ("pixels", "pool"), ("stem", "csr"), ("conv", "sheet"), ("pool", "sheet")),
            *(("csr", "steps"), ("sheet", "gated"), ("steps", "gated", 1), ("gated", "potential")),
            *(("steps", "again", 2), ("again", "lookup"), ("potential", "logits"), ("lookup", "spikes")),
        ],
        steps=2,
        target="loihi2",
        meta={"name": "every node"},
    )


def golden_text(name: str, text: str) -> str:
    path = GOLDEN / name
    if os.environ.get("SNN2CHIP_UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    return path.read_text(encoding="utf-8")


def test_text_of_every_node() -> None:
    text = every_node().text()
    assert text == golden_text("every-node.txt", text)


def test_text_of_the_worked_examples() -> None:
    text = "\n".join(f"# {e.name}\n{e.program.text()}" for e in worked_examples())
    assert text == golden_text("worked-examples.txt", text)


def test_text_leaves_out_defaults_and_names_delays() -> None:
    lines = every_node().text().splitlines()
    assert lines[0] == "program steps=2 target=loihi2"
    assert "product gated <- sheet, steps@-1: shift=2" in lines
    assert "synapse again <- steps@-2: kind='identity' layer='skip'" in lines
    assert "host stem: shape=(3) hi=15 sample_shape=(2) ops=(linear(weight=int[3, 2] 1..6))" in lines
    assert "output logits <- potential" in lines
    soma = next(line for line in lines if line.startswith("soma potential"))
    assert "v_init=7" in soma
    assert "gain" not in soma
    assert next(line for line in lines if line.startswith("synapse csr")).endswith("sparse=True")


@pytest.mark.parametrize("name", ["every-node", "multi-level"])
def test_files_of_format_1_are_read_for_ever(name: str) -> None:
    """Digests as they were when the files were written: what they compute has not changed."""
    program = files.read(GOLDEN / f"{name}.s2c")[0]
    assert (
        program.digest()
        == {
            "every-node": "3e272fa2e263b2714ba13f25452c23cfb0eb14fe1489de52d340c659fa7f2f19",
            "multi-level": "d72a3a7862c9307ae126cd3e430496b8cec5f6c65bc96d7013f2788361614d5c",
        }[name]
    )


def test_the_stored_file_is_the_program() -> None:
    assert files.read(GOLDEN / "every-node.s2c")[0].digest() == every_node().digest()
    assert files.read(GOLDEN / "every-node.s2c")[0].text() == every_node().text()


def test_the_golden_vectors_inside_still_hold() -> None:
    """Numbers by hand: payloads 1, 0, 2 and a sum of 3."""
    path = GOLDEN / "multi-level.s2c"
    _, golden = read_golden(path)
    assert golden.expected.payloads["soma"].ravel().tolist() == [1, 0, 2]
    assert golden.expected.all_outputs["out"].tolist() == [[3]]
    for backend in ("reference", "torch"):
        assert check_golden(path, backends=(backend,)).equal


def test_the_digest_sees_what_decides_and_not_the_notes() -> None:
    program = every_node()
    nodes, edges = list(program.nodes), list(program.edges)
    same = Program(nodes=nodes, edges=edges, steps=2, target="loihi2", meta={"name": "other"}, records=[{"a": 1}])
    assert same.digest() == program.digest()
    assert Program(nodes=nodes, edges=edges, steps=2, target="ideal").digest() != program.digest()
    nodes[2] = Synapse("conv", "conv2d", KERNEL, 8, exponent=1, groups=2, padding=1, stride=2)
    assert Program(nodes=nodes, edges=edges, steps=2, target="loihi2").digest() != program.digest()
