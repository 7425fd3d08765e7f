"""Exact rewrites of a program that would take fewer cores on its target, tried and not only guessed."""

from __future__ import annotations

import attrs

from snn2chip.errors import ProgramError, UnsupportedError
from snn2chip.mapping.assign import Mapping
from snn2chip.mapping.capabilities import check_target
from snn2chip.mapping.partition import Partition, partition


@attrs.frozen(kw_only=True)
class Saving:
    """`transform` takes `cores` instead of `before`, and `synapse_bytes` instead of `bytes_before`."""

    transform: str
    before: int
    cores: int
    bytes_before: int
    synapse_bytes: int

    def __str__(self) -> str:
        return (
            f"the transform {self.transform!r} would take {self.cores:,} cores instead of {self.before:,}, and "
            f"{self.synapse_bytes:,} bytes of synapses instead of {self.bytes_before:,}; every payload stays"
        )


def savings(mapping: Mapping) -> list[Saving]:
    """Rewrites that save cores or synapse memory; split-signs where weights of -1 and +1 take two bits each."""
    program = mapping.program
    if not any(s.bits == 1 and s.sign == "mixed" for s in program.synapses):
        return []
    from snn2chip.transforms import transform

    try:
        split = transform(program, "split-signs")
        if any(b.kind == "refused" for b in check_target(split, mapping.target)):
            return []
        cut = partition(split, mapping.target, encoding=mapping.encoding)
    except (UnsupportedError, ProgramError):
        return []
    found = Saving(
        transform="split-signs",
        before=mapping.partition.cores,
        cores=cut.cores,
        bytes_before=_bytes(mapping.partition),
        synapse_bytes=_bytes(cut),
    )
    saves = found.cores < found.before or (found.cores == found.before and found.synapse_bytes < found.bytes_before)
    return [found] if saves else []


def _bytes(cut: Partition) -> int:
    return sum(int(t.demand["synapse bytes"].sum()) for t in cut.tilings.values())
