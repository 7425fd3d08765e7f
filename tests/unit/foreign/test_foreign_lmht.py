"""LM-HT files of others: a small net in their public structure, written from the equations, and ours agree."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from snn2chip.checkpoint import load_checkpoint, save_checkpoint
from snn2chip.errors import FileFormatError, InputError
from snn2chip.foreign import load_foreign

T, L = 3, 2
STAGES = ((4, 5), (6,))
IMAGE = (3, 8, 8)


class Neuron(nn.Module):
    """v = lambda*v + sum_j Omega[t,j] I(j), s = clip(floor(m/theta), 0, L), soft reset, payload theta*s."""

    def __init__(self, *, shape=(T, T), extra=False, theta=None, v0=0.0):
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(1))
        self.mask = nn.Parameter(torch.zeros(shape))
        if extra:
            self.mask_linear = nn.Parameter(torch.zeros(T, T))
        if theta is not None:
            self.register_buffer("v_threshold", torch.tensor([theta]))
        self.theta, self.v0, self.linear = theta or 2 / L, v0, False

    def forward(self, x):
        mask = self.mask_linear if self.linear else self.mask
        omega = 2 / (1 + torch.exp(-mask.reshape(T, T))) / T
        leak = 1 / (1 + torch.exp(-self.alpha)) + 0.5
        v = torch.full_like(x[0], self.v0)
        out = []
        for t in range(T):
            m = leak * v + sum(omega[t, j] * x[j] for j in range(T))
            o = self.theta * (m / self.theta).floor().clamp(0, L)
            v = m - o
            out.append(o)
        return torch.stack(out)


class Fold(nn.Sequential):
    """Ordinary layers at every step."""

    def forward(self, x):
        return torch.stack([super(Fold, self).forward(step) for step in x])


def conv_norm(a, b, *, kernel=3, stride=1):
    return Fold(nn.Conv2d(a, b, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(b))


class TheirVGG(nn.Module):
    """layer{s}: conv+norm at 3k, neuron at 3k + `at`; one linear head or hidden ones."""

    def __init__(self, *, at=1, hidden=(), pixels=4, suffix=True, **neuron):
        super().__init__()
        inputs = IMAGE[0]
        for s, stage in enumerate(STAGES, start=1):
            made = []
            for outputs in stage:
                triple = [conv_norm(inputs, outputs), nn.Identity(), nn.Identity()]
                triple[at] = Neuron(**neuron)
                made += triple
                inputs = outputs
            setattr(self, f"layer{s}", nn.Sequential(*made, Fold(nn.AvgPool2d(2))))
        head = [Fold(nn.Flatten())]
        inputs *= pixels
        for outputs in hidden:
            fc = Neuron(**neuron)
            fc.linear = hasattr(fc, "mask_linear")
            head += [Fold(nn.Linear(inputs, outputs)), fc, nn.Identity()]
            inputs = outputs
        head.append(Fold(nn.Linear(inputs, 7)) if suffix else nn.Linear(inputs, 7))
        self.classifier = nn.Sequential(*head)

    def forward(self, image):
        x = torch.stack([image] * T)
        for s in range(len(STAGES)):
            x = getattr(self, f"layer{s + 1}")(x)
        return self.classifier(x).mean(0)


class TheirBlock(nn.Module):
    def __init__(self, a, width, stride, depth):
        super().__init__()
        b = width * (4 if depth == 3 else 1)
        shapes = [(a, width, 3, stride), (width, b, 3, 1)]
        if depth == 3:
            shapes = [(a, width, 1, 1), (width, width, 3, stride), (width, b, 1, 1)]
        for i, (p, q, kernel, step) in enumerate(shapes, start=1):
            setattr(self, f"conv{i}", conv_norm(p, q, kernel=kernel, stride=step))
            setattr(self, f"sn{i}", Neuron())
        self.depth, self.outputs = depth, b
        self.downsample = nn.Sequential(conv_norm(a, b, kernel=1, stride=stride)) if stride > 1 or a != b else None

    def forward(self, x):
        y = x
        for i in range(1, self.depth):
            y = getattr(self, f"sn{i}")(getattr(self, f"conv{i}")(y))
        y = getattr(self, f"conv{self.depth}")(y)
        return getattr(self, f"sn{self.depth}")(y + (x if self.downsample is None else self.downsample(x)))


class TheirResNet(nn.Module):
    def __init__(self, *, blocks=(2, 1), channels=(4, 6), strides=(1, 2), depth=2, plain_stem=False):
        super().__init__()
        stem = conv_norm(3, 4)
        if plain_stem:
            self.conv1, self.bn1 = stem
        else:
            self.conv1 = stem
        self.sn1 = Neuron()
        inputs = 4
        for s, (count, width, stride) in enumerate(zip(blocks, channels, strides, strict=True), start=1):
            made = []
            for b in range(count):
                made.append(TheirBlock(inputs, width, 1 if b else stride, depth))
                inputs = made[-1].outputs
            setattr(self, f"layer{s}", nn.Sequential(*made))
        self.fc, self.stages, self.plain = nn.Sequential(nn.Linear(inputs, 7)), len(blocks), plain_stem

    def forward(self, image):
        once = self.bn1(self.conv1(image)) if self.plain else self.conv1(image[None])[0]
        x = self.sn1(torch.stack([once] * T))
        for s in range(self.stages):
            x = getattr(self, f"layer{s + 1}")(x)
        return self.fc(x.mean((-2, -1))).mean(0)


def shaken(net, seed=0):
    """Random weights, norms and neurons that fire at many levels; eval mode, values exact in float32."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, value in net.state_dict().items():
            leaf = name.rpartition(".")[2]
            if leaf in ("alpha", "mask", "bias", "running_mean"):
                value.copy_(torch.randn_like(value) * 0.5)
            elif leaf == "running_var":
                value.copy_(torch.rand_like(value) + 0.25)
            elif leaf == "weight":
                value.copy_(torch.randn_like(value) * (1.0 if value.dim() == 1 else 1.5 / value[0].numel() ** 0.5))
    return net.eval()


def use_linear_windows(net):
    """Fc neurons train mask_linear, and their mask stays as it started."""
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, Neuron) and module.linear:
                module.mask_linear.copy_(torch.randn(T, T))
                module.mask.zero_()
    return net


def same_forward(reference, model, *, image=IMAGE):
    torch.manual_seed(9)
    x = torch.randn(5, *image, dtype=torch.float64)
    with torch.no_grad():
        want, got = reference.double()(x), model.double()(x)
    assert want.std() > 1e-2
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


VGG_ARGS = {"stages": [list(s) for s in STAGES], "input_shape": list(IMAGE), "L": L}


@pytest.mark.parametrize(
    "net",
    [
        {"at": 1},
        {"at": 2, "shape": (T, T, 1, 1, 1, 1)},
        {"theta": 0.75},
        {"hidden": (9, 8)},
        {"extra": True},
        {"hidden": (9,), "extra": True},
        {"suffix": False},
    ],
    ids=str,
)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_vgg_in_their_layout_computes_what_theirs_computes(tmp_path, net, prefix):
    theirs = use_linear_windows(shaken(TheirVGG(**net)))
    path = tmp_path / "their.pth"
    torch.save({"model": {prefix + k: v for k, v in theirs.state_dict().items()}, "epoch": 3}, path)
    model, header = load_foreign(path, model="small-vgg", args=VGG_ARGS)
    assert (header.method, header.T, header.L, len(header.classes)) == ("lmht", T, L, 7)
    assert header.provenance["foreign"] == {"file": "their.pth", "layout": "lm-ht", "left_out": ["epoch"]}
    same_forward(theirs, model)


def test_a_start_at_half_of_theta_is_an_argument(tmp_path):
    theirs = shaken(TheirVGG(v0=0.5, theta=1.0))
    torch.save(theirs.state_dict(), tmp_path / "a.pt")
    args = {**VGG_ARGS, "neuron_args": {"v_init": "half-theta"}}
    model, _ = load_foreign(tmp_path / "a.pt", model="small-vgg", args=args, layout="lm-ht")
    same_forward(theirs, model)


@pytest.mark.parametrize("net", [{}, {"plain_stem": True}, {"depth": 3}], ids=str)
def test_a_resnet_in_their_layout_computes_what_theirs_computes(tmp_path, net):
    theirs = shaken(TheirResNet(**net), seed=2)
    torch.save({"model": theirs.state_dict(), "optimizer": {"lr": 0.1}}, tmp_path / "r.pth")
    sizes = {"blocks": [2, 1], "channels": [4, 6], "strides": [1, 2], "stem_channels": 4}
    args = {**sizes, "input_shape": list(IMAGE), "L": L, "bottleneck": net.get("depth") == 3}
    model, header = load_foreign(tmp_path / "r.pth", model="resnet18", args=args)
    assert header.provenance["foreign"]["left_out"] == ["optimizer"]
    same_forward(theirs, model)


def test_what_was_loaded_is_a_checkpoint_of_ours(tmp_path):
    theirs = shaken(TheirVGG())
    torch.save({"model": theirs.state_dict()}, tmp_path / "a.pth")
    model, header = load_foreign(tmp_path / "a.pth", model="small-vgg", args=VGG_ARGS)
    save_checkpoint(tmp_path / "b.safetensors", model, header)
    again, same = load_checkpoint(tmp_path / "b.safetensors")
    assert same == header
    assert header.input.shape == IMAGE
    same_forward(theirs, again)


def test_two_trained_windows_in_one_neuron_are_refused(tmp_path):
    theirs = use_linear_windows(shaken(TheirVGG(hidden=(9,), extra=True)))
    state = theirs.state_dict()
    state["layer1.1.mask_linear"][0, 1] = 0.5
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(FileFormatError, match="1 tensors do not fit") as caught:
        load_foreign(tmp_path / "a.pth", model="small-vgg", args=VGG_ARGS)
    assert "unexpected layer1.1.mask_linear [3, 3]: trained" in str(caught.value)


def test_a_threshold_that_only_some_neurons_store_is_missing_in_the_others(tmp_path):
    state = shaken(TheirVGG(theta=1.5)).state_dict()
    del state["layer1.4.v_threshold"]
    state["layer2.1.v_threshold"].neg_()
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(FileFormatError, match="2 tensors do not fit") as caught:
        load_foreign(tmp_path / "a.pth", model="small-vgg", args=VGG_ARGS)
    assert "missing layer1.4.v_threshold" in str(caught.value)
    assert "value of layer2.1.v_threshold: [-1.5], a threshold must be positive" in str(caught.value)


def test_levels_and_the_activation_are_checked_before_anything_is_built(tmp_path):
    torch.save(shaken(TheirVGG()).state_dict(), tmp_path / "a.pth")
    args = {**VGG_ARGS, "L": None, "activation": "if"}
    with pytest.raises(InputError) as caught:
        load_foreign(tmp_path / "a.pth", model="small-vgg", args=args)
    assert len(caught.value.breaches) == 2
    assert "does not say its levels" in str(caught.value)
    assert "asked for 'if'" in str(caught.value)
