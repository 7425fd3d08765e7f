"""Proven ranges: nothing observed ever leaves them, and what has no state reaches both ends of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from snn2chip_backends.reference import ReferenceBackend
from snn2chip_backends.reference.backend import synapse_current

from snn2chip.analysis.ranges import payload_types, program_ranges
from snn2chip.analysis.soma_range import SomaRange
from snn2chip.analysis.spans import Span
from snn2chip.checks.inside import inside, source_current
from snn2chip.ir.nodes import Input, Node, Output, Product, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.ir.types import NEVER, V_MAX, IntArray
from snn2chip.testing.programs import random_program

SEEDS = 160


def contains(part: Span, seen: IntArray) -> bool:
    return bool(((seen >= part.lo) & (seen <= part.hi)).all())


def observed(program: Program, coded: dict[str, IntArray]) -> Iterator[tuple[str, SomaRange, dict[str, IntArray]]]:
    trace = ReferenceBackend().run(program, coded)
    for soma in program.somas:
        found = inside(program, trace, soma)
        seen = {name: getattr(found, name) for name in ("current", "mixed", "scaled", "total", "before")}
        seen |= {"payload": trace.payloads[soma.name], "after": trace.potentials[soma.name]}
        if found.synaptic is not None:
            seen["synaptic"] = found.synaptic
        yield soma.name, program_ranges(program)[soma.name], seen


def attacks(program: Program, rng: np.random.Generator, steps: int) -> Iterator[dict[str, IntArray]]:
    """Inputs at the ends of their ranges: all of them, one end per neuron, per step, and anything between."""
    size = {n.name: (steps, 4, *n.shape) for n in program.inputs}
    ends = {n.name: np.array([n.lo, n.hi]) for n in program.inputs}
    for end in (0, 1):
        yield {name: np.full(shape, ends[name][end]) for name, shape in size.items()}
    yield {name: np.broadcast_to(rng.choice(ends[name], shape[1:]), shape) for name, shape in size.items()}
    yield {name: rng.choice(ends[name], shape) for name, shape in size.items()}
    yield {name: rng.integers(ends[name][0], ends[name][1] + 1, shape) for name, shape in size.items()}


@pytest.mark.parametrize("wide", [False, True])
def test_nothing_observed_leaves_its_range(wide: bool) -> None:
    rng = np.random.default_rng(7)
    proven = saturating = loops = 0
    for seed in range(SEEDS):
        case = random_program(seed, wide=wide)
        loops += any(e.delay for e in case.program.edges)
        inputs = [dict(case.coded), *attacks(case.program, rng, case.program.steps)]
        for coded in inputs:
            for name, found, seen in observed(case.program, coded):
                for what, values in seen.items():
                    assert contains(getattr(found, what), values), f"{case}\nseed {seed}: {name}.{what}"
                saturated = (np.abs(seen["total"]) > V_MAX).any()
                assert not (found.proven and saturated)
                saturating += int(saturated)
        proven += sum(found.proven for found in program_ranges(case.program).values())
        for name, kind in payload_types(case.program).items():
            declared = case.program[name].payload_type()  # type: ignore[union-attr]
            assert declared.lo <= kind.lo <= 0 <= kind.hi <= declared.hi
    assert min(proven, saturating, loops) > SEEDS // 8  # all three sides were met


def test_currents_recomputed_from_a_trace_are_those_of_the_reference() -> None:
    for seed in range(60):
        case = random_program(seed)
        trace = case.expected
        for node in case.program.synapses:
            (edge,) = case.program.into[node.name]
            source = trace.payloads.get(edge.src, trace.inputs.get(edge.src))
            assert source is not None
            for t in range(edge.delay, case.program.steps):
                want = synapse_current(node, source[t - edge.delay].astype(np.int64))
                assert (source_current(case.program, trace, node.name)[t] == want).all()


def tiny(soma: Soma, weight: Any, steps: int, lo: int = -2, hi: int = 3) -> Program:
    shape = (np.shape(weight)[1],)
    read = "potential" if soma.fire == "none" else "payload"
    nodes: list[Node] = [Input("x", shape, lo, hi, coding="steps"), Synapse("w", "linear", weight), soma]
    return Program(nodes=[*nodes, Output("o", read)], edges=[("x", "w"), ("w", "n"), ("n", "o")], steps=steps)


def everything(program: Program, lo: int = -2, hi: int = 3) -> dict[str, IntArray]:
    size = program.steps * program.inputs[0].shape[0]
    rows = np.array(list(itertools.product(range(lo, hi + 1), repeat=size)))
    return {"x": np.moveaxis(rows.reshape(len(rows), program.steps, -1), 1, 0)}


WEIGHT = [[3, -2, 1], [-1, -4, 0], [0, 0, 2]]
STATELESS: list[dict[str, Any]] = [
    {"theta": 3, "levels": 4},
    {"theta": [[2], [7], [7], [12]], "levels": 4, "ladder": True},
    {"theta": [3, 100, -4], "levels": 2},
    {"theta": [3, -5, NEVER], "fire": "excess", "out_gain": 5, "out_shift": 2, "out_max": 9},
    {"fire": "relay", "gain": [3, -5, 2], "gain_shift": [1, 0, 2], "bias": [-4, 0, 5]},
    {"fire": "table", "table": np.arange(256) % 17 - 8, "table_offset": 128, "table_shift": 1},
]


@pytest.mark.parametrize("fields", STATELESS)
def test_stateless_somas_reach_both_ends(fields: dict[str, Any]) -> None:
    program = tiny(Soma("n", (3,), reset="drop", **fields), WEIGHT, steps=1)
    ((_, found, seen),) = observed(program, everything(program))
    for what in ("current", "mixed", "scaled", "total", "payload"):
        part, values = getattr(found, what), seen[what].reshape(-1, 3)
        assert (np.broadcast_to(part.lo, (3,)) == values.min(0)).all(), what
        assert (np.broadcast_to(part.hi, (3,)) == values.max(0)).all(), what


def test_windows_reach_both_ends_of_every_mix() -> None:
    soma = Soma("n", (2,), theta=4, reset="drop", window=[[2, -1], [1, 3]], window_shift=1, levels=3)
    program = tiny(soma, [[2, -1], [1, 1]], steps=2)
    ((_, found, seen),) = observed(program, everything(program))
    values = seen["mixed"].reshape(-1, 2)
    assert (found.mixed.lo == values.min(0)).all()
    assert (found.mixed.hi == values.max(0)).all()


STATEFUL: list[dict[str, Any]] = [
    {"fire": "none"},
    {"fire": "none", "leak": 2048, "v_init": 9},
    {"fire": "none", "leak": -3000},
    {"fire": "none", "leak": 6000, "bias": -1},
    {"theta": 4, "v_init": 1},
    {"theta": 4, "levels": 2, "leak": 3000},
    {"theta": 3, "levels": 3, "reset": "subtract-delayed"},
    {"theta": 5, "fire": "excess", "reset": "clamp", "leak": 3000},
    {"theta": 4, "reset": "zero", "v_min": -3},
    {"theta": 3, "fire": "delta", "reset": "keep", "leak": 0, "v_min": -3},
    {"theta": 3, "fire": "delta", "reset": "keep", "delta_shift": 1},
]


@pytest.mark.parametrize("fields", STATEFUL)
def test_potentials_of_one_neuron_reach_both_ends_in_three_steps(fields: dict[str, Any]) -> None:
    program = tiny(Soma("n", (1,), **fields), [[2]], steps=3)
    ((_, found, seen),) = observed(program, everything(program))
    for what in ("before", "after"):
        assert getattr(found, what).bounds[1] == seen[what].max(), what
        assert getattr(found, what).bounds[0] == seen[what].min(), what


def test_leaks_add_up_geometrically_and_integration_step_by_step() -> None:
    for leak, want in ((4096, 5 * 20), (2048, 20 + 10 + 5 + 2 + 1), (0, 20)):
        steps = 5
        program = tiny(Soma("n", (1,), fire="none", leak=leak), [[4]], steps=steps, lo=0, hi=5)
        expected = 0
        for _ in range(steps):
            expected = expected * leak // 4096 + 20
        assert program_ranges(program)["n"].before.bounds == (0, expected)
        assert expected == want
    long = tiny(Soma("n", (1,), fire="none", leak=2048), [[4]], steps=1 << 20, lo=0, hi=5)
    assert program_ranges(long)["n"].before.bounds == (0, 39)  # 39/2 rounded down + 20 is 39 again
    far = tiny(Soma("n", (1,), fire="none", bias=1), [[4]], steps=1 << 20, lo=0, hi=5)
    assert program_ranges(far)["n"].saturates


def test_a_relay_is_as_narrow_as_its_current_and_a_loop_keeps_what_it_can_send() -> None:
    nodes: list[Node] = [
        Input("x", (2,), 0, 3, coding="steps"),
        Synapse("w", "linear", [[1, -2]]),
        Soma("r", (1,), fire="relay", reset="drop"),
        Synapse("v", "identity", -3),
        Soma("n", (1,), theta=2, reset="drop"),
        Synapse("back", "identity", 1),
        Output("o", "payload"),
    ]
    edges = [("x", "w"), ("w", "r"), ("r", "v"), ("v", "n"), ("n", "back", 1), ("back", "r"), ("n", "o")]
    program = Program(nodes=nodes, edges=edges, steps=4)
    found = program_ranges(program)
    assert found["r"].payload.bounds == (-6, 4)  # 3*1, -2*3, and the spike that comes back
    assert found["n"].current.bounds == (-12, 18)
    assert found["n"].payload.bounds == (0, 1)


def test_products_and_delays() -> None:
    nodes: list[Node] = [
        Input("p", (2,), 1 - 4, 5, coding="steps"),
        Input("q", (2,), 0, 7, coding="steps"),
        Product("w", shift=1),
        Soma("n", (2,), fire="relay", reset="drop", bias=3),
        Synapse("late", "identity", 1),
        Soma("m", (2,), fire="relay", reset="drop"),
        Output("o", "payload"),
    ]
    edges = [("p", "w"), ("q", "w"), ("w", "n"), ("n", "late", 2), ("late", "m"), ("m", "o")]
    found = program_ranges(Program(nodes=nodes, edges=edges, steps=3))
    assert found["n"].current.bounds == (-10, 18)  # (-21 + 1) >> 1, (35 + 1) >> 1
    assert found["m"].current.bounds == (-7, 21)
