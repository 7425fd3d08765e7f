"""Fidelity of models with several inputs and outputs: a row for each output, samples and labels by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

import snn2chip
from snn2chip.checks.certificate import certificate
from snn2chip.cli.command import app
from snn2chip.compiler import compile_graph
from snn2chip.errors import InputError
from snn2chip.nn import MHT
from snn2chip.reports.tables import outputs_table
from snn2chip.testing.whole import folded, whole

T, N = 4, 40


class Net(nn.Module):
    """A still picture and sound by step to a class (mean of a current), a place (last step) and a count of levels."""

    T = T

    def __init__(self) -> None:
        super().__init__()
        self.look, self.hear = nn.Linear(6, 8), nn.Linear(4, 8)
        self.act = MHT(steps=T, levels=3, theta=2.0)
        self.kind, self.place, self.more = nn.Linear(8, 3), nn.Linear(8, 2), nn.Linear(8, 4)
        self.last = MHT(steps=T, levels=3, theta=2.0)

    def forward(self, image: Tensor, sound: Tensor) -> Any:
        y = self.act(self.look(image.flatten(1)).unsqueeze(0).repeat(T, 1, 1) + folded(self.hear, sound))
        spikes = self.last(folded(self.more, y))
        return {"kind": folded(self.kind, y).mean(0), "place": folded(self.place, y)[-1], "spikes": spikes.sum(0)}


def samples() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {
        "image": torch.randint(0, 8, (N, 2, 3), generator=generator).float(),
        "sound": torch.randint(0, 8, (T, N, 4), generator=generator).float(),
    }


def raw(x: dict[str, Tensor]) -> dict[str, Any]:
    return {name: value.numpy().astype(np.int64) for name, value in x.items()}


def test_whole_numbers_agree_in_every_output() -> None:
    net, x = whole(Net(), seed=3), samples()
    program, graph = compile_graph(net, x, weights="int8")
    with torch.no_grad():
        want = {name: value.numpy().argmax(1) for name, value in net(**x).items()}
    wrong = np.array(want["place"])
    wrong[:10] = 1 - wrong[:10]
    labels = {"kind": want["kind"], "place": wrong}
    for side in (graph, net):
        found = snn2chip.fidelity(program, side, raw(x), labels=labels)
        assert [(o.output, o.read, o.agreement) for o in found.outputs] == [
            ("kind", "potential", 1.0),
            ("place", "potential", 1.0),
            ("spikes", "payload", 1.0),
        ]
        assert [o.float_accuracy for o in found.outputs] == [1.0, 0.75, None]
        assert [o.integer_accuracy for o in found.outputs] == [1.0, 0.75, None]
        assert [o.error for o in found.outputs] == [0.0, 0.0, 0.0]
        assert (found.samples, found.differing, found.float_accuracy, found.integer_accuracy) == (N, 0, 1.0, 1.0)
        rows = {row.soma: row for row in found.layers}
        assert {"neuron1", "neuron2", "readout", "readout_2"} <= set(rows)
        assert rows["neuron1"].free_equal == rows["neuron2"].free_equal == 1.0
        assert rows["readout"].free_potential == rows["readout_2"].free_potential == 0.0
        kept = found.as_dict()["outputs"]
        assert [row["output"] for row in kept] == ["kind", "place", "spikes"]


def test_an_output_that_is_off_shows_in_its_own_row() -> None:
    """Weights of one head in two bits: its values are off, those of the others are not."""
    torch.manual_seed(5)
    net, x = whole(Net(), seed=3), samples()
    with torch.no_grad():
        net.kind.weight.copy_(torch.randn(3, 8))  # type: ignore[union-attr, operator]
    program, _ = compile_graph(net, x, weights="int8", overrides={"kind": "int2"})
    kind, place, spikes = snn2chip.fidelity(program, net, raw(x)).outputs
    assert kind.error is not None
    assert 0.02 < kind.error < 1.0
    assert (place.error, spikes.error) == (0.0, 0.0)
    got = snn2chip.run(program, raw(x))
    with torch.no_grad():
        logits = net(**x)["kind"].numpy()
    unit = np.asarray(program.meta["units"]["potential"]["readout"]) / T
    off = np.sqrt(np.square(got.all_outputs["kind"] * unit - logits).sum() / np.square(logits).sum())
    assert kind.error == pytest.approx(off, rel=1e-6)
    assert kind.agreement == np.mean(got.all_outputs["kind"].argmax(1) == logits.argmax(1))


def test_blocks_do_not_matter_and_labels_must_fit() -> None:
    net, x = whole(Net(), seed=3), samples()
    program, graph = compile_graph(net, x, weights="int4")
    first, second = (snn2chip.fidelity(program, graph, raw(x), block=block) for block in (7, 64))
    for a, b in zip(first.outputs, second.outputs, strict=True):
        assert (a.output, a.agreement) == (b.output, b.agreement)
    with pytest.raises(InputError, match="labels of colour: the outputs are kind, place, spikes"):
        snn2chip.fidelity(program, graph, raw(x), labels={"colour": np.zeros(N)})
    with pytest.raises(InputError, match="3 labels of kind for 40 samples"):
        snn2chip.fidelity(program, graph, raw(x), labels=np.zeros(3))
    with pytest.raises(InputError, match="several inputs, give a dict"):
        snn2chip.fidelity(program, graph, raw(x)["image"])


def test_a_chosen_readout_is_compared_with_the_models_own_steps() -> None:
    class Steps(Net):
        def forward(self, image: Tensor, sound: Tensor) -> Any:
            y = self.act(self.look(image.flatten(1)).unsqueeze(0).repeat(T, 1, 1) + folded(self.hear, sound))
            return self.last(folded(self.more, y))

    net, x = whole(Steps(), seed=3), samples()
    for how in ("count", "auto", "last"):
        program, _ = compile_graph(net, x, weights="int8", readout=how)
        (row,) = snn2chip.fidelity(program, net, raw(x)).outputs
        assert (row.agreement, row.error) == (1.0, 0.0), how


def test_certificates_of_several_inputs() -> None:
    class One(Net):
        def forward(self, image: Tensor, sound: Tensor) -> Any:
            return super().forward(image, sound)["kind"]

    torch.manual_seed(0)
    net, x = One().eval(), samples()
    program, graph = compile_graph(net, x)
    found = certificate(program, graph, raw(x))
    assert found.samples == N
    assert sum(layer.violations for layer in found.layers) == 0
    assert sum(layer.certified for layer in found.layers) > 0


def test_reports_and_commands_name_the_outputs(tmp_path: Path) -> None:
    net, x = whole(Net(), seed=3), samples()
    program, graph = compile_graph(net, x, weights="int8")
    found = snn2chip.report(program, raw(x), float_graph=graph)
    assert [row["output"] for row in found.as_dict()["fidelity"]["outputs"]] == ["kind", "place", "spikes"]
    shown = "".join(str(cell) for column in outputs_table(found.fidelity or {}).columns for cell in column.cells)
    assert "kind" in shown
    assert "100.00%" in shown
    program.save(tmp_path / "p.s2c")
    np.savez(tmp_path / "x.npz", image=raw(x)["image"], sound=np.moveaxis(raw(x)["sound"], 0, 1))
    told = CliRunner().invoke(app, ["run", str(tmp_path / "p.s2c"), "--input", str(tmp_path / "x.npz")])
    assert told.exit_code == 0, told.output
    for line in ("output kind: 3 values, potential", "output spikes: 4 values, payload"):
        assert line in told.output
