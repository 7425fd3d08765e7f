"""Proofs against results from elsewhere: golden vectors in a file, and traces of another simulator or a board.

A trace file is an `.npz` with samples first (N samples, T steps):

    outputs            [N, classes]      what argmax reads
    pred               [N]               written for the reader, not compared
    payload/<soma>     [N, T, *shape]
    potential/<soma>   [N, T, *shape]    after reset; an outside trace may hold the last step only, [N, *shape]
    input/<input>      [N, T, *shape]    coded payloads, so that the trace can be checked without the data
    origin             one text          JSON: program, versions, command, inputs; for the reader, not compared
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from snn2chip.checks.compare import CheckResult, Divergence, compare, ready_backends
from snn2chip.data.npz import open_npz
from snn2chip.errors import InputError
from snn2chip.golden import Golden, read_golden
from snn2chip.ir.program import Program
from snn2chip.ir.types import IntArray
from snn2chip.origin import ORIGIN, as_array
from snn2chip.registry import Backend
from snn2chip.trace import Trace, join_traces
from snn2chip.writing import write_npz

UNREAD = ("pred", ORIGIN)
"""Arrays of a trace that are for people."""


def check_golden(
    path: str | os.PathLike[str], *, backends: Sequence[str | Backend] = ("torch",), device: str | None = None
) -> CheckResult:
    """Run the golden inputs of a `.s2c` file on every backend named and compare with its golden results.

    The golden side is the expected one. Raises FileFormatError for an unsound file, InputError when it holds
    no golden vectors, BackendUnavailable or UnsupportedError when a backend cannot run it here.
    """
    from snn2chip.api import coded_inputs

    program, golden = read_golden(path)
    notes = (_provenance(program, golden),)
    coded = coded_inputs(program, golden.raw)
    moved = _moved_input(program, golden, coded)
    if moved is not None:
        size = sum(x.size for x in coded.values())
        names = (golden.expected.backend, "this machine's encoder")
        return CheckResult(equal=False, compared=size, backends=names, first=moved, notes=notes)
    traces = [_run_coded(program, golden.coded, engine) for engine in _engines(backends, program, device)]
    result = compare(program, [golden.expected, *traces])
    return attrs.evolve(result, notes=(*notes, *result.notes))


def _provenance(program: Program, golden: Golden) -> str:
    p = golden.provenance
    made = ", ".join(f"{name} {version}" for name, version in dict(p.get("versions", {})).items())
    text = f"golden vectors of {p['backend']}: {p['samples']} samples ({p.get('inputs', '?')}), made with {made}"
    changed = "" if p.get("digest") == program.digest() else "; the program was changed after they were made"
    return text + changed


def _moved_input(program: Program, golden: Golden, coded: Mapping[str, IntArray]) -> Divergence | None:
    for node in program.inputs:
        want, got = golden.coded[node.name], coded[node.name]
        different = np.argwhere(want != got) if want.shape == got.shape else np.zeros((1, want.ndim), np.int64)
        if len(different):
            step, sample, *index = (int(i) for i in different[0])
            return Divergence(
                soma=node.name,
                layer=node.layer,
                sample=sample,
                step=step,
                index=tuple(index),
                what="input",
                expected=int(want[step, sample][tuple(index)]),
                got=int(got[step, sample][tuple(index)]),
                expected_by=golden.expected.backend,
                got_by="this machine's encoder",
            )
    return None


def check_trace(
    program: Program,
    path: str | os.PathLike[str],
    *,
    inputs: Any = None,
    backends: Sequence[str | Backend] = ("reference",),
    time_axis: bool = False,
    device: str | None = None,
) -> CheckResult:
    """Compare `program` on every backend named with an externally recorded trace `.npz`.

    `inputs`: the raw samples that were recorded (more are cut off); left out, the trace's own `input/<name>`.
    The first backend is the expected side, the trace the last one. Somas that the trace lacks are named in
    `notes`. Raises InputError for a damaged trace or one that does not fit the program, all breaches at once.
    """
    outside, stored = read_trace(program, path)
    if inputs is None:
        missing = [node.name for node in program.inputs if node.name not in stored]
        if missing:
            raise InputError(
                f"{path}: holds no input/{missing[0]}, so say which samples it was recorded with (--data or --input)"
            )
        coded = stored
    else:
        coded = _leading(program, inputs, time_axis, outside.samples)
        outside = attrs.evolve(outside, inputs={name: x.astype(np.int32) for name, x in coded.items()})
    engines = _engines(backends, program, device)
    traces = [_run_coded(program, coded, engine) for engine in engines]
    result = compare(program, [*traces, outside])
    lacking = [s.name for s in program.somas if s.name not in outside.payloads]
    notes = (f"the trace records no payloads of {', '.join(lacking)}",) if lacking else ()
    return attrs.evolve(result, notes=(*notes, *result.notes))


def _engines(backends: Sequence[str | Backend], program: Program, device: str | None) -> list[Backend]:
    names = [b if isinstance(b, str) else b.name for b in backends]
    if not names or len(set(names)) != len(names):
        raise InputError(f"name at least one backend, each once; got {', '.join(names) or 'none'}")
    return ready_backends(backends, program, device)


def _leading(program: Program, inputs: Any, time_axis: bool, samples: int) -> dict[str, IntArray]:
    from snn2chip.api import coded_inputs

    coded = coded_inputs(program, inputs, time_axis=time_axis)
    given = next(iter(coded.values())).shape[1]
    if given < samples:
        raise InputError(f"the trace holds {samples} samples, but only {given} input samples were given")
    return {name: x[:, :samples] for name, x in coded.items()}


def _run_coded(program: Program, coded: Mapping[str, IntArray], engine: Backend) -> Trace:
    total, size = next(iter(coded.values())).shape[1], engine.block(program)
    blocks = [{name: x[:, a : a + size] for name, x in coded.items()} for a in range(0, total, size)]
    parts = [engine.run(program, block, record="all") for block in blocks]
    return parts[0] if len(parts) == 1 else join_traces(parts)


def write_trace(path: str | os.PathLike[str], trace: Trace, *, origin: Mapping[str, Any] | None = None) -> None:
    """Write `trace` as an `.npz` file: outputs and pred, whatever else it recorded, and its `origin` (see above)."""
    arrays: dict[str, Any] = {"outputs": trace.outputs, "pred": trace.pred}
    arrays |= {f"payload/{name}": np.moveaxis(x, 0, 1) for name, x in trace.payloads.items()}
    arrays |= {f"potential/{name}": np.moveaxis(x, 0, 1) for name, x in trace.potentials.items()}
    arrays |= {f"input/{name}": np.moveaxis(x, 0, 1) for name, x in trace.inputs.items()}
    write_npz(path, arrays if origin is None else {**arrays, **as_array(origin)})


def read_trace(program: Program, path: str | os.PathLike[str]) -> tuple[Trace, dict[str, IntArray]]:
    """Read a trace file recorded for `program`: the trace (backend: the file's name) and its coded inputs.

    Raises InputError listing everything that does not fit the program.
    """
    with open_npz(path) as file:
        arrays = {name: np.asarray(file[name]) for name in file.files if name not in UNREAD}
    bad = [f"{path}: {k!r} must be whole numbers, got {x.dtype}" for k, x in arrays.items() if x.dtype.kind not in "iu"]
    counts = sorted({x.shape[0] if x.ndim else 0 for x in arrays.values()})
    if not arrays or bad or len(counts) != 1 or counts[0] == 0:
        raise InputError(bad or f"{path}: samples come first in every array, but their numbers are {counts}")
    n = counts[0]
    wanted = _wanted(program, n)
    for key, x in arrays.items():
        shapes = wanted.get(key, ())
        if not shapes:
            bad.append(f"{path}: the program has no {key!r}; it has {', '.join(sorted(wanted))}")
        elif x.shape not in shapes:
            expected = " or ".join(str(list(shape)) for shape in shapes)
            bad.append(f"{path}: {key!r} is {list(x.shape)}, expected {expected}")
        elif x.size and not -(top := 1 << (62 if key == "outputs" else 31)) <= int(x.min()) <= int(x.max()) < top:
            bad.append(f"{path}: {key!r} holds values beyond {top.bit_length()} bits")
    if bad:
        raise InputError(bad)
    names = {"payload": program.somas, "potential": program.somas, "input": program.inputs}
    found = {
        group: {
            node.name: _steps_first(arrays[f"{group}/{node.name}"], len(node.shape), program.steps)
            for node in nodes
            if f"{group}/{node.name}" in arrays
        }
        for group, nodes in names.items()
    }
    outputs = arrays.get("outputs", np.zeros((n, 0))).astype(np.int64)
    trace = Trace(
        backend=os.path.basename(os.fspath(path)),
        steps=program.steps,
        samples=n,
        outputs=outputs,
        all_outputs={program.outputs[0].name: outputs} if "outputs" in arrays else {},
        payloads=found["payload"],
        potentials=found["potential"],
        inputs=found["input"],
    )
    read = {program.into[o.name][0].src for o in program.outputs if o.read == "potential"}
    if not (trace.payloads or trace.all_outputs or read & set(trace.potentials)):
        raise InputError(f"{path}: holds nothing to compare: no payload/<soma>, no outputs, no read-out potential")
    return trace, {name: x.astype(np.int64) for name, x in found["input"].items()}


def _wanted(program: Program, n: int) -> dict[str, tuple[tuple[int, ...], ...]]:
    """Legal shapes of every array that a trace of `n` samples may hold."""
    t = program.steps
    wanted: dict[str, tuple[tuple[int, ...], ...]] = {}
    for soma in program.somas:
        wanted[f"payload/{soma.name}"] = ((n, t, *soma.shape),)
        wanted[f"potential/{soma.name}"] = ((n, t, *soma.shape), (n, *soma.shape))
    for node in program.inputs:
        wanted[f"input/{node.name}"] = ((n, t, *node.shape),)
    if program.outputs:
        wanted["outputs"] = ((n, int(np.prod(program.shapes[program.outputs[0].name]))),)
    return wanted


def _steps_first(x: Any, axes: int, steps: int) -> Any:
    """`[N, T, *shape]` (or the last step only, `[N, *shape]`) as int32 `[T, N, *shape]`."""
    if x.ndim == axes + 1:
        return np.broadcast_to(x.astype(np.int32), (steps, *x.shape))
    return np.moveaxis(x.astype(np.int32), 1, 0)
