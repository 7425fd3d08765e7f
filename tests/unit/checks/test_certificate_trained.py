"""The certificate on trained modules, and on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import snn2chip.checks.certificate as room
import snn2chip.data.feed as data_feed
from snn2chip.checks import float_side
from snn2chip.checks.certificate import certificate
from snn2chip.checks.certificate_result import Certificate
from snn2chip.cli.command import app
from snn2chip.compiler import compile_float_graph, compile_graph
from snn2chip.nn import EMPF, LMHT, EMPFParallel, Repeat, Seq, TimeMean, make_neuron, quantize_neurons, quantize_weights
from snn2chip.testing.float_graphs import net

STD = 6.0
RAW = np.random.default_rng(4).integers(0, 17, (24, 1, 6, 6))
X = (torch.as_tensor(RAW).float() - 5.0) / STD
NORMALISE = {"scale": 1.0, "mean": 5.0, "std": STD}


def trained(make: Any, *, bits: int | None = None) -> nn.Module:
    """Conv, norm, pooling and linear layers around three neurons, a few steps of training."""
    torch.manual_seed(4)
    front = [nn.Conv2d(1, 5, 3, padding=1, bias=False), nn.BatchNorm2d(5), Repeat(3), make()]
    middle = [nn.Conv2d(5, 6, 3, padding=1, stride=2), nn.BatchNorm2d(6), make(), nn.AvgPool2d(3), nn.Flatten()]
    model = Seq(*front, *middle, nn.Linear(6, 8), make(), nn.Linear(8, 4), TimeMean())
    if bits is not None:
        quantize_neurons(quantize_weights(model, bits=bits), input_unit=1 / STD)
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.02)
    for _ in range(4):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(X), torch.arange(24) % 4).backward()
        optimiser.step()
    return model.eval()


MAKERS = {
    "lif": lambda: make_neuron("lif", steps=3, leak=0.9, theta=0.4),
    "mht": lambda: make_neuron("mht", steps=3, levels=4, leak=0.83, theta=0.3),
    "lmht": lambda: LMHT(steps=3, levels=3, theta=0.3),
    "empf": lambda: EMPF(steps=3),
    "empf-4-bit": lambda: EMPF(steps=3, payload_bits=4),
    "empf-parallel": lambda: EMPFParallel(steps=3),
}


@pytest.mark.parametrize("kind", MAKERS)
def test_trained_float_networks_have_no_violation_and_most_steps_certified(kind: str) -> None:
    program, graph = compile_graph(trained(MAKERS[kind]), X, calibration=RAW, normalise=NORMALISE)
    found = certificate(program, graph, RAW)
    assert found.violations == 0
    rows = [row for row in found.layers if row.soma != "readout"]
    assert len(rows) == 3
    assert all(row.certified > 0.5 * row.steps for row in rows)
    assert any(row.certified < row.steps for row in rows)


@pytest.mark.parametrize("kind", ["lif", "mht", "lmht"])
def test_a_network_trained_on_its_integers_is_certified_without_exception(kind: str) -> None:
    """Nothing is rounded behind the training, so every step of every neuron is equal, whatever came before."""
    program, graph = compile_graph(trained(MAKERS[kind], bits=4), X, calibration=RAW, normalise=NORMALISE)
    assert set(program.meta["trained"].values()) == {"exact"}
    for row in certificate(program, graph, RAW).layers:
        assert row.unconditional == row.certified == row.equal == row.steps > 0


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A program, samples, and the float network it came from, as arguments of `snn2chip check`."""
    graph, x = net("lif", 3)
    compile_float_graph(graph, x, weights="int4").save(tmp_path / "p.s2c")
    np.savez(tmp_path / "x.npz", x=x)

    def predict(raw: Any) -> Any:
        return graph.run(torch.from_numpy(np.array(raw, np.float64))).output.numpy()

    (tmp_path / "g.safetensors").write_bytes(b"not read: the float side is given")
    monkeypatch.setattr(float_side, "float_side", lambda *_, **__: (graph, predict))
    names = ("p.s2c", "--input", "x.npz", "--float", "g.safetensors", "--json", "out.json")
    return [name if name.startswith("--") else str(tmp_path / name) for name in names]


def check(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["check", *arguments, "--backends", "reference,torch"])


def test_check_prints_the_table_and_fails_only_on_a_violation(
    files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = check(*files, "--certificate")
    assert good.exit_code == 0, good.output
    assert "net.n1" in good.output
    assert "violations" in good.output
    found = json.loads((tmp_path / "out.json").read_text())["certificate"]
    assert found["violations"] == 0
    assert 0 < found["layers"][0]["certified"] < found["layers"][0]["steps"]
    assert "certificate" not in check(*files).output
    real = room.certificate

    def unsound(*args: Any, **options: Any) -> Certificate:
        return real(*args, **options, without=["drive"])

    monkeypatch.setattr(room, "certificate", unsound)
    bad = check(*files, "--certificate")
    assert bad.exit_code == 1
    assert "net.n1" in bad.output
    assert "the certificate is violated" in bad.output


def test_samples_are_read_in_blocks_and_the_table_is_the_same(
    files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert check(*files, "--certificate").exit_code == 0
    whole = json.loads((tmp_path / "out.json").read_text())["certificate"]
    seen = []
    real = room.certificate

    def counted(*args: Any, **options: Any) -> Certificate:
        seen.append(len(next(iter(args[2].values()))))
        return real(*args, **options)

    monkeypatch.setattr(room, "certificate", counted)
    monkeypatch.setattr(data_feed, "READ", 5)
    assert check(*files, "--certificate").exit_code == 0
    assert len(seen) > 1
    assert max(seen) == 5
    assert sum(seen) == whole["samples"]
    assert json.loads((tmp_path / "out.json").read_text())["certificate"] == whole


def test_a_certificate_needs_a_float_model(files: list[str]) -> None:
    refused = check(*files[:3], "--certificate")
    assert refused.exit_code == 2
    assert "--float CKPT" in refused.output
