"""Hand-made programs of every soma and synapse variant: torch equals the reference, payload by payload."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from snn2chip.api import run
from snn2chip.checks.compare import compare
from snn2chip.ir.nodes import Input, Node, Output, Product, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.ir.types import NEVER, V_MAX
from snn2chip.trace import Trace

RNG = np.random.default_rng(11)
T, C, SHAPE = 5, 3, (3, 4, 2)
TABLE = RNG.integers(-90, 90, size=256)
WINDOW = RNG.integers(-4, 5, size=(T, T))
PER_NEURON = RNG.integers(1, 60, size=(T, *SHAPE))

SOMAS: dict[str, dict[str, Any]] = {
    "if": {"theta": 30},
    "lif": {"theta": 30, "leak": 3686, "bias": -2},
    "negative leak, growth": {"theta": 30, "leak": [[-4096], [4100], [9000], [0], [-32768]]},
    "leak per channel": {"theta": 30, "leak": [4096, 2048, -100]},
    "theta per step and channel": {"theta": RNG.integers(1, 50, size=(T, C))},
    "theta per neuron and step": {"theta": PER_NEURON},
    "two levels": {"theta": 25, "levels": 2},
    "levels": {"theta": 7, "levels": 15, "v_init": 3},
    "levels per channel": {"theta": [3, 9, 11], "levels": [1, 4, 9], "out_max": 7},
    "never": {"theta": [NEVER, 20, NEVER], "levels": 3},
    "reset to zero": {"theta": [-5, 0, 9], "levels": 4, "reset": "zero"},
    "reset to a value": {"theta": 9, "reset": "value", "v_reset": [-4, 3, 20], "v_init": [5, 0, -9]},
    "reset value per step": {"theta": 9, "reset": "value", "v_reset": [[1], [2], [-30], [4], [5]]},
    "clamp": {"theta": 40, "levels": 2, "reset": "clamp"},
    "drop": {"theta": 10, "levels": 3, "reset": "drop"},
    "drop per step": {"theta": [[10], [8], [5], [3], [1]], "reset": "drop", "bias": -1, "ladder": False},
    "drop, gain per step": {"theta": 10, "levels": 3, "reset": "drop", "gain": [[1], [2], [-3], [4], [5]]},
    "drop with floor": {"theta": 10, "levels": 3, "reset": "drop", "v_min": -5},
    "drop with current": {"theta": 10, "levels": 3, "reset": "drop", "syn_leak": 3000},
    "ladder": {"theta": [[-9, 0, 1], [4, 0, 30]], "levels": 2, "reset": "drop"},
    "long ladder": {"theta": np.arange(-20, 20)[:, None], "levels": 40, "reset": "drop"},
    "long ladder per channel": {"theta": np.sort(RNG.integers(-99, 99, (30, C)), 0), "levels": 30, "reset": "drop"},
    "delayed": {"theta": 20, "levels": 2, "reset": "subtract-delayed"},
    "delayed, theta of all signs": {"theta": [-7, 0, 9], "levels": 3, "reset": "subtract-delayed", "v_min": -50},
    "excess, clamp": {"fire": "excess", "reset": "clamp", "theta": 20, "gain": 3, "out_gain": 5, "out_shift": 3},
    "excess, zero": {"fire": "excess", "reset": "zero", "theta": [-9, 0, 20], "out_max": [3, 100, 9]},
    "excess, drop": {"fire": "excess", "reset": "drop", "theta": -30},
    "excess, widest requantisation": {
        "fire": "excess",
        "reset": "zero",
        "theta": -NEVER,
        "out_gain": 65535,
        "out_shift": 30,
    },
    "relay": {"fire": "relay", "reset": "drop", "bias": [4, -4, 0]},
    "relay, scaled": {"fire": "relay", "reset": "drop", "out_gain": [3, 1, 7], "out_shift": [1, 0, 4], "out_min": -20},
    "table": {"fire": "table", "reset": "drop", "table": TABLE, "table_offset": 300, "table_shift": 1},
    "table, scaled": {"fire": "table", "reset": "drop", "table": TABLE, "out_gain": 3, "out_shift": 2, "out_max": 40},
    "change": {"fire": "delta", "reset": "keep", "theta": [1, 20, 70], "leak": 0, "v_init": 9},
    "change of a sum": {"fire": "delta", "reset": "keep", "theta": 15, "syn_leak": 4096, "leak": 0, "v_min": 0},
    "change, floored": {"fire": "delta", "reset": "keep", "theta": 9, "delta_shift": 3, "leak": 3000, "bias": -2},
    "change, per step": {"fire": "delta", "reset": "keep", "theta": [[5], [1], [40], [9], [2]], "v_min": [-30, 0, 8]},
    "change, scaled": {"fire": "delta", "reset": "keep", "theta": 7, "out_gain": 9, "out_shift": 4, "out_max": 20},
    "change, saturating": {"fire": "delta", "reset": "keep", "theta": V_MAX, "gain": 32767, "leak": 5000},
    "silent": {"fire": "none", "leak": 4000, "v_init": -7},
    "silent, drop ignored": {"fire": "none", "reset": "drop", "v_init": 9},
    "current": {"theta": 50, "syn_leak": 2048, "leak": 3000, "v_min": -100},
    "current per step": {"theta": 50, "syn_leak": RNG.integers(0, 4097, size=(T, C)), "reset": "zero"},
    "current that wraps": {"fire": "none", "syn_leak": 4096, "gain": 32767, "gain_shift": 0},
    "gain per channel": {"theta": 30, "gain": [-3, 7, 32767], "gain_shift": [0, 3, 15]},
    "window": {"theta": 30, "window": WINDOW},
    "window, shifted": {"theta": 30, "levels": 3, "window": WINDOW * 90, "window_shift": 3, "leak": 3000},
    "window, float64": {"theta": 30, "levels": 3, "window": WINDOW * 8000, "window_shift": 13},
    "window, drop": {
        "theta": [[10], [8], [5], [3], [1]],
        "reset": "drop",
        "window": np.ones((T, T), int),
        "ladder": False,
    },
    "saturating": {"fire": "none", "gain": 32767, "leak": 5000},
    "saturating, drop": {"fire": "relay", "reset": "drop", "gain": -32768, "bias": -4_000_000, "out_min": -(1 << 23)},
    "saturating both ways": {"theta": V_MAX, "gain": [32767, -32768, 1], "v_init": [V_MAX, -V_MAX, 0]},
}


def equal(program: Program, x: np.ndarray, **options: Any) -> Trace:
    """Run both, compare everything that a trace holds, return the reference's."""
    expected, got = (run(program, x, backend=name, **options) for name in ("reference", "torch"))
    result = compare(program, [expected, got])
    assert result.equal, str(result.first)
    for name, v in expected.potentials.items():
        assert (got.potentials[name] == v).all(), name
    assert got.counts == expected.counts
    outputs = run(program, x, backend="torch", record="outputs", block=2, **options)
    assert not outputs.payloads
    assert not outputs.potentials
    assert outputs.counts == expected.counts
    for name, value in expected.all_outputs.items():
        assert (got.all_outputs[name] == value).all()
        assert (outputs.all_outputs[name] == value).all()
    return expected


@pytest.mark.parametrize("coding", ["repeat", "steps"])
@pytest.mark.parametrize("name", SOMAS)
def test_soma(name: str, coding: str) -> None:
    """One soma behind a scaled identity, currents of both signs, constant or different at every step."""
    fields = SOMAS[name]
    read = "potential" if fields.get("fire") == "none" else "payload"
    program = Program(
        nodes=[
            Input("in", SHAPE, -60, 60, coding=coding),
            Synapse("s", "identity", [2, -1, 3]),
            Soma("n", SHAPE, **fields),
            Output("out", read),
            *([] if read == "potential" else [Output("count", "count")]),
        ],
        edges=[("in", "s"), ("s", "n"), ("n", "out"), *([] if read == "potential" else [("n", "count")])],
        steps=T,
    )
    shape = (T, 6, *SHAPE) if coding == "steps" else (6, *SHAPE)
    trace = equal(program, np.random.default_rng(3).integers(-60, 61, size=shape))
    lively = trace.potentials["n"] if fields.get("fire") == "none" else trace.payloads["n"]
    assert lively.any()
    if "saturating" in name:
        assert trace.counts.totals["saturations"] > 0


SYNAPSES: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "linear": ({"kind": "linear", "weight": RNG.integers(-128, 128, (7, 96))}, (7,)),
    "linear, sparse": ({"kind": "linear", "weight": RNG.integers(0, 2, (7, 96)), "sparse": True}, (7,)),
    "linear, exponent": ({"kind": "linear", "weight": RNG.integers(-2, 2, (7, 96)), "exponent": 16}, (7,)),
    "conv": ({"kind": "conv2d", "weight": RNG.integers(-8, 8, (5, 6, 3, 3)), "padding": 1}, (5, 4, 4)),
    "conv, strided": (
        {"kind": "conv2d", "weight": RNG.choice([-1, 1], (5, 6, 2, 3)), "stride": (2, 1), "padding": (0, 2)},
        (5, 2, 6),
    ),
    "conv, dilated groups": (
        {"kind": "conv2d", "weight": RNG.integers(-1, 2, (4, 3, 2, 2)), "dilation": 2, "groups": 2, "exponent": 3},
        (4, 2, 2),
    ),
    "conv, depthwise": ({"kind": "conv2d", "weight": RNG.integers(-9, 9, (12, 1, 3, 3)), "groups": 6}, (12, 2, 2)),
    "conv, pruned": (
        {"kind": "conv2d", "weight": np.eye(54, dtype=int).reshape(54, 6, 3, 3), "padding": 1, "sparse": True},
        (54, 4, 4),
    ),
    "sum-pool": ({"kind": "sumpool", "kernel_size": 2}, (6, 2, 2)),
    "sum-pool, overlapping": (
        {"kind": "sumpool", "kernel_size": 3, "stride": 1, "padding": 2, "weight": [1, -2, 3, 0, 5, 6]},
        (6, 6, 6),
    ),
    "identity": ({"kind": "identity"}, (6, 4, 4)),
    "identity, per neuron": ({"kind": "identity", "weight": RNG.integers(-9, 9, (6, 4, 4)), "exponent": 2}, (6, 4, 4)),
}


@pytest.mark.parametrize("top", [1, 1000, (1 << 23) - 1])
@pytest.mark.parametrize("name", SYNAPSES)
def test_synapse(name: str, top: int) -> None:
    """Each synapse with narrow and with the widest payloads, one step late."""
    options, shape = SYNAPSES[name]
    program = Program(
        nodes=[Input("in", (6, 4, 4), -top, top), Synapse("s", **options), Soma("n", shape, fire="none"), Output("o")],
        edges=[("in", "s", 1), ("s", "n"), ("n", "o")],
        steps=3,
    )
    assert equal(program, np.random.default_rng(7).integers(-top, top + 1, size=(5, 6, 4, 4))).outputs.any()


def crossroads() -> Program:
    """Two inputs, gates, a shortcut with a delay, a synapse with two readers, two loops, several outputs."""
    rng = np.random.default_rng(4)
    nodes: list[Node] = [
        Input("left", (3, 4, 4), 0, 7),
        Input("right", (5,), -3, 3, coding="steps"),
        Synapse("conv", "conv2d", rng.integers(-4, 5, size=(3, 3, 3, 3)), padding=1),
        Soma("a", (3, 4, 4), theta=15, levels=3),
        Soma("b", (3, 4, 4), fire="relay", reset="drop", out_max=99),
        Synapse("up", "linear", rng.integers(-3, 4, size=(3, 5))),
        Soma("gate", (3,), fire="relay", reset="drop", out_max=9),
        Product("gated", shift=2),
        Synapse("short", "identity", 2),
        Soma("c", (3, 4, 4), theta=6, levels=4, leak=3000, v_min=-40),
        Synapse("self", "identity", -1),
        Synapse("round", "linear", rng.integers(-2, 3, size=(48, 4))),
        Soma("wide", (48,), theta=9),
        Synapse("fc", "linear", rng.integers(-3, 4, size=(4, 48))),
        Synapse("fd", "linear", rng.integers(-3, 4, size=(4, 48))),
        Soma("d", (4,), theta=12, window=None, reset="zero"),
        Product("square", shift=1),
        Soma("e", (4,), fire="none"),
        Output("volts", "potential"),
        Output("spikes", "count"),
        Output("graded", "payload"),
    ]
    edges = [
        ("left", "conv"),
        ("conv", "a"),
        ("conv", "b"),
        ("right", "up", 1),
        ("up", "gate"),
        ("gate", "gated"),
        ("b", "gated"),
        ("a", "short", 2),
        ("gated", "c"),
        ("short", "c"),
        ("c", "self", 1),
        ("self", "c"),
        ("c", "fc"),
        ("fc", "d"),
        ("d", "round", 2),
        ("round", "wide"),
        ("wide", "fd"),
        ("fd", "d"),
        ("d", "square"),
        ("d", "square", 1),
        ("square", "e"),
        ("e", "volts"),
        ("d", "spikes"),
        ("c", "graded"),
    ]
    return Program(nodes=nodes, edges=edges, steps=6)


def test_crossroads() -> None:
    program, rng = crossroads(), np.random.default_rng(5)
    x = {"left": rng.integers(0, 8, size=(7, 3, 4, 4)), "right": rng.integers(-3, 4, size=(6, 7, 5))}
    trace = equal(program, x)
    assert all(trace.payloads[name].any() for name in ("a", "b", "gate", "c", "d", "wide"))
    assert all(value.any() for value in trace.all_outputs.values())


@pytest.mark.parametrize("steps", [1, 2])
def test_delays_longer_than_the_sample(steps: int) -> None:
    program = Program(
        nodes=[Input("in", 3, 0, 9), Synapse("s", "identity"), Soma("n", 3, theta=2, bias=1), Output("o", "count")],
        edges=[("in", "s", 2), ("s", "n"), ("n", "o")],
        steps=steps,
    )
    trace = equal(program, np.array([[1, 2, 3], [9, 9, 9]]))
    assert trace.counts.synapses["s"]["synaptic_events"] == 0
