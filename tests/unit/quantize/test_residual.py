"""Residual networks: relays write in the unit of the sum they feed, binary weights stay ±1, paths meet in time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from snn2chip_models.blocks_empf import empf_stages
from snn2chip_models.registry import build
from torch import nn

import snn2chip
from snn2chip.checks.fidelity import fidelity
from snn2chip.compiler import compile_graph
from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.program import Program
from snn2chip.nn import Repeat, Seq, TimeMean
from snn2chip.quantize.calibrate import calibrate
from snn2chip.quantize.lower import lower
from snn2chip.schedule import schedule
from snn2chip.testing import graphs

STEPS = 3


@pytest.fixture(scope="module")
def preactivation() -> tuple[Program, LayerGraph, np.ndarray]:
    """Two pre-activation EM-PF blocks: an identity shortcut, then a strided one through a binary 1x1 convolution."""
    torch.manual_seed(0)
    stages = empf_stages(blocks=[1, 1], channels=[8, 12], strides=[1, 2], inputs=8, steps=STEPS)
    stem = [nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), Repeat(STEPS)]
    head = [nn.AvgPool2d(3), nn.Flatten(), nn.Linear(12, 5), TimeMean()]
    model = Seq(*stem, stages, *head)
    raw = np.random.default_rng(0).integers(0, 17, (64, 1, 6, 6))
    x = torch.as_tensor((raw - 8) / 4, dtype=torch.float32)
    for _ in range(20):
        model(x)
    model.eval()
    norm = {"scale": 1.0, "mean": 8.0, "std": 4.0}
    return *compile_graph(model, x[:4], calibration=raw, normalise=norm), raw


def test_every_trained_binary_convolution_keeps_its_signs(preactivation) -> None:
    program, _, _ = preactivation
    convs = [s for s in program.synapses if s.kind == "conv2d"]
    assert [s.bits for s in convs].count(1) == 5  # two per block and the shortcut
    assert all(set(np.unique(s.weight)) == {-1, 1} for s in convs if s.bits == 1)
    shared = [s for s in convs if s.exponent]
    assert {s.exponent for s in shared} == {3}
    assert len(shared) == 2  # one binary branch a sum enters directly
    identities = [s for s in program.synapses if s.kind == "identity"]
    assert len(identities) == 2  # the shortcut's relay, and the relay behind the second binary branch
    assert all(abs(int(s.weight)) == 1 for s in identities)


def test_logits_follow_the_float_network(preactivation) -> None:
    program, graph, raw = preactivation
    floats = graph.run(torch.as_tensor(raw, dtype=torch.float32)).output.numpy()
    trace = snn2chip.run(program, raw, record="outputs")
    logits = trace.outputs * program.meta["units"]["potential"]["readout"][0] / STEPS
    assert np.abs(logits - floats).max() < 0.02 * np.abs(floats).max()
    assert trace.counts.totals["saturations"] == 0
    measured = fidelity(program, graph, raw)
    for row in measured.layers:
        assert row.forced_potential < 0.02


def test_paths_of_different_length_meet(preactivation) -> None:
    program, _, raw = preactivation
    plan = schedule(program)
    assert max(plan.buffers.values()) >= 1
    assert min(plan.buffers.values()) == 0
    assert snn2chip.check(program, raw[:3], backends=("reference", "torch")).equal


def test_an_identity_named_first_does_not_claim_the_unit() -> None:
    graph = graphs.residual(2)
    swapped = LayerGraph(layers=graph.layers, inputs={**graph.inputs, "add": ("skip", "f2")}, steps=graph.steps)
    x = np.random.default_rng(1).integers(0, 8, (40, 4))
    programs = [lower(g, calibrate(g, x)) for g in (graph, swapped)]
    assert programs[1]["f2"].bits == 1
    traces = [snn2chip.run(p, x, backend="reference") for p in programs]
    assert (traces[0].payloads["n2"] == traces[1].payloads["n2"]).all()


def test_every_layer_of_a_binary_resnet20_is_right_by_itself() -> None:
    """Untrained nets amplify every early flip; fed the float network's own payloads, each layer must agree."""
    torch.manual_seed(0)
    model = build("resnet20", activation="lmht", L=2, T=2, stem="cifar", weights="binary")
    coarse = np.random.default_rng(0).integers(0, 256, (8, 3, 8, 8)).repeat(4, 2).repeat(4, 3)
    x = torch.as_tensor((coarse - 128) / 64, dtype=torch.float32)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None  # a plain average over the passes below
                module.bias.uniform_(0.0, 0.4)
        for _ in range(3):
            for module in model.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.reset_running_stats()
            model(x)
    model.eval()
    norm = {"scale": 1.0, "mean": 128.0, "std": 64.0}
    program, graph = compile_graph(model, x[:2], calibration=coarse, normalise=norm)
    assert [s.bits for s in program.synapses if s.kind == "conv2d"].count(1) == 20  # 18 and two 1x1 shortcuts
    measured = fidelity(program, graph, coarse[:2])
    assert sum((row.rate or 0.0) > 0.02 for row in measured.layers) >= 18
    assert min(row.forced_equal for row in measured.layers if row.forced_equal is not None) > 0.99
