"""The conversions by name with plain options, as the command line calls them; see `snn2chip.convert.options`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs
from torch import Tensor, nn

from snn2chip.convert.activations import source_graph
from snn2chip.convert.ic_search import search_pool
from snn2chip.convert.ic_snn import PRINTED, ICOptions, to_ic_snn
from snn2chip.convert.options import check_options
from snn2chip.convert.parallel_calibration import Calibration
from snn2chip.convert.qcfs_to_if import to_if
from snn2chip.convert.relu_to_parallel import to_parallel
from snn2chip.convert.reparameterise import collapse, serialise
from snn2chip.convert.threshold_balance import Pool, block_units, layer_units
from snn2chip.errors import InputError
from snn2chip.ir.graph import LayerGraph, Note

Data = Tensor | Iterable[Any] | None
Given = Mapping[str, Any]


def _parallel(graph: LayerGraph, *, steps: int | None, data: Data, labels: Any, given: Given) -> LayerGraph:
    assert steps is not None
    own = {key: given[key] for key in ("phi", "momentum", "passes", "fc") if key in given}
    rest = {key: value for key, value in given.items() if key not in own}
    return to_parallel(graph, steps=steps, data=data, calibration=Calibration(**own), **rest)


def _qcfs(graph: LayerGraph, *, steps: int | None, data: Data, labels: Any, given: Given) -> LayerGraph:
    assert steps is not None
    return to_if(graph, steps=steps, **given)


def _ic_snn(graph: LayerGraph, *, steps: int | None, data: Data, labels: Any, given: Given) -> LayerGraph:
    from snn2chip.passes import FoldBatchNorm, run_passes

    assert steps is not None
    if data is None:
        raise InputError("ic-snn balances thresholds on data; give data=")
    graph = run_passes(graph, passes=(FoldBatchNorm(),), normal_form=False)
    parts = data if isinstance(data, Tensor) else list(data)
    options = PRINTED[given["printed"]] if "printed" in given else ICOptions()
    pool = Pool(**{key: given[key] for key in ("quantile", "zeros") if key in given})
    own = {key: given[key] for key in ("initial", "compensation", "residual", "strict") if key in given}
    options = attrs.evolve(options, pool=pool, **own)
    units = layer_units(graph) if given.get("units") == "layer" else block_units(graph)
    notes: tuple[Note, ...] = ()
    if given.get("search"):
        if taken := [key for key in ("quantile", "zeros") if key in given]:
            raise InputError(f"search finds the quantile itself; leave out {', '.join(taken)}")
        best, scores = search_pool(graph, steps=steps, data=parts, labels=labels, options=options, units=units)
        options = attrs.evolve(options, pool=best)
        text = f"{best} chosen among {len(scores)} by their answers on the calibration data"
        notes = (Note(by="ic-snn", layer=graph.output.name, text=text, value=scores[best]),)
    made = to_ic_snn(graph, steps=steps, data=parts, options=options, units=units)
    return attrs.evolve(made, notes=(*made.notes, *notes))


def _serial(graph: LayerGraph, *, steps: int | None, data: Data, labels: Any, given: Given) -> LayerGraph:
    return serialise(graph, **given)


def _collapse(graph: LayerGraph, *, steps: int | None, data: Data, labels: Any, given: Given) -> LayerGraph:
    return collapse(graph, **given)


METHODS: dict[str, Callable[..., LayerGraph]] = {
    "parallel": _parallel,
    "qcfs": _qcfs,
    "ic-snn": _ic_snn,
    "serialise": _serial,
    "collapse": _collapse,
}
"""Conversion by name: graph, T, calibration data and labels, options of that conversion."""


def convert(
    model: nn.Module | LayerGraph,
    sample: Tensor | None = None,
    *,
    method: str,
    steps: int | None = None,
    data: Data = None,
    labels: Any = None,
    **options: Any,
) -> LayerGraph:
    """Return the converted graph of a trained module (traced on `sample`) or graph, T = `steps`.

    method: parallel, qcfs, ic-snn; serialise and collapse, which keep the steps of their source. `data` are
    calibration inputs where the method takes them, `labels` their classes (for the search of a quantile).
    Raises InputError that lists the known methods and options, and what each method raises.
    """
    if method not in METHODS:
        hint = "; hybrid gives a module: snn2chip.convert.to_hybrid" if method == "hybrid" else ""
        raise InputError(f"conversion {method!r} is unknown; known: {', '.join(METHODS)}{hint}")
    if method in ("parallel", "qcfs", "ic-snn") and (steps is None or steps < 1):
        raise InputError(f"steps={steps}: expected an integer >= 1")
    check_options(method, options)
    graph = source_graph(model, sample)
    return METHODS[method](graph, steps=steps, data=data, labels=labels, given=options)
