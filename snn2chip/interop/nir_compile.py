"""A `.nir` file to an integer program: read by profile, calibrate on data, lower."""

from __future__ import annotations

import os
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch

from snn2chip.errors import InputError
from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.neuron_layer import NeuronLayer
from snn2chip.ir.program import Program

SAMPLES = 256
CHECKED = 64


def import_nir_program(path: str | os.PathLike[str]) -> Program:
    """The integer program in a `.nir` file that snn2chip wrote; InputError for any other file."""
    from snn2chip.frontends.nir_file import read_nir
    from snn2chip.interop.nir_own import own_network

    found = own_network(read_nir(path), path=str(path))
    if not isinstance(found, Program):
        raise InputError(f"{path}: holds no integer program of snn2chip; import_nir reads the network of others")
    return found


def holds_program(path: str | os.PathLike[str]) -> bool:
    """Whether a `.nir` file claims to hold an integer program of snn2chip."""
    from snn2chip.frontends.nir_file import read_nir

    own = read_nir(path).metadata.get("snn2chip")
    return isinstance(own, Mapping) and isinstance(own.get("kind"), str) and own["kind"] == "program"


def compile_nir(
    path: str | os.PathLike[str],
    *,
    profile: str | None = None,
    options: Mapping[str, Any] | None = None,
    steps: int | None = None,
    read: str | None = None,
    data: str | None = None,
    **how: Any,
) -> Program:
    """Compile a `.nir` file with calibration samples of `data`, a data set or X.npz (default: digits).

    `profile`, `options`, `steps` and `read` as in `import_nir`; `how` goes to the quantizer (`compile_float_graph`).
    What was assumed of the file is in the program's notes. Raises what `import_nir` raises, and InputError for samples
    that do not fit or neurons that would send more spikes in a step than allowed.
    """
    from snn2chip.compiler import compile_float_graph, model_input
    from snn2chip.frontends.nir import import_nir
    from snn2chip.passes import run_passes

    graph = import_nir(path, profile=profile, steps=steps, options=options, read=read)
    raw, by_step, name = _samples(graph, data)
    _check_levels(graph, raw, by_step=by_step)
    meta = {
        "name": Path(path).stem,
        "source": "nir",
        "nir": {"profile": profile or "snn2chip", "options": {k: str(v) for k, v in (options or {}).items()}},
        "notes": [note.text for note in graph.notes if note.by == "nir"],
        "data": name,
        "model_input": model_input(graph, None),
        "calibration": {"data": name, "split": "train", "samples": raw.shape[1] if by_step else len(raw)},
    }
    return compile_float_graph(run_passes(graph), raw, time_axis=by_step, meta=meta, **how)


def _samples(graph: LayerGraph, data: str | None) -> tuple[Any, bool, str]:
    """Raw calibration samples `[N, ...]` or `[T, N, ...]`, whether they hold every step, and where they are from."""
    from snn2chip.data import open_data

    name = data or "digits"
    found = open_data(name, split="train", steps=graph.steps)
    arrays, _ = found.take(min(SAMPLES, found.total)).arrays()
    x, shape = np.asarray(arrays["x"]), graph.input.raw_shape
    by_step = found.time_axis or (x.ndim == len(shape) + 2 and x.shape[1] == graph.steps and x.shape[2:] == shape)
    frame = x.shape[2:] if by_step else x.shape[1:]
    if frame != shape and prod(frame) != prod(shape):
        raise InputError(
            f"{name} has samples {list(frame)}, the network takes {list(shape)}; name its data with --data"
        )
    x = x.reshape(*x.shape[: 1 + by_step], *shape)
    return (np.moveaxis(x, 1, 0) if by_step else x), by_step, name


def _check_levels(graph: LayerGraph, raw: Any, *, by_step: bool) -> None:
    """InputError for neurons that would send more spikes in one step than the profile's levels."""
    neurons = [n for n in graph.of_kind("neuron") if isinstance(n, NeuronLayer) and n.soma.levels > 1]
    if not neurons:
        return
    part = torch.as_tensor(np.asarray(raw[:, :CHECKED] if by_step else raw[:CHECKED]), dtype=torch.float32)
    run = graph.run(part, collect=True)
    bad = []
    for neuron in neurons:
        theta = neuron.soma.theta.double().reshape(-1, *[1] * (len(graph.shapes[neuron.name]) - 1))
        most = int(torch.floor(run.before[neuron.name].double() / theta).max())
        if most > neuron.soma.levels:
            bad.append(
                f"{neuron.label}: would send {most} spikes in a step, {neuron.soma.levels} are allowed; "
                f"--nir-option levels={min(255, 2 * most)}"
            )
    if bad:
        raise InputError(bad)
