"""Single numbers of the quantizer from their equations: units, registers, ranges, refusals at the exact edge."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from snn2chip.errors import InputError, QuantizeError
from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.layers import FloatSoma, InputLayer, OutputLayer
from snn2chip.ir.linear_layers import LinearLayer, WeightParts
from snn2chip.ir.neuron_layer import NeuronLayer
from snn2chip.ir.types import LEAK_ONE, V_MAX
from snn2chip.passes.affine import scaled_parts
from snn2chip.quantize.attention import lower_score
from snn2chip.quantize.calibrate import calibrate, check_varied
from snn2chip.quantize.choices import spike_value
from snn2chip.quantize.lower import lower
from snn2chip.quantize.readout import lower_membrane, lower_readout
from snn2chip.quantize.relays import lower_relay
from snn2chip.quantize.spec import QuantSpec
from snn2chip.quantize.units import Reach, lower_soma, payload_scale
from snn2chip.quantize.weights import _best_share, _keeps, quantize_weights, whole_steps

ONE = np.ones(1)


def neuron(**fields: Any) -> NeuronLayer:
    """A float neuron of one step unless said otherwise."""
    given = {"steps": 1, "theta": 1.0, "unit": 1.0} | fields
    return NeuronLayer(name="n", soma=FloatSoma(**given))


def lowered(layer: NeuronLayer, *, delta: Any = ONE, bias: Any = None, top: float = 4.0, **more: Any) -> Any:
    """The integer soma for a current with the unit `delta` that reaches `top`."""
    delta = np.asarray(delta, dtype=np.float64)
    bias = np.zeros(delta.shape) if bias is None else np.asarray(bias, dtype=np.float64)
    full = np.full(delta.shape, top)
    reach = Reach(potential=full, current=full, static=np.full(delta.shape, 1000.0), payload=1.0)
    given = {"name": "n", "shape": delta.shape, "spec": QuantSpec()} | more
    return lower_soma(layer, delta=delta, bias=bias, reach=reach, **given)


# -- readouts --------------------------------------------------------------------------------------------------


def test_a_membrane_readout_has_its_bias_in_its_own_unit() -> None:
    """bias_int = half_up((gain * b + bias) / mu): the sum of the map's and the neuron's own."""
    layer = neuron(fire="none", gain=2.0, bias=0.75, leak=0.5)
    delta, bias = np.array([2.0**-6]), np.array([0.3])
    full = np.array([3.0])
    reach = Reach(potential=full, current=full, static=full * 100, payload=1.0)
    found = lower_membrane(layer, name="r", shape=(1,), delta=delta, bias=bias, reach=reach)
    mu = float(found.mu[0])
    assert int(found.soma.bias[0, 0]) == int(np.floor((2.0 * 0.3 + 0.75) / mu + 0.5))
    assert int(found.soma.leak[0, 0]) == LEAK_ONE // 2
    assert float(found.soma.gain[0, 0]) / 2.0 ** int(found.soma.gain_shift[0, 0]) == pytest.approx(
        2.0 * 2.0**-6 / mu, rel=1e-4
    )


@pytest.mark.parametrize("last", [False, True])
def test_an_idle_readout_keeps_its_sum_and_reads_nothing(last: bool) -> None:
    """In the steps after the first T: gain 0, bias 0, leak 1; before: leak 1, or 0 where only the last step counts."""
    found = lower_readout(
        name="r", path="", shape=(1,), delta=ONE, bias=ONE, reach=np.array([9.0]), last=last, idle=(2, 5)
    ).soma
    assert found.leak[:, 0].tolist() == [0 if last else LEAK_ONE] * 2 + [LEAK_ONE] * 3
    assert (found.gain[:2] > 0).all()
    assert (found.gain[2:] == 0).all()
    assert (found.bias[2:] == 0).all()


# -- relays ----------------------------------------------------------------------------------------------------


def relay(current: float, delta: float, **more: Any) -> Any:
    """A relay of one channel without a bias."""
    given = {"unit": None} | more
    return lower_relay(
        name="r", label="r", path="", shape=(1,), delta=ONE * delta, bias=ONE * 0, current=ONE * current, **given
    )


def test_a_relayed_current_beyond_its_register_is_refused_by_its_size_in_units() -> None:
    """current / delta <= (2^23 - 1) / 2: a small current in small units is as large as a large one in large units."""
    edge = V_MAX / 2
    assert relay(edge * 0.01 * 0.999, 0.01).soma.out_max.max() >= edge
    with pytest.raises(QuantizeError, match="does not fit 24 bits"):
        relay(edge * 0.01 * 1.001, 0.01)
    with pytest.raises(QuantizeError, match="does not fit 24 bits"):
        relay(edge * 64.0 * 1.001, 64.0)


@pytest.mark.parametrize("largest", [1.0, 3.0, 4.0, 100.0, 5000.0])
def test_a_relay_declares_all_ones_with_a_bit_to_spare(largest: float) -> None:
    """out_max is the least 2^k - 1 (k >= 1) with 2^k >= twice the largest payload."""
    k = 1
    while 2**k < max(2 * largest, 2.0):
        k += 1
    assert int(relay(largest, 1.0).soma.out_max.max()) == 2**k - 1


# -- weights ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "mode", "keeps"),
    [("binary", "int8", True), ("ternary", "binary", False), ("int8", "int4", False), ("int4", "int4", True),
     ("int3", "keep", True), ("binary", "ternary", True), ("int2", "ternary", True), ("int8", "int2", False)],
)  # fmt: skip
def test_trained_weights_stay_where_the_mode_is_as_wide(kind: str, mode: str, keeps: bool) -> None:
    """Narrower integers fit wider ones, never the other way."""
    assert _keeps(kind, mode) is keeps


def test_a_channel_of_zeros_has_no_steps_and_divides_by_nothing() -> None:
    """Steps of [0, 0]: none; of [1/2, 1]: 1/2; of [0.3, 0.4]: 0.1; the error of a zero channel is 0 at any share."""
    flat = np.array([[0.0, 0.0], [0.5, 1.0], [0.3, 0.4]])
    with np.errstate(all="raise"):
        assert whole_steps(flat, 7) == pytest.approx([0.0, 0.5, 0.1])
        shares = np.array([[0.25] * 3, [1.0] * 3])
        largest = np.abs(flat).max(1) / 7
        assert np.isfinite(_best_share(flat, largest, 7, shares)).all()


def test_of_two_units_the_one_with_the_smaller_error_is_taken() -> None:
    """Weights 1 and 0.9 on 7 steps of 1/7: share 1 loses (0.9 - 6/7)^2, share 0.5 clips 1 to 1/2."""
    flat = np.array([[1.0, 0.9]])
    best = _best_share(flat, np.array([1 / 7]), 7, np.array([[0.5], [1.0]]))
    assert best.tolist() == [1.0]


def test_integers_stay_integers_when_a_factor_turns_their_sign() -> None:
    """w = scale * q with factor f: scale |f|, q sign(f)."""
    parts = WeightParts(scale=torch.tensor([0.5, 0.25]), integers=torch.tensor([[1, -3], [2, 7]]))
    found = scaled_parts(parts, torch.tensor([-2.0, 4.0]))
    assert not found.integers.is_floating_point()
    assert found.integers.tolist() == [[-1, 3], [2, 7]]
    assert found.scale.tolist() == [1.0, 1.0]


# -- ranges of the samples -------------------------------------------------------------------------------------


def test_one_value_is_a_sample_two_equal_ones_are_not() -> None:
    """A single number cannot vary; two that are equal say nothing."""
    check_varied(np.array([[0.5]]))
    with pytest.raises(InputError, match="all 2 values"):
        check_varied(np.array([[0.5], [0.5]]))


@pytest.mark.parametrize("top", [128, 200, 255])
def test_whole_numbers_from_128_to_255_are_bytes(top: int) -> None:
    """An input spike of bytes is worth 255, whatever the largest one seen; of other numbers, the largest."""
    assert spike_value(np.array([0, 1, top]), None) == 255.0
    assert spike_value(np.array([0, 1, 127]), None) == 127.0
    assert spike_value(np.array([0, 1, 256]), None) == 256.0
    assert spike_value(np.array([0.5, 1, top]), None) == float(top)


def test_a_readout_is_bounded_by_its_running_sum() -> None:
    """max over samples and steps of |sum of the currents so far|, per class."""
    layers = (InputLayer(name="x", shape=(2,)), LinearLayer(name="l", weight=torch.eye(2)), OutputLayer(name="o"))
    graph = LayerGraph(layers=layers, inputs={"x": (), "l": ("x",), "o": ("l",)}, steps=3)
    x = np.array([[[1.0, 2.0], [3.0, -5.0]], [[1.0, -9.0], [-1.0, 2.0]], [[4.0, 1.0], [0.0, 1.0]]])  # [T, B, 2]
    found = calibrate(graph, x, time_axis=True)
    assert found.readouts["l"] == pytest.approx(np.abs(np.cumsum(x, axis=0)).max((0, 1)))


def test_layers_whose_names_become_alike_get_numbers() -> None:
    """`a b`, `a/b` and `a:b` are all a_b as a node's name: the second and the third are counted."""
    layers = (
        InputLayer(name="x", shape=(2,)),
        LinearLayer(name="a b", weight=torch.eye(2)),
        NeuronLayer(name="a/b", soma=FloatSoma(steps=1, theta=1.0, unit=1.0)),
        LinearLayer(name="a:b", weight=torch.eye(2)),
        OutputLayer(name="o"),
    )
    names = [layer.name for layer in layers]
    graph = LayerGraph(layers=layers, inputs={n: tuple(names[max(0, i - 1) : i]) for i, n in enumerate(names)}, steps=1)
    program = lower(graph, calibrate(graph, np.arange(8.0).reshape(4, 2)))
    assert {"a_b", "a_b_2", "a_b_3"} <= {node.name for node in program.nodes}


# -- somas -----------------------------------------------------------------------------------------------------


def test_half_a_threshold_of_one_level_with_a_reset_starts_at_half_of_it() -> None:
    """v_init = theta // 2 unless nothing is kept and one level decides (then all of it is in theta)."""
    for reset, levels, half in (("subtract", 1, True), ("subtract", 3, True), ("drop", 3, True), ("drop", 1, False)):
        layer = neuron(reset=reset, levels=levels, v_init_rule="half-theta", v_init=0.5)
        soma = lowered(layer).soma
        theta = int(soma.theta[0, 0])
        start = soma.bias if reset == "drop" else soma.v_init  # nothing is kept: the start is added in every step
        assert int(start[0, 0]) == (theta // 2 if half else 0), (reset, levels)


def test_a_channel_without_gain_needs_no_unit_of_its_own() -> None:
    """A gain of 0 in one channel leaves the other's integers as they are without it."""
    with_zero = lowered(neuron(gain=torch.tensor([[0.0, 1.0]])), delta=[1.0, 1.0]).soma
    alone = lowered(neuron(gain=torch.tensor([[1.0, 1.0]])), delta=[1.0, 1.0]).soma
    assert int(np.broadcast_to(with_zero.gain, (1, 2))[0, 0]) == 0
    for field in ("theta", "bias"):
        both = [np.broadcast_to(getattr(soma, field), (1, 2))[0, 1] for soma in (with_zero, alone)]
        assert both[0] == both[1], field


def test_gains_that_differ_from_step_to_step_keep_their_ratio() -> None:
    """Gains 2 and 1: the integers of the two steps are as 2 to 1, whatever the unit."""
    soma = lowered(neuron(steps=2, gain=torch.tensor([[2.0], [1.0]])), delta=[0.01]).soma
    first, second = (float(v) for v in soma.gain[:, 0])
    assert first == 2 * second > 0


def test_spare_bits_are_asked_for_one_by_one() -> None:
    """Each spare bit doubles the unit mu: without saying, none beyond the spec's own."""
    plain, none, two = (lowered(neuron(leak=0.5), delta=[1e-3], **k) for k in ({}, {"spare": 0}, {"spare": 2}))
    assert plain.mu == pytest.approx(none.mu)
    assert two.mu == pytest.approx(4 * none.mu)


def test_a_payload_gain_never_shifts_to_the_left() -> None:
    """mu / unit from 2^-20 to 2^20: out_shift in 0..30, out_gain / 2^out_shift within a 2^-15 part of the ratio."""
    soma = FloatSoma(steps=1, theta=1.0, unit=1.0, fire="excess", reset="drop", out_max=200)
    reach = Reach(potential=ONE, current=ONE, static=ONE, payload=1.0)
    for k in range(-20, 16):
        fields, unit = payload_scale(soma, np.array([2.0**k]), reach, 8)
        assert 0 <= int(fields["out_shift"]) <= 30
        assert float(fields["out_gain"][0]) / 2.0 ** fields["out_shift"] == pytest.approx(2.0**k, rel=2**-15)
        assert unit.tolist() == [1.0]
    fields, _ = payload_scale(soma, np.array([100000.0]), reach, 8)
    assert fields["out_shift"] == 0


def test_a_window_is_taken_on_the_scale_with_the_least_error() -> None:
    """No scale among the powers of two is better than the one that was taken."""
    omega = np.array([[0.37, 0.11], [0.05, 0.71]])
    layer = neuron(steps=2, window=torch.as_tensor(omega))
    soma = lowered(layer, delta=[1.0], top=50.0, shape=(1,)).soma
    assert soma.window is not None
    kappa = float(soma.window.sum() / omega.sum())
    best = np.square(soma.window / kappa - omega).sum()
    for k in range(4, int(np.log2(kappa)) + 1):
        assert best <= np.square(np.floor(omega * 2**k + 0.5) / 2**k - omega).sum() + 1e-9


# -- tables ----------------------------------------------------------------------------------------------------


def test_every_entry_of_a_table_is_the_sigmoid_in_the_middle_of_its_cell() -> None:
    """entry = half_up(2^bits * sigmoid(mean of the cell's integers * mu)), clipped to the payload's range."""
    found = lower_score(name="s", path="", shape=(1,), delta=np.array([1e-3]), bias=ONE * 0, span=(-5.0, 5.0))
    soma, mu = found.soma, float(found.mu[0])
    bits = int(soma.out_max[0, 0]).bit_length()
    assert soma.table_shift > 0
    assert soma.table is not None
    for i in (0, 1, 100, 128, 200, 255):
        cell = np.arange(i << soma.table_shift, (i + 1) << soma.table_shift) - soma.table_offset
        value = np.floor(2.0**bits / (1 + np.exp(-cell.mean() * mu)) + 0.5)
        assert int(soma.table[i]) == int(np.clip(value, 0, 2**bits - 1))


def test_a_fitted_or_plain_rounding_of_one_channel_is_within_half_a_step() -> None:
    """|w - q * delta| <= delta / 2 for eight bits, where the unit is max|w| / 127."""
    rng = np.random.default_rng(4)
    target = rng.normal(size=(5, 9))
    layer = LinearLayer(name="l", weight=torch.as_tensor(target))
    made = quantize_weights(layer, target, ONE, "int8")
    assert made.delta == pytest.approx(np.abs(target).max(1) / 127)
    assert (np.abs(target - made.values * made.delta[:, None]) <= made.delta[:, None] / 2 + 1e-12).all()
