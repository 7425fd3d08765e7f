"""The story in five lines: load, run, check. The command line is a thin layer over these functions."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from snn2chip.errors import BackendUnavailable, InputError, InputWarning, UnsupportedError
from snn2chip.ir.host import doubts, encode
from snn2chip.ir.program import Program
from snn2chip.ir.raw import ByStep
from snn2chip.ir.types import IntArray
from snn2chip.registry import Backend, get_backend
from snn2chip.trace import Trace, gather_traces, join_traces

Progress = Callable[[int, int], None]


def load(path: str | os.PathLike[str]) -> Program:
    """Read a compiled program from a `.s2c` file; everything in it is validated.

    Raises FileFormatError for anything that is not a sound file.
    """
    from snn2chip.ir.files import read

    return read(path)[0]


def run(
    program: Program,
    inputs: Any,
    *,
    backend: str | Backend = "torch",
    device: str | None = "cpu",
    record: str = "all",
    time_axis: bool = False,
    block: int | None = None,
    progress: Progress | None = None,
) -> Trace:
    """Run raw samples through `program` on one backend and return its Trace.

    `inputs`: `[B, ...]`, or `[T, B, ...]` with `time_axis=True`; a mapping by name when the program has several inputs
    (`time_axis` then speaks of all of them; those coded in steps hold every step anyway). `record="outputs"` keeps
    outputs and counts only, so memory does not grow with B.
    `block` samples are run at a time; `progress(done, total)` is called after each block.
    Warns (InputWarning) of samples that hardly mean what they say: floats that rounding to the input's grid changes
    much, integers that are tiny beside its range. Raises InputError (values outside of the input's range are never
    clipped), BackendUnavailable, UnsupportedError, BackendFailure.
    """
    parts = stream(
        program,
        inputs,
        backend=backend,
        device=device,
        record=record,
        time_axis=time_axis,
        block=block,
        progress=progress,
    )
    return gather_traces(parts) if record == "outputs" else join_traces(list(parts))


def stream(
    program: Program,
    inputs: Any,
    *,
    backend: str | Backend = "torch",
    device: str | None = "cpu",
    record: str = "all",
    time_axis: bool = False,
    block: int | None = None,
    progress: Progress | None = None,
) -> Iterator[Trace]:
    """Like `run`, one Trace per block of samples: what is done with and let go takes no memory."""
    if block is not None and block < 1:
        raise InputError(f"block must be at least 1 sample, got {block}")
    if record not in ("all", "outputs"):
        raise InputError(f"record must be 'all' or 'outputs', got {record!r}")
    engine = ready_backend(backend, program, device=device)
    samples, total = _by_name(program, inputs, time_axis)
    size = block or engine.block(program)
    for start, coded in _blocks(program, samples, total, size, time_axis):
        yield engine.run(program, coded, record=record)
        if progress is not None:
            progress(min(start + size, total), total)


def ready_backend(backend: str | Backend, program: Program, *, device: str | None = None) -> Backend:
    """The backend, or a clear error why it cannot run this program here."""
    if isinstance(backend, str):
        options = {} if device is None or (device == "cpu" and backend != "torch") else {"device": device}
        backend = get_backend(backend, **options)
    reason = backend.missing()
    if reason is not None:
        raise BackendUnavailable(f"backend {backend.name!r} is not available: {reason}")
    limits = backend.limits(program)
    if limits:
        raise UnsupportedError([f"backend {backend.name!r}: {text}" for text in limits])
    return backend


def coded_inputs(program: Program, inputs: Any, *, time_axis: bool = False) -> dict[str, IntArray]:
    """Payloads `[T, B, ...]` that raw `inputs` become, by input name."""
    samples, total = _by_name(program, inputs, time_axis)
    return next(_blocks(program, samples, total, total, time_axis))[1]


def by_step(program: Program, samples: Any, *, time_axis: bool = False) -> ByStep:
    """Return whether raw samples are read as `[T, N, ...]`: by `time_axis` or the program's coding.

    Of several inputs (`samples` by name) the names of those that are. Raises InputError where `run` would refuse their
    shape, before anything else reads them.
    """
    single = len(program.inputs) == 1
    given = samples if isinstance(samples, Mapping) else {program.inputs[0].name: samples}
    found = {node.name for node in program.inputs if time_axis or node.coding == "steps"}
    for node in program.inputs:
        x = np.asarray(given[node.name])
        if x.ndim == len(node.raw_shape) + 1 + (node.name in found):
            x = x[:, :1] if node.name in found else x[:1]
        encode(node, x, program.steps, time_axis=time_axis)
    return bool(found) if single else frozenset(found)


def raw_samples(program: Program, inputs: Any) -> Any:
    """Raw samples as one array, or as arrays by name of several inputs; InputError where the names do not fit."""
    arrays = _arrays(program, inputs)
    return arrays if len(program.inputs) > 1 else next(iter(arrays.values()))


def _arrays(program: Program, inputs: Any) -> dict[str, Any]:
    names = [node.name for node in program.inputs]
    if not isinstance(inputs, Mapping) and len(names) > 1:
        raise InputError(f"the program takes several inputs, give a dict of samples by name: {_wanted(program)}")
    given = dict(inputs) if isinstance(inputs, Mapping) else {names[0]: inputs}
    if set(given) != set(names):
        raise InputError(f"the program takes inputs {_wanted(program)}; got {', '.join(map(str, given)) or 'none'}")
    return {name: _array(name, given[name]) for name in names}


def _wanted(program: Program) -> str:
    """Names and shapes of the samples that a program takes."""
    lead = {node.name: "T, N" if node.coding == "steps" else "N" for node in program.inputs}
    return ", ".join(f"{n.name} [{lead[n.name]}, {', '.join(map(str, n.raw_shape))}]" for n in program.inputs)


def _by_name(program: Program, inputs: Any, time_axis: bool) -> tuple[dict[str, Any], int]:
    arrays = _arrays(program, inputs)
    names = list(arrays)
    axis = {n.name: 1 if time_axis or n.coding == "steps" else 0 for n in program.inputs}
    short = [name for name in names if arrays[name].ndim <= axis[name]]
    if short:
        raise InputError(f"input {short[0]!r}: expected samples on the first axis, got {arrays[short[0]].shape}")
    sizes = {name: arrays[name].shape[axis[name]] for name in names}
    if len(set(sizes.values())) != 1:
        raise InputError(f"inputs have different numbers of samples: {sizes}")
    total = sizes[names[0]]
    if total == 0:
        raise InputError("no samples given")
    return arrays, total


def _array(name: str, value: Any) -> Any:
    try:
        return np.asarray(value.detach().cpu().numpy() if hasattr(value, "detach") else value)
    except (TypeError, ValueError) as error:
        raise InputError(f"input {name!r}: samples must be one array of numbers: {error}") from error


def _blocks(
    program: Program, samples: Mapping[str, Any], total: int, size: int, time_axis: bool
) -> Iterator[tuple[int, dict[str, IntArray]]]:
    told: set[str] = set()
    for start in range(0, total, size):
        part = slice(start, min(start + size, total))
        coded = {}
        for node in program.inputs:
            x = samples[node.name]
            x = x[:, part] if time_axis or node.coding == "steps" else x[part]
            coded[node.name] = encode(node, x, program.steps, time_axis=time_axis)
            for kind, text in doubts(node, x).items():
                if kind not in told:
                    told.add(kind)
                    warnings.warn(InputWarning(text, key=f"{node.name}:{kind}"), stacklevel=4)
        yield start, coded
