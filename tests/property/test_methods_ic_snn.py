"""IC-SNN's identities and algorithms, printed and corrected (Li et al. Mathematics 2023)."""

from __future__ import annotations

from fractions import Fraction

import attrs
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import snn2chip
from snn2chip.convert.ic_snn import (
    CORRECTED,
    PLAIN,
    PRINTED,
    ICOptions,
    residual_potentials,
    to_ic_snn,
    weight_potential,
)
from snn2chip.convert.spike_code import direct_code, rate_code, spike_counts
from snn2chip.errors import InputError
from snn2chip.frontends.torch import trace
from snn2chip.ir.float_run import run_soma
from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.host import encode
from snn2chip.ir.layers import FloatSoma
from snn2chip.ir.neuron_layer import NeuronLayer
from snn2chip.ir.nodes import Input
from snn2chip.passes import run_passes
from snn2chip.quantize.calibrate import calibrate
from snn2chip.quantize.lower import lower


def ints(low: int, high: int, *shape: int, seed: int) -> Tensor:
    return torch.randint(low, high + 1, shape, generator=torch.Generator().manual_seed(seed)).double()


def mlp(*, seed: int = 0) -> LayerGraph:
    net = nn.Sequential(nn.Linear(8, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 5)).double()
    for i, linear in enumerate(m for m in net if isinstance(m, nn.Linear)):
        linear.weight.data = ints(-8, 8, *linear.weight.shape, seed=seed + i) / 16
        linear.bias.data = ints(-8, 8, *linear.bias.shape, seed=seed + 10 + i) / 16
    return trace(net, torch.rand(4, 8).double())


def neurons(graph: LayerGraph) -> list[NeuronLayer]:
    return [layer for layer in graph.layers if isinstance(layer, NeuronLayer)]


X = ints(0, 16, 64, 8, seed=99) / 8


def test_the_rate_identity_is_exact() -> None:
    """r*T*V = T*b + W*(sum of payloads before) + v(0) - v(T), in dyadic fractions."""
    graph = to_ic_snn(mlp(), steps=8, data=X, options=PLAIN, thresholds={"relu1": 1.5, "relu2": 2.25})
    run = graph.run(X, collect=True)
    for layer in neurons(graph):
        current = run.values[graph.inputs[layer.name][0]]
        assert torch.equal(run.values[layer.name].sum(0), current.sum(0) - run.after[layer.name][-1])
        residual = run.after[layer.name][-1] / layer.soma.theta
        assert float(residual.min()) < -1  # the claim that it stays within one threshold is false
        assert float(residual.max()) > 1


@pytest.mark.parametrize("steps", [1, 4, 8, 32])
def test_algorithm_1_of_symmetric_weights_is_half_the_threshold(steps: int) -> None:
    half = ints(1, 63, 20, 4, seed=steps)
    half[(steps * half) % 65 == 0] += 1
    net = nn.Sequential(nn.Linear(4, 40, bias=False), nn.ReLU(), nn.Linear(40, 2)).double()
    net[0].weight.data = torch.cat([half, -half])
    found = weight_potential(trace(net, torch.rand(4, 4).double()), "relu1", threshold=65.0, steps=steps)
    assert found == 65 / 2


def test_algorithm_1_adds_the_bias_once_to_every_weight() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)).double()
    net[0].weight.data = torch.tensor([[1.0, -2.0], [3.0, 0.5]]).double()
    net[0].bias.data = torch.tensor([0.5, -1.0]).double()
    graph = trace(net, torch.rand(4, 2).double())
    steps, v = 4, 5
    weights = [[Fraction(1), Fraction(-2)], [Fraction(3), Fraction(1, 2)]]
    bias = [Fraction(1, 2), Fraction(-1)]
    terms = [(steps * w + b) % v for row, b in zip(weights, bias, strict=True) for w in row]
    assert weight_potential(graph, "relu1", threshold=5.0, steps=steps) == float(sum(terms) / 4)
    made = to_ic_snn(
        graph, steps=4, data=torch.rand(8, 2).double(), options=CORRECTED["I-weights"], thresholds={"relu1": 5.0}
    )
    assert float(neurons(made)[0].soma.v_init) == float(sum(terms) / 4)


def test_the_literal_residual_goes_far_below_zero_and_the_corrected_ones_do_not() -> None:
    """Neurons with negative drive end at about T times it: the literal mean falls with T, in range it cannot."""
    means = {}
    for steps in (8, 64):
        graph = to_ic_snn(mlp(), steps=steps, data=X, options=PLAIN, thresholds={"relu1": 1.5, "relu2": 2.25})
        for how in ("literal", "in-range", "clamp"):
            means[how, steps] = residual_potentials(graph, [X], names=["relu1", "relu2"], residual=how)
        last = graph.run(X, collect=True).after["relu1"][-1]
        inside = last[(last >= 0) & (last <= 1.5)]
        assert means["literal", steps]["relu1"] == pytest.approx(float(last.mean()), abs=1e-12)
        assert means["in-range", steps]["relu1"] == pytest.approx(float(inside.mean()), abs=1e-12)
        assert means["clamp", steps]["relu1"] == pytest.approx(float(last.clamp(0, 1.5).mean()), abs=1e-12)
    assert means["literal", 64]["relu1"] < 4 * means["literal", 8]["relu1"] < 0
    for how in ("in-range", "clamp"):
        assert all(0 < v < 1.5 for (name, _), row in means.items() if name == how for v in [row["relu1"]])


def test_where_the_compensation_goes() -> None:
    """V/(2T) on the bias of every step is V/2 in all; on the potential it is T times less."""
    steps, v = 8, {"relu1": 1.5, "relu2": 2.25}
    starts = {}
    for name, options in {**{f"printed {k}": o for k, o in PRINTED.items()}, **CORRECTED, "plain": PLAIN}.items():
        options = attrs.evolve(options, strict=False)
        made = to_ic_snn(mlp(), steps=steps, data=X, options=options, thresholds=v)
        starts[name] = [(float(n.soma.v_init), float(n.soma.bias)) for n in neurons(made)]
    assert starts["plain"] == [(0, 0), (0, 0)]
    assert starts["C"] == [(0, 1.5 / 16), (0, 2.25 / 16)]
    assert starts["printed C"] == [(1.5 / 16, 0), (2.25 / 16, 0)]
    literal = to_ic_snn(mlp(), steps=steps, data=X, options=attrs.evolve(PRINTED["C"], strict=False), thresholds=v)
    residual = residual_potentials(literal, [X], names=["relu1", "relu2"], residual="literal")
    assert starts["printed IC"] == [(residual["relu1"] + 1.5 / 16, 0), (residual["relu2"] + 2.25 / 16, 0)]
    running = to_ic_snn(mlp(), steps=steps, data=X, options=CORRECTED["C"], thresholds=v)
    inside = residual_potentials(running, [X], names=["relu1", "relu2"], residual="in-range")
    assert starts["IC"] == [(inside["relu1"] - 0.75, 1.5 / 16), (inside["relu2"] - 1.125, 2.25 / 16)]


def test_compensation_on_the_bias_is_a_start_at_half_the_threshold_for_constant_currents() -> None:
    z, steps, v = ints(-4, 12, 400, seed=1), 8, 6.0
    common = dict(steps=steps, theta=v, unit=1.0)
    spread = run_soma(FloatSoma(**common, bias=v / 16), z[None, None]).payload.sum(0)
    start = run_soma(FloatSoma(**common, v_init=v / 2), z[None, None]).payload.sum(0)
    assert torch.equal(spread, start)
    assert torch.equal(start[0], torch.floor((steps * z + 3) / 6).clamp(0, steps))


@pytest.mark.parametrize("steps", [1, 4, 16])
def test_a_strict_compare_loses_one_spike_on_a_current_of_one_threshold(steps: int) -> None:
    """Constant current V, v(0) = 0: T spikes with >=, T - 1 with >, in float and in the integer program."""
    counts = {}
    for strict in (False, True):
        net = nn.Sequential(nn.Linear(1, 1, bias=False), nn.ReLU(), nn.Linear(1, 1, bias=False)).double()
        for m in (net[0], net[2]):
            m.weight.data.fill_(3.0)
        one = torch.ones(2, 1).double()
        options = attrs.evolve(PLAIN, strict=strict)
        made = to_ic_snn(trace(net, one), steps=steps, data=one, options=options, thresholds={"relu1": 3.0})
        program = lower(run_passes(made), calibrate(run_passes(made), torch.tensor([[0.0], [1.0]]).double()))
        payloads = snn2chip.run(program, one.numpy().astype(np.int64), backend="reference").payloads["relu1"]
        counts[strict] = (float(made.run(one, collect=True).values["relu1"][:, 0].sum()) / 3, int(payloads[:, 0].sum()))
    assert counts == {False: (steps, steps), True: (steps - 1, steps - 1)}


@pytest.mark.parametrize("steps", [1, 3, 8, 15])
def test_the_rate_code_is_even_and_its_rounding_centred(steps: int) -> None:
    x = torch.arange(0, 65).double() / 64
    for rounding, bias in (("floor", 0.0), ("round", 0.5)):
        spikes = rate_code(x, steps=steps, rounding=rounding)
        count = [min(int(steps * Fraction(i, 64) + Fraction(bias)), steps) for i in range(65)]
        assert spikes.sum(0).tolist() == count
        assert spike_counts(x, steps=steps, rounding=rounding).tolist() == count
        assert set(spikes.unique().tolist()) <= {0.0, 1.0}
        for t in range(1, steps + 1):  # spread evenly: after t steps floor(k*t/T)
            assert spikes[:t].sum(0).tolist() == [k * t // steps for k in count]
    low, high = (
        float((rate_code(x[:-1], steps=steps, rounding=r).mean(0) - x[:-1]).mean()) for r in ("floor", "round")
    )
    assert low < 0
    assert abs(high) < abs(low) or steps == 1
    assert torch.equal(direct_code(x, steps=steps).mean(0), x)


def test_signed_values_have_no_spike_code() -> None:
    with pytest.raises(InputError, match="2 negative values"):
        rate_code(torch.tensor([0.5, -0.25, -1.0]), steps=4)
    with pytest.raises(InputError, match="rounding='up' is none of 'floor', 'round'"):
        rate_code(torch.tensor([0.5]), steps=4, rounding="up")


def test_options_are_checked_by_name() -> None:
    with pytest.raises(InputError, match="initial='both' is none of 'zero', 'weights', 'data'"):
        ICOptions(initial="both")


def error(steps: int, options: ICOptions) -> float:
    """Mean deviation of the outputs from the ReLU network's, over several networks, in units of the mean output."""
    found = []
    for seed in range(6):
        graph = mlp(seed=100 * seed)
        want = graph.run(X).output
        got = to_ic_snn(graph, steps=steps, data=X, options=options).run(X).output
        found.append(float((got - want).abs().mean() / want.abs().mean()))
    return sum(found) / len(found)


def test_the_literal_mean_is_worse_than_no_start_at_all_and_in_range_is_better() -> None:
    """Counterexample to Algorithms 2 and 3 as printed: silent neurons draw the start below zero."""
    zero = error(16, PLAIN)
    assert error(16, attrs.evolve(PRINTED["I-data"], strict=False)) > 1.2 * zero
    assert error(16, attrs.evolve(PRINTED["IC"], strict=False)) > 1.2 * zero
    assert error(16, CORRECTED["I-data"]) < 0.9 * zero
    assert error(16, attrs.evolve(CORRECTED["I-data"], residual="clamp")) < 0.9 * zero
    assert error(16, CORRECTED["C"]) < 0.9 * zero


def test_a_normalisation_in_the_first_layer_lets_spikes_carry_the_pixels() -> None:
    """Pixels k/T in [0, 1]: their spikes through the folded convolution sum to T times the current of the normalised
    image, borders too; the normalised image itself is signed and has no spikes."""
    steps = 8
    conv = nn.Conv2d(2, 3, 3, padding=1).double()
    conv.weight.data, conv.bias.data = ints(-4, 4, 3, 2, 3, 3, seed=1) / 4, ints(-4, 4, 3, seed=2)
    mean, std = torch.tensor([0.5, 0.25]).double(), torch.tensor([0.5, 0.25]).double()
    pixels = ints(0, steps, 4, 2, 5, 5, seed=3) / steps
    normal = (pixels - mean.view(2, 1, 1)) / std.view(2, 1, 1)
    with torch.no_grad():
        want = conv(normal) * steps
        folded = conv.weight / std.view(1, 2, 1, 1)
        padded = torch.empty(steps, 4, 2, 7, 7).double()
        padded[:] = mean.view(2, 1, 1)  # zero of the normalised image
        padded[:, :, :, 1:-1, 1:-1] = rate_code(pixels, steps=steps)
        shift = (folded.sum((2, 3)) * mean).sum(1) - conv.bias
        currents = torch.stack([nn.functional.conv2d(frame, folded) - shift.view(3, 1, 1) for frame in padded])
    assert torch.equal(currents.sum(0), want)
    zeros = padded.clone()
    for edge in (0, -1):
        zeros[..., edge, :], zeros[..., edge] = 0, 0
    wrong = torch.stack([nn.functional.conv2d(frame, folded) - shift.view(3, 1, 1) for frame in zeros])
    assert not torch.equal(wrong.sum(0), want)
    with pytest.raises(InputError, match="negative values"):
        rate_code(normal, steps=steps)


@pytest.mark.parametrize("rounding", ["floor", "round"])
def test_a_program_input_codes_like_the_rate_code(rounding: str) -> None:
    x = torch.rand(20, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    node = Input("x", (7,), 0, 1, coding=f"rate-{rounding}", scale=1.0)
    coded = encode(node, x.numpy(), 9, time_axis=False)
    assert np.array_equal(coded, rate_code(x, steps=9, rounding=rounding).numpy())
