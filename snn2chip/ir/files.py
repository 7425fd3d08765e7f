"""The `.s2c` file: safetensors arrays behind a JSON header with a format version.

Nothing in it can execute code. Writing goes through `snn2chip.writing`; reading checks sizes against the header before
any array is touched and validates the program. Dense weights of 8 bits are mapped, not copied (`snn2chip.ir.mapped`),
and written from where they lie.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from scipy import sparse

from snn2chip.errors import FileFormatError, ProgramError
from snn2chip.ir.mapped import mapped, unchanged
from snn2chip.ir.narrow import narrowed, widened
from snn2chip.ir.nodes import Host, HostOp, Input, Output, Product, Synapse, Unchanging
from snn2chip.ir.program import Program
from snn2chip.ir.said import said
from snn2chip.ir.soma import Soma
from snn2chip.ir.types import smallest_int
from snn2chip.writing import replacing, write_text

FORMAT = "s2c"
VERSION = 3
READABLE = (1, 2, 3)
"""2: arrays of few values are packed (`snn2chip.ir.narrow`). 3: somas that send changes; only where there are any."""
NODE_CLASSES: dict[str, type] = {c.__name__: c for c in (Input, Host, Synapse, Soma, Product, Output)}
LATER = {(Synapse, "shape"): None, (Input, "sample_shape"): None, (Soma, "delta_shift"): 0}
"""Fields that came with a later release, with what they are while unset: then they are not written, so that files and
digests stay as they were."""
Arrays = dict[str, Any]
PLACEHOLDER = "s2c"
__all__ = [
    "checksum",
    "digest",
    "from_header",
    "read",
    "replacing",
    "sealed",
    "to_header",
    "write",
    "write_text",
]


def _compact(array: Any) -> Any:
    lo, hi = (int(array.min()), int(array.max())) if array.size else (0, 0)
    return np.ascontiguousarray(array.astype(smallest_int(lo, hi), copy=False))


def _pack(value: Any, key: str, arrays: Arrays) -> Any:
    if isinstance(value, np.ndarray) and value.size == 1 and value.ndim == 0:
        return int(value)
    if isinstance(value, np.ndarray):
        arrays[key] = _compact(unchanged(value))
        return {"array": key}
    if sparse.issparse(value):
        for part in ("data", "indices", "indptr"):
            arrays[f"{key}.{part}"] = _compact(np.asarray(getattr(value, part)))
        return {"csr": key, "shape": list(map(int, value.shape))}
    if isinstance(value, HostOp):
        return {f.name: _pack(getattr(value, f.name), f"{key}.{f.name}", arrays) for f in attrs.fields(HostOp)}
    if isinstance(value, tuple):
        return [_pack(v, f"{key}.{i}", arrays) for i, v in enumerate(value)]
    return value.item() if isinstance(value, np.generic) else value


def version_of(program: Program) -> int:
    """The oldest format version that can say this program, so that older releases read what they can."""
    return 3 if any(soma.fire == "delta" or soma.reset == "keep" for soma in program.somas) else 2


def to_header(program: Program) -> tuple[dict[str, Any], Arrays]:
    """The JSON-able header and the arrays of a program."""
    arrays: Arrays = {}
    nodes = []
    for node in program.nodes:
        fields = attrs.fields(type(node))
        packed = {
            f.alias: _pack(getattr(node, f.name), f"{node.name}/{f.alias}", arrays)  # weights as stored: no copy
            for f in fields
            if (type(node), f.name) not in LATER or getattr(node, f.name) != LATER[type(node), f.name]
        }
        nodes.append({"node": type(node).__name__, **packed})
    header = {
        "format": FORMAT,
        "version": version_of(program),
        "steps": program.steps,
        "target": program.target,
        "nodes": nodes,
        "edges": [[str(e.src), str(e.dst), int(e.delay)] for e in program.edges],
        "records": [dict(r) for r in program.records],
        "meta": dict(program.meta),
    }
    return header, arrays


def digest(program: Program) -> str:
    """SHA-256 over the header without notes and records, and every array."""
    header, arrays = to_header(program)
    for key in ("records", "meta", "version"):
        header.pop(key)
    return checksum(header, arrays)


def checksum(header: Mapping[str, Any], arrays: Arrays) -> str:
    """SHA-256 over a header and the name, type, shape and bytes of every array."""
    h = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(arrays):
        h.update(f"{name}:{arrays[name].dtype}:{arrays[name].shape}".encode())
        h.update(np.ascontiguousarray(arrays[name]).reshape(-1).view(np.uint8).data)
    return h.hexdigest()


def write(path: str | os.PathLike[str], program: Program, *, golden: Mapping[str, Any] | None = None) -> None:
    """Write `program` (and golden arrays, named `golden/...`) as one `.s2c` file."""
    from safetensors.numpy import save_file

    header, arrays = to_header(program)
    if golden:
        header["golden"] = golden["header"]
        arrays.update({f"golden/{k}": v for k, v in golden["arrays"].items()})
    arrays = {k: np.ascontiguousarray(v) for k, v in arrays.items()}
    arrays.setdefault(PLACEHOLDER, np.zeros(1, np.int8))  # safetensors wants at least one array
    arrays, header["packed"] = narrowed(arrays)
    try:
        text = sealed(header, arrays)
    except (TypeError, ValueError) as error:
        raise FileFormatError(f"{path}: meta and records must be plain JSON values: {error}") from error
    with replacing(path) as part:
        save_file(arrays, str(part), metadata={"snn2chip": text})


def sealed(header: Mapping[str, Any], arrays: Arrays) -> str:
    """The header as JSON text with the checksum of itself and the arrays; raises TypeError, ValueError."""
    plain = {key: value for key, value in header.items() if key != "sha256"}
    return json.dumps({**plain, "sha256": checksum(plain, arrays)}, sort_keys=True, allow_nan=False)


def read(path: str | os.PathLike[str]) -> tuple[Program, dict[str, Any]]:
    """Read and validate a `.s2c` file: the program and `{"header", "arrays"}` of its golden vectors.

    Raises FileFormatError for anything that is not a sound file of this format version.
    """
    header, stored = _read_raw(path)
    try:
        arrays = _Read(widened(stored, header.pop("packed", {})))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, MemoryError) as error:
        raise FileFormatError(f"{path}: damaged header or arrays ({said(error)})") from error
    program = from_header(header, arrays, path=path)
    golden: dict[str, Any] = {}
    if header.get("golden") is not None:
        own = {k[len("golden/") :]: np.array(v) for k, v in arrays.items() if k.startswith("golden/")}
        golden = {"header": header["golden"], "arrays": own}
    extra = sorted(set(arrays) - arrays.used - {PLACEHOLDER} - {f"golden/{k}" for k in golden.get("arrays", {})})
    if extra:
        raise FileFormatError(f"{path}: holds arrays that nothing in the program uses: {', '.join(extra)}")
    return program, golden


def from_header(header: Mapping[str, Any], arrays: Arrays, *, path: Any) -> Program:
    """The program of a header and its arrays, validated; FileFormatError for anything unsound.

    Large weights are kept as they are given, not copied: the caller changes no array afterwards.
    """
    try:
        if bad := [name for name, array in arrays.items() if array.dtype.kind not in "iu"]:
            raise ValueError(f"arrays must be integers, but {', '.join(bad)} are not")
        return _program(header, arrays)
    except ProgramError as error:
        raise FileFormatError(f"{path}: the program in this file is not valid: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, MemoryError) as error:
        raise FileFormatError(f"{path}: damaged header or arrays ({said(error)})") from error


class _Read(dict[str, Any]):
    """Arrays by name, and which of them were taken."""

    def __init__(self, arrays: Arrays) -> None:
        super().__init__(arrays)
        self.used: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.used.add(name)
        return super().__getitem__(name)


def _read_raw(path: str | os.PathLike[str]) -> tuple[dict[str, Any], Arrays]:
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        what = "is a folder, not a file" if Path(path).is_dir() else "no such file"
        raise FileFormatError(f"{path}: {what}")
    try:
        with safe_open(str(path), framework="np") as file:
            metadata = file.metadata() or {}
            if "snn2chip" not in metadata:
                raise FileFormatError(f"{path}: a safetensors file, but not written by snn2chip save")
            header = json.loads(metadata["snn2chip"])
            if not isinstance(header, dict) or header.get("format") != FORMAT:
                raise FileFormatError(f"{path}: not an .s2c program (a model checkpoint? use `snn2chip compile`)")
            if header.get("version") not in READABLE:
                raise FileFormatError(
                    f"{path}: format version {header.get('version')!r}; this snn2chip reads versions "
                    + f"{', '.join(map(str, READABLE[:-1]))} and {READABLE[-1]}"
                )
        arrays = mapped(path)
    except FileFormatError:
        raise
    except (SafetensorError, OSError, ValueError, KeyError, RecursionError, TypeError, MemoryError) as error:
        raise FileFormatError(f"{path}: damaged, truncated or not an .s2c file ({error})") from error
    if header.pop("sha256", None) != checksum(header, arrays):
        raise FileFormatError(f"{path}: damaged: the contents do not fit the checksum; copy or compile it again")
    return header, arrays


def _unpack(value: Any, arrays: Arrays) -> Any:
    if isinstance(value, dict) and set(value) == {"array"}:
        return arrays[value["array"]]
    if isinstance(value, dict) and set(value) == {"csr", "shape"}:
        return _csr(value, arrays)
    if isinstance(value, dict) and "kind" in value:
        return HostOp(**{k: _unpack(v, arrays) for k, v in value.items()})
    return [_unpack(v, arrays) for v in value] if isinstance(value, list) else value


def _csr(value: dict[str, Any], arrays: Arrays) -> Any:
    data, indices, indptr = (arrays[f"{value['csr']}.{part}"] for part in ("data", "indices", "indptr"))
    rows, cols = (int(n) for n in value["shape"])
    sound = (
        len(indptr) == rows + 1
        and indptr[0] == 0
        and int(indptr[-1]) == len(indices) == len(data)
        and (np.diff(indptr.astype(np.int64)) >= 0).all()
        and (len(indices) == 0 or (indices.min() >= 0 and indices.max() < cols))
    )
    if not sound:
        raise ValueError(f"sparse weight {value['csr']!r} is inconsistent")
    parts = tuple(part.astype(np.int64) for part in (data, indices, indptr))  # copies: nothing of these stays mapped
    return sparse.csr_matrix(parts, shape=(rows, cols))


def _program(header: Mapping[str, Any], arrays: Arrays) -> Program:
    nodes = []
    for entry in header["nodes"]:
        entry = dict(entry)
        cls = NODE_CLASSES[entry.pop("node")]
        unknown = set(entry) - {f.alias for f in attrs.fields(cls)}
        if unknown:
            raise ValueError(f"unknown fields {sorted(unknown)}")
        fields = {k: _unpack(v, arrays) for k, v in entry.items()}
        if cls is Synapse and isinstance(fields.get("weight"), np.ndarray):
            fields["weight"] = Unchanging(fields["weight"])
        nodes.append(cls(**fields))
    return Program(
        nodes=nodes,
        edges=[tuple(edge) for edge in header["edges"]],
        steps=header["steps"],
        target=header["target"],
        records=header["records"],
        meta=header["meta"],
    )
