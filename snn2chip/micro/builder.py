"""What listings are built of: products in parts, rounding shifts, factors rounded toward zero, the target's compare."""

from __future__ import annotations

import numpy as np

from snn2chip.ir.soma import Soma
from snn2chip.ir.types import LEAK_ONE, NEVER, V_MAX, IntArray
from snn2chip.mapping.target import Target
from snn2chip.micro.step import Arg, Param, Step


def const(value: int) -> Param:
    """An unnamed constant."""
    return Param("", np.full((1, 1), value, dtype=np.int64))


def aligned(x: IntArray, y: IntArray) -> tuple[IntArray, IntArray]:
    """Two stored parameters, per channel or per neuron, so that they broadcast against each other."""
    ndim = max(x.ndim, y.ndim)
    return x.reshape(*x.shape, *(1,) * (ndim - x.ndim)), y.reshape(*y.shape, *(1,) * (ndim - y.ndim))


class Builder:
    """Steps of one soma's listing in the making, in what its target can compare and multiply."""

    def __init__(self, soma: Soma, steps: int, target: Target) -> None:
        self.soma, self.steps, self.target = soma, steps, target
        self.lines: list[Step] = []
        self.arrive: list[Step] = []
        self.state: dict[str, Param] = {"v": Param("v_init", soma.v_init)}
        self.count = 0

    def put(self, op: str, *args: Arg, out: str = "", note: str = "") -> str:
        """Add one step; returns its register."""
        if not out:
            self.count += 1
            out = f"r{self.count}"
        self.lines.append(Step(op, out, args, note))
        return out

    def param(self, field: str) -> Param:
        """A parameter of the soma by its field."""
        return Param(field, getattr(self.soma, field))

    def reachable_theta(self) -> Param:
        """The threshold, "never" being the largest potential: what is above either of them is nothing."""
        assert self.soma.theta is not None
        return Param("theta", np.minimum(self.soma.theta, V_MAX))

    def reaches(self, x: str, bar: Param, *, out: str = "", note: str = "") -> str:
        """`x >= bar` in the compare that the target has; bars that no potential reaches become the register's ends."""
        compare = self.target.neuron.compare.value
        values = np.clip(bar.values, -NEVER, NEVER)
        if compare == "strict" or (compare == "any" and int(values.max()) > V_MAX):
            strict = Param(f"{bar.name}-1" if bar.name else "", np.maximum(values - 1, -NEVER))
            return self.put("gt", x, strict, out=out, note=note)
        return self.put("ge", x, Param(bar.name, values), out=out, note=note)

    def times(self, x: str, factor: Param, *, note: str = "") -> str:
        """`x * factor`, in parts where the factor is wider than the target's coefficients."""
        if factor.lo == factor.hi and factor.lo > 0 and factor.lo & (factor.lo - 1) == 0:
            shift = factor.lo.bit_length() - 1
            return self.put("shl", x, const(shift), note=note) if shift else x
        bits = self.target.neuron.coefficient_bits.value
        room = bits - 1 if self.target.neuron.coefficient_signed.value else bits
        if (-(2**room) <= factor.lo and factor.hi < 2**room) or (factor.lo < 0 and room == bits):
            return self.put("mul", x, factor, note=note)
        low = Param(f"{factor.name}.low", factor.values & ((1 << room) - 1))
        high = self.times(x, Param(f"{factor.name}.high", factor.values >> room), note=note)
        shifted = self.put("shl", high, const(room))
        return self.put("add", shifted, self.put("mul", x, low))

    def half_up(self, x: str, shift: Param, *, note: str = "") -> str:
        """`(x + half) >> shift`; bits that cannot reach half are shifted out first where half would be too wide."""
        if shift.hi == 0:
            return x
        most = int(min(self.target.neuron.state_bits.value, 63)) - 1  # half of 2^most still fits a register
        before = np.maximum(shift.values - most, 0)
        if before.any():
            x = self.put("shr", x, Param("low", before), note="exact: half is a multiple of it")
        shift = Param(shift.name, shift.values - before)
        half = Param("half", (np.int64(1) << shift.values) >> 1)
        return self.put("shr", self.put("add", x, half), shift, note=note)

    def toward_zero(self, x: str, factor: Param) -> str:
        """`x * factor / 4096` rounded toward zero."""
        if factor.lo == factor.hi == LEAK_ONE:
            return x
        if factor.lo == factor.hi == 0:
            return self.put("copy", const(0), note=f"{factor.name} 0: nothing is kept")
        minus = self.put("sub", const(0), x)
        size = self.put("max", x, minus, note="magnitude")
        product = self.times(size, factor, note=f"{x} * {factor.name}")
        if factor.lo < 0:
            up = Param("round", np.where(factor.values < 0, LEAK_ONE - 1, 0))
            product = self.put("add", product, up, note="toward zero for a negative factor")
        kept = self.put("shr", product, const(12))
        other = self.put("sub", const(0), kept)
        plus = self.reaches(x, const(0), note="sign")
        return self.put("select", plus, kept, other, note=f"trunc({x} * {factor.name} / 4096)")
