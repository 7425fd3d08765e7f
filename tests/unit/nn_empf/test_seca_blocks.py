"""SECA by hand, EM-PF's residual block against its formula, and what compiling says about both."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from snn2chip_models.blocks_empf import EMPFBlock, empf_stages
from torch import Tensor, nn
from torch.nn import functional

from snn2chip.errors import InputError
from snn2chip.frontends.torch import trace
from snn2chip.ir.neuron_layer import NeuronLayer
from snn2chip.nn import SECA, BinaryConv2d, EMPFNorm, EMPFParallel, Repeat, Seq, TernaryConv2d, TimeMean
from snn2chip.nn.memnorm import MembraneNorm
from snn2chip.nn.seca import adaptive_kernel

STEPS = 3


def test_seca_by_hand() -> None:
    """Kernel [1,2,3], bias 1/2 on channel means (1, 2, 4): scores sigmoid(8.5, 17.5, 10.5)."""
    seca = SECA(3).double()
    with torch.no_grad():
        seca.conv.weight.copy_(torch.tensor([[[1.0, 2.0, 3.0]]]))
        seca.conv.bias.fill_(0.5)  # type: ignore[union-attr]
    x = torch.zeros(1, 3, 2, 2, dtype=torch.float64)
    x[0, 0], x[0, 1, 0], x[0, 2, 0, 0] = 1.0, 4.0, 16.0
    score = torch.sigmoid(torch.tensor([2 * 1 + 3 * 2 + 0.5, 1 + 2 * 2 + 3 * 4 + 0.5, 2 + 2 * 4 + 0.5]).double())
    torch.testing.assert_close(seca(x), x * score.view(1, 3, 1, 1), rtol=1e-12, atol=0)


def test_seca_shares_weights_over_steps_and_evaluates_each() -> None:
    torch.manual_seed(0)
    seca = SECA()
    assert sum(p.numel() for p in seca.parameters()) == 6
    x = torch.randn(STEPS, 2, 8, 4, 4)
    assert torch.equal(seca(x), torch.stack([seca(step) for step in x]))
    assert not torch.allclose(seca.score(x)[0], seca.score(x)[1])


def test_adaptive_kernels_and_refusals() -> None:
    assert [adaptive_kernel(c) for c in (16, 64, 128, 256, 512)] == [3, 3, 5, 5, 5]
    with pytest.raises(InputError, match="kernel=4, expected an odd"):
        SECA(4)
    with pytest.raises(InputError, match=r"got \[2, 3\]"):
        SECA()(torch.zeros(2, 3))


def folded(modules: Any, x: Tensor) -> Tensor:
    """Ordinary modules, one after the other, on every step."""
    for module in modules:
        x = torch.stack([module(step) for step in x])
    return x


def stirred(block: Any) -> Any:
    torch.manual_seed(1)
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d | MembraneNorm):
            for value in (module.running_mean, module.weight.data, module.bias.data):
                assert value is not None
                value.copy_(0.5 * torch.randn_like(value) + 0.5)
    return block.eval()


@pytest.mark.parametrize("seca", ["none", "I", "II"])
@pytest.mark.parametrize(("inputs", "outputs", "stride"), [(4, 4, 1), (4, 6, 2), (4, 4, 2)])
@pytest.mark.parametrize(("version", "parallel"), [("I", False), ("I", True), ("II", True)])
def test_block_is_its_formula(version: Any, parallel: bool, inputs: int, outputs: int, stride: int, seca: Any) -> None:
    block = stirred(
        EMPFBlock(
            inputs=inputs, outputs=outputs, steps=STEPS, stride=stride, version=version, parallel=parallel, seca=seca
        )
    )
    x = torch.randn(STEPS, 2, inputs, 6, 6)
    same = inputs == outputs and stride == 1
    u = folded(block.first, block.act1(x))
    if seca == "II":
        u = block.seca1(x + u) if same else block.seca1(u)
    elif seca == "I":
        u = block.seca1(u)
    y = folded(block.second, block.act2(u))
    if seca != "none":
        y = block.seca2(u + y if seca == "II" else y)
    y = y + (x if same else folded(block.shortcut, x))
    got = block(x)
    assert got.shape == (STEPS, 2, outputs, 6 // stride, 6 // stride)
    torch.testing.assert_close(got, y, rtol=1e-5, atol=1e-5)
    assert (got < 0).any()  # a stream of signed currents
    assert isinstance(block.act2, EMPFParallel) == parallel
    assert isinstance(block.act1, EMPFNorm) == (version == "II")


def test_shortcut_convolves_the_current_with_binary_weights() -> None:
    block = stirred(EMPFBlock(inputs=2, outputs=3, steps=1))
    assert block.shortcut is not None
    conv = block.shortcut[0]
    assert isinstance(conv, BinaryConv2d)
    assert conv.kernel_size == (1, 1)
    scale, signs = conv.weight_parts()
    x = torch.randn(1, 2, 2, 4, 4)
    by_hand = functional.conv2d(x[0], scale.view(-1, 1, 1, 1) * signs)
    torch.testing.assert_close(block.shortcut(x)[0], block.shortcut[1](by_hand))


def test_arguments_reach_neurons_and_weights() -> None:
    block = EMPFBlock(
        inputs=2,
        outputs=2,
        steps=2,
        version="II",
        parallel=True,
        binary_init="small-positive",
        neuron_args={"payload_bits": 4, "scales": "free", "tied": True},
    )
    assert block.act1.lower().out_max == block.act2.lower().out_max == 15
    assert (block.act1.scales, block.act2.tied) == ("free", True)
    assert all((m.weight >= 0).all() for m in block.modules() if isinstance(m, BinaryConv2d))
    ternary = EMPFBlock(inputs=2, outputs=2, steps=2, weights="ternary")
    assert sum(isinstance(m, TernaryConv2d) for m in ternary.modules()) == 2
    with pytest.raises(InputError) as caught:
        EMPFBlock(inputs=2, outputs=2, steps=2, version="III", seca="III")  # type: ignore[arg-type]
    assert len(caught.value.breaches) == 2
    with pytest.raises(InputError, match="2 block counts, 1 channels and 2 strides"):
        empf_stages(blocks=(1, 1), channels=(4,), strides=(1, 2), inputs=2, steps=1)


def net(**args: Any) -> Seq:
    """Stem, two blocks, head: no neuron before the first block or after the last."""
    torch.manual_seed(0)
    stages = empf_stages(blocks=(1, 1), channels=(4, 6), strides=(1, 2), inputs=4, steps=STEPS, **args)
    model = Seq(
        nn.Conv2d(2, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        Repeat(STEPS),
        stages,
        nn.AvgPool2d(3),
        nn.Flatten(),
        nn.Linear(6, 5),
        TimeMean(),
    )
    assert isinstance(stirred(model), Seq)
    return model


@pytest.mark.parametrize(
    "args",
    [
        {},
        {"version": "II", "parallel": True},
        {"parallel": True, "neuron_args": {"payload_bits": 4}},
    ],
)
def test_blocks_become_a_float_graph(args: dict[str, Any]) -> None:
    """Traced and proved on a second input; the graph's own value is the model's."""
    model = net(**args)
    x = torch.randn(3, 2, 6, 6)
    graph = trace(model, x)
    resets = [layer.soma.reset for layer in graph.layers if isinstance(layer, NeuronLayer)]
    assert resets == ["clamp", "drop" if "parallel" in args else "clamp"] * 2
    fresh = torch.randn(3, 2, 6, 6)
    with torch.no_grad():
        torch.testing.assert_close(graph.run(fresh).output, model(fresh), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("seca", ["I", "II"])
def test_attention_becomes_a_layer_of_the_graph(seca: str) -> None:
    model = net(seca=seca)
    graph = trace(model, torch.randn(4, 2, 6, 6))
    assert len(graph.of_kind("seca")) == 4
    fresh = torch.randn(3, 2, 6, 6)
    with torch.no_grad():
        torch.testing.assert_close(graph.run(fresh).output, model(fresh), rtol=1e-3, atol=1e-3)
