"""The whole road in one function: nn.Module -> graph -> passes -> integers, checked on calibration data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from snn2chip.calibration_samples import by_input, steps_first, which_hold_steps
from snn2chip.errors import InputError, QuantizeError
from snn2chip.float_graph import declared_steps, float_graph, model_input
from snn2chip.ir.program import Program
from snn2chip.ir.raw import holds_steps, part
from snn2chip.stages import staged

if TYPE_CHECKING:
    from snn2chip.ir.graph import LayerGraph
    from snn2chip.ir.linear_layers import WeightParts
    from snn2chip.quantize.choices import Choices

MAX_CALIBRATION = 256


def compile(
    model: Any,
    sample: Any,
    *,
    calibration: Any = None,
    weights: str = "keep",
    overrides: Mapping[str, str] | None = None,
    bias_correction: bool = False,
    rounding: str = "nearest",
    target: str = "loihi2",
    steps: int | None = None,
    time_axis: bool | None = None,
    batch_first: bool | None = None,
    input_range: Any = None,
    normalise: Mapping[str, Any] | None = None,
    payload_bits: int = 8,
    input_coding: str | Mapping[str, str] = "direct",
    strict: bool = False,
    parallel: str = "as-is",
    readout: str | Mapping[str, str] = "auto",
    meta: Mapping[str, Any] | None = None,
) -> Program:
    """Compile a trained module to an integer program.

    Modules of snntorch, spikingjelly, norse and sinabs go through their own NIR export and are checked against
    themselves; modules of lava-dl slayer blocks hold integers already: they take `steps`, `target`, `input_range` and
    `meta` alone, their `sample` is `[B, ..., T]`, as the module takes it, and every spike of it has to be equal.
    `sample`: one batch `[B, ...]`, `[T, B, ...]` or `[B, T, ...]` in the model's own input values, used for tracing.
    A model of several inputs takes a dict of them by the names of forward's parameters (or a tuple in their order), and
    so do `calibration`, `input_range`, `normalise` and `input_coding`; `run` then takes a dict, too.
    `calibration`: raw samples (default: `sample`), varied and in the model's own layout; when they hold every step,
    `batch_first` says whether they are `[N, T, ...]` (True) or `[T, N, ...]` (False). The program itself always takes
    `[T, N, ...]`; of a model that averages event frames it takes `[N, F, ...]`.
    `input_range`: the (lo, hi) that raw values may ever take (default: from the calibration samples,
    with room for more); running values outside of the range is an error, never clipped. With
    `normalise = {"scale", "mean", "std"}` raw integers become the model's input as (raw*scale - mean)/std and are
    folded into the first layer.
    `bias_correction`: take what rounding the weights adds to the mean currents off the biases. `rounding`: "nearest",
    or "fitted": weights, units and biases chosen on the calibration samples, layer after layer (`quantize/calibrated`).
    `payload_bits`, 4..16: width of real payloads (EM-PF) that were not trained with one. `input_coding`: direct, or
    rate-floor, rate-round: `run` takes the same raw samples and the program spreads spikes over its steps, one worth
    the top of `input_range` (default: 255 for bytes, else the largest calibration value). `strict`: fire at v > theta.
    `parallel`: graded or spikes, the form of parallel and QCFS neurons (one graded step, T sorted spikes).
    `readout`: how the steps of a model that returns all of them are read: sum, mean, last, or count, the steps with a
    spike (by name of several outputs); auto is what the model's own forward does, and of spikes the sum of payloads.
    `weights`: keep, binary, ternary, int2..int8; T comes from the model's `steps`/`T` or its own steps, else from
    `steps`, else it is an error. `target`: loihi2, loihi1, ideal or a target file of your own (.toml); what it cannot
    do is refused. Raises InputError, TraceError, QuantizeError, UnsupportedError, each listing everything at once.
    """
    from snn2chip.frontends.modules import framework_of

    options: dict[str, Any] = {
        "calibration": calibration,
        "weights": weights,
        "overrides": overrides,
        "bias_correction": bias_correction,
        "rounding": rounding,
        "time_axis": time_axis,
        "batch_first": batch_first,
        "normalise": normalise,
        "payload_bits": payload_bits,
        "input_coding": input_coding,
        "strict": strict,
        "parallel": parallel,
        "readout": readout,
    }
    if framework_of(model) == "lava":
        return _of_slayer(model, sample, options, target=target, steps=steps, input_range=input_range, meta=meta)
    program, _ = compile_graph(model, sample, target=target, steps=steps, input_range=input_range, meta=meta, **options)
    return program


def _of_slayer(
    model: Any, sample: Any, options: Mapping[str, Any], *, target: str, meta: Mapping[str, Any] | None, **how: Any
) -> Program:
    """A module of slayer blocks, which are integers; InputError for options that no block takes."""
    import attrs

    from snn2chip.frontends.slayer import slayer_program
    from snn2chip.mapping.capabilities import fitted
    from snn2chip.mapping.target_file import load_target

    usual: Mapping[str, Any] = compile.__kwdefaults__ or {}
    set_here = [key for key, value in options.items() if type(value) is not type(usual[key]) or value != usual[key]]
    if set_here:
        raise InputError(
            f"{type(model).__name__}: slayer blocks hold integers already; leave out {', '.join(set_here)}"
        )
    program = fitted(slayer_program(model, sample, **how), load_target(target))
    return attrs.evolve(program, meta={**program.meta, **meta}) if meta else program


def compile_graph(
    model: Any,
    sample: Any,
    *,
    calibration: Any = None,
    weights: str = "keep",
    overrides: Mapping[str, str] | None = None,
    bias_correction: bool = False,
    rounding: str = "nearest",
    target: str = "loihi2",
    steps: int | None = None,
    time_axis: bool | None = None,
    batch_first: bool | None = None,
    input_range: Any = None,
    normalise: Mapping[str, Any] | None = None,
    payload_bits: int = 8,
    input_coding: str | Mapping[str, str] = "direct",
    strict: bool = False,
    parallel: str = "as-is",
    readout: str | Mapping[str, str] = "auto",
    meta: Mapping[str, Any] | None = None,
) -> tuple[Program, LayerGraph]:
    """Like `compile`, and also return the folded float graph (for fidelity)."""
    from snn2chip.quantize.choices import Choices

    choices = Choices(
        payload_bits=payload_bits, input_coding=input_coding, strict=strict, parallel=parallel, readout=readout
    )
    graph = float_graph(model, sample, steps=declared_steps(model) if steps is None else steps, normalise=normalise)
    data = by_input(graph, _raw(sample, normalise) if calibration is None else calibration)
    data = steps_first(graph, data, time_axis=time_axis, batch_first=batch_first)
    per_step = which_hold_steps(graph, data, time_axis)
    graph = choices.prepared(graph, data, per_step=per_step, input_range=input_range)
    program = compile_float_graph(
        graph,
        data,
        weights=weights,
        overrides=overrides,
        bias_correction=bias_correction,
        rounding=rounding,
        target=target,
        time_axis=time_axis,
        input_range=input_range,
        choices=choices,
        meta={"model_input": model_input(graph, normalise), **(meta or {})},
    )
    return program, graph


def compile_float_graph(
    graph: LayerGraph,
    data: Any,
    *,
    weights: str = "keep",
    overrides: Mapping[str, str] | None = None,
    bias_correction: bool = False,
    rounding: str = "nearest",
    target: str = "loihi2",
    time_axis: bool | None = None,
    input_range: Any = None,
    choices: Choices | None = None,
    meta: Mapping[str, Any] | None = None,
) -> Program:
    """Lower a float graph in normal form with ranges from raw calibration `data`, until nothing saturates on it."""
    from snn2chip.analysis.proofs import refuse_wide, wide_somas, with_proofs
    from snn2chip.ir.coded_input import CodedInputLayer
    from snn2chip.mapping.capabilities import fitted
    from snn2chip.mapping.target_file import load_target
    from snn2chip.passes import SteadyWindows
    from snn2chip.quantize.bias_correction import correct_biases
    from snn2chip.quantize.calibrate import calibrate, check_varied
    from snn2chip.quantize.calibrated import fit_weights
    from snn2chip.quantize.choices import Choices
    from snn2chip.quantize.inputs import declared_ranges
    from snn2chip.quantize.lower import lower
    from snn2chip.quantize.spec import QuantSpec

    chip = load_target(target)
    choices = choices or Choices()
    spec = QuantSpec(
        weights=weights,
        overrides=dict(overrides or {}),
        bias_correction=bias_correction,
        rounding=rounding,
        payload_bits=choices.payload_bits,
        strict=choices.strict,
    )
    data = by_input(graph, data)
    per_step = which_hold_steps(graph, data, time_axis)
    graph = choices.prepared(graph, data, per_step=per_step, input_range=input_range)
    direct = [layer for layer in graph.input_layers if not isinstance(layer, CodedInputLayer)]
    changing = {x.name for x in direct if holds_steps(x.name, per_step) and x.frames is None}
    steady = len(direct) == len(graph.input_layers) and not changing
    lowered = SteadyWindows().run(graph) if steady else graph
    data = part(data, 0, MAX_CALIBRATION, per_step)
    check_varied(data, time_axis=per_step)
    ranges = calibrate(lowered, data, time_axis=per_step, input_range=declared_ranges(graph, input_range))
    chosen_weights: Mapping[str, WeightParts] = {}
    if rounding == "fitted":
        lowered, chosen_weights = fit_weights(lowered, data, spec=spec, time_axis=per_step)
        meta = {**(meta or {}), "rounding": rounding}
    elif bias_correction:
        lowered = correct_biases(lowered, data, spec=spec, time_axis=per_step)
    coding = {layer.name: "steps" if layer.name in changing else "repeat" for layer in graph.input_layers}
    meta = {**(meta or {}), **({"choices": chosen} if (chosen := choices.changed()) else {})}
    if graph.input.frames is not None:
        data = np.moveaxis(data, 0, 1)  # a program takes the frames of a sample together: [N, F, ...]
    spare: dict[str, int] = {}
    full: list[str] = []
    for _ in range(TRIES):
        program = lower(
            lowered,
            ranges,
            spec=spec,
            target=chip.name,
            coding=coding,
            spare=spare,
            fitted=chosen_weights,
            meta=dict(meta or {}),
        )
        full = _saturated(program, data)
        if not full:
            program = with_proofs(program, data, trained=_trained(program))
            full = [name for name in wide_somas(program, chip) if spare.get(name, 0) < MORE_BITS]
            if not full:
                refuse_wide(program, chip)
                return fitted(program, chip)
        for name in full:
            spare[name] = spare.get(name, 0) + 1
    raise QuantizeError([f"{name}: saturates on the calibration data whatever its fraction bits" for name in full])


def _raw(sample: Any, normalise: Mapping[str, Any] | None) -> Any:
    if normalise:
        raise InputError("with `normalise` the calibration data must be given, as raw values")
    return sample


TRIES, MORE_BITS = 8, 3
"""Lowerings tried, each with a spare bit more for what saturates; spare bits for a gain that leaves a chip's sums."""


@staged("look for saturation")
def _saturated(program: Program, data: Any) -> list[str]:
    """Somas whose potential saturates on the calibration data; where it was trained to, that is as it should be."""
    from snn2chip.api import run

    counts = run(program, data, backend="torch", record="outputs").counts
    return [name for name, row in counts.sources.items() if row["saturations"] and name not in _trained(program)]


def _trained(program: Program) -> list[str]:
    """Somas that run on the integers they were trained on."""
    return [name for name, text in program.meta.get("trained", {}).items() if text == "exact"]
