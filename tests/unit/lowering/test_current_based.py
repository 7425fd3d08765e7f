"""Neurons that other frameworks train: synaptic currents, reset values, floors, delayed resets, strict compare, delays.

The float interpreter is held against the equations in exact rationals, the integer program against the float graph on
weights and thresholds that are exact on its grid, where every payload must be equal.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

import snn2chip
from snn2chip.compiler import compile_float_graph
from snn2chip.errors import TraceError, UnsupportedError
from snn2chip.ir.delay_layer import DelayLayer
from snn2chip.ir.float_run import run_soma
from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.layers import FloatSoma, InputLayer, OutputLayer
from snn2chip.ir.linear_layers import LinearLayer
from snn2chip.ir.neuron_layer import NeuronLayer
from snn2chip.passes import run_passes

T = 12
KINDS = {
    "cuba": dict(syn_leak=0.5, reset="zero"),
    "cuba-bias": dict(syn_leak=0.75, reset="subtract"),
    "delayed": dict(reset="subtract-delayed"),
    "value": dict(reset="value", v_reset=-0.5, v_init=-0.5),
    "floor": dict(reset="subtract", v_min=-1.0),
    "strict": dict(reset="zero", strict=True),
    "strict-floor": dict(reset="subtract", strict=True, v_min=-0.5, leak=1.0),
    "strict-delayed": dict(reset="subtract-delayed", strict=True, leak=1.0),
}


def exact(kind: dict, currents, *, theta=Fraction(2)):
    """Spikes by the equations of FloatSoma in rationals; `currents [T][N]`."""
    leak = Fraction(kind.get("leak", 0.5))
    v = [Fraction(kind.get("v_init", 0))] * len(currents[0])
    u, last = [Fraction(0)] * len(v), [0] * len(v)
    out = []
    for row in currents:
        spikes = []
        for i, drive in enumerate(row):
            x = Fraction(drive)
            if "syn_leak" in kind:
                u[i] = x = Fraction(kind["syn_leak"]) * u[i] + x
            m = leak * v[i] + x
            if kind["reset"] == "subtract-delayed":
                m -= theta * last[i]
            s = int(m > theta if kind.get("strict") else m >= theta)
            if s and kind["reset"] == "subtract":
                m -= theta
            if s and kind["reset"] == "zero":
                m = Fraction(0)
            if s and kind["reset"] == "value":
                m = Fraction(kind["v_reset"])
            v[i], last[i] = max(m, Fraction(kind["v_min"])) if "v_min" in kind else m, s
            spikes.append(s)
        out.append(spikes)
    return np.array(out)


def soma(kind: dict, **more) -> FloatSoma:
    return FloatSoma(steps=T, **{"theta": 2.0, "unit": 1.0, "leak": 0.5, **kind, **more})


@pytest.mark.parametrize("name", KINDS)
def test_float_run_is_the_equation(name):
    rng = np.random.default_rng(5)
    currents = rng.integers(-3, 6, (T, 40)) / 2  # eighths stay exact in float64, and ties happen
    want = exact(KINDS[name], currents.tolist())
    run = run_soma(soma(KINDS[name]), torch.tensor(currents)[:, None])
    assert 0.05 < want.mean() < 0.95
    assert np.array_equal(run.payload[:, 0].numpy(), want)


def net(first: FloatSoma, *, bias=None, delay: int = 0, reduce: str = "sum", second: FloatSoma | None = None):
    rng = np.random.default_rng(3)
    w1 = torch.tensor(rng.integers(-7, 8, (9, 6)) / 8)
    w2 = torch.tensor(rng.integers(-7, 8, (4, 9)) / 8)
    layers = [
        InputLayer(name="input", shape=(6,)),
        LinearLayer(name="fc1", weight=w1, bias=bias),
        NeuronLayer(name="lif1", soma=first),
        LinearLayer(name="fc2", weight=w2),
        NeuronLayer(name="lif2", soma=second or soma({})),
        OutputLayer(name="output", reduce=reduce),
    ]
    inputs = {"fc1": ["input"], "lif1": ["fc1"], "fc2": ["lif1"], "lif2": ["fc2"], "output": ["lif2"]}
    if delay:
        layers.append(DelayLayer(name="late", delay=delay, steps=T))
        inputs |= {"late": ["lif1"], "fc2": ["late"]}
    return LayerGraph(layers=tuple(layers), inputs=inputs, steps=T)


def compiled(graph, x):
    return compile_float_graph(run_passes(graph), x, weights="int8", time_axis=True)


@pytest.fixture(scope="module")
def spikes():
    return np.random.default_rng(11).integers(0, 4, (T, 32, 6)).astype(np.float64)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("delay", [0, 3])
def test_lowered_neurons_send_the_float_payloads(name, delay, spikes):
    """Leaks of halves and quarters are exact in 1/4096; what is left is the rounding of the grid far below a tie."""
    bias = torch.tensor(np.linspace(-0.3, 0.4, 9)) if name == "cuba-bias" else None
    graph = net(soma(KINDS[name], theta=2.03), bias=bias, delay=delay, second=soma({}, theta=0.77))
    program = compiled(graph, spikes)
    run = graph.run(torch.tensor(spikes), collect=True)
    trace = snn2chip.run(program, spikes, backend="reference", time_axis=True)
    for layer in ("lif1", "lif2"):
        want = run.values[layer].numpy()
        assert want.mean() > 0.02
        differs = (trace.payloads[layer] != want).mean()
        assert differs <= 0.002, (layer, differs)


@pytest.mark.parametrize("name", ["strict", "strict-floor", "strict-delayed", "delayed", "value"])
def test_exact_grids_stay_exact(name, spikes):
    """Whole weights and a power-of-two grid: ties happen, and strict and not strict differ on them."""
    kind = {**KINDS[name], "leak": 1.0}
    weight = torch.tensor(np.random.default_rng(1).integers(-127, 128, (9, 6)), dtype=torch.float64)
    weight[:, 0] = 127.0  # so that one unit of the integers is one unit of the floats
    first = soma({**kind, **({"v_reset": -60.0, "v_init": -60.0} if name == "value" else {})}, theta=254.0)
    if "v_min" in kind:
        first = soma({**kind, "v_min": -60.0}, theta=254.0)
    graph = net(first)
    graph = graph.with_layers(LinearLayer(name="fc1", weight=weight))
    program = compiled(graph, spikes)
    run = graph.run(torch.tensor(spikes), collect=True)
    trace = snn2chip.run(program, spikes, backend="reference", time_axis=True)
    assert (run.before["lif1"] == 254.0).any()
    assert np.array_equal(trace.payloads["lif1"], run.values["lif1"].numpy())


def test_backends_agree_on_current_based_neurons(spikes):
    graph = net(soma(KINDS["cuba"], v_min=-1.0), delay=2)
    result = snn2chip.check(compiled(graph, spikes), spikes, backends=["reference", "torch"], time_axis=True)
    result.raise_if_different()


def test_a_potential_is_read_after_the_last_step(spikes):
    leaky = FloatSoma(steps=T, theta=0.0, unit=1.0, leak=0.75, gain=0.5, syn_leak=0.5, fire="membrane", reset="zero")
    graph = net(soma(KINDS["cuba"]), reduce="last", second=leaky)
    program = compiled(graph, spikes)
    trace = snn2chip.run(program, spikes, backend="reference", time_axis=True)
    unit = program.meta["units"]["payload"][program.meta["layers"]["lif2"]][0]
    want = graph.run(torch.tensor(spikes)).output.numpy()
    got = trace.outputs * unit
    assert np.abs(got - want).max() < 0.02 * np.abs(want).max()
    with pytest.raises(UnsupportedError, match="after the last step"):
        compiled(net(soma({}), reduce="sum", second=leaky), spikes)


def test_what_does_not_go_together_is_refused():
    with pytest.raises(TraceError, match="v_reset goes with"):
        net(soma({"v_reset": 0.5}))
    with pytest.raises(TraceError, match="strict goes with"):
        net(soma({"strict": True}, levels=3))
    with pytest.raises(TraceError, match="synaptic current goes with"):
        net(soma({"syn_leak": 0.5, "reset": "drop"}))
