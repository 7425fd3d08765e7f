"""Channels that nobody hears, or that never speak, are removed."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from snn2chip.analysis.ranges import program_ranges
from snn2chip.ir.nodes import PAYLOAD_SOURCES, Node, Output, Product, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import PER_CHANNEL, PER_STEP, Soma
from snn2chip.ir.types import NEVER
from snn2chip.transforms.base import Transform, rebuilt

Mask = NDArray[np.bool_]


@attrs.frozen(kw_only=True)
class DeadChannel(Transform):
    """Remove somas that reach no output, and channels of somas that are silent or that nobody reads.

    A channel is *silent* when its payload is proved to be 0 whatever arrives: fire='none', a threshold of 2^23, or no
    state and a potential that by its range stays below the threshold; it is *unread* when every weight that leaves it
    is 0. Cut are rows and columns of linear and ungrouped convolution weights; a channel-wise synapse (identity,
    sum-pool) or a product keeps the channels on its two sides together. Channels that an Output reads stay.
    """

    name: ClassVar[str] = "dead-channel"
    keeps: ClassVar[str] = "every payload of the channels that are left, and every output"

    def run(self, program: Program) -> Program:
        """Return the program without dead somas and channels; unchanged where there are none."""
        after = self._once(program)
        while after is not program:
            program, after = after, self._once(after)
        return program

    def _once(self, program: Program) -> Program:
        alive = _reaching_outputs(program)
        dead = {s.name: _silent(program, s) for s in program.somas if s.name in alive and _cuttable(program, s)}
        while _unread(program, dead, alive):
            pass
        while _settle(program, dead, alive):
            pass
        if len(alive) == len(program.nodes) and not any(mask.any() for mask in dead.values()):
            return program
        kept = {name: ~mask for name, mask in dead.items() if mask.any()}
        nodes = [_cut(program, node, kept) for node in program.nodes if node.name in alive]
        edges = [e for e in program.edges if e.src in alive and e.dst in alive]
        applied = [*program.meta.get("transforms", ())]
        return rebuilt(program, nodes, edges, by=self.name if self.name not in applied[-1:] else "")


def _reaching_outputs(program: Program) -> set[str]:
    """Names of the nodes with a path to an output, and of all inputs (users feed them)."""
    alive = {node.name for node in (*program.outputs, *program.inputs)}
    stack = [node.name for node in program.outputs]
    while stack:
        for edge in program.into[stack.pop()]:
            if edge.src not in alive:
                alive.add(edge.src)
                stack.append(edge.src)
    return alive


def _cuttable(program: Program, soma: Soma) -> bool:
    """Whether channels may go: there are several, and no Output reads them."""
    return soma.channels > 1 and not any(isinstance(program[e.dst], Output) for e in program.out_of[soma.name])


def _unread(program: Program, dead: dict[str, Mask], alive: set[str]) -> bool:
    """Add the channels that every reader weighs with 0 or carries, one to one, to a dead channel; True if any."""
    grown = False
    for name, mask in dead.items():
        soma, unread = program[name], np.ones(len(mask), dtype=np.bool_)
        assert isinstance(soma, Soma)
        for edge in program.out_of[name]:
            if edge.dst not in alive:
                continue
            reader, read = program[edge.dst], _read(program[edge.dst], soma)
            ends = [dead.get(e.dst) for e in program.out_of[edge.dst] if e.dst in alive]
            if isinstance(reader, Synapse) and _tied(reader) and _regular(reader):
                read = read & ~np.logical_and.reduce([np.zeros_like(mask) if end is None else end for end in ends])
            unread &= ~read
        grown |= bool((unread & ~mask).any())
        mask |= unread
    return grown


def _read(node: Node, soma: Soma) -> Mask:
    """Channels of `soma` that `node` weighs with anything but 0."""
    if not isinstance(node, Synapse):
        return np.ones(soma.channels, dtype=np.bool_)
    if node.kind == "linear":
        used = np.asarray((node.stored != 0).sum(0)).ravel() > 0
        return np.asarray(used.reshape(soma.channels, -1).any(1))
    if node.kind == "conv2d":
        own = node.stored != 0
        if node.groups > 1:
            per_group = own.reshape(node.groups, -1, *own.shape[1:]).any((1, 3, 4))
            return np.asarray(per_group.reshape(-1))
        return np.asarray(own.any((0, 2, 3)))
    weight = node.stored if node.stored.ndim <= 1 else node.stored.reshape(soma.channels, -1).any(1)
    return np.asarray(np.broadcast_to(weight.reshape(-1) != 0, (soma.channels,)))


def _silent(program: Program, soma: Soma) -> Mask:
    """Channels whose payload is proved to be 0 at every step: they cannot fire, or have no state to do so later."""
    silent = np.zeros(soma.channels, dtype=np.bool_)
    if soma.fire == "none":
        return ~silent
    if soma.fire in ("levels", "excess") and soma.theta is not None:
        silent |= (soma.theta >= NEVER).reshape(soma.theta.shape[0], soma.theta.shape[1], -1).all((0, 2))
    if not soma.stateful:
        sent = program_ranges(program)[soma.name].payload.per_channel(soma.channels)
        silent |= (sent.lo == 0) & (sent.hi == 0)
    return silent


def _settle(program: Program, dead: dict[str, Mask], alive: set[str]) -> bool:
    """Take back what a neighbour cannot do without; True while something changed."""
    before = {name: mask.copy() for name, mask in dead.items()}
    for mask in dead.values():
        if mask.all():
            mask[0] = False  # a population keeps at least one channel
    for node in program.nodes:
        if node.name not in alive or not isinstance(node, (Synapse, Product)):
            continue
        near = _sides(program, node, alive)
        sides = [dead[s] for s in near if s in dead]
        tied = _tied(node)
        fixed = tied and any(s not in dead for s in near)
        if tied:
            sizes = {len(mask) for mask in sides}
            both = np.logical_and.reduce(sides) if len(sizes) == 1 and not fixed and _regular(node) else None
            for mask in sides:
                mask &= False if both is None else both
        else:
            ends = [e.dst for e in program.out_of[node.name] if e.dst in alive]
            targets = [dead[end] for end in ends if end in dead]
            both = np.logical_and.reduce(targets) if len(targets) == len(ends) else np.False_
            for mask in targets:
                mask &= both
    return any((before[name] != mask).any() for name, mask in dead.items())


def _tied(node: Synapse | Product) -> bool:
    """Whether a node joins channel c of its source to channel c (or group) of its target."""
    return isinstance(node, Product) or node.kind in ("identity", "sumpool") or node.groups > 1


def _regular(node: Synapse | Product) -> bool:
    """Whether channels can be cut on both sides of a channel-wise node (a depthwise convolution is one)."""
    if isinstance(node, Product) or node.kind in ("identity", "sumpool"):
        return not isinstance(node, Product)
    return bool(node.stored.shape[1] == 1 and node.stored.shape[0] == node.groups)


def _sides(program: Program, node: Node, alive: set[str]) -> list[str]:
    names = [e.src for e in program.into[node.name]] + [e.dst for e in program.out_of[node.name]]
    return [name for name in names if name in alive and isinstance(program[name], PAYLOAD_SOURCES)]


def _cut(program: Program, node: Node, kept: dict[str, Mask]) -> Node:
    """The node without the channels that are gone on its two sides."""
    if isinstance(node, Soma):
        return _cut_soma(node, kept[node.name]) if node.name in kept else node
    if not isinstance(node, Synapse):
        return node
    source = program.into[node.name][0].src
    left = kept.get(source)
    right = next((kept[e.dst] for e in program.out_of[node.name] if e.dst in kept), None)
    if left is None and right is None:
        return node
    weight, groups = node.weight, node.groups
    if node.kind in ("identity", "sumpool"):
        assert left is not None
        weight = weight if weight.ndim == 0 or len(weight) == 1 else weight[left]
    elif node.groups > 1:
        assert left is not None
        weight, groups = weight[left], int(np.sum(left))
    else:
        if left is not None:
            per = int(np.prod(program.shapes[source][1:], dtype=np.int64)) if node.kind == "linear" else 1
            weight = weight[:, np.repeat(left, per)]
        if right is not None:
            made = next(program.shapes[e.dst] for e in program.out_of[node.name])
            weight = weight[np.repeat(right, int(np.prod(made[1:], dtype=np.int64)) if node.kind == "linear" else 1)]
    if sparse.issparse(weight):
        weight = sparse.csr_matrix(weight)
    shape = node.shape
    if shape is not None and right is not None:
        shape = (int(right.sum()), *shape[1:])
    cut: dict[str, Any] = {"weight": weight, "groups": groups, "shape": shape}
    if node.sparse and not (weight != 0).sum():  # a sparse map needs a stored weight, and this one has lost its last
        dense = weight.toarray() if sparse.issparse(weight) else weight
        cut |= {"weight": dense, "sparse": False, "bits": 2 if node.bits == 1 else node.bits}
    return attrs.evolve(node, **cut)


def _cut_soma(soma: Soma, kept: Mask) -> Soma:
    cut = {}
    for field in (*PER_STEP, *PER_CHANNEL):
        value = getattr(soma, field)
        if value is not None and value.ndim > 1 and value.shape[1] == soma.channels and soma.channels > 1:
            cut[field] = value[:, kept]
    return attrs.evolve(soma, shape=(int(kept.sum()), *soma.shape[1:]), **cut)
