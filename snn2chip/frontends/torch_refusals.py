"""What the recorder's graph cannot express, and what the user should write instead."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType


class Refusal(Exception):
    """A recorded operation that the graph cannot express; the text says what is wrong and what to do."""


UNKNOWN = (
    "has no integer form; use linear, conv2d, average pooling, batch norm, additions, flatten and the neurons "
    "of snn2chip.nn"
)
_NEURON = (
    "looks like a neuron written by hand; use one of snn2chip.nn, or derive from snn2chip.nn.Neuron and say how "
    "it becomes a soma"
)
_NOT_SPIKING = "is not a spiking neuron; use a neuron of snn2chip.nn such as QCFS or MHT"
_MAX = "picks a maximum, which is not a sum of spikes; use average pooling, or max_pool2d over binary spikes"
_POOL = "has no integer form; use avg_pool2d"
_NORM = "normalises with statistics of the sample itself; use BatchNorm, which is folded away"

ADVICE: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("gt", "ge", "lt", "le", "eq", "ne", "heaviside", "where", "sign", "sgn", "floor"), _NEURON),
        **dict.fromkeys(("round", "clamp", "clamp_", "clip", "minimum", "maximum", "masked_fill"), _NEURON),
        **dict.fromkeys(
            "sigmoid sigmoid_ tanh softmax log_softmax gelu silu elu leaky_relu hardtanh relu6 prelu softplus exp "  # noqa: SIM905
            "log sqrt pow abs".split(),
            _NOT_SPIKING,
        ),
        **dict.fromkeys(("max_pool3d", "max", "amax", "argmax", "topk"), _MAX),
        **dict.fromkeys(("avg_pool3d", "lp_pool2d"), _POOL),
        **dict.fromkeys(("layer_norm", "group_norm", "instance_norm", "normalize"), _NORM),
        "pad": "pads outside of a convolution; give the convolution itself the padding",
        **dict.fromkeys(
            ("flip", "fliplr", "flipud"),
            "turns an axis around; a chip takes one step after the other, so reverse steps in the samples, before the "
            "model, and features in the weights",
        ),
        **dict.fromkeys(("conv3d", "conv_transpose3d"), "has no integer form; use conv2d"),
        "split": "takes a tensor apart; use x[t] or unbind on the step axis",
        "chunk": "takes a tensor apart; use x[t] or unbind on the step axis",
    }
)
