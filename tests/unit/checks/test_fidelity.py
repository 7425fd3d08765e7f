"""Fidelity: exact networks agree fully; a fault in one layer shows as that layer's own error and as inherited ones."""

from __future__ import annotations

import attrs
import numpy as np
import pytest
import torch

from snn2chip.checks.fidelity import Fidelity, fidelity
from snn2chip.errors import InputError
from snn2chip.ir.program import Program
from snn2chip.quantize.calibrate import calibrate
from snn2chip.quantize.lower import lower
from snn2chip.testing import graphs

X = np.random.default_rng(0).integers(0, 16, (30, 1, 6, 6))


def lowered(steps: int = 3) -> tuple[Program, graphs.LayerGraph]:
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
