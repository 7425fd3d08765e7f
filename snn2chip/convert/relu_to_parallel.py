"""QCFS or ReLU networks to parallel spiking neurons, training-free.

    ReLU -> ClipReLU        theta_c = largest current of the channel on the calibration set
         -> DA-QCFS         T levels, psi_c and phi_c calibrated against the source, layer by layer
         -> parallel neuron theta_c compared with, psi = theta_c/2 + T*psi_c added, payload theta_c + phi_c

A QCFS source with T = T~ needs no data and is lossless: every spike count is the QCFS level.

    form      steps  levels  what it is
    graded    1      T       one graded step on the mean current, stateless
    ladder    1      T       the same with T thresholds of its own per channel (exact on integers)
    steps     T      1       T sorted binary spikes behind a window of ones
Source: Hao et al. ICML 2025 (arXiv 2412.13610).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args

import attrs
import torch
from torch import Tensor, nn

from snn2chip.convert.activations import exchange, find, source_graph
from snn2chip.convert.parallel_calibration import DAQCFS, Calibration, batches, calibrate, relu_ranges, run_layers
from snn2chip.convert.qcfs_to_if import check_positive
from snn2chip.errors import InputError
from snn2chip.ir.graph import LayerGraph, Note
from snn2chip.ir.layers import FloatSoma
from snn2chip.nn.base import check_choice
from snn2chip.nn.parallel import Order, binary_steps, graded_step

Form = Literal["graded", "ladder", "steps"]


def to_parallel(
    model: nn.Module | LayerGraph,
    sample: Tensor | None = None,
    *,
    steps: int,
    data: Tensor | Iterable[Any] | None = None,
    form: Form = "graded",
    order: Order = "first",
    calibration: Calibration | None = None,
    quantile: float = 1.0,
    eps: float = 1e-3,
) -> LayerGraph:
    """Return the graph with parallel spiking neurons of T = `steps` for every ReLU and QCFS.

    `data` are calibration inputs: a tensor `[N,...]`, or batches (with labels or without); needed for ReLU and for a
    QCFS whose levels differ from T. Raises InputError without them, UnsupportedError naming other activations.
    """
    check_choice("to_parallel", form=(form, get_args(Form)), order=(order, get_args(Order)))
    if steps < 1:
        raise InputError(f"steps={steps}: expected an integer >= 1")
    graph = source_graph(model, sample)
    constants = da_qcfs(graph, steps=steps, data=data, calibration=calibration, quantile=quantile, eps=eps)
    options = Calibration() if calibration is None else calibration
    made = build(graph, constants, form=form, order=order)
    calibrated = any(c.phi.dim() for c in constants.values())
    text = f"calibrated, phi by {options.phi}, momentum {options.momentum:g}" if calibrated else "no calibration"
    note = Note(by="to-parallel", layer=made.output.name, text=f"T = {steps}, {text}")
    return attrs.evolve(made, notes=(*made.notes, note))


def build(
    graph: LayerGraph, constants: Mapping[str, DAQCFS], *, form: Form = "graded", order: Order = "first"
) -> LayerGraph:
    """Return the graph of parallel neurons with known constants, by layer name (such as stored ones)."""
    somas = {name: to_soma(c, form=form, order=order) for name, c in constants.items()}
    steps = max(c.steps for c in constants.values()) if form == "steps" else 1
    return exchange(graph, somas, steps=steps, by="to-parallel")


def da_qcfs(
    graph: LayerGraph,
    *,
    steps: int,
    data: Tensor | Iterable[Any] | None = None,
    calibration: Calibration | None = None,
    quantile: float = 1.0,
    eps: float = 1e-3,
) -> dict[str, DAQCFS]:
    """Return the DA-QCFS constants of every activation for T = `steps`, by layer name."""
    found = find(graph)
    check_positive(graph)
    needy = [a for a in found if a.kind == "relu" or a.levels != steps]
    if needy and data is None:
        raise InputError(
            [
                f"{a.layer.label}: "
                + ("a ReLU" if a.kind == "relu" else f"QCFS with {a.levels} levels in T = {steps} steps")
                + " needs calibration data; give data="
                for a in needy
            ]
        )
    theta: dict[str, Tensor] = {a.name: a.vth for a in found if a.vth is not None}
    if not needy:
        zero = {name: torch.zeros_like(value) for name, value in theta.items()}
        return {n: DAQCFS(theta=v, psi=zero[n], phi=zero[n], steps=steps) for n, v in theta.items()}
    assert data is not None
    parts = batches(data)
    if any(a.kind == "relu" for a in found):
        theta |= relu_ranges(graph, parts, quantile=quantile, eps=eps)
    return calibrate(graph, parts, steps=steps, theta=theta, options=calibration)


def to_soma(constants: DAQCFS, *, form: Form = "graded", order: Order = "first") -> FloatSoma:
    """Return the parallel neuron of DA-QCFS constants: psi = theta/2 + T*psi_c, payload theta + phi."""
    theta, steps = constants.theta, constants.steps
    unit = theta + constants.phi
    psi = theta / 2 + steps * constants.psi
    if form == "steps":
        return binary_steps(theta, psi=psi, unit=unit, steps=steps, order=order)
    return graded_step(theta, psi=psi, unit=unit, levels=steps, ladder=form == "ladder")


def da_qcfs_network(graph: LayerGraph, constants: Mapping[str, DAQCFS], x: Tensor) -> Tensor:
    """Return the output of the ANN whose activations are DA-QCFS, for inputs `[B,...]`: the teacher of the SNN."""
    return run_layers(graph, x, lambda name, z: constants[name].apply(z))
