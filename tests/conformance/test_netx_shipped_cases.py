"""Every recording that lava-dl ships for NetX has its row in docs/interop.md: reproduced by a test, or why not.

Here also what no file of a network goes with: the dense block of 2000 steps, and arrays that a network holds.
"""

from __future__ import annotations

import importlib.util
import re
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest
from snn2chip_backends.reference.backend import synapse_current

import snn2chip
from snn2chip.frontends.netx import import_netx

HERE = Path(__file__).parent
DOCS = HERE.parents[1] / "docs" / "interop.md"
HEAD = "### Recordings that lava-dl ships"


def rows():
    """The table of the page: patterns of files, what became of them, the test."""
    text = DOCS.read_text(encoding="utf-8")
    part = text[text.index(HEAD) :]
    lines = [line for line in part.splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [
        (re.findall(r"`([^`]+)`", files), outcome, re.findall(r"`([^`]+)`", test)) for files, outcome, test in cells
    ]


def test_every_shipped_file_has_one_row(shipped):
    found = [p.relative_to(shipped).as_posix() for p in shipped.rglob("*") if p.suffix in (".net", ".npy")]
    assert len(found) > 50
    patterns = [pattern for files, _, _ in rows() for pattern in files]
    counts = {file: sum(fnmatch(file, pattern) for pattern in patterns) for file in found}
    assert all(count == 1 for count in counts.values()), {file: n for file, n in counts.items() if n != 1}
    assert all(any(fnmatch(file, pattern) for file in found) for pattern in patterns)


def test_every_row_names_its_test_or_its_reason():
    known = "\n".join(path.read_text() for path in HERE.glob("test_netx*.py"))
    assert len(rows()) >= 8
    for files, outcome, tests in rows():
        assert outcome.startswith(("reproduced", "not imported")), files
        assert bool(tests) == outcome.startswith("reproduced"), files
        for name in tests:
            assert re.search(rf"^def {name}\b", known, re.MULTILINE), name


@pytest.fixture(scope="module")
def dense(shipped, tmp_path_factory):
    """lava-dl's block of 256 LIF neurons behind 200 inputs, as a `.net` file."""
    path = HERE.parent / "unit" / "netx" / "netx_files.py"
    spec = importlib.util.spec_from_file_location("netx_files_of_cases", path)
    files = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(files)
    layer = files.dense(
        np.load(shipped / "gts/dense/weight.npy"), neuron=files.neuron(iDecay=4096, vDecay=415, vThMant=6)
    )
    program = import_netx(files.write_net(tmp_path_factory.mktemp("dense") / "a.net", [layer]), steps=2000)
    x = np.load(shipped / "gts/dense/in.npy").astype(int).T
    return program, x, snn2chip.run(program, x[:, None], backend="torch", time_axis=True)


def test_dense_block_spikes(shipped, dense):
    """All 1826 spikes of 2000 steps and no other; the recorder begins one step early."""
    truth = np.load(shipped / "gts/dense/out.npy").T.astype(int)
    assert not truth[0].any()
    assert (dense[2].payloads["layer0"][:-1, 0] == truth[1:]).all()
    assert truth.sum() == 1826


def test_dense_block_currents(shipped, dense):
    """What the synapse adds in each step, recorded without the alignment by 64."""
    program, x, _ = dense
    truth = np.load(shipped / "gts/dense/current.npy").T.astype(int)
    assert (synapse_current(program["layer0.weight"], x[:-1]) == truth[1:]).all()
    assert (truth.min(), truth.max()) == (-594, 320)


def test_dense_block_on_the_reference(dense):
    """The first 60 steps on the slow definition itself."""
    program, x, trace = dense
    first = snn2chip.run(
        type(program)(nodes=program.nodes, edges=program.edges, steps=60), x[:60, None], time_axis=True
    )
    assert (first.payloads["layer0"] == trace.payloads["layer0"][:60]).all()


def test_pilotnet_input_of_another_run(shipped):
    """`input-s` is the input layer of a run that cleared every 16 steps: 24 steps of 200 x 66 pixels."""
    folder = shipped / "gts/pilotnet_lif"
    program = import_netx(folder / "network.net", steps=24, reset_interval=16, num_layers=1)
    trace = snn2chip.run(program, np.load(folder / "image.npy").transpose(2, 1, 0)[None], backend="torch")
    truth = np.load(folder / "input-s.npy").transpose(3, 2, 1, 0)
    assert (trace.payloads["layer0"][:, 0] == truth).all()
    assert truth.sum() == 846948


def test_tiny_kernel_is_the_file_s(shipped):
    """The recorded kernel is in Lava's order, `[C, W, H, F]` turned round."""
    synapse = import_netx(shipped / "tiny.net", steps=16)["layer1.weight"]
    kernel = np.load(shipped / "gts/tinynet/layer1_kernel.npy")
    assert (kernel.transpose(0, 3, 2, 1)[:, :, ::-1, ::-1] == np.asarray(synapse.stored) << synapse.exponent).all()
