"""Batch norm into weights and somas, against the norm's own equation in float64."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from snn2chip.frontends.torch import trace
from snn2chip.ir.channel_layers import BatchNormLayer
from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.layers import AddLayer, FloatSoma, InputLayer, OutputLayer
from snn2chip.ir.linear_layers import Conv2dLayer, LinearLayer, WeightParts
from snn2chip.ir.neuron_layer import NeuronLayer
from snn2chip.nn import BinaryConv2d, BinaryLinear, TernaryConv2d
from snn2chip.passes import FoldBatchNorm, run_passes
from snn2chip.passes.affine import scaled_parts

GAMMA = torch.tensor([1.3, -0.7, 0.0, -2.1])


def with_norm(layer: nn.Module) -> nn.Sequential:
    """Return layer and norm with statistics that no power of two fits; gamma positive, negative and zero."""
    torch.manual_seed(2)
    norm = nn.BatchNorm2d(4)
    norm.weight.data = GAMMA.clone()
    norm.bias.data = torch.tensor([0.3, -0.2, 0.7, 0.1])
    norm.running_mean = torch.tensor([0.4, -0.3, 0.2, 0.6])
    norm.running_var = torch.tensor([0.3, 1.7, 0.9, 2.3])
    return nn.Sequential(layer, norm).eval()


def by_equation(weight: Tensor, norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """gamma*(conv(x) - mean)/sqrt(var + eps) + beta in float64."""
    mean, var = (v.double()[:, None, None] for v in (norm.running_mean, norm.running_var))  # type: ignore[union-attr]
    gamma, beta = (v.detach().double()[:, None, None] for v in (norm.weight, norm.bias))
    y = F.conv2d(x, weight.double(), padding=1)
    return gamma * (y - mean) / torch.sqrt(var + norm.eps) + beta


def test_negative_scale_into_binary_weights() -> None:
    torch.manual_seed(1)
    model = with_norm(BinaryConv2d(3, 4, 3, padding=1))
    alpha, signs = model[0].weight_parts()
    graph = trace(model, torch.rand(2, 3, 5, 5))
    lowered = run_passes(graph)
    (conv,) = lowered.of_kind("conv2d")
    assert isinstance(conv, Conv2dLayer)
    assert conv.parts is not None
    assert conv.parts.kind == "binary"
    flip = torch.tensor([1, -1, 1, -1])[:, None, None, None]
    assert torch.equal(conv.parts.integers, signs * flip)
    size = alpha.double() * GAMMA.double().abs() / torch.sqrt(torch.tensor([0.3, 1.7, 0.9, 2.3]).double() + 1e-5)
    torch.testing.assert_close(conv.parts.scale, size, rtol=1e-7, atol=0)

    x = torch.randint(-3, 4, (5, 3, 5, 5)).double()
    truth = by_equation(alpha.view(-1, 1, 1, 1) * signs, model[1], x)
    got = lowered.run(x).output
    tolerance = 1e-6 * float(truth.abs().max())
    assert float((got - truth).abs().max()) < tolerance
    unflipped = F.conv2d(x, conv.parts.scale.view(-1, 1, 1, 1) * signs, conv.bias, padding=1)
    assert float((unflipped - truth).abs().max()) > 1e4 * tolerance, "the test would not notice a dropped sign"


def test_ternary_weights_keep_their_zeros() -> None:
    torch.manual_seed(1)
    model = with_norm(TernaryConv2d(3, 4, 3, padding=1))
    model[0].weight.data.normal_()
    _, integers = model[0].weight_parts()
    (conv,) = run_passes(trace(model, torch.rand(2, 3, 5, 5))).of_kind("conv2d")
    assert isinstance(conv, Conv2dLayer)
    assert conv.parts is not None
    assert conv.parts.kind == "ternary"
    assert torch.equal(conv.parts.integers == 0, integers == 0)
    assert torch.equal(conv.parts.integers[1], -integers[1])


def test_zero_scale_leaves_the_shift_alone() -> None:
    torch.manual_seed(1)
    lowered = run_passes(trace(with_norm(nn.Conv2d(3, 4, 3, padding=1)), torch.rand(2, 3, 5, 5)))
    got = lowered.run(torch.rand(2, 3, 5, 5).double()).output[:, 2]
    assert bool((got == float(torch.tensor(0.7))).all())


def soma_graph(soma: FloatSoma, norm: BatchNormLayer) -> LayerGraph:
    """The linear layer feeds a normed and a plain neuron, whose payloads are added."""
    layers = (
        InputLayer(name="input", shape=(4,)),
        LinearLayer(name="fc", weight=torch.eye(4, dtype=torch.float64)),
        norm,
        NeuronLayer(name="n1", soma=soma),
        NeuronLayer(name="n2", soma=soma),
        OutputLayer(name="output", reduce="steps"),
    )
    inputs = {"fc": ("input",), "norm": ("fc",), "n1": ("norm",), "n2": ("fc",), "output": ("sum",)}
    return LayerGraph(layers=(*layers, AddLayer(name="sum")), inputs={**inputs, "sum": ("n1", "n2")}, steps=3)


def test_norm_into_a_windowed_soma() -> None:
    """m = leak*v + gain*sum_j window[t,j]*(g*I(j) + c) + bias: the shift meets the row sums of the window."""
    window = torch.tensor([[0.5, 0.25, 0.0], [1.0, -0.5, 0.125], [0.25, 0.25, 0.25]], dtype=torch.float64)
    soma = FloatSoma(steps=3, theta=0.5, unit=0.5, levels=9, leak=0.75, gain=2.0, bias=0.125, window=window)
    values = [
        torch.tensor(v, dtype=torch.float64)
        for v in ([0.5, -1, 0.25, 2], [1, 4, 0.25, 1], [2, -1, 1, -4], [1, 2, 0, -1])
    ]
    mean, var, gamma, beta = values
    norm = BatchNormLayer(name="norm", mean=mean, var=var, gamma=gamma, beta=beta, eps=0.0)
    graph = soma_graph(soma, norm)
    folded = FoldBatchNorm().run(graph)
    assert folded.of_kind("batchnorm", "scale") == ()  # the linear layer feeds n2 too, so its weights stay
    neuron = folded.layer("n1")
    assert isinstance(neuron, NeuronLayer)
    g = gamma / var.sqrt()
    c = beta - mean * g
    rows = torch.tensor([0.75, 0.625, 0.75], dtype=torch.float64)
    assert torch.equal(neuron.soma.gain, 2 * g)
    assert torch.equal(neuron.soma.bias, 0.125 + 2 * rows[:, None] * c)
    x = torch.randint(-8, 9, (3, 6, 4)).double() / 4
    before, after = graph.run(x, collect=True), folded.run(x, collect=True)
    assert torch.equal(before.output, after.output)
    assert torch.equal(before.before["n1"], after.before["n1"])
    assert 0.05 < float((after.values["n1"] != 0).double().mean()) < 0.95


def test_linear_norm_by_hand() -> None:
    """3*(2x + 1 - 5)/2 + 1 = 3x - 5."""
    model = nn.Sequential(BinaryLinear(1, 1, bias=True), nn.BatchNorm1d(1, eps=0.0)).eval()
    model[0].weight.data.fill_(2.0)
    model[0].bias.data.fill_(1.0)
    model[1].running_mean, model[1].running_var = torch.tensor([5.0]), torch.tensor([4.0])
    model[1].weight.data.fill_(3.0)
    model[1].bias.data.fill_(1.0)
    (fc,) = run_passes(trace(model, torch.rand(2, 1))).of_kind("linear")
    assert isinstance(fc, LinearLayer)
    assert fc.weight.tolist() == [[3.0]]
    assert fc.bias is not None
    assert fc.bias.tolist() == [-5.0]


def test_parts_follow_any_factor() -> None:
    torch.manual_seed(3)
    layer = BinaryLinear(6, 4)
    scale, integers = layer.weight_parts()
    factor = torch.tensor([2.0, -0.5, 0.0, -1.0], dtype=torch.float64)
    parts = scaled_parts(WeightParts(scale=scale.double(), integers=integers), factor)
    assert torch.equal(parts.weight(), factor[:, None] * scale.double()[:, None] * integers)
    assert bool((parts.scale >= 0).all())
    assert set(parts.integers.flatten().tolist()) <= {-1, 1}
