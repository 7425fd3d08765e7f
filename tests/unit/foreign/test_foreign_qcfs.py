"""QCFS files of others: a small net in their public structure agrees with ours, as an ANN and as an IF network."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from snn2chip.convert import GraphNet, to_if
from snn2chip.errors import FileFormatError
from snn2chip.foreign import load_foreign

L = 4
STAGES = ((4, 5), (6,))
IMAGE = (3, 8, 8)


class Activation(nn.Module):
    """vth*clip(floor(z*L/vth + 1/2), 0, L)/L; with `steps` IF neurons started at vth/2, of payload vth."""

    def __init__(self, name):
        super().__init__()
        self.register_parameter(name, nn.Parameter(torch.tensor([1.0])))
        self.name, self.steps = name, 0

    def forward(self, z):
        vth = getattr(self, self.name)
        if not self.steps:
            return vth * torch.clamp(torch.floor(z * L / vth + 0.5), 0, L) / L
        v = torch.full_like(z[0], 0.5) * vth
        out = []
        for t in range(self.steps):
            v = v + z[t]
            spike = (v >= vth).to(v)
            v = v - vth * spike
            out.append(vth * spike)
        return torch.stack(out)


class Steps(nn.Module):
    """An ordinary layer at every step, or as it is; adds no name of its own."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.steps = 0

    def forward(self, x):
        run = super().forward
        return torch.stack([run(step) for step in x]) if self.steps else run(x)


class Conv(Steps, nn.Conv2d):
    pass


class Norm(Steps, nn.BatchNorm2d):
    pass


class Linear(Steps, nn.Linear):
    pass


class Pool(Steps, nn.AvgPool2d):
    pass


class Flat(Steps, nn.Flatten):
    pass


class TheirVGG(nn.Module):
    """layer{s}: conv, norm, activation, dropout, .., pool; classifier: flatten, (linear, activation, dropout), head."""

    def __init__(self, *, name="thresh", hidden=(), bias=True, dropout=True):
        super().__init__()
        inputs = IMAGE[0]
        for s, stage in enumerate(STAGES, start=1):
            made = []
            for outputs in stage:
                made += [Conv(inputs, outputs, 3, 1, 1, bias=bias), Norm(outputs), Activation(name), nn.Identity()]
                inputs = outputs
            setattr(self, f"layer{s}", nn.Sequential(*made, Pool(2)))
        head, inputs = [Flat()], inputs * 4
        for outputs in hidden:
            head += [Linear(inputs, outputs), Activation(name), *([nn.Identity()] if dropout else [])]
            inputs = outputs
        self.classifier = nn.Sequential(*head, Linear(inputs, 7))

    def forward(self, x):
        for s in range(len(STAGES)):
            x = getattr(self, f"layer{s + 1}")(x)
        return self.classifier(x)


class TheirBlock(nn.Module):
    def __init__(self, a, width, stride, depth, name, last):
        super().__init__()
        b = width * (4 if depth == 3 else 1)
        shapes = [(a, width, 3, stride), (width, b, 3, 1)]
        if depth == 3:
            shapes = [(a, width, 1, 1), (width, width, 3, stride), (width, b, 1, 1)]
        made = []
        for p, q, kernel, step in shapes:
            made += [Conv(p, q, kernel, step, kernel // 2, bias=False), Norm(q), Activation(name)]
        self.residual_function = nn.Sequential(*made[:-1])
        self.shortcut = nn.Sequential()
        if stride > 1 or a != b:
            self.shortcut = nn.Sequential(Conv(a, b, 1, stride, bias=False), Norm(b))
        self.outputs, self.last = b, last
        setattr(self, last, Activation(name))

    def forward(self, x):
        return getattr(self, self.last)(self.residual_function(x) + self.shortcut(x))


class TheirResNet(nn.Module):
    def __init__(self, *, blocks=(2, 1), channels=(4, 6), strides=(1, 2), depth=2, name="thresh", last="act"):
        super().__init__()
        self.conv1 = nn.Sequential(Conv(3, 4, 3, 1, 1, bias=False), Norm(4), Activation(name))
        inputs = 4
        for s, (count, width, stride) in enumerate(zip(blocks, channels, strides, strict=True), start=2):
            made = []
            for b in range(count):
                made.append(TheirBlock(inputs, width, 1 if b else stride, depth, name, last))
                inputs = made[-1].outputs
            setattr(self, f"conv{s}_x", nn.Sequential(*made))
        self.fc, self.stages = Linear(inputs, 7), len(blocks)

    def forward(self, x):
        x = self.conv1(x)
        for s in range(self.stages):
            x = getattr(self, f"conv{s + 2}_x")(x)
        return self.fc(x.mean((-2, -1)))


def shaken(net, seed=0):
    """Random weights, norms and thresholds; eval mode, values exact in float32."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, value in net.state_dict().items():
            leaf = name.rpartition(".")[2]
            if leaf in ("thresh", "up"):
                value.copy_(torch.rand_like(value) + 0.75)
            elif leaf in ("bias", "running_mean"):
                value.copy_(torch.randn_like(value) * 0.5)
            elif leaf == "running_var":
                value.copy_(torch.rand_like(value) + 0.25)
            elif leaf == "weight":
                value.copy_(torch.randn_like(value) * (1.0 if value.dim() == 1 else 1.5 / value[0].numel() ** 0.5))
    return net.eval()


def same(want, got):
    assert want.std() > 1e-2
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


VGG = {"stages": [list(s) for s in STAGES], "input_shape": list(IMAGE), "L": L}
RESNET = {
    "blocks": [2, 1],
    "channels": [4, 6],
    "strides": [1, 2],
    "stem_channels": 4,
    "input_shape": list(IMAGE),
    "L": L,
}
NETS = [
    (TheirVGG, {}, "small-vgg", VGG),
    (TheirVGG, {"name": "up", "bias": False}, "small-vgg", VGG),
    (TheirVGG, {"hidden": (9, 8)}, "small-vgg", VGG),
    (TheirVGG, {"hidden": (9, 8), "dropout": False}, "small-vgg", VGG),
    (TheirResNet, {}, "resnet20", RESNET),
    (TheirResNet, {"name": "up", "last": "relu"}, "resnet20", RESNET),
    (TheirResNet, {"depth": 3}, "resnet50", RESNET),
]


@pytest.mark.parametrize(("kind", "net", "name", "args"), NETS, ids=lambda v: str(v) if isinstance(v, dict) else None)
def test_it_computes_what_theirs_computes_as_an_ann_and_as_if_neurons(tmp_path, kind, net, name, args):
    theirs = shaken(kind(**net))
    path = tmp_path / "q.pth"
    torch.save(theirs.state_dict(), path)
    model, header = load_foreign(path, model=name, args=args)
    assert (header.method, header.T, header.L) == ("qcfs", 1, L)
    torch.manual_seed(9)
    x = torch.randn(5, *IMAGE, dtype=torch.float64)
    theirs, model = theirs.double(), model.double()
    with torch.no_grad():
        same(theirs(x), model(x))
        steps = 3
        for module in theirs.modules():
            if hasattr(module, "steps"):
                module.steps = steps
        want = theirs(torch.stack([x] * steps)).mean(0)
        same(want, GraphNet(to_if(model, x, steps=steps))(x))


def test_thresholds_that_a_neuron_cannot_have_are_all_named(tmp_path):
    state = shaken(TheirVGG()).state_dict()
    state["layer1.2.thresh"] = torch.tensor([-0.5])
    state["layer1.6.thresh"] = torch.tensor([float("nan")])
    state["layer2.2.thresh"] = torch.rand(6)
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(FileFormatError, match="3 tensors do not fit") as caught:
        load_foreign(tmp_path / "a.pth", model="small-vgg", args=VGG)
    for text in ("value of layer1.2.thresh", "value of layer1.6.thresh", "shape of layer2.2.thresh"):
        assert text in str(caught.value)
