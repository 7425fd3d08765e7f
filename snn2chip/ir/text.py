"""Stable text form of a program: one line per node, defaults left out, arrays by shape and range."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
from scipy import sparse

from snn2chip.ir.nodes import HostOp
from snn2chip.ir.program import Program


def _show(value: Any) -> str:
    if sparse.issparse(value):
        return f"csr{list(value.shape)} nnz={value.nnz}"
    if isinstance(value, np.ndarray):
        if value.size == 1:
            return str(int(value.ravel()[0]))
        if value.size <= 4:
            return str(value.tolist())
        return f"int{list(value.shape)} {int(value.min())}..{int(value.max())}"
    if isinstance(value, HostOp):
        plain = HostOp(kind=value.kind)
        pairs = [(f.name, _show(getattr(value, f.name)), _show(getattr(plain, f.name))) for f in attrs.fields(HostOp)]
        return f"{value.kind}({' '.join(f'{name}={own}' for name, own, default in pairs if own != default)})"
    if isinstance(value, tuple):
        return "(" + ", ".join(_show(v) for v in value) + ")"
    return repr(value) if isinstance(value, str) else str(value)


def program_text(program: Program) -> str:
    """One line per node in data-flow order, then the edges with delays."""
    lines = [f"program steps={program.steps} target={program.target}"]
    for node in program.order:
        plain = _defaults(node)
        given = {f.alias: getattr(node, f.alias) for f in attrs.fields(type(node)) if f.name != "name"}
        shown = {name: _show(value) for name, value in given.items() if value is not None}
        parts = [f"{name}={text}" for name, text in shown.items() if text != plain.get(name)]
        sources = ", ".join(e.src + (f"@-{e.delay}" if e.delay else "") for e in program.into[node.name])
        arrow = f" <- {sources}" if sources else ""
        lines.append(f"{type(node).__name__.lower()} {node.name}{arrow}" + (f": {' '.join(parts)}" if parts else ""))
    return "\n".join(lines) + "\n"


def _defaults(node: Any) -> dict[str, str]:
    shape = getattr(node, "shape", None)
    kind = {"kind": node.kind} if hasattr(node, "kind") else {}
    fire = {"fire": node.fire} if hasattr(node, "fire") else {}
    plain = type(node)(node.name, **({"shape": shape} if shape else {}), **kind, **fire)
    return {
        f.alias: _show(getattr(plain, f.alias))
        for f in attrs.fields(type(node))
        if f.name not in ("shape", "kind", "fire")
    }
