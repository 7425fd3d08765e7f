"""Proven bounds: how large any number inside a synapse or a soma can get, from weights and ranges alone.

synapse: |partial sum| <= max over rows of sum |w| * max |payload|
soma:    |v(t)| before saturation <= (V(t-1) |leak| >> 12) + X + |bias| [+ |theta| S], V(t) = min(that, 2^23 - 1)

The types of the arithmetic follow from these, and a soma that provably cannot saturate is not clipped.
"""

from __future__ import annotations

import attrs
import numpy as np
from scipy import sparse

from snn2chip.analysis.ranges import payload_types, program_ranges
from snn2chip.ir.geometry import current_range
from snn2chip.ir.nodes import Product, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.ir.types import V_MAX, IntArray, PayloadType

WRAP = 1 << 23
LONGEST = 4096
"""Steps over which the growth of a potential is followed; longer samples are clipped unless it has settled."""


def program_bounds(program: Program) -> tuple[dict[str, PayloadType], dict[str, SomaBounds]]:
    """Payload ranges of all sources and bounds of all somas, from the proven ranges of the program.

    Magnitudes (and so the types) hold for partial sums too, in any order; whether sat24 can ever act follows from the
    intervals, which know signs.
    """
    types, ranges = payload_types(program), program_ranges(program)
    somas: dict[str, SomaBounds] = {}
    for soma in program.somas:
        current = sum(_current_bound(program, e.src, types) for e in program.into[soma.name])
        bounds = soma_bounds(soma, current, program.steps)
        somas[soma.name] = attrs.evolve(bounds, saturates=bounds.saturates and ranges[soma.name].saturates)
    return types, somas


def _current_bound(program: Program, name: str, types: dict[str, PayloadType]) -> int:
    """Largest magnitude of the current of one synapse or product."""
    node = program[name]
    payloads = [types[e.src] for e in program.into[name]]
    if isinstance(node, Synapse):
        lo, hi = current_range(node, payloads[0])
        return max(-lo, hi)
    assert isinstance(node, Product)
    return (payloads[0].magnitude * payloads[1].magnitude + ((1 << node.shift) >> 1)) >> node.shift


def partial_bound(synapse: Synapse, magnitude: int) -> int:
    """Largest partial sum of `W p` (without the exponent) for payloads up to `magnitude`."""
    w = synapse.weight
    if synapse.kind in ("identity", "sumpool"):
        return int(abs(w).max()) * synapse.kernel_size[0] * synapse.kernel_size[1] * magnitude
    if sparse.issparse(w):
        rows = np.asarray(abs(w).sum(1), dtype=np.int64)
    else:
        rows = np.abs(w.reshape(w.shape[0], -1)).sum(1)
    return int(rows.max()) * magnitude


@attrs.frozen(kw_only=True)
class SomaBounds:
    """Largest magnitudes on the way through one soma.

    `current`: summed current and its partial sums, `mixing`: partial sums of the window, `scaled`: a*gain
    before its shift, `driven`: behind it, `total`: potential before saturation, `spike`: s, `emitted`: s*out_gain
    before its shift.
    `saturates`: whether sat24 can ever change a potential.
    """

    current: int
    mixing: int
    scaled: int
    driven: int
    total: int
    spike: int
    emitted: int
    saturates: bool


def soma_bounds(soma: Soma, current: int, steps: int) -> SomaBounds:
    """Bounds of `soma` over `steps` steps when its summed current is at most `current` in magnitude."""
    arriving, mixing = current, 0
    if soma.window is not None:
        mixing = int(np.abs(soma.window).sum(1).max()) * current
        half = (1 << soma.window_shift) >> 1
        arriving = (mixing + half) >> soma.window_shift
    gain, shift = _aligned(abs(soma.gain), soma.gain_shift)
    scaled = arriving * gain + ((np.int64(1) << shift) >> 1)
    x = scaled >> shift
    totals = _totals(steps, soma, _per_row(x))
    v = min(max(totals), V_MAX)
    spike = _change_bound(soma, v) if soma.fire == "delta" else _spike_bound(soma, v)
    emitted = spike * int(soma.out_gain.max()) + ((1 << int(soma.out_shift.max())) >> 1)
    return SomaBounds(
        current=current,
        mixing=mixing,
        scaled=max(int(scaled.max()), int(x.max()) + 2 * WRAP if soma.syn_leak is not None else 0),
        driven=int(x.max()),
        total=max(totals),
        spike=spike,
        emitted=emitted,
        saturates=max(totals) > V_MAX,
    )


def _aligned(*values: IntArray) -> list[IntArray]:
    """Stored parameters with equal numbers of axes: per-channel and scalar ones get axes of length 1."""
    axes = max(v.ndim for v in values)
    return [v.reshape(v.shape + (1,) * (axes - v.ndim)) for v in values]


def _per_row(value: IntArray) -> list[int]:
    return [int(row.max()) for row in np.abs(value)]


def _totals(steps: int, soma: Soma, x: list[int]) -> list[int]:
    """Bound of the potential before saturation, step by step."""
    leak, bias = _per_row(soma.leak), _per_row(soma.bias)
    delayed = soma.delayed
    theta = [0] if soma.theta is None or not delayed else _per_row(soma.theta)
    set_to = [0] if soma.reset != "value" else _per_row(soma.v_reset)
    floor = [0] if soma.v_min is None else _per_row(np.maximum(soma.v_min, 0))
    dropped = soma.reset == "drop" and soma.fire != "none"
    v, s, found = int(np.abs(soma.v_init).max()), 0, []
    for t in range(min(steps, LONGEST)):
        drive = (WRAP if soma.syn_leak is not None else _at(x, t)) + _at(bias, t) + _at(theta, t) * s
        found.append((v * _at(leak, t) >> 12) + drive)
        v = min(found[-1], V_MAX)
        s = _spike_bound(soma, v) if delayed else 0
        v = max(0 if dropped else v, _at(set_to, t), _at(floor, t))
    settled = steps <= LONGEST or (found[-1] == found[-2] and max(map(len, (x, leak, bias, theta, set_to, floor))) == 1)
    if not settled:
        drive = WRAP if soma.syn_leak is not None else max(x)
        s = _spike_bound(soma, V_MAX) if delayed else 0
        found.append((V_MAX * max(leak) >> 12) + drive + max(bias) + max(theta) * s)
    return found


def _at(rows: list[int], t: int) -> int:
    return rows[t] if len(rows) > 1 else rows[0]


def _change_bound(soma: Soma, v: int) -> int:
    """Largest |s| of a delta code whose potential before its floor is at most `v` in magnitude."""
    reach = max(v, 0 if soma.v_min is None else int(soma.v_min.max()))
    return -(-2 * reach >> soma.delta_shift)


def _spike_bound(soma: Soma, v: int) -> int:
    """Largest |s| when |v| is at most `v`."""
    if soma.fire == "levels":
        return int(soma.levels.max())
    if soma.fire == "excess":
        assert soma.theta is not None
        return v + max(0, -int(soma.theta.min()))
    if soma.fire == "table":
        assert soma.table is not None
        return int(np.abs(soma.table).max())
    return v if soma.fire == "relay" else 0
