"""The whole road in one function: nn.Module -> graph -> passes -> integers, checked on calibration data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from snn2chip.errors import InputError, QuantizeError
from snn2chip.ir.program import Program

if TYPE_CHECKING:
    from snn2chip.ir.graph import LayerGraph

MAX_CALIBRATION = 256
TARGETS = ("loihi2", "loihi1", "ideal")


def compile(
    model: Any,
    sample: Any,
    *,
    calibration: Any = None,
    weights: str = "keep",
    overrides: Mapping[str, str] | None = None,
    target: str = "loihi2",
    steps: int | None = None,
    time_axis: bool | None = None,
    normalise: Mapping[str, Any] | None = None,
    meta: Mapping[str, Any] | None = None,
) -> Program:
    """Compile a trained module to an integer program.

    `sample`: one batch `[B, ...]` (or `[T, B, ...]`) in the model's own input values, used for tracing.
    `calibration`: raw samples (default: `sample`); with `normalise = {"scale", "mean", "std"}` raw values
    become the model's input as (raw*scale - mean)/std and are folded into the first layer.
    `weights`: keep, binary, ternary, int2..int8; T comes from the model's `steps`/`T`, else `steps`, else an error.
    Raises TraceError, QuantizeError, UnsupportedError, each listing everything at once.
    """
    program, _ = compile_graph(
        model,
        sample,
        calibration=calibration,
        weights=weights,
        overrides=overrides,
        target=target,
        steps=steps,
        time_axis=time_axis,
        normalise=normalise,
        meta=meta,
    )
    return program


def compile_graph(
    model: Any,
    sample: Any,
    *,
    calibration: Any = None,
    weights: str = "keep",
    overrides: Mapping[str, str] | None = None,
    target: str = "loihi2",
    steps: int | None = None,
    time_axis: bool | None = None,
    normalise: Mapping[str, Any] | None = None,
    meta: Mapping[str, Any] | None = None,
) -> tuple[Program, LayerGraph]:
    """Like `compile`, and also return the folded float graph (for fidelity)."""
    graph = float_graph(model, sample, steps=_declared(model) if steps is None else steps, normalise=normalise)
    data = np.asarray(_raw(sample, normalise) if calibration is None else _numpy(calibration))
    program = compile_float_graph(
        graph, data, weights=weights, overrides=overrides, target=target, time_axis=time_axis, meta=meta
    )
    return program, graph


def float_graph(
    model: Any, sample: Any, *, steps: int | None = None, normalise: Mapping[str, Any] | None = None
) -> LayerGraph:
    """The traced float network of raw values in normal form: what the quantizer lowers and fidelity is held against.

    A converted network, which is a graph already, is not traced.
    """
    from snn2chip.convert.activations import GraphNet
    from snn2chip.frontends.torch import trace
    from snn2chip.ir.graph import LayerGraph
    from snn2chip.passes import run_passes

    model = model.graph if isinstance(model, GraphNet) else model
    graph = model if isinstance(model, LayerGraph) else trace(model, sample, steps=steps)
    if normalise:
        graph = graph.with_normalisation(**dict(normalise))
    return run_passes(graph)


def compile_float_graph(
    graph: LayerGraph,
    data: Any,
    *,
    weights: str = "keep",
    overrides: Mapping[str, str] | None = None,
    target: str = "loihi2",
    time_axis: bool | None = None,
    meta: Mapping[str, Any] | None = None,
) -> Program:
    """Lower a float graph in normal form with ranges from raw calibration `data`, until nothing saturates on it."""
    from snn2chip.passes import SteadyWindows
    from snn2chip.quantize.calibrate import calibrate
    from snn2chip.quantize.lower import lower
    from snn2chip.quantize.spec import QuantSpec

    if target not in TARGETS:
        raise InputError(f"target must be one of {', '.join(TARGETS)}, got {target!r}")
    spec = QuantSpec(weights=weights, overrides=dict(overrides or {}))
    per_step = data.ndim == len(graph.input.shape) + 2 if time_axis is None else time_axis
    lowered = graph if per_step else SteadyWindows().run(graph)
    data = data[:, :MAX_CALIBRATION] if per_step else data[:MAX_CALIBRATION]
    ranges = calibrate(lowered, data, time_axis=per_step)
    coding = "steps" if per_step else "repeat"
    spare: dict[str, int] = {}
    full: list[str] = []
    for _ in range(6):
        program = lower(lowered, ranges, spec=spec, target=target, coding=coding, spare=spare, meta=dict(meta or {}))
        full = _saturated(program, data)
        if not full:
            return program
        for name in full:
            spare[name] = spare.get(name, 0) + 1
    raise QuantizeError([f"{name}: saturates on the calibration data whatever its fraction bits" for name in full])


def _declared(model: Any) -> int | None:
    """T as the model itself says it (`T` or `steps`); the trace must run as many."""
    found = (getattr(model, key, None) for key in ("T", "steps"))
    return next((value for value in found if isinstance(value, int) and not isinstance(value, bool)), None)


def _numpy(value: Any) -> Any:
    return value.detach().cpu().numpy() if hasattr(value, "detach") else value


def _raw(sample: Any, normalise: Mapping[str, Any] | None) -> Any:
    if normalise:
        raise InputError("with `normalise` the calibration data must be given, as raw values")
    return _numpy(sample)


def _saturated(program: Program, data: Any) -> list[str]:
    """Somas whose potential saturates on the calibration data; where it was trained to, that is as it should be."""
    from snn2chip.api import run

    counts = run(program, data, backend="torch", record="outputs").counts
    exact = {name for name, text in program.meta.get("trained", {}).items() if text == "exact"}
    return [name for name, row in counts.sources.items() if row["saturations"] and name not in exact]
