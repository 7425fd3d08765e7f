"""Which programs the widest sums allowed hold exactly: refused by name where a proven bound is beyond them.

float64 is exact up to 2^53. No valid program needs more: its currents stay below 2^46, so partial sums, in any order,
stay below 2^47 (`snn2chip.ir.validate`). float32 is exact up to 2^24.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from weakref import WeakKeyDictionary

from snn2chip.ir.nodes import Synapse, describe
from snn2chip.ir.program import Program
from snn2chip.ir.validate import MAX_CURRENT
from snn2chip_backends.torch.bounds import partial_bound, program_bounds
from snn2chip_backends.torch.exact import FLOAT32_EXACT, FLOAT64_EXACT

EXACT_SUMS: Mapping[str, int] = {"float64": FLOAT64_EXACT, "float32": FLOAT32_EXACT}
_KNOWN: WeakKeyDictionary[Program, dict[str, list[str]]] = WeakKeyDictionary()


def sum_limits(program: Program, widest: str) -> list[str]:
    """Every synapse and windowed soma whose partial sums may be beyond the range of `widest`, and what to do."""
    if EXACT_SUMS[widest] > 2 * MAX_CURRENT:
        return []
    known = _KNOWN.setdefault(program, {})
    if widest not in known:
        known[widest] = list(_breaches(program, widest))
    return known[widest]


def _breaches(program: Program, widest: str) -> Iterator[str]:
    most = EXACT_SUMS[widest]
    rest = f"beyond {most:,}, up to which {widest} is exact; use widest='float64', or fewer bits for"
    types, bounds = program_bounds(program)
    for synapse in program.synapses:
        if synapse.kind == "identity":
            continue  # in integers
        (edge,) = program.into[synapse.name]
        bound = partial_bound(synapse, types[edge.src].magnitude)
        if bound > most:
            targets = ", ".join(describe(program[out.dst]) for out in program.out_of[synapse.name])
            yield f"{_title(synapse)}, current of soma {targets}: sums may reach {bound:,}, {rest} weights or payloads"
    for soma in program.somas:
        bound = max(bounds[soma.name].mixing, bounds[soma.name].current)
        if soma.window is not None and bound > most:
            yield f"soma {describe(soma)}: sums of its window may reach {bound:,}, {rest} window, weights or payloads"


def _title(synapse: Synapse) -> str:
    return f"synapse {describe(synapse)}"
