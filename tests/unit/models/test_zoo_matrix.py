"""Every registered model with every activation: full size on the meta device, small ones with values."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from snn2chip_models import MODELS, build
from snn2chip_models.layers import ACTIVATIONS
from snn2chip_models.stems import STEMS
from torch import nn

from snn2chip.errors import InputError
from snn2chip.nn import LMHT, NEURONS, Neuron, ParallelNeuron

EMPF = {"empf": {"version": "I"}, "empf-norm": {"version": "II"}, "empf-parallel": {"parallel": True}}
SMALL: dict[str, dict[str, Any]] = {
    "ConvNet": {"input_shape": [2, 8, 8], "channels": [3, 4], "strides": [1, 2]},
    "MLP": {"input_shape": [2, 8, 8], "hidden": [5, 4]},
    "VGG": {"stages": [[3], [4]], "input_shape": [2, 8, 8]},
    "ResNet": {"blocks": [1, 1], "channels": [4, 6], "strides": [1, 2], "stem_channels": 4, "input_shape": [2, 8, 8]},
    "EMPFResNet": {"blocks": [1, 1], "channels": [4, 6], "strides": [1, 2], "stem_channels": 4},
}
FORMS = [
    (name, activation)
    for name, (_, _, kind) in sorted(MODELS.items())
    for activation in (ACTIVATIONS if kind != "EMPFResNet" else EMPF)
]


def arguments(name: str, activation: str) -> dict[str, Any]:
    kind = MODELS[name][2]
    if kind == "EMPFResNet":
        return EMPF[activation]
    key = "neuron" if kind in ("ConvNet", "MLP") else "activation"
    return {key: activation, **({"L": None, "T": 2} if key == "neuron" and activation != "relu" else {})} | (
        {"L": None} if key == "neuron" else {}
    )


def shape(model: nn.Module, name: str, args: dict[str, Any]) -> tuple[int, ...]:
    kind = MODELS[name][2]
    if kind in ("ConvNet", "MLP"):
        return {"mnist-cnn": (1, 28, 28), "nmnist-cnn": (2, 34, 34)}.get(name, (1, 8, 8))
    return STEMS[args.get("stem", "dvs" if name == "vgg-snn" else "cifar")].shape


@pytest.mark.parametrize(("name", "activation"), FORMS)
def test_every_model_with_every_activation(name: str, activation: str) -> None:
    args = arguments(name, activation)
    with torch.device("meta"):
        model = build(name, **args)
    found = {type(m) for m in model.modules() if isinstance(m, Neuron | ParallelNeuron | nn.ReLU)}
    kinds: dict[str, Any] = {**NEURONS, "parallel": ParallelNeuron, "relu": nn.ReLU}
    if MODELS[name][2] == "EMPFResNet":
        kept = "empf-norm" if activation == "empf-norm" else "empf"
        assert found == {kinds[kept], kinds["empf-parallel"]}
    else:
        assert found == {kinds[activation]}
    if activation not in ("relu", "lmht", "empf-parallel"):
        return  # their shapes are those of these; the small nets below run all of them
    events = name in ("nmnist-cnn", "vgg-snn")
    lead = (getattr(model, "T", 2), 2) if events else (2,)
    logits = model(torch.empty(*lead, *shape(model, name, args), device="meta"))
    assert tuple(logits.shape) == (2, 10)


@pytest.mark.parametrize("preactivation", [False, True])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("name", ["resnet20", "resnet50"])
def test_residual_forms(name: str, activation: str, preactivation: bool) -> None:
    torch.manual_seed(0)
    model = build(name, **SMALL["ResNet"], activation=activation, preactivation=preactivation).eval()
    assert model(torch.rand(2, 2, 8, 8)).shape == (2, 10)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("name", ["mlp", "cnn", "small-vgg"])
def test_small_ones_give_finite_logits(name: str, activation: str) -> None:
    torch.manual_seed(0)
    model = build(name, **SMALL[MODELS[name][2]], **arguments(name, activation))
    logits = model(torch.rand(3, 2, 8, 8))
    assert logits.shape == (3, 10)
    assert logits.isfinite().all()


def test_ordinary_nets_of_event_frames_average_them() -> None:
    frames = torch.rand(4, 3, 2, 8, 8)
    for name in ("mlp", "cnn"):
        args = {**SMALL[MODELS[name][2]], "neuron": "relu", "L": None}
        torch.manual_seed(0)
        events = build(name, **args, events=True).eval()
        torch.manual_seed(0)
        static = build(name, **args).eval()
        assert torch.equal(events(frames), static(frames.mean(0)))


@pytest.mark.parametrize("name", ["small-vgg", "resnet20"])
def test_frames_into_steps_through_a_window(name: str) -> None:
    torch.manual_seed(0)
    model = build(name, **SMALL[MODELS[name][2]], stem="dvs", frames=5, T=2, L=3)
    first, *others = (m for m in model.modules() if isinstance(m, LMHT))
    assert (first.frames, first.steps) == (5, 2)
    assert {(m.frames, m.steps) for m in others} == {(2, 2)}
    model(torch.rand(5, 3, 2, 8, 8)).square().sum().backward()
    assert first.window_raw.grad is not None
    assert first.window_raw.grad.shape == (2, 5)


def test_a_host_stem_runs_once_and_has_no_neuron() -> None:
    args = {**SMALL["ResNet"], "stem": "imagenet", "input_shape": [2, 32, 32], "pool": "max", "T": 3}
    model = build("resnet18", **args, host_stem=True)
    stem = model.stem
    assert isinstance(stem, nn.Sequential)
    assert [type(m).__name__ for m in stem] == ["Conv2d", "BatchNorm2d", "ReLU", "MaxPool2d", "Repeat"]
    seen: list[int] = []
    stem[0].register_forward_hook(lambda m, given, out: seen.append(len(given[0])))
    assert model(torch.rand(2, 2, 32, 32)).shape == (2, 10)
    assert seen == [2]
    spiking = build("resnet18", **args)
    assert sum(isinstance(m, Neuron) for m in spiking.modules()) == 1 + sum(
        isinstance(m, Neuron) for m in model.modules()
    )


def test_bottlenecks_of_em_pf() -> None:
    """Their convolutions and norms have as many weights as the standard net's of the same depth."""
    with torch.device("meta"):
        standard = build("resnet50", activation="relu", preactivation=True)
        binary = build("resnet50-empf", T=1)
    sizes = [
        sorted(tuple(p.shape) for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear) for p in m.parameters())
        for model in (standard, binary)
    ]
    assert sizes[0] == sizes[1]
    small = build("resnet50-empf", **SMALL["EMPFResNet"], T=2)
    logits = small(torch.rand(2, 3, 8, 8))
    logits.square().sum().backward()
    assert logits.shape == (2, 10)
    assert all(p.grad is not None for p in small.parameters())


def test_mistakes_are_named() -> None:
    cases: list[tuple[str, dict[str, Any], str]] = [
        ("mlp", {"neuron": "relu", "L": 4}, "takes no levels=4; it takes none"),
        ("cnn", {"neuron": "elu"}, "activation 'elu' is unknown; known: relu, parallel"),
        ("small-vgg", {"activation": "parallel", "neuron_args": {"leak": 1}}, "takes no leak=1; it takes theta"),
        ("small-vgg", {"frames": 3}, "only event frames into lmht"),
        ("small-vgg", {"stem": "dvs", "frames": 3, "activation": "if"}, "only event frames into lmht"),
        ("resnet18", {"stem": "dvs", "frames": 3, "preactivation": True}, "needs a standard net"),
        ("resnet18", {"stem": "dvs", "host_stem": True}, "host_stem needs a static input"),
        ("resnet50-empf", {"seca": "I"}, "not for a bottleneck"),
    ]
    for name, args, text in cases:
        with pytest.raises(InputError, match=text):
            build(name, **args)


@pytest.mark.parametrize("neuron", [*ACTIVATIONS])
@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_levels_need_not_be_named_for_neurons_without_any(name: str, neuron: str) -> None:
    size = SMALL[MODELS[name][2]]
    assert build(name, neuron=neuron, **size)(torch.rand(2, *size["input_shape"])).shape == (2, 10)
