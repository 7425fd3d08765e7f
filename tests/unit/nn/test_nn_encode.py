"""Repeat, TimeMean, TimeFold and the self-folding Seq."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from snn2chip.errors import InputError
from snn2chip.nn import IF, MHT, Repeat, Seq, TimeFold, TimeMean


def test_repeat_and_mean() -> None:
    x = torch.arange(6.0).view(2, 3)
    repeated = Repeat(4)(x)
    assert repeated.shape == (4, 2, 3)
    assert all(torch.equal(step, x) for step in repeated)
    assert torch.equal(TimeMean()(torch.stack([x, 3 * x])), 2 * x)
    with pytest.raises(InputError, match="steps=0"):
        Repeat(0)


def test_time_fold_runs_a_layer_at_every_step() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(2, 3, 3, stride=2)
    x = torch.randn(4, 5, 2, 7, 7)
    assert torch.allclose(TimeFold(conv)(x), torch.stack([conv(step) for step in x]), atol=1e-6)


def test_seq_is_the_chain_written_out() -> None:
    torch.manual_seed(0)
    conv, norm, head = nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Linear(12, 4)
    neuron = MHT(steps=3)
    x = torch.randn(5, 1, 4, 4)
    whole = Seq(conv, norm, Repeat(3), neuron, nn.AvgPool2d(2), nn.Flatten(), head, TimeMean(), nn.Softmax(-1))
    whole.eval()
    spikes = neuron(norm(conv(x)).repeat(3, 1, 1, 1, 1))
    logits = torch.stack([head(nn.functional.avg_pool2d(step, 2).flatten(1)) for step in spikes])
    assert torch.allclose(whole(x), logits.mean(0).softmax(-1), atol=1e-6)
    assert {name.split(".")[0] for name in whole.state_dict()} == {"0", "1", "3", "6"}


def test_seq_folds_from_the_start_without_a_repeat() -> None:
    torch.manual_seed(0)
    linear = nn.Linear(3, 2)
    x = torch.randn(4, 5, 3)
    assert torch.allclose(Seq(linear)(x), torch.stack([linear(step) for step in x]), atol=1e-6)
    assert Seq(linear, IF(steps=4))(x).shape == (4, 5, 2)


def test_norm_statistics_cover_steps_and_batch() -> None:
    norm = nn.BatchNorm1d(1, momentum=1.0)
    x = torch.tensor([[[0.0], [2.0]], [[4.0], [6.0]]])
    Seq(norm)(x)
    assert norm.running_mean is not None
    assert norm.running_mean.item() == 3.0


class Residual(nn.Module):
    """A user's block that holds a neuron handles the steps itself."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Seq(nn.Linear(3, 3), IF(steps=2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.inner(x)
        return out + x


def test_seq_leaves_blocks_with_neurons_whole_and_nested_means_leave_time() -> None:
    torch.manual_seed(0)
    block = Residual()
    x = torch.randn(5, 3)
    model = Seq(Repeat(2), block, Seq(nn.Linear(3, 3), TimeMean()), nn.LayerNorm(3))
    tail = model[2]
    assert isinstance(tail, Seq)
    expected = model[3](tail[0](block(torch.stack([x, x]))).mean(0))
    assert torch.allclose(model(x), expected, atol=1e-6)


def test_lazy_exports_are_complete() -> None:
    import snn2chip.nn as exported

    assert set(exported.__all__) == set(exported._HOME)
    assert all(getattr(exported, name).__name__ == name for name in exported.__all__ if name != "NEURONS")
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = exported.Nothing
