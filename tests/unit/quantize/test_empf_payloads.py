"""EM-PF in integers: payloads of 4 to 16 bits, per-step units of merged membrane norms, negative leaks."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import attrs
import numpy as np
import pytest
import torch

import snn2chip
from snn2chip.checks.fidelity import fidelity
from snn2chip.errors import InputError, UnsupportedError
from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.layers import FloatSoma, InputLayer, OutputLayer
from snn2chip.ir.linear_layers import Conv2dLayer, LinearLayer
from snn2chip.ir.neuron_layer import NeuronLayer
from snn2chip.ir.soma import Soma
from snn2chip.nn import EMPFNorm
from snn2chip.passes import run_passes
from snn2chip.passes.leak_range import LEAK_MAX, LeakRange, unit_changes
from snn2chip.quantize.calibrate import calibrate
from snn2chip.quantize.lower import lower
from snn2chip.quantize.payload_steps import best_step, with_payloads
from snn2chip.quantize.spec import QuantSpec
from snn2chip.testing import graphs as nets

STEPS, C = 4, 5
X = np.random.default_rng(0).integers(0, 16, (40, 1, 6, 6))


def error(seen: Any, step: float, bits: int) -> float:
    codes = np.minimum(np.floor(seen / step + 0.5), 2**bits - 1)
    return float(np.square(codes * step - seen).mean())


@pytest.mark.parametrize("bits", [4, 5, 6, 8, 10])
def test_the_step_of_few_bits_loses_least_among_all_shares(bits: int) -> None:
    seen = np.random.default_rng(bits).exponential(size=20000)
    largest = float(seen.max())
    step = best_step(seen, largest, bits)
    whole = largest / (2**bits - 1)
    dense = min(error(seen, whole * share, bits) for share in np.linspace(0.1, 1.0, 451))
    assert error(seen, step, bits) <= 1.02 * dense
    if bits <= 5:  # a long tail: clipping a little is worth much
        assert error(seen, step, bits) < 0.7 * error(seen, whole, bits)


def test_wide_payloads_take_the_whole_range_and_silent_ones_any_step() -> None:
    assert best_step(np.array([1.0, 3.0]), 6.0, 16) == 6.0 / 65535
    assert best_step(np.zeros(0), 0.0, 8) == 1 / 255


@pytest.mark.parametrize("bits", [0, 3, 17, 8.0])
def test_other_widths_are_refused(bits: Any) -> None:
    with pytest.raises(InputError, match=r"payload_bits must be 4\.\.16"):
        QuantSpec(payload_bits=bits)


@pytest.mark.parametrize("bits", [4, 6, 8, 12, 16])
def test_payloads_are_those_of_the_float_net_with_the_same_codes(bits: int) -> None:
    """Beside the plain float net no real payload is met exactly; beside the one with the same codes nearly all are."""
    graph = nets.chain(3, fire="excess", reset="clamp", unit=1.0, leak=0.5)
    program = lower(graph, calibrate(graph, X), spec=QuantSpec(payload_bits=bits))
    trace = snn2chip.run(program, X, backend="reference")
    assert [int(program[n].out_max.max()) for n in ("n1", "n2")] == [2**bits - 1] * 2  # type: ignore[union-attr]
    assert trace.payloads["n1"].max() > 0.8 * 2**bits
    same = {r.soma: r for r in fidelity(program, graph, X, same_payloads=True).layers}
    plain = {r.soma: r for r in fidelity(program, graph, X).layers}
    for name in ("n1", "n2"):
        floor = {12: 0.98, 16: 0.9}.get(bits, 0.999)  # 16 bits: codes finer than what rounds the potential
        assert same[name].forced_equal > floor  # type: ignore[operator]
        if bits <= 12:
            assert plain[name].forced_equal < same[name].forced_equal - 0.1  # type: ignore[operator]
    coded = with_payloads(program, graph).run(torch.as_tensor(X).double(), collect=True).values["n1"].numpy()
    units = program.meta["units"]["payload"]["n1"][0]
    assert np.abs(coded / units - np.rint(coded / units)).max() < 1e-6
    off = np.abs(np.rint(coded / units) - trace.payloads["n1"])
    assert off.max() <= (1 if bits <= 12 else 4)
    assert bits == 16 or (off > 0).mean() < 2e-2


def test_more_payload_bits_come_nearer_to_the_real_payloads() -> None:
    graph = nets.chain(3, fire="excess", reset="clamp", unit=1.0, leak=0.5)
    ranges = calibrate(graph, X)
    far = []
    for bits in (4, 6, 8, 10):
        program = lower(graph, ranges, spec=QuantSpec(payload_bits=bits))
        rows = {r.soma: r for r in fidelity(program, graph, X).layers}
        far.append(rows["n2"].free_potential)
    assert all(b < 0.6 * a for a, b in pairwise(far))


def soma(seed: int, *, top: float) -> FloatSoma:
    g = torch.Generator().manual_seed(seed)
    rand = lambda *s: torch.rand(*s, generator=g, dtype=torch.float64)  # noqa: E731
    return FloatSoma(
        steps=STEPS,
        theta=rand(STEPS, 1) + 0.1,
        unit=1.0,
        fire="excess",
        reset="clamp",
        leak=(2 * rand(STEPS, C) - 1) * top,
        gain=(2 * rand(STEPS, C) - 1) * top / 2,
        bias=rand(STEPS, C) - 0.5,
    )


def one(given: FloatSoma, seed: int = 7) -> LayerGraph:
    """input [1,6,6] -> conv of exact weights -> the neuron -> linear."""
    g = torch.Generator().manual_seed(seed)
    weight = torch.randint(-60, 61, (C, 1, 3, 3), generator=g).double() / 1024
    weight[:, 0, 0, 0] = 127 / 1024
    layers = (
        InputLayer(name="x", shape=(1, 6, 6)),
        Conv2dLayer(name="conv", path="net.conv", weight=weight),
        NeuronLayer(name="act", path="net.act", soma=given),
        LinearLayer(name="fc", path="net.fc", weight=torch.randn(3, C * 16, generator=g).double()),
        OutputLayer(name="output", reduce="mean"),
    )
    names = [layer.name for layer in layers]
    return LayerGraph(layers=layers, inputs={b: (a,) for a, b in pairwise(names)}, steps=STEPS)


@pytest.mark.parametrize("seed", range(6))
def test_changing_the_unit_per_step_is_exact_in_float(seed: int) -> None:
    graph = one(soma(seed, top=40.0))
    apart = LeakRange().run(graph)
    inner, outer = (layer.soma for layer in apart.of_kind("neuron"))  # type: ignore[attr-defined]
    assert (inner.leak.abs() <= LEAK_MAX).all()
    assert outer.reset == "drop"
    x = torch.as_tensor(X).double()
    want, got = graph.run(x, collect=True).values["act"], apart.run(x, collect=True).values["act"]
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
    assert (want > 0).double().mean() > 0.05


def test_units_change_no_more_than_they_must() -> None:
    leak = torch.tensor([[20.0], [1.9], [-9.0], [0.5]], dtype=torch.float64)
    g = unit_changes(leak, steps=4, channels=1).flatten().tolist()
    assert g == [4.0, 1.0, 2.0, 1.0]  # 20/8 -> 4; 1.9*4/8 -> 1; 9/8 -> 2; 0.5*2/8 -> 1
    plain = one(soma(1, top=7.0))
    assert LeakRange().run(plain).text() == plain.text()


def norm(*, negative: bool, narrow: bool) -> EMPFNorm:
    """A membrane norm with negative slopes, or variances so small that merged leaks pass 8."""
    torch.manual_seed(3)
    made = EMPFNorm(steps=STEPS, channels=C, payload_bits=8, payload_step=1 / 8).double().eval()
    for part in made.norms:
        part.running_mean.normal_(0.2, 0.1)  # type: ignore[union-attr, operator]
        part.running_var.uniform_(4e-4, 1e-3) if narrow else part.running_var.uniform_(0.3, 2.0)  # type: ignore[union-attr, operator]
        part.weight.data.uniform_(0.8, 1.2)  # type: ignore[union-attr, operator]
        part.bias.data.normal_(0.3, 0.3)  # type: ignore[union-attr, operator]
        if negative:
            part.weight.data[::2] *= -4.0  # type: ignore[index, operator]
    return made


def equations(module: EMPFNorm, current: Any) -> tuple[Any, Any]:
    """(E3.2), (E3.3) as printed, in float64: real payloads and kept potentials `[T,B,C,..]`."""
    v, sent, kept = np.zeros_like(current[0]), [], []
    half = 0.5  # sigmoid of the untrained raw values: leak, theta, alpha, beta
    for t, part in enumerate(module.norms):
        rows = [np.reshape(getattr(part, k).detach().numpy(), (-1, 1, 1)) for k in ("weight", "bias")]
        mean, var = (np.reshape(getattr(part, k).numpy(), (-1, 1, 1)) for k in ("running_mean", "running_var"))
        m = half * v + current[t]
        n = half * m + half * (rows[0] * (m - mean) / np.sqrt(var + part.eps) + rows[1])  # type: ignore[operator]
        sent.append(np.maximum(n - half, 0))
        v = np.minimum(n, half)
        kept.append(v)
    return np.stack(sent), np.stack(kept)


@pytest.mark.parametrize(("negative", "narrow"), [(True, False), (False, True), (True, True)])
def test_membrane_norms_in_integers_against_the_printed_equations(negative: bool, narrow: bool) -> None:
    """Potentials stay inside e(t) = |leak| e(t-1) + roundings, and codes differ only where that lets them."""
    module = norm(negative=negative, narrow=narrow)
    graph = run_passes(one(module.lower()))
    neurons = [layer for layer in graph.of_kind("neuron") if isinstance(layer, NeuronLayer)]
    assert len(neurons) == (2 if narrow else 1)
    assert any(bool((n.soma.leak < 0).any()) for n in neurons) == negative
    program = lower(graph, calibrate(graph, X))
    trace = snn2chip.run(program, X, backend="reference")
    current = graph.run(torch.as_tensor(X).double(), collect=True).values["conv"].numpy()
    sent, kept = equations(module, current)
    state = neurons[0]
    scale = np.ones((STEPS, C)) if not narrow else unit_changes(module.lower().leak, steps=STEPS, channels=C).numpy()
    node = program[state.name]
    assert isinstance(node, Soma)
    mu = np.reshape(program.meta["units"]["potential"][node.name], (C, 1, 1))
    f, wide = state.soma, lambda v, t: np.broadcast_to(v.numpy(), (STEPS, C))[t].reshape(C, 1, 1)
    delta = 1 / 1024
    inner = program.meta["units"]["payload"][node.name][0] / 2 if narrow else 0.0
    e = np.zeros((C, 1, 1))
    v = np.zeros_like(kept[0])
    for t in range(STEPS):
        leak, gain = node.at("leak", t) / 4096, node.at("gain", t) * mu / 2.0 ** node.at("gain_shift") / delta
        rounding = np.abs(v) * np.abs(leak - wide(f.leak, t)) + np.abs(current[t] * (gain - wide(f.gain, t))) + 2.5 * mu
        e = np.abs(leak) * e + rounding
        want = kept[t] / scale[t].reshape(C, 1, 1)
        assert (np.abs(trace.potentials[node.name][t] * mu - want) <= e + 1e-9).all()
        v = want
        excess = np.abs(trace.payloads["act"][t] / 8 - np.minimum(np.floor(sent[t] * 8 + 0.5), 255) / 8)
        slack = 1.02 * (e + mu + inner) * scale[t].reshape(C, 1, 1) + 2e-3 * sent[t]
        allowed = np.ceil(8 * slack) / 8
        assert (excess <= allowed).all(), (t, (excess - allowed).max(), (excess > allowed).mean(), slack.max())
    assert (sent > 0).mean() > 0.1
    codes = np.minimum(np.floor(sent * 8 + 0.5), 255)
    assert (trace.payloads["act"] == codes).mean() > 0.97
    other = snn2chip.run(program, X, backend="torch")
    assert all((trace.payloads[k] == other.payloads[k]).all() for k in trace.payloads)


def test_negative_leaks_are_refused_on_loihi1_by_layer() -> None:
    graph = run_passes(one(norm(negative=True, narrow=False).lower()))
    ranges = calibrate(graph, X)
    lower(graph, ranges, target="loihi2")
    lower(graph, ranges, target="ideal")
    with pytest.raises(UnsupportedError, match=r"act \(net\.act\): \d+ of 20 merged leaks are negative"):
        lower(graph, ranges, target="loihi1")


def test_a_leak_that_no_unit_can_help_is_refused() -> None:
    """Levels with soft reset have no such leaks; where one is written anyway the register is named."""
    layer = one(soma(0, top=1.0)).layer("act")
    assert isinstance(layer, NeuronLayer)
    loud = attrs.evolve(layer.soma, fire="levels", reset="subtract", leak=torch.tensor(9.0), theta=torch.tensor(1.0))
    graph = run_passes(one(loud))
    with pytest.raises(Exception, match=r"leak = 36864/4096 does not fit"):
        lower(graph, calibrate(graph, X))
