"""Channels whose norm has scale 0: their current is the shift alone, whatever the unit of their weights is."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from torch import Tensor, nn

import snn2chip
from snn2chip.nn import MHT, BinaryLinear


class Dead(nn.Module):
    """Binary weights behind a norm whose scale is 0 in two of four channels, one of them with a shift that fires."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.T = 2
        self.fc, self.norm, self.act = BinaryLinear(6, 4, bias=False), nn.BatchNorm1d(4), MHT(steps=2, levels=4)
        with torch.no_grad():
            self.norm.weight.copy_(torch.tensor([1.0, 0.0, -1.0, 0.0]))
            self.norm.bias.copy_(torch.tensor([0.25, 0.8, 0.5, -0.25]))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(torch.stack([self.norm(self.fc(x))] * 2))
        return y.mean(0)


def test_a_scale_of_zero_divides_by_nothing_and_fires_by_its_shift() -> None:
    raw = np.random.default_rng(0).integers(0, 9, (30, 6)).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        program = snn2chip.compile(Dead().eval(), torch.from_numpy(raw))
    sent = snn2chip.run(program, raw).payloads["neuron1"]
    # theta 1/2, shift 4/5: m = 0.8 sends 1 and leaves 0.3; m = 1.1 sends 2
    assert (sent[0, :, 1] == 1).all()
    assert (sent[1, :, 1] == 2).all()
    assert (sent[:, :, 3] == 0).all()
    assert sent[:, :, 0].any() or sent[:, :, 2].any()
