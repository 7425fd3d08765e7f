"""EM-PF version II: the equation in training, both exact merges, the merge that is not, and the two scale forms."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import torch
from torch import Tensor

from snn2chip.errors import InputError
from snn2chip.ir.float_run import run_soma
from snn2chip.nn import EMPF, EMPFNorm

STEPS, CHANNELS = 4, 6


def trained(*, dtype: torch.dtype = torch.float64, **args: Any) -> EMPFNorm:
    """A neuron with random statistics and slopes of both signs, in eval mode."""
    torch.manual_seed(3)
    neuron = EMPFNorm(steps=STEPS, channels=CHANNELS, **args).to(dtype).eval()
    with torch.no_grad():
        for parameter in neuron.parameters():
            parameter.add_(0.8 * torch.randn_like(parameter))
        for key, buffer in neuron.named_buffers():
            if key.endswith("running_mean"):
                buffer.normal_()
            elif key.endswith("running_var"):
                buffer.uniform_(0.05, 2.0)
        for t, norm in enumerate(neuron.norms):
            norm.weight[t % CHANNELS] = -2.0
    return neuron


def currents(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return (torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5)) + 0.4).to(dtype)


def test_training_normalises_every_step_by_its_own_batch() -> None:
    """The written equation with batch statistics; running statistics move by momentum, each step its own."""
    neuron = trained().train()
    start = [(norm.running_mean.clone(), norm.running_var.clone()) for norm in neuron.norms]
    x = currents(STEPS, 7, CHANNELS, 3, 2)
    got = neuron(x).detach()
    v = torch.zeros_like(x[0])
    for t in range(STEPS):
        norm: Any = neuron.norms[t]
        m = neuron.leaks()[t] * v + x[t]
        mean, var = m.mean((0, 2, 3)), m.var((0, 2, 3), unbiased=False)

        def wide(c: Tensor) -> Tensor:
            return c.view(1, -1, 1, 1)

        n = norm.weight.view(1, -1, 1, 1) * (m - wide(mean)) / wide(torch.sqrt(var + 1e-5)) + wide(norm.bias)
        n = neuron.alphas()[t] * m + neuron.betas()[t] * n
        theta = neuron.threshold()[t]
        torch.testing.assert_close(got[t], torch.relu(n - theta), rtol=1e-10, atol=1e-11)
        v = torch.minimum(n, theta)  # the normalised potential is carried
        torch.testing.assert_close(norm.running_mean, 0.9 * start[t][0] + 0.1 * mean)
        torch.testing.assert_close(norm.running_var, 0.9 * start[t][1] + 0.1 * m.var((0, 2, 3), unbiased=True))
    assert (got > 0).any()


@pytest.mark.parametrize("form", ["A", "B"])
@pytest.mark.parametrize("scales", ["sigmoid", "free"])
def test_both_merges_are_exact(form: Any, scales: Any) -> None:
    neuron = trained(scales=scales)
    x = currents(STEPS, 50, CHANNELS, 2, 2)
    merged = neuron.merged(form=form)
    assert (merged.gain < 0).any()
    assert (merged.leak < 0).any()
    assert {tuple(merged.leak.shape), tuple(merged.gain.shape), tuple(merged.bias.shape)} == {(STEPS, CHANNELS)}
    run = run_soma(neuron.lower(form=form), x)
    torch.testing.assert_close(run.payload, neuron(x).detach(), rtol=1e-12, atol=5e-14)
    _, c = neuron.affine()
    kept = []
    neuron.step_mode = "s"
    for t in range(STEPS):
        neuron(x[t])
        assert neuron.v is not None
        kept.append(neuron.v - c[t].view(1, -1, 1, 1) if form == "B" else neuron.v)
    torch.testing.assert_close(run.after, torch.stack(kept), rtol=1e-12, atol=5e-14)


@pytest.mark.parametrize("form", ["A", "B"])
def test_merges_hold_in_float32(form: Any) -> None:
    neuron = trained(dtype=torch.float32)
    x = currents(STEPS, 200, CHANNELS, dtype=torch.float32)
    error = (run_soma(neuron.lower(form=form), x).payload - neuron(x).detach()).abs().max()
    assert error <= 2e-5  # values up to about 20


def test_merging_into_the_threshold_alone_is_wrong() -> None:
    neuron = trained()
    x = currents(STEPS, 50, CHANNELS)
    soma = neuron.lower(form="B")
    naive = run_soma(attrs.evolve(soma, bias=torch.zeros_like(soma.bias)), x).payload
    error = (naive - neuron(x).detach()).abs().flatten(1).amax(1)
    assert error[0] <= 1e-13  # c(0) = 0: the first step is right
    assert error[1:].max() > 0.5


def test_slopes_at_the_released_start() -> None:
    """alpha = beta = leak = 1/2, gamma = 1, sd = 0.1: a = (1 + 1/sd)/2 = 5.5 and the merged leak 2.75."""
    neuron = EMPFNorm(steps=2, channels=1, eps=0.0).double()
    for norm in neuron.norms:
        norm.running_var.fill_(0.01)
        norm.running_mean.fill_(0.3)
    merged = neuron.merged()
    torch.testing.assert_close(merged.gain.flatten().tolist(), [5.5, 5.5])
    torch.testing.assert_close(merged.leak.flatten().tolist(), [2.75, 2.75])
    torch.testing.assert_close(merged.bias.flatten().tolist(), [-1.5, -1.5])


def test_free_scales_contain_version_one_and_sigmoid_scales_do_not() -> None:
    x = currents(STEPS, 8, CHANNELS, 2, 2)
    plain = EMPF(steps=STEPS).double()
    free = EMPFNorm(steps=STEPS, channels=CHANNELS, scales="free").double()
    bounded = EMPFNorm(steps=STEPS, channels=CHANNELS).double()
    for mode in (True, False):
        assert torch.equal(free.train(mode)(x), plain(x))  # alpha = 1, beta = 0 exactly, whatever the statistics
        assert not torch.allclose(bounded.train(mode)(x), plain(x), atol=1e-2)
    with torch.no_grad():  # far out the released form comes near, never there
        bounded.alpha_raw.fill_(12.0)
        bounded.beta_raw.fill_(-12.0)
    gap = (bounded(x) - plain(x)).abs().max().item()
    assert 0 < gap < 1e-3
    free.train()(x).square().sum().backward()
    assert free.beta_raw.grad is not None
    assert free.beta_raw.grad.abs().min() > 0  # a start at 0 still learns


def test_any_rank_and_unknown_form() -> None:
    neuron = trained()
    x = currents(STEPS, 9, CHANNELS)
    flat = neuron(x)
    assert torch.equal(neuron(x.unsqueeze(3)).squeeze(3), flat)
    assert torch.equal(neuron(x[..., None, None]).flatten(2), flat)
    with pytest.raises(InputError, match="form='C' is none of 'A', 'B'"):
        neuron.merged(form="C")  # type: ignore[arg-type]
