"""VGG and residual nets: their equations, activations, stems, options and refusals, on tiny widths."""

from __future__ import annotations

import inspect
import json
from typing import Any

import pytest
import torch
from snn2chip_models import MODELS, build
from snn2chip_models.resnet import ResNet
from snn2chip_models.resnet_empf import EMPFResNet
from snn2chip_models.stems import STEMS
from snn2chip_models.vgg import VGG
from torch import Tensor, nn
from torch.nn import functional as F

from snn2chip.errors import InputError, UnsupportedError
from snn2chip.nn import NEURONS, QCFS, SECA, BinaryConv2d, EMPFParallel, IntConv2d, Neuron, TernaryConv2d

TINY: dict[str, dict[str, Any]] = {
    "VGG": {"stages": [[3, 4], [4]]},
    "ResNet": {"blocks": [1, 1], "channels": [4, 6], "strides": [1, 2], "stem_channels": 4},
    "EMPFResNet": {"blocks": [1, 1], "channels": [4, 6], "strides": [1, 2], "stem_channels": 4},
}
LARGE = {name: kind for name, (_, _, kind) in MODELS.items() if kind in TINY}


def tiny(name: str, **args: Any) -> nn.Module:
    torch.manual_seed(0)
    return build(name, **{**TINY[LARGE[name]], **args})


def frames_or_image(stem: str, steps: int) -> Tensor:
    shape = STEMS[stem].shape
    return torch.rand(*((steps, 2) if STEMS[stem].events else (2,)), *shape)


@pytest.mark.parametrize("activation", ["relu", *sorted(NEURONS)])
@pytest.mark.parametrize("name", ["small-vgg", "resnet18"])
def test_any_activation(name: str, activation: str) -> None:
    model = tiny(name, activation=activation, input_shape=[3, 8, 8])
    logits = model(torch.rand(2, 3, 8, 8))
    assert logits.shape == (2, 10)
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    neurons = [m for m in model.modules() if isinstance(m, Neuron)]
    expected = set() if activation == "relu" else {NEURONS[activation]}
    assert {type(m) for m in neurons} == expected
    assert {m.steps for m in neurons} == ({1} if activation == "qcfs" else {2} if neurons else set())


@pytest.mark.parametrize("name", sorted(LARGE))
def test_every_model_and_stem(name: str) -> None:
    for stem in STEMS:
        if stem == "imagenet" and LARGE[name] == "VGG":
            continue
        model = tiny(name, stem=stem, T=2, **({"last_pool": "global"} if LARGE[name] == "VGG" else {})).eval()
        with torch.no_grad():
            assert model(frames_or_image(stem, 2)).shape == (2, 10)


@pytest.mark.parametrize("name", ["vgg11", "resnet20", "resnet18-empf"])
@pytest.mark.parametrize(
    ("weights", "kind"), [("binary", BinaryConv2d), ("ternary", TernaryConv2d), ("int4", IntConv2d)]
)
def test_weight_kinds(name: str, weights: str, kind: type[nn.Module]) -> None:
    qat = weights == "int4" and "empf" not in name  # EM-PF's payload has no grid
    model = tiny(name, weights=weights, T=2, input_shape=[3, 8, 8], qat=qat)
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert {type(m) for m in convs[1:]} == {kind}
    assert type(convs[0]) is (IntConv2d if weights == "int4" else nn.Conv2d)
    assert model(torch.rand(2, 3, 8, 8)).isfinite().all()


@pytest.mark.parametrize("preactivation", [False, True])
@pytest.mark.parametrize("bottleneck", [False, True])
def test_a_residual_net_by_its_equation(preactivation: bool, bottleneck: bool) -> None:
    """One stage of two blocks, ReLU, no norms, recomputed with functional calls; strides 2 and 1."""
    model = build(
        "resnet18",
        blocks=[2],
        channels=[3],
        strides=[2],
        stem_channels=2,
        activation="relu",
        bn=False,
        bottleneck=bottleneck,
        preactivation=preactivation,
    )
    state = model.state_dict()

    def conv(x: Tensor, name: str, stride: int = 1) -> Tensor:
        w = state[f"{name}.conv.weight"]
        return F.conv2d(x, w, state[f"{name}.conv.bias"], stride=stride, padding=w.shape[-1] // 2)

    x = torch.randn(2, 3, 7, 7)
    h = conv(x, "stem")
    h = h if preactivation else F.relu(h)
    for block, stride in ((0, 2), (1, 1)):
        at, depth = f"stages.stage1.{block}", 3 if bottleneck else 2
        strides = [1, stride, 1] if bottleneck else [stride, 1]
        same = conv(h, f"{at}.shortcut", stride) if block == 0 else h
        y = h
        for i in range(depth):
            y = conv(F.relu(y), f"{at}.synapse{i + 1}", strides[i]) if preactivation else y
            if not preactivation:
                y = conv(y, f"{at}.synapse{i + 1}", strides[i])
                y = F.relu(y + same if i == depth - 1 else y)
        h = y + same if preactivation else y
    expected = F.linear(h.mean((2, 3)), state["head.head.weight"], state["head.head.bias"])
    torch.testing.assert_close(model(x), expected)


def test_a_vgg_by_its_equation() -> None:
    model = build("vgg11", stages=[[2], [3, 3]], hidden=[5], activation="relu", bn=False, input_shape=[3, 8, 8])
    state = {key.removeprefix("layers."): value for key, value in model.state_dict().items()}
    x = h = torch.randn(2, 3, 8, 8)
    for tag, pooled in (("1_1", True), ("2_1", False), ("2_2", True)):
        h = F.relu(F.conv2d(h, state[f"conv{tag}.weight"], state[f"conv{tag}.bias"], padding=1))
        h = F.avg_pool2d(h, 2) if pooled else h
    h = F.relu(F.linear(h.flatten(1), state["fc1.weight"], state["fc1.bias"]))
    torch.testing.assert_close(model(x), F.linear(h, state["head.weight"], state["head.bias"]))


@pytest.mark.parametrize("name", ["vgg13", "resnet20"])
def test_static_stem_runs_once_and_frames_every_step(name: str) -> None:
    for stem, batches in (("cifar", [2, 6, 6]), ("nmnist", [6, 6, 6])):
        model, seen = tiny(name, stem=stem, T=3), []
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(lambda m, args, out, seen=seen: seen.append(len(args[0])))
        model(frames_or_image(stem, 3))
        assert seen[:3] == batches


def test_averaged_frames_are_a_static_input() -> None:
    """As the released LM-HT code does: 5 frames become one, which T = 2 steps see."""
    frames = torch.rand(5, 2, 2, 34, 34)
    averaged = tiny("resnet20", stem="nmnist", frames="mean", T=2).eval()
    static = tiny("resnet20", stem="cifar", input_shape=[2, 34, 34], T=2).eval()
    assert torch.equal(averaged(frames), static(frames.mean(0)))
    ordinary = tiny("resnet20", stem="nmnist", activation="relu").eval()
    assert ordinary(frames).shape == (2, 10)


def test_mnist_is_as_large_as_cifar() -> None:
    seen = []
    model = build("vgg16", stem="mnist", stages=[[2], [2], [2], [2], [2]], activation="relu")
    next(m for m in model.modules() if isinstance(m, nn.Conv2d)).register_forward_hook(
        lambda m, args, out: seen.append(tuple(out.shape))
    )
    assert model(torch.rand(1, 1, 28, 28)).shape == (1, 10)
    assert seen == [(1, 2, 32, 32)]


def test_options() -> None:
    bare = tiny("vgg16", bn=False, activation="relu")
    assert not any(isinstance(m, nn.BatchNorm2d) for m in bare.modules())
    assert all(m.bias is not None for m in bare.modules() if isinstance(m, nn.Conv2d))
    assert all(m.bias is None for m in tiny("resnet18").modules() if isinstance(m, nn.Conv2d))
    assert all(m.bias is not None for m in tiny("vgg13", bias=True).modules() if isinstance(m, nn.Conv2d))
    pools = [m for m in tiny("vgg16", pool="max").modules() if isinstance(m, nn.MaxPool2d | nn.AvgPool2d)]
    assert [type(m) for m in pools] == [nn.MaxPool2d] * 2
    assert sum(isinstance(m, SECA) for m in tiny("vgg13", seca=True).modules()) == 3
    parallel = [isinstance(m, EMPFParallel) for m in tiny("resnet18-empf").modules() if isinstance(m, Neuron)]
    assert parallel == [False, True, False, True]
    assert [m.levels for m in tiny("resnet20", activation="qcfs", L=8).modules() if isinstance(m, QCFS)] == [8] * 5


@pytest.mark.parametrize("kind", [VGG, ResNet, EMPFResNet])
def test_constructor_arguments_are_json_values(kind: type[nn.Module]) -> None:
    defaults = {key: p.default for key, p in inspect.signature(kind).parameters.items()}
    args = {**defaults, **TINY[kind.__name__]}
    torch.manual_seed(0)
    first = kind(**args)
    torch.manual_seed(0)
    second = kind(**json.loads(json.dumps(args)))
    x = torch.rand(2, 3, 32, 32)
    assert torch.equal(first(x), second(x))


def test_mistakes_are_named() -> None:
    with pytest.raises(InputError) as caught:
        build("resnet18", stem="svhn", activation="gelu", weights="int1", pool="min", frames="all", input_shape=[8])
    assert len(caught.value.breaches) == 6
    with pytest.raises(InputError) as caught:
        build("vgg11", activation="relu", L=4, T=2, neuron_args={"theta": 1.0}, frames="steps")
    assert len(caught.value.breaches) == 4
    with pytest.raises(InputError, match=r"5 pools do not fit an input of 28 x 28 .* stem='mnist'"):
        build("vgg16", input_shape=[1, 28, 28])
    with pytest.raises(InputError, match="2 block counts, 4 channels"):
        build("resnet18", blocks=[2, 2])
    with pytest.raises(InputError, match="every stage needs"):
        build("vgg11", stages=[[4], []])
    with pytest.raises(InputError, match="last_pool='all'"):
        build("vgg11", last_pool="all")
    with pytest.raises(InputError, match="dropout=1"):
        build("vgg11", dropout=1)
    with pytest.raises(InputError, match="version='III'"):
        build("resnet18-empf", version="III")
    with pytest.raises(UnsupportedError, match="cannot be trained on the integer grid"):
        tiny("resnet18-empf", qat=True)
    with pytest.raises(InputError, match="steps=0"):
        build("small-vgg", T=0)
