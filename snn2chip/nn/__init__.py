"""Trainable neurons, quantised layers and time helpers on `[T,B,...]`; imported on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snn2chip.nn.base import Neuron
    from snn2chip.nn.binary import BinaryConv2d, BinaryLinear, TernaryConv2d, TernaryLinear
    from snn2chip.nn.empf import EMPF, EMPFParallel
    from snn2chip.nn.encode import Repeat, Seq, TimeFold, TimeMean
    from snn2chip.nn.intweight import IntConv2d, IntLinear
    from snn2chip.nn.lif import IF, LIF
    from snn2chip.nn.memnorm import EMPFNorm
    from snn2chip.nn.multilevel import LMHT, MHT
    from snn2chip.nn.parallel import ParallelNeuron
    from snn2chip.nn.payload import PayloadGrid
    from snn2chip.nn.qat import IntegerGrid, quantize_neurons, quantize_weights
    from snn2chip.nn.qcfs import QCFS
    from snn2chip.nn.quantized import QuantizedConv2d, QuantizedLinear, QuantizedWeight
    from snn2chip.nn.recurrent import Recurrent
    from snn2chip.nn.registry import NEURONS, make_neuron
    from snn2chip.nn.seca import SECA

_HOME = {
    "Neuron": "base",
    "BinaryConv2d": "binary",
    "BinaryLinear": "binary",
    "TernaryConv2d": "binary",
    "TernaryLinear": "binary",
    "EMPF": "empf",
    "EMPFParallel": "empf",
    "Repeat": "encode",
    "Seq": "encode",
    "TimeFold": "encode",
    "TimeMean": "encode",
    "IntConv2d": "intweight",
    "IntLinear": "intweight",
    "IF": "lif",
    "LIF": "lif",
    "EMPFNorm": "memnorm",
    "LMHT": "multilevel",
    "MHT": "multilevel",
    "ParallelNeuron": "parallel",
    "PayloadGrid": "payload",
    "IntegerGrid": "qat",
    "quantize_neurons": "qat",
    "quantize_weights": "qat",
    "QCFS": "qcfs",
    "QuantizedConv2d": "quantized",
    "QuantizedLinear": "quantized",
    "QuantizedWeight": "quantized",
    "Recurrent": "recurrent",
    "NEURONS": "registry",
    "make_neuron": "registry",
    "SECA": "seca",
}

__all__ = [
    "EMPF",
    "IF",
    "LIF",
    "LMHT",
    "MHT",
    "NEURONS",
    "QCFS",
    "SECA",
    "BinaryConv2d",
    "BinaryLinear",
    "EMPFNorm",
    "EMPFParallel",
    "IntConv2d",
    "IntLinear",
    "IntegerGrid",
    "Neuron",
    "ParallelNeuron",
    "PayloadGrid",
    "QuantizedConv2d",
    "QuantizedLinear",
    "QuantizedWeight",
    "Recurrent",
    "Repeat",
    "Seq",
    "TernaryConv2d",
    "TernaryLinear",
    "TimeFold",
    "TimeMean",
    "make_neuron",
    "quantize_neurons",
    "quantize_weights",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
