"""Integer weights of 2 to 8 bits: the step that is best for a normal variable, rounding, range and gradient."""

from __future__ import annotations

import pytest
import torch
from scipy.integrate import quad
from scipy.optimize import minimize_scalar
from scipy.stats import norm

from snn2chip.errors import InputError
from snn2chip.nn import IntConv2d, IntLinear
from snn2chip.nn.intweight import GAUSSIAN_STEP, integer_parts


def squared_error(step: float, top: int) -> float:
    """E (x - Q(x))^2 of a standard normal x and levels k*step, |k| <= top: by integration, twice the right half."""
    total = 0.0
    for k in range(top + 1):
        low, high = max((k - 0.5) * step, 0.0), (k + 0.5) * step if k < top else 12.0
        total += 2 * quad(lambda x, c=k * step: (x - c) ** 2 * norm._pdf(x), low, high)[0]
    return total


@pytest.mark.parametrize("bits", [2, 3, 4, 5])
def test_the_step_has_the_least_error_on_a_normal_variable(bits: int) -> None:
    top = 2 ** (bits - 1) - 1
    best = minimize_scalar(
        squared_error, args=(top,), bounds=(0.5 / top, 3.0 / top), method="bounded", options={"xatol": 1e-6}
    )
    assert GAUSSIAN_STEP[bits] == pytest.approx(best.x, abs=1e-4)


@pytest.mark.parametrize("bits", [6, 7, 8])
def test_the_step_is_a_local_minimum(bits: int) -> None:
    top = 2 ** (bits - 1) - 1
    at = squared_error(GAUSSIAN_STEP[bits], top)
    assert at < squared_error(GAUSSIAN_STEP[bits] * 1.01, top)
    assert at < squared_error(GAUSSIAN_STEP[bits] * 0.99, top)


def test_rounding_by_hand() -> None:
    # 3 bits, q_max 3; rows without outliers scale by max/3; halves go up
    w = torch.tensor([[3.0, -3.0, 0.5, -0.5], [0.75, -0.75, 0.375, 0.25]])
    scale, q = integer_parts(w, bits=3)
    assert scale.tolist() == [1.0, 0.25]
    assert q.tolist() == [[3, -3, 1, 0], [3, -3, 2, 1]]


def test_outliers_are_clipped_at_the_normal_step() -> None:
    w = torch.ones(1, 101)
    w[0, 0] = 100.0
    scale, q = integer_parts(w, bits=2)
    rms = ((100.0**2 + 100) / 101) ** 0.5
    assert scale.item() == pytest.approx(1.224 * rms)
    assert q[0, 0] == 1
    assert (q[0, 1:] == 0).all()


@pytest.mark.parametrize("bits", range(2, 9))
def test_error_is_that_of_the_best_step_and_the_gradient_passes_whole(bits: int) -> None:
    torch.manual_seed(bits)
    layer = IntLinear(500, 4, bits=bits)
    with torch.no_grad():
        layer.weight.normal_()
    error = (layer.quantized_weight() - layer.weight).square().mean().item()
    assert error < 1.2 * squared_error(GAUSSIAN_STEP[bits], 2 ** (bits - 1) - 1)
    x = torch.randn(1, 500)
    layer(x).sum().backward()
    assert layer.weight.grad is not None
    assert torch.equal(layer.weight.grad, x.expand(4, -1))


@pytest.mark.parametrize("bits", [1, 9, 0, 2.5])
def test_other_widths_are_refused(bits: int) -> None:
    with pytest.raises(InputError, match="2 to 8 bits"):
        IntConv2d(1, 1, 3, bits=bits)
