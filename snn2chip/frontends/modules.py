"""Modules built with snnTorch, SpikingJelly, norse or sinabs as float graphs, through the framework's own NIR export.

Exporters lose what they do not see (additions in a forward, options of neurons), so the graph is run beside the model:
another output, on any sample and step, refuses it. Nothing of a framework is imported unless the model uses it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor, nn

from snn2chip.errors import InputError, Snn2ChipError, TraceError
from snn2chip.frontends.modules_of import ADAPTERS, Adapter
from snn2chip.frontends.nir import import_nir
from snn2chip.frontends.nir_file import NirGraph, NirNode
from snn2chip.ir.graph import LayerGraph, Note

MOST_DIFFERENT = 1e-3
"""Share of output values that may differ: float32 on both sides, and ties are rare."""
SLAYER = "lava"
ADVICE = (
    "its exporter loses additions and functions of a forward, and options of neurons; build the network of modules "
    "alone, or of snn2chip.nn neurons"
)


def framework_of(model: Any) -> str | None:
    """The framework whose layers a module is built with: snntorch, spikingjelly, norse, sinabs, lava, or None."""
    if not isinstance(model, nn.Module):
        return None
    for module in model.modules():
        for kind in type(module).__mro__:
            root = kind.__module__.partition(".")[0]
            if root in ADAPTERS or (root == SLAYER and kind.__module__.startswith("lava.lib.dl.slayer")):
                return root
    return None


@torch.no_grad()
def module_graph(model: nn.Module, sample: Tensor, *, steps: int | None) -> LayerGraph:
    """Return the float graph of a module of another framework, checked against the module on `sample` `[B, ...]`.

    Raises InputError without `steps`, TraceError where the framework cannot export it or exports another network.
    """
    name = framework_of(model)
    assert name is not None
    if steps is None:
        raise InputError(f"a module of {name} has no number of steps; pass steps=T")
    if not isinstance(sample, Tensor) or not sample.is_floating_point() or sample.dim() < 2:
        raise InputError("the sample is a float tensor [B, ...], the input of one step")
    adapter = ADAPTERS[name]
    net = copy.deepcopy(model).eval()
    try:
        want = adapter.run(net, sample, steps)
        adapter.settle(net, sample)
        options, refused = adapter.conventions(net)
        if refused:
            raise TraceError([f"{name}: {text}" for text in refused])
        made = adapter.export(net, sample)
    except Snn2ChipError:
        raise
    except (Exception, SystemExit) as error:  # anything of theirs: the message says whose it is
        raise TraceError(f"{name} cannot export the model: {type(error).__name__}: {error}") from error
    records = plain(made, shape=tuple(sample.shape[1:]))
    try:
        graph = import_nir(records, profile=adapter.profile(), steps=steps, options=options)
    except InputError as error:
        raise TraceError([f"{name} exports another network: {text}; {ADVICE}" for text in error.breaches]) from error
    return _checked(graph, sample, want, name)


def plain(graph: Any, *, shape: tuple[int, ...]) -> NirGraph:
    """A graph of the nir package as our records; an input without a type gets `shape`."""
    return _converted(graph.to_dict(), "", shape)


def _converted(fields: Mapping[str, Any], name: str, shape: tuple[int, ...]) -> NirGraph:
    nodes: dict[str, NirNode | NirGraph] = {}
    for key, inner in fields["nodes"].items():
        path = f"{name}.{key}" if name else key
        if inner["type"] == "NIRGraph":
            nodes[key] = _converted(inner, path, shape)
            continue
        values = {k: _value(v) for k, v in inner.items() if k not in ("type", "metadata") and v is not None}
        if inner["type"] == "Input" and not name:
            values = {"shape": np.array(shape)}
        if inner["type"] == "Output":
            values = {}
        nodes[key] = NirNode(name=path, kind=inner["type"], fields=values)
    edges = tuple((str(a), str(b)) for a, b in fields["edges"])
    return NirGraph(name=name, nodes=nodes, edges=edges, metadata={})


def _value(value: Any) -> Any:
    if isinstance(value, str):
        return value
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)


def _checked(graph: LayerGraph, sample: Tensor, want: Tensor, name: str) -> LayerGraph:
    """The graph with a note; TraceError if its output is not the module's."""
    steps = attrs.evolve(graph.output, reduce="steps")
    got = graph.with_layers(steps).run(sample).output
    if got.numel() != want.numel():
        raise TraceError(f"{name} exports a network that gives {list(got.shape)}, the module {list(want.shape)}")
    want = want.reshape(got.shape).to(got)
    differs = float(((got - want).abs() > 1e-4 * (1 + want.abs())).float().mean())
    if differs > MOST_DIFFERENT:
        raise TraceError(
            f"{name} exports another network: {100 * differs:.3g} % of the output's values differ from the module's; "
            + ADVICE
        )
    text = f"through the NIR export of {name}, checked on {len(sample)} samples and {graph.steps} steps"
    rate = Note(
        by="modules", layer=graph.output.name, text="mean value of the output", value=float(want.float().mean())
    )
    return attrs.evolve(graph, notes=(*graph.notes, Note(by="modules", layer="", text=text, value=differs), rate))


__all__ = ["Adapter", "framework_of", "module_graph", "plain"]
