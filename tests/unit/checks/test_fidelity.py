"""Fidelity: exact networks agree fully; a fault in one layer shows as that layer's own error and as inherited ones."""

from __future__ import annotations

import attrs
import numpy as np
import pytest
import torch

from snn2chip.api import run
from snn2chip.checks.fidelity import Fidelity, fidelity
from snn2chip.errors import InputError
from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.layers import FloatSoma, InputLayer, OutputLayer
from snn2chip.ir.linear_layers import LinearLayer
from snn2chip.ir.neuron_layer import NeuronLayer
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.quantize.calibrate import calibrate
from snn2chip.quantize.lower import lower
from snn2chip.testing import graphs

X = np.random.default_rng(0).integers(0, 16, (30, 1, 6, 6))


def lowered(steps: int = 3) -> tuple[Program, LayerGraph]:
    graph = graphs.chain(steps)
    return lower(graph, calibrate(graph, X)), graph


def by_soma(found: Fidelity) -> dict[str, attrs.AttrsInstance]:
    return {row.soma: row for row in found.layers}


def test_a_network_of_exact_numbers_agrees_everywhere() -> None:
    program, graph = lowered()
    labels = graph.run(torch.as_tensor(X, dtype=torch.float32)).output.argmax(1).numpy()
    labels[:6] = (labels[:6] + 1) % 3  # six labels that the float network gets wrong
    found = fidelity(program, graph, X, labels=labels, block=7)
    assert found.samples == 30
    assert found.differing == 0
    assert found.float_accuracy == found.integer_accuracy == 24 / 30
    for name in ("n1", "n2"):
        row = by_soma(found)[name]
        assert row.free_equal == row.forced_equal == 1.0
        assert row.free_potential < 1e-6
        assert 0 < row.rate < 1


def test_a_wrong_threshold_is_that_layers_own_error_and_only_inherited_behind_it() -> None:
    program, graph = lowered()
    nodes = [attrs.evolve(n, theta=n.theta + n.theta // 8) if n.name == "n1" else n for n in program.nodes]
    wrong = attrs.evolve(program, nodes=nodes)
    rows = by_soma(fidelity(wrong, graph, X))
    assert rows["n1"].forced_equal < 0.99
    assert rows["n1"].free_equal == rows["n1"].forced_equal  # nothing before it is wrong
    assert rows["n2"].free_equal < 0.999  # inherited
    assert rows["n2"].forced_equal == 1.0  # but not its own


def test_the_rate_is_the_share_of_payloads_that_fire() -> None:
    program, graph = lowered()
    value = graph.run(torch.as_tensor(X, dtype=torch.float64), collect=True).values["n1"]
    assert by_soma(fidelity(program, graph, X))["n1"].rate == pytest.approx(float((value != 0).double().mean()))


def test_per_step_samples_and_potentials_in_thresholds() -> None:
    graph = graphs.chain(3)
    steps = np.random.default_rng(1).integers(0, 16, (3, 12, 1, 6, 6))
    program = lower(graph, calibrate(graph, steps, time_axis=True), coding="steps")
    assert fidelity(program, graph, steps, time_axis=True).agreement == 1.0
    mu = program.meta["units"]["potential"]["n2"]
    shift = round(0.25 / mu[0])  # start a quarter of the float unit (half a threshold) too high
    nodes = [attrs.evolve(n, v_init=n.v_init + shift, theta=2**20) if n.name == "n2" else n for n in program.nodes]
    rows = by_soma(fidelity(attrs.evolve(program, nodes=nodes), graph, steps, time_axis=True))
    assert rows["n2"].forced_potential > 0.05


def test_another_network_is_refused() -> None:
    program, graph = lowered()
    with pytest.raises(InputError, match=r"another network.*2 steps, the program 3"):
        fidelity(program, graphs.chain(2), X)
    wide = attrs.evolve(program, meta={**program.meta, "layers": {**program.meta["layers"], "n1": "n2"}})
    with pytest.raises(InputError, match=r"another network.*n1"):
        fidelity(wide, graph, X)


def test_what_does_not_fit_is_said() -> None:
    program, graph = lowered()
    with pytest.raises(InputError, match="5 labels for 30 samples"):
        fidelity(program, graph, X, labels=np.zeros(5))
    foreign = attrs.evolve(program, meta={})
    with pytest.raises(InputError, match="not lowered from this float graph"):
        fidelity(foreign, graph, X)


def test_predictions_are_the_models_own_not_the_graphs() -> None:
    program, graph = lowered()
    pred = graph.run(torch.as_tensor(X, dtype=torch.float32)).output.argmax(1).numpy()

    def model(raw: np.ndarray) -> np.ndarray:  # another network: wrong on every sample whose first pixel is dark
        own = graph.run(torch.as_tensor(raw, dtype=torch.float32)).output.numpy()
        return np.where(raw[:, 0, 0, :1] < 6, -own, own)

    wrong = int((X[:, 0, 0, 0] < 6).sum())
    assert 0 < wrong < 30
    found = fidelity(program, graph, X, labels=pred, block=8, model=model)
    assert found.differing == wrong
    assert found.float_accuracy == 1 - wrong / 30
    assert found.integer_accuracy == 1.0


def relay_graph() -> LayerGraph:
    """Two linear maps with a relay between, the first one's outputs any real numbers."""
    first = LinearLayer(name="first", weight=torch.randn(5, 8, generator=torch.Generator().manual_seed(3)))
    soma = FloatSoma(steps=2, theta=1.0, unit=1.0, fire="relay", reset="drop")
    second = LinearLayer(name="second", weight=torch.randn(3, 5, generator=torch.Generator().manual_seed(4)))
    layers = (
        InputLayer(name="input", shape=(8,)),
        first,
        NeuronLayer(name="relay", soma=soma),
        second,
        OutputLayer(name="output", reduce="mean"),
    )
    chain = [layer.name for layer in layers]
    return LayerGraph(layers=layers, inputs=dict(zip(chain[1:], [(n,) for n in chain], strict=False)), steps=2)


def test_a_coarse_relay_shows_its_error() -> None:
    """Payloads of 1/40 of the largest value: uniform rounding error, step/sqrt(12) rms, whoever feeds the relay."""
    graph, raw = relay_graph(), np.random.default_rng(2).integers(0, 16, (200, 8))
    program = lower(graph, calibrate(graph, raw))
    fine = by_soma(fidelity(program, graph, raw))["relay"]
    relay = program["relay"]
    assert isinstance(relay, Soma)
    value = graph.run(torch.as_tensor(raw, dtype=torch.float64), collect=True).values["relay"].numpy()
    units = program.meta["units"]
    potential, old = (np.broadcast_to(units[kind]["relay"], (5,)) for kind in ("potential", "payload"))
    step = float(np.abs(value).max()) / 40
    shift = 12
    gain = np.maximum(np.rint(potential / step * 2**shift), 1).astype(np.int64)
    actual = potential * 2**shift / gain
    nodes = [attrs.evolve(n, out_gain=gain, out_shift=shift) if n.name == "relay" else n for n in program.nodes]
    payload = {**units["payload"], "relay": actual.tolist()}
    coarse = attrs.evolve(program, nodes=nodes, meta={**program.meta, "units": {**units, "payload": payload}})
    row = by_soma(fidelity(coarse, graph, raw))["relay"]
    expected = step / np.sqrt(12) / np.sqrt(np.square(value).mean())
    assert row.free_equal < 0.05
    assert row.free_potential == pytest.approx(expected, rel=0.15)
    assert row.forced_potential == pytest.approx(expected, rel=0.15)
    assert fine.free_potential < expected / 3
    assert (old < actual).all()


def test_figures_at_every_step_are_those_of_the_two_runs() -> None:
    program, graph = lowered()
    nodes = [attrs.evolve(n, theta=n.theta + n.theta // 8) if n.name == "n1" else n for n in program.nodes]
    wrong = attrs.evolve(program, nodes=nodes)
    found = fidelity(wrong, graph, X, block=7)
    ints = run(wrong, X)
    floats = graph.run(torch.as_tensor(X, dtype=torch.float32), collect=True).values
    shares = {}
    for name in ("n1", "n2"):
        unit = np.reshape(program.meta["units"]["payload"][name], (-1, 1, 1))
        sent, want = ints.payloads[name] * unit, floats[name].numpy()
        row = by_soma(found)[name]
        assert row.equal_by_step == pytest.approx(np.isclose(sent, want, atol=1e-4).mean((1, 2, 3, 4)).tolist())
        shares[name] = ((sent != 0) == (want != 0)).mean((1, 2, 3, 4))
        assert row.spikes_by_step == pytest.approx(shares[name].tolist())
        assert row.free_spikes == pytest.approx(shares[name].mean())
        assert row.free_equal == pytest.approx(np.mean(row.equal_by_step))
        assert row.free_potential == pytest.approx(np.sqrt(np.square(row.potential_by_step).mean()))
    assert min(by_soma(found)["n1"].equal_by_step) < 0.99
    sizes = {row.soma: row.neurons for row in found.layers}
    want = sum(sizes[n] * shares[n].mean() for n in shares) / sum(sizes[n] for n in shares)
    assert found.spike_agreement == pytest.approx(want)
    assert by_soma(found)["readout"].equal_by_step is None
    assert len(by_soma(found)["readout"].potential_by_step) == program.steps
