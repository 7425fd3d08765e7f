"""Online gradients against back-propagation through time, in float64 to 1e-12.

All three rules are recomputed by hand: the closed form of the full gradient, exactly when the online one equals it,
and where the statement ends (thresholds, a detached reset, ties).
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from snn2chip.nn import EMPF, EMPFNorm, EMPFParallel

STEPS = 4


def assert_equal(got: Tensor, expected: Tensor) -> None:
    """Equal to 1e-12."""
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


def neuron(detach: Any, *, seed: int = 0) -> EMPF:
    made = EMPF(steps=STEPS, detach=detach).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        made.leak_raw.copy_(1.5 * torch.randn(STEPS, dtype=torch.float64, generator=generator))
        made.theta_raw.copy_(torch.randn(STEPS, dtype=torch.float64, generator=generator))
    return made


def draw(count: int, *, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Currents that let every firing pattern occur, and gradients dL/ds away from zero, each `[T,count]`."""
    generator = torch.Generator().manual_seed(seed)
    x = 1.2 * torch.randn(STEPS, count, dtype=torch.float64, generator=generator) + 0.3
    g = 0.5 + torch.rand(STEPS, count, dtype=torch.float64, generator=generator)
    return x, g


def gradients(module: Any, x: Tensor, g: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """The gradients of <s, g> for x and all parameters, and s."""
    x = x.clone().requires_grad_()
    module.zero_grad()
    s = module(x)
    (s * g).sum().backward()
    assert x.grad is not None
    return {"x": x.grad, **{k: p.grad for k, p in module.named_parameters() if p.grad is not None}}, s.detach()


def closed_form(fired: Tensor, leak: Tensor, g: Tensor) -> Tensor:
    """g_m(t) = g_s(k) * prod_{j=t+1..k} leak(j), k the first firing step >= t; 0 without one."""
    expected = torch.zeros_like(g)
    for b in range(g.shape[1]):
        for t in range(len(g)):
            later = [k for k in range(t, len(g)) if fired[k, b]]
            if later:
                expected[t, b] = g[later[0], b] * leak[t + 1 : later[0] + 1].prod()
    return expected


def prefix(fired: Tensor) -> Tensor:
    """Whether each column fires at steps 1..k and never after."""
    return (fired[1:] <= fired[:-1]).all(0)


def test_full_gradient_is_the_first_following_spike_times_the_leaks_between() -> None:
    module = neuron("nothing")
    x, g = draw(2000)
    grads, s = gradients(module, x, g)
    assert_equal(grads["x"], closed_form(s > 0, module.leaks().detach(), g))


def test_online_rule_by_hand() -> None:
    """g_m(t) = g_s(t)*1[m > theta]; leaks get <g_m(t), v(t-1)>, thresholds -sum of g_m, both through the sigmoid."""
    module = neuron("state")
    x, g = draw(2000)
    grads, s = gradients(module, x, g)
    leak, theta = module.leaks().detach(), module.threshold().detach()
    g_m = g * (s > 0)
    before, v = torch.zeros_like(x), torch.zeros_like(x[0])
    for t in range(STEPS):
        before[t] = v
        v = torch.minimum(leak[t] * v + x[t], theta[t])
    expected = {
        "x": g_m,
        "leak_raw": (g_m * before).sum(1) * leak * (1 - leak),
        "theta_raw": -g_m.sum(1) * theta * (1 - theta),
    }
    assert set(grads) == set(expected)
    for key, value in expected.items():
        assert_equal(grads[key], value)


def test_online_equals_full_exactly_on_prefix_patterns() -> None:
    """If and only if, on 4000 random sequences in which all 2^T firing patterns occur."""
    x, g = draw(4000, seed=3)
    online, s = gradients(neuron("state"), x, g)
    full, same = gradients(neuron("nothing"), x, g)
    assert torch.equal(s, same)
    fired = s > 0
    assert len({tuple(column) for column in fired.T.tolist()}) == 2**STEPS
    equal = ((online["x"] - full["x"]).abs() <= 1e-12).all(0)
    assert torch.equal(equal, prefix(fired))
    assert 0.1 < equal.double().mean() < 0.9
    gap = (online["x"] - full["x"]).abs().amax(0)[~equal]
    assert gap.min() > 1e-3  # far from equal where it is not


def test_on_prefix_patterns_leaks_agree_and_thresholds_do_not() -> None:
    x, g = draw(4000, seed=4)
    keep = prefix(neuron("state")(x) > 0)
    online, _ = gradients(neuron("state"), x[:, keep], g[:, keep])
    full, _ = gradients(neuron("nothing"), x[:, keep], g[:, keep])
    for key in ("x", "leak_raw"):
        assert_equal(online[key], full[key])
    assert (online["theta_raw"] - full["theta_raw"]).abs().max() > 1e-3


def test_threshold_gradients_by_hand() -> None:
    """Two spikes: ds1/dth1 = -1; v(1) = th1 is kept, so ds2/dth1 = leak2, which only the full gradient sees."""
    x = torch.tensor([[2.0], [2.0]], dtype=torch.float64)
    g = torch.tensor([[3.0], [5.0]], dtype=torch.float64)
    found = {}
    for detach in ("state", "nothing"):
        grads, _ = gradients(EMPF(steps=2, detach=detach).double(), x, g)
        found[detach] = (grads["theta_raw"] * 4).tolist()  # sigmoid' = 1/4
    assert found == {"state": [-3.0, -5.0], "nothing": [-3.0 + 0.5 * 5.0, -5.0]}


def test_the_two_cases_by_their_inequalities() -> None:
    """Always firing: I(1) > th(1), I(t) > th(t) - leak(t)*th(t-1). Always silent: m(t) <= th(t), m the leaky sum."""
    module = neuron("state")
    leak, theta = module.leaks().detach(), module.threshold().detach()
    x, _ = draw(3000, seed=5)
    fired = module(x) > 0
    bound = theta.clone()
    bound[1:] -= leak[1:] * theta[:-1]
    assert torch.equal(fired.all(0), (x > bound.unsqueeze(1)).all(0))
    decay = torch.stack([torch.stack([leak[j + 1 : t + 1].prod() for j in range(STEPS)]) for t in range(STEPS)])
    m = decay.tril() @ x
    assert torch.equal(~fired.any(0), (m <= theta.unsqueeze(1)).all(0))
    assert fired.all(0).any()
    assert (~fired.any(0)).any()


def test_a_detached_reset_destroys_the_always_firing_case() -> None:
    """Two spikes, leak 1/2: with the reset detached dm(2)/dm(1) stays 1/2, so g_m(1) = 3 + 5/2 instead of 3."""
    x = torch.tensor([[2.0], [2.0]], dtype=torch.float64)
    g = torch.tensor([[3.0], [5.0]], dtype=torch.float64)
    found = {
        detach: gradients(EMPF(steps=2, detach=detach).double(), x, g)[0]["x"].flatten().tolist()
        for detach in ("state", "nothing", "reset")
    }
    assert found == {"state": [3.0, 5.0], "nothing": [3.0, 5.0], "reset": [5.5, 5.0]}


def test_a_tie_has_no_gradient_and_counts_as_silent() -> None:
    """m(1) = theta exactly, then a spike: full gradient of I(1) is leak*g(2), the pattern is not a prefix."""
    x = torch.tensor([[0.5], [2.0]], dtype=torch.float64)
    g = torch.tensor([[3.0], [5.0]], dtype=torch.float64)
    online, s = gradients(EMPF(steps=2, detach="state").double(), x, g)
    full, _ = gradients(EMPF(steps=2, detach="nothing").double(), x, g)
    assert (s > 0).flatten().tolist() == [False, True]
    assert online["x"].flatten().tolist() == [0.0, 5.0]
    assert full["x"].flatten().tolist() == [2.5, 5.0]


def test_the_parallel_version_has_no_temporal_path() -> None:
    """g_I(t) = g_s(t)*1[I > theta], at once and step by step."""
    module = EMPFParallel(steps=STEPS).double()
    with torch.no_grad():
        module.theta_raw.copy_(torch.tensor([0.5, -1.0, 0.0, 2.0]))
    x, g = draw(1000)
    at_once, s = gradients(module, x, g)
    torch.testing.assert_close(at_once["x"], g * (x > module.threshold().detach().unsqueeze(1)), rtol=0, atol=0)
    module.step_mode = "s"
    leaf = x.clone().requires_grad_()
    module.zero_grad()
    for t in range(STEPS):
        (module(leaf[t]) * g[t]).sum().backward()
        module.cut()
    assert leaf.grad is not None
    assert module.theta_raw.grad is not None
    assert torch.equal(leaf.grad, at_once["x"])
    assert_equal(module.theta_raw.grad, at_once["theta_raw"])
    assert (s > 0).any()


@pytest.mark.parametrize("scales", ["sigmoid", "free"])
def test_with_constant_statistics_version_two_follows_the_same_rules(scales: Any) -> None:
    """Replace I by a*I + c and leak by a*leak: closed form, and online = full exactly on prefix patterns."""
    modules = []
    for detach in ("state", "nothing"):
        torch.manual_seed(2)
        module = EMPFNorm(steps=STEPS, channels=1, scales=scales, detach=detach).double().eval()
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(0.5 * torch.randn_like(parameter))
            for key, buffer in module.named_buffers():
                if key.endswith("running_var"):
                    buffer.uniform_(0.3, 2.0)
                elif key.endswith("running_mean"):
                    buffer.normal_(0.0, 0.3)
        modules.append(module)
    x, g = draw(4000, seed=6)
    full, s = gradients(modules[1], x.unsqueeze(2), g.unsqueeze(2))
    online, _ = gradients(modules[0], x.unsqueeze(2), g.unsqueeze(2))
    merged = modules[1].merged()
    fired = s.squeeze(2) > 0
    expected = merged.gain * closed_form(fired, merged.leak.flatten(), g)
    torch.testing.assert_close(full["x"].squeeze(2), expected, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(online["x"].squeeze(2), merged.gain * g * fired, rtol=1e-11, atol=1e-12)
    equal = ((online["x"] - full["x"]).squeeze(2).abs() <= 1e-12).all(0)
    assert torch.equal(equal, prefix(fired))
    assert 0.05 < equal.double().mean() < 0.95
