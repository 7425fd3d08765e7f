"""Golden vectors: inputs and what one backend answered, inside the `.s2c` file.

A copy of the file then proves itself on any machine: a machine without Lava can be held against Lava's
results. Stored per file, in the smallest integer types (N samples, T steps):

    raw/<input>        the raw samples as given (floats as their bit patterns)
    coded/<input>      payloads [T or 1, N, *shape] that they became (1: the same at every step)
    payload/<soma>     [T, N, *shape] of every soma
    potential/<soma>   [T, N, *shape] after reset, of every soma that an output reads
    output/<output>    [N, size]
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from importlib import metadata
from typing import Any

import attrs
import numpy as np

import snn2chip
from snn2chip.errors import FileFormatError, InputError
from snn2chip.ir import files
from snn2chip.ir.nodes import Host
from snn2chip.ir.program import Program
from snn2chip.ir.types import IntArray, smallest_int
from snn2chip.trace import Trace

BITS: Mapping[str, str] = {"float16": "int16", "float32": "int32", "float64": "int64"}
PACKAGES = ("numpy", "torch", "lava-nc")


@attrs.frozen(kw_only=True)
class Golden:
    """Golden vectors of a program: raw and coded samples by input name, the expected trace, where it came from.

    `coded[name]` is int64 `[T, N, *shape]`; `provenance` holds backend, samples, digest and versions.
    """

    raw: Mapping[str, Any]
    coded: Mapping[str, IntArray]
    expected: Trace
    provenance: Mapping[str, Any]


def save_program(
    program: Program,
    path: str | os.PathLike[str],
    *,
    golden: int = 0,
    inputs: Any = None,
    backend: str = "reference",
    seed: int = 0,
) -> None:
    """Write `program` as one `.s2c` file, with `golden` samples of inputs and expected results.

    `inputs`: raw samples `[>=golden, ...]` (`[T, >=golden, ...]` for an Input coded in steps), by name when
    there are several; left out, random in-range samples are drawn from `seed`.
    Raises InputError for too few samples and whatever `snn2chip.run` raises.
    """
    if not isinstance(golden, int) or golden < 0:
        raise InputError(f"golden must be a number of samples >= 0, got {golden!r}")
    if inputs is not None and golden == 0:
        raise InputError("inputs are stored as golden vectors; say how many with golden=N")
    vectors = make_golden(program, golden, inputs=inputs, backend=backend, seed=seed) if golden else None
    files.write(path, program, golden=vectors)


def make_golden(program: Program, samples: int, *, inputs: Any, backend: str, seed: int = 0) -> dict[str, Any]:
    """Run `samples` samples on `backend`: the `{"header", "arrays"}` that the file stores."""
    from snn2chip.api import run

    given = inputs is not None
    raw = _first(program, inputs if given else random_samples(program, samples, seed=seed), samples)
    trace = run(program, raw, backend=backend, record="all")
    reads = sorted({program.into[o.name][0].src for o in program.outputs})
    arrays = {f"raw/{name}": _bits(name, x) for name, x in raw.items()}
    arrays |= {f"coded/{name}": _compact(_one_if_constant(x)) for name, x in trace.inputs.items()}
    arrays |= {f"payload/{name}": _compact(x) for name, x in trace.payloads.items()}
    arrays |= {f"potential/{name}": _compact(trace.potentials[name]) for name in reads if name in trace.potentials}
    arrays |= {f"output/{name}": _compact(x) for name, x in trace.all_outputs.items()}
    header = {
        "backend": trace.backend,
        "samples": samples,
        "inputs": "given" if given else f"random, seed {seed}",
        "raw": {name: str(x.dtype) for name, x in raw.items()},
        "digest": program.digest(),
        "versions": versions(),
    }
    return {"header": header, "arrays": arrays}


def versions() -> dict[str, str]:
    """Versions of what took part in making golden vectors, as far as installed."""
    found = {"snn2chip": snn2chip.__version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def random_samples(program: Program, samples: int, *, seed: int = 0) -> dict[str, Any]:
    """Random raw samples inside every input's declared range, half of the values 0.

    Raises InputError for a program with host operations, whose legal raw range is not declared.
    """
    hosts = [n.name for n in program.inputs if isinstance(n, Host)]
    if hosts:
        raise InputError(f"inputs with host operations ({', '.join(hosts)}) need real samples; give inputs=")
    rng = np.random.default_rng(seed)
    found: dict[str, Any] = {}
    for node in program.inputs:
        steps = (program.steps,) if node.coding == "steps" else ()
        shape = (*steps, samples, *node.shape)
        silent = rng.random(shape) < 0.5
        if node.coding.startswith("rate"):
            found[node.name] = np.where(silent, 0.0, rng.uniform(0.0, node.hi * node.scale, shape))
            continue
        payload = np.where(silent, 0, rng.integers(node.lo, node.hi, shape, endpoint=True))
        found[node.name] = payload + node.offset.reshape(
            node.offset.shape + (1,) * (len(node.shape) - node.offset.ndim)
        )
    return found


def read_golden(path: str | os.PathLike[str]) -> tuple[Program, Golden]:
    """Read a program and its golden vectors.

    Raises FileFormatError for an unsound file, InputError when it holds no golden vectors.
    """
    program, stored = files.read(path)
    if not stored:
        raise InputError(f"{path}: holds no golden vectors; write it with program.save(path, golden=N)")
    try:
        return program, _unpack(program, stored["header"], stored["arrays"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FileFormatError(f"{path}: damaged golden vectors ({type(error).__name__}: {error})") from error


def _unpack(program: Program, header: Mapping[str, Any], arrays: Mapping[str, Any]) -> Golden:
    n, steps = int(header["samples"]), program.steps
    raw = {node.name: _floats(arrays[f"raw/{node.name}"], header["raw"][node.name]) for node in program.inputs}
    coded = {}
    for node in program.inputs:
        x = arrays[f"coded/{node.name}"].astype(np.int64)
        coded[node.name] = _shaped(node.name, np.broadcast_to(x, (steps, *x.shape[1:])), (steps, n, *node.shape))
    payloads = {
        s.name: _shaped(s.name, arrays[f"payload/{s.name}"], (steps, n, *s.shape)).astype(np.int32)
        for s in program.somas
    }
    potentials = {
        s.name: _shaped(s.name, arrays[f"potential/{s.name}"], (steps, n, *s.shape)).astype(np.int32)
        for s in program.somas
        if f"potential/{s.name}" in arrays
    }
    outputs = {}
    for output in program.outputs:
        size = int(np.prod(program.shapes[output.name]))
        outputs[output.name] = _shaped(output.name, arrays[f"output/{output.name}"], (n, size)).astype(np.int64)
    first = outputs[program.outputs[0].name] if program.outputs else np.zeros((n, 0), np.int64)
    expected = Trace(
        backend=f"golden ({header['backend']})",
        steps=steps,
        samples=n,
        outputs=first,
        all_outputs=outputs,
        payloads=payloads,
        potentials=potentials,
        inputs={name: x.astype(np.int32) for name, x in coded.items()},
    )
    return Golden(raw=raw, coded=coded, expected=expected, provenance=dict(header))


def _first(program: Program, inputs: Any, samples: int) -> dict[str, Any]:
    names = [node.name for node in program.inputs]
    given = dict(inputs) if isinstance(inputs, Mapping) else {names[0]: inputs}
    raw, short = {}, []
    for node in program.inputs:
        if node.name not in given:
            raise InputError(f"golden vectors need samples for the inputs {', '.join(names)}; got {', '.join(given)}")
        value = given[node.name]
        x = np.asarray(value.detach().cpu().numpy() if hasattr(value, "detach") else value)
        axis = 1 if node.coding == "steps" else 0
        if x.ndim <= axis or x.shape[axis] < samples:
            short.append(f"input {node.name!r}: golden={samples} samples asked for, got an array {list(x.shape)}")
        raw[node.name] = x[:, :samples] if axis else x[:samples]
    if short:
        raise InputError(short)
    return raw


def _one_if_constant(x: Any) -> Any:
    return x[:1] if (x == x[:1]).all() else x


def _compact(x: Any) -> Any:
    lo, hi = (int(x.min()), int(x.max())) if x.size else (0, 0)
    return np.ascontiguousarray(x.astype(smallest_int(lo, hi)))


def _bits(name: str, x: Any) -> Any:
    if x.dtype.kind in "iu":
        return np.ascontiguousarray(x)
    if str(x.dtype) in BITS:
        return np.ascontiguousarray(x).view(BITS[str(x.dtype)])
    if x.dtype.kind == "b":
        return x.astype(np.uint8)
    raise InputError(f"input {name!r}: samples must be whole numbers or float16/32/64, got {x.dtype}")


def _floats(x: Any, dtype: str) -> Any:
    return x.view(dtype) if dtype in BITS else x


def _shaped(name: str, x: Any, shape: tuple[int, ...]) -> Any:
    if x.shape != shape:
        raise ValueError(f"{name}: {list(x.shape)}, expected {list(shape)}")
    return x
