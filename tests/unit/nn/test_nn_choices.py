"""Choices the papers leave open: every side by name, the recommended one by default, and how the sides differ."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from snn2chip.errors import InputError, UnsupportedError
from snn2chip.nn import EMPF, IF, LMHT, MHT, QCFS, EMPFNorm


def grad(module: Any, x: Tensor) -> Tensor:
    leaf = x.clone().requires_grad_()
    (found,) = torch.autograd.grad(module(leaf).sum(), leaf)
    return found


@pytest.mark.parametrize("kind", [IF, MHT, LMHT])
def test_a_surrogate_on_the_spike_is_theta_times_as_large(kind: Any) -> None:
    """One step: height 1 on o against height 1 on s, do/dm = theta; forward the same."""
    theta = 0.25
    x = torch.linspace(-0.5, 1.5, 41, dtype=torch.float64).unsqueeze(0)
    default, spike = kind(steps=1, theta=theta).double(), kind(steps=1, theta=theta, surrogate_on="spike").double()
    assert default.surrogate_on == "payload"
    assert torch.equal(default(x), spike(x))
    band = (x >= theta / 2) & (x <= (default.levels + 0.5) * theta)
    assert torch.equal(grad(default, x), band.double())
    assert torch.equal(grad(spike, x), theta * band)


def test_a_soft_reset_sees_the_height_too() -> None:
    """g_m(1) = h*g_o(1) + h*leak*(1 - h)*g_o(2) with h = 1 or theta = 1/2; m = 0.6, then 0.1 + 0.5 = 0.6."""
    x = torch.tensor([[0.6], [0.5]], dtype=torch.float64)
    for on, h in (("payload", 1.0), ("spike", 0.5)):
        got = grad(IF(steps=2, theta=0.5, surrogate_on=on).double(), x)  # type: ignore[arg-type]
        torch.testing.assert_close(got.flatten().tolist(), [h + h * (1 - h), h])


def test_qcfs_clips_before_or_after_the_floor() -> None:
    """vth 1, L 2: the same values; pass bands 0..1 closed, and -1/4 <= z < 5/4."""
    z = torch.tensor([-0.3, -0.25, -0.1, 0.0, 0.4, 1.0, 1.2, 1.25], dtype=torch.float64).unsqueeze(0)
    before, after = (QCFS(levels=2, vth=1.0, clip=clip).double() for clip in ("before", "after"))  # type: ignore[arg-type]
    assert QCFS().clip == "before"
    assert before(z).flatten().tolist() == after(z).flatten().tolist() == [0, 0, 0, 0, 0.5, 1, 1, 1]
    assert grad(before, z).flatten().tolist() == [0, 0, 0, 1, 1, 1, 0, 0]
    assert grad(after, z).flatten().tolist() == [0, 1, 1, 1, 1, 1, 1, 0]
    a = torch.tensor([0, 0, 0, 0, 0.5, 1, 1, 1], dtype=torch.float64)
    for module, inside in ((before, [0, 0, 0, 1, 1, 1, 0, 0]), (after, [0, 1, 1, 1, 1, 1, 1, 0])):
        for i, flag in enumerate(inside):
            module.zero_grad()
            module(z[:, i : i + 1]).sum().backward()
            expected = float(a[i] - z[0, i]) if flag else float(z[0, i] > 1)
            assert module.vth.grad is not None
            assert module.vth.grad.item() == pytest.approx(expected, abs=1e-12)


def test_leak_ranges() -> None:
    """sigmoid + 1/2 starts at 1 and may grow; the sigmoid alone starts at 1/2 and never does."""
    centred, unit = LMHT(steps=2), LMHT(steps=2, leak_range="unit")
    assert (centred.leak_factor().item(), unit.leak_factor().item()) == (1.0, 0.5)
    with torch.no_grad():
        for neuron in (centred, unit):
            neuron.leak_raw.fill_(5.0)
    assert centred.leak_factor() > 1 > unit.leak_factor()


def test_the_released_first_layer_gains_t_on_an_averaged_frame() -> None:
    mean, total = LMHT(steps=4, levels=64), LMHT(steps=4, levels=64, window_scale="sum")
    x = torch.rand(4, 3, 5)
    assert torch.equal(mean.window(), torch.full((4, 4), 0.25))
    assert torch.equal(total.window(), torch.ones(4, 4))
    torch.testing.assert_close(total.mix(x), 4 * mean.mix(x))


def test_frames_into_steps() -> None:
    """Omega [T,F]: five frames, two steps; by the sum written out, in one gradient and without a program."""
    torch.manual_seed(0)
    neuron = LMHT(steps=2, frames=5, levels=3).double()
    with torch.no_grad():
        neuron.window_raw.normal_()
    x = torch.rand(5, 7, dtype=torch.float64)
    omega = neuron.window()
    assert omega.shape == (2, 5)
    assert 0 < omega.min() < omega.max() < 2 / 5
    expected = torch.stack([sum(omega[t, j] * x[j] for j in range(5)) for t in range(2)])  # type: ignore[misc]
    torch.testing.assert_close(neuron.mix(x), expected, rtol=1e-12, atol=0)
    assert neuron(x).shape == (2, 7)
    neuron(x).sum().backward()
    assert neuron.window_raw.grad is not None
    assert neuron.window_raw.grad.abs().max() > 0
    with pytest.raises(InputError, match=r"with T = 5, got \[2, 7\]"):
        neuron(x[:2])
    with pytest.raises(UnsupportedError, match="2 steps over 5 frames"):
        neuron.lower()
    square = LMHT(steps=2, frames=2).lower()
    assert square.window is not None
    assert tuple(square.window.shape) == (2, 2)


def test_what_version_two_keeps() -> None:
    """One channel, norm with gamma 3: normalised keeps n - s, raw keeps m - s; only the first one merges."""
    made = [EMPFNorm(steps=2, channels=1, carry=carry).double().eval() for carry in ("normalised", "raw")]  # type: ignore[arg-type]
    x = torch.tensor([[[1.0]], [[0.25]]], dtype=torch.float64)
    found = []
    for neuron in made:
        with torch.no_grad():
            for norm in neuron.norms:
                norm.weight.fill_(3.0)
        found.append(neuron(x).flatten().tolist())
    root = (1 + 1e-5) ** 0.5
    n = 0.5 + 0.5 * 3 / root  # alpha + beta*gamma/sd of m = 1
    s = n - 0.5
    kept = {"normalised": n - s, "raw": 1.0 - s}
    for got, v in zip(found, kept.values(), strict=True):
        m = 0.5 * v + 0.25
        assert got == pytest.approx([s, max(m * n - 0.5, 0.0)], abs=1e-12)
    assert found[0] != found[1]
    assert made[0].carry == EMPFNorm(steps=1, channels=1).carry == "normalised"
    made[0].lower()
    with pytest.raises(UnsupportedError, match="carry='raw' does not merge"):
        made[1].lower()


def test_a_learned_start() -> None:
    plain, learned = EMPF(steps=2).double(), EMPF(steps=2, learn_start=True).double()
    assert plain.v_start is None
    assert learned.v_start is not None
    x = torch.tensor([[0.75], [0.0]], dtype=torch.float64)
    assert torch.equal(plain(x), learned(x))
    with torch.no_grad():
        learned.v_start.fill_(0.5)
    assert plain(x).flatten().tolist() == [0.25, 0.0]
    assert learned(x).flatten().tolist() == [0.5, 0.0]  # m = 1/2*1/2 + 3/4 = 1
    learned(x).sum().backward()
    assert learned.v_start.grad is not None
    assert learned.v_start.grad.item() == 0.5  # the leak of step 1
    assert float(learned.lower().v_init) == 0.5


def test_unknown_choices_are_named() -> None:
    cases: list[tuple[Any, dict[str, Any]]] = [
        (IF, {"surrogate_on": "m"}),
        (MHT, {"surrogate_on": "m"}),
        (LMHT, {"leak_range": "wide"}),
        (LMHT, {"window_scale": "max"}),
        (LMHT, {"frames": 0}),
        (QCFS, {"clip": "never"}),
        (EMPFNorm, {"carry": "both", "channels": 1}),
    ]
    for kind, args in cases:
        with pytest.raises(InputError, match=next(iter(args))):
            kind(steps=2, **args)
