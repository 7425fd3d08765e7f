"""Rules that make layers: each turns a value and plain fields into a layer's value, or refuses.

Leaf modules and torch functions share them, so `nn.Conv2d` and `F.conv2d` mean the same.
"""

from __future__ import annotations

from typing import Any

import attrs
import torch

from snn2chip.frontends.torch_build import Builder
from snn2chip.frontends.torch_refusals import Refusal
from snn2chip.frontends.torch_tape import Op
from snn2chip.frontends.torch_values import AXIS, STATIC, Value, at_step
from snn2chip.ir.channel_layers import BatchNormLayer, ScaleLayer
from snn2chip.ir.layers import FloatSoma, ReluLayer
from snn2chip.ir.linear_layers import AffineLayer, Conv2dLayer, LinearLayer, WeightParts, pair
from snn2chip.ir.neuron_layer import NeuronLayer


def conv2d_layer(
    b: Builder,
    op: Op,
    x: Value,
    *,
    key: Any,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    parts: WeightParts | None = None,
) -> Value:
    """Return the value of a convolution; `padding` may be "same" or "valid"."""
    if padding == "valid":
        padding = 0
    elif padding == "same":
        total = [d * (k - 1) for d, k in zip(pair(dilation), weight.shape[2:], strict=True)]
        if any(n % 2 for n in total):
            raise Refusal("pads an even kernel unevenly with padding='same'; use an odd kernel or a number")
        padding = tuple(n // 2 for n in total)

    def make(**at: Any) -> Conv2dLayer:
        return Conv2dLayer(
            weight=weight.clone(),
            bias=None if bias is None else bias.clone(),
            parts=parts,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            **at,
        )

    return b.on_features(op, key, x, make)


def linear_layer(
    b: Builder,
    op: Op,
    x: Value,
    *,
    key: Any,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    parts: WeightParts | None = None,
) -> Value:
    """Return the value of a linear layer on the last axis, which must hold all features."""

    def make(**at: Any) -> LinearLayer:
        return LinearLayer(weight=weight.clone(), bias=None if bias is None else bias.clone(), parts=parts, **at)

    axes, flat = b.split(op, x)
    if len(b.shapes[flat.node]) != 1:
        raise Refusal(f"acts on the last axis of {list(b.shapes[flat.node])} only; flatten the features, x.flatten(-3)")
    return b.on_features(op, key, flat, make, lead=len(axes))


def batchnorm_layer(b: Builder, op: Op, x: Value, *, key: Any, mean: Any, var: Any, **fields: Any) -> Value:
    """Return the value of a batch norm at inference; Refusal without running statistics."""
    if mean is None or var is None:
        raise Refusal("has no running statistics, so it would normalise with those of the batch")
    fields = {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in fields.items()}
    return b.on_features(op, key, x, lambda **at: BatchNormLayer(mean=mean.clone(), var=var.clone(), **fields, **at))


def simple_layer(b: Builder, op: Op, x: Value, kind: Any) -> Value:
    """Return the value of an elementwise layer without fields, in whatever layout x has."""
    b.check_total(x.time, affine=kind is not ReluLayer)
    node = b.add_layer(op, (kind.kind, op.path), [x.node], lambda **at: kind(**at))
    return Value(node, x.time, x.axes)


DELAYED = (
    "reads spikes that are one step old; only a neuron's own spikes can come back to it, from the first step on: "
    "s = zeros before the loop, s = neuron(fc(x[t]) + recurrent(s)) in it, or snn2chip.nn.Recurrent"
)


def _close_loop(b: Builder, name: str, source: str, feedback: str) -> None:
    """Note that a neuron, called before, now reads `source` and its own spikes through the layer `feedback`."""
    neuron = b.layers[name]
    assert isinstance(neuron, NeuronLayer)
    known = b.loops.get(name)
    if known is None and b.calls[name] == 1:
        known = b.loops[name] = feedback
        if feedback:
            layer = b.layers[feedback]
            assert isinstance(layer, AffineLayer)
            if b.inputs[feedback] != (name,) or not _same_start(b, name, source, layer.bias):
                raise Refusal(DELAYED)
            b.inputs[name] = (source,)
            b.layers[name] = attrs.evolve(neuron, feedback=attrs.evolve(layer, name=f"{name}_feedback"))
    if feedback != known:
        raise Refusal(DELAYED)


def _same_start(b: Builder, name: str, source: str, bias: torch.Tensor | None) -> bool:
    """Whether the first step added to `source` what `bias` gives when nothing comes back yet."""
    (first,) = b.inputs[name]
    if first == source:
        return bias is None or not bool(bias.any())
    scale = b.layers[first]
    if not isinstance(scale, ScaleLayer) or b.inputs[first] != (source,) or bias is None or scale.shift is None:
        return False
    return bool((scale.factor == 1).all()) and bool((scale.shift == bias.to(scale.shift)).all())


def neuron_layer(b: Builder, op: Op, x: Value) -> Value:
    """Return the payloads of a neuron module: all steps at once, or its next step in single-step mode."""
    module: Any = op.module
    soma: FloatSoma = module.float_soma()
    feedback = x.feedback
    axes, x = b.split(op, x)
    b.note_steps(soma.steps)
    single = getattr(module, "step_mode", "m") == "s"
    folded = not single and soma.steps == 1 and axes == ((), ("B",))
    if axes != ((("B",),) if single else (("T",), ("B",))) and not folded:
        shown = "[B,...] in single-step mode" if single else "[T,B,...]"
        raise Refusal(f"expected {shown}, got another layout of steps and batch")
    if x.time.kind == "frames":
        b.check_total(x.time, affine=False)
    if x.time.kind == "total":
        raise Refusal("comes after a sum over the steps; a neuron needs every step")
    stateless = not single and soma.reset == "drop" and soma.window is None
    known = None if stateless else b.neurons.get(id(module))
    if known is not None and single:
        _close_loop(b, known, x.node, feedback)
    elif feedback:
        raise Refusal(DELAYED)
    if known is not None and (not single or b.inputs[known] != (x.node,)):
        raise Refusal(
            f"is called on {b.layers[b.inputs[known][0]].label} and on {b.layers[x.node].label}; one neuron "
            "layer keeps one state, and every step must run the same layers: make one neuron module per layer"
        )
    call = 0 if known is None else b.calls[known]
    if single and x.time not in (STATIC, at_step(call)):
        raise Refusal(f"gets {x.time} in its call number {call + 1}; step t of the input belongs to call t")
    made = lambda **at: NeuronLayer(soma=soma, **at)  # noqa: E731
    name = known or b.add_layer(op, ("neuron", id(module)), [x.node], made)
    b.neurons[id(module)] = name
    if not single:
        return Value(name, at_step(0) if folded else AXIS, x.axes)
    b.calls[name] = call + 1
    return Value(name, at_step(call), x.axes)
