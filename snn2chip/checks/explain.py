"""What a soma received: incoming currents recomputed from a trace's own payloads."""

from __future__ import annotations

import numpy as np

from snn2chip.ir.dynamics import mix_window
from snn2chip.ir.nodes import Synapse
from snn2chip.ir.program import Edge, Program
from snn2chip.ir.soma import Soma
from snn2chip.ir.types import IntArray
from snn2chip.trace import Trace


def currents_at(
    program: Program, trace: Trace, name: str, sample: int, step: int, index: tuple[int, ...]
) -> int | None:
    """Summed (and mixed) current of one neuron at one step, from the payloads in `trace`; None if not recorded."""
    soma = program[name]
    assert isinstance(soma, Soma)
    steps = range(program.steps) if soma.window is not None else (step,)
    sums = []
    for t in steps:
        total = np.zeros((1, *soma.shape), dtype=np.int64)
        for edge in program.into[name]:
            current = _current(program, trace, edge.src, sample, t)
            if current is None:
                return None
            total = total + current
        sums.append(total)
    value = mix_window(soma, np.stack(sums))[step] if soma.window is not None else sums[0]
    at = (0, *index)
    return int(value[at])


def _current(program: Program, trace: Trace, name: str, sample: int, step: int) -> IntArray | None:
    from snn2chip_backends.reference.backend import product_current, synapse_current

    payloads = [_arriving(program, trace, edge, sample, step) for edge in program.into[name]]
    if any(p is None for p in payloads):
        return None
    node = program[name]
    if isinstance(node, Synapse):
        return synapse_current(node, payloads[0])  # type: ignore[arg-type]
    return product_current(node, payloads[0], payloads[1])  # type: ignore[arg-type]


def _arriving(program: Program, trace: Trace, edge: Edge, sample: int, step: int) -> IntArray | None:
    source = trace.payloads.get(edge.src, trace.inputs.get(edge.src))
    if source is None:
        return None
    if step < edge.delay:
        return np.zeros((1, *source.shape[2:]), dtype=np.int64)
    out: IntArray = source[step - edge.delay, sample][None].astype(np.int64)
    return out
