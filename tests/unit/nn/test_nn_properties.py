"""The identities between one-level, multi-level and quantised neurons, in exact integer potentials.

Thresholds, starts and currents are integers (or dyadic fractions) held in float64, so that `==` is meant. Property
names as in the papers: QCFS conversion (Bu et al. 2022), Lemma 4.1, Theorem 4.2 and Corollary 4.3 (Hao et al. 2024).
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from snn2chip.nn import IF, LMHT, MHT, QCFS

THETAS = (1, 2, 5, 7, 12)


def draw(low: int, high: int, *shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(low, high + 1, shape, generator=generator).double()


def counts(neuron: IF | MHT | LMHT, x: Tensor) -> Tensor:
    with torch.no_grad():
        return neuron.double()(x) / neuron.theta


@pytest.mark.parametrize("theta", THETAS)
@pytest.mark.parametrize("steps", [1, 3, 8])
def test_if_constant_current_counts_like_a_floor(theta: int, steps: int) -> None:
    z = draw(-2 * theta, 3 * theta, 400, seed=theta + steps)
    for v0 in {0, theta // 2, theta - 1}:
        total = counts(IF(steps=steps, theta=theta, v_init=v0), z.expand(steps, -1)).sum(0)
        assert torch.equal(total, torch.floor((steps * z + v0) / theta).clamp(0, steps))


@pytest.mark.parametrize("theta", THETAS)
def test_if_uneven_currents_within_the_threshold(theta: int) -> None:
    steps = 6
    x = draw(0, theta, steps, 400, seed=theta)
    for v0 in {0, theta // 2, theta - 1}:
        total = counts(IF(steps=steps, theta=theta, v_init=v0), x).sum(0)
        assert torch.equal(total, torch.floor((x.sum(0) + v0) / theta).clamp(0, steps))


def test_if_uneven_currents_beyond_the_threshold_may_differ() -> None:
    """A spike cannot be taken back: currents 8 and -8 at threshold 4 give one spike, their sum 0 gives none."""
    x = torch.tensor([[8.0], [-8.0]], dtype=torch.float64)
    assert counts(IF(steps=2, theta=4), x).sum().item() == 1
    assert torch.floor(x.sum(0) / 4).clamp(0, 2).item() == 0


@pytest.mark.parametrize("theta", [2, 3, 5, 8, 13])
@pytest.mark.parametrize("steps", [2, 4, 5])
def test_start_at_the_floor_of_half_a_threshold_is_the_shift_of_one_half(theta: int, steps: int) -> None:
    z = draw(-2 * theta, 2 * theta, 500, seed=theta * steps)
    total = counts(IF(steps=steps, theta=theta, v_init=theta // 2), z.expand(steps, -1)).sum(0)
    exact = ((2 * steps * z + theta) / (2 * theta)).floor().clamp(0, steps)
    assert torch.equal(total, exact)
    half = counts(IF(steps=steps, theta=theta, v_init="half-theta"), z.expand(steps, -1)).sum(0)
    assert torch.equal(half, exact)


@pytest.mark.parametrize(("steps", "levels"), [(4, 1), (2, 2), (1, 4), (2, 3), (8, 1)])
@pytest.mark.parametrize("window", [False, True])
def test_qcfs_equals_the_mean_of_its_spiking_form(steps: int, levels: int, window: bool) -> None:
    total = steps * levels
    activation = QCFS(levels=total, vth=float(total)).double()  # theta = 1: exact in float64 off and on ties
    z = (draw(-16 * total, 32 * total, 600, seed=total) / 16).unsqueeze(0)
    spiking = activation.spiking(steps=steps, levels=levels, window=window)
    with torch.no_grad():
        mean = spiking(z.expand(steps, -1)).mean(0)
        assert torch.equal(mean, activation(z)[0])
    assert float(spiking.theta) == steps
    assert spiking.lower().v_init_rule == "half-theta"


@pytest.mark.parametrize("levels", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("theta", THETAS)
def test_one_graded_step_is_an_if_neuron_over_sub_steps(levels: int, theta: int) -> None:
    """Lemma 4.1: v in [0, theta), any current I; IF fed I/L for L sub-steps. Currents are multiples of L."""
    for v0 in {0, theta // 2, theta - 1}:
        current = levels * draw(-3 * theta, 3 * theta, 1, 300, seed=levels * theta)
        graded = MHT(steps=1, levels=levels, theta=theta, v_init=v0, step_mode="s").double()
        plain = IF(steps=levels, theta=theta, v_init=v0, step_mode="s").double()
        with torch.no_grad():
            s = graded(current[0]) / theta
            n = torch.stack([plain(current[0] / levels) / theta for _ in range(levels)]).sum(0)
        assert torch.equal(s, n)
        assert graded.v is not None
        assert plain.v is not None
        assert torch.equal(graded.v, plain.v)


def test_outside_the_safe_set_lemma_4_1_fails() -> None:
    """theta = 1, L = 2: start -1/2 and current 5/2 give 2 against 1; start 3/2 and -3/5 give 0 against 1."""
    for v0, current, graded, plain in ((-0.5, 2.5, 2, 1), (1.5, -0.6, 0, 1)):
        x = torch.full((1, 1), current, dtype=torch.float64)
        assert counts(MHT(steps=1, levels=2, theta=1.0, v_init=v0), x).item() == graded
        assert counts(IF(steps=2, theta=1.0, v_init=v0), (x / 2).expand(2, 1)).sum().item() == plain


@pytest.mark.parametrize("levels", [2, 3, 4])
@pytest.mark.parametrize("theta", THETAS)
def test_windows_of_in_range_currents(levels: int, theta: int) -> None:
    """Theorem 4.2 i: leak 1, v0 in [0, theta), I(t) in [0, L*theta]: equal counts in every window."""
    steps = 5
    x = levels * draw(0, theta, steps, 300, seed=7 * levels + theta)
    for v0 in {0, theta - 1}:
        graded = counts(MHT(steps=steps, levels=levels, theta=theta, v_init=v0), x)
        sub = (x / levels).repeat_interleave(levels, 0)
        plain = counts(IF(steps=steps * levels, theta=theta, v_init=v0), sub)
        assert torch.equal(graded, plain.view(steps, levels, -1).sum(1))


@pytest.mark.parametrize("levels", [1, 2, 4])
@pytest.mark.parametrize("theta", THETAS)
def test_constant_current_counts_like_levels_times_steps(levels: int, theta: int) -> None:
    """Theorem 4.2 ii."""
    steps = 4
    z = draw(-2 * levels * theta, 2 * levels * theta, 400, seed=levels + theta)
    for v0 in {0, theta // 2, theta - 1}:
        total = counts(MHT(steps=steps, levels=levels, theta=theta, v_init=v0), z.expand(steps, -1)).sum(0)
        assert torch.equal(total, torch.floor((v0 + steps * z) / theta).clamp(0, levels * steps))


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
@pytest.mark.parametrize("levels", [1, 3, 4])
def test_uniform_window_is_one_graded_step_of_all_levels(steps: int, levels: int) -> None:
    """Omega = 1/T and leak 1, the fresh LM-HT: any uneven input counts like one floor of its sum, L*T levels."""
    theta = 6
    x = draw(-2 * theta * levels, 3 * theta * levels, steps, 500, seed=steps * levels)
    for v0 in (0, 3, 5):
        total = counts(LMHT(steps=steps, levels=levels, theta=theta, v_init=v0), x).sum(0)
        assert torch.equal(total, torch.floor((v0 + x.sum(0)) / theta).clamp(0, levels * steps))
        single = counts(MHT(steps=1, levels=levels * steps, theta=theta, v_init=v0), x.sum(0, keepdim=True))
        assert torch.equal(total, single[0])


@pytest.mark.parametrize("steps", [2, 3, 5])
@pytest.mark.parametrize("levels", [1, 2, 4])
def test_equal_counts_at_every_step_exactly_on_the_stated_intervals(steps: int, levels: int) -> None:
    """Corollary 4.3 for any v0 in [0, theta), written without division."""
    theta = 11
    current = torch.arange(-2 * theta, (levels + 2) * theta + 1).double()
    for v0 in (0, 1, 5, 10):
        s = counts(MHT(steps=steps, levels=levels, theta=theta, v_init=v0), current.expand(steps, -1))
        equal = (s == s[0]).all(0)
        stated = (current < 0) | (steps * current >= steps * levels * theta - v0)
        for k in range(levels):
            stated |= (steps * k * theta - v0 <= steps * current) & (steps * current < steps * k * theta + theta - v0)
        assert torch.equal(equal, stated)
        assert equal.any()
        assert not equal.all()


@pytest.mark.parametrize("leak", [0.0, 0.5, 0.75, 1.0, 1.25])
@pytest.mark.parametrize("levels", [1, 2, 4])
def test_front_loaded_serialisation_needs_no_precondition(leak: float, levels: int) -> None:
    """The whole window current at the first of L sub-steps, one spike each: every v0, leak and current."""
    theta, steps = 4, 4
    x = draw(-40, 60, steps, 500, seed=levels)
    v0 = draw(-9, 13, 500, seed=levels + 50)
    graded = MHT(steps=steps + 1, levels=levels, theta=theta, leak=leak, step_mode="s").double()
    v = v0
    graded._state = (v0, None)
    with torch.no_grad():
        for t in range(steps):
            s = graded(x[t]) / theta
            first = leak * v + x[t]
            plain = IF(steps=levels, theta=theta, step_mode="s").double()
            fired = [plain(first if j == 0 else torch.zeros_like(first)) for j in range(levels)]
            assert torch.equal(s, torch.stack(fired).sum(0) / theta)
            assert plain.v is not None
            assert graded.v is not None
            v = plain.v
            assert torch.equal(graded.v, v)
