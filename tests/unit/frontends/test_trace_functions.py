"""Single torch functions: each must be recorded as what it computes, or refused with a reason."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from snn2chip.errors import TraceError
from snn2chip.frontends.torch import trace
from snn2chip.nn import IF
from snn2chip.testing.nets import dyadic, sample

Forward = Callable[["Wrap", Tensor], Tensor]


class Wrap(nn.Module):
    """Some layers, parameters and buffers, and a forward given as a function."""

    row: Tensor
    plane: Tensor

    def __init__(self, forward: Forward) -> None:
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2), nn.Linear(32, 4)
        self.act = IF(steps=2)
        self.step = IF(steps=2, step_mode="s")
        self.register_buffer("row", torch.tensor([2.0, 0.5]))
        self.register_buffer("plane", torch.arange(16.0).view(4, 4))
        self.call = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.call(self, x)


def twice(m: Wrap, x: Tensor) -> Tensor:
    """Put x through the neuron in two steps: [2,B,...]."""
    return m.act(x.unsqueeze(0).repeat(2, 1, 1, 1, 1))


def select_steps(m: Wrap, x: Tensor) -> Tensor:
    y = twice(m, x)
    return y.select(0, 0) + y.select(0, 1)


def slices(m: Wrap, x: Tensor) -> Tensor:
    y = twice(m, x)
    return torch.cat([y[0:1], y[1:2]]).mean(dim=0)


def called_twice(m: Wrap, x: Tensor) -> Tensor:
    return twice(m, x) + twice(m, m.conv(x))


EXACT: dict[str, Forward] = {
    "rsub and neg": lambda m, x: -(1.5 - x).neg(),
    "sub alpha": lambda m, x: torch.sub(x, m.conv(x), alpha=2),
    "add alpha": lambda m, x: torch.add(m.conv(x), x, alpha=0.5) + 0.25,
    "div by a channel constant": lambda m, x: x / m.row.view(1, 2, 1, 1) - m.row[:, None, None],
    "mul in place": lambda m, x: x.mul_(2).div_(4.0),
    "expanded constant": lambda m, x: x * torch.full((1,), 0.5).expand(3, 2, 4, 4) + torch.zeros_like(x),
    "functional norm": lambda m, x: F.batch_norm(
        x, m.norm.running_mean, m.norm.running_var, m.norm.weight, m.norm.bias, eps=0.0
    ),
    "same padding": lambda m, x: F.conv2d(x, m.conv.weight, m.conv.bias, padding="same"),
    "valid padding": lambda m, x: torch.conv2d(x, m.conv.weight, None, padding="valid"),
    "relu": lambda m, x: F.relu(x - 1, inplace=True) + (x - 0.5).relu(),
    "there and back": lambda m, x: x.permute(0, 2, 3, 1).movedim(-1, 1).transpose(2, 3).swapaxes(3, 2),
    "unflatten": lambda m, x: m.conv(torch.unflatten(x.flatten(1), 1, (2, -1, 4))),
    "reshape like": lambda m, x: m.fc(m.conv(x).reshape(len(x), -1)).view_as(m.fc(x.flatten(-3))).clone(),
    "unsqueeze and squeeze": lambda m, x: m.conv(x.unsqueeze(2).squeeze(2)),
    "matmul": lambda m, x: torch.matmul(x.flatten(1), m.fc.weight.t()) + m.fc.bias,
    "mean of a plane": lambda m, x: x.mean((-1, -2), keepdim=True).flatten(1),
    "sum of a plane": lambda m, x: x.sum(dim=[2, 3]),
    "pool with a divisor": lambda m, x: F.avg_pool2d(x, 2, divisor_override=2),
    "pool with padding": lambda m, x: F.avg_pool2d(x, (2, 2), 2, 1),
    "expand as": lambda m, x: m.act(x[None].expand_as(torch.zeros(2, *x.shape))).mean(0),
    "constant of a layer": lambda m, x: x - m.norm(torch.ones(3, 2, 4, 4)),
    "expand over steps": lambda m, x: m.act(x.expand(2, -1, -1, -1, -1)).sum(0) / 4,
    "stacked copies": lambda m, x: m.act(torch.stack([x] * 2, dim=0)),
    "select steps": select_steps,
    "slices of one step": slices,
    "last step": lambda m, x: m.conv(twice(m, x)[-1]),
    "ellipsis": lambda m, x: twice(m, x)[..., :].sum(0, keepdim=True).squeeze(0),
    "scaled sum": lambda m, x: 3 * (twice(m, x).sum(0) / 2),
    "partial sums": lambda m, x: (m.step(x) + m.step(x)) / 2,
    "float and detach": lambda m, x: m.conv(x.float().detach().to(torch.float32)),
    "flat neurons": lambda m, x: m.fc(m.act(x.flatten(1).unsqueeze(0).repeat(2, 1, 1))).mean(0),
}


@pytest.mark.parametrize("name", EXACT)
def test_function_is_exact(name: str) -> None:
    model = dyadic(Wrap(EXACT[name]), seed=2)
    x = sample(3, 2, 4, 4, seed=3)
    graph = trace(model, sample(3, 2, 4, 4, seed=4))
    with torch.no_grad():
        expected = model(x.clone())
    assert torch.equal(graph.run(x).output, expected)


REFUSED: dict[str, tuple[Forward, str]] = {
    "neuron called twice": (called_twice, "one neuron layer keeps one state"),
    "division": (lambda m, x: 1 / x, "only constants can scale"),
    "by a value": (lambda m, x: x / (x + 1), "divides by an activation"),
    "constant per pixel": (lambda m, x: x + m.plane, "one number per channel"),
    "broadcast": (lambda m, x: x.mean((2, 3), keepdim=True) + m.plane, "broadcasts to the shape of a constant [4, 4]"),
    "broadcast add": (lambda m, x: x + x.mean((2, 3), keepdim=True), "broadcasting is not an add"),
    "data as weights": (
        lambda m, x: F.linear(m.fc(x.flatten(1)), m.fc(x.flatten(1))),
        "weights that depend on the data",
    ),
    "vector product": (lambda m, x: x.flatten(1) @ m.fc.weight[0], "not a constant matrix"),
    "half": (lambda m, x: x.to(torch.float64).to(torch.float16).to(torch.float32), "keep the model in float32"),
    "boolean index": (lambda m, x: x[torch.tensor([True, False, True])], "not a number or a slice"),
    "copies of the batch": (lambda m, x: twice(m, x).repeat(2, 1, 1, 1, 1), "copies something else"),
    "batch in the middle": (lambda m, x: x.permute(2, 1, 0, 3), "mixes features with steps or batch"),
    "batch first result": (lambda m, x: twice(m, x).transpose(0, 1), "return [T,B,...] or [B,...]"),
    "folded result": (lambda m, x: twice(m, x).flatten(0, 1), "return [T,B,...] or [B,...]"),
    "no input": (lambda m, x: m.conv(torch.ones(3, 2, 4, 4)), "depend on the input"),
    "neuron on a constant": (lambda m, x: m.act(torch.ones(2, 3, 4)), "is applied to a constant"),
    "split features": (lambda m, x: x.view(3, 2, 2, 2, 4), "splits an axis"),
    "part of a pool": (lambda m, x: x.mean(2), "other than all of [H,W]"),
    "neuron behind a sum": (
        lambda m, x: m.act(twice(m, x).mean(0, keepdim=True).repeat(2, 1, 1, 1, 1)),
        "copies something else",
    ),
    "even kernel": (lambda m, x: F.conv2d(x, m.conv.weight[..., :2], padding="same"), "even kernel"),
    "training norm": (lambda m, x: F.batch_norm(x, None, None, training=True), "training=False"),
}


@pytest.mark.filterwarnings("ignore:Using padding")
@pytest.mark.parametrize("name", REFUSED)
def test_function_is_refused(name: str) -> None:
    forward, text = REFUSED[name]
    with pytest.raises(TraceError, match=re.escape(text)):
        trace(dyadic(Wrap(forward), seed=2), sample(3, 2, 4, 4))


def test_single_call_is_one_step_of_many() -> None:
    """A single-step neuron called once: forward is one step, the steps are the caller's."""
    graph = trace(dyadic(Wrap(lambda m, x: m.step(x)), seed=2), sample(3, 2, 4, 4))
    assert (graph.steps, graph.output.reduce) == (2, "steps")
