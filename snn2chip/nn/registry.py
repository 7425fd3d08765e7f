"""Every neuron by name. Adding a neuron is one file and one line here; the tests pick it up."""

from __future__ import annotations

import inspect
from typing import Any

from snn2chip.errors import InputError
from snn2chip.nn.base import Neuron
from snn2chip.nn.empf import EMPF, EMPFParallel
from snn2chip.nn.lif import IF, LIF
from snn2chip.nn.memnorm import EMPFNorm
from snn2chip.nn.multilevel import LMHT, MHT
from snn2chip.nn.qcfs import QCFS

NEURONS: dict[str, type[Neuron]] = {
    "if": IF,
    "lif": LIF,
    "mht": MHT,
    "lmht": LMHT,
    "qcfs": QCFS,
    "empf": EMPF,
    "empf-norm": EMPFNorm,
    "empf-parallel": EMPFParallel,
}


def make_neuron(
    name: str, *, steps: int, levels: int | None = None, channels: int | None = None, **args: Any
) -> Neuron:
    """Build the neuron called `name` for `steps` steps; `levels` None is the neuron's own default.

    `channels`, the channels of its current, is for neurons with a norm of their own; the others do without.
    Raises InputError that lists the known names, or every argument this neuron does not take.
    """
    if name not in NEURONS:
        raise InputError(f"neuron {name!r} is unknown; known: {', '.join(sorted(NEURONS))}")
    kind = NEURONS[name]
    known = set(inspect.signature(kind).parameters) - {"steps"}
    if levels is not None and ("levels" in known or levels != 1):
        args["levels"] = levels
    if "channels" in known:
        if channels is None:
            raise InputError(f"neuron {name!r} normalises every channel: give channels, the channels of its current")
        args["channels"] = channels
    if unknown := sorted(set(args) - known):
        raise InputError(
            [f"neuron {name!r} takes no {key!r}={args[key]!r}; it takes {', '.join(sorted(known))}" for key in unknown]
        )
    return kind(steps=steps, **args)
