"""Fidelity and report against the user's own module, in its own layout and with its own normalisation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import snn2chip
from snn2chip.compiler import compile_graph
from snn2chip.errors import InputError
from snn2chip.nn import IF, Repeat
from snn2chip.reports.tables import fidelity_table

RNG = np.random.default_rng(4)


class Steps(nn.Module):
    """`[T,B,6]`, or `[B,T,6]` with `batch_first`."""

    def __init__(self, *, batch_first: bool = False) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.first, self.spikes, self.last = nn.Linear(6, 8), IF(steps=4), nn.Linear(8, 3)
        self.batch_first = batch_first

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(0, 1) if self.batch_first else x
        return self.last(self.spikes(self.first(x))).mean(0)


def frames() -> nn.Sequential:
    """One frame `[B,2,4,4]`."""
    torch.manual_seed(1)
    return nn.Sequential(Repeat(3), nn.Flatten(2), nn.Linear(32, 12), IF(steps=3), nn.Linear(12, 4), Mean())


class Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(0)


@pytest.mark.parametrize("batch_first", [False, True])
def test_a_module_with_steps_measures_as_its_graph(batch_first: bool) -> None:
    raw = RNG.random((4, 40, 6)).astype(np.float32)
    own = torch.from_numpy(raw.swapaxes(0, 1) if batch_first else raw)
    model = Steps(batch_first=batch_first)
    program, graph = compile_graph(model, own)
    found = snn2chip.fidelity(program, model, raw, time_axis=True)
    assert found.layers == snn2chip.fidelity(program, graph, raw, time_axis=True).layers
    with torch.no_grad():
        want = model(own).argmax(1).numpy()
    trace = snn2chip.run(program, raw, time_axis=True)
    assert found.differing == int((trace.pred != want).sum())


@pytest.mark.parametrize("batch_first", [False, True])
def test_samples_of_every_step_are_read_as_the_program_reads_them(batch_first: bool) -> None:
    raw = RNG.random((4, 40, 6)).astype(np.float32)
    model = Steps(batch_first=batch_first)
    program, _ = compile_graph(model, torch.from_numpy(raw.swapaxes(0, 1) if batch_first else raw))
    assert snn2chip.fidelity(program, model, raw) == snn2chip.fidelity(program, model, raw, time_axis=True)
    with pytest.raises(InputError, match=r"expected samples \[T, B, 6\], got \[40, 6\]"):
        snn2chip.fidelity(program, model, raw[0])
    with pytest.raises(InputError, match="expected 4 steps on the first axis, got 40"):
        snn2chip.fidelity(program, model, raw.swapaxes(0, 1))


def test_a_module_with_normalisation_is_given_its_own_values() -> None:
    raw, labels = RNG.integers(0, 256, (50, 2, 4, 4)), RNG.integers(0, 4, 50)
    norm = {"scale": 1 / 255, "mean": torch.tensor([0.4, 0.5]), "std": [0.2, 0.25]}
    x = (torch.from_numpy(raw) / 255 - torch.tensor([0.4, 0.5]).view(2, 1, 1)) / torch.tensor([0.2, 0.25]).view(2, 1, 1)
    model = frames()
    program, graph = compile_graph(model, x[:8].float(), calibration=raw, normalise=norm)
    found = snn2chip.report(program, raw, labels=labels, float_graph=model.train())
    assert model.training  # left as it was
    with torch.no_grad():
        want = model.eval()(x.float()).argmax(1).numpy()
    assert found.accuracy["float"] == pytest.approx((want == labels).mean())
    assert found.fidelity is not None
    with_graph = snn2chip.report(program, raw, labels=labels, float_graph=graph).fidelity
    assert with_graph is not None
    assert found.fidelity["layers"] == with_graph["layers"]


def test_what_is_no_network_is_refused() -> None:
    raw = RNG.random((4, 10, 6)).astype(np.float32)
    program = snn2chip.compile(Steps(), torch.from_numpy(raw))
    with pytest.raises(InputError, match=r"nn\.Module or a LayerGraph, got dict"):
        snn2chip.fidelity(program, {}, raw, time_axis=True)


def test_a_readout_sends_nothing_that_could_be_equal() -> None:
    raw = RNG.random((4, 10, 6)).astype(np.float32)
    program, graph = compile_graph(Steps(), torch.from_numpy(raw))
    found = snn2chip.fidelity(program, graph, raw, time_axis=True)
    rows = {row.soma: row for row in found.layers}
    readout = rows.pop("readout")
    assert (readout.rate, readout.free_equal, readout.forced_equal) == (None, None, None)
    assert readout.free_potential >= 0
    assert all(row.free_equal is not None and row.rate is not None for row in rows.values())
    table = fidelity_table(found.as_dict())
    cells = [list(column.cells) for column in table.columns]
    at = cells[0].index("readout")
    assert [column[at] for column in cells[1:4]] == ["-", "-", "-"]
