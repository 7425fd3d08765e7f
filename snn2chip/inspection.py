"""What is in a file: a program, or named weights. Nothing in the file is executed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

from snn2chip.errors import FileFormatError

KINDS = (".s2c", ".safetensors", ".pt", ".pth", ".onnx", ".nir", ".net")


def inspect_file(path: Path) -> dict[str, Any]:
    """A JSON-able description: kind "program" (nodes, edges, sizes, golden) or "weights" (header, tensors).

    Raises FileFormatError for a missing, damaged or unknown file.
    """
    if path.is_dir():
        raise FileFormatError(f"{path}: is a folder; name a file ({', '.join(KINDS)})")
    if not path.exists():
        raise FileFormatError(f"{path}: no such file")
    if not path.is_file():
        raise FileFormatError(f"{path}: is not a regular file")
    if path.suffix == ".s2c":
        return _program(path)
    if path.suffix == ".safetensors":
        return _safetensors(path)
    if path.suffix in (".pt", ".pth"):
        return _pickle(path)
    if path.suffix == ".onnx":
        return _onnx(path)
    if path.suffix == ".nir":
        from snn2chip.interop.nir_look import look

        return look(path)
    if path.suffix == ".net":
        from snn2chip.interop.netx_look import look as look_netx

        return look_netx(path)
    raise FileFormatError(f"{path}: expected one of {', '.join(KINDS)}, got {path.suffix or 'no ending'!r}")


def _program(path: Path) -> dict[str, Any]:
    from snn2chip.analysis.proofs import range_summary, range_table
    from snn2chip.ir.files import read
    from snn2chip.schedule import schedule

    program, golden = read(path)
    nodes = [
        {"name": n.name, "node": type(n).__name__, "shape": list(program.shapes[n.name]), "layer": n.layer}
        for n in program.order
    ]
    return {
        "kind": "program",
        "name": program.name,
        "steps": program.steps,
        "target": program.target,
        "digest": program.digest(),
        "neurons": sum(soma.size for soma in program.somas),
        "synapses": sum(int(s.values().size) for s in program.synapses),
        "latency": schedule(program).latency,
        "nodes": nodes,
        "edges": [[e.src, e.dst, e.delay] for e in program.edges],
        "ranges": range_table(program),
        "proofs": range_summary(program),
        "meta": dict(program.meta),
        "golden": golden.get("header"),
        "text": program.text(),
    }


def _onnx(path: Path) -> dict[str, Any]:
    from snn2chip.frontends.onnx import read_onnx

    graph = read_onnx(path)
    layers = [
        {"name": layer.name, "kind": layer.kind, "shape": list(graph.shapes[layer.name]), "path": layer.path}
        for layer in graph.layers
    ]
    notes = [f"{note.layer}: {note.text}" for note in graph.notes]
    return {"kind": "network", "name": path.stem, "layers": layers, "notes": notes, "text": graph.text()}


def _safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="np") as file:
            metadata = dict(file.metadata() or {})
            parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            tensors = [
                {"name": name, "shape": list(part.get_shape()), "dtype": str(part.get_dtype())}
                for name, part in parts.items()
            ]
    except (SafetensorError, OSError, ValueError) as error:
        raise FileFormatError(f"{path}: damaged or not a safetensors file ({error})") from error
    header = _json_texts(metadata)
    found = _weights(header, tensors)
    own = header.get("snn2chip")
    if isinstance(own, dict) and own.get("model") == "graph":
        from snn2chip.checkpoint import load_model

        graph: Any = load_model(path)[0].graph
        own["args"] = {"layers": len(graph.layers), "steps": graph.steps}
        found["text"] = graph.text()
    return found


def _json_texts(metadata: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, text in metadata.items():
        try:
            found[key] = json.loads(text)
        except (ValueError, RecursionError):
            found[key] = text
    return found


def _pickle(path: Path) -> dict[str, Any]:
    """A PyTorch file, read with `weights_only=True`: tensors are shown, anything that would run code is refused."""
    from snn2chip.checkpoint_tensors import SAVED, load_pickled

    state = load_pickled(path, advice=f"where it was made, {SAVED}")
    try:
        return _weights({}, _tensors(state, ""))
    except RecursionError:
        raise FileFormatError(f"{path}: its tensors lie too deep in each other") from None


def _tensors(value: Any, prefix: str) -> list[dict[str, Any]]:
    import torch

    if isinstance(value, torch.Tensor):
        return [{"name": prefix or "tensor", "shape": list(value.shape), "dtype": str(value.dtype)}]
    items = (
        value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    )
    return [t for k, v in items for t in _tensors(v, f"{prefix}.{k}" if prefix else str(k))]


def _weights(header: dict[str, Any], tensors: list[dict[str, Any]]) -> dict[str, Any]:
    parameters = sum(prod(t["shape"]) for t in tensors)
    return {"kind": "weights", "header": header, "parameters": parameters, "tensors": tensors}
