"""The hand lowering of a QCFS network: exact where it claims to be, refused where it cannot be."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

import snn2chip
from snn2chip.convert.qcfs_mlp import PIXEL, QCFSMLP, lower
from snn2chip.errors import InputError, QuantizeError
from snn2chip.ir.nodes import Synapse
from snn2chip.ir.soma import Soma


def model(weights: str = "ternary", *, levels: int = 4) -> QCFSMLP:
    torch.manual_seed(3)
    made = QCFSMLP(inputs=12, hidden=(9,), classes=4, weights=weights, levels=levels)
    with torch.no_grad():
        made.neurons[0].vth.fill_(0.4)
    return made.eval()


def pixels(samples: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 17, (samples, 12))


@pytest.mark.parametrize("weights", ["ternary", "int8"])
def test_integers_are_the_models_own(weights: str) -> None:
    made = model(weights)
    program = lower(made)
    scale, q = made.linears[0].weight_parts()
    synapse, soma = program["weights1"], program["hidden1"]
    assert isinstance(synapse, Synapse)
    assert isinstance(soma, Soma)
    assert (synapse.weight == q.numpy()).all()
    assert synapse.bits == ("ternary" if weights == "ternary" else 8)
    mu = scale.numpy().astype(np.float64) * PIXEL / int(soma.gain.item())
    assert np.abs(soma.theta[0] * mu - 0.4 / 4).max() <= mu.max() / 2
    assert np.abs(soma.bias[0] * mu - made.linears[0].bias.detach().numpy()).max() <= mu.max() / 2
    assert (soma.v_init == soma.theta // 2).all()
    assert soma.levels.item() == 4


@pytest.mark.parametrize("weights", ["ternary", "int8"])
def test_one_graded_step_is_qcfs(weights: str) -> None:
    """Payload = clip(floor((z + theta/2)/theta), 0, L) in exact fractions, away from the rounding of theta and bias."""
    made, x = model(weights), pixels(40)
    trace = snn2chip.run(lower(made), x, backend="reference")
    scale, q = made.linears[0].weight_parts()
    bias = made.linears[0].bias.detach()
    theta = Fraction(float(made.neurons[0].vth.detach())) / 4
    decided = 0
    for n, row in enumerate(x):
        for c in range(9):
            dot = int((q[c].numpy() * row).sum())
            z = Fraction(float(scale[c])) * Fraction(1, 16) * dot + Fraction(float(bias[c]))
            level = (z + theta / 2) / theta
            nearest = round(level)
            if abs(level - nearest) < Fraction(1, 100):
                continue
            decided += 1
            assert trace.payloads["hidden1"][0, n, c] == min(max(level.__floor__(), 0), 4)
    assert decided > 300
    assert len(np.unique(trace.payloads["hidden1"])) == 5


@pytest.mark.parametrize(("steps", "levels"), [(4, 1), (2, 2)])
def test_steps_give_the_same_rate_as_one_graded_step(steps: int, levels: int) -> None:
    """With a constant current, counts over T steps with T*levels = L equal the graded payload, up to rounding."""
    made, x = model("int8", levels=4), pixels(60)
    graded = snn2chip.run(lower(made), x, backend="reference").payloads["hidden1"][0]
    counts = snn2chip.run(lower(made, steps=steps, levels=levels), x, backend="reference").payloads["hidden1"].sum(0)
    assert (counts == graded).mean() > 0.99
    assert np.abs(counts - graded).max() <= 1


def test_predictions_follow_the_float_model() -> None:
    made, x = model("int8"), pixels(300)
    with torch.no_grad():
        logits = made(torch.as_tensor(x, dtype=torch.float32))
    trace = snn2chip.run(lower(made), x, backend="reference")
    assert (trace.pred == logits.argmax(1).numpy()).mean() > 0.97
    assert trace.counts.totals["saturations"] == 0


def test_potentials_stay_inside_the_headroom() -> None:
    from snn2chip.ir.validate import current_ranges

    program = lower(model("int8"))
    soma = program["hidden1"]
    assert isinstance(soma, Soma)
    low, high = current_ranges(program)["hidden1"]
    gain, bias = int(soma.gain.item()), int(np.abs(soma.bias).max())
    reach = max(-low, high) * gain + bias + 4 * int(soma.theta.max())
    assert reach < 1 << 23
    assert gain > 1


def test_what_cannot_be_lowered_is_refused() -> None:
    with pytest.raises(InputError, match="ternary, int8"):
        QCFSMLP(weights="int3")
    made = model()
    with torch.no_grad():
        made.neurons[0].vth.fill_(1e-9)
    with pytest.raises(QuantizeError, match=r"linears\.0: 9 thresholds round to 0"):
        lower(made)
    with torch.no_grad():
        made.neurons[0].vth.fill_(1e9)
    with pytest.raises(QuantizeError, match=r"linears\.0.*do not fit 24 bits"):
        lower(made)
