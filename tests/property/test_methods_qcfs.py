"""QCFS against IF and multi-level neurons: ties, expectations, float32, and the hybrid replacement, exactly.

Integers and dyadic fractions in float64, so that `==` is meant (Bu et al. 2022, Hao et al. NeurIPS 2024).
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from snn2chip.convert import to_hybrid
from snn2chip.nn import IF, QCFS, Repeat, Seq, TimeMean


def ints(low: int, high: int, *shape: int, seed: int) -> Tensor:
    return torch.randint(low, high + 1, shape, generator=torch.Generator().manual_seed(seed)).double()


def strict_count(z: int, v0: int, theta: int, steps: int) -> int:
    v, count = v0, 0
    for _ in range(steps):
        v += z
        if v > theta:
            v, count = v - theta, count + 1
    return count


def test_a_strict_compare_breaks_the_identity_exactly_on_ties() -> None:
    """m > theta on integers is a start one unit lower; T*z + v0 = k*theta is where it loses a spike."""
    theta, steps = 6, 4
    lost = 0
    for v0 in range(theta):
        z = torch.arange(-8, 20).double()
        with torch.no_grad():
            strict = (
                IF(steps=steps, theta=float(theta), v_init=float(v0 - 1)).double()(z.expand(steps, -1)).sum(0) / theta
            )
        assert strict.tolist() == [strict_count(int(i), v0, theta, steps) for i in z]
        level = torch.floor((steps * z + v0) / theta).clamp(0, steps)
        total = steps * z + v0
        tie = (total % theta == 0) & (total > 0) & (total <= theta * steps)
        assert torch.equal(level - strict, tie.double())
        lost += int(tie.sum())
    assert lost


def expectations(levels: int, density: Tensor) -> float:
    """Sum of density*QCFS_levels over the 48 unit cells of vth = 48, whose breakpoints all lie on cell edges."""
    centres = torch.arange(48).double() + 0.5
    with torch.no_grad():
        value = QCFS(levels=levels, vth=48.0).double()(centres[None])[0]
    return float((value * density).sum())


def test_the_expectation_of_a_uniform_input_is_half_the_range() -> None:
    for levels in (1, 2, 3, 4, 6, 8, 12, 24):
        assert expectations(levels, torch.ones(48, dtype=torch.float64)) == 48 * 24


def test_which_densities_have_the_same_expectation_at_l_and_t() -> None:
    """Constant on quarters serves L=4, T=8; not T=6; constant on eighths alone does not serve L=4."""
    quarters = torch.tensor([1.0, 5.0, 2.0, 9.0], dtype=torch.float64).repeat_interleave(12)
    eighths = torch.tensor([1.0, 7.0, 2.0, 3.0, 9.0, 4.0, 1.0, 6.0], dtype=torch.float64).repeat_interleave(6)
    halves = torch.tensor([3.0, 8.0], dtype=torch.float64).repeat_interleave(24)
    assert expectations(4, quarters) == expectations(8, quarters)
    assert expectations(4, quarters) != expectations(6, quarters)
    assert expectations(4, eighths) != expectations(8, eighths)
    assert expectations(4, halves) == expectations(6, halves)  # cells of both grids


def test_float32_iteration_agrees_with_the_floor_except_on_ties() -> None:
    theta, steps = 0.3, 8
    generic = torch.rand(20000, generator=torch.Generator().manual_seed(1)) * 0.5 - 0.1
    ties = ((torch.arange(1, steps + 1) - 0.5) * torch.tensor(theta) / steps).repeat(1)
    for z, equal in ((generic, True), (ties, False)):
        with torch.no_grad():
            counts = IF(steps=steps, theta=theta, v_init="half-theta")(z.expand(steps, -1)) > 0
        closed = torch.floor(z * steps / theta + 0.5).clamp(0, steps)
        assert torch.equal(counts.sum(0).float(), closed) == equal


def network(levels: int = 4) -> nn.Module:
    """Three QCFS layers with quarter-integer weights and vth = 16: every value is a short dyadic fraction."""
    layers: list[nn.Module] = [Repeat(1)]
    sizes = [6, 40, 40, 40, 5]
    for i in range(4):
        linear = nn.Linear(sizes[i], sizes[i + 1])
        linear.weight.data = ints(-3, 4, sizes[i + 1], sizes[i], seed=i) / 4
        linear.bias.data = ints(-12, 12, sizes[i + 1], seed=10 + i)
        layers.append(linear)
        if i < 3:
            layers.append(QCFS(levels=levels, vth=16.0))
    return Seq(*layers, TimeMean()).double().eval()


def payload_rates(model: nn.Module, x: Tensor) -> list[Tensor]:
    """Mean payload over the steps of every neuron layer, in units of its largest payload."""
    found: list[Tensor] = []
    hooks = [
        m.register_forward_hook(lambda m, _, out: found.append(out.mean(0) / (m.threshold() * m.levels)))
        for m in model.modules()
        if hasattr(m, "threshold")
    ]
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    return found


@pytest.mark.parametrize(("steps", "levels"), [(2, 2), (4, 1), (1, 4)])
@pytest.mark.parametrize("form", ["normalised", "printed"])
def test_hybrid_replacement_is_the_quantised_network(steps: int, levels: int, form: str) -> None:
    """L*T = T~: every rate is the QCFS level, 0 mismatches, with biases times L or with theta/L."""
    source, x = network(), ints(0, 12, 50, 6, seed=77) / 2
    made = to_hybrid(source, x[:4], steps=steps, levels=levels, form=form)
    for want, got in zip(payload_rates(source, x), payload_rates(made, x), strict=True):
        assert torch.equal(want, got)
        assert want.unique().numel() > 3
    with torch.no_grad():
        assert torch.equal(made(x), source(x) * (1 if form == "normalised" else levels))


def test_scaling_only_the_first_layer_breaks_the_premise() -> None:
    source, x = network(), ints(0, 12, 50, 6, seed=77) / 2
    made = to_hybrid(source, x[:4], steps=2, levels=2, form="first-only")
    rates = list(zip(payload_rates(source, x), payload_rates(made, x), strict=True))
    assert torch.equal(*rates[0])
    assert all(0.05 < float((a != b).double().mean()) < 0.8 for a, b in rates[1:])


def test_hybrid_neurons_learn_and_nothing_else_fires() -> None:
    made = to_hybrid(network(), ints(0, 12, 4, 6, seed=1), steps=2, levels=2).train()
    made(ints(0, 12, 8, 6, seed=2)).square().sum().backward()
    grads = {name: p.grad for name, p in made.named_parameters()}
    assert sum("window_raw" in name for name in grads) == 3
    assert all(g is not None and bool(torch.isfinite(g).all()) for g in grads.values())
    assert any(bool((g != 0).any()) for name, g in grads.items() if g is not None and "window_raw" in name)
    assert not [m for m in made.modules() if isinstance(m, QCFS)]


def test_an_odd_threshold_started_at_its_rounded_up_half_misses_the_shift() -> None:
    """floor(theta/2) is the shift of one half for every integer theta; ceil(theta/2) is not for odd ones."""
    steps = 4
    for theta in range(1, 14):
        z = torch.arange(-2 * theta, 2 * theta + 1).double()
        shifted = torch.floor((2 * steps * z + theta) / (2 * theta)).clamp(0, steps)
        found = {}
        for start in (theta // 2, -(-theta // 2)):
            with torch.no_grad():
                neuron = IF(steps=steps, theta=float(theta), v_init=float(start)).double()
                found[start] = neuron(z.expand(steps, -1)).sum(0) / theta
        assert torch.equal(found[theta // 2], shifted)
        assert torch.equal(found[-(-theta // 2)], shifted) == (theta % 2 == 0)


def test_uneven_currents_outside_the_threshold_often_miss_the_sum() -> None:
    """Currents in [-theta, 2*theta], T = 8: about 38 % of the sequences count otherwise than their sum."""
    theta, steps = 10, 8
    x = ints(-theta, 2 * theta, steps, 4000, seed=3)
    with torch.no_grad():
        counts = IF(steps=steps, theta=float(theta), v_init=float(theta // 2)).double()(x).sum(0) / theta
    stated = torch.floor((x.sum(0) + theta // 2) / theta).clamp(0, steps)
    assert 0.33 < float((counts != stated).double().mean()) < 0.43


@pytest.mark.parametrize(("steps", "levels"), [(2, 2), (2, 4), (3, 2), (1, 6)])
def test_hybrid_levels_and_quantised_levels_have_equal_expectations(steps: int, levels: int) -> None:
    """L*T levels of the spiking neuron against T_q of the activation: equal mean on a uniform input, sample by
    sample only if L*T = T_q. Cell centres of vth = 48; vth/L and vth/T keep every value exact."""
    z = (torch.arange(48).double() + 0.5)[None]
    for source in (2, 4, 8):
        activation = QCFS(levels=source, vth=48.0).double()
        spiking = activation.spiking(steps=steps, levels=levels).double()
        with torch.no_grad():
            a, r = activation(z)[0], spiking(z.expand(steps, -1)).sum(0) / steps
        assert float(a.sum()) == float((r * steps).sum()) / steps == 48 * 24
        assert torch.equal(a, r) == (source == steps * levels)
