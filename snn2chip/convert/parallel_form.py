"""Parallel neurons in either of their forms, after training: one graded step, or T sorted binary spikes.

    graded   k = number of x in 1..T with I >= theta_x            one step, payload k*u, T thresholds per channel
    spikes   s(x) = 1[ sum_t I(t) >= T*theta_x ]                  T steps, payload T*u, window of ones, first k fire

theta_x = (x*theta - psi - bias)/gain of a stateless neuron of T levels (QCFS: psi = theta/2). All neurons must have the
same T. The readers' currents over T steps sum up to T times the graded one, so that both send the same counts; the
thresholds are rounded up to whole numbers of the same currents, so that the integers do, too.
Source: Hao et al. ICML 2025 (arXiv 2412.13610), equations of the fused matrix.
"""

from __future__ import annotations

import attrs
import torch
from torch import Tensor

from snn2chip.errors import UnsupportedError
from snn2chip.ir.graph import LayerGraph, Note
from snn2chip.ir.layers import FloatSoma, Layer
from snn2chip.ir.neuron_layer import NeuronLayer

PASSED_ON = ("relay",)


def parallel_form(graph: LayerGraph, *, form: str) -> LayerGraph:
    """Return the graph (normal form) whose neurons are all graded steps, or all trains of spikes.

    Raises UnsupportedError that lists every neuron that is not parallel, has another T, or a frame per step.
    """
    levels, breaches = _levels(graph)
    if breaches:
        raise UnsupportedError(breaches)
    steps = 1 if form == "graded" else levels
    layers: list[Layer] = []
    for layer in graph.layers:
        if isinstance(layer, NeuronLayer):
            relay = layer.soma.fire in PASSED_ON
            soma = attrs.evolve(layer.soma, steps=steps) if relay else _soma(layer.soma, levels, form)
            layers.append(attrs.evolve(layer, soma=soma))
        else:
            layers.append(layer)
    text = f"parallel neurons of T = {levels} as " + ("one graded step" if form == "graded" else "sorted spikes")
    note = Note(by="parallel-form", layer=graph.output.name, text=text)
    return attrs.evolve(graph, layers=tuple(layers), steps=steps, notes=(*graph.notes, note))


def _levels(graph: LayerGraph) -> tuple[int, list[str]]:
    """T of all neurons, and what is in the way."""
    found: dict[str, int] = {}
    bad: list[str] = []
    for layer in graph.of_kind("neuron"):
        assert isinstance(layer, NeuronLayer)
        if layer.soma.fire in PASSED_ON:
            continue
        count = _count(layer.soma)
        if count is None:
            bad.append(
                f"{layer.label}: a {layer.soma.method or layer.soma.fire} neuron is neither one graded step without "
                "memory (QCFS, parallel) nor T sorted spikes; convert with --method parallel, or leave `parallel` out"
            )
        else:
            found[layer.label] = count
    if len(set(found.values())) > 1:
        bad.append("parallel neurons need one T: " + ", ".join(f"{k} has {v}" for k, v in found.items()))
    if graph.steps > 1 and graph.input.layout not in ("B", "FB", "BF"):
        bad.append(f"{graph.input.label}: takes a frame per step; parallel neurons need one frame per sample")
    if graph.steps > 1 and graph.output.reduce not in ("mean",):
        bad.append(f"{graph.output.label}: reads {graph.output.reduce}, not the mean over the steps")
    if not found and not bad:
        bad.append("the network has no parallel neuron")
    return next(iter(found.values()), 1), bad


def _count(soma: FloatSoma) -> int | None:
    """T of a parallel neuron, or None for any other."""
    if soma.steps == 1 and soma.window is None and soma.fire in ("levels", "ladder"):
        return soma.levels  # one step from its start: whatever the reset, nothing is kept
    ones = soma.window is not None and bool((soma.window == 1).all())
    spikes = soma.fire == "levels" and soma.levels == 1 and soma.reset == "drop" and ones
    flat = bool((soma.gain == soma.gain.reshape(-1)[:1]).all()) or soma.gain.dim() < 2
    return soma.steps if spikes and flat and not bool((soma.v_init != 0).any()) else None


def _thresholds(soma: FloatSoma, levels: int) -> Tensor:
    """What gain*I of one graded step must reach, `[T, C or 1]` float64, not decreasing."""
    shift = _row(soma.bias) + _row(soma.v_init)
    if soma.fire == "ladder":
        assert soma.ladder is not None
        return soma.ladder.double() - shift
    if soma.steps == 1:
        at = torch.arange(1, levels + 1, dtype=torch.float64, device=soma.theta.device)
        return at[:, None] * _row(soma.theta) - shift
    rows = soma.theta.double()
    rows = rows.reshape(1, -1) if rows.dim() < 2 else rows
    lowest: Tensor = ((rows - soma.bias.double()) / levels).sort(0).values  # the order of the spikes does not matter
    return lowest.expand(levels, lowest.shape[1])


def _soma(soma: FloatSoma, levels: int, form: str) -> FloatSoma:
    rows = _thresholds(soma, levels)
    graded = soma.steps == 1 and soma.window is None
    unit = soma.unit.double() if graded else soma.unit.double() / levels
    if form == "graded":
        return FloatSoma(
            steps=1,
            theta=rows[-1].mean(),
            unit=unit,
            levels=levels,
            fire="ladder",
            ladder=rows,
            reset="drop",
            gain=soma.gain,
            method="parallel",
        )
    return FloatSoma(
        steps=levels,
        theta=levels * rows,
        unit=levels * unit,
        reset="drop",
        gain=soma.gain,
        window=torch.ones(levels, levels, dtype=torch.float64, device=rows.device),
        method="parallel",
    )


def _row(value: Tensor) -> Tensor:
    return value.double().reshape(1, -1)
