"""Small spiking nets, each written in another style, for tests of front ends, passes and quantizers.

Weights are multiples of 1/8, norms have powers of two, T is 2 or 4, inputs are multiples of 1/8: no float32 sum
rounds, so a graph must equal its model bit for bit. `NETS` maps a name to (model, sample shape, number of neuron
layers, T); `dyadic(make(), seed=..)` gives a model its weights, `sample(*shape, seed=..)` an input.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from snn2chip.nn import (
    IF,
    LIF,
    LMHT,
    MHT,
    QCFS,
    BinaryConv2d,
    IntLinear,
    Repeat,
    Seq,
    TernaryConv2d,
    TimeFold,
    TimeMean,
)


def dyadic(model: nn.Module, *, seed: int) -> nn.Module:
    """Give every plain layer weights in multiples of 1/8 and every norm powers of two, also negative ones."""
    g = torch.Generator().manual_seed(seed)
    for m in model.modules():
        if hasattr(m, "float_soma"):
            continue
        if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d)):
            m.eps = 0.0
            m.running_var = 4.0 ** torch.randint(-1, 2, (m.num_features,), generator=g)
            m.running_mean = torch.randint(-4, 5, (m.num_features,), generator=g) / 8
            m.weight.data = torch.tensor([1.0, -0.5, 2.0, 0.5]).repeat(m.num_features)[: m.num_features]
            m.bias.data = torch.randint(0, 5, m.bias.shape, generator=g) / 8
            continue
        for name, p in m.named_parameters(recurse=False):
            low, high = (-4, 7) if p.dim() > 1 else (0, 3)
            if not name.startswith("original"):
                p.data = torch.randint(low, high, p.shape, generator=g) / 8
        if hasattr(m, "weight_parts"):  # equal magnitudes in every channel: the scale is that magnitude
            m.weight.data = torch.where(m.weight >= 0, 0.25, -0.25)
    return model.eval()


def sample(*shape: int, seed: int = 1) -> Tensor:
    return torch.randint(0, 17, shape, generator=torch.Generator().manual_seed(seed)) / 8


class MultiStep(nn.Module):
    """[T,B,...] throughout, flatten(0,1) and view around ordinary layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1, self.act1 = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), LMHT(steps=2, levels=4)
        self.conv2, self.norm2, self.act2 = BinaryConv2d(4, 6, 3, stride=2), nn.BatchNorm2d(6), MHT(steps=2, levels=2)
        self.drop, self.head = nn.Dropout(0.5), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        T, B = x.shape[:2]
        x = self.norm1(self.conv1(x.flatten(0, 1)))
        x = self.act1(x.view(T, B, *x.shape[1:]))
        x = self.norm2(self.conv2(x.reshape(T * B, *x.shape[2:])))
        x = self.act2(torch.unflatten(x, 0, (T, B)))
        x = F.avg_pool2d(x.flatten(0, 1), 2)
        x = self.head(self.drop(x.flatten(1)))
        return x.view(T, B, -1).mean(0)


class LoopOverFrames(nn.Module):
    """A time loop over x[t], neurons one step at a time, the steps stacked."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.act1 = nn.Linear(12, 16), LIF(steps=4, leak=0.5, step_mode="s")
        self.fc2, self.act2 = nn.Linear(16, 8), IF(steps=4, step_mode="s")
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        outs = []
        for t in range(x.shape[0]):
            h = self.act1(self.fc1(x[t].flatten(1)))
            outs.append(self.head(self.act2(self.fc2(h))))
        return torch.stack(outs).mean(0)


class LoopStaticInput(nn.Module):
    """A time loop on a static image; the logits are added up in place and divided."""

    def __init__(self) -> None:
        super().__init__()
        self.T = 4
        self.conv, self.act = nn.Conv2d(2, 4, 3), MHT(steps=4, levels=2, step_mode="s")
        self.head = nn.Linear(4 * 4 * 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        out = torch.zeros(x.size(0), 3)
        for _ in range(self.T):
            out += self.head(self.act(self.conv(x)).view(x.size(0), -1))
        return out / self.T


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))
        self.act = MHT(steps=2, levels=4)

    def forward(self, x: Tensor) -> Tensor:
        T, B, *rest = x.shape
        return self.act(self.body(x.flatten(0, 1)).view(T, B, *rest))


class ResidualInPlace(nn.Module):
    """SEW-like residual additions: +, +=, add_, torch.add and a 1x1 shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = TimeFold(nn.Conv2d(1, 3, 3, padding=1))
        self.act = MHT(steps=2, levels=4)
        self.blocks = nn.ModuleList([Block(3), Block(3), Block(3)])
        self.down = TimeFold(nn.Conv2d(3, 3, 1, bias=False))
        self.head = nn.Linear(3 * 25, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.stem(x))
        x = x + self.blocks[0](x)
        y = self.blocks[1](x)
        y += x
        z = self.down(y)
        z.add_(self.blocks[2](y))
        return self.head(torch.add(z, x).flatten(2))


class ShapeBranches(nn.Module):
    """Python branches on shapes, a repeat only where it is needed, pooling chosen by size."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act = nn.Conv2d(1, 4, 3, padding=1), IF(steps=2)
        self.fc = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() == 4:
            x = x.unsqueeze(0).repeat(2, 1, 1, 1, 1)
        T, B = x.shape[0], x.shape[1]
        y = self.conv(x.flatten(0, 1))
        while y.shape[-1] > 2:
            y = F.avg_pool2d(y, 2)
        y = self.act(y.view(T, B, *y.shape[1:]))
        return self.fc(y.flatten(2)).sum(dim=0)


class SharedWeights(nn.Module):
    """One linear layer at two places, each with its own neurons."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)
        self.act1, self.act2, self.act3 = (MHT(steps=2, levels=3, theta=0.5) for _ in range(3))
        self.head = nn.Linear(8, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        a = self.act1(self.fc(x))
        b = self.act2(self.fc(a))
        return self.head(self.act3(a + b))


class Functional(nn.Module):
    """Weights as bare parameters, everything through torch.nn.functional."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel, self.shift = nn.Parameter(torch.empty(4, 2, 3, 3)), nn.Parameter(torch.empty(4))
        self.matrix, self.head = nn.Parameter(torch.empty(6, 36)), nn.Parameter(torch.empty(6, 3))
        self.act1, self.act2 = IF(steps=2, theta=2.0), LIF(steps=2, leak=0.75)

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(x.unsqueeze(0).expand(2, *x.shape).flatten(0, 1), self.kernel, self.shift, stride=2, padding=1)
        x = self.act1(x.view(2, -1, 4, 3, 3))
        x = self.act2(F.linear(torch.flatten(F.dropout(x, 0.3, self.training), 2), self.matrix * 0.5))
        return (x @ self.head).mean(dim=0)


class StandardizedConv(nn.Conv2d):
    """A convolution that changes its weights: recorded through, not taken for a plain one."""

    def forward(self, input: Tensor) -> Tensor:
        weight = self.weight - self.weight.amax(dim=(1, 2, 3), keepdim=True) / 2
        return F.conv2d(input, weight, self.bias, self.stride, self.padding)


class OverriddenLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.ModuleDict(
            {"conv": StandardizedConv(1, 4, 3, padding=1), "act": QCFS(levels=4, vth=4.0, step_mode="s")}
        )
        self.head = nn.Linear(4 * 36, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.net["act"](self.net["conv"](x)).flatten(1))


class BatchFirst(nn.Module):
    """[B,T,N] input, transposed to steps first; MLP with BatchNorm1d; batch-first only at the door."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.norm, self.act = nn.Linear(6, 12), nn.BatchNorm1d(12), LMHT(steps=4, levels=2)
        self.fc2 = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(0, 1).contiguous()
        T, B, _ = x.size()
        x = self.act(self.norm(self.fc1(x).reshape(T * B, -1)).reshape(T, B, -1))
        return self.fc2(x)


class GlobalPools(nn.Module):
    """Three ways to pool everything: a module, a mean over axes and a function, joined by additions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act = nn.Conv2d(1, 4, 3, padding=1), MHT(steps=2, levels=4)
        self.gap = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.heads = nn.ModuleList([nn.Linear(4, 3) for _ in range(3)])

    def forward(self, x: Tensor) -> Tensor:
        T, B = x.shape[:2]
        s = self.act(self.conv(x.flatten(0, 1)).view(T, B, 4, 4, 4)).flatten(0, 1)
        a = self.heads[0](self.gap(s))
        b = self.heads[1](s.mean((2, 3)))
        c = self.heads[2](F.adaptive_avg_pool2d(s, (1, 1)).squeeze(-1).squeeze(-1))
        return (a + b + c).view(T, B, -1).mean(0)


class UnbindAndSum(nn.Module):
    """Iterates over the input, joins steps with cat, and adds the logits with the builtin sum."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.act1 = nn.Linear(5, 10), LIF(steps=2, leak=0.5, step_mode="s")
        self.fc2, self.act2 = nn.Linear(10, 6), IF(steps=2)
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.cat([self.act1(self.fc1(step)).unsqueeze(0) for step in x], 0)
        hidden = self.act2(self.fc2(hidden))
        return 0.5 * sum(self.head(step) for step in hidden.unbind(0))


class OneStep(nn.Module):
    """forward runs one step; the user loops over it."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.act = nn.Linear(6, 12), LIF(steps=4, leak=0.5, step_mode="s")
        self.fc2 = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class Normalising(nn.Module):
    """Normalises its input with buffers and scales by constants on the way."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.5, 0.25, 1.0]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.5, 2.0, 0.25]).view(1, 3, 1, 1))
        self.conv, self.act = nn.Conv2d(3, 4, 3, padding=1), QCFS(levels=4, vth=4.0, step_mode="s")
        self.head = nn.Linear(64, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = (x - self.mean) / self.std
        x = self.act(2 * self.conv(x) - 1.0)
        return -self.head(x.flatten(1)) * torch.tensor(0.5)


class PreActivation(nn.Module):
    """Norm and neurons before the convolution; the shortcut carries the signed sum."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = TimeFold(nn.Conv2d(1, 4, 3, padding=1))
        self.norm1, self.act1, self.conv1 = (
            TimeFold(nn.BatchNorm2d(4)),
            MHT(steps=2, levels=2),
            TernaryConv2d(4, 4, 3, padding=1),
        )
        self.norm2, self.act2 = TimeFold(nn.BatchNorm2d(4)), MHT(steps=2, levels=2)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.conv1(self.act1(self.norm1(x)).flatten(0, 1))
        x = y.view_as(x) + x
        x = self.act2(self.norm2(x))
        return self.head(x.mean(0).mean((-2, -1)))


def sequential() -> nn.Module:
    return Seq(
        Repeat(2),
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        LMHT(steps=2, levels=4),
        nn.AvgPool2d(2),
        nn.Identity(),
        nn.Flatten(),
        nn.Linear(16, 8),
        MHT(steps=2, levels=4),
        nn.Dropout(0.2),
        IntLinear(8, 3, bits=4),
        TimeMean(),
    )


def parametrized() -> nn.Module:
    fc = nn.Linear(4, 8)
    fc.weight.data = torch.randint(-4, 7, fc.weight.shape, generator=torch.Generator().manual_seed(5)) / 8
    net = nn.Sequential(fc, MHT(steps=2, levels=4, theta=0.25), nn.Linear(8, 3))
    nn.utils.parametrize.register_parametrization(fc, "weight", _Half())
    return net


class _Half(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight * 0.5


class OrdinaryStem(nn.Module):
    """A stem of convolution, ReLU and maximum in front of a residual sum of spikes: work of the host."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, stride=2, padding=1)
        self.inner = Seq(Repeat(2), nn.Conv2d(4, 4, 3, padding=1), MHT(steps=2, levels=2))
        self.act, self.head = MHT(steps=2, levels=4), nn.Linear(4 * 3 * 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv(x)), 3, stride=2, padding=1)
        x = self.act(self.inner(x) + x.unsqueeze(0).repeat(2, 1, 1, 1, 1))
        return self.head(x.flatten(2)).mean(0)


def averaged_frames() -> nn.Module:
    """Four event frames averaged into one input of two steps."""
    return Seq(
        TimeMean(), nn.Linear(5, 8), Repeat(2), MHT(steps=2, levels=4), nn.Linear(8, 4), IF(steps=2), nn.Linear(4, 2),
        TimeMean(),
    )  # fmt: skip


class Rows(nn.Module):
    """Events `[T,B,C,L]`: convolutions over one axis, maxima over binary spikes, averages."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act = nn.Conv1d(2, 4, 3, padding=1), IF(steps=2, theta=0.5)
        self.group, self.act2 = nn.Conv1d(4, 4, 3, groups=2), MHT(steps=2, levels=2, theta=0.25)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.conv(x.flatten(0, 1)).unflatten(0, x.shape[:2])).flatten(0, 1)
        y = self.act2(self.group(F.max_pool1d(y, 2)).unflatten(0, x.shape[:2])).flatten(0, 1)
        return self.head(F.adaptive_avg_pool1d(y, 2).flatten(1)).unflatten(0, x.shape[:2]).mean(0)


class Dense(nn.Module):
    """Joined channels: read by a convolution, by a norm and a pool, and flat by a linear layer; upsampled spikes."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.act = nn.Conv2d(2, 2, 3, padding=1), IF(steps=2, theta=0.5)
        self.b, self.act2 = nn.Conv2d(4, 3, 3, stride=2, padding=1), MHT(steps=2, levels=2, theta=0.25)
        self.norm, self.head = nn.BatchNorm2d(7), nn.Linear(28, 3)

    def forward(self, x: Tensor) -> Tensor:
        s = torch.cat([x, self.act(self.a(x.flatten(0, 1)).unflatten(0, x.shape[:2]))], 2).flatten(0, 1)
        r = self.act2(self.b(s).unflatten(0, x.shape[:2])).flatten(0, 1)
        y = F.avg_pool2d(self.norm(torch.cat([s, F.interpolate(r, scale_factor=2)], 1)), 2)
        return self.head(y.flatten(1)).unflatten(0, x.shape[:2]).mean(0)


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int, int]] = {
    "multi-step layout": (MultiStep, (2, 3, 1, 8, 8), 2, 2),
    "loop over frames": (LoopOverFrames, (4, 3, 3, 2, 2), 2, 4),
    "loop on a static input": (LoopStaticInput, (3, 2, 6, 6), 1, 4),
    "residual additions in place": (ResidualInPlace, (2, 3, 1, 5, 5), 4, 2),
    "shape-dependent branches": (ShapeBranches, (3, 1, 8, 8), 1, 2),
    "shared weights": (SharedWeights, (2, 3, 8), 3, 2),
    "functional calls": (Functional, (3, 2, 6, 6), 2, 2),
    "overridden convolution": (OverriddenLayer, (3, 1, 6, 6), 1, 1),
    "batch first": (BatchFirst, (3, 4, 6), 1, 4),
    "global pools": (GlobalPools, (2, 3, 1, 4, 4), 1, 2),
    "unbind, cat and sum": (UnbindAndSum, (2, 3, 5), 2, 2),
    "normalising": (Normalising, (3, 3, 4, 4), 1, 1),
    "pre-activation": (PreActivation, (2, 3, 1, 4, 4), 2, 2),
    "sequential": (sequential, (3, 1, 6, 6), 2, 2),
    "parametrized weight": (parametrized, (2, 3, 4), 1, 2),
    "ordinary stem": (OrdinaryStem, (3, 2, 12, 12), 2, 2),
    "over one axis": (Rows, (2, 3, 2, 8), 2, 2),
    "joined channels": (Dense, (2, 3, 2, 4, 4), 2, 2),
    "averaged frames": (averaged_frames, (4, 3, 5), 2, 2),
}
