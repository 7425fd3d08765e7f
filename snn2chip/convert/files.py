"""A checkpoint in, a converted checkpoint out: what `snn2chip convert` does.

    parallel, qcfs, ic-snn, serialise, collapse    the converted layers themselves (`snn2chip.checkpoint.save_graph`)
    hybrid                                         the zoo model with LM-HT neurons, to be trained on

Calibration reads the training split of the source's own data set unless another is named; accuracy is that of the
first test samples before and after. A source that takes a frame per step can only become hybrid.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from snn2chip.checkpoint import CheckpointHeader, InputSpec, load_model, save_checkpoint, save_graph
from snn2chip.convert.activations import GraphNet, source_graph
from snn2chip.convert.hybrid_model import hybrid_model
from snn2chip.convert.methods import convert
from snn2chip.convert.options import check_method, check_options
from snn2chip.convert.summary import LayerSummary, summarise
from snn2chip.data.labels import check_labels
from snn2chip.errors import InputError, UnsupportedError
from snn2chip.ir.graph import LayerGraph
from snn2chip.origin import data_name, origin, samples_sha256
from snn2chip.train.options import RunOptions, check_device

SAMPLES, TEST_SAMPLES, SHOWN_SAMPLES, TRACE_SAMPLES = 4096, 1000, 64, 4
UPDATES = 460
"""Calibration steps after which a momentum of 0.99 has forgotten all but 1 % of its start."""
BATCH = 64


@attrs.frozen(kw_only=True, eq=False)
class Converted:
    """What a conversion gave: the file, its header, a row per neuron, accuracies 0..1 on `samples` test samples."""

    path: Path
    header: CheckpointHeader
    layers: tuple[LayerSummary, ...]
    before: float | None
    after: float | None
    samples: int
    notes: tuple[str, ...] = ()


@attrs.frozen(kw_only=True, eq=False)
class _Data:
    """The data of a source: training inputs and labels, test samples; or why there are none."""

    name: str | None
    x: Tensor | None = None
    labels: Any = None
    test: tuple[Any, Any] | None = None
    missing: str = ""
    digest: str | None = None


def convert_checkpoint(
    path: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str],
    method: str,
    steps: int | None = None,
    options: Mapping[str, Any] | None = None,
    model: str | None = None,
    data: str | None = None,
    samples: int | None = None,
    test_samples: int = TEST_SAMPLES,
    device: str = "cpu",
    normal: Mapping[str, Any] | None = None,
) -> Converted:
    """Convert a trained checkpoint (or a state_dict with `model="module:function"`) and write the result to `out`.

    `samples` training samples calibrate (default: 4096), `test_samples` measure accuracy, both on `device`. Options
    are those of `snn2chip.convert.options`. `normal`: scale, mean and std of the raw samples, for a source that does
    not say them (an ONNX file, a state_dict). Raises FileFormatError, InputError, UnsupportedError, and what the method
    raises; EnvironmentFault for a device that is not here.
    """
    given = dict(options or {})
    check_method(method, steps)
    check_options(method, given)
    check_device(RunOptions(device=device))
    if Path(out).is_dir():
        raise InputError(f"{out}: is a folder; name the checkpoint file")
    module, header = load_model(path, model=model)
    if header is None and data is None:
        raise InputError(f"{path}: a plain state_dict does not say which samples it takes; name them with --data")
    if header is not None and header.input.time and method != "hybrid":
        raise UnsupportedError(
            f"{path}: takes a frame per step, {method} converts networks of static inputs; "
            "train a spiking network on the frames, or convert with --method hybrid"
        )
    found = _data(header, data, samples=samples, test_samples=test_samples)
    header = _header(module, header, found, model=model)
    found, header = _normalised(found, header, normal, path=path)
    sample = found.x[:TRACE_SAMPLES] if found.x is not None else _any_sample(header.input)
    if header.input.time and found.x is not None:
        sample = found.x[:, :TRACE_SAMPLES]
    source = source_graph(module, sample)
    notes = [] if found.x is not None else [f"no data: {found.missing}"]
    made: nn.Module
    if method == "hybrid":
        assert steps is not None
        levels = given.pop("levels", 2)
        made, header = hybrid_model(module, header, sample, steps=steps, levels=levels, **given)
        graph = source_graph(made, sample)
        notes += _hybrid_notes(source, steps=steps, levels=levels)
    else:
        if method == "parallel" and found.x is not None and "passes" not in given:
            given["passes"] = max(1, -(-UPDATES * BATCH // len(found.x)))
        moved = found if found.x is None else attrs.evolve(found, x=found.x.to(device))
        graph = _converted(source, moved, method=method, steps=steps, options=given)
        made = GraphNet(graph)
    factor = graph.steps / source.steps if method == "serialise" else 1.0
    shown = None if found.x is None or header.input.time else found.x[:SHOWN_SAMPLES]
    rows = summarise(source, graph, shown, factor=factor)
    before, after = (_accuracy(net, found.test, header.input, device=device) for net in (module, made))
    header = _finished(header, path, method, steps, options or {}, found, before=before, after=after)
    written = save_checkpoint(out, made, header) if method == "hybrid" else save_graph(out, graph, header)
    notes += [note.text for note in graph.notes if note.layer == graph.output.name]
    count = 0 if found.test is None else len(found.test[1])
    return Converted(
        path=written,
        header=load_model(written)[1] or header,
        layers=rows,
        before=before,
        after=after,
        samples=count,
        notes=tuple(notes),
    )


def _converted(
    source: LayerGraph, found: _Data, *, method: str, steps: int | None, options: Mapping[str, Any]
) -> LayerGraph:
    """The converted graph; a method that misses data says why there are none."""
    try:
        return convert(source, method=method, steps=steps, data=found.x, labels=found.labels, **options)
    except InputError as error:
        if found.x is None:
            raise InputError([*error.breaches, found.missing]) from error
        raise


def _data(header: CheckpointHeader | None, data: str | None, *, samples: int | None, test_samples: int) -> _Data:
    """The samples that fit a source; with a data set that is not here, why (an error if it was named)."""
    from snn2chip.data import open_data

    own = None if header is None else header.provenance.get("data")
    name = data or (own if isinstance(own, str) else None)
    if name is None:
        return _Data(name=None, missing="the checkpoint names no data set; give --data NAME")
    frames = None if header is None or not header.input.time else _frames(header)
    try:
        by_step = frames is not None
        train, test = (open_data(name, split=split, steps=frames, by_step=by_step) for split in ("train", "test"))
    except InputError as error:
        if data is not None:
            raise
        return _Data(name=name, missing=str(error))
    spec = _spec(header, train)
    shape = train.shapes["x"][1:] if train.time_axis else train.shapes["x"]
    if (spec.shape, spec.time) != (tuple(shape), train.time_axis):
        raise InputError(f"data set {name!r} has samples {list(shape)}, the checkpoint takes {list(spec.shape)}")
    taken = train.take(min(SAMPLES, train.total) if samples is None else samples)
    arrays, labels = taken.arrays()
    tested = test.take(min(test_samples, test.total)) if test_samples else None
    for y in (labels, None if tested is None else tested.labels):
        if y is not None and header is not None:
            check_labels(y, len(header.classes), name=name)
    pair = None if tested is None else (tested.arrays()[0]["x"], tested.labels)
    usable = None if pair is None or pair[1] is None else pair
    return _Data(name=name, x=spec.apply(arrays["x"]), labels=labels, test=usable, digest=samples_sha256(arrays["x"]))


def _spec(header: CheckpointHeader | None, samples: Any) -> InputSpec:
    shape = samples.shapes["x"][1:] if samples.time_axis else samples.shapes["x"]
    return InputSpec(shape=shape, time=samples.time_axis) if header is None else header.input


def _frames(header: CheckpointHeader) -> int:
    recipe = header.provenance.get("recipe")
    frames = recipe.get("frames") if isinstance(recipe, dict) else None
    return frames if isinstance(frames, int) else header.T


def _header(module: nn.Module, header: CheckpointHeader | None, found: _Data, *, model: str | None) -> CheckpointHeader:
    """The source's header, or one for a state_dict whose input is the raw samples as they are."""
    if header is not None:
        return header
    assert found.x is not None
    assert model is not None
    with torch.no_grad():
        outputs = module(found.x[:1]).shape[-1]
    names = tuple(map(str, range(outputs)))
    spec = InputSpec(shape=tuple(found.x.shape[1:]))
    return CheckpointHeader(model=model, args={}, method="relu", T=1, L=1, input=spec, classes=names)


def _normalised(
    found: _Data, header: CheckpointHeader, normal: Mapping[str, Any] | None, *, path: Any
) -> tuple[_Data, CheckpointHeader]:
    """The samples and the header as the source takes them, with the scale, mean and std that the caller says."""
    if not normal:
        return found, header
    before, plain = header.input, InputSpec(shape=header.input.shape, time=header.input.time)
    if before != plain:
        raise InputError(f"{path}: says itself how its samples are normalised; leave out {', '.join(normal)}")
    spec = attrs.evolve(plain, **normal)
    x = None if found.x is None else spec.apply(found.x.numpy())
    return attrs.evolve(found, x=x), attrs.evolve(header, input=spec)


def _any_sample(spec: InputSpec) -> Tensor:
    """Inputs for tracing alone."""
    return torch.rand(TRACE_SAMPLES, *spec.shape, generator=torch.Generator().manual_seed(0))


def _hybrid_notes(source: LayerGraph, *, steps: int, levels: int) -> list[str]:
    from snn2chip.convert.activations import find

    own = sorted({a.levels for a in find(source) if a.levels is not None})
    if own == [steps * levels]:
        return []
    shown = ", ".join(map(str, own))
    return [f"the source has {shown} levels, L*T = {steps * levels}: equal in expectation only, until fine-tuned"]


def _accuracy(model: nn.Module, test: tuple[Any, Any] | None, spec: InputSpec, *, device: str) -> float | None:
    from snn2chip.train import evaluate

    return None if test is None else evaluate(model, test, spec=spec, device=device)


def _finished(
    header: CheckpointHeader,
    path: str | os.PathLike[str],
    method: str,
    steps: int | None,
    options: Mapping[str, Any],
    found: _Data,
    *,
    before: float | None,
    after: float | None,
) -> CheckpointHeader:
    """The header with where the network comes from, and the accuracies that were measured."""
    how: dict[str, Any] = {
        "method": method,
        "steps": steps,
        "options": dict(options),
        "source": Path(path).name,
        "origin": origin(path),
    }
    if found.x is not None:
        how["samples"] = len(found.x) if not header.input.time else found.x.shape[1]
        read = f"{how['samples']} training samples of {data_name(str(found.name))}"
        how["origin"]["inputs"][read] = found.digest
    provenance = {**header.provenance, "convert": how, **({} if found.name is None else {"data": found.name})}
    metrics: dict[str, float] = {}
    if before is not None and after is not None and found.test is not None:
        metrics = {"source_accuracy": before, "test_accuracy": after, "test_samples": len(found.test[1])}
    return attrs.evolve(header, provenance=provenance, metrics=metrics)
