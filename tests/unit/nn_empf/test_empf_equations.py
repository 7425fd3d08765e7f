"""EM-PF versions I and III: the written equations in plain Python, parameters, payloads, lowering, refusals."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from snn2chip.errors import InputError, UnsupportedError
from snn2chip.ir.float_run import run_soma
from snn2chip.nn import EMPF, NEURONS, EMPFNorm, EMPFParallel, Neuron, PayloadGrid, make_neuron, quantize_neurons

STEPS = 4
CHANNELS = 3


def spread(neuron: Any, seed: int = 0) -> Any:
    """The neuron in float64 with parameters and statistics away from their start, in eval mode."""
    torch.manual_seed(seed)
    neuron = neuron.double().eval()
    with torch.no_grad():
        for parameter in neuron.parameters():
            parameter.add_(0.7 * torch.randn_like(parameter))
        for key, buffer in neuron.named_buffers():
            if key.endswith("running_mean"):
                buffer.normal_()
            elif key.endswith("running_var"):
                buffer.uniform_(0.05, 2.0)
    return neuron


def currents(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) + 0.3


def logistic(x: Tensor) -> list[float]:
    return [1 / (1 + math.exp(-value)) for value in x.flatten().tolist()]


@pytest.mark.parametrize("detach", ["state", "reset", "nothing"])
def test_version_one_is_its_equation(detach: Any) -> None:
    neuron: EMPF = spread(EMPF(steps=STEPS, detach=detach))
    leak, theta = logistic(neuron.leak_raw), logistic(neuron.theta_raw)
    x = currents(STEPS, 60)
    expected = torch.zeros_like(x)
    for b in range(60):
        v = 0.0
        for t in range(STEPS):
            m = leak[t] * v + x[t, b].item()
            s = max(m - theta[t], 0.0)
            v = min(m, theta[t])
            expected[t, b] = s
    got = neuron(x)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-14)
    assert 0.2 < (got > 0).double().mean() < 0.8


@pytest.mark.parametrize("tied", [False, True])
def test_version_three_is_its_equation(tied: bool) -> None:
    neuron: EMPFParallel = spread(EMPFParallel(steps=STEPS, tied=tied))
    theta = logistic(neuron.theta_raw) * (STEPS if tied else 1)
    x = currents(STEPS, 60)
    expected = torch.stack([(x[t] - theta[t]).clamp(min=0) for t in range(STEPS)])
    torch.testing.assert_close(neuron(x), expected, rtol=1e-12, atol=1e-14)


def test_released_version_three_reads_the_first_threshold_at_every_step() -> None:
    """Free thresholds start as the tied one does; once they move apart the two forms differ from step 2 on."""
    free, tied = EMPFParallel(steps=3), EMPFParallel(steps=3, tied=True)
    assert [p.numel() for p in (*free.parameters(), *tied.parameters())] == [3, 1]
    x = torch.ones(3, 1)
    assert free(x).tolist() == tied(x).tolist() == [[0.5]] * 3
    with torch.no_grad():
        free.theta_raw.copy_(torch.tensor([0.0, -800.0, 800.0]))
    assert free(x).tolist() == [[0.5], [1.0], [0.0]]
    free(x).sum().backward()
    tied(x).sum().backward()
    assert free.theta_raw.grad is not None
    assert tied.theta_raw.grad is not None
    assert free.theta_raw.grad.tolist() == [-0.25, 0.0, 0.0]
    assert tied.theta_raw.grad.tolist() == [-0.75]


def test_version_three_is_version_one_without_leak() -> None:
    first, third = spread(EMPF(steps=STEPS)), spread(EMPFParallel(steps=STEPS))
    with torch.no_grad():
        first.leak_raw.fill_(-800.0)  # a sigmoid of exactly 0
        third.theta_raw.copy_(first.theta_raw)
    x = currents(STEPS, 5, 7)
    assert torch.equal(first(x), third(x))


def test_all_constants_start_at_one_half_and_stay_between_zero_and_one() -> None:
    fresh = EMPFNorm(steps=3, channels=2)
    for values in (fresh.leaks(), fresh.threshold(), fresh.alphas(), fresh.betas()):
        assert values.tolist() == [0.5] * 3
    moved: EMPFNorm = spread(EMPFNorm(steps=50, channels=2))
    for values in (moved.leaks(), moved.threshold(), moved.alphas(), moved.betas()):
        assert 0 < values.min() < values.max() < 1


def test_a_tie_neither_fires_nor_is_lost() -> None:
    neuron = EMPF(steps=2).double()
    x = torch.tensor([[0.5], [0.25]], dtype=torch.float64)  # m = 1/2 = theta, then 1/2*1/2 + 1/4 = 1/2 again
    assert neuron(x).tolist() == [[0.0], [0.0]]


def test_payload_codes_by_hand() -> None:
    s = torch.tensor([0.0, 0.1, 0.125, 0.374, 0.375, 0.625, 1.0, 3.74, 3.75, 9.0], dtype=torch.float64)
    up, even = PayloadGrid(), PayloadGrid(rounding="half-even")
    assert up.codes(s).tolist() == [0, 0, 1, 1, 2, 3, 4, 15, 15, 15]
    assert even.codes(s).tolist() == [0, 0, 0, 1, 2, 2, 4, 15, 15, 15]  # 1/2 -> 0, 3/2 -> 2, 5/2 -> 2
    assert up.quantize(s).tolist() == (up.codes(s) / 4).tolist()
    assert (PayloadGrid(bits=2, step=0.5).top, PayloadGrid(bits=2, step=0.5).codes(s).max().item()) == (3, 3)
    leaf = s.clone().requires_grad_()
    (up.quantize(leaf) * torch.arange(10.0, dtype=torch.float64)).sum().backward()  # type: ignore[no-untyped-call]
    assert leaf.grad is not None
    assert leaf.grad.tolist() == list(range(10))  # identity, above the largest code too


def test_roundings_differ_on_exact_ties_only() -> None:
    s = torch.arange(0, 300, dtype=torch.float64) / 64
    different = PayloadGrid().codes(s) != PayloadGrid(rounding="half-even").codes(s)
    assert different.sum() > 0
    assert torch.equal(s[different] * 4 % 1, torch.full_like(s[different], 0.5))


@pytest.mark.parametrize("kind", [EMPF, EMPFParallel])
def test_only_the_payload_is_rounded(kind: Any) -> None:
    plain, graded = spread(kind(steps=STEPS)), spread(kind(steps=STEPS, payload_bits=4))
    x = currents(STEPS, 500)
    assert torch.equal(graded(x), PayloadGrid().quantize(plain(x)))
    x.requires_grad_()
    weight = currents(STEPS, 500, seed=9)
    grads = [torch.autograd.grad((neuron(x) * weight).sum(), x)[0] for neuron in (plain, graded)]
    assert torch.equal(grads[0], grads[1])


def cases() -> list[tuple[str, dict[str, Any]]]:
    norm: list[dict[str, Any]] = [{"channels": CHANNELS}, {"channels": CHANNELS, "scales": "free", "payload_bits": 4}]
    return [
        *(("empf", variant) for variant in EMPF.variants),
        *(("empf-parallel", variant) for variant in EMPFParallel.variants),
        *(("empf-norm", variant) for variant in norm),
        ("empf", {"payload_bits": 2, "payload_step": 0.5, "payload_rounding": "half-even"}),
    ]


@pytest.mark.parametrize(("name", "variant"), cases())
def test_lowering_says_what_forward_does(name: str, variant: dict[str, Any]) -> None:
    neuron: Neuron = spread(make_neuron(name, steps=STEPS, **variant))
    soma = neuron.float_soma()
    x = currents(STEPS, 4, CHANNELS, 3, 2)
    torch.testing.assert_close(run_soma(soma, x).payload, neuron(x).detach(), rtol=1e-12, atol=1e-13)
    assert (soma.fire, soma.method, soma.steps) == ("excess", name, STEPS)
    assert soma.reset == ("drop" if name == "empf-parallel" else "clamp")
    bits = variant.get("payload_bits")
    assert soma.out_max == (None if bits is None else 2**bits - 1)
    assert float(soma.unit) == (1.0 if bits is None else variant.get("payload_step", 0.25))
    assert tuple(soma.theta.shape) == (STEPS, 1)


@pytest.mark.parametrize(("name", "variant"), cases())
def test_a_time_loop_equals_the_multi_step_call(name: str, variant: dict[str, Any]) -> None:
    at_once = spread(make_neuron(name, steps=STEPS, **variant))
    looped = spread(make_neuron(name, steps=STEPS, step_mode="s", **variant))
    x = currents(STEPS, 4, CHANNELS, 3, 2)
    for _ in range(2):
        looped.reset()
        each = torch.stack([looped(x[t]) for t in range(STEPS)])
        torch.testing.assert_close(each, at_once(x), rtol=0, atol=1e-15)
    if "detach" not in variant:
        assert not looped.v.requires_grad


def test_mistakes_are_named() -> None:
    with pytest.raises(InputError, match="detach='all' is none of"):
        EMPF(steps=2, detach="all")  # type: ignore[arg-type]
    with pytest.raises(InputError) as caught:
        EMPF(steps=2, payload_bits=0, payload_step=-1.0, payload_rounding="up")  # type: ignore[arg-type]
    assert len(caught.value.breaches) == 3
    with pytest.raises(InputError, match=r"\[T,B,...\] with T = 3, got \[2, 1\]"):
        EMPFParallel(steps=3)(torch.zeros(2, 1))
    with pytest.raises(InputError, match="give channels"):
        make_neuron("empf-norm", steps=2)
    with pytest.raises(InputError, match="channels=0"):
        EMPFNorm(steps=2, channels=0)
    with pytest.raises(InputError, match="scales='tanh'"):
        EMPFNorm(steps=2, channels=1, scales="tanh")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="build the neuron with channels=4"):
        EMPFNorm(steps=2, channels=3)(torch.zeros(2, 5, 4, 2, 2))
    assert type(make_neuron("empf", steps=2, channels=5)) is NEURONS["empf"]


@pytest.mark.parametrize("name", ["empf", "empf-norm", "empf-parallel"])
def test_integer_training_is_refused_by_name(name: str) -> None:
    neuron = make_neuron(name, steps=2, channels=1)
    with pytest.raises(UnsupportedError, match=f"{type(neuron).__name__}: fire = excess"):
        quantize_neurons(neuron)
