"""A program under construction whose payloads are known while it grows.

`Draft` adds nodes one by one and evaluates each with the reference arithmetic, so that thresholds, scalings and
weights of the next node can be chosen for values that really arrive. Feedback edges are added last and are not
part of that evaluation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import sparse

from snn2chip.ir.geometry import current_range
from snn2chip.ir.host import encode
from snn2chip.ir.nodes import Host, HostOp, Input, Node, Output, Product, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.ir.types import IntArray, WeightType
from snn2chip.testing.soma_maker import Rng, make_soma, run_soma

CURRENT_LIMIT = (1 << 23) - 1
"""Currents are kept inside 24 bits by their static bound, except with magnitude `wide`."""
WIDE_BITS = 36
"""Currents of magnitude `wide` stay below 2^36, so that several of them and a window fit the exact range."""
WEIGHTS: dict[str, tuple[int | str, str]] = {
    "binary": (1, "mixed"),
    "ternary": ("ternary", "mixed"),
    "int4": (4, "mixed"),
    "int8": (8, "mixed"),
    "excitatory": (8, "excitatory"),
    "inhibitory": (8, "inhibitory"),
}
SOURCES = {"binary": (0, 1), "graded": (0, 15), "signed": (-8, 7)}


class Draft:
    """Nodes, edges and raw inputs of a program in the making; every payload source is `[T, B, *shape]`."""

    def __init__(self, rng: Rng, *, steps: int, batch: int, name: str = "draft") -> None:
        self.rng, self.steps, self.batch, self.name = rng, steps, batch, name
        self.nodes: list[Node] = []
        self.edges: list[tuple[str, str, int]] = []
        self.raw: dict[str, Any] = {}
        self.payloads: dict[str, IntArray] = {}
        self.currents: dict[str, IntArray] = {}

    def node(self, name: str) -> Any:
        """A node by name."""
        return next(n for n in self.nodes if n.name == name)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of what a node makes."""
        found = self.payloads.get(name, self.currents.get(name))
        assert found is not None
        return tuple(found.shape[2:])

    def input(self, name: str, shape: Sequence[int], *, source: str, coding: str = "steps", host: bool = False) -> str:
        """An Input (or Host) with random samples; about a third of the values are 0."""
        lo, hi = SOURCES[source]
        code = str(self.rng.choice(["rate-floor", "rate-round"])) if coding == "rate" else coding
        lead = (self.steps, self.batch) if code == "steps" else (self.batch,)
        live = self.rng.random((*lead, *shape)) < 0.7
        if code.startswith("rate"):
            values: Any = self.rng.integers(0, 8 * hi + 1, (*lead, *shape)) / 8 * live
        else:
            values = self.rng.integers(lo if lo < 0 else 1, hi + 1, (*lead, *shape)) * live
        if host:
            ops = [
                HostOp(kind="bias", weight=self.rng.integers(-1, 2, shape[0])),
                HostOp(kind="rescale", gain=2, shift=1, lo=lo, hi=hi),
            ]
            node: Input | Host = Host(name, shape, lo, hi, coding=code, ops=ops)
        else:
            node = Input(name, shape, lo, hi, coding=code)
        self.nodes.append(node)
        self.raw[name] = values
        self.payloads[name] = np.asarray(encode(node, values, self.steps))
        return name

    def arriving(self, source: str, delay: int) -> IntArray:
        """Payloads of `source` as they arrive after `delay` logical steps."""
        payload = self.payloads[source]
        if not delay:
            return payload
        late = np.zeros_like(payload)
        late[delay:] = payload[:-delay]
        return late

    def synapse(self, name: str, source: str, row: Mapping[str, str], *, delay: int = 0, **geometry: Any) -> str:
        """A synapse of `row["kind"]` with random weights; geometry (kernel, stride, ...) as in `Synapse`."""
        from snn2chip_backends.reference.backend import synapse_current

        node = self._weighted(name, source, row, geometry)
        self.nodes.append(node)
        self.edges.append((source, name, delay))
        self.currents[name] = np.stack([synapse_current(node, p) for p in self.arriving(source, delay)])
        return name

    def _weighted(self, name: str, source: str, row: Mapping[str, str], geometry: dict[str, Any]) -> Synapse:
        kind, level = row.get("kind", "linear"), row.get("weights", "int8")
        bits, sign = WEIGHTS[level]
        is_sparse = row.get("sparse", "no") == "yes"
        size = self._weight_shape(kind, self.shape(source), geometry)
        extra = {k: v for k, v in geometry.items() if k not in ("units", "kernel")}
        if kind == "sumpool":
            extra["kernel_size"] = geometry.get("kernel", (2, 2))
        payload = self.node(source).payload_type()
        for thin in (False, True):
            weight = self._values(WeightType(bits, sign), size, is_sparse, thin)
            stored = sparse.csr_matrix(weight) if is_sparse and kind == "linear" else weight
            node = Synapse(name, kind, stored, bits, sign=sign, sparse=is_sparse, **extra)
            lo, hi = current_range(node, payload)
            if max(-lo, hi) <= CURRENT_LIMIT:
                break
        if row.get("exponent", "no") == "no":
            return node
        exponent = self._exponent(max(-lo, hi, 1), row)
        return Synapse(name, kind, stored, bits, exponent=exponent, sign=sign, sparse=is_sparse, **extra)

    def _weight_shape(self, kind: str, shape: tuple[int, ...], geometry: Mapping[str, Any]) -> tuple[int, ...]:
        if kind == "linear":
            return geometry.get("units", 6), int(np.prod(shape))
        if kind == "conv2d":
            return geometry.get("units", 4), shape[0] // geometry.get("groups", 1), *geometry.get("kernel", (3, 2))
        return () if self.rng.random() < 0.3 else shape[:1]

    def _values(self, kind: WeightType, size: tuple[int, ...], is_sparse: bool, thin: bool) -> IntArray:
        """Random weights; `thin` leaves one small weight per row, for sources with wide payloads."""
        if thin:
            unit = -1 if kind.hi == 0 else 1
            if len(size) < 2:
                return np.full(size, unit, dtype=np.int64)
            flat = np.zeros((size[0], int(np.prod(size[1:]))), dtype=np.int64)
            flat[np.arange(size[0]), self.rng.integers(0, flat.shape[1], size[0])] = unit
            if kind.bits == 1 and not is_sparse:
                flat[flat == 0] = -1
            return flat.reshape(size)
        if kind.bits == 1:
            weight = self.rng.choice(np.array([-1, 1]), size)
        else:
            weight = self.rng.integers(kind.lo, kind.hi + 1, size)
        if is_sparse and len(size) > 0:
            weight = weight * (self.rng.random(size) < 0.5)
        if not np.any(weight):
            weight = weight + (kind.hi or kind.lo)
        return np.asarray(weight, dtype=np.int64)

    def _exponent(self, bound: int, row: Mapping[str, str]) -> int:
        if row.get("magnitude") == "wide":
            return max(1, min(16, WIDE_BITS - bound.bit_length()))
        most = max(0, min(16, CURRENT_LIMIT.bit_length() - bound.bit_length()))
        if row.get("magnitude") in ("saturate", "wrap"):
            return most or 1
        return int(self.rng.integers(1, min(most, 6) + 1)) if most > 1 else 1

    def product(self, name: str, p: str, q: str, *, shift: int = 0, delay: int = 0) -> str:
        """A product of two payload sources; `delay` is on the first edge."""
        from snn2chip_backends.reference.backend import product_current

        node = Product(name, shift=shift)
        self.nodes.append(node)
        self.edges += [(p, name, delay), (q, name, 0)]
        pairs = zip(self.arriving(p, delay), self.payloads[q], strict=True)
        self.currents[name] = np.stack([product_current(node, a, b) for a, b in pairs])
        return name

    def soma(self, name: str, sources: Sequence[str], row: Mapping[str, str]) -> str:
        """A soma with the levels of `row`, fed by the current sources named."""
        current = np.sum([self.currents[s] for s in sources], axis=0)
        node = make_soma(self.rng, name, current, row, layer=f"net.{name}")
        return self.add_soma(node, sources)

    def add_soma(self, node: Soma, sources: Sequence[str]) -> str:
        """Add a finished soma."""
        self.nodes.append(node)
        self.edges += [(s, node.name, 0) for s in sources]
        current = np.sum([self.currents[s] for s in sources], axis=0)
        self.payloads[node.name] = run_soma(node, current)[0]
        return node.name

    def relay(self, name: str, source: str) -> str:
        """A soma that repeats the payloads of `source` one machine step later (through an identity synapse)."""
        kind = self.node(source).payload_type()
        current = self.synapse(f"{name}_in", source, {"kind": "identity", "weights": "ternary"})
        self.replace(Synapse(current, "identity"))
        relay = Soma(name, self.shape(source), fire="relay", reset="drop", out_max=kind.hi, out_min=kind.lo)
        return self.add_soma(relay, [current])

    def replace(self, node: Synapse) -> str:
        """Replace the synapse of the same name by `node`."""
        from snn2chip_backends.reference.backend import synapse_current

        at = next(i for i, n in enumerate(self.nodes) if n.name == node.name)
        source, _, delay = next(e for e in self.edges if e[1] == node.name)
        self.nodes[at] = node
        self.currents[node.name] = np.stack([synapse_current(node, p) for p in self.arriving(source, delay)])
        return node.name

    def feedback(self, name: str, source: str, target: str, row: Mapping[str, str], *, delay: int) -> str:
        """An edge back from `source` into `target` (identity if the shapes agree, else linear); not evaluated."""
        same = self.shape(source) == self.shape(target)
        kind = "identity" if same else "linear"
        geometry = {} if same else {"units": int(np.prod(self.shape(target)))}
        self.synapse(name, source, {**row, "kind": kind}, delay=delay, **geometry)
        self.edges.append((name, target, 0))
        return name

    def output(self, source: str) -> str:
        """Read a soma: its potential if it never fires, else the count or the sum of its payloads."""
        silent = self.node(source).fire == "none"
        read = "potential" if silent else str(self.rng.choice(["count", "payload"]))
        name = f"out_{source}"
        self.nodes.append(Output(name, read))
        self.edges.append((source, name, 0))
        return name

    def program(self) -> Program:
        """The finished, validated program."""
        return Program(nodes=self.nodes, edges=self.edges, steps=self.steps, meta={"name": self.name})
