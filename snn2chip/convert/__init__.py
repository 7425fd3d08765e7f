"""From trained float networks to spiking ones by rule; imported on first use.

to_parallel   ReLU or QCFS -> parallel spiking neuron      to_if        QCFS -> IF, multi-level, uniform LM-HT
to_ic_snn     ReLU -> IF with initial potentials           to_hybrid    QCFS module -> LM-HT module, to fine-tune
serialise     L levels, T steps -> one level, L*T steps    collapse     uniform LM-HT -> one graded step
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snn2chip.convert.activations import GraphNet
    from snn2chip.convert.files import Converted, convert_checkpoint
    from snn2chip.convert.hybrid import to_hybrid
    from snn2chip.convert.ic_search import search_pool
    from snn2chip.convert.ic_snn import ICOptions, to_ic_snn
    from snn2chip.convert.methods import METHODS, convert
    from snn2chip.convert.parallel_calibration import DAQCFS, Calibration
    from snn2chip.convert.qcfs_to_if import to_if
    from snn2chip.convert.relu_to_parallel import to_parallel
    from snn2chip.convert.reparameterise import collapse, serialise
    from snn2chip.convert.spike_code import direct_code, rate_code
    from snn2chip.convert.threshold_balance import Pool, balance, search

_HOME = {
    "GraphNet": "activations",
    "Converted": "files",
    "convert_checkpoint": "files",
    "to_hybrid": "hybrid",
    "search_pool": "ic_search",
    "ICOptions": "ic_snn",
    "to_ic_snn": "ic_snn",
    "METHODS": "methods",
    "convert": "methods",
    "DAQCFS": "parallel_calibration",
    "Calibration": "parallel_calibration",
    "to_if": "qcfs_to_if",
    "direct_code": "spike_code",
    "rate_code": "spike_code",
    "to_parallel": "relu_to_parallel",
    "collapse": "reparameterise",
    "serialise": "reparameterise",
    "Pool": "threshold_balance",
    "balance": "threshold_balance",
    "search": "threshold_balance",
}

__all__ = [
    "DAQCFS",
    "METHODS",
    "Calibration",
    "Converted",
    "GraphNet",
    "ICOptions",
    "Pool",
    "balance",
    "collapse",
    "convert",
    "convert_checkpoint",
    "direct_code",
    "rate_code",
    "search",
    "search_pool",
    "serialise",
    "to_hybrid",
    "to_ic_snn",
    "to_if",
    "to_parallel",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
