"""What a report says about the float model: fidelity, sensitivity to bits, cost beside the chips, footprint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from snn2chip.mapping.target import Target
from snn2chip.mapping.target_file import load_target
from snn2chip.reports.costs import BOTH
from snn2chip.reports.result import Report

if TYPE_CHECKING:
    from snn2chip.checks.fidelity import Fidelity
    from snn2chip.checks.float_model import FloatModel
    from snn2chip.ir.graph import LayerGraph

MODES = ("int8", "int4", "ternary", "binary")
"""Weight widths of the sensitivity."""


def with_fidelity(found: Report, measured: Fidelity) -> Report:
    """The report with what was measured against the float network."""
    accuracy = {"float": measured.float_accuracy, "integer": found.accuracy["integer"]}
    return attrs.evolve(found, accuracy=accuracy, agreement=measured.agreement, fidelity=measured.as_dict())


def with_sensitivity(
    found: Report, graph: LayerGraph, inputs: Any, *, labels: Any = None, time_axis: bool = False, samples: int = 32
) -> Report:
    """The report with what each layer's bits matter, on the first `samples` samples."""
    from snn2chip.checks.sensitivity import sensitivity

    x = one_array(inputs)
    part = x[:, :samples] if time_axis else x[:samples]
    if graph.input.frames is not None:  # a program takes [N, F, ...], its graph [F, N, ...]
        part, time_axis = np.moveaxis(part, 1, 0), True
    y = None if labels is None else np.asarray(labels)[:samples]
    rows = sensitivity(graph, part, modes=MODES, labels=y, time_axis=time_axis)
    return attrs.evolve(found, sensitivity=tuple(rows))


def with_float_model(
    found: Report,
    model: FloatModel,
    inputs: Any,
    *,
    chips: Sequence[Target | str | Path] = (),
    time_axis: bool = False,
    device: str | None = None,
    board_power: float | None = None,
) -> Report:
    """The report with the float model's cost beside the chips', and its footprint in NeuroBench's figures."""
    from snn2chip.reports.float_cost import float_cost
    from snn2chip.reports.versus import versus

    if found.neurobench is not None:
        found = attrs.evolve(found, neurobench={**found.neurobench, "FootprintFloatModel": model.footprint})
    if found.costs is None:
        return found
    known = [t if isinstance(t, Target) else load_target(t) for t in chips or BOTH]
    operations = {n: m for chip in known for n, m in chip.energies.items() if m.kind == "operations"}
    cost = float_cost(
        model,
        one_array(inputs),
        arithmetic=operations.values(),
        time_axis=time_axis,
        device=device,
        board_power=board_power,
    )
    return attrs.evolve(found, versus=versus(found, cost))


def with_several_inputs(found: Report) -> Report:
    """The report with a note on what it leaves out."""
    text = "the program has several inputs: its float model is not timed, and no layer's sensitivity is measured"
    return attrs.evolve(found, notes=(*found.notes, text))


def one_array(inputs: Any) -> Any:
    """Samples of the only input, as an array."""
    if isinstance(inputs, Mapping):
        (inputs,) = inputs.values()
    return np.asarray(inputs.detach().cpu().numpy() if hasattr(inputs, "detach") else inputs)
