"""Lowering against the float network: where all numbers are exact in binary, every spike must be the same."""

from __future__ import annotations

import attrs
import numpy as np
import pytest
import torch

import snn2chip
from snn2chip.errors import InputError, QuantizeError, UnsupportedError
from snn2chip.ir.linear_layers import LinearLayer
from snn2chip.quantize.calibrate import calibrate
from snn2chip.quantize.lower import lower
from snn2chip.quantize.readout import lower_readout
from snn2chip.quantize.spec import QuantSpec
from snn2chip.quantize.weights import quantize_weights
from snn2chip.testing import graphs as nets

X = np.random.default_rng(0).integers(0, 16, (40, 1, 6, 6))


def both(graph, x, **options):
    program = lower(graph, calibrate(graph, x), **options)
    trace = snn2chip.run(program, x, backend="reference")
    return program, trace, graph.run(torch.as_tensor(x, dtype=torch.float64), collect=True)


EXACT = [
    dict(),
    dict(leak=0.75),
    dict(reset="zero"),
    dict(leak=1.25, v_init=0.25),
    dict(v_init=0.25, v_init_rule="half-theta"),
    dict(window=torch.tensor([[0.5, 0.25, 0.125], [0.25, 0.75, 0.0], [0.5, 0.5, 0.25]])),
]


@pytest.mark.parametrize("fields", EXACT, ids=lambda f: "-".join(f) or "plain")
def test_numbers_that_are_exact_in_binary_give_the_same_payloads(fields):
    graph = nets.chain(3, **fields)
    program, trace, floats = both(graph, X)
    mu = program.meta["units"]["potential"]
    for name in ("n1", "n2"):
        want = np.rint(floats.values[name].numpy() / 0.5).astype(int)
        assert (want != 0).mean() > 0.03  # not silent
        exact_leak = float(fields.get("leak", 1.0)) == 1.0
        assert (trace.payloads[name] != want).mean() <= (0.0 if exact_leak else 2e-3)
        if exact_leak:
            unit = np.asarray(mu[name]).reshape(-1, 1, 1)
            assert (trace.potentials[name] * unit == floats.after[name].numpy()).all()
    logits = trace.outputs * np.asarray(mu["readout"][0]) / 3
    assert np.abs(logits - floats.output.numpy()).max() < 1e-3 * np.abs(floats.output.numpy()).max()


@pytest.mark.parametrize("reduce", ["mean", "sum", "last"])
def test_the_readout_follows_how_the_model_reads_its_steps(reduce):
    program, trace, floats = both(nets.chain(3, reduce=reduce), X)
    value = trace.outputs * program.meta["units"]["potential"]["readout"][0] / (3 if reduce == "mean" else 1)
    assert np.abs(value - floats.output.numpy()).max() < 1e-3 * np.abs(floats.output.numpy()).max()
    assert (trace.pred == floats.output.argmax(1).numpy()).all()


def test_a_residual_sum_keeps_binary_weights_binary_and_is_exact():
    x = np.random.default_rng(1).integers(0, 8, (60, 4))
    program, trace, floats = both(nets.residual(4), x)
    f2 = program["f2"]
    assert f2.bits == 1
    assert set(np.unique(f2.weight)) == {-1, 1}
    assert f2.exponent == 3
    assert (trace.payloads["n2"] == np.rint(floats.values["n2"].numpy() / 0.5)).all()
    assert (trace.payloads["n2"] != 0).mean() > 0.05


def test_half_theta_is_floored_for_odd_and_even_thresholds():
    program, _, _ = both(nets.chain(2, v_init=0.25, v_init_rule="half-theta", theta=0.515625, unit=0.5), X)
    for soma in ("n1", "n2"):
        assert (program[soma].v_init == program[soma].theta // 2).all()


def test_a_drop_neuron_gets_its_shift_as_bias():
    fields = dict(reset="drop", v_init=0.25)
    graph = nets.chain(1, **fields)
    program, trace, floats = both(graph, X)
    assert (program["n1"].v_init == 0).all()
    assert (trace.payloads["n1"] == np.rint(floats.values["n1"].numpy() / 0.5)).all()


@pytest.mark.parametrize(
    ("mode", "bits"), [("int8", 8), ("int4", 4), ("int2", 2), ("ternary", "ternary"), ("binary", 1)]
)
def test_every_weight_mode_declares_its_width_and_keeps_trained_binary_layers(mode, bits):
    program, _, _ = both(nets.chain(2), X, spec=QuantSpec(weights=mode))
    assert program["fc"].bits == bits
    assert program["c2"].bits == 1
    assert np.abs(program["fc"].weight).max() <= (1 if bits in (1, "ternary") else 2 ** (bits - 1) - 1)


def test_overrides_choose_layers_by_name_or_path():
    program, _, _ = both(nets.chain(2), X, spec=QuantSpec(weights="int8", overrides={"net.fc": "int3", "c*": "int5"}))
    assert program["fc"].bits == 3
    assert program["c1"].bits == 5


def test_few_bit_weights_have_the_least_squared_error_among_shrunk_grids():
    weight = torch.randn(4, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    layer = LinearLayer(name="w", weight=weight)
    target = weight.numpy()
    found = quantize_weights(layer, target, np.ones(1), "int3")
    largest = np.abs(target).max(1, keepdims=True) / 3
    plain = np.square(np.clip(np.floor(target / largest + 0.5), -3, 3) * largest - target).sum()
    assert np.square(found.values * found.delta[:, None] - target).sum() < plain


def test_no_soma_saturates_on_the_calibration_data_and_one_bit_is_spare():
    _, trace, _ = both(nets.chain(3), X)
    assert trace.counts.totals["saturations"] == 0
    assert max(int(np.abs(p).max()) for p in trace.potentials.values()) < 2**22


def test_every_decision_is_recorded_with_its_error():
    program, _, _ = both(nets.chain(3, leak=0.9), X)
    fields = {(r["node"], r["field"]) for r in program.records}
    assert {
        ("n1", "theta"),
        ("n1", "leak"),
        ("n2", "bias"),
        ("readout", "gain"),
        ("c2", "weight (1, as trained)"),
    } <= fields
    leak = next(r for r in program.records if (r["node"], r["field"]) == ("n1", "leak"))
    assert leak["integer"] == 3686
    assert leak["error"] == pytest.approx(abs(3686 / 4096 - 0.9) / 0.9)


def test_what_cannot_be_lowered_is_said_with_the_users_layer():
    graph = nets.chain(2, reset="clamp")
    with pytest.raises(UnsupportedError, match=r"net\.n1.*clamp"):
        lower(graph, calibrate(graph, X))
    with pytest.raises(InputError, match="int9"):
        QuantSpec(weights="int9")
    with pytest.raises(InputError, match="int1"):
        QuantSpec(overrides={"a": "int1"})
    broken = nets.chain(2)
    layer = broken.layer("fc")
    layer.weight[0, 0] = float("nan")
    with pytest.raises(QuantizeError, match=r"net\.fc.*NaN"):
        lower(broken, calibrate(nets.chain(2), X))


def test_a_window_with_too_little_room_is_refused():
    window = torch.tensor([[0.513, 0.487], [0.291, 0.709]])
    graph = nets.chain(2, window=window)
    with pytest.raises(QuantizeError, match=r"net\.n1.*temporal window"):
        lower(graph, calibrate(graph, X * 4096))  # 16-bit pixels


@pytest.mark.parametrize("window", [None, torch.tensor([[0.5, 0.25], [0.25, 0.75]])], ids=["plain", "window"])
def test_a_channel_of_zero_weights_is_lowered_without_overflow(window):
    graph = nets.chain(2, window=window)
    parts = graph.layer("c2").parts
    parts.scale[1] = torch.finfo(torch.float32).tiny
    graph.layer("c2").weight[:] = parts.weight()
    program, trace, floats = both(graph, X)
    assert int(program["n2"].theta.max()) <= 2**22
    assert (trace.payloads["n2"] == np.rint(floats.values["n2"].numpy() / 0.5)).all()


EXCESS = [
    dict(reset="clamp"),
    dict(reset="drop"),
    dict(reset="clamp", leak=torch.tensor([[1.0], [0.0], [1.0]]), theta=torch.tensor([[0.5], [0.75], [0.25]])),
    dict(reset="clamp", gain=torch.tensor([[0.5], [-0.25], [1.0]]), bias=torch.tensor([[0.125], [0.0], [0.25]])),
]


@pytest.mark.parametrize("fields", EXCESS, ids=lambda f: "-".join(f))
def test_graded_excess_payloads_are_exact_where_the_numbers_are(fields):
    """EM-PF: s = max(m - theta, 0), payload clip(round(4 s), 0, 15) in steps of 1/4, per-step constants."""
    graph = nets.chain(3, fire="excess", **{"unit": 0.25, "out_max": 15, **fields})
    program, trace, floats = both(graph, X)
    assert program["c2"].bits == 1
    for name in ("n1", "n2"):
        want = np.rint(floats.values[name].numpy() / 0.25).astype(int)
        assert (want != 0).mean() > 0.03
        assert (trace.payloads[name] == want).all()


def test_a_real_payload_gets_a_calibrated_step():
    graph = nets.chain(3, fire="excess", reset="clamp", unit=1.0)
    program, trace, floats = both(graph, X, spec=QuantSpec(payload_bits=6))
    sent = floats.values["n1"].numpy()
    unit, whole = program.meta["units"]["payload"]["n1"][0], float(sent.max()) / 63
    assert 0.1 * whole <= unit <= whole
    assert int(trace.payloads["n1"].max()) == 63
    error = trace.payloads["n1"] * unit - sent
    assert np.abs(error[sent < 63 * unit]).max() <= unit * 0.51
    assert np.square(error).mean() <= 1.02 * np.square(np.rint(sent / whole) * whole - sent).mean()


def test_a_negative_gain_per_channel_is_exact():
    gain = torch.tensor([1.0, -0.5, 2.0, -1.0])
    graph = nets.chain(2)
    n1 = graph.layer("n1")
    graph = graph.with_layers(attrs.evolve(n1, soma=attrs.evolve(n1.soma, gain=gain.double())))
    _, trace, floats = both(graph, X)
    assert (trace.payloads["n1"] == np.rint(floats.values["n1"].numpy() / 0.5)).all()
    assert (trace.payloads["n2"] == np.rint(floats.values["n2"].numpy() / 0.5)).all()


def test_the_windows_scale_is_chosen_for_its_error():
    """Entries of 1/3 are exact in units of 1/3k, never in powers of two."""
    for third, bound in ((1 / 3, 1e-12), (0.333, 1e-3 / 2**8)):
        window = torch.tensor([[third, 2 * third], [2 * third, third]], dtype=torch.float64)
        program, _, _ = both(nets.chain(2, window=window), X)
        record = next(r for r in program.records if (r["node"], r["field"]) == ("n2", "window"))
        assert record["error"] < bound


def test_an_all_ones_window_is_exact_even_with_little_room():
    """16 steps behind 8-bit weights and 8-bit pixels: fraction bits would not fit, none are needed."""
    x = np.random.default_rng(0).integers(0, 256, (10, 1, 6, 6))
    graph = nets.chain(16, window=torch.ones(16, 16), theta=2.0**10, unit=0.5)
    program, trace, floats = both(graph, x)
    assert (program["n1"].window == 1).all()
    assert (trace.payloads["n1"] == np.rint(floats.values["n1"].numpy() / 0.5)).all()


@pytest.mark.parametrize("columns", [1, 4])
def test_a_ladder_is_exact_for_any_real_thresholds(columns):
    """Stateless: v >= theta on integers is v >= ceil(theta), whatever theta and bias are."""
    generator = torch.Generator().manual_seed(5)
    rows = torch.rand(5, columns, generator=generator, dtype=torch.float64).cumsum(0) - 0.7
    graph = nets.chain(1, reset="drop")
    n1 = graph.layer("n1")
    soma = attrs.evolve(n1.soma, fire="ladder", ladder=rows, levels=5)
    c1 = attrs.evolve(graph.layer("c1"), bias=torch.rand(4, generator=generator, dtype=torch.float64) - 0.5)
    graph = graph.with_layers(attrs.evolve(n1, soma=soma), c1)
    program, trace, floats = both(graph, X)
    assert program["n1"].ladder
    assert (program["n1"].bias == 0).all()
    counts = np.rint(floats.values["n1"].numpy() / 0.5)
    assert (trace.payloads["n1"] == counts).all()
    assert len(np.unique(counts)) >= 5


def test_a_neuron_silent_on_the_calibration_data_is_lowered() -> None:
    graph = nets.chain(2, fire="excess", reset="clamp", unit=1.0, theta=1000.0)
    program, trace, _ = both(graph, X)
    assert (trace.payloads["n1"] == 0).all()
    assert (program["n1"].out_gain >= 1).all()


def test_another_rounding_of_the_payload_is_recorded() -> None:
    graph = nets.chain(2, fire="excess", reset="clamp", unit=0.25, out_max=15, out_rounding="half-even")
    program, _, _ = both(graph, X)
    found = [r for r in program.records if r["field"] == "payload rounding"]
    assert {(r["node"], r["source"], r["integer"]) for r in found} == {
        (n, "half-even", "half-up") for n in ("n1", "n2")
    }


def test_a_readout_bias_that_its_current_cancels_fits_its_register() -> None:
    """A class potential may be the small difference of a large current and a larger bias."""
    fields = dict(name="readout", path="", shape=(3,), delta=np.full(3, 0.01), reach=np.full(3, 2.0), last=False)
    lowered = lower_readout(**fields, bias=np.array([-3000.0, 10.0, 0.0]))
    assert np.abs(lowered.soma.bias).max() < 1 << 23
    assert lowered.soma.bias[0, 0] * lowered.mu[0] == pytest.approx(-3000.0, rel=1e-5)


def test_a_readout_that_saturates_gets_spare_bits() -> None:
    graph = nets.chain(3)
    ranges = calibrate(graph, X)
    plain, spare = (lower(graph, ranges, spare={"readout": bits}) for bits in (0, 3))
    units = [p.meta["units"]["potential"]["readout"][0] for p in (plain, spare)]
    assert units[1] >= 4 * units[0]
