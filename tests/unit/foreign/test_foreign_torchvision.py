"""Files with torchvision's names: nets of their structure agree with ours; torchvision's own, where it is installed."""

from __future__ import annotations

import pytest
import torch
from snn2chip_models import build
from torch import nn

from snn2chip.foreign import load_foreign
from snn2chip.foreign.layouts import LAYOUTS
from snn2chip.foreign.match import best, tables
from snn2chip.foreign.plan import plan_of

CLASSES = 7


class TheirBlock(nn.Module):
    def __init__(self, a, width, stride, depth):
        super().__init__()
        b = width * (4 if depth == 3 else 1)
        shapes = [(a, width, 3, stride), (width, b, 3, 1)]
        if depth == 3:
            shapes = [(a, width, 1, 1), (width, width, 3, stride), (width, b, 1, 1)]
        for i, (p, q, kernel, step) in enumerate(shapes, start=1):
            setattr(self, f"conv{i}", nn.Conv2d(p, q, kernel, step, kernel // 2, bias=False))
            setattr(self, f"bn{i}", nn.BatchNorm2d(q))
        self.depth, self.outputs, self.downsample = depth, b, None
        if stride > 1 or a != b:
            self.downsample = nn.Sequential(nn.Conv2d(a, b, 1, stride, bias=False), nn.BatchNorm2d(b))

    def forward(self, x):
        y = x
        for i in range(1, self.depth + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            if i < self.depth:
                y = torch.relu(y)
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class TheirResNet(nn.Module):
    def __init__(self, *, blocks, channels, depth, wide=True):
        super().__init__()
        self.wide = wide
        self.conv1 = nn.Conv2d(3, 4, 7, 2, 3, bias=False) if wide else nn.Conv2d(3, 4, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        inputs = 4
        for s, (count, width) in enumerate(zip(blocks, channels, strict=True), start=1):
            made = []
            for b in range(count):
                made.append(TheirBlock(inputs, width, 2 if s > 1 and b == 0 else 1, depth))
                inputs = made[-1].outputs
            setattr(self, f"layer{s}", nn.Sequential(*made))
        self.fc = nn.Linear(inputs, CLASSES)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        if self.wide:
            x = torch.max_pool2d(x, 3, 2, 1)
        for s in range(1, 5):
            x = getattr(self, f"layer{s}")(x)
        return self.fc(x.mean((2, 3)))


class TheirVGG(nn.Module):
    def __init__(self, *, stages, bn, hidden, pixels):
        super().__init__()
        made, inputs = [], 3
        for stage in stages:
            for outputs in stage:
                made.append(nn.Conv2d(inputs, outputs, 3, padding=1))
                made += [nn.BatchNorm2d(outputs), nn.ReLU()] if bn else [nn.ReLU()]
                inputs = outputs
            made.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*made)
        inputs *= pixels
        head = []
        for outputs in hidden:
            head += [nn.Linear(inputs, outputs), nn.ReLU(), nn.Dropout()]
            inputs = outputs
        head.append(nn.Linear(inputs, CLASSES))
        self.classifier = nn.Sequential(*head) if hidden else head[0]

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


def shaken(net, seed=0):
    """Random norms, everything else as it starts; eval mode."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, value in net.state_dict().items():
            leaf = name.rpartition(".")[2]
            if leaf in ("bias", "running_mean"):
                value.copy_(torch.randn_like(value) * 0.3)
            elif leaf == "running_var":
                value.copy_(torch.rand_like(value) + 0.25)
            elif leaf == "weight":
                value.copy_(torch.randn_like(value) * (1.0 if value.dim() == 1 else 1.4 / value[0].numel() ** 0.5))
    return net.eval()


def agree(theirs, model, shape):
    torch.manual_seed(9)
    x = torch.randn(3, *shape, dtype=torch.float64)
    with torch.no_grad():
        want, got = theirs.double()(x), model.double()(x)
    assert want.std() > 1e-2
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


RESNETS = {"resnet18": ((2, 2, 2, 2), 2), "resnet34": ((3, 4, 6, 3), 2), "resnet50": ((3, 4, 6, 3), 3)}


@pytest.mark.parametrize("wide", [True, False], ids=["imagenet", "cifar"])
@pytest.mark.parametrize("name", RESNETS)
def test_resnets_of_their_structure_agree(tmp_path, name, wide):
    blocks, depth = RESNETS[name]
    theirs = shaken(TheirResNet(blocks=blocks, channels=(4, 5, 6, 7), depth=depth, wide=wide))
    torch.save(theirs.state_dict(), tmp_path / "a.pth")
    args = {"channels": [4, 5, 6, 7], "stem_channels": 4, "input_shape": [3, 32, 32]}
    model, header = load_foreign(tmp_path / "a.pth", model=name, args=args)
    assert header.args["stem" if wide else "classes"] == ("imagenet" if wide else CLASSES)
    assert (header.method, header.T, header.L) == ("relu", 1, 1)
    agree(theirs, model, (3, 32, 32))


VGGS = {
    "vgg11": ((4,), (5,), (6, 6), (7, 7), (7, 7)),
    "vgg13-standard": ((4, 4), (5, 5), (6, 6), (7, 7), (7, 7)),
    "vgg16": ((4, 4), (5, 5), (6, 6, 6), (7, 7, 7), (7, 7, 7)),
}


@pytest.mark.parametrize("hidden", [(), (9, 8)], ids=["one", "three"])
@pytest.mark.parametrize("bn", [False, True], ids=["plain", "bn"])
@pytest.mark.parametrize("name", VGGS)
def test_vggs_of_their_structure_agree(tmp_path, name, bn, hidden):
    theirs = shaken(TheirVGG(stages=VGGS[name], bn=bn, hidden=hidden, pixels=4))
    torch.save({"state_dict": theirs.state_dict()}, tmp_path / "a.pth")
    args = {"stages": [list(s) for s in VGGS[name]], "input_shape": [3, 64, 64]}
    model, header = load_foreign(tmp_path / "a.pth", model=name, args=args)
    assert header.args["bn"] is bn
    assert tuple(header.args.get("hidden", ())) == hidden
    agree(theirs, model, (3, 64, 64))


def test_torchvisions_own_resnet18_agrees(tmp_path):
    models = pytest.importorskip("torchvision.models", reason="torchvision is not installed")
    theirs = shaken(models.resnet18(weights=None))
    torch.save(theirs.state_dict(), tmp_path / "a.pth")
    model, header = load_foreign(tmp_path / "a.pth", model="resnet18")
    assert header.input.shape == (3, 224, 224)
    assert len(header.classes) == 1000
    agree(theirs, model, (3, 64, 64))


TORCHVISION = {
    **{name: (name, {}) for name in ("resnet18", "resnet34", "resnet50", "resnet101")},
    **{f"vgg{n}": (zoo, {"bn": False}) for n, zoo in ((11, "vgg11"), (13, "vgg13-standard"), (16, "vgg16"))},
    **{f"vgg{n}_bn": (zoo, {"bias": True}) for n, zoo in ((11, "vgg11"), (13, "vgg13-standard"), (16, "vgg16"))},
}


@pytest.mark.parametrize("name", TORCHVISION)
def test_every_name_and_shape_of_torchvisions_models_is_in_the_table(name):
    models = pytest.importorskip("torchvision.models", reason="torchvision is not installed")
    zoo, args = TORCHVISION[name]
    if name.startswith("vgg"):
        args = {"hidden": [4096, 4096], **args}
    with torch.device("meta"):
        theirs = getattr(models, name)(weights=None).state_dict()
        ours = build(zoo, stem="imagenet", activation="relu", classes=1000, **args)
    own = ours.state_dict()
    table, bad = best(tables(plan_of(ours, name=zoo), LAYOUTS["torchvision"], own, name=zoo), own, theirs)
    assert not bad
    assert set(table.names.values()) == set(theirs)
    assert set(table.names) == set(own)
