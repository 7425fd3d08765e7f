"""A model checkpoint to an integer program: rebuild the model, calibrate on its own training data, compile."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from snn2chip.errors import InputError, Snn2ChipError, UnsupportedError
from snn2chip.stages import staged

if TYPE_CHECKING:
    from snn2chip.checkpoint_header import CheckpointHeader, InputSpec
    from snn2chip.ir.graph import LayerGraph
    from snn2chip.ir.program import Program
    from snn2chip.quantize.choices import Choices

CALIBRATION_SAMPLES = 256
TRACE_SAMPLES = 4
DEFAULT_DATA = "digits"


def compile_checkpoint(
    path: str | os.PathLike[str],
    *,
    model: str | None = None,
    data: str | None = None,
    weights: str = "keep",
    overrides: Mapping[str, str] | None = None,
    bias_correction: bool = False,
    rounding: str = "nearest",
    target: str = "loihi2",
    steps: int | None = None,
    input_range: tuple[float, float] | None = None,
    choices: Choices | None = None,
) -> Program:
    """Compile a checkpoint (or a state_dict with `model="module:function"`) to an integer program.

    Calibration uses the first 256 training samples of `data`, by default the data set it was trained on. The
    header's normalisation is folded into the first layer; a state_dict without header takes raw values as they
    are, and `steps` is its T when the model says none. `input_range`: the (lo, hi) that raw values may take.
    `choices`: payload bits, input coding, compare, form of parallel neurons, as `snn2chip.compile` takes them.
    Raises FileFormatError, InputError, and what `snn2chip.compile` raises.
    """
    return compile_checkpoint_graph(
        path,
        model=model,
        data=data,
        weights=weights,
        overrides=overrides,
        bias_correction=bias_correction,
        rounding=rounding,
        target=target,
        steps=steps,
        input_range=input_range,
        choices=choices,
    )[0]


def compile_checkpoint_graph(
    path: str | os.PathLike[str],
    *,
    model: str | None = None,
    data: str | None = None,
    weights: str = "keep",
    overrides: Mapping[str, str] | None = None,
    bias_correction: bool = False,
    rounding: str = "nearest",
    target: str = "loihi2",
    steps: int | None = None,
    input_range: tuple[float, float] | None = None,
    choices: Choices | None = None,
) -> tuple[Program, LayerGraph]:
    """Like `compile_checkpoint`, and also return the float graph (for fidelity)."""
    from snn2chip.calibration_samples import steps_first, which_hold_steps
    from snn2chip.compiler import compile_float_graph
    from snn2chip.float_graph import model_input
    from snn2chip.quantize.choices import Choices

    choices = choices or Choices()
    graph, found = checkpoint_graph(path, model=model, data=data, steps=steps)
    if found.spec is None:
        raw = steps_first(graph, found.raw)
        time_axis, norm = None, None
    else:
        raw = np.moveaxis(found.raw, 1, 0) if found.spec.time else found.raw
        time_axis, norm = found.spec.time, found.spec.normalisation
    per_step = which_hold_steps(graph, raw, time_axis)
    graph = choices.prepared(graph, raw, per_step=per_step, input_range=input_range)
    program = compile_float_graph(
        graph,
        raw,
        weights=weights,
        overrides=overrides,
        bias_correction=bias_correction,
        rounding=rounding,
        target=target,
        time_axis=time_axis,
        input_range=input_range,
        choices=choices,
        meta={**_meta(path, model, found), "model_input": model_input(graph, norm)},
    )
    return program, graph


def refuse_ordinary(path: str | os.PathLike[str], header: CheckpointHeader | None) -> None:
    """Raise UnsupportedError for a checkpoint without neurons: it must be converted first."""
    if header is not None and header.method == "relu":
        raise UnsupportedError(
            f"{path}: {header.model} is an ordinary ReLU network, it has no neurons to compile; convert it first: "
            f"snn2chip convert {path} --method parallel --steps T -o SNN.safetensors"
        )


@attrs.frozen(kw_only=True, eq=False)
class Found:
    """What belongs to a checkpoint: its header, raw calibration samples `[N, ...]`, input, data and class names.

    Of a model with several inputs the samples are arrays by name in the model's own layout, and `spec` is None.
    """

    header: CheckpointHeader | None
    raw: Any
    spec: InputSpec | None
    total: int
    data: str
    classes: tuple[str, ...]


def checkpoint_graph(
    path: str | os.PathLike[str], *, model: str | None = None, data: str | None = None, steps: int | None = None
) -> tuple[LayerGraph, Found]:
    """Return the float graph of a checkpoint in normal form, and what belongs to it."""
    from snn2chip.checkpoint import load_model
    from snn2chip.float_graph import float_graph, model_steps
    from snn2chip.frontends.torch import several_inputs

    module, header = load_model(path, model=model)
    refuse_ordinary(path, header)
    name = data or _trained_on(header) or DEFAULT_DATA
    own = header.T if header is not None else model_steps(module)
    if steps is not None and own not in (None, steps):
        raise InputError(f"{path}: the model runs T={own} steps, {steps} were asked for; leave steps out")
    steps = own if steps is None else steps
    if header is None and (names := several_inputs(module)):
        return _several(module, names, name, steps=steps)
    raw, spec, classes = calibration(name, header, steps=steps)
    graph = float_graph(module, spec.apply(raw[:TRACE_SAMPLES]), steps=steps, normalise=spec.normalisation)
    return graph, Found(header=header, raw=raw, spec=spec, total=len(raw), data=name, classes=classes)


def _several(module: Any, names: tuple[str, ...], data: str, *, steps: int | None) -> tuple[LayerGraph, Found]:
    """The float graph of a model of several inputs and its samples, an array of each name in a file X.npz."""
    import torch

    from snn2chip.data import open_data
    from snn2chip.float_graph import float_graph

    if not data.endswith(".npz"):
        raise InputError(f"the model takes {', '.join(names)}; give samples with an array of each name, --data X.npz")
    found = open_data(data, inputs=names)
    arrays, _ = found.take(min(CALIBRATION_SAMPLES, found.total)).arrays()
    stepped = {name: x.ndim > 2 and x.shape[1] == steps for name, x in arrays.items()}
    moved = {name: np.moveaxis(x, 1, 0) if stepped[name] else x for name, x in arrays.items()}
    traced = TRACE_SAMPLES + (steps == TRACE_SAMPLES)  # another number than T, so that the two are told apart
    attempts = [arrays, moved] if any(stepped.values()) else [arrays]
    for raw in attempts:  # [N, T, ...] or [T, N, ...], as the model takes it
        few = {n: x[:, :traced] if raw is moved and stepped[n] else x[:traced] for n, x in raw.items()}
        try:
            graph = float_graph(module, {n: torch.as_tensor(x).float() for n, x in few.items()}, steps=steps)
            break
        except Snn2ChipError:
            if raw is attempts[-1]:
                raise
    total = min(CALIBRATION_SAMPLES, found.total)
    return graph, Found(header=None, raw=raw, spec=None, total=total, data=data, classes=())


@staged("read calibration samples")
def calibration(
    name: str, header: CheckpointHeader | None, *, steps: int | None
) -> tuple[Any, InputSpec, tuple[str, ...]]:
    """Return raw calibration samples `[N, ...]`, the input description they fit, and the class names.

    Raises InputError when the data set has other samples than the checkpoint was made for.
    """
    from snn2chip.checkpoint_header import InputSpec
    from snn2chip.data import open_data

    by_step = header is not None and header.input.time
    found = open_data(name, split="train", steps=_frames(header) or steps, by_step=by_step)
    shape = found.shapes["x"][1:] if found.time_axis else found.shapes["x"]
    spec = InputSpec(shape=shape, time=found.time_axis) if header is None else header.input
    if (spec.shape, spec.time) != (tuple(shape), found.time_axis):
        have, want = (
            f"{'frames of events' if t else 'samples'} {list(s)}"
            for s, t in ((shape, found.time_axis), (spec.shape, spec.time))
        )
        raise InputError(
            f"data set {name!r} has {have}, the checkpoint takes {want}; name its own data set with --data"
        )
    arrays, _ = found.take(min(CALIBRATION_SAMPLES, found.total)).arrays()
    return arrays["x"], spec, tuple(found.classes) if header is None else header.classes


def _frames(header: CheckpointHeader | None) -> int | None:
    """The event frames that the recipe asked for, if other than the steps."""
    recipe = {} if header is None else header.provenance.get("recipe")
    count = recipe.get("frames") if isinstance(recipe, Mapping) else None
    return count if isinstance(count, int) else None


def _trained_on(header: CheckpointHeader | None) -> str | None:
    name = None if header is None else header.provenance.get("data")
    return name if isinstance(name, str) else None


def _meta(path: str | os.PathLike[str], model: str | None, found: Found) -> dict[str, Any]:
    from snn2chip.checkpoint_tensors import file_sha256
    from snn2chip.origin import samples_sha256

    meta: dict[str, Any] = {
        "name": Path(path).stem,
        "checkpoint": Path(path).name,
        "checkpoint_sha256": file_sha256(path),
        "data": found.data,
        "classes": list(found.classes),
        "calibration": {
            "data": found.data,
            "split": "train",
            "samples": found.total,
            "sha256": samples_sha256(found.raw),
        },
    }
    header = found.header
    if header is not None:
        meta |= {
            "model": header.model,
            "method": header.method,
            "T": header.T,
            "L": header.L,
            "metrics": dict(header.metrics),
        }
        if isinstance(header.provenance.get("seed"), int):
            meta["seed"] = header.provenance["seed"]
        if "test_accuracy" in header.metrics:
            meta["accuracy"] = {"float": header.metrics["test_accuracy"]}
    if model is not None:
        meta["model"] = model
    return meta
