"""A `.nir` file to an integer program: read by profile, calibrate on data, lower."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch

from snn2chip.errors import InputError
from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.neuron_layer import NeuronLayer
from snn2chip.ir.program import Program

SAMPLES, BLOCK = 256, 64
FREE = 1 << 20
"""Levels that nothing is cut off at."""


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
    from snn2chip.compiler import compile_float_graph
    from snn2chip.float_graph import model_input
    from snn2chip.frontends.nir import import_nir
    from snn2chip.origin import samples_sha256
    from snn2chip.passes import run_passes

    graph = import_nir(path, profile=profile, steps=steps, options=options, read=read)
    raw, by_step, name = _samples(graph, data)
    most = _levels(graph, raw, by_step=by_step)
    meta = {
        "name": Path(path).stem,
        "source": "nir",
        "nir": {"profile": profile or "snn2chip", "options": {k: str(v) for k, v in (options or {}).items()}},
        "notes": [*(note.text for note in graph.notes if note.by == "nir"), *most],
        "data": name,
        "model_input": model_input(graph, None),
        "calibration": {
            "data": name,
            "split": "train",
            "samples": raw.shape[1] if by_step else len(raw),
            "sha256": samples_sha256(raw),
        },
    }
    return compile_float_graph(run_passes(graph), raw, time_axis=by_step, meta=meta, **how)


def parsed_options(items: Sequence[str] | None) -> dict[str, str]:
    """`KEY=VALUE` texts as options of a profile; InputError for other texts and for a key that is there twice."""
    found: dict[str, str] = {}
    for item in items or ():
        key, equals, value = item.partition("=")
        if not equals:
            raise InputError(f"--nir-option {item!r}: expected KEY=VALUE, as in --nir-option levels=31")
        if key in found:
            raise InputError(f"--nir-option {key} is given twice, as {found[key]} and {value}")
        found[key] = value
    return found


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


def _levels(graph: LayerGraph, raw: Any, *, by_step: bool) -> list[str]:
    """How many spikes neurons of several levels send in one step at most, over all calibration samples, a line each.

    Raises InputError for neurons that would send more than their levels on one of them.
    """
    neurons = [n for n in graph.of_kind("neuron") if isinstance(n, NeuronLayer) and n.soma.levels > 1]
    free = graph.with_layers(*(attrs.evolve(n, soma=attrs.evolve(n.soma, levels=FREE)) for n in neurons))
    most = dict.fromkeys((n.name for n in neurons), 0.0)
    count = len(raw[0]) if by_step else len(raw)
    for first in range(0, count if neurons else 0, BLOCK):
        block = slice(first, first + BLOCK)
        part = torch.as_tensor(np.asarray(raw[:, block] if by_step else raw[block]), dtype=torch.float32)
        run = free.run(part, collect=True)
        for neuron in neurons:
            theta = neuron.soma.theta.double().reshape(-1, *[1] * (len(graph.shapes[neuron.name]) - 1))
            reached = float(torch.floor(run.before[neuron.name].double() / theta).max())
            most[neuron.name] = max(most[neuron.name], reached if reached == reached else float("inf"))
    if bad := [
        f"{n.label}: would send {most[n.name]:.0f} spikes in a step, {n.soma.levels} are allowed; "
        f"--nir-option levels={min(255, 2 * most[n.name]):.0f}"
        for n in neurons
        if most[n.name] > n.soma.levels
    ]:
        raise InputError(bad)
    return [
        f"{n.label}: at most {most[n.name]:.0f} spikes in a step on {count} calibration samples; of more than "
        f"{n.soma.levels} in one step the rest waits for the next"
        for n in neurons
    ]
