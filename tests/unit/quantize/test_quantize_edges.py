"""Edges of the quantizer: declared inputs, ladders, sums of nothing, records that tell the truth, refusals."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from snn2chip.errors import QuantizeError
from snn2chip.ir.channel_layers import ScaleLayer, SumPoolLayer
from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.layers import FloatSoma, InputLayer, OutputLayer
from snn2chip.ir.linear_layers import LinearLayer
from snn2chip.ir.neuron_layer import NeuronLayer
from snn2chip.ir.types import V_MAX
from snn2chip.quantize.calibrate import calibrate
from snn2chip.quantize.inputs import PAYLOAD_BITS, WHOLE_ROOM, _whole
from snn2chip.quantize.lower import _Lowering, lower
from snn2chip.quantize.readout import lower_membrane, lower_readout
from snn2chip.quantize.relays import lower_relay
from snn2chip.quantize.rounding import round_with_feedback
from snn2chip.quantize.spec import QuantSpec
from snn2chip.quantize.sums import _relays_only, whole_units
from snn2chip.quantize.trained import _check_room
from snn2chip.quantize.units import MIN_WINDOW_BITS, Reach, _fits, _stateless_ladder, _window, lower_soma
from snn2chip.quantize.weights import IntWeights

ONE = np.ones(1)


def neuron(**fields: Any) -> NeuronLayer:
    """A float neuron of one step unless said otherwise."""
    return NeuronLayer(name="n", soma=FloatSoma(**({"steps": 1, "theta": 1.0, "unit": 1.0} | fields)))


def all_ones(reach: float) -> int:
    """The least 2^k - 1 that leaves whole inputs their room, within the payload's bits."""
    return min((1 << int(np.ceil(WHOLE_ROOM * reach)).bit_length()) - 1, (1 << PAYLOAD_BITS) - 1)


@pytest.mark.parametrize(("low", "high", "fixed", "want"), [
    (0, 200, False, (0, 255)), (0, 128, False, (0, 255)), (0, 1, False, (0, 1)), (-1, 1, False, (-1, 1)),
    (0, 10, False, (0, all_ones(10))), (-3, 10, False, (-all_ones(10), all_ones(10))),
    (-10, 3, False, (-all_ones(10), all_ones(10))),
    (-5, -2, True, (-5, 0)), (3, 9, True, (0, 9)), (0, 200, True, (0, 200)),
])  # fmt: skip
def test_whole_inputs_get_bytes_or_room(low: int, high: int, fixed: bool, want: tuple[int, int]) -> None:
    """Bytes are bytes; other whole numbers get room on the sides they use; what is declared stands, 0 included."""
    assert _whole(float(low), float(high), fixed=fixed) == (*want, 1.0)


@pytest.mark.parametrize("spare", [1, 3])
def test_spare_bits_of_a_relay_halve_its_limit(spare: int) -> None:
    """current / delta <= (2^23 - 1) / 2^spare, to the unit."""
    given = {"name": "r", "label": "r", "path": "", "shape": (1,), "delta": ONE, "bias": ONE * 0, "unit": None}
    edge = V_MAX / 2**spare
    lower_relay(**given, current=ONE * edge, spare_bits=spare)
    with pytest.raises(QuantizeError, match="does not fit 24 bits"):
        lower_relay(**given, current=ONE * (edge + 0.25), spare_bits=spare)


def test_records_say_how_well_an_integer_stands_for_a_number() -> None:
    """A relay in a unit of its own and an excess neuron in another: gains of 16 bits, errors below 2^-14."""
    relay = lower_relay(
        name="r", label="r", path="", shape=(1,), delta=ONE * 0.37, bias=ONE * 0, current=ONE * 90, unit=ONE * 1.3
    )
    excess = neuron(fire="excess", reset="drop", out_max=200, unit=0.41)
    reach = Reach(potential=ONE * 9, current=ONE * 9, static=ONE * 1000, payload=9.0)
    sent = lower_soma(excess, name="n", shape=(1,), delta=ONE * 0.01, bias=ONE * 0, reach=reach, spec=QuantSpec())
    for lowered in (relay, sent):
        (record,) = (r for r in lowered.records if r.field == "out_gain")
        assert record.error < 2**-14


def test_units_that_are_whole_multiples_stay_exact_in_a_readout() -> None:
    """delta = 0.1, 0.2, 0.3: the gains are as 1 to 2 to 3 and stand for them exactly."""
    delta = np.array([0.1, 0.2, 0.3])
    found = lower_readout(
        name="r", path="", shape=(3,), delta=delta, bias=delta * 0, reach=np.array([5.0, 7.0, 9.0]), last=False
    )
    gain = np.broadcast_to(found.soma.gain, (1, 3))[0] / 2.0 ** int(found.soma.gain_shift.max())
    assert gain * float(found.unit[0]) == pytest.approx(delta, rel=1e-12)
    assert (gain == gain[0] * np.array([1, 2, 3])).all()


def test_a_small_current_into_a_membrane_keeps_fifteen_bits_of_gain() -> None:
    """Below one unit the gain is shifted by up to 15 bits, not rounded away."""
    layer = neuron(fire="none", leak=0.5)
    reach = Reach(potential=ONE * 3, current=ONE * 3, static=ONE * 1e8, payload=1.0)
    found = lower_membrane(layer, name="r", shape=(1,), delta=ONE * 1e-7, bias=ONE * 0, reach=reach)
    gain = float(found.soma.gain[0, 0]) / 2.0 ** int(found.soma.gain_shift[0, 0])
    assert gain == pytest.approx(1e-7 / float(found.mu[0]), rel=2e-4)


def test_a_stateless_ladder_compares_exactly() -> None:
    """m + b >= theta on integers m: m >= ceil((theta - b) / mu); a tie is no step up."""
    theta, mu = np.array([[1.0], [2.0], [3.0]]), np.array([0.5])
    found = _stateless_ladder(theta, np.array([[0.25]]), mu)
    assert found["theta"].tolist() == [[2], [4], [6]]
    assert _stateless_ladder(theta, np.zeros((1, 1)), mu)["theta"].tolist() == [[2], [4], [6]]
    steps = _stateless_ladder(theta, np.array([[0.25], [0.5]]), mu)
    assert steps["theta"].tolist() == [[2], [4], [6]]
    assert "bias" not in steps


@pytest.mark.parametrize(("theta", "levels", "fits"), [(V_MAX // 3, 3, True), (V_MAX // 3 + 1, 3, False)])
def test_levels_times_theta_fit_the_potential(theta: int, levels: int, fits: bool) -> None:
    """The highest level is a potential, too."""
    ints = {"theta": np.array([[theta]]), "leak": np.array([[4096]])}
    if fits:
        _fits(neuron(), ints, levels)
    else:
        with pytest.raises(QuantizeError, match="levels"):
            _fits(neuron(), ints, levels)


def test_a_window_needs_its_least_room_and_no_more() -> None:
    """Exactly 2^MIN_WINDOW_BITS steps are enough for a window of uneven entries; fewer are refused."""
    layer = neuron(steps=2, window=torch.tensor([[0.37, 0.11], [0.05, 0.71]]))
    room = float(2**MIN_WINDOW_BITS)
    integers, kappa = _window(layer, ONE, room)
    assert (integers == np.floor(np.array([[0.37, 0.11], [0.05, 0.71]]) * kappa + 0.5)).all()
    with pytest.raises(QuantizeError, match="steps are left for the temporal window"):
        _window(layer, ONE, room * 0.99)


def room_of(delta: float, static: float, current: float) -> None:
    """Check a trained neuron's current against 24 bits."""
    trained: Any = SimpleNamespace(delta=[delta], shift=[0.0], window=None, kappa=1.0)
    layer: Any = SimpleNamespace(label="n")
    feed: Any = SimpleNamespace(static=ONE * static)
    with np.errstate(all="raise"):
        _check_room(layer, trained, feed, ONE * current)


def test_trained_currents_are_held_to_24_bits_in_their_own_unit() -> None:
    """current / delta, at most the static bound; a channel without a unit carries nothing."""
    room_of(0.5, 1e12, 0.49 * V_MAX)
    room_of(0.5, 1000.0, 10.0 * V_MAX)
    room_of(0.0, 1e12, 10.0 * V_MAX)
    with pytest.raises(QuantizeError, match="reaches"):
        room_of(0.5, 1e12, 0.51 * V_MAX)


def test_factors_become_signs_with_their_size_as_the_unit() -> None:
    """0, -1, 2.5 are 0, -1, 1 in units 1, 1, 2.5; without a zero one bit is enough."""
    found = whole_units(np.array([0.0, -1.0, 2.5]))
    assert found.values.tolist() == [0, -1, 1]
    assert found.delta.tolist() == [1.0, 1.0, 2.5]
    assert found.bits == "ternary"
    assert whole_units(np.array([-1.0, 2.5])).bits == 1


def test_a_sum_of_relays_has_a_unit_even_where_nothing_arrives() -> None:
    """reach / limit, and 1 / limit for a channel that reaches nothing."""
    assert _relays_only((), np.array([0.0, 4.0]), 8.0).delta.tolist() == [0.125, 0.5]


def test_weights_of_zero_are_rounded_to_zero() -> None:
    """A layer without weights: integers 0 and a unit that can be divided by."""
    with np.errstate(all="raise"):
        values, delta = round_with_feedback(np.zeros((2, 3)), np.eye(3), 7)
    assert (values == 0).all()
    assert (delta > 0).all()


@pytest.mark.parametrize(("name", "node"), [("output", "out"), ("logits", "logits")])
def test_a_readout_is_called_what_the_model_calls_it(name: str, node: str) -> None:
    """`output` is the tracer's word for the only one and becomes `out`; a name of the user's stays."""
    layers = (InputLayer(name="x", shape=(2,)), LinearLayer(name="l", weight=torch.eye(2)), OutputLayer(name=name))
    graph = LayerGraph(layers=layers, inputs={"x": (), "l": ("x",), name: ("l",)}, steps=1)
    program = lower(graph, calibrate(graph, np.arange(8.0).reshape(4, 2)))
    assert [out.name for out in program.outputs] == [node]


@pytest.mark.parametrize(("window", "factor"), [(None, 1.0), ([[0.5, 0.25], [-1.0, 0.25]], 1.25)])
def test_the_static_bound_of_a_mixed_current_is_its_largest_row(window: Any, factor: float) -> None:
    """|sum_s w[t, s] a(s)| <= max over t of sum_s |w[t, s]| times the bound of a."""
    layer = neuron(steps=2, window=None if window is None else torch.tensor(window))
    seen = {"n": ONE}
    ranges = SimpleNamespace(potential=seen, current=seen, payload={"n": 1.0}, payloads={})
    found = _Lowering.reach(SimpleNamespace(ranges=ranges), layer, np.array([8.0]))  # type: ignore[arg-type]
    assert found.static.tolist() == [8.0 * factor]


def test_what_drives_a_neuron_that_keeps_nothing_is_its_potential_without_the_bias() -> None:
    """|m - bias| <= 3 + 1 fits the room, and no factor 2 of it is wasted, wherever the current's unit lies."""
    layer = neuron(fire="excess", reset="drop", bias=torch.tensor(1.0))
    reach = Reach(potential=ONE * 3, current=ONE * 200, static=ONE * 1e12, payload=4.0)
    spec = QuantSpec()
    limit = V_MAX / 2**spec.spare_bits
    for delta in np.geomspace(1e-7, 2e-7, 9):
        found = lower_soma(layer, name="n", shape=(1,), delta=ONE * delta, bias=ONE * 0, reach=reach, spec=spec)
        assert limit / 2 < 4.0 / float(found.mu[0]) <= limit


@pytest.mark.parametrize(("kernel", "taps"), [((2, 3), 6), ((1, 1), 1)])
def test_the_static_bound_of_a_pooled_current_counts_every_tap(kernel: tuple[int, int], taps: int) -> None:
    """sum |w| * taps * 2^exponent * the largest payload, per channel."""
    pool = SumPoolLayer(name="p", kernel=kernel, stride=kernel, factor=torch.tensor(1.0))
    weights = IntWeights(values=np.array([1, -3]), delta=np.ones(2), bits=8, exact=True, target=np.ones(2), exponent=2)
    found = _Lowering.static(SimpleNamespace(magnitude=lambda layer: 5.0), pool, weights)  # type: ignore[arg-type]
    assert found.tolist() == [1 * taps * 4 * 5, 3 * taps * 4 * 5]


@pytest.mark.parametrize(("factor", "delta", "own"), [
    ([-2.0, -1.0], [1.0, 0.5], False), ([-2.0, 0.0, 1.0], [1.0, 77.0, 0.5], False), ([2.0, 1.0], [1.0, 0.6], True),
    ([-2.0, -1.0], [1.0, 0.6], True),
])  # fmt: skip
def test_a_relay_that_writes_in_the_sums_unit_needs_signs_alone(factor: Any, delta: Any, own: bool) -> None:
    """Payloads worth 0.5 times the factor are the sum's unit, but where it is 0; otherwise a relay of its own."""
    scale = ScaleLayer(name="s", factor=torch.tensor(factor, dtype=torch.float64))
    made: Any = SimpleNamespace(
        inputs={"s": ("r",)},
        waiting={},
        units={"r": 0.5 * ONE},
        own_relay=lambda layer, weights, delta: ("own", None),
        synapse=lambda layer, weights: weights,
        static=lambda layer, weights: None,
    )
    found, _ = _Lowering.relayed(made, scale, np.array(delta))
    if own:
        assert found == "own"
    else:
        assert found.values.tolist() == np.sign(factor).tolist()  # type: ignore[attr-defined]
        assert found.delta.tolist() == delta  # type: ignore[attr-defined]
