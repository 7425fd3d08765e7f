"""Affine factors at the edges of what they meet: shapes without axes, groups, features per channel."""

from __future__ import annotations

import pytest
import torch

from snn2chip.ir.linear_layers import Conv2dLayer, LinearLayer
from snn2chip.passes.affine import scaled_input, scaled_output


@pytest.mark.parametrize("shape", [(), (1,)])
def test_one_number_is_scaled_and_shifted(shape: tuple[int, ...]) -> None:
    """W (2 x + 3) + b of a single number, with or without an axis."""
    layer = LinearLayer(name="l", weight=torch.tensor([[1.0], [-2.0]]), bias=torch.tensor([0.5, 0.0]))
    found = scaled_input(layer, torch.tensor([2.0]), torch.tensor([3.0]), shape=shape)
    assert isinstance(found, LinearLayer)
    assert found.weight.double().tolist() == [[2.0], [-4.0]]
    assert found.bias_or_zero().double().tolist() == [3.5, -6.0]


def test_a_channels_factor_acts_on_all_its_features() -> None:
    """x [2, 3] flattened: features 0..2 times 2 plus 1, features 3..5 times 10."""
    weight = torch.arange(12.0).reshape(2, 6)
    layer = LinearLayer(name="l", weight=weight)
    factor, shift = torch.tensor([2.0, 10.0]), torch.tensor([1.0, 0.0])
    found = scaled_input(layer, factor, shift, shape=(2, 3))
    x = torch.tensor([[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]]]).double()
    want = layer.apply([(x * factor[:, None] + shift[:, None]).flatten(2)])
    assert found is not None
    assert torch.equal(found.apply([x.flatten(2)]), want)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_grouped_convolution_takes_the_factors_of_its_own_channels(groups: int) -> None:
    """conv(f * x + c) without padding, f and c per input channel."""
    generator = torch.Generator().manual_seed(groups)
    weight = torch.randint(-4, 5, (8, 4 // groups, 2, 3), generator=generator).double()
    layer = Conv2dLayer(name="c", weight=weight, groups=groups, stride=(1, 2))
    x = torch.randint(0, 9, (1, 3, 4, 5, 7), generator=generator).double()
    factor, shift = torch.tensor([1.0, 2.0, -4.0, 0.5]), torch.tensor([0.0, 1.0, 2.0, -3.0])
    found = scaled_input(layer, factor, shift, shape=(4, 5, 7))
    assert found is not None
    assert torch.equal(found.apply([x]), layer.apply([x * factor[:, None, None] + shift[:, None, None]]))
    padded = Conv2dLayer(name="c", weight=weight, groups=groups, padding=(1, 0))
    assert scaled_input(padded, factor, shift, shape=(4, 5, 7)) is None


def test_outputs_are_scaled_with_their_bias() -> None:
    """f * (W x + b) + c."""
    layer = LinearLayer(name="l", weight=torch.tensor([[1.0], [-2.0]]), bias=torch.tensor([0.5, 1.0]))
    found = scaled_output(layer, torch.tensor([2.0, -4.0]), torch.tensor([1.0, 0.0]))
    assert isinstance(found, LinearLayer)
    assert found.weight.double().tolist() == [[2.0], [8.0]]
    assert found.bias_or_zero().double().tolist() == [2.0, -4.0]
