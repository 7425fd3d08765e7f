"""Gradients of every neuron against its written backward rule, recomputed by hand in NumPy, to 1e-12."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from snn2chip.nn import EMPF, LIF, LMHT, MHT, NEURONS, QCFS, EMPFParallel, Neuron, make_neuron
from snn2chip.nn.surrogate import rectangular_fire, straight_through, triangular_fire

Array = NDArray[np.float64]
STEPS = 4
CASES = [(name, variant) for name, kind in NEURONS.items() for variant in kind.variants]


def sigmoid(x: Array | float) -> Any:
    return 1 / (1 + np.exp(-x))


def potentials(x: Array, theta: float, levels: int, leak: float, v0: float, hard: bool) -> tuple[Array, Array, Array]:
    """m(t), s(t) and v(t-1) of the forward equations."""
    m, s, before = np.zeros_like(x), np.zeros_like(x), np.zeros_like(x)
    v = np.full_like(x[0], v0)
    for t in range(len(x)):
        before[t] = v
        m[t] = leak * v + x[t]
        s[t] = np.clip(np.floor(m[t] / theta), 0, levels)
        v = np.where(s[t] > 0, 0.0, m[t]) if hard else m[t] - theta * s[t]
    return m, s, before


def temporal_rule(neuron: LIF | MHT, x: Array, g_o: Array) -> dict[str, Array]:
    """g_m(t) = g_o(t)*h + g_m(t+1)*leak*k(t), with k by reset and detach."""
    theta, leak = float(neuron.theta), float(neuron.leak)
    v0 = theta / 2 if neuron.v_init == "half-theta" else float(neuron.v_init)
    hard = isinstance(neuron, LIF) and neuron.reset_rule == "zero"
    m, s, _ = potentials(x, theta, neuron.levels, leak, v0, hard)
    if isinstance(neuron, LIF) and neuron.surrogate == "triangular":
        h = np.maximum(neuron.gamma - np.abs(m - theta), 0) / neuron.gamma**2
    else:
        h = ((m >= theta / 2) & (m <= (neuron.levels + 0.5) * theta)).astype(float)
    h = h * (theta if neuron.surrogate_on == "spike" else 1.0)
    kept = 1 - s if hard else np.ones_like(m)
    if neuron.detach == "nothing":
        kept = kept - (m * h / theta if hard else h)
    if neuron.detach == "state":
        kept = np.zeros_like(m)
    g_m = np.zeros_like(m)
    following = np.zeros_like(m[0])
    for t in reversed(range(len(x))):
        g_m[t] = g_o[t] * h[t] + following * leak * kept[t]
        following = g_m[t]
    return {"x": g_m}


def window_rule(neuron: LMHT, x: Array, g_o: Array) -> dict[str, Array]:
    """The temporal path is cut; the chain through the window and the leak is written out."""
    steps, theta = neuron.steps, float(neuron.theta)
    raw, a = neuron.window_raw.detach().numpy(), neuron.leak_raw.item()
    most = 2 / steps if neuron.window_scale == "mean" else 2.0
    omega, leak = most * sigmoid(raw), sigmoid(a) + (0.5 if neuron.leak_range == "centred" else 0.0)
    v0 = theta / 2 if neuron.v_init == "half-theta" else float(neuron.v_init)
    mixed = np.einsum("tj,jb->tb", omega, x)
    m, _, before = potentials(mixed, theta, neuron.levels, leak, v0, False)
    g_m = g_o * ((m >= theta / 2) & (m <= (neuron.levels + 0.5) * theta))
    g_m = g_m * (theta if neuron.surrogate_on == "spike" else 1.0)
    found = {"x": np.einsum("tj,tb->jb", omega, g_m)}
    if neuron.window_raw.requires_grad:
        slope = sigmoid(raw) * (1 - sigmoid(raw))
        found["window_raw"] = np.einsum("tb,jb->tj", g_m, x) * most * slope
        found["leak_raw"] = np.asarray((g_m * before).sum() * sigmoid(a) * (1 - sigmoid(a)))
    return found


def qcfs_rule(neuron: QCFS, x: Array, g_o: Array) -> dict[str, Array]:
    """Pass band by clip; d a/d vth = (a - z)/vth inside, 0 below, 1 above."""
    vth, levels = float(neuron.vth), neuron.levels
    a = vth / levels * np.clip(np.floor(x * levels / vth + 0.5), 0, levels)
    half = vth / (2 * levels)
    inside = (x >= 0) & (x <= vth) if neuron.clip == "before" else (x >= -half) & (x < vth + half)
    slope = np.where(inside, (a - x) / vth, np.where(x > vth / 2, 1.0, 0.0))
    return {"x": g_o * inside, "vth": np.asarray((g_o * slope).sum())}


def excess_rule(neuron: EMPF | EMPFParallel, x: Array, g_o: Array) -> dict[str, Array]:
    """ReLU' = 1[m > theta]; v = min(m, theta) carries what `detach` leaves; rounded payloads pass straight through."""
    steps = len(x)
    theta = sigmoid(neuron.theta_raw.detach().numpy()) * np.ones(steps)
    leak = sigmoid(neuron.leak_raw.detach().numpy()) if isinstance(neuron, EMPF) else np.zeros(steps)
    detach = neuron.detach if isinstance(neuron, EMPF) else "state"
    m, before = np.zeros_like(x), np.zeros_like(x)
    start = neuron.v_start if isinstance(neuron, EMPF) else None
    v = np.full_like(x[0], 0.0 if start is None else start.item())
    for t in range(steps):
        before[t] = v
        m[t] = leak[t] * v + x[t]
        v = np.minimum(m[t], theta[t])
    fired = m > theta[:, None]
    g_m, g_v, g_theta = np.zeros_like(m), np.zeros_like(m[0]), np.zeros(steps)
    for t in reversed(range(steps)):
        through = {"state": 0.0, "reset": g_v, "nothing": g_v * ~fired[t]}[detach]
        g_m[t] = g_o[t] * fired[t] + through
        g_theta[t] = -(g_o[t] * fired[t]).sum() + ((g_v * fired[t]).sum() if detach == "nothing" else 0.0)
        g_v = leak[t] * g_m[t]
    g_theta *= theta * (1 - theta)
    found = {"x": g_m, "theta_raw": g_theta if len(neuron.theta_raw) == steps else g_theta.sum(keepdims=True)}
    if isinstance(neuron, EMPF):
        found["leak_raw"] = (g_m * before).sum(1) * leak * (1 - leak)
        if start is not None:
            found["v_start"] = g_v.sum()
    return found


RULES: dict[str, Callable[[Any, Array, Array], dict[str, Array]]] = {
    "if": temporal_rule,
    "lif": temporal_rule,
    "mht": temporal_rule,
    "lmht": window_rule,
    "qcfs": qcfs_rule,
    "empf": excess_rule,
    "empf-parallel": excess_rule,
}


def test_every_neuron_has_its_rule_here() -> None:
    assert set(RULES) == {name for name, kind in NEURONS.items() if kind.variants}


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_gradient_is_the_written_rule(name: str, variant: dict[str, Any]) -> None:
    torch.manual_seed(3)
    neuron: Neuron = make_neuron(name, steps=STEPS, **variant).double()
    with torch.no_grad():
        for key, parameter in neuron.named_parameters():
            if key != "vth":
                parameter.add_(torch.randn_like(parameter))
    x = (1.5 * torch.randn(STEPS, 300, dtype=torch.float64)).requires_grad_()
    weight = torch.randn(STEPS, 300, dtype=torch.float64)
    (neuron(x) * weight).sum().backward()
    expected = RULES[name](neuron, x.detach().numpy(), weight.numpy())
    got = {key: p.grad for key, p in neuron.named_parameters() if p.requires_grad} | {"x": x.grad}
    assert set(got) == set(expected)
    for key, value in got.items():
        assert value is not None
        assert np.abs(expected[key]).max() > 0
        np.testing.assert_allclose(value.numpy(), expected[key], rtol=1e-12, atol=1e-12, err_msg=key)


@pytest.mark.parametrize("levels", [1, 2, 5])
def test_the_band_includes_both_ends(levels: int) -> None:
    theta = torch.tensor(0.5, dtype=torch.float64)
    ends = torch.tensor([0.25, (levels + 0.5) * 0.5], dtype=torch.float64)
    m = torch.cat([ends, ends + torch.tensor([-1e-9, 1e-9]), ends - torch.tensor([-1e-9, 1e-9])]).requires_grad_()
    rectangular_fire(m, theta=theta, levels=levels).sum().backward()
    assert m.grad is not None
    assert m.grad.tolist() == [1, 1, 0, 0, 1, 1]


def test_clip_before_floor_band_is_the_multi_level_band() -> None:
    """With m = z + theta/2 the multi-level band is exactly 0 <= z <= L*theta."""
    levels, theta = 4, 0.25
    z = torch.tensor([-1e-9, 0.0, 0.3, 1.0, 1.0 + 1e-9], dtype=torch.float64, requires_grad=True)
    QCFS(levels=levels, vth=levels * theta).double()(z.unsqueeze(0)).sum().backward()
    m = (z.detach() + theta / 2).requires_grad_()
    rectangular_fire(m, theta=torch.tensor(theta, dtype=torch.float64), levels=levels).sum().backward()
    assert z.grad is not None
    assert m.grad is not None
    assert z.grad.tolist() == m.grad.tolist() == [0, 1, 1, 1, 0]


def test_triangular_height_and_width() -> None:
    theta = torch.tensor(1.0, dtype=torch.float64)
    m = torch.tensor([1.0, 1.25, 0.5, 2.0, -1.0], dtype=torch.float64, requires_grad=True)
    triangular_fire(m, theta=theta, gamma=0.5).sum().backward()
    assert m.grad is not None
    assert m.grad.tolist() == [2.0, 1.0, 0.0, 0.0, 0.0]


def test_straight_through_is_exact_forward_and_identity_backward() -> None:
    x = torch.tensor([0.1, 0.7], requires_grad=True)
    value = torch.tensor([1e8, -3.0], requires_grad=True)
    out = straight_through(x, value=value)
    assert out.tolist() == [1e8, -3.0]
    (out * torch.tensor([2.0, 5.0])).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [2.0, 5.0]
    assert value.grad is None


def test_detached_reset_changes_the_gradient() -> None:
    """Two steps by hand: leak 1/2, theta 1, m(0) = 1.2 fires inside the band, m(1) = 0.5*0.2 + 0.8 = 0.9."""
    grads = {}
    for detach in ("nothing", "reset", "state"):
        x = torch.tensor([[1.2], [0.8]], dtype=torch.float64, requires_grad=True)
        LIF(steps=2, leak=0.5, detach=detach).double()(x)[1].sum().backward()  # type: ignore[arg-type]
        assert x.grad is not None
        grads[detach] = x.grad.flatten().tolist()
    assert grads == {"nothing": [0.0, 1.0], "reset": [0.5, 1.0], "state": [0.0, 1.0]}
