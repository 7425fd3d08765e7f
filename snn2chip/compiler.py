"""The whole road in one function: nn.Module -> graph -> passes -> integers, checked on calibration data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from snn2chip.errors import InputError, QuantizeError
from snn2chip.ir.program import Program

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
) -> tuple[Program, Any]:
    """Like `compile`, and also return the folded float graph (for fidelity)."""
    from snn2chip.frontends.torch import trace
    from snn2chip.passes import run_passes
    from snn2chip.quantize.calibrate import calibrate
    from snn2chip.quantize.lower import lower
    from snn2chip.quantize.spec import QuantSpec

    if target not in TARGETS:
        raise InputError(f"target must be one of {', '.join(TARGETS)}, got {target!r}")
    spec = QuantSpec(weights=weights, overrides=dict(overrides or {}))
    graph = trace(model, sample, steps=steps)
    if normalise:
        graph = graph.with_normalisation(**dict(normalise))
    graph = run_passes(graph)
    data = np.asarray(_raw(sample, normalise) if calibration is None else _numpy(calibration))
    per_step = data.ndim == len(graph.input.shape) + 2 if time_axis is None else time_axis
    data = data[:, :MAX_CALIBRATION] if per_step else data[:MAX_CALIBRATION]
    ranges = calibrate(graph, data, time_axis=per_step)
    spare: dict[str, int] = {}
    for _ in range(6):
        program = lower(
            graph,
            ranges,
            spec=spec,
            target=target,
            coding="steps" if per_step else "repeat",
            spare=spare,
            meta=dict(meta or {}),
        )
        full = _saturated(program, data)
        if not full:
            return program, graph
        for name in full:
            spare[name] = spare.get(name, 0) + 1
    raise QuantizeError([f"{name}: saturates on the calibration data whatever its fraction bits" for name in full])


def _numpy(value: Any) -> Any:
    return value.detach().cpu().numpy() if hasattr(value, "detach") else value


def _raw(sample: Any, normalise: Mapping[str, Any] | None) -> Any:
    if normalise:
        raise InputError("with `normalise` the calibration data must be given, as raw values")
    return _numpy(sample)


def _saturated(program: Program, data: Any) -> list[str]:
    """Somas whose potential saturates on the calibration data."""
    from snn2chip.api import run

    counts = run(program, data, backend="torch", record="outputs").counts
    return [name for name, row in counts.sources.items() if row["saturations"]]
