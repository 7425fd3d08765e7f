"""Input coding, strict compare and the form of parallel neurons, as compile takes them."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import snn2chip
from snn2chip.checks.fidelity import fidelity
from snn2chip.compiler import compile_float_graph, compile_graph
from snn2chip.convert import convert, rate_code, to_parallel
from snn2chip.errors import InputError, UnsupportedError
from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.layers import FloatSoma, InputLayer, OutputLayer
from snn2chip.ir.linear_layers import LinearLayer
from snn2chip.ir.neuron_layer import NeuronLayer
from snn2chip.nn import QCFS
from snn2chip.passes import run_passes
from snn2chip.quantize.choices import Choices

T = 6


def ann(*, bias: bool = True, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(12, 16, bias=bias), nn.ReLU(), nn.Linear(16, 10), nn.ReLU(), nn.Linear(10, 4)).eval()


def pixels(n: int = 40, top: int = 255) -> Any:
    return np.random.default_rng(1).integers(0, top + 1, (n, 12))


def ic_snn() -> tuple[LayerGraph, Any]:
    x = torch.as_tensor(pixels()) / 255
    graph = convert(ann(), x[:4].float(), method="ic-snn", steps=T, data=x.float())
    return run_passes(graph.with_normalisation(scale=1 / 255)), pixels()


@pytest.mark.parametrize("rounding", ["floor", "round"])
def test_a_program_that_codes_raw_images_equals_one_fed_the_coded_frames(rounding: str) -> None:
    graph, raw = ic_snn()
    choices = Choices(input_coding=f"rate-{rounding}")
    program = compile_float_graph(graph, raw, choices=choices)
    (node,) = program.inputs
    assert (node.coding, node.scale, node.lo, node.hi) == (f"rate-{rounding}", 255.0, 0, 1)
    trace = snn2chip.run(program, raw, backend="reference", record="all")
    frames = rate_code(torch.as_tensor(raw), steps=T, payload=255, rounding=rounding) // 255  # type: ignore[arg-type]
    fed = snn2chip.run(program, frames.numpy(), backend="reference", record="all", time_axis=True)
    assert all((trace.payloads[k] == fed.payloads[k]).all() for k in trace.payloads)
    assert (trace.outputs == fed.outputs).all()
    half = Fraction(rounding == "round", 2)
    spikes = [[int(Fraction(int(v) * T, 255) + half) for v in row] for row in raw]
    assert (trace.inputs[node.name].sum(0) == spikes).all()
    other = snn2chip.run(program, raw, backend="torch", record="all")
    assert all((trace.payloads[k] == other.payloads[k]).all() for k in trace.payloads)
    assert all(trace.payloads[s.name].any() for s in program.somas if s.fire != "none")


def test_fidelity_codes_the_float_network_like_the_program(tmp_path: Any) -> None:
    """The uncoded graph gets the program's own code; without it most spikes of the first layer would differ."""
    graph, raw = ic_snn()
    program = compile_float_graph(graph, raw, choices=Choices(input_coding="rate-round"))
    program.save(tmp_path / "p.s2c")
    rows = fidelity(snn2chip.load(tmp_path / "p.s2c"), graph, raw).layers
    assert min(row.forced_equal for row in rows if row.forced_equal is not None) > 0.98
    direct = compile_float_graph(graph, raw)
    assert direct.inputs[0].coding == "repeat"


def test_ic_snn_keeps_its_initial_potentials_and_bias_in_integers() -> None:
    """v(0) and V/(2T) per step, in units of each channel's potential."""
    x = (torch.as_tensor(pixels()) / 255).float()
    graph = convert(ann(), x[:4], method="ic-snn", steps=T, data=x, initial="weights", compensation="potential")
    program = compile_float_graph(run_passes(graph), x.numpy())
    for layer in graph.of_kind("neuron"):
        assert isinstance(layer, NeuronLayer)
        name = program.meta["layers"][layer.name]
        mu = np.array(program.meta["units"]["potential"][name])
        v = program[name].v_init.ravel() * mu  # type: ignore[union-attr]
        assert np.abs(v - float(layer.soma.v_init)).max() <= mu.max() / 2
        assert (v > 0).all()


@pytest.mark.parametrize(
    ("data", "options", "error", "text"),
    [
        (-np.ones((9, 12)), {"input_coding": "rate-floor"}, InputError, "spikes carry no sign"),
        (None, {"input_coding": "poisson"}, InputError, "input_coding='poisson' is none of direct, rate-floor, rate-"),
        (None, {"payload_bits": 2}, InputError, r"payload_bits must be 4\.\.16"),
        (None, {"parallel": "both"}, InputError, "parallel='both' is none of as-is, graded, spikes"),
        (None, {"parallel": "spikes"}, UnsupportedError, "neither one graded step without memory"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(data: Any, options: dict[str, Any], error: Any, text: str) -> None:
    graph, raw = ic_snn()
    with pytest.raises(error, match=text):
        compile_float_graph(graph, raw if data is None else data, choices=Choices(**options))


def test_spikes_cannot_carry_a_mean_into_zero_padding() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), QCFS(levels=4, vth=2.0, step_mode="s"), nn.Flatten(), nn.Linear(48, 3)
    ).eval()
    raw = np.random.default_rng(0).integers(0, 256, (9, 1, 4, 4))
    norm = {"scale": 1 / 255, "mean": 0.4, "std": 0.3}
    with pytest.raises(UnsupportedError, match=r"\(0\): pads with zeros"):
        compile_graph(net, torch.randn(4, 1, 4, 4), calibration=raw, normalise=norm, input_coding="rate-floor", steps=1)
    net[0].padding = (0, 0)
    net[3] = nn.Linear(12, 3)
    program, graph = compile_graph(
        net, torch.randn(4, 1, 4, 4), calibration=raw, normalise=norm, input_coding="rate-floor", steps=1
    )
    assert program.inputs[0].offset == 0
    x = torch.as_tensor((raw == 255).astype(np.float32))  # T = 1: a pixel of 255 is one spike
    with torch.no_grad():
        want = answers(net, (x - 0.4) / 0.3)
    torch.testing.assert_close(graph.run(torch.as_tensor(raw)).output, want, rtol=1e-4, atol=1e-4)


def one(soma: FloatSoma) -> LayerGraph:
    """input [4] -> weights 1 -> neuron -> linear."""
    layers = (
        InputLayer(name="x", shape=(4,)),
        LinearLayer(name="fc", path="net.fc", weight=torch.eye(4, dtype=torch.float64)),
        NeuronLayer(name="act", path="net.act", soma=soma),
        LinearLayer(name="head", weight=torch.ones(2, 4, dtype=torch.float64)),
        OutputLayer(name="output", reduce="mean"),
    )
    names = [layer.name for layer in layers]
    return LayerGraph(layers=layers, inputs={b: (a,) for a, b in pairwise(names)}, steps=soma.steps)


def counted(x: Any, *, theta: int, levels: int, reset: str, strict: bool, leak: Fraction) -> Any:
    """Spikes of one neuron per value, in fractions."""
    out = np.zeros((T, *x.shape), dtype=np.int64)
    for at in np.ndindex(x.shape):
        v = Fraction(0)
        for t in range(T):
            v = v * leak + int(x[at])
            s = sum((v > k * theta) if strict else (v >= k * theta) for k in range(1, levels + 1))
            out[(t, *at)] = s
            v = v - s * theta if reset == "subtract" else Fraction(0) if reset == "drop" or s else v
    return out


@pytest.mark.parametrize(
    ("reset", "levels", "leak"),
    [
        ("subtract", 1, 1),
        ("subtract", 3, 1),
        ("zero", 1, 1),
        ("zero", 1, Fraction(1, 2)),
        ("drop", 1, 1),
        ("drop", 3, 1),
    ],
)
def test_both_compares_are_exact_and_differ_on_ties(reset: str, levels: int, leak: Any) -> None:
    """Integers up to 40 against theta 8: multiples of it, and sums that reach it, are ties."""
    soma = FloatSoma(steps=T, theta=8.0, unit=8.0, levels=levels, reset=reset, leak=float(leak))
    x = np.random.default_rng(2).integers(0, 41, (60, 4))
    counts = {}
    for strict in (False, True):
        program = compile_float_graph(one(soma), x, choices=Choices(strict=strict))
        counts[strict] = snn2chip.run(program, x, backend="reference", record="all").payloads["act"]
        assert (counts[strict] == counted(x, theta=8, levels=levels, reset=reset, strict=strict, leak=leak)).all()
    assert (counts[True] != counts[False]).mean() > 0.01


def test_a_constant_current_of_theta_fires_once_less_when_strict() -> None:
    """v(0) = 0: T spikes at v >= theta, T - 1 at v > theta."""
    soma = FloatSoma(steps=T, theta=8.0, unit=8.0)
    x = np.array([[8, 8, 8, 8], [0, 9, 3, 7]])
    made = [compile_float_graph(one(soma), x, choices=Choices(strict=s)) for s in (False, True)]
    total = [snn2chip.run(p, x, backend="reference", record="all").payloads["act"][:, 0].sum(0).tolist() for p in made]
    assert total == [[T] * 4, [T - 1] * 4]


def test_a_leaking_soft_reset_has_no_strict_form() -> None:
    soma = FloatSoma(steps=T, theta=8.0, unit=8.0, leak=0.5)
    with pytest.raises(UnsupportedError, match=r"act \(net\.act\): no strict compare, it leaks"):
        compile_float_graph(one(soma), np.arange(8).reshape(2, 4), choices=Choices(strict=True))


def qcfs_net(levels: int = 5) -> nn.Sequential:
    torch.manual_seed(4)
    layers = [nn.Conv2d(1, 4, 3, padding=1), QCFS(levels=levels, vth=2.0, step_mode="s"), nn.AvgPool2d(2)]
    layers += [
        nn.Conv2d(4, 6, 3, padding=1),
        QCFS(levels=levels, vth=1.0, step_mode="s"),
        nn.Flatten(),
        nn.Linear(96, 10),
    ]
    return nn.Sequential(*layers).eval()


def answers(net: nn.Sequential, x: torch.Tensor) -> torch.Tensor:
    """A forward from the start of a sample."""
    for part in net:
        if isinstance(part, QCFS):
            part.reset()
    out: torch.Tensor = net(x)
    return out


def both_forms(graph: LayerGraph, raw: Any) -> dict[str, Any]:
    found = {}
    for form in ("graded", "spikes"):
        program = compile_float_graph(graph, raw, choices=Choices(parallel=form))
        found[form] = program, snn2chip.run(program, raw, backend="torch", record="all")
    return found


def same_counts(found: dict[str, Any], levels: int) -> None:
    (graded, one_step), (spiking, train) = found["graded"], found["spikes"]
    assert (graded.steps, spiking.steps) == (1, levels)
    fired = [s.name for s in graded.somas if s.fire == "levels"]
    assert len(fired) == 2
    for name in fired:
        counts = one_step.payloads[name][0]
        assert (train.payloads[name].sum(0) == counts).all(), name
        assert (np.diff(train.payloads[name], axis=0) <= 0).all(), "the first k steps fire"
        assert set(np.unique(train.payloads[name])) == {0, 1}
        assert len(np.unique(counts)) > levels // 2
    assert (one_step.pred == train.pred).all()


def test_one_graded_step_and_sorted_spikes_send_the_same_counts() -> None:
    net, raw = qcfs_net(), np.random.default_rng(3).integers(0, 17, (50, 1, 8, 8)) / 16.0
    x = torch.as_tensor(raw).float()
    _, graph = compile_graph(net, x, parallel="graded")
    found = both_forms(graph, raw)
    same_counts(found, 5)
    for program, trace in found.values():  # and the counts are those of the network's own activations
        with torch.no_grad():
            want = answers(net[:2], x) / 0.4
        name = next(s.name for s in program.somas if s.fire == "levels")
        assert (trace.payloads[name].sum(0) != np.rint(want.numpy())).mean() < 5e-3
        rows = fidelity(program, net, raw).layers
        assert min(r.forced_equal for r in rows if r.forced_equal is not None) > 0.99


@pytest.mark.parametrize("form", ["graded", "ladder", "steps"])
def test_converted_networks_change_their_form_and_back(form: Any) -> None:
    """Calibrated post-thresholds per channel, from any form of the conversion, keep their float outputs in both."""
    torch.manual_seed(6)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 9), nn.ReLU(), nn.Linear(9, 3))
    x = torch.rand(30, 1, 8, 8)
    graph = run_passes(to_parallel(net.eval(), x[:4], steps=4, data=x, form=form))
    want = graph.run(x.double()).output
    for other in ("graded", "spikes", "graded"):
        graph = Choices(parallel=other).prepared(graph, x.numpy(), per_step=False)
        assert graph.steps == (1 if other == "graded" else 4)
        torch.testing.assert_close(graph.run(x.double()).output, want, rtol=1e-9, atol=1e-9)


@pytest.mark.data
def test_counts_are_equal_in_both_forms_on_real_digits() -> None:
    from snn2chip.data import open_data

    found = open_data("digits", split="train")
    arrays, classes = found.take(600).arrays()
    raw, labels = np.asarray(arrays["x"]), torch.as_tensor(np.asarray(classes))
    x = torch.as_tensor(raw).float() / 16
    net = qcfs_net().train()
    optimiser = torch.optim.Adam(net.parameters(), lr=5e-3)
    for _ in range(40):
        optimiser.zero_grad()
        nn.functional.cross_entropy(answers(net, x), labels).backward()
        optimiser.step()
    _, graph = compile_graph(net.eval(), x, calibration=raw, normalise={"scale": 1 / 16}, parallel="graded")
    found_forms = both_forms(graph, raw)
    same_counts(found_forms, 5)
    assert (found_forms["spikes"][1].pred == labels.numpy()).mean() > 0.8
