"""Forward of every neuron against a loop over its written equation, and against its own lowering rule."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from snn2chip.errors import InputError
from snn2chip.ir.layers import FloatSoma
from snn2chip.nn import IF, LIF, LMHT, MHT, NEURONS, QCFS, Neuron, make_neuron

CASES = [(name, variant) for name, kind in NEURONS.items() for variant in kind.variants]
STEPS = 4


def randomised(name: str, variant: dict[str, Any], *, steps: int = STEPS, seed: int = 0) -> Neuron:
    """A neuron in float64 whose trainable parameters are away from their start."""
    torch.manual_seed(seed)
    neuron = make_neuron(name, steps=steps, **variant).double()
    with torch.no_grad():
        for key, parameter in neuron.named_parameters():
            if key != "vth":
                parameter.add_(torch.randn_like(parameter))
    return neuron.eval()


def currents(*shape: int, seed: int = 1) -> torch.Tensor:
    torch.manual_seed(seed)
    return 1.5 * torch.randn(*shape, dtype=torch.float64)


def at(field: torch.Tensor, t: int) -> float:
    """A constant, or its value at step t when it is `[T,1]`."""
    return float(field[t, 0] if field.dim() == 2 else field)


def by_float_soma(soma: FloatSoma, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The FloatSoma equations, neuron by neuron."""
    fields = ("theta", "unit", "leak", "gain", "bias")
    values = [{key: at(getattr(soma, key), t) for key in fields} for t in range(soma.steps)]
    if soma.window is not None:
        x = np.einsum("tj,j...->t...", soma.window.numpy(), x)
    out = np.zeros_like(x)
    for index in np.ndindex(x.shape[1:]):
        v = float(soma.v_init)
        for t, value in enumerate(values):
            m = value["leak"] * v + value["gain"] * x[(t, *index)] + value["bias"]
            if soma.fire == "excess":
                s = max(m - value["theta"], 0.0)
                if soma.out_max is not None:
                    s = min(np.floor(s / value["unit"] + 0.5), soma.out_max)
            else:
                s = min(max(np.floor(m / value["theta"]), 0), soma.levels)
            if soma.reset == "clamp":
                v = min(m, value["theta"])
            elif soma.reset == "subtract":
                v = m - s * value["theta"]
            elif soma.reset == "zero":
                v = 0.0 if s > 0 else m
            else:
                assert soma.reset == "drop"
                v = 0.0
            out[(t, *index)] = s * value["unit"]
    return out


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_lowering_rule_says_what_forward_does(name: str, variant: dict[str, Any]) -> None:
    neuron = randomised(name, variant)
    x = currents(STEPS, 3, 2, 3, 3)
    soma = neuron.float_soma()
    got = neuron(x).detach().numpy()
    assert soma.steps == STEPS
    assert soma.method == name
    assert soma.levels == neuron.levels
    assert (got > 0).any()
    np.testing.assert_allclose(got, by_float_soma(soma, x.numpy()), rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", ["qcfs"])
@pytest.mark.parametrize("variant", QCFS.variants)
def test_one_step_qcfs_lowers_to_half_a_threshold(name: str, variant: dict[str, Any]) -> None:
    neuron = randomised(name, variant, steps=1)
    soma = neuron.float_soma()
    assert (soma.reset, soma.v_init_rule, float(soma.bias)) == ("subtract", "half-theta", 0.0)
    assert float(soma.v_init) == variant["vth"] / variant["levels"] / 2
    x = currents(1, 200)
    np.testing.assert_allclose(neuron(x).detach().numpy(), by_float_soma(soma, x.numpy()), rtol=1e-12)


@pytest.mark.parametrize("reset", ["subtract", "zero"])
@pytest.mark.parametrize("leak", [1.0, 0.5, 1.25])
def test_lif_equation(reset: str, leak: float) -> None:
    theta, v0 = 0.75, 0.125
    x = currents(STEPS, 50)
    neuron = LIF(steps=STEPS, leak=leak, theta=theta, v_init=v0, reset=reset).double()  # type: ignore[arg-type]
    expected = np.zeros((STEPS, 50))
    for b in range(50):
        v = v0
        for t in range(STEPS):
            m = leak * v + x[t, b].item()
            s = 1 if m >= theta else 0
            v = m - theta * s if reset == "subtract" else (0.0 if s else m)
            expected[t, b] = theta * s
    np.testing.assert_array_equal(neuron(x).numpy(), expected)
    if leak == 1.0:
        same = IF(steps=STEPS, theta=theta, v_init=v0, reset=reset).double()  # type: ignore[arg-type]
        assert torch.equal(same(x), neuron(x))


def test_lmht_equation() -> None:
    steps, levels, theta = 3, 3, 0.5
    neuron = randomised("lmht", {"levels": levels, "theta": theta}, steps=steps)
    assert isinstance(neuron, LMHT)
    raw, a = neuron.window_raw.detach().numpy(), neuron.leak_raw.item()
    omega = 2 / (1 + np.exp(-raw)) / steps
    leak = 1 / (1 + np.exp(-a)) + 0.5
    assert (omega > 0).all()
    assert (omega < 2 / steps).all()
    x = currents(steps, 40)
    expected = np.zeros((steps, 40))
    for b in range(40):
        v = 0.0
        for t in range(steps):
            m = leak * v + sum(omega[t, j] * x[j, b].item() for j in range(steps))
            s = sum(1 for k in range(1, levels + 1) if m >= k * theta)
            v = m - theta * s
            expected[t, b] = theta * s
    np.testing.assert_allclose(neuron(x).detach().numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("levels", [1, 3, 4])
def test_qcfs_equation(levels: int) -> None:
    vth = 1.25
    z = currents(1, 4000)
    z = z[:, (z[0] * levels / vth + 0.5).frac().abs() > 1e-9]
    expected = vth / levels * np.clip(np.floor(z.numpy() * levels / vth + 0.5), 0, levels)
    got = QCFS(levels=levels, vth=vth).double()(z).detach().numpy()
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    assert len(np.unique(got)) == levels + 1


def test_default_constants() -> None:
    assert float(MHT(steps=2, levels=4).theta) == 0.5
    assert float(LMHT(steps=2, levels=8).theta) == 0.25
    fresh = LMHT(steps=5, levels=2)
    assert torch.equal(fresh.window(), torch.full((5, 5), 1 / 5))
    assert fresh.leak_factor().item() == 1.0
    assert QCFS().vth.item() == 8.0


def test_ties_fire_and_counts_saturate() -> None:
    x = torch.tensor([[0.5, 0.4999, 1.5, 2.0, 9.0, -3.0]], dtype=torch.float64)
    got = MHT(steps=1, levels=4, theta=0.5).double()(x)
    assert got.tolist() == [[0.5, 0.0, 1.5, 2.0, 2.0, 0.0]]


def test_state_starts_anew_at_every_call() -> None:
    for name, variant in CASES:
        neuron = randomised(name, variant)
        x = currents(STEPS, 5)
        assert torch.equal(neuron(x), neuron(x))
        assert neuron.v is None


def test_identity_window_and_one_level_is_lif() -> None:
    neuron = randomised("lmht", {"levels": 1, "theta": 0.75})
    assert isinstance(neuron, LMHT)
    neuron.window = lambda: torch.eye(STEPS, dtype=torch.float64)  # type: ignore[method-assign]
    leak = neuron.leak_factor().item()
    torch.set_default_dtype(torch.float64)
    try:
        plain = LIF(steps=STEPS, leak=leak, theta=0.75)
    finally:
        torch.set_default_dtype(torch.float32)
    x = currents(STEPS, 200)
    assert torch.equal(neuron(x), plain(x))
    two = LMHT(steps=2, levels=1, theta=0.75).double()  # a saturated sigmoid is exactly the identity for T = 2
    with torch.no_grad():
        two.window_raw.copy_(torch.tensor([[800.0, -800.0], [-800.0, 800.0]]))
    assert torch.equal(two(x[:2]), IF(steps=2, theta=0.75).double()(x[:2]))


def test_wrong_arguments_are_all_named() -> None:
    with pytest.raises(InputError, match="with T = 3"):
        IF(steps=3)(torch.zeros(2, 1))
    with pytest.raises(InputError, match="steps=0") as caught:
        MHT(steps=0, levels=0)
    assert len(caught.value.breaches) == 2
    with pytest.raises(InputError) as caught:
        LIF(steps=1, reset="soft", detach="all", surrogate="sigmoid")  # type: ignore[arg-type]
    assert len(caught.value.breaches) == 3
    with pytest.raises(InputError, match="positive"):
        LMHT(steps=1, theta=0.0)
    with pytest.raises(InputError, match="positive"):
        QCFS(vth=-1.0)
    with pytest.raises(InputError, match="positive"):
        LIF(steps=1, gamma=0.0)
    with pytest.raises(InputError, match="known: empf, empf-norm, empf-parallel, if, lif, lmht, mht, qcfs"):
        make_neuron("plif", steps=2)
    with pytest.raises(InputError) as caught:
        make_neuron("if", steps=2, levels=4, beta=0.5)
    assert [("beta" in text, "levels" in text.split(";")[0]) for text in caught.value.breaches] == [
        (True, False),
        (False, True),
    ]
    assert make_neuron("if", steps=2, levels=1).levels == 1
