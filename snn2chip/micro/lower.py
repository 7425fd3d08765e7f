"""From a soma to its neuron program: `lower_soma(soma, steps, target)`.

Counting levels is `levels` compares (or a search by halving where there are many), `trunc(v * leak / 4096)` is
magnitude, product, shift and sign, a rounding shift adds half before it shifts, a table is one compare per change of
its value. A target whose compare is strict gets `theta - 1`. Nothing is divided and no loop depends on data.
"""

from __future__ import annotations

import numpy as np

from snn2chip.errors import UnsupportedError
from snn2chip.ir.nodes import describe
from snn2chip.ir.soma import Soma
from snn2chip.ir.types import NEVER, V_MAX, IntArray
from snn2chip.mapping.target import Target
from snn2chip.micro.builder import Builder, aligned, const
from snn2chip.micro.step import Listing, Param

UNROLLED = 16
"""Most levels that are compared one by one; more are searched by halving."""
MOST = 4096
"""Most compares of a listing."""


def lower_soma(soma: Soma, steps: int, target: Target) -> Listing:
    """The neuron program of `soma` over `steps` logical steps, in what `target` can compare and multiply.

    Raises UnsupportedError for level counts that no listing of reasonable length can make.
    """
    made = _Lowering(soma, steps, target)
    made.build()
    return Listing(
        soma=soma,
        steps=steps,
        target=target.name,
        state=made.state,
        arrive=tuple(made.arrive),
        step=tuple(made.lines),
    )


class _Lowering(Builder):
    def build(self) -> None:
        """All steps in the order of the contract."""
        soma = self.soma
        if soma.window is not None:
            self.bank(soma.window)
        x = self.half_up(self.times("a", self.param("gain"), note="scale"), self.param("gain_shift"), note="x")
        if soma.syn_leak is not None:
            self.state["u"] = const(0)
            total = self.put("add", self.toward_zero("u", self.param("syn_leak")), x)
            lifted = self.put("add", total, const(NEVER))
            wrapped = self.put("and", lifted, const(2 * NEVER - 1), note="wrap to 24 bits")
            x = self.put("sub", wrapped, const(NEVER), out="u", note="synaptic current")
        total = self.put("add", self.toward_zero("v", self.param("leak")), x)
        if self.param("bias").lo or self.param("bias").hi:
            total = self.put("add", total, self.param("bias"))
        if soma.remembers:
            self.state["s_prev"] = const(0)
        if soma.delayed:
            total = self.delayed(total)
        low = self.put("max", total, const(-V_MAX), note="saturate")
        v = self.put("min", low, const(V_MAX), out="v", note="potential")
        if soma.fire == "delta":
            self.payload(self.change(v))
            return
        s, after = self.fired(v)
        self.payload(s)
        after = self.reset(v, s, after)
        if soma.delayed:
            self.put("copy", s, out="s_prev")
        if soma.v_min is not None:
            after = self.put("max", after, self.param("v_min"), note="floor")
        if after != "v":
            self.put("copy", after, out="v")

    def bank(self, window: IntArray) -> None:
        """Accumulators of a windowed soma: one per step, filled as currents arrive, read one by one."""
        for t in range(self.steps):
            self.state[f"bank{t}"] = const(0)
            row = Param(f"window[{t},t]", window[t][:, None])
            if row.lo or row.hi:
                self.put("add", f"bank{t}", self.times("a", row), out=f"bank{t}", note=f"mixed current of step {t}")
        self.arrive, self.lines = self.lines, []
        mixed = self.half_up("bank[t]", Param("window_shift", np.full((1, 1), self.soma.window_shift)))
        self.put("copy", mixed, out="a", note="mixed current of this step")

    def delayed(self, total: str) -> str:
        """Take off `theta * s_prev`, bit by bit of the count."""
        theta, levels = aligned(self.param("theta").values, self.soma.levels)
        if theta.shape[0] == 1:
            theta = np.where(theta >= NEVER, 0, theta)  # who never fires takes nothing off
        most = int(levels.max())
        for bit in range(most.bit_length()):
            mask = self.put("and", "s_prev", const(1 << bit)) if most > 1 else "s_prev"
            part = Param(f"{1 << bit}*theta" if bit else "theta", np.where(levels >= 1 << bit, theta << bit, 0))
            taken = self.put("select", mask, part, const(0))
            total = self.put("sub", total, taken, note="spikes of the last step")
        return total

    def change(self, v: str) -> str:
        """The floored potential, and the change since it was last sent where that reaches the threshold."""
        if self.soma.v_min is not None:
            v = self.put("max", v, self.param("v_min"), out="v", note="floor")
        d = self.put("sub", v, "s_prev", note="change since the last send")
        size = self.put("max", d, self.put("sub", const(0), d), note="magnitude")
        sends = self.reaches(size, self.param("theta"))
        self.put("select", sends, v, "s_prev", out="s_prev", note="what the readers know")
        shifted = self.put("shr", d, const(self.soma.delta_shift)) if self.soma.delta_shift else d
        return self.put("select", sends, shifted, const(0), note="change")

    def fired(self, v: str) -> tuple[str, str]:
        """The register of s, and that of v - s * theta where the reset needs it."""
        soma = self.soma
        if soma.fire == "levels":
            return self.levels(v)
        if soma.fire == "excess":
            above = self.put("sub", v, self.reachable_theta())
            return self.put("max", above, const(0), note="excess"), v
        if soma.fire == "table":
            return self.table(v), v
        return (v if soma.fire == "relay" else self.put("copy", const(0), note="never fires")), v

    def levels(self, v: str) -> tuple[str, str]:
        soma = self.soma
        most = int(soma.levels.max())
        theta = self.param("theta")
        subtract = soma.reset == "subtract"
        if most > UNROLLED and not soma.ladder and theta.lo > 0:
            return self.halved(v, theta, most)
        if most > MOST:
            raise UnsupportedError(f"{describe(soma)}: {most} levels with thresholds <= 0 need {most} compares")
        s, after = "", v
        for k in range(1, most + 1):
            own = np.minimum(theta.values[k - 1 : k] if soma.ladder else k * theta.values, NEVER)
            name = f"theta{k}" if soma.ladder else ("theta" if k == 1 else f"{k}*theta")
            bar = Param(name, own if int(soma.levels.min()) >= k else self.where_levels(k, own))
            hit = self.reaches(v, bar, note=f"level {k}")
            if subtract:
                rest = self.put("sub", v, Param(name, np.minimum(bar.values, V_MAX)))
                after = self.put("select", hit, rest, after)
            s = self.put("add", s, hit) if s else hit
        return s, after

    def where_levels(self, k: int, own: IntArray) -> IntArray:
        """Thresholds of level k, never reached by channels with fewer levels."""
        own, levels = aligned(own, self.soma.levels)
        return np.where(levels >= k, own, NEVER)

    def halved(self, v: str, theta: Param, most: int) -> tuple[str, str]:
        """`min(floor(v / theta), levels)` and the rest, by halving: one compare per bit of the count."""
        own, levels = aligned(theta.values, self.soma.levels)
        cap = Param("levels*theta", np.minimum(own * levels, V_MAX))
        rest = self.put("min", v, cap)
        over = self.put("max", self.put("sub", v, cap), const(0), note="beyond the last level")
        s = ""
        for bit in reversed(range(most.bit_length())):
            bar = Param(f"{1 << bit}*theta", np.minimum(own << bit, NEVER))
            hit = self.reaches(rest, bar)
            left = self.put("sub", rest, Param(bar.name, np.minimum(bar.values, V_MAX)))
            rest = self.put("select", hit, left, rest)
            part = self.put("shl", hit, const(bit)) if bit else hit
            s = self.put("add", s, part) if s else part
        return s, self.put("add", rest, over, note="v - s * theta") if self.soma.reset == "subtract" else v

    def table(self, v: str) -> str:
        """The table's entry: one compare per change of its value, or a lookup where the target has one."""
        soma = self.soma
        assert soma.table is not None
        if "lookup" in self.target.neuron.operations.value:
            moved = self.put("shr", self.put("add", v, const(soma.table_offset)), const(soma.table_shift))
            at = self.put("min", self.put("max", moved, const(0)), const(255))
            return self.put("lookup", at, note="table")
        entries = [int(entry) for entry in soma.table]
        s = ""
        first = entries[0]
        for i in range(1, 256):
            bar = (i << soma.table_shift) - soma.table_offset
            if bar <= -V_MAX:
                first = entries[i]
            elif bar <= V_MAX and entries[i] != entries[i - 1]:
                s = s or self.put("copy", const(first), note="table")
                s = self.put("select", self.reaches(v, const(bar)), const(entries[i]), s, note=f"entry {i}")
        return s or self.put("copy", const(first), note="table")

    def reset(self, v: str, s: str, after: str) -> str:
        """The register of the potential after the reset rule."""
        soma = self.soma
        if soma.fire == "none" or soma.reset in ("subtract", "subtract-delayed"):
            return after
        if soma.reset == "drop":
            return self.put("copy", const(0), note="reset")
        if soma.reset == "clamp":
            return self.put("min", v, self.reachable_theta(), note="reset")
        spiked = s if soma.fire == "levels" and int(soma.levels.max()) == 1 else self.reaches(s, const(1))
        to = self.param("v_reset") if soma.reset == "value" else const(0)
        return self.put("select", spiked, to, v, note="reset")

    def payload(self, s: str) -> None:
        """Scale and clip."""
        soma = self.soma
        scaled = self.half_up(self.times(s, self.param("out_gain")), self.param("out_shift"))
        plain = scaled == s and soma.fire == "levels" and int(soma.levels.max()) <= int(soma.out_max.min())
        if plain or soma.fire == "none":
            self.put("copy", scaled, out="payload")
            return
        low = self.put("max", scaled, self.param("out_min"))
        self.put("min", low, self.param("out_max"), out="payload")
