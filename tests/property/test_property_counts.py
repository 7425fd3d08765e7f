"""Counts against a counter that walks over every neuron, every step and every stored synapse."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import product as cross
from typing import Any

import numpy as np
import pytest

from snn2chip.ir.nodes import Input, Product, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.registry import get_backend
from snn2chip.testing.cases import Case, covering_cases
from snn2chip.testing.programs import random_program
from snn2chip.testing.witness import Witness


def stored(
    node: Synapse, source: tuple[int, ...], target: tuple[int, ...], *, keeps_zeros: bool
) -> Iterator[tuple[int, ...]]:
    """The source neuron of every synapse of `node`, with or without those of weight 0."""
    if node.kind == "linear":
        weight = node.dense()
        for m, (n, at) in cross(range(target[0]), enumerate(np.ndindex(*source))):
            if keeps_zeros or weight[m, n]:
                yield at
    elif node.kind == "identity":
        whole: Any = np.broadcast_to(node.weight.reshape(node.weight.shape + (1,) * _missing(node, source)), source)
        yield from (at for at in np.ndindex(*source) if keeps_zeros or whole[at])
    else:
        yield from _taps(node, source, target, keeps_zeros)


def _missing(node: Synapse, source: tuple[int, ...]) -> int:
    return 0 if node.weight.ndim in (0, len(source)) else len(source) - node.weight.ndim


def _taps(
    node: Synapse, source: tuple[int, ...], target: tuple[int, ...], keeps_zeros: bool
) -> Iterator[tuple[int, ...]]:
    pool = node.kind == "sumpool"
    into = 1 if pool else node.weight.shape[1]
    for c, y, x in np.ndindex(*target):
        first = c if pool else c // (target[0] // node.groups) * into
        for k, i, j in cross(range(into), range(node.kernel_size[0]), range(node.kernel_size[1])):
            row = y * node.stride[0] - node.padding[0] + i * node.dilation[0]
            col = x * node.stride[1] - node.padding[1] + j * node.dilation[1]
            exists = 0 <= row < source[1] and 0 <= col < source[2]
            weight = node.weight.ravel()[c % node.weight.size] if pool else node.weight[c, k, i, j]
            if exists and (keeps_zeros or weight):
                yield first + k, row, col


def counted(program: Program, payloads: dict[str, Any], delay: int, name: str, node: Synapse) -> dict[str, int]:
    """Events of one synapse, spike by spike."""
    shapes = program.shapes[name], program.shapes[node.name]
    fan = Counter(stored(node, *shapes, keeps_zeros=not node.sparse or node.kind == "sumpool"))
    nonzero = Counter(stored(node, *shapes, keeps_zeros=False))
    steps, batch = payloads[name].shape[:2]
    found = dict.fromkeys(("synaptic_events", "payload_weighted_events", "effective_operations", "dense_events"), 0)
    for t, b in cross(range(steps), range(batch)):
        if t + delay >= steps:
            continue
        for at, n in fan.items():
            p = int(payloads[name][t, b][at])
            found["synaptic_events"] += n if p else 0
            found["payload_weighted_events"] += n * abs(p)
            found["effective_operations"] += nonzero[at] if p else 0
            found["dense_events"] += n
    return found


def check_counts(case: Case, backend: str) -> None:
    program, witness = case.program, Witness()
    trace = get_backend(backend).run(program, case.coded)
    slow = witness.run(program, case.coded)
    payloads: dict[str, Any] = {**slow.payloads, **case.coded}
    batch = slow.samples
    for node in program.nodes:
        if isinstance(node, (Soma, Input)):
            values = [int(v) for v in payloads[node.name].ravel()]
            want = {
                "neurons": len(list(np.ndindex(*node.shape))),
                "spikes": sum(v != 0 for v in values),
                "payload_sum": sum(abs(v) for v in values),
                "neuron_updates": len(values) if isinstance(node, Soma) else 0,
                "saturations": witness.events[node.name]["saturation"] if isinstance(node, Soma) else 0,
            }
            assert dict(trace.counts.sources[node.name]) == want, (case.name, node.name)
        elif isinstance(node, Synapse):
            (edge,) = program.into[node.name]
            want = counted(program, payloads, edge.delay, edge.src, node)
            assert dict(trace.counts.synapses[node.name]) == want, (case.name, node.name)
        elif isinstance(node, Product):
            neurons = len(list(np.ndindex(*program.shapes[node.name])))
            assert trace.counts.products[node.name] == program.steps * batch * neurons
    totals = trace.counts.totals
    somas = [trace.counts.sources[s.name] for s in program.somas]
    assert totals["spikes"] == sum(row["spikes"] for row in somas)
    assert totals["neuron_updates"] == sum(s.size for s in program.somas) * program.steps * batch


@pytest.mark.parametrize("backend", ["reference", "torch"])
@pytest.mark.parametrize("seed", range(30))
def test_random_programs(seed: int, backend: str) -> None:
    check_counts(random_program(8000 + seed), backend)


def test_conformance_programs() -> None:
    for case in covering_cases()[::2]:
        check_counts(case, "reference")


def test_counts_by_hand() -> None:
    """2 -> 3 dense with a zero weight, payloads [2, 0] then [1, 5], T = 2: 3 spikes, 9 events, sparse 8."""
    for sparse, events in ((False, 9), (True, 8)):
        program = Program(
            nodes=[
                Input("in", (2,), 0, 7, coding="steps"),
                Synapse("w", "linear", [[1, 2], [0, 1], [3, -1]], sparse=sparse),
                Soma("s", (3,), theta=1 << 22),
            ],
            edges=[("in", "w"), ("w", "s")],
            steps=2,
        )
        trace = get_backend("reference").run(program, {"in": np.array([[[2, 0]], [[1, 5]]])})
        assert trace.counts.sources["in"]["spikes"] == 3
        row = trace.counts.synapses["w"]
        # neuron 0 spikes twice (2, 1), neuron 1 once (5); neuron 0 reaches 3 synapses, or 2 that are stored
        assert row["synaptic_events"] == (9 if not sparse else 2 + 2 + 3)
        assert row["payload_weighted_events"] == (3 * 3 + 5 * 3 if not sparse else 3 * 2 + 5 * 3)
        assert events >= row["synaptic_events"]
