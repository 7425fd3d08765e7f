"""The steps that neuron programs consist of, and what they compute on integers.

add x y   sub x y   mul x y   shl x k   shr x k (arithmetic)   and x m   min x y   max x y
ge x y    gt x y    (1 or 0)  select m x y (x where m, else y)  lookup i (entry of a table)  copy x
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import attrs
import numpy as np

from snn2chip.ir.soma import Soma
from snn2chip.ir.types import IntArray

CATEGORY: Mapping[str, str] = MappingProxyType(
    {
        "add": "add",
        "sub": "add",
        "mul": "multiply",
        "shl": "shift",
        "shr": "shift",
        "and": "mask",
        "min": "minmax",
        "max": "minmax",
        "ge": "compare",
        "gt": "compare",
        "select": "select",
        "lookup": "lookup",
        "copy": "",
    }
)
"""Which operation of a target (`snn2chip.mapping.target.OPERATIONS`) a step needs; a copy needs none."""


@attrs.frozen(eq=False)
class Param:
    """A constant of the neuron: `values` in the stored form of a soma's parameters, `[T or 1, C or 1 or *shape]`."""

    name: str
    values: IntArray

    def at(self, soma: Soma, t: int) -> IntArray:
        """Its value at step `t`, ready to broadcast against the soma's shape."""
        return soma.spread(self.values[t if self.values.shape[0] > 1 else 0])

    @property
    def lo(self) -> int:
        """Smallest value."""
        return int(self.values.min())

    @property
    def hi(self) -> int:
        """Largest value."""
        return int(self.values.max())

    def __str__(self) -> str:
        if self.lo == self.hi:
            return str(self.lo) if not self.name else f"{self.name}={self.lo}"
        index = ["t"] if self.values.shape[0] > 1 else []
        index += ["n"] if self.values.ndim > 2 else ["c"] if self.values.shape[1] > 1 else []
        return f"{self.name}[{','.join(index)}]={self.lo}..{self.hi}"


Arg = str | Param
"""A register by name, or a constant."""


@attrs.frozen
class Step:
    """`out <- op args`; `note` says what it is for."""

    op: str
    out: str
    args: tuple[Arg, ...]
    note: str = ""


@attrs.frozen(kw_only=True)
class Listing:
    """The neuron program of one soma.

    `arrive` runs when the currents of a step arrive (windows only), `step` when the soma takes its step: it reads the
    register `a` (the summed current; with a window the bank of its step) and leaves `payload`. `state` are the
    registers that are kept from step to step, with their values at the start of a sample.
    """

    soma: Soma
    steps: int
    target: str
    state: Mapping[str, Param]
    arrive: tuple[Step, ...]
    step: tuple[Step, ...]

    def operations(self) -> dict[str, int]:
        """Number of steps of each operation, `arrive` and `step` together."""
        found: dict[str, int] = {}
        for line in (*self.arrive, *self.step):
            if kind := CATEGORY[line.op]:
                found[kind] = found.get(kind, 0) + 1
        return found


UFUNCS: Mapping[str, np.ufunc] = MappingProxyType(
    {
        "add": np.add,
        "sub": np.subtract,
        "mul": np.multiply,
        "shl": np.left_shift,
        "shr": np.right_shift,
        "and": np.bitwise_and,
        "min": np.minimum,
        "max": np.maximum,
    }
)


def compute(op: str, args: list[IntArray], soma: Soma) -> IntArray:
    """The integers that one step makes of its operands; a comparison gives 0 or 1."""
    x = args[0]
    if op == "select":
        return np.where(x != 0, args[1], args[2])
    if op == "lookup":
        assert soma.table is not None
        return soma.table[x]
    if op == "copy":
        return x
    y = args[1]
    found: IntArray
    if op in ("ge", "gt"):
        found = (x >= y if op == "ge" else x > y).astype(np.int64)
        return found
    found = UFUNCS[op](x, y)
    return found
