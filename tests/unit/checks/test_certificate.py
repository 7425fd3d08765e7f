"""The certificate against rational numbers: bounds hold, certified payloads are equal, unsound bounds are caught."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
import pytest
import torch

import snn2chip.checks.certificate as room
from snn2chip.checks.certificate import certificate
from snn2chip.checks.certificate_bound import TERMS
from snn2chip.compiler import compile_float_graph
from snn2chip.errors import InputError, UnsupportedError
from snn2chip.ir.graph import LayerGraph
from snn2chip.ir.layers import FloatSoma, InputLayer, OutputLayer
from snn2chip.ir.linear_layers import LinearLayer
from snn2chip.ir.neuron_layer import NeuronLayer
from snn2chip.ir.nodes import Input, Output, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.testing.float_graphs import KINDS, exact, exact_current, exact_run, net

MODES = ("int8", "int4", "ternary", "binary")


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Everything that goes into and comes out of the bounds of single somas."""
    calls: list[dict[str, Any]] = []
    real = room.soma_certificate

    def record(soma: Any, f: Any, mu: Any, part: Any, fed: Any, sent: Any, **options: Any) -> Any:
        found = real(soma, f, mu, part, fed, sent, **options)
        calls.append({"soma": soma, "f": f, "mu": mu, "part": part, "sent": sent, "found": found})
        return found

    monkeypatch.setattr(room, "soma_certificate", record)
    return calls


def exceeded(graph: LayerGraph, x: Any, seen: list[dict[str, Any]]) -> int:
    """How many alive potentials are further from the exact ones than their bound; certified codes must be exact."""
    raw = exact(np.broadcast_to(x, (graph.steps, *x.shape)))
    sources, count = {"x": raw}, 0
    for call in seen:
        if call["soma"].fire == "none":
            continue
        name = call["soma"].name
        current = exact_current(graph, graph.inputs[name][0], sources)
        before, codes = exact_run(call["f"], current)
        found = call["found"]
        off = np.abs(before - exact(found.shift) - exact(call["mu"]) * call["part"].total.astype(object))
        count += int((found.alive & (off > exact(found.error))).sum())
        call["wrong"] = int((found.certified & (codes != call["sent"])).sum())
        sources[name] = call["sent"].astype(object) * exact(call["f"].unit)
    return count


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_bounds_hold_in_rational_numbers(kind: str, residual: bool, seen: list[dict[str, Any]]) -> None:
    for seed, mode in enumerate(("int8", "int4", "int8")):
        graph, x = net(kind, seed, residual=residual)
        program = compile_float_graph(graph, x, weights=mode)
        seen.clear()
        found = certificate(program, graph, x[:4], block=4)
        assert exceeded(graph, x[:4], seen) == 0
        assert [call["wrong"] for call in seen[:2]] == [0, 0]
        assert found.violations == 0


def test_no_violation_on_random_networks_of_every_kind_and_width() -> None:
    certified = dict.fromkeys(MODES, 0.0)
    for seed in range(52):
        kind = list(KINDS)[seed % len(KINDS)]
        graph, x = net(kind, 100 + seed, residual=seed % 2 == 1)
        for mode in MODES if seed < 14 else MODES[seed % 2 :: 2]:
            found = certificate(compile_float_graph(graph, x, weights=mode), graph, x)
            assert found.violations == 0, (kind, seed, mode, found.text())
            neurons = [row for row in found.layers if row.soma in ("n1", "n2")]
            assert all(row.unconditional <= row.certified <= row.equal for row in neurons)
            certified[mode] += sum(row.certified / row.steps for row in neurons)
    assert certified["int8"] > 1.1 * certified["int4"] > 0  # it says more where rounding is finer


def truncating() -> tuple[Program, LayerGraph, Any]:
    """Whole numbers throughout and a leak of 3/4: nothing is rounded but what leaks, towards zero."""
    rng = np.random.default_rng(0)
    weight, last, theta, T = rng.integers(-3, 6, (40, 4)), rng.integers(-2, 3, (3, 40)), 5, 4
    layers = (
        InputLayer(name="x", shape=(4,)),
        LinearLayer(name="f", weight=torch.tensor(weight).double()),
        NeuronLayer(name="n", soma=FloatSoma(steps=T, theta=float(theta), unit=float(theta), leak=0.75, levels=2)),
        LinearLayer(name="g", weight=torch.tensor(last).double()),
        OutputLayer(name="output"),
    )
    chain = {"f": ("x",), "n": ("f",), "g": ("n",), "output": ("g",)}
    nodes = [
        Input("x", (4,), 0, 3, coding="steps"),
        Synapse("f", "linear", weight),
        Soma("n", (40,), theta=theta, leak=3072, levels=2, out_max=2),
        Synapse("g", "linear", last),
        Soma("r", (3,), fire="none"),
        Output("o"),
    ]
    units = {"payload": {"x": [1.0], "n": [5.0]}, "potential": {"n": [1.0], "r": [5.0]}}
    program = Program(
        nodes=nodes,
        edges=[("x", "f"), ("f", "n"), ("n", "g"), ("g", "r"), ("r", "o")],
        steps=T,
        meta={"units": units, "layers": {"x": "x", "n": "n", "output": "r"}},
    )
    return program, LayerGraph(layers=layers, inputs=chain, steps=T), rng.integers(0, 4, (T, 60, 4))


def test_a_bound_without_the_truncation_of_the_leak_is_caught() -> None:
    program, graph, x = truncating()
    sound = certificate(program, graph, x, time_axis=True)
    assert sound.violations == 0
    rows = {row.soma: row for row in sound.layers}
    assert 0.3 < rows["n"].certified / rows["n"].steps < rows["n"].equal / rows["n"].steps < 1
    assert certificate(program, graph, x, time_axis=True, without=["lost"]).violations > 0


def test_the_bound_of_a_leaking_neuron_by_hand(seen: list[dict[str, Any]]) -> None:
    program, graph, _ = truncating()
    certificate(program, graph, np.array([[[1, 0, 0, 0]]] * 4), time_axis=True)
    (call, _) = seen
    w = np.array(program["f"].weight[:, 0])  # type: ignore[union-attr]
    v, want = np.zeros_like(w), np.zeros(w.shape)
    for t in range(4):
        want = 0.75 * want + (np.abs(v * 3072) % 4096) / 4096
        assert np.abs(call["found"].error[t, 0] - want).max() < 1e-12
        m = np.sign(v) * (np.abs(v * 3072) // 4096) + w
        v = m - np.clip(m // 5, 0, 2) * 5


def test_a_bound_without_weight_rounding_is_caught() -> None:
    graph, x = net("lif", 3)
    program = compile_float_graph(graph, x, weights="int4")
    assert certificate(program, graph, x).violations == 0
    assert certificate(program, graph, x, without=["drive"]).violations > 0


@pytest.mark.parametrize("term", TERMS)
def test_every_term_of_the_bound_is_needed(term: str, seen: list[dict[str, Any]]) -> None:
    over = 0
    for kind in ("lif", "hard", "lmht", "qcfs"):
        for seed in range(4):
            graph, x = net(kind, seed)
            program = compile_float_graph(graph, x, weights="int8")
            seen.clear()
            certificate(program, graph, x[:6], block=6, without=[term])
            over += exceeded(graph, x[:6], seen)
    assert over > 0


def test_a_flipped_payload_and_a_flipped_prediction_are_violations(monkeypatch: pytest.MonkeyPatch) -> None:
    program, graph, x = truncating()
    real = room.run

    def tampered(*args: Any, **options: Any) -> Any:
        trace = real(*args, **options)
        trace.payloads["n"][0, 0] = 2 - trace.payloads["n"][0, 0]
        trace.outputs[1] = -trace.outputs[1]
        return trace

    monkeypatch.setattr(room, "run", tampered)
    rows = {row.soma: row for row in certificate(program, graph, x, time_axis=True).layers}
    assert rows["n"].violations > 0
    assert rows["r"].violations > 0


def test_unconditional_needs_every_ancestor() -> None:
    graph, x = net("lif", 1)
    rows = {r.soma: r for r in certificate(compile_float_graph(graph, x, weights="int4"), graph, x).layers}
    assert rows["n1"].certified < rows["n1"].steps
    assert rows["n2"].unconditional < rows["n2"].certified
    assert [rows[name].depth for name in ("n1", "n2", "readout")] == [1, 2, 3]


def test_what_has_no_certificate_is_refused() -> None:
    graph, x = net("lif", 1)
    program = compile_float_graph(graph, x)
    with pytest.raises(InputError, match="not lowered from this float graph"):
        certificate(attrs.evolve(program, meta={}), graph, x)
    nodes = [attrs.evolve(n, v_min=-5) if n.name == "n1" else n for n in program.nodes]
    with pytest.raises(UnsupportedError, match=r"n1 \(net.n1\): has a synaptic current or a floor"):
        certificate(attrs.evolve(program, nodes=nodes), graph, x)
    with pytest.raises(InputError, match="at least one sample"):
        certificate(program, graph, x[:0])


def test_blocks_do_not_matter_and_the_table_has_a_row_per_soma() -> None:
    graph, x = net("lmht", 5)
    program = compile_float_graph(graph, x)
    found = certificate(program, graph, x, block=5)
    assert found == certificate(program, graph, x, block=24)
    assert [line.split()[:2] for line in found.text().splitlines()[2:]] == [
        ["1", "net.n1"], ["2", "net.n2"], ["3", "net.fc"]
    ]  # fmt: skip
    assert found.as_dict()["violations"] == 0
