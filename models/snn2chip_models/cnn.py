"""Small convolutional nets: conv - norm - neuron stages, one linear head, logits averaged over the steps.

    static images   [B,C,H,W]     stem conv + norm once, repeated T times
    event frames    [T,B,C,H,W]   every layer at every step
    neuron = a list of names      every stage has its own

The first convolution and the head keep full precision (8 bits among integer weights); the stages between have
weights of the kind asked for. Every argument is a JSON value, so that a checkpoint can store it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from snn2chip.errors import InputError
from snn2chip.nn.encode import Repeat, Seq, TimeMean
from snn2chip.nn.qat import quantize_neurons
from snn2chip_models.layers import activation, check_kind, conv2d, edge_kind, linear


class ConvNet(nn.Module):
    """Stages of 3x3 convolutions with the given channels and strides; returns logits `[B,classes]`.

    `neuron`, `L`, `T`, `neuron_args` choose the neuron (L None: its default; relu: an ordinary net on `[B,..]`, or on
    the mean of event frames), `weights` the weight kind,
    `pool` averages k x k before the head, `qat` runs the neurons on integers during training.
    """

    def __init__(
        self,
        *,
        input_shape: Sequence[int] = (1, 8, 8),
        channels: Sequence[int] = (16, 32, 32),
        strides: Sequence[int] = (1, 2, 1),
        pool: int = 2,
        classes: int = 10,
        weights: str = "binary",
        neuron: str | Sequence[str] = "lmht",
        L: int | None = None,
        T: int = 2,
        events: bool = False,
        neuron_args: Mapping[str, Any] | None = None,
        qat: bool = False,
    ) -> None:
        super().__init__()
        check_kind(weights, owner="ConvNet")
        size = _check_geometry(input_shape, channels, strides, pool)
        neurons = [neuron] * len(channels) if isinstance(neuron, str) else list(neuron)
        _check_neurons(neurons, stages=len(channels))
        edge = edge_kind(weights)
        layers: list[nn.Module] = [TimeMean()] if events and neurons[0] == "relu" else []
        inputs = input_shape[0]
        for index, (outputs, stride) in enumerate(zip(channels, strides, strict=True)):
            kind = edge if index == 0 else weights
            layers.append(conv2d(kind, inputs=inputs, outputs=outputs, stride=stride))
            layers.append(nn.BatchNorm2d(outputs))
            if index == 0 and not events and neurons[0] != "relu":
                layers.append(Repeat(T))
            layers.append(
                activation(neurons[index], steps=T, levels=L, channels=outputs, args=neuron_args or {}, owner="ConvNet")
            )
            inputs = outputs
        if pool > 1:
            layers.append(nn.AvgPool2d(pool))
        layers += [nn.Flatten(), linear(edge, inputs=inputs * size[0] * size[1], outputs=classes, bias=True)]
        self.layers = nn.Sequential(*layers) if neurons[0] == "relu" else Seq(*layers, TimeMean())
        if qat:
            quantize_neurons(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits `[B,classes]`, averaged over the steps."""
        logits: Tensor = self.layers(x)
        return logits


def _check_geometry(
    input_shape: Sequence[int], channels: Sequence[int], strides: Sequence[int], pool: int
) -> tuple[int, int]:
    breaches = []
    if len(input_shape) != 3:
        breaches.append(f"ConvNet: input_shape={list(input_shape)}, expected [C,H,W]")
    if not channels or len(channels) != len(strides):
        breaches.append(f"ConvNet: {len(channels)} channels and {len(strides)} strides; give one stride per stage")
    if breaches:
        raise InputError(breaches)
    height, width = input_shape[1], input_shape[2]
    for stride in strides:
        height, width = (height - 1) // stride + 1, (width - 1) // stride + 1
    if pool < 1 or height < pool or width < pool:
        raise InputError(f"ConvNet: pool={pool} does not fit the last {height} x {width} map")
    return height // pool, width // pool


def _check_neurons(names: Sequence[str], *, stages: int) -> None:
    """Raise InputError unless every stage has a neuron; a net of ReLU is one by its single name."""
    if len(names) != stages:
        raise InputError(f"ConvNet: {len(names)} neurons for {stages} stages; give one name, or one per stage")
    if "relu" in names and set(names) != {"relu"}:
        raise InputError(f"ConvNet: neuron={list(names)}; spiking stages and ReLU do not mix")


def digits_cnn(**args: Any) -> ConvNet:
    """Return the net for scikit-learn's 8 x 8 digits, input `[B,1,8,8]`."""
    return ConvNet(**args)


def mnist_cnn(**args: Any) -> ConvNet:
    """Return the net for 28 x 28 grey images, input `[B,1,28,28]`."""
    preset: dict[str, Any] = {
        "input_shape": (1, 28, 28),
        "channels": (16, 32, 32),
        "strides": (2, 2, 1),
        "pool": 1,
    }
    return ConvNet(**{**preset, **args})


def nmnist_cnn(**args: Any) -> ConvNet:
    """Return the net for N-MNIST frames, input `[T,B,2,34,34]`, T = 10."""
    preset: dict[str, Any] = {
        "input_shape": (2, 34, 34),
        "channels": (16, 32, 64),
        "strides": (2, 2, 2),
        "pool": 1,
        "T": 10,
        "events": True,
    }
    return ConvNet(**{**preset, **args})
