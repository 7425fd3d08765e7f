"""Event frames that a model averages: one value for all steps, in either layout of frames and batch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from snn2chip.errors import InputError, TraceError
from snn2chip.frontends.torch import trace
from snn2chip.nn import IF, MHT, Repeat, Seq, TimeMean


class Averaged(nn.Module):
    """The mean of the frames, repeated for `steps` steps; frames on axis `axis`."""

    def __init__(self, axis: int = 0, steps: int = 2) -> None:
        super().__init__()
        self.axis = axis
        self.body = Seq(nn.Linear(3, 6), Repeat(steps), MHT(steps=steps, levels=3), nn.Linear(6, 2), TimeMean())

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x.mean(self.axis))
        return out


@pytest.mark.parametrize(("axis", "layout"), [(0, "FB"), (1, "BF")])
@pytest.mark.parametrize("steps", [1, 2])
def test_frames_of_another_number_than_the_steps(axis: int, layout: str, steps: int) -> None:
    torch.manual_seed(0)
    model = Averaged(axis, steps)
    x = 4 * torch.rand(*((5, 4) if axis == 0 else (4, 5)), 3)
    graph = trace(model, x)
    assert (graph.steps, graph.input.frames, graph.input.layout, graph.input.shape) == (steps, 5, layout, (3,))
    frames = x if axis == 0 else x.transpose(0, 1)
    torch.testing.assert_close(graph.run(frames).output, model(x).detach())
    with pytest.raises(InputError, match=r"expected 5 event frames \[5, 'B', 3\]"):
        graph.run(frames[:4])


def test_a_single_sample() -> None:
    torch.manual_seed(0)
    for axis, shape in ((0, (5, 1, 3)), (1, (1, 5, 3))):
        graph = trace(Averaged(axis), 4 * torch.rand(*shape))
        assert (graph.input.frames, graph.steps) == (5, 2)


class Unaveraged(nn.Module):
    """A map of every frame before the mean: there the frames are steps of another number than the neurons'."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.body = nn.Linear(3, 6), Seq(Repeat(2), IF(steps=2), nn.Linear(6, 2), TimeMean())

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(self.first(x).mean(0))
        return out


def test_only_the_mean_reads_frames() -> None:
    with pytest.raises(TraceError, match=r"body\.0 \(Repeat\).*joins a sum over steps"):
        trace(Unaveraged(), torch.rand(5, 4, 3))
