"""Sigma-delta and recurrent programs as `.net` files: read back they are the same programs; the rest is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest

from snn2chip import Input, Output, Program, Soma, Synapse, run
from snn2chip.errors import UnsupportedError
from snn2chip.frontends.netx import import_netx
from snn2chip.interop.netx import export_netx

RNG = np.random.default_rng(9)
STEPS = 10
SIGMA: dict[str, Any] = {"fire": "delta", "reset": "keep", "syn_leak": 4096, "leak": 0, "v_min": 0, "delta_shift": 6}
ENCODER: dict[str, Any] = {"fire": "delta", "reset": "keep", "leak": 0}


def sigma_delta(*, delay: int = 1, encoder: dict[str, Any] | None = None, e: int = 6, **changes: Any) -> Program:
    """An encoder, a convolution, a dense layer with a loop and a sum, in NetX's machine time."""
    hidden = {**SIGMA, "theta": 3 << (e + 6), "bias": RNG.integers(-9, 9, 3) << (e + 6), **changes}
    nodes = [
        Input("x", (2, 4, 4), -100, 100, coding="steps"),
        Synapse("one", "identity"),
        Soma("enc", (2, 4, 4), **{**ENCODER, "gain": 1 << e, "theta": 2 << e, **(encoder or {})}),
        Synapse("c", "conv2d", RNG.integers(-20, 20, (3, 2, 3, 3))),
        Soma("conv", (3, 2, 2), **hidden),
        Synapse("w", "linear", RNG.integers(-20, 21, (5, 12))),
        Soma("fc", (5,), **SIGMA, theta=1),
        Synapse("loop", "linear", RNG.integers(-9, 9, (5, 5))),
        Synapse("last", "linear", RNG.integers(-60, 60, (2, 5))),
        Soma("sum", (2,), fire="none"),
        Output("out", "potential"),
    ]
    edges = [
        *(("x", "one"), ("one", "enc"), ("enc", "c", delay), ("c", "conv"), ("conv", "w", delay), ("w", "fc")),
        *(("fc", "loop", 1), ("loop", "fc"), ("fc", "last", delay), ("last", "sum"), ("sum", "out")),
    ]
    return Program(nodes=nodes, edges=edges, steps=STEPS)


@pytest.mark.parametrize("e", [6, 2])
def test_sigma_delta_round_trip(tmp_path: Path, e: int) -> None:
    program = sigma_delta(e=e)
    notes = export_netx(program, tmp_path / "x.net")
    assert f"spike_exp={e}" in notes[0]
    again = import_netx(tmp_path / "x.net", steps=STEPS, spike_exp=e)
    assert [s.fire for s in again.somas] == ["delta", "delta", "delta", "none"]
    x = RNG.integers(-100, 101, (STEPS, 3, 2, 4, 4))
    one, two = run(program, x, time_axis=True), run(again, x, time_axis=True)
    for ours, theirs in zip(program.somas, again.somas, strict=True):
        assert (one.payloads[ours.name] == two.payloads[theirs.name]).all()
        assert (one.potentials[ours.name] == two.potentials[theirs.name]).all()
        assert one.potentials[ours.name].any()


def test_payloads_in_and_a_sum_on_the_way(tmp_path: Path) -> None:
    """Without an encoder; the unit follows from thresholds and biases."""
    nodes = [
        Input("x", (4,), -30, 30, coding="steps"),
        Synapse("w1", "linear", RNG.integers(-60, 60, (6, 4))),
        Soma("n1", (6,), **SIGMA, theta=5 << 9, bias=3 << 10),
        Synapse("w2", "linear", RNG.integers(-30, 30, (3, 6))),
        Soma("sum", (3,), fire="relay", reset="drop", syn_leak=4096, leak=0),
        Synapse("w3", "linear", RNG.integers(-9, 9, (3, 3))),
        Soma("n3", (3,), **SIGMA, theta=1),
        Output("out", "payload"),
    ]
    edges = [
        ("x", "w1", 1),
        ("w1", "n1"),
        ("n1", "w2", 1),
        ("w2", "sum"),
        ("sum", "w3", 1),
        ("w3", "n3"),
        ("n3", "out"),
    ]
    program = Program(nodes=nodes, edges=edges, steps=STEPS)
    assert "spike_exp=3, input_message_bits=24" in export_netx(program, tmp_path / "x.net")[0]
    again = import_netx(tmp_path / "x.net", steps=STEPS, spike_exp=3, input_range=(-30, 30))
    x = RNG.integers(-30, 31, (STEPS, 2, 4))
    one, two = run(program, x, time_axis=True), run(again, x, time_axis=True)
    assert (one.outputs == two.outputs).all()
    assert one.payloads["sum"].any()
    assert one.payloads["n3"].any()


def test_recurrent_round_trip(tmp_path: Path) -> None:
    """Ordinary neurons; two synapses of one loop are added up."""
    nodes = [
        Input("x", (4,), 0, 1, coding="steps"),
        Synapse("w", "linear", RNG.integers(-40, 90, (6, 4))),
        Soma("n", (6,), theta=64 * 70 + 1, leak=3500, syn_leak=2000, gain=64, reset="zero", payload_bits=1),
        Synapse("a", "linear", RNG.integers(-60, 60, (6, 6))),
        Synapse("b", "linear", RNG.integers(-3, 3, (6, 6)), exponent=2),
        Output("out", "count"),
    ]
    edges = [("x", "w"), ("w", "n"), ("n", "a", 1), ("a", "n"), ("n", "b", 1), ("b", "n"), ("n", "out")]
    program = Program(nodes=nodes, edges=edges, steps=STEPS)
    assert "run samples apart" in export_netx(program, tmp_path / "x.net")[-1]
    again = import_netx(tmp_path / "x.net", steps=STEPS)
    x = RNG.integers(0, 2, (STEPS, 5, 4))
    one, two = run(program, x, time_axis=True), run(again, x, time_axis=True)
    assert (one.payloads["n"] == two.payloads["layer0"]).all()
    assert one.payloads["n"].any()


def test_the_order_of_nodes_does_not_matter(tmp_path: Path) -> None:
    """A loop may stand before or behind what follows it; the chain is found along the edges."""
    program = sigma_delta()
    files = []
    for i, nodes in enumerate(
        (program.nodes, program.nodes[::-1], sorted(program.nodes, key=lambda n: n.name == "loop"))
    ):
        export_netx(Program(nodes=nodes, edges=program.edges, steps=STEPS), tmp_path / f"{i}.net")
        files.append(import_netx(tmp_path / f"{i}.net", steps=STEPS).digest())
    assert len(set(files)) == 1


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no machine time": ({"delay": 0}, "c: has no delay, but NetX takes a step"),
    "threshold": ({"theta": 4097}, "conv: its threshold 4097 is not a multiple of 2\\^12"),
    "bias": ({"bias": 100}, "conv: its biases are not multiples"),
    "floor": ({"v_min": None}, "conv: no floor at 0"),
    "leak": ({"syn_leak": 4000}, "a sum that leaks"),
    "shift": ({"delta_shift": 5}, "delta_shift 5"),
    "scaled": ({"out_gain": 3}, "payloads that are scaled"),
    "gain": ({"gain": 3}, "a gain other than 1"),
    "thresholds": ({"theta": [4096, 8192, 4096]}, "thresholds that differ"),
    "clipped": ({"out_max": 1000}, "may leave its payload range"),
    "encoder's gain": ({"encoder": {"gain": 3}}, "enc: a gain other than 2"),
    "encoder's bias": ({"encoder": {"bias": 3}}, "enc: a bias"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(tmp_path: Path, name: str) -> None:
    options, text = REFUSED[name]
    with pytest.raises(UnsupportedError, match=text):
        export_netx(sigma_delta(**options), tmp_path / "x.net")
    assert not list(tmp_path.iterdir())


def test_an_encoder_that_may_saturate(tmp_path: Path) -> None:
    program = sigma_delta()
    wide = [attrs.evolve(n, lo=-(1 << 18), hi=1 << 18) if n.name == "x" else n for n in program.nodes]
    with pytest.raises(UnsupportedError, match="enc: its potential may saturate"):
        export_netx(Program(nodes=wide, edges=program.edges, steps=STEPS), tmp_path / "x.net")


def test_loops_that_netx_does_not_have(tmp_path: Path) -> None:
    """A loop of two steps is a branch; a convolution cannot hear itself."""
    program = sigma_delta()
    late = [e._replace(delay=2) if e.dst == "loop" else e for e in program.edges]
    with pytest.raises(UnsupportedError, match=r"fc: reads .*fc.* without branches or loops"):
        export_netx(Program(nodes=program.nodes, edges=late, steps=STEPS), tmp_path / "x.net")
