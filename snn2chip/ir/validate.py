"""Every rule of the contract, checked on construction and on load; all breaches are listed at once."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from snn2chip.ir.geometry import current_range, out_shape
from snn2chip.ir.nodes import (
    CODINGS,
    CURRENT_SOURCES,
    HOST_OPS,
    KINDS,
    PAYLOAD_SOURCES,
    READS,
    Host,
    HostOp,
    Input,
    Output,
    Product,
    Synapse,
    describe,
)
from snn2chip.ir.soma import Soma
from snn2chip.ir.types import PAYLOAD_BITS, SIGNS, WEIGHT_BITS
from snn2chip.ir.validate_soma import shape_breaches, soma_breaches

if TYPE_CHECKING:
    from snn2chip.ir.program import Program

Shape = tuple[int, ...]
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]{0,199}\Z")
MAX_CURRENT = 1 << 46
"""What every backend holds exactly: partial sums stay below 2^47 (float64 has 2^53), times a 16-bit gain below 2^63."""


def breaches(program: Program) -> list[str]:
    """All breaches of the contract, each naming the node and the user's own layer."""
    found = list(_names(program))
    named = not found or all(text.startswith("steps") for text in found)
    if named:
        found += _edge_kinds(program)
    edges = list(found)
    shaped = named
    for node in program.nodes:
        own = list(_node(node, program.steps))
        shaped &= not own or (isinstance(node, Soma) and not any(text.startswith("shape") for text in own))
        found += [f"{describe(node)}: {text}" for text in own]
    if edges or not shaped:
        return found
    from snn2chip.ir.order import undelayed_cycle

    cycle = undelayed_cycle(program)
    if cycle:
        path = " -> ".join([*cycle, cycle[0]])
        return [*found, f"the loop {path} has no delay; give one of its payload edges a delay of at least 1"]
    found += infer_shapes(program)[1]
    found += _windowed_loops(program)
    return found or list(_bounds(program))


def _windowed_loops(program: Program) -> Iterator[str]:
    from snn2chip.ir.order import components

    for names, feedback in components(program):
        for name in names if feedback else ():
            if getattr(program[name], "window", None) is not None:
                yield f"{describe(program[name])}: a windowed soma needs its whole sample first and cannot be on a loop"


def _names(program: Program) -> Iterator[str]:
    if type(program.steps) is not int or not 1 <= program.steps <= 1 << 20:
        yield f"steps must be a whole number from 1 to {1 << 20}, got {program.steps!r}"
    if not isinstance(program.target, str):
        yield f"target is the name of a chip, got {program.target!r}"
    if not isinstance(program.meta, Mapping) or not all(isinstance(r, Mapping) for r in program.records):
        yield "meta is a mapping and records are mappings of plain values"
    legal = (*PAYLOAD_SOURCES, Synapse, Product, Output)
    for node in program.nodes:
        if not isinstance(node, legal):
            yield f"{node!r} is not a program node"
        elif not isinstance(node.name, str) or not NAME.match(node.name):
            yield f"name {node.name!r} is not allowed; use letters, digits, '_', '.', '-', starting with a letter"
        elif not isinstance(node.layer, str):
            yield f"{node.name}: layer is the path of the user's own layer, got {node.layer!r}"
    names = Counter(getattr(node, "name", None) for node in program.nodes)
    yield from (f"name {name!r} is used by {n} nodes; names are unique" for name, n in names.items() if n > 1)
    for edge in program.edges:
        for end in (edge.src, edge.dst):
            if end not in names:
                yield f"edge {edge.src} -> {edge.dst}: there is no node {end!r}"
        if not isinstance(edge.delay, (int, np.integer)) or not 0 <= edge.delay <= 1 << 20:
            yield f"edge {edge.src} -> {edge.dst}: delay must be a whole number >= 0, got {edge.delay!r}"


def _edge_kinds(program: Program) -> Iterator[str]:
    if not program.inputs:
        yield "the program has no Input or Host"
    for edge in program.edges:
        src, dst = program[edge.src], program[edge.dst]
        where = f"edge {describe(src)} -> {describe(dst)}"
        if isinstance(src, CURRENT_SOURCES) and not isinstance(dst, Soma):
            yield (
                f"{where}: a {type(src).__name__.lower()} feeds somas only; put a relay soma "
                "(fire='relay', reset='drop') between, or compose the two linear maps"
            )
        elif isinstance(src, PAYLOAD_SOURCES) and isinstance(dst, Output) and not isinstance(src, Soma):
            yield f"{where}: an output reads a soma"
        elif isinstance(src, PAYLOAD_SOURCES) and not isinstance(dst, (Synapse, Product, Output)):
            yield f"{where}: a payload feeds a synapse, a product or an output; put a synapse between"
        elif isinstance(src, Output):
            yield f"{where}: nothing comes out of an output"
        if edge.delay and not isinstance(dst, (Synapse, Product)):
            yield f"{where}: only payload edges into a synapse or product carry a delay"
    for (first, second), n in Counter((e.src, e.dst) for e in program.edges).items():
        if n > 1 and not isinstance(program[second], Product):
            yield f"edge {first} -> {second} is given {n} times"
    for node in program.nodes:
        n_in, n_out = len(program.into[node.name]), len(program.out_of[node.name])
        if isinstance(node, (Input, Host)) and n_in:
            yield f"{describe(node)}: takes samples, nothing may feed it"
        if isinstance(node, (Synapse, Output)) and n_in != 1:
            yield f"{describe(node)}: needs exactly one source, has {n_in}"
        if isinstance(node, Product) and n_in != 2:
            yield f"{describe(node)}: needs exactly two payload sources, has {n_in}"
        if isinstance(node, Soma) and n_in == 0:
            yield f"{describe(node)}: no synapse or product feeds this soma"
        if isinstance(node, CURRENT_SOURCES) and n_out == 0:
            yield f"{describe(node)}: feeds no soma"


def _node(node: object, steps: int) -> Iterator[str]:
    if isinstance(node, Soma):
        yield from soma_breaches(node, steps)
    elif isinstance(node, (Input, Host)):
        yield from _source(node)
    elif isinstance(node, Synapse):
        yield from _synapse(node)
    elif isinstance(node, Product) and not 0 <= node.shift <= 30:
        yield f"shift must be 0..30, got {node.shift}"
    elif isinstance(node, Output) and node.read not in READS:
        yield f"read must be one of {', '.join(READS)}, got {node.read!r}"


def _source(node: Input | Host) -> Iterator[str]:
    limit = 1 << PAYLOAD_BITS
    yield from shape_breaches(node.shape)
    if not -limit // 2 <= node.lo <= 0 <= node.hi < limit or node.lo == node.hi:
        yield f"range [{node.lo}, {node.hi}] must contain 0, more than one value and fit {PAYLOAD_BITS} bits"
    if node.coding not in CODINGS:
        yield f"coding must be one of {', '.join(CODINGS)}, got {node.coding!r}"
    if not (np.isfinite(node.scale) and node.scale > 0):
        yield f"scale must be a positive number, got {node.scale}"
    channels = node.raw_shape[:1]
    if node.offset.ndim and node.offset.shape not in (channels, (1,)):
        yield f"offset is a scalar or per channel {list(channels)}, got shape {node.offset.shape}"
    if node.coding.startswith("rate") and (node.lo != 0 or (node.offset != 0).any()):
        yield "rate coding sends 0..hi without an offset; set lo=0, offset=0"
    if isinstance(node, Input) and np.prod(node.raw_shape) != np.prod(node.shape):
        yield f"a sample {node.raw_shape} cannot be read as {node.shape}"
    if isinstance(node, Host):
        from snn2chip.ir.host import host_bounds, host_shape

        bad = [text for i, op in enumerate(node.ops) for text in _host_op(i, op)]
        yield from bad
        if not bad:
            shape, bad = host_shape(node)
            yield from bad
            if not bad:
                yield from host_bounds(node)
            if not bad and shape != node.shape:
                yield f"the host operations make {shape}, but the declared shape is {node.shape}"


def _host_op(i: int, op: HostOp) -> Iterator[str]:
    where = f"host operation {i}"
    if op.kind not in HOST_OPS:
        yield f"{where} must be one of {', '.join(HOST_OPS)}, got {op.kind!r}"
    if not 0 <= op.shift <= 30 or op.lo > op.hi:
        yield f"{where}: shift must be 0..30 and lo <= hi, got shift {op.shift}, range [{op.lo}, {op.hi}]"
    if min(*op.stride, *op.kernel_size, op.groups) < 1 or min(op.padding) < 0:
        yield f"{where}: stride, kernel size and groups must be >= 1, padding >= 0"
    elif op.kind == "maxpool" and any(pad >= size for pad, size in zip(op.padding, op.kernel_size, strict=True)):
        yield f"{where}: a maximum over padding alone does not exist; padding {op.padding} must be below the kernel"


def _synapse(node: Synapse) -> Iterator[str]:
    if node.kind not in KINDS:
        yield f"kind must be one of {', '.join(KINDS)}, got {node.kind!r}"
        return
    if node.stored is None:
        yield f"a {node.kind} synapse needs a weight"
    elif node.sign not in SIGNS:
        yield f"sign must be one of {', '.join(SIGNS)}, got {node.sign!r}"
    elif node.bits not in WEIGHT_BITS:
        yield f"bits must be 1, 'ternary' or 2..8, got {node.bits!r}"
    else:
        yield from node.weight_type.breaches(node.narrow_values(), stored_only=bool(node.sparse))
    if not 0 <= node.exponent <= 16:
        yield f"exponent must be 0..16, got {node.exponent} (fold a negative one into the soma's gain)"
    if min(node.stride) < 1 or min(node.dilation) < 1 or min(node.padding) < 0 or node.groups < 1:
        yield (
            f"stride {node.stride}, dilation {node.dilation} and groups {node.groups} must be >= 1, "
            f"padding {node.padding} >= 0"
        )
    plain = node.stride == node.dilation == node.kernel_size == (1, 1) and node.padding == (0, 0)
    if node.kind in ("linear", "identity") and not (plain and node.groups == 1):
        yield f"a {node.kind} synapse has no kernel, stride, padding, dilation or groups"
    if node.shape is not None:
        if node.kind == "linear":
            yield from shape_breaches(node.shape)
        else:
            yield f"only a linear synapse declares the shape of its currents, got {node.shape} of a {node.kind}"
    if node.kind == "sumpool" and (node.groups != 1 or node.dilation != (1, 1)):
        yield "a sum-pool has no groups or dilation"
    if min(node.kernel_size) < 1:
        yield f"kernel size must be >= 1, got {node.kernel_size}"
    if node.kind == "conv2d" and node.stored is not None and node.kernel_size != node.stored.shape[2:]:
        yield f"kernel size {node.kernel_size} does not fit weight {node.stored.shape}"
    if not isinstance(node.sparse, bool):
        yield f"sparse is True or False, got {node.sparse!r}"


def infer_shapes(program: Program) -> tuple[dict[str, Shape], list[str]]:
    """Shape of what each node makes, and every place where shapes do not fit."""
    shapes: dict[str, Shape] = {}
    bad: list[str] = []
    for node in program.nodes:
        if isinstance(node, (*PAYLOAD_SOURCES,)):
            shapes[node.name] = node.shape
    for node in program.nodes:
        ins = [shapes[e.src] for e in program.into[node.name] if e.src in shapes]
        if isinstance(node, Synapse):
            shapes[node.name], found = out_shape(node, ins[0])
            bad += [f"{describe(node)}: {text}" for text in found]
        elif isinstance(node, Product):
            p, q = sorted(ins, key=lambda s: int(np.prod(s)), reverse=True)
            gate = q in (p, p[:1], p[:1] + (1,) * (len(p) - 1))
            shapes[node.name] = p
            if not gate:
                bad.append(
                    f"{describe(node)}: payloads {ins[0]} and {ins[1]} do not fit; one may be per channel {p[:1]}"
                )
        elif isinstance(node, Output):
            shapes[node.name] = ins[0]
    for edge in program.edges:
        src, dst = program[edge.src], program[edge.dst]
        if isinstance(dst, Soma) and shapes[src.name] != dst.shape and not any(describe(src) in b for b in bad):
            bad.append(f"{describe(dst)}: shape {dst.shape}, but {describe(src)} makes {shapes[src.name]}")
        if isinstance(dst, Output) and dst.read == "potential" and getattr(src, "fire", None) != "none":
            bad.append(f"{describe(dst)}: reads a potential, so {describe(src)} must have fire='none'")
    return shapes, bad


def _bounds(program: Program) -> Iterator[str]:
    for name, (lo, hi) in current_ranges(program).items():
        if max(-lo, hi) >= MAX_CURRENT:
            reach = max(-lo, hi)
            yield (
                f"{describe(program[name])}: its current may reach {reach}, beyond the exact range {MAX_CURRENT} of "
                "every backend; use fewer bits for weights, exponents, payloads or window entries"
            )
    for node in program.nodes:
        if isinstance(node, Soma) and node.window is not None:
            ends = [source_range(program, edge.src) for edge in program.into[node.name]]
            reach = max(-sum(lo for lo, _ in ends), sum(hi for _, hi in ends))
            if reach >= MAX_CURRENT:
                yield f"{describe(node)}: before its window its current may reach {reach}, beyond {MAX_CURRENT}"


def current_ranges(program: Program) -> dict[str, tuple[int, int]]:
    """Static bounds of the summed (and mixed) current of every soma, from weights and payload ranges."""
    found: dict[str, tuple[int, int]] = {}
    for node in program.nodes:
        if not isinstance(node, Soma):
            continue
        lo = hi = 0
        for edge in program.into[node.name]:
            a, b = source_range(program, edge.src)
            lo, hi = lo + a, hi + b
        if node.window is not None:
            w = node.window.astype(object)
            plus, minus = np.maximum(w, 0).sum(1), np.minimum(w, 0).sum(1)
            lo, hi = min(plus * lo + minus * hi), max(plus * hi + minus * lo)
        found[node.name] = (int(lo), int(hi))
    return found


def source_range(program: Program, name: str) -> tuple[int, int]:
    """Static bounds of the current of one synapse or product."""
    node = program[name]
    types = [source.payload_type() for source in program.sources(name)]  # type: ignore[union-attr]
    if isinstance(node, Synapse):
        return current_range(node, types[0])
    assert isinstance(node, Product)
    p, q = types
    corners = [a * b for a in (p.lo, p.hi) for b in (q.lo, q.hi)]
    half = (1 << node.shift) >> 1
    return (min(corners) + half) >> node.shift, (max(corners) + half) >> node.shift
