"""The conversions by name, as the command line calls them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn

from snn2chip.convert.ic_snn import CORRECTED, to_ic_snn
from snn2chip.convert.qcfs_to_if import to_if
from snn2chip.convert.relu_to_parallel import to_parallel
from snn2chip.convert.reparameterise import collapse, serialise
from snn2chip.errors import InputError
from snn2chip.ir.graph import LayerGraph


def _parallel(model: nn.Module | LayerGraph, sample: Tensor | None, **args: Any) -> LayerGraph:
    return to_parallel(model, sample, **args)


def _qcfs(model: nn.Module | LayerGraph, sample: Tensor | None, *, data: Any = None, **args: Any) -> LayerGraph:
    return to_if(model, sample, **args)


def _ic_snn(model: nn.Module | LayerGraph, sample: Tensor | None, **args: Any) -> LayerGraph:
    from snn2chip.convert.activations import source_graph
    from snn2chip.passes import FoldBatchNorm, run_passes

    graph = run_passes(source_graph(model, sample), passes=(FoldBatchNorm(),), normal_form=False)
    args.setdefault("options", CORRECTED["C"])
    return to_ic_snn(graph, **args)


def _serial(model: nn.Module | LayerGraph, sample: Tensor | None, *, data: Any = None, **args: Any) -> LayerGraph:
    args.pop("steps", None)  # the source's own
    return serialise(model, sample, **args)


def _collapse(model: nn.Module | LayerGraph, sample: Tensor | None, *, data: Any = None, **args: Any) -> LayerGraph:
    args.pop("steps", None)
    return collapse(model, sample, **args)


METHODS: dict[str, Callable[..., LayerGraph]] = {
    "parallel": _parallel,
    "qcfs": _qcfs,
    "ic-snn": _ic_snn,
    "serialise": _serial,
    "collapse": _collapse,
}
"""Conversion by name: model or graph, sample, then the options of that conversion."""


def convert(
    model: nn.Module | LayerGraph,
    sample: Tensor | None = None,
    *,
    method: str,
    steps: int,
    data: Tensor | Iterable[Any] | None = None,
    **options: Any,
) -> LayerGraph:
    """Return the converted graph of a trained module (traced on `sample`) or graph, T = `steps`.

    method: parallel, qcfs, ic-snn, serialise, collapse; `data` are calibration inputs where the method takes them.
    Raises InputError that lists the known methods, and what each method raises.
    """
    if method not in METHODS:
        raise InputError(f"conversion {method!r} is unknown; known: {', '.join(METHODS)}")
    return METHODS[method](model, sample, steps=steps, data=data, **options)
