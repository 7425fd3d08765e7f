"""The parallel spiking neuron against its equations in integers and fractions (Hao et al. ICML 2025)."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from snn2chip.convert.parallel_calibration import DAQCFS
from snn2chip.convert.relu_to_parallel import build, da_qcfs_network
from snn2chip.frontends.torch import trace
from snn2chip.ir.float_run import run_soma
from snn2chip.nn import MHT, ParallelNeuron
from snn2chip.nn.parallel import (
    binary_steps,
    fused_matrix,
    graded_step,
    hadamard_spikes,
    primary_matrix,
    projection_matrix,
    search_count,
    sorted_spikes,
)


def ints(low: int, high: int, *shape: int, seed: int) -> Tensor:
    return torch.randint(low, high + 1, shape, generator=torch.Generator().manual_seed(seed))


def level(total: int, psi: int, theta: int, steps: int) -> int:
    return min(max((total + psi) // theta, 0), steps)


@pytest.mark.parametrize("steps", range(1, 33))
def test_primary_times_projection_is_rank_one(steps: int) -> None:
    primary, projection = primary_matrix(steps), projection_matrix(steps)
    product = [
        [sum((primary[x][j] * projection[j][i] for j in range(steps)), Fraction(0)) for i in range(steps)]
        for x in range(steps)
    ]
    assert product == fused_matrix(steps)
    assert product == [[Fraction(1, steps - x)] * steps for x in range(steps)]


@settings(max_examples=200, deadline=None)
@given(
    total=st.integers(-300, 300),
    psi=st.integers(-40, 40),
    theta=st.integers(1, 40),
    steps=st.sampled_from([1, 4, 7, 16]),
)
def test_spikes_count_the_levels_reached(total: int, psi: int, theta: int, steps: int) -> None:
    fired = hadamard_spikes(torch.tensor(total), theta=torch.tensor(theta), psi=torch.tensor(psi), steps=steps)
    expected = level(total, psi, theta, steps)
    assert fired.tolist() == [x < expected for x in range(steps)]
    last = hadamard_spikes(
        torch.tensor(total), theta=torch.tensor(theta), psi=torch.tensor(psi), steps=steps, order="last"
    )
    assert last.tolist() == fired.tolist()[::-1]


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 7, 8, 16, 31, 32])
def test_binary_search_is_the_linear_scan(steps: int) -> None:
    total = ints(-5 * steps, 20 * steps, 500, seed=steps)
    for theta, psi in ((1, 0), (7, 3), (12, -30)):
        count = search_count(total, theta=torch.tensor(theta), psi=torch.tensor(psi), steps=steps)
        assert count.tolist() == [level(s, psi, theta, steps) for s in total.tolist()]
    assert steps.bit_length() == math.ceil(math.log2(steps + 1))


def test_a_negative_threshold_reverses_the_train() -> None:
    """Sorted spikes need theta > 0: with theta = -2 and S = -5 the reached multiples -6, -8 are the last ones."""
    fired = hadamard_spikes(torch.tensor(-5), theta=torch.tensor(-2), psi=torch.tensor(0), steps=4)
    assert fired.tolist() == [False, False, True, True]
    assert sorted_spikes(torch.tensor(2), steps=4, order="last").tolist() == fired.tolist()


@pytest.mark.parametrize("order", ["first", "last"])
@pytest.mark.parametrize("evaluation", ["hadamard", "search", "matrix"])
def test_every_evaluation_of_the_module_is_the_same(order: str, evaluation: str) -> None:
    """theta = 2^k and T = 4 with dyadic rows keep the printed division exact where 1/3 does not occur at a tie."""
    steps, theta, psi = 4, torch.tensor([12.0, 24.0], dtype=torch.float64), torch.tensor([6.0, -5.0])
    x = ints(-12, 30, steps, 50, 2, 3, seed=3).double()
    neuron = ParallelNeuron(steps=steps, theta=theta, psi=psi, phi=[1.0, -2.0], order=order, evaluation=evaluation)
    got = neuron(x)
    for c, (t, p, unit) in enumerate(((12, 6, 13.0), (24, -5, 22.0))):
        count = [level(int(s), p, t, steps) for s in x[:, :, c].sum(0).flatten()]
        spikes = got[:, :, c].flatten(1) / unit
        assert spikes.sum(0).tolist() == count
        expected = sorted_spikes(torch.tensor(count), steps=steps, order=order)
        assert torch.equal(spikes, expected.double())


def test_the_order_changes_the_train_and_not_the_count() -> None:
    x = ints(-2, 6, 5, 40, 1, seed=5).double()
    first = ParallelNeuron(steps=5, theta=3.0, order="first")(x)
    last = ParallelNeuron(steps=5, theta=3.0, order="last")(x)
    assert torch.equal(first.sum(0), last.sum(0))
    assert torch.equal(first, last.flip(0))
    assert not torch.equal(first, last)


def test_the_primary_matrix_alone_is_wrong_on_uneven_currents() -> None:
    """Without the projection the count differs from clip(floor((S+psi)/theta), 0, T) for most uneven inputs."""
    steps, theta, psi = 4, 12, 6
    x = ints(-12, 24, steps, 400, seed=9)
    rows = primary_matrix(steps)
    wrong = 0
    for n in range(400):
        current = [int(v) for v in x[:, n]]
        fired = 0
        for t in range(steps):
            m = sum((rows[t][i] * current[i] for i in range(steps)), Fraction(0)) + Fraction(psi, steps - t)
            fired += m >= theta
        wrong += fired != level(sum(current), psi, theta, steps)
    assert wrong > 100
    constant = [Fraction(int(v)) for v in x[0]]
    for z in constant:
        fired = sum(
            sum((rows[t][i] * z for i in range(steps)), Fraction(0)) + Fraction(psi, steps - t) >= theta
            for t in range(steps)
        )
        assert fired == level(int(steps * z), psi, theta, steps)


@pytest.mark.parametrize("steps", [2, 4, 8])
def test_one_graded_step_is_the_whole_train(steps: int) -> None:
    theta, psi, unit = (torch.tensor(v, dtype=torch.float64) for v in ([16.0, 40.0], [8.0, -3.0], [17.0, 39.0]))
    x = ints(-20, 50, steps, 60, 2, seed=steps).double()
    spikes = run_soma(binary_steps(theta, psi=psi, unit=unit, steps=steps), x)
    for ladder in (False, True):
        soma = graded_step(theta, psi=psi, unit=unit, levels=steps, ladder=ladder)
        graded = run_soma(soma, x.mean(0, keepdim=True)).payload
        assert torch.equal(graded[0], spikes.payload.mean(0))
    assert not spikes.after.any()


@pytest.mark.parametrize("steps", [2, 5])
def test_it_is_a_multi_level_neuron_of_one_step_whatever_the_leak(steps: int) -> None:
    total = ints(-40, 60, 300, seed=steps).double()
    for leak in (0.5, 1.0):
        mht = MHT(steps=1, levels=steps, theta=9.0, v_init=4.0 / leak, leak=leak).double()
        with torch.no_grad():
            counts = mht(total[None])[0] / 9
        assert torch.equal(
            counts, search_count(total, theta=torch.tensor(9), psi=torch.tensor(4), steps=steps).double()
        )


def test_float32_quotients_differ_on_ties_only() -> None:
    """Comparing S + psi with multiples of theta is robust; flooring the quotient is not, and only at ties."""
    steps, theta = 16, torch.tensor(0.3)
    psi = theta / 2
    generic = torch.rand(20000, generator=torch.Generator().manual_seed(1)) * 6 - 0.5
    k = torch.arange(1, steps + 1).repeat(50)
    noise = ints(0, 100, 800, seed=2).float() / 7
    ties = (k * theta - psi + noise) - noise  # on the grid up to float32 rounding
    for total, expected in ((generic, True), (ties, False)):
        compare = search_count(total, theta=theta, psi=psi, steps=steps)
        floor = torch.floor((total + psi) / theta).clamp(0, steps).long()
        assert torch.equal(compare, floor) == expected
        spikes = hadamard_spikes(total, theta=theta, psi=psi, steps=steps)
        assert torch.equal(spikes.sum(0), compare)
        assert bool((spikes[1:].long() <= spikes[:-1].long()).all())


def test_which_densities_leave_no_expected_error_at_other_steps() -> None:
    """psi = theta/2, T steps against T~ levels of a uniform current on vth = 48: equal means; not for any density."""
    centres = 2 * torch.arange(48) + 1  # in halves: every comparison is an integer one
    skew = torch.tensor([1, 7, 2, 3, 9, 4, 1, 6]).repeat_interleave(6)

    def mean(steps: int, density: Tensor) -> Fraction:
        count = search_count(2 * steps * centres, theta=torch.tensor(192), psi=torch.tensor(96), steps=steps)
        return Fraction(48 * int((count * density).sum()), steps)

    uniform = {steps: mean(steps, torch.ones(48, dtype=torch.int64)) for steps in (1, 2, 3, 4, 6, 8, 12)}
    assert set(uniform.values()) == {Fraction(48 * 24)}
    assert mean(4, skew) != mean(8, skew)


@pytest.mark.parametrize("steps", [2, 4, 8])
def test_a_calibrated_network_is_its_spiking_network_in_rationals(steps: int) -> None:
    """Three layers, psi and phi per channel: the matrices, the graded form k = clip(floor((psi + W k + T b)/theta)),
    and the converted graph give the same numbers; rationals here, dyadic fractions there."""
    sizes = (5, 12, 12, 12, 3)
    weights = [ints(-3, 3, o, i, seed=i + o + n) for n, (i, o) in enumerate(pairwise(sizes))]
    biases = [ints(-6, 6, o, seed=40 + n) for n, o in enumerate(sizes[1:])]
    layers: list[nn.Module] = []
    for n, (w, b) in enumerate(zip(weights, biases, strict=True)):
        linear = nn.Linear(w.shape[1], w.shape[0]).double()
        linear.weight.data, linear.bias.data = w.double(), b.double()
        layers += [linear, nn.ReLU()] if n < 3 else [linear]
    graph = trace(nn.Sequential(*layers), torch.rand(2, 5).double())
    parts = {
        f"relu{n + 1}": [ints(lo, hi, 12, seed=60 + n + lo).double() / 4 for lo, hi in ((16, 80), (-8, 9), (-12, 13))]
        for n in range(3)
    }
    constants = {name: DAQCFS(theta=t, psi=p, phi=f, steps=steps) for name, (t, p, f) in parts.items()}
    x = ints(-2, 6, 20, 5, seed=steps).double()
    outputs = {"teacher": da_qcfs_network(graph, constants, x)}
    for form in ("graded", "ladder", "steps"):
        outputs[form] = build(graph, constants, form=form).run(x).output
    matrix = fused_matrix(steps)
    for n in range(len(x)):
        trains = [[Fraction(int(v)) for v in x[n]]] * steps
        fired = 0
        for w, b, (theta, psi, phi) in zip(weights, biases, [*parts.values(), (None, None, None)], strict=True):
            rows = [(w[o].tolist(), int(b[o])) for o in range(len(b))]
            current = [[sum(k * v for k, v in zip(row, step, strict=True)) + c for row, c in rows] for step in trains]
            if theta is None or psi is None or phi is None:
                trains = current
                continue
            made = []
            for x_step in range(steps):
                step = []
                for c in range(len(rows)):
                    t, shift, more = (Fraction(float(v[c])) for v in (theta, psi, phi))
                    mixed = sum(matrix[x_step][i] * current[i][c] for i in range(steps))
                    spike = mixed + (t / 2 + steps * shift) / (steps - x_step) >= t
                    fired += spike
                    step.append((t + more) * spike)
                made.append(step)
            trains = made
        exact = [float(sum(step[c] for step in trains) / steps) for c in range(3)]
        assert fired
        for name, found in outputs.items():
            assert found[n].tolist() == exact, name
