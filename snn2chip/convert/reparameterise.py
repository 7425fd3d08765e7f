"""M-HT and LM-HT networks of L levels and T steps as one-level networks of L*T steps, or as one graded step.

For window t = 1..T with the sub-steps j = L*(t-1)+1 .. L*t, and k likewise of window i:

    form A    Omega'[j,k] = Omega[t,i]/L,                              leak at j = L*(t-1)+1, else 1
    form B    Omega'[j,k] = Omega[t,i] at j = L*(t-1)+1, else 0        (front-loaded: a window's current at once)
    both      every bias and BN shift / L, input / L, one level, theta and v(0) unchanged
              => mean logits over L*T = (mean logits over T)/L, argmax unchanged

Form B gives the counts of the source window by window, always. Form A does as long as no neuron meets, with
u = leak*v, (u < 0 and I > L*theta) or (u >= theta and I < 0). Both need linear layers between neurons.

    collapse  Omega = 1/T and leak = 1 everywhere: one graded step of L*T levels on the mean current, theta/T, v(0)/T:
              k = clip(floor((v0 + sum_t I(t))/theta), 0, L*T); logits unchanged
Source: Hao et al. NeurIPS 2024 (arXiv 2402.00411), Lemma 4.1 and section 4.4.
"""

from __future__ import annotations

from typing import Literal, get_args

import attrs
import torch
from torch import Tensor, nn

from snn2chip.convert.activations import source_graph
from snn2chip.errors import InputError, UnsupportedError
from snn2chip.ir.channel_layers import BatchNormLayer, ScaleLayer
from snn2chip.ir.graph import LayerGraph, Note
from snn2chip.ir.layers import FloatSoma, InputLayer, Layer, OutputLayer
from snn2chip.ir.linear_layers import AffineLayer
from snn2chip.ir.neuron_layer import NeuronLayer
from snn2chip.nn.base import check_choice

SerialForm = Literal["A", "B"]


def serialise(model: nn.Module | LayerGraph, sample: Tensor | None = None, *, form: SerialForm = "B") -> LayerGraph:
    """Return the one-level graph of L*T steps; all neurons must have the same number of levels L.

    Frames per step are given L times each (`substeps`). Raises UnsupportedError that lists every neuron in the way.
    """
    check_choice("serialise", form=(form, get_args(SerialForm)))
    graph = source_graph(model, sample)
    neurons = _neurons(graph)
    levels = neurons[0].soma.levels
    if odd := [n for n in neurons if n.soma.levels != levels]:
        raise UnsupportedError([f"{n.label}: {n.soma.levels} levels, {neurons[0].label} has {levels}" for n in odd])
    steps = graph.steps * levels
    layers: list[Layer] = []
    for layer in graph.layers:
        if isinstance(layer, NeuronLayer):
            layers.append(attrs.evolve(layer, soma=_serial(layer.soma, form=form)))
        elif isinstance(layer, OutputLayer):
            if layer.reduce not in ("mean", "sum"):
                raise UnsupportedError(f"{layer.label}: reads {layer.reduce}; only a mean or sum over steps survives")
            layers.append(layer)
        else:
            layers.append(scaled_shift(layer, 1 / levels))
    made = attrs.evolve(graph, layers=tuple(layers), steps=steps)
    made = _scaled_input(made, 1 / levels)
    text = f"{graph.steps} steps of {levels} levels became {steps} of one, form {form}; logits / {levels}"
    return attrs.evolve(made, notes=(*graph.notes, Note(by="serialise", layer="output", text=text)))


def collapse(model: nn.Module | LayerGraph, sample: Tensor | None = None, *, tolerance: float = 1e-6) -> LayerGraph:
    """Return the graph of one graded step with L*T levels; needs Omega = 1/T and leak 1 in every neuron.

    With T = 1 the window may be missing. Raises UnsupportedError that lists every neuron that has another window or
    leak (deviations up to `tolerance` count as none), or an output that is no mean or sum.
    """
    graph = source_graph(model, sample)
    steps, breaches = graph.steps, []
    layers: list[Layer] = []
    for layer in graph.layers:
        if isinstance(layer, NeuronLayer):
            breaches += _uniform_breaches(layer, tolerance)
        if isinstance(layer, OutputLayer) and layer.reduce not in ("mean", "sum"):
            breaches.append(f"{layer.label}: reads {layer.reduce}; only a mean or sum over steps survives")
    if breaches:
        raise UnsupportedError(breaches)
    _neurons(graph)
    for layer in graph.layers:
        if isinstance(layer, NeuronLayer):
            soma = layer.soma
            layer = attrs.evolve(
                layer,
                soma=attrs.evolve(
                    soma,
                    steps=1,
                    levels=soma.levels * steps,
                    theta=soma.theta / steps,
                    unit=soma.unit / steps,
                    v_init=soma.v_init / steps,
                    window=None,
                    leak=torch.ones_like(soma.theta),
                ),
            )
        layers.append(layer)
    made = attrs.evolve(graph, layers=tuple(layers), steps=1)
    if graph.output.reduce == "sum" and steps > 1:
        raise UnsupportedError(f"{graph.output.label}: sums {steps} steps; return their mean")
    text = f"{steps} uniformly mixed steps became one graded step"
    return attrs.evolve(made, notes=(*graph.notes, Note(by="collapse", layer="output", text=text)))


def substeps(x: Tensor, *, levels: int) -> Tensor:
    """Return frames `[T,B,...]` as `[L*T,B,...]`, every frame L times: the input of a serialised graph."""
    return x.repeat_interleave(levels, dim=0)


def unsafe(u: Tensor, current: Tensor, *, theta: float, levels: int) -> Tensor:
    """Return where form A may differ: (u < 0 and I > L*theta) or (u >= theta and I < 0), u = leak*v(t-1)."""
    return ((u < 0) & (current > levels * theta)) | ((u >= theta) & (current < 0))


@torch.no_grad()
def unsafe_counts(graph: LayerGraph, x: Tensor) -> dict[str, int]:
    """Return how many (neuron, step) pairs of the source graph meet the set in which form A may differ, by layer."""
    run = graph.run(x, collect=True)
    found = {}
    for layer in _neurons(graph):
        before, after = run.before[layer.name], run.after[layer.name]
        start = layer.soma.v_init.to(after).expand(after[:1].shape)
        u = torch.cat([start, after[:-1]]) * layer.soma.leak.to(after)
        theta = float(layer.soma.theta)
        found[layer.name] = int(unsafe(u, before - u, theta=theta, levels=layer.soma.levels).sum())
    return found


def scaled_shift(layer: Layer, factor: float) -> Layer:
    """Return a float layer with its shift times `factor`: bias, BN beta and running mean, the shift of a scale."""
    if isinstance(layer, AffineLayer) and layer.bias is not None:
        return attrs.evolve(layer, bias=layer.bias * factor)
    if isinstance(layer, BatchNormLayer):
        beta = None if layer.beta is None else layer.beta * factor
        return attrs.evolve(layer, mean=layer.mean * factor, beta=beta)
    if isinstance(layer, ScaleLayer) and layer.shift is not None:
        return attrs.evolve(layer, shift=layer.shift * factor)
    return layer


def _scaled_input(graph: LayerGraph, factor: float) -> LayerGraph:
    """Put a factor behind the input; an input that normalises is divided through its std."""
    x = graph.input
    name = _fresh(graph, "substep_scale")
    scale = ScaleLayer(name=name, factor=torch.tensor(factor, dtype=torch.float64))
    inputs = {k: tuple(name if s == x.name else s for s in v) for k, v in graph.inputs.items()}
    layers = [
        part for layer in graph.layers for part in ((layer, scale) if isinstance(layer, InputLayer) else (layer,))
    ]
    return attrs.evolve(graph, layers=tuple(layers), inputs={**inputs, name: (x.name,)})


def _fresh(graph: LayerGraph, wanted: str) -> str:
    names, number = {layer.name for layer in graph.layers}, 1
    while f"{wanted}{number}" in names:
        number += 1
    return f"{wanted}{number}"


def _neurons(graph: LayerGraph) -> list[NeuronLayer]:
    """Return the neurons; UnsupportedError that lists every one that is not multi-level with soft reset."""
    found = [layer for layer in graph.layers if isinstance(layer, NeuronLayer)]
    bad = []
    for layer in found:
        s = layer.soma
        if s.fire != "levels" or s.reset != "subtract" or bool((s.bias != 0).any()) or bool((s.gain != 1).any()):
            bad.append(f"{layer.label}: needs level firing with soft reset, no gain and no bias of its own")
        elif s.theta.numel() != 1 or s.leak.numel() != 1:
            bad.append(f"{layer.label}: needs one threshold and one leak for the layer")
    bad += [f"{layer.label}: a ReLU, convert it first" for layer in graph.of_kind("relu")]
    if bad:
        raise UnsupportedError(bad)
    if not found:
        raise InputError("the network has no neurons")
    return found


def _serial(soma: FloatSoma, *, form: SerialForm) -> FloatSoma:
    steps, levels = soma.steps, soma.levels
    omega = torch.eye(steps).to(soma.theta) if soma.window is None else soma.window.to(soma.theta)
    block = torch.ones(levels, levels).to(omega) / levels
    if form == "B":
        block = torch.zeros_like(block)
        block[0] = 1
    leak = torch.ones(steps * levels, 1).to(omega)
    leak[::levels] = soma.leak.to(leak)
    return attrs.evolve(soma, steps=steps * levels, levels=1, window=torch.kron(omega, block), leak=leak)


def _uniform_breaches(layer: NeuronLayer, tolerance: float) -> list[str]:
    soma, steps = layer.soma, layer.soma.steps
    breaches = []
    if steps > 1:
        off = 1.0 if soma.window is None else float((soma.window - 1 / steps).abs().max())
        if off > tolerance:
            what = "no window" if soma.window is None else f"a window off by {off:.3g} from 1/{steps}"
            breaches.append(f"{layer.label}: {what}; only uniform mixing collapses into one step")
        if bool(((soma.leak - 1).abs() > tolerance).any()):
            breaches.append(f"{layer.label}: leak {float(soma.leak.max()):g}; only leak 1 collapses into one step")
    return breaches
