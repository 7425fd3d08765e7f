"""Transforms: exact rewritings of integer programs, by name.

fuse-time         T steps as one graded step, where every neuron only needs the sum of its currents
serialize-levels  graded level counts as binary spikes in sub-steps (form B)
retime            relays where a payload would wait longer than the target allows
dead-channel      silent and unread channels and somas go
share-relay       equal relays become one
split-signs       weights of -1 and +1 as 0 and 1 and one shared sum of the payloads
"""

from __future__ import annotations

from collections.abc import Iterable

from snn2chip.errors import InputError
from snn2chip.ir.program import Program
from snn2chip.stages import stage
from snn2chip.transforms.base import Transform
from snn2chip.transforms.dead import DeadChannel
from snn2chip.transforms.fuse import FuseTime
from snn2chip.transforms.retime import Retime
from snn2chip.transforms.serialise import SerializeLevels
from snn2chip.transforms.share import ShareRelay
from snn2chip.transforms.split import SplitSigns

TRANSFORMS: dict[str, type[Transform]] = {
    kind.name: kind for kind in (FuseTime, SerializeLevels, Retime, DeadChannel, ShareRelay, SplitSigns)
}
"""Every transform by its name on the command line."""


def transform(program: Program, names: str | Transform | Iterable[str | Transform]) -> Program:
    """Return `program` after the transforms named (or given with their options), in order.

    Each is exact; its `keeps` says which integers stay equal. Raises InputError that lists the known names, and
    UnsupportedError with every node that stands in a transform's way.
    """
    steps = [names] if isinstance(names, (str, Transform)) else list(names)
    if unknown := [step for step in steps if isinstance(step, str) and step not in TRANSFORMS]:
        raise InputError(f"transform {', '.join(map(repr, unknown))} is unknown; known: {', '.join(TRANSFORMS)}")
    for step in steps:
        found = TRANSFORMS[step]() if isinstance(step, str) else step
        with stage(f"transform {found.name}"):
            program = found.run(program)
    return program


__all__ = [
    "TRANSFORMS",
    "DeadChannel",
    "FuseTime",
    "Retime",
    "SerializeLevels",
    "ShareRelay",
    "SplitSigns",
    "Transform",
    "transform",
]
