"""How binary weights start, and the sign of a weight that is exactly zero."""

from __future__ import annotations

import pytest
import torch

from snn2chip.errors import InputError
from snn2chip.nn import BinaryConv2d, BinaryLinear


def test_released_start_is_small_and_positive() -> None:
    torch.manual_seed(0)
    for layer in (BinaryConv2d(8, 16, 3, init="small-positive"), BinaryLinear(64, 32, init="small-positive")):
        w = layer.weight
        assert w.min() >= 0
        assert w.max() <= 1e-3
        assert abs(w.mean().item() - 5e-4) < 5e-5
        scale, signs = layer.weight_parts()
        assert (signs == 1).all()
        torch.testing.assert_close(scale, w.detach().flatten(1).mean(1))
    plain = BinaryConv2d(8, 16, 3)
    assert -0.12 < plain.weight.min() < -0.05 < 0.05 < plain.weight.max() < 0.12  # 1/sqrt(72) = 0.118


def test_the_default_start_is_torchs_own() -> None:
    torch.manual_seed(3)
    binary = BinaryConv2d(4, 5, 3)
    torch.manual_seed(3)
    plain = torch.nn.Conv2d(4, 5, 3, bias=False)
    assert torch.equal(binary.weight, plain.weight)


def test_sign_of_zero_is_plus_one_or_in_training_zero() -> None:
    """w = [0, -1/2, 1/2]: alpha = 1/3; the sum of inputs [6, 3, 3] is 2 with +1 and 0 with 0."""
    x = torch.tensor([[6.0, 3.0, 3.0]])
    found = {}
    for sign in (1, 0):
        layer = BinaryLinear(3, 1, zero_sign=sign)
        with torch.no_grad():
            layer.weight.copy_(torch.tensor([[0.0, -0.5, 0.5]]))
        found[sign] = layer(x).item()
        scale, signs = layer.weight_parts()
        assert signs.tolist() == [[1, -1, 1]]  # what is compiled is binary either way
        torch.testing.assert_close(scale.tolist(), [1 / 3])
    torch.testing.assert_close(found, {1: 2.0, 0: 0.0})


def test_unknown_choices_are_all_named() -> None:
    with pytest.raises(InputError) as caught:
        BinaryConv2d(1, 1, 3, init="ones", zero_sign=-1)  # type: ignore[arg-type]
    assert len(caught.value.breaches) == 2
