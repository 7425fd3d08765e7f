"""Form B: a graded level count becomes that many binary spikes, one per sub-step."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs
import numpy as np

from snn2chip.errors import UnsupportedError
from snn2chip.ir.nodes import Host, Input, Node, Output, Product, Synapse, describe
from snn2chip.ir.program import Edge, Program
from snn2chip.ir.soma import Soma
from snn2chip.ir.types import LEAK_ONE, NEVER, IntArray
from snn2chip.transforms.base import Transform, rebuilt, rows, squeezed


@attrs.frozen(kw_only=True)
class SerializeLevels(Transform):
    """Send a payload k of 0..levels as k binary spikes in the sub-steps of its step, for targets without payloads.

    Every logical step becomes L sub-steps, L being the largest `levels` of the program. A soma gathers the currents of
    the whole step (a window), takes them, its leak and its bias in the first sub-step, and fires at most once per
    sub-step while `k <= levels`; counts and potentials at the end of each step are those of the graded soma for every
    start, leak and current (methods.md P2.8). Ladders become one threshold per sub-step. Somas that are not counted in
    levels (relays, excess, read-outs) speak in the first sub-step, unchanged.

    Raises UnsupportedError for loops, current-based somas, payload scaling of levels, and graded counts that a product
    or an output by count would read.
    """

    name: ClassVar[str] = "serialize-levels"
    keeps: ClassVar[str] = (
        "the sum of the payloads over the sub-steps of a step, the potential after each step, and every output"
    )

    def run(self, program: Program) -> Program:
        """Return the program of `steps * L` steps; unchanged where every payload counted in levels is binary."""
        n = _factor(program)
        if n == 1:
            return program
        if bad := _breaches(program):
            raise UnsupportedError(bad)
        nodes: list[Node] = []
        edges = [Edge(e.src, e.dst, e.delay * n) for e in program.edges]
        for node in program.nodes:
            nodes.append(_stretched(node, program.steps, n) if isinstance(node, Soma) else node)
        nodes = [attrs.evolve(node, coding="steps") if _framed(node) else node for node in nodes]  # type: ignore[arg-type]
        held = [node for node in nodes if isinstance(node, (Input, Host)) and not _framed(node)]
        for node in held:
            nodes += _once(node, program.steps, n)
            edges = [Edge(f"{node.name}.once", e.dst, e.delay) if e.src == node.name else e for e in edges]
            edges += [Edge(node.name, f"{node.name}.once.in"), Edge(f"{node.name}.once.in", f"{node.name}.once")]
        return rebuilt(program, nodes, edges, by=self.name, steps=program.steps * n)

    def samples(self, program: Program, raw: Any) -> dict[str, Any]:
        """Frames `[T, B, ...]` spread to `[T*L, B, ...]`: each frame in the first sub-step of its step, then zeros."""
        n, found = _factor(program), dict(raw)
        for node in program.inputs:
            if n > 1 and _framed(node):
                frames = np.asarray(raw[node.name])
                spread = np.zeros((frames.shape[0] * n, *frames.shape[1:]), frames.dtype)
                spread[::n] = frames
                found[node.name] = spread
        return found


def _factor(program: Program) -> int:
    return max((int(s.levels.max()) for s in program.somas if s.fire == "levels"), default=1)


def _framed(node: Node) -> bool:
    return isinstance(node, (Input, Host)) and node.coding == "steps"


def _breaches(program: Program) -> list[str]:
    from snn2chip.ir.order import components

    bad = [
        f"{', '.join(describe(program[n]) for n in names)}: on a loop; a serialised soma needs its whole sample first"
        for names, feedback in components(program)
        if feedback
    ]
    for node in program.nodes:
        bad += [f"{describe(node)}: {text}" for text in _node_breaches(program, node)]
    return bad


def _node_breaches(program: Program, node: Node) -> list[str]:
    if isinstance(node, (Input, Host)):
        if node.coding.startswith("rate"):
            return ["a rate code depends on the number of steps; feed coded frames (coding='steps')"]
        if node.coding == "steps" and (node.offset != 0).any():
            return ["frames with an offset have no frame that codes 0; fold the offset into the bias"]
        return []
    if isinstance(node, Product):
        graded = [s for s in program.sources(node.name) if isinstance(s, Soma) and s.fire == "levels"]
        return [f"multiplies {describe(s)}, whose level count would be serialised" for s in graded]
    if isinstance(node, Output):
        (source,) = program.sources(node.name)
        graded_source = isinstance(source, Soma) and int(source.levels.max()) > 1 and source.fire == "levels"
        return ["counts steps with a spike; read the payload instead"] if node.read == "count" and graded_source else []
    return _soma_breaches(node) if isinstance(node, Soma) else []


def _soma_breaches(soma: Soma) -> list[str]:
    bad = []
    if soma.syn_leak is not None:
        bad.append("a synaptic current (syn_leak) integrates again at every sub-step")
    if soma.reset == "subtract-delayed":
        bad.append("reset='subtract-delayed' acts in the next step")
    if soma.fire == "delta":
        bad.append("fire='delta' compares with what it sent at the last step")
    if soma.fire == "table":
        bad.append("fire='table' also speaks on empty sub-steps")
    if soma.fire != "levels":
        return bad
    one = int(soma.levels.max()) == 1
    if not one and soma.reset not in ("subtract", "drop"):
        bad.append(f"reset={soma.reset!r} with {int(soma.levels.max())} levels resets after the first spike")
    scaled = (soma.out_gain != 1).any() or soma.out_shift.any() or (soma.out_max < soma.levels).any()
    if scaled and not one:
        bad.append("its payload is scaled (out_gain, out_shift, out_max); k spikes would not add up to it")
    if soma.v_min is not None and (soma.v_min > 0).any():
        bad.append("a floor above 0 could make extra spikes")
    if soma.theta is not None and not soma.ladder and not one and (soma.theta < 1).any():
        bad.append("a threshold below 1 with several levels")
    return bad


def _stretched(soma: Soma, steps: int, n: int) -> Soma:
    """The same soma over `steps * n` sub-steps."""
    total, every = steps * n, soma.fire == "levels" and soma.reset == "drop"
    mix = soma.window if soma.window is not None else np.eye(steps, dtype=np.int64)
    window = np.zeros((total, total), dtype=np.int64)
    for t in range(steps):
        for sub in range(n if every else 1):
            window[t * n + sub] = np.repeat(mix[t], n)
    changes: dict[str, Any] = {"window": window, "window_shift": 0 if soma.window is None else soma.window_shift}
    if not every:
        changes["leak"] = squeezed(_spread(soma.leak, steps, n, rest=LEAK_ONE))
        changes["bias"] = squeezed(_spread(soma.bias, steps, n, rest=0))
    elif soma.bias.shape[0] > 1:
        changes["bias"] = np.repeat(soma.bias, n, axis=0)
    for field in ("gain", "v_min", "v_reset") if not every else ("gain", "v_min", "leak", "v_reset"):
        value = getattr(soma, field)
        if value is not None and value.shape[0] > 1:
            changes[field] = np.repeat(value, n, axis=0)
    if soma.fire in ("levels", "excess") and soma.theta is not None:
        changes["theta"] = squeezed(_thresholds(soma, steps, n))
    if soma.fire == "levels":
        changes |= {"levels": 1, "ladder": False}
        if int(soma.levels.max()) > 1:
            changes |= {"out_max": 1}
    return attrs.evolve(soma, **changes)


def _spread(values: IntArray, steps: int, n: int, *, rest: int) -> IntArray:
    """One row per step in its first sub-step, `rest` in the others."""
    own = rows(values, steps)
    found = np.full((steps * n, *own.shape[1:]), rest, dtype=np.int64)
    found[::n] = own
    return found


def _thresholds(soma: Soma, steps: int, n: int) -> IntArray:
    """Threshold per sub-step: that of the step while more spikes are allowed, then never."""
    assert soma.theta is not None
    own = soma.theta if soma.ladder else rows(soma.theta, steps)
    levels = soma.levels if soma.fire == "levels" else np.ones((1, 1), dtype=np.int64)
    size = np.broadcast_shapes(own[:1].shape, levels.shape)
    found = np.full((steps * n, *size[1:]), NEVER, dtype=np.int64)
    for t in range(steps):
        for sub in range(n):
            allowed = (levels > sub)[0]
            if soma.ladder:
                bar: IntArray = own[min(sub, own.shape[0] - 1)]
            else:
                bar = np.minimum(own[t] * (sub + 1), NEVER) if soma.reset == "drop" else own[t]
            found[t * n + sub] = np.where(allowed, bar, NEVER)
    return found


def _once(node: Input | Host, steps: int, n: int) -> list[Node]:
    """A relay that passes a repeated frame on in the first sub-step of each step only."""
    window = np.zeros((steps * n, steps * n), dtype=np.int64)
    window[np.arange(0, steps * n, n), np.arange(0, steps * n, n)] = 1
    relay = Soma(
        f"{node.name}.once",
        node.shape,
        fire="relay",
        reset="drop",
        out_min=node.lo,
        out_max=node.hi,
        window=window,
        layer=node.layer,
    )
    return [Synapse(f"{node.name}.once.in", "identity", layer=node.layer), relay]
