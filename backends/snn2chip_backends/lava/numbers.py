"""Which number type holds a synapse's sums and a soma's values exactly, from proven bounds.

float32 holds every integer below 2^24, float64 below 2^53. A sum of integers is exact in any order while the sum of
their magnitudes stays below that; a product with a power of two is exact where its integer numerator is.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from snn2chip.ir.nodes import Product, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.ir.types import LEAK_ONE, V_MAX, PayloadType
from snn2chip.ir.validate import source_range

WIDE = V_MAX + 1


def smallest(bound: int) -> str:
    """The fastest type that is exact for magnitudes up to `bound`."""
    if bound < 1 << 24:
        return "float32"
    return "float64" if bound < 1 << 53 else "int64"


def wire_type(payload: PayloadType) -> str:
    """Smallest NumPy type that holds a payload on its way."""
    for name in ("u1", "i1", "u2", "i2"):
        info = np.iinfo(name)
        if info.min <= payload.lo and payload.hi <= info.max:
            return np.dtype(name).str
    return np.dtype("i4").str


def current_bound(program: Program, node: Synapse | Product) -> int:
    """Largest |current| and largest magnitude of a partial sum of it (0 lies in every payload's range)."""
    lo, hi = source_range(program, node.name)
    found = max(-lo, hi, hi - lo)
    if isinstance(node, Product):
        p, q = (source.payload_type() for source in program.sources(node.name))  # type: ignore[union-attr]
        found = max(found, p.magnitude * q.magnitude + ((1 << node.shift) >> 1))
    elif node.kind == "sumpool":  # taps are added first, then weighed, both already shifted by the exponent
        payload = program.sources(node.name)[0].payload_type()  # type: ignore[union-attr]
        taps = node.kernel_size[0] * node.kernel_size[1]
        found = max(found, payload.magnitude * taps, top(node.weight) << node.exponent)
    return found


def soma_bound(soma: Soma, reach: int) -> int:
    """Largest magnitude of anything that one step of `soma` computes; `reach` bounds |sum of its currents|."""
    seen = [reach, *(top(getattr(soma, name)) for name in ("bias", "theta", "v_init", "v_min", "v_reset", "levels"))]
    if soma.window is not None:
        half = (1 << soma.window_shift) >> 1
        reach = int(np.abs(soma.window).sum(1).max()) * reach + half
        seen.append(reach)
        reach = (reach >> soma.window_shift) + 1
    x = reach * top(soma.gain) + ((1 << int(soma.gain_shift.max())) >> 1)
    seen.append(x)
    x = (x >> int(soma.gain_shift.min())) + 1 if soma.gain_shift.any() else x
    if soma.syn_leak is not None:
        seen += [_leaked(soma.syn_leak), WIDE + x + WIDE]
        x = WIDE
    total = _leaked(soma.leak, rounded=True) + x + top(soma.bias)
    if soma.reset == "subtract-delayed":
        total += top(soma.theta) * top(soma.levels)
    seen += [_leaked(soma.leak), total]
    s = {"levels": top(soma.levels), "excess": V_MAX + top(soma.theta), "relay": V_MAX, "table": top(soma.table)}
    s["delta"] = 2 * V_MAX
    seen.append(s.get(soma.fire, 0) * top(soma.out_gain) + ((1 << int(soma.out_shift.max())) >> 1))
    seen += [top(soma.out_max), top(soma.out_min)]
    return max(seen)


def _leaked(factor: Any, rounded: bool = False) -> int:
    """Magnitude of a register times its leak, before (or after) the division by 4096."""
    if rounded:
        return WIDE * max(top(factor), 1) // LEAK_ONE + 1 if top(factor) > LEAK_ONE else V_MAX
    plain = np.isin(factor, (0, LEAK_ONE)).all()
    return V_MAX if plain else WIDE * top(factor)


def top(value: Any) -> int:
    """Largest magnitude in an array (0 of nothing)."""
    return 0 if value is None else int(np.abs(np.asarray(value, np.int64)).max(initial=0))
