"""The model zoo: names, arguments, shapes, weight kinds and how well the digits net trains."""

from __future__ import annotations

import inspect
import json
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from snn2chip_models import MODELS, build
from snn2chip_models.cnn import ConvNet
from snn2chip_models.layers import WEIGHT_KINDS, conv2d, linear
from snn2chip_models.mlp import MLP
from torch import Tensor, nn
from torch.nn import functional

from snn2chip.errors import InputError
from snn2chip.nn import (
    NEURONS,
    BinaryConv2d,
    BinaryLinear,
    IntConv2d,
    IntLinear,
    Neuron,
    TernaryConv2d,
)

INPUTS: dict[str, tuple[int, ...]] = {
    "cnn": (3, 1, 8, 8),
    "digits-cnn": (3, 1, 8, 8),
    "mlp": (3, 1, 8, 8),
    "mnist-cnn": (3, 1, 28, 28),
    "nmnist-cnn": (10, 3, 2, 34, 34),
}


def test_every_small_model_has_an_input_here() -> None:
    small = {name for name, (module, _, _) in MODELS.items() if module in ("cnn", "mlp")}
    assert set(INPUTS) == small


@pytest.mark.parametrize("name", sorted(INPUTS))
@pytest.mark.parametrize("weights", ["float", "binary", "ternary", "int4"])
def test_logits_and_gradients(name: str, weights: str) -> None:
    torch.manual_seed(0)
    model = build(name, weights=weights, qat=weights == "int4")
    logits = model(torch.rand(*INPUTS[name]))
    assert logits.shape == (3, 10)
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("neuron", sorted(NEURONS))
@pytest.mark.parametrize("name", ["digits-cnn", "mlp"])
def test_any_neuron_by_name(name: str, neuron: str) -> None:
    model = build(name, neuron=neuron, L=None, T=3)
    found = [m for m in model.modules() if isinstance(m, Neuron)]
    assert {type(m) for m in found} == {NEURONS[neuron]}
    assert {m.steps for m in found} == {3}
    assert model(torch.rand(2, 1, 8, 8)).shape == (2, 10)


def test_neuron_arguments_reach_the_neuron() -> None:
    model = build("mlp", neuron="lif", L=1, T=2, neuron_args={"leak": 0.25, "reset": "zero"})
    found = [m for m in model.modules() if isinstance(m, Neuron)]
    assert [(float(m.lower().leak), m.lower().reset) for m in found] == [(0.25, "zero")] * 2
    with pytest.raises(InputError, match="takes no 'beta'"):
        build("mlp", neuron_args={"beta": 1.0})
    with pytest.raises(InputError, match="takes no 'levels'=4"):
        build("mlp", neuron="if", L=4)


def kinds(model: nn.Module) -> list[str]:
    return [type(m).__name__ for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]


def test_first_and_last_layer_keep_precision() -> None:
    assert kinds(build("digits-cnn", weights="binary")) == ["Conv2d", "BinaryConv2d", "BinaryConv2d", "Linear"]
    assert kinds(build("mlp", weights="ternary")) == ["Linear", "TernaryLinear", "Linear"]
    net = build("digits-cnn", weights="int3")
    assert kinds(net) == ["IntConv2d", "IntConv2d", "IntConv2d", "IntLinear"]
    assert [m.weight_bits for m in net.modules() if isinstance(m, IntConv2d | IntLinear)] == [8, 3, 3, 8]


def test_weight_kinds_by_name() -> None:
    assert type(conv2d("float", inputs=1, outputs=1)) is nn.Conv2d
    assert isinstance(conv2d("binary", inputs=1, outputs=1), BinaryConv2d)
    assert isinstance(conv2d("ternary", inputs=1, outputs=1), TernaryConv2d)
    assert isinstance(linear("binary", inputs=1, outputs=1), BinaryLinear)
    assert {linear(f"int{b}", inputs=1, outputs=1).weight_bits for b in range(2, 9)} == set(range(2, 9))
    for make in (conv2d, linear):
        with pytest.raises(InputError, match="float, binary, ternary, int2"):
            make("int9", inputs=1, outputs=1)
    assert len(WEIGHT_KINDS) == 10


def test_static_stem_runs_once() -> None:
    seen: list[tuple[int, ...]] = []

    def note(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append(tuple(args[0].shape))

    model = build("digits-cnn", T=4)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(note)
    model(torch.rand(5, 1, 8, 8))
    assert [shape[0] for shape in seen] == [5, 20, 20]


@pytest.mark.parametrize("kind", [ConvNet, MLP])
def test_constructor_arguments_are_json_values(kind: type[nn.Module]) -> None:
    defaults = {key: p.default for key, p in inspect.signature(kind).parameters.items()}
    again = json.loads(json.dumps(defaults))
    torch.manual_seed(0)
    first = kind(**defaults)
    torch.manual_seed(0)
    second = kind(**again)
    x = torch.rand(2, 1, 8, 8)
    assert torch.equal(first(x), second(x))


def test_a_checkpoint_rebuilds_the_model() -> None:
    args: dict[str, Any] = {"channels": [4, 6], "strides": [1, 2], "weights": "int4", "qat": True, "T": 3}
    model = build("digits-cnn", **args)
    rebuilt = build("digits-cnn", **json.loads(json.dumps(args)))
    rebuilt.load_state_dict(model.state_dict())
    x = torch.rand(2, 1, 8, 8)
    assert torch.equal(model.eval()(x), rebuilt.eval()(x))


def test_mistakes_are_named() -> None:
    with pytest.raises(InputError, match=", ".join(["known: cnn", *sorted(MODELS)[1:]])):
        build("resnet99")
    with pytest.raises(InputError) as caught:
        build("mlp", hiden=[3], channels=[1], T=float("nan"))
    assert len(caught.value.breaches) == 3
    with pytest.raises(InputError, match="not a JSON value"):
        build("mlp", neuron_args={"theta": torch.ones(1)})
    with pytest.raises(InputError) as caught:
        build("cnn", input_shape=[8, 8], channels=[1, 2], strides=[1])
    assert len(caught.value.breaches) == 2
    with pytest.raises(InputError, match="pool=5 does not fit the last 4 x 4 map"):
        build("digits-cnn", pool=5)
    with pytest.raises(InputError, match="hidden is empty"):
        build("mlp", hidden=[])
    for name in ("mlp", "cnn"):
        with pytest.raises(InputError, match="weights='int1'"):
            build(name, weights="int1")


def test_binary_digits_net_reaches_the_promised_accuracy() -> None:
    """Binary weights, L = 4, T = 2 on scikit-learn's digits: 20 epochs of Adam give at least 96.5 %."""
    digits = load_digits()
    images = torch.tensor(digits.images / 16.0, dtype=torch.float32).unsqueeze(1)
    labels = torch.tensor(digits.target)
    train, test = train_test_split(range(len(labels)), test_size=0.25, stratify=digits.target, random_state=0)
    assert len(test) == 450
    x, y = (images - images[train].mean()) / images[train].std(), labels
    torch.manual_seed(0)
    model = build("digits-cnn", weights="binary", L=4, T=2)
    epochs, batch = 20, 64
    steps = epochs * (len(train) // batch)
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(epochs):
        order = torch.tensor(train)[torch.randperm(len(train))]
        for i in range(len(train) // batch):
            chosen = order[i * batch : (i + 1) * batch]
            optimiser.zero_grad()
            functional.cross_entropy(model(x[chosen]), y[chosen]).backward()
            optimiser.step()
            schedule.step()
    model.eval()
    with torch.no_grad():
        accuracy = (model(x[test]).argmax(1) == y[test]).double().mean().item()
    assert accuracy >= 0.965
