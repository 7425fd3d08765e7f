"""NeuroBench's figures: by hand, and equal to the package's own on a network that it counts right."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from snn2chip import Input, Output, Program, Soma, Synapse
from snn2chip.api import stream
from snn2chip.reports.neurobench import NeurobenchCounter, footprints

STEPS, SAMPLES = 6, 10
# neurobench 2.3.0 with snntorch 1.0.0 on `network()` and `samples()`: see the last test, which computes them again
EXPECTED = {
    "ConnectionSparsity": 0.2024,
    "ActivationSparsity": 0.8636363636363636,
    "Effective_MACs": 366.4,
    "Effective_ACs": 1165.8,
    "Dense": 6216.0,
    "MembraneUpdates": 372.6,
}


def weights() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    return rng.integers(-2, 3, (4, 1, 3, 3)), rng.integers(-2, 3, (8, 64)), rng.integers(-3, 4, (5, 8))


def network() -> Program:
    """Conv, dense, dense; every neuron is reset to 0 in the step of its spike."""
    conv, first, second = weights()
    return Program(
        nodes=[
            Input("x", (1, 8, 8), 0, 2, coding="steps"),
            Synapse("w0", "conv2d", conv, stride=2, padding=1),
            Soma("s0", (4, 4, 4), theta=3, reset="zero"),
            Synapse("w1", "linear", first),
            Soma("s1", (8,), theta=3, reset="zero"),
            Synapse("w2", "linear", second),
            Soma("s2", (5,), theta=3, reset="zero"),
            Output("o", "count"),
        ],
        edges=[("x", "w0"), ("w0", "s0"), ("s0", "w1"), ("w1", "s1"), ("s1", "w2"), ("w2", "s2"), ("s2", "o")],
        steps=STEPS,
    )


def samples() -> np.ndarray:
    """`[T, B, 1, 8, 8]`; in the first steps 0 and 1 only, later also 2: the first layer has calls of both kinds."""
    x = np.random.default_rng(4).integers(0, 2, (STEPS, SAMPLES, 1, 8, 8))
    x[4:] *= 2
    return x


def counted(batch: int, block: int):
    counter = NeurobenchCounter(network(), batch=batch)
    for trace in stream(network(), samples(), time_axis=True, block=block):
        counter.add(trace)
    return counter.result(execution_rate=100.0)


def flat(found) -> dict[str, float]:
    return {k: found[k] if k in found else found["SynapticOperations"][k] for k in EXPECTED}


def test_figures_equal_those_of_the_package() -> None:
    """The recorded figures; they do not depend on how the samples were cut into blocks."""
    found = counted(5, 5)
    assert flat(found) == pytest.approx(EXPECTED, rel=1e-12)
    assert flat(counted(5, 10)) == flat(found)
    assert found["ModelExecutionRate"] == 100.0


def test_one_graded_value_makes_a_whole_call_macs() -> None:
    program = Program(
        nodes=[Input("x", (4,), 0, 3), Synapse("w", "linear", np.ones((2, 4), int)), Soma("s", (2,), fire="none"),
               Output("o")],
        edges=[("x", "w"), ("w", "s"), ("s", "o")],
        steps=2,
    )  # fmt: skip
    x = np.array([[1, 1, 0, 0], [1, 0, 0, 0], [2, 0, 0, 0], [1, 1, 1, 1]])
    for batch, acs, macs in ((1, 2 * 2 * (2 + 1 + 4), 2 * 2 * 1), (2, 2 * 2 * 3, 2 * 2 * 5), (4, 0, 2 * 2 * 8)):
        counter = NeurobenchCounter(program, batch=batch)
        for trace in stream(program, x):
            counter.add(trace)
        found = counter.result()["SynapticOperations"]
        assert found == {"Effective_ACs": acs / 4, "Effective_MACs": macs / 4, "Dense": 16}


def test_footprint_by_hand() -> None:
    """588 weights of 3 bits, a byte each; 3 thresholds of 3 bits; 77 states of 24 bits, 4 bytes each."""
    assert footprints(network()) == {"bytes": 588 + 3 + 77 * 4, "true_bytes": -(-(588 * 3 + 3 * 3 + 77 * 24) // 8)}


def test_the_package_itself_counts_the_same() -> None:
    pytest.importorskip("neurobench", reason="neurobench is not installed; its recorded figures are tested above")
    snntorch = pytest.importorskip("snntorch", reason="snntorch is not installed")
    from neurobench.metrics.static import ConnectionSparsity
    from neurobench.metrics.workload.activation_sparsity import ActivationSparsity
    from neurobench.metrics.workload.membrane_updates import MembraneUpdates
    from neurobench.metrics.workload.synaptic_operations import SynapticOperations
    from neurobench.models import SNNTorchModel

    def leaky(**more):
        return snntorch.Leaky(
            beta=1.0, threshold=2.5, reset_mechanism="zero", reset_delay=False, init_hidden=True, **more
        )

    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2, padding=1, bias=False), leaky(), nn.Flatten(),
        nn.Linear(64, 8, bias=False), leaky(), nn.Linear(8, 5, bias=False), leaky(output=True),
    )  # fmt: skip
    with torch.no_grad():
        for layer, value in zip((net[0], net[3], net[5]), weights(), strict=True):
            layer.weight.copy_(torch.as_tensor(value))
    model = SNNTorchModel(net)
    model.register_hooks()
    metrics = {"ops": SynapticOperations(), "updates": MembraneUpdates()}
    sparsity, found = [], {}
    x = torch.as_tensor(samples(), dtype=torch.float32).transpose(0, 1)
    with torch.no_grad():
        for batch in x.split(5):
            model.reset_hooks()
            preds = model(batch)
            for name, metric in metrics.items():
                found[name] = metric(model, preds, (batch, None))
            sparsity.append(ActivationSparsity()(model, preds, (batch, None)))
    theirs = {
        "ConnectionSparsity": ConnectionSparsity()(model),
        "ActivationSparsity": float(np.mean(sparsity)),
        **found["ops"],
        "MembraneUpdates": found["updates"],
    }
    assert theirs == pytest.approx(EXPECTED, rel=1e-9)
