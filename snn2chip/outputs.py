"""Reading a program's outputs from payloads and potentials."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from snn2chip.ir.program import Program
from snn2chip.ir.types import IntArray


def read_outputs(program: Program, payloads: Mapping[str, Any], potentials: Mapping[str, Any]) -> dict[str, IntArray]:
    """Every Output as int64 `[B, size]` from payloads and potentials `[T, B, ...]`.

    potential: after the last step; count: steps with a payload other than 0; payload: sum over steps.
    """
    found: dict[str, IntArray] = {}
    for output in program.outputs:
        source = program.into[output.name][0].src
        if output.read == "potential":
            value = np.asarray(potentials[source][-1], dtype=np.int64)
        elif output.read == "count":
            value = (np.asarray(payloads[source]) != 0).sum(0, dtype=np.int64)
        else:
            value = np.asarray(payloads[source]).sum(0, dtype=np.int64)
        found[output.name] = value.reshape(len(value), -1)
    return found
