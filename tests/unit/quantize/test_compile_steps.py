"""T of a compiled program: the model's own T or steps, and the trace must agree."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import snn2chip
from snn2chip.errors import TraceError
from snn2chip.nn import QCFS


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), QCFS(levels=4, vth=1.0, step_mode="s"), nn.Linear(8, 3)).eval()


def test_a_model_that_says_another_t_than_it_runs_is_refused() -> None:
    x = torch.rand(6, 4)
    assert snn2chip.compile(model(), x).steps == 1
    net = model()
    net.T = 4
    with pytest.raises(TraceError, match="4"):
        snn2chip.compile(net, x)
