"""What is known of every soma's registers: proven for all inputs, or only shown on calibration data.

proven       by its ranges: nothing saturates or wraps, current, mixed and scaled current fit 24 bits
calibrated   none of that happened on the calibration data
beyond       a current left 24 bits on the calibration data: refused for chips whose sums have no more
as trained   it was trained on integers that saturate, and does so
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from snn2chip.analysis.ranges import program_ranges
from snn2chip.errors import UnsupportedError
from snn2chip.ir.nodes import describe
from snn2chip.ir.program import Program
from snn2chip.ir.raw import count, part
from snn2chip.ir.soma import Soma
from snn2chip.ir.types import NEVER
from snn2chip.stages import staged

if TYPE_CHECKING:
    from snn2chip.mapping.target import Target

BLOCK, BLOCK_BYTES = 64, 16 << 20
LOOSE, WIDE = "not proven", "current beyond 24 bits"


@staged("prove ranges")
def with_proofs(program: Program, data: Any, *, trained: Collection[str] = ()) -> Program:
    """The program with `meta["ranges"]`, the status of every soma.

    `data` are raw calibration samples, of several inputs by name.
    `trained`: somas that may saturate because they were trained to.
    """
    found = program_ranges(program)
    status = {name: "proven" if ranges.proven else "calibrated" for name, ranges in found.items()}
    status |= {name: "as trained" for name in trained if name in found and found[name].saturates}
    wide = _too_wide(program, [name for name, ranges in found.items() if not ranges.fits], data)
    status |= dict.fromkeys(wide, WIDE)
    return attrs.evolve(program, meta={**program.meta, "ranges": status})


def wide_somas(program: Program, target: Target) -> list[str]:
    """Somas whose currents left the sums of a chip of 24 bits on the calibration data."""
    if target.neuron.current_bits.value > 24:
        return []
    return [name for name, text in program.meta.get("ranges", {}).items() if text == WIDE]


def refuse_wide(program: Program, target: Target) -> None:
    """Raise UnsupportedError that lists all somas whose currents left the chip's sums on the calibration data."""
    wide, bits = wide_somas(program, target), target.neuron.current_bits.value
    if not wide:
        return
    ranges = program_ranges(program)
    found = []
    for name in wide:
        lo, hi = ranges[name].current.bounds
        found.append(
            f"{target.title}: {describe(program[name])}: its current, or what its gain makes of it, leaves the chip's "
            f"{bits} bits (+-{NEVER - 1:,}) on the calibration data; proven bound of the current {lo:,}..{hi:,}. Use "
            "fewer bits for the weights before it (weights, overrides) or for the payloads (payload_bits), or "
            "target='ideal'"
        )
    raise UnsupportedError(found)


def _too_wide(program: Program, names: list[str], data: Any) -> list[str]:
    """Somas of `names` whose current leaves 24 bits on the calibration data."""
    from snn2chip.api import run
    from snn2chip.checks.inside import inside

    by_step = {n.name for n in program.inputs if n.coding == "steps"}
    x = data if isinstance(data, Mapping) else {program.inputs[0].name: data}
    found: set[str] = set()
    block = _block(program)
    for start in range(0, count(x, by_step) if names else 0, block):
        trace = run(program, part(x, start, start + block, by_step), backend="torch")
        for name in [n for n in names if n not in found]:
            soma = program[name]
            assert isinstance(soma, Soma)
            seen = inside(program, trace, soma)
            if any(v.max() >= NEVER or v.min() < -NEVER for v in (seen.current, seen.mixed, seen.scaled)):
                found.add(name)
    return [name for name in names if name in found]


def _block(program: Program) -> int:
    """Samples whose recorded payloads and potentials, and the inside of one soma, fit `BLOCK_BYTES`."""
    sizes = [soma.size for soma in program.somas]
    return min(BLOCK, max(1, BLOCK_BYTES // (8 * program.steps * (sum(sizes) + 10 * max(sizes)))))


def range_table(program: Program) -> dict[str, dict[str, Any]]:
    """Status and proven ranges (lo, hi) of every soma's current, potential before firing, and payload."""
    said = program.meta.get("ranges", {})
    return {
        name: {
            "status": "proven" if ranges.proven else said.get(name, LOOSE),
            "current": list(ranges.current.bounds),
            "potential": list(ranges.before.bounds),
            "payload": list(ranges.payload.bounds),
        }
        for name, ranges in program_ranges(program).items()
    }


def range_summary(program: Program) -> str:
    """One line: how many somas are proven, and the names of the others by status."""
    rows = range_table(program)
    rest: dict[str, list[str]] = {}
    for name, row in rows.items():
        if row["status"] != "proven":
            rest.setdefault(row["status"], []).append(name)
    proven = sum(row["status"] == "proven" for row in rows.values())
    others = "".join(f"; {status}: {', '.join(names)}" for status, names in rest.items())
    return f"{proven} of {len(rows)} somas proven (no saturation, currents in 24 bits){others}"
