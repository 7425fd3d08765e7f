"""Everything a target cannot do is listed at once, with what would help; what passes runs on the chip's registers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snn2chip.errors import UnsupportedError
from snn2chip.ir.nodes import Input, Output, Product, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.ir.types import IntArray
from snn2chip.mapping.breach import Breach
from snn2chip.mapping.capabilities import check_target, fitted
from snn2chip.mapping.fixed_neuron import form_of, register_misfits
from snn2chip.mapping.target_file import load_target
from snn2chip.testing.programs import random_program
from snn2chip.testing.soma_maker import run_soma
from snn2chip.transforms import Retime, transform

ONE = load_target("loihi1")


def chain(*somas: Soma, hi: int = 1, lo: int = 0, weight: Any = None, steps: int = 3, **synapse: Any) -> Program:
    """Input -> (identity synapse -> soma)*, read by payload sums."""
    nodes: list[Any] = [Input("x", somas[0].shape, lo, hi, coding="steps")]
    edges, source = [], "x"
    for i, soma in enumerate(somas):
        made = Synapse(f"w{i}", "identity", 1 if weight is None else weight, layer=f"net.fc{i}", **synapse)
        nodes += [made, soma]
        edges += [(source, made.name), (made.name, soma.name)]
        source = soma.name
    nodes.append(Output("out", "payload"))
    return Program(nodes=nodes, edges=[*edges, (source, "out")], steps=steps)


def texts(program: Program, target: str | Any = "loihi1", kind: str = "refused") -> list[str]:
    return [str(b) for b in check_target(program, target) if b.kind == kind]


def plain(name: str = "n", **fields: Any) -> Soma:
    """A soma that Loihi 1 can hold."""
    return Soma(name, (2,), **{"theta": 5, "reset": "zero", "layer": f"net.{name}", **fields})


def test_a_binary_network_of_hard_reset_neurons_fits_everywhere() -> None:
    program = chain(plain("a"), plain("b"))
    for name in ("loihi1", "loihi2", "ideal"):
        assert check_target(program, name) == []


def test_the_ideal_chip_refuses_nothing() -> None:
    for seed in range(40):
        assert check_target(random_program(seed, wide=True).program, "ideal") == []


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"fire": "excess", "reset": "clamp", "out_max": 1}, "n (net.n): fire='excess'; known here: levels, none"),
        ({"reset": "clamp"}, "n (net.n): reset='clamp'; known here: zero, subtract"),
        ({"window": np.eye(3, dtype=int)}, "n (net.n): mixes the steps of a sample (window)"),
        ({"bias": [[0], [1], [0]]}, "n (net.n): bias changes from step to step"),
        ({"leak": -4096}, "n (net.n): leak -4096..-4096 of 4096 (negative); 1..4096 here"),
        ({"leak": 5000, "theta": 65, "gain": 64}, "n (net.n): leak 5000..5000 of 4096 (growing)"),
        ({"syn_leak": 4096, "theta": 65, "gain": 64}, "n (net.n): syn_leak 4096 of 4096; at most 4095 here"),
        ({"gain": 3}, "n (net.n): its current is scaled by 3 / 2^0"),
        ({"gain": [1, 2]}, "n (net.n): its current is scaled by 1..2 / 2^0"),
        ({"gain": 64, "leak": 4000, "theta": 70}, "n (net.n): theta 70: a strict compare in units of 64"),
        ({"theta": -3}, "n (net.n): theta -3 is outside of what the threshold register holds"),
        ({"theta": 2**17 + 1, "gain": 64, "leak": 4000, "bias": 4097}, "n (net.n): bias 4097 is no 13-bit number"),
        ({"v_min": -6}, "n (net.n): v_min -6: the floor is one number"),
    ],
)
def test_what_a_fixed_pipeline_cannot_do(fields: dict[str, Any], what: str) -> None:
    found = texts(chain(plain(**fields)))
    assert any(text.startswith(what) for text in found), found
    assert not texts(chain(plain(**fields)), "loihi2")


def test_all_of_it_is_listed_at_once() -> None:
    nodes = [
        Input("x", (2,), -3, 9, coding="steps"),
        Synapse("w", "identity", 5, 8, layer="net.w"),
        Soma("n", (2,), theta=5, levels=3, leak=-4000, layer="net.n"),
        Product("gate", layer="net.gate"),
        Soma("g", (2,), theta=64, gain=1, window=np.eye(3, dtype=int), layer="net.g"),
        Output("out", "payload"),
    ]
    edges = [("x", "w"), ("w", "n"), ("n", "gate"), ("x", "gate"), ("gate", "g"), ("g", "out")]
    found = texts(Program(nodes=nodes, edges=edges, steps=3))
    for start in (
        "x: sends negative payloads (-3..9)",
        "x: sends graded payloads (up to 9); spikes here are binary; code it in binary spikes",
        "n (net.n): sends graded payloads (up to 3); spikes here are binary",
        "n (net.n): leak -4000..-4000 of 4096 (negative)",
        "gate (net.gate): multiplies two payloads",
        "g (net.g): mixes the steps of a sample",
    ):
        assert sum(text.startswith(start) for text in found) == 1, (start, found)
    with pytest.raises(UnsupportedError) as caught:
        fitted(Program(nodes=nodes, edges=edges, steps=3), ONE)
    assert caught.value.breaches == [f"Loihi 1: {text}" for text in found]


def test_serialise_is_offered_where_it_applies_and_then_makes_the_payload_binary() -> None:
    program = chain(plain("n", levels=3, reset="subtract"))
    (text,) = [t for t in texts(program) if "graded payloads" in t]
    assert "the transform 'serialize-levels' sends it as binary spikes, in 9 steps instead of 3" in text
    assert text.endswith("it gathers its current in a window then")
    serialised = transform(program, "serialize-levels")
    assert not [t for t in texts(serialised) if "graded payloads" in t]
    hard = chain(plain("n", levels=3, reset="zero"))
    (text,) = [t for t in texts(hard) if "graded payloads" in t]
    assert "'serialize-levels' does not apply (n (net.n): reset='zero' with 3 levels" in text


def test_serialising_that_would_take_forever_is_not_tried() -> None:
    (text,) = [t for t in texts(chain(plain(levels=60000, reset="subtract"))) if "graded payloads" in t]
    assert text.endswith("'serialize-levels' does not apply (60000 levels would take 180000 steps)")


def test_fuse_time_is_offered_where_it_applies() -> None:
    window = plain("n", window=np.ones((3, 3), dtype=int), reset="drop", theta=[[9], [6], [3]])
    nodes = [Input("x", (2,), 0, 1), Synapse("w", "identity", 1, layer="net.w"), window, Output("out", "payload")]
    program = Program(nodes=nodes, edges=[("x", "w"), ("w", "n"), ("n", "out")], steps=3)
    found = [t for t in texts(program) if "window" in t]
    assert transform(program, "fuse-time").steps == 1
    assert found == [
        "n (net.n): mixes the steps of a sample (window); neurons here cannot gather a sample; "
        "the transform 'fuse-time' makes one graded step of it (whose payload is not binary)"
    ]


def test_soft_reset_is_a_cost_and_no_refusal() -> None:
    program = chain(plain("a", reset="subtract"), plain("b", reset="subtract"))
    assert texts(program) == []
    assert texts(program, kind="cost") == [
        f"{n} (net.{n}): reset by subtraction takes 2 compartments per neuron, and discrete axons" for n in "ab"
    ]
    made = fitted(program, ONE)
    assert made.target == "loihi1"
    assert made.meta["target_notes"] == [
        "Loihi 1: a (net.a), b (net.b): reset by subtraction takes 2 compartments per neuron, and discrete axons"
    ]


def test_weights() -> None:
    seven = chain(plain(), weight=50, bits=7)
    assert texts(seven, kind="cost") == ["w0 (net.fc0): 7-bit weights are stored in 8 bits"]
    assert texts(seven, "loihi2", "cost") == []
    assert texts(chain(plain(), exponent=8)) == []  # mantissas of mixed weights are even: one bit more
    assert texts(chain(plain(), exponent=8, sign="excitatory", bits=2))[0].startswith(
        "n (net.n): its weights need an exponent of 8, at most 7 is there"
    )


def own(tmp_path: Path, text: str) -> Any:
    (tmp_path / "mine.toml").write_text(text, encoding="utf-8")
    return load_target(tmp_path / "mine.toml")


def test_limits_of_a_target_of_ones_own_are_held(tmp_path: Path) -> None:
    fact = 'source = "own", confidence = "E"'
    mine = own(
        tmp_path,
        f"""
        base = "loihi2"
        name = "small"
        title = "Small"
        [weights]
        bits_max = {{ value = 4, unit = "bits", {fact} }}
        signs = {{ value = ["mixed"], unit = "", {fact} }}
        [spikes]
        payload_bits = {{ value = 8, unit = "bits", {fact} }}
        [neuron]
        coefficient_bits = {{ value = 6, unit = "bits", {fact} }}
        """,
    )
    soma = Soma("n", (2,), fire="relay", reset="drop", payload_bits=10, layer="net.n", leak=4000)
    found = texts(chain(soma, weight=100, bits=8, sign="excitatory"), mine)
    assert found == [
        "w0 (net.fc0): 8-bit weights, at most 4 bits are stored; use fewer bits (weights='int4')",
        "w0 (net.fc0): excitatory weights; known here: mixed; declare another sign mode that holds them",
        "n (net.n): its payload takes 11 bits, at most 8 are sent; use fewer payload bits",
    ]
    nodes = [
        Input("x", (2,), 0, 255),
        Input("y", (2,), 0, 40),
        Product("gate"),
        Soma("n", (2,), theta=5),
        Output("out", "payload"),
    ]
    program = Program(nodes=nodes, edges=[("x", "gate"), ("y", "gate"), ("gate", "n"), ("n", "out")], steps=1)
    (text,) = texts(program, mine)
    assert text.startswith("gate: multiplies payloads of 9 and 7 bits; 24 by 6 bits are multiplied here")
    assert texts(program, "loihi2") == []


def test_long_waits_are_refused_with_the_transform_that_ends_them() -> None:
    relays = [Soma(f"r{i}", (2,), theta=1, reset="zero") for i in range(70)]
    program = chain(*relays)
    last = Soma("last", (2,), theta=1, reset="zero")
    nodes = [*program.nodes, Synapse("long", "identity", 1, layer="net.skip"), Synapse("end", "identity", 1), last]
    edges = [*program.edges, ("r0", "long"), ("long", "last"), ("r69", "end"), ("end", "last")]
    program = Program(nodes=nodes, edges=edges, steps=3)
    (text,) = texts(program)
    assert text.startswith("r0 -> last: waits 69 machine steps")
    assert "apply the transform 'retime'" in text
    assert texts(Retime(most=62).run(program), "loihi2") == []
    assert texts(program, "ideal") == []


def test_a_wait_that_fits_half_full_cores_only_is_a_cost() -> None:
    somas = [Soma(f"r{i}", (2,), theta=1, reset="zero") for i in range(12)]
    program = chain(*somas)
    nodes = [*program.nodes, Synapse("long", "identity", 1), Soma("last", (2,), theta=1, reset="zero")]
    nodes += [Synapse("end", "identity", 1)]
    edges = [*program.edges, ("r0", "long"), ("long", "last"), ("r11", "end"), ("end", "last")]
    program = Program(nodes=nodes, edges=edges, steps=3)
    assert texts(program) == []
    (text,) = texts(program, kind="cost")
    assert text.startswith("r0: payloads wait 11 steps on the way to last; a full core allows 8")


def test_a_current_beyond_the_register_is_unproven_not_refused() -> None:
    program = chain(plain(gain=64), weight=127, hi=1, exponent=8)
    assert texts(program, "loihi2") == []
    wide = chain(plain(), hi=255, weight=127, exponent=10)
    (text,) = texts(wide, "loihi2", "unproven")
    assert text.startswith("n (net.n): by the static bound its current may need 26 bits, the target sums 24")


def test_a_potential_that_could_leave_the_grid_by_saturating_is_unproven() -> None:
    calm = chain(plain(theta=64, gain=64), steps=8)
    assert texts(calm, kind="unproven") == []
    (text,) = texts(chain(plain(theta=64, gain=64), weight=-127, exponent=7, steps=9), kind="unproven")
    assert text.startswith("n (net.n): by the static bound its potential may saturate")
    exact = chain(plain(theta=65, gain=64), weight=-127, exponent=7, steps=9)
    assert texts(exact, kind="unproven") == []


def test_breaches_say_where_what_and_how() -> None:
    assert str(Breach("n (net.n)", "is wrong", "do better")) == "n (net.n): is wrong; do better"
    assert str(Breach("", "is wrong")) == "is wrong"


def registers(soma: Soma, a: IntArray, form: int) -> tuple[IntArray, IntArray]:
    """Loihi 1 as published (one step of its LIF), on arrived currents; returns spikes and potentials of the soma.

    dec(x, d) drops magnitude; the sum wraps at 24 bits; the voltage is clipped; the compare is strict with a mantissa
    shifted by 6; a soft reset is what the second compartment takes off.
    """

    def dec(x: IntArray, d: int) -> IntArray:
        kept: IntArray = np.sign(x) * ((np.abs(x) * (4096 - d)) >> 12)
        return kept

    gain, theta, bias = (int(getattr(soma, f)[0, 0]) * form for f in ("gain", "theta", "bias"))
    dv = 4096 - int(soma.leak[0, 0])
    du = 4096 if soma.syn_leak is None else 4096 - int(soma.syn_leak[0, 0])
    assert 0 <= dv <= 4095
    mantissa = -(-theta // 64) - 1
    assert 0 <= mantissa < 1 << 17
    arrived = a * gain
    assert not (arrived % 64).any()
    floor = -(2**23 - 1) if soma.v_min is None else int(soma.v_min[0, 0]) * form
    u = np.zeros(a.shape[1:], np.int64)
    v = np.full(a.shape[1:], int(soma.v_init[0, 0]) * form)
    spikes, potentials = [], []
    for current in arrived:
        u = ((dec(u, du) + current + 2**23) & (2**24 - 1)) - 2**23
        v = np.clip(dec(v, dv) + u + bias, floor, 2**23 - 1)
        hit = v > mantissa << 6
        v = np.where(hit, v - theta if soma.reset == "subtract" else 0, v)
        spikes.append(hit.astype(np.int64))
        potentials.append(v // form)
        assert not (v % form).any()
    return np.stack(spikes), np.stack(potentials)


def test_what_is_said_to_fit_runs_on_the_registers_of_loihi_1() -> None:
    """Random somas: each that the check lets through gives the same spikes and potentials on the published pipeline."""
    rng = np.random.default_rng(5)
    passed = {1: 0, 64: 0}
    for _ in range(3000):
        syn_leak = int(rng.integers(0, 4096)) if rng.random() < 0.3 else None
        gain = int(rng.choice([1, 2, 3, 4, 64, 128, 96]))
        grid = bool(rng.integers(2))
        theta = int(rng.integers(1, 60)) * (64 if grid else 1) + int(rng.choice([0, 0, 1]))
        soma = Soma(
            "n",
            (40,),
            theta=theta,
            gain=gain,
            leak=int(rng.choice([4096, 4096, int(rng.integers(1, 4096))])),
            syn_leak=syn_leak,
            bias=int(rng.choice([0, 0, 64, 128, -64, 5])),
            v_init=int(rng.choice([0, 0, 64, 7])),
            reset=str(rng.choice(["zero", "subtract"])),
            v_min=[None, 0, -63, -(2**12) + 1][int(rng.integers(4))],
        )
        if register_misfits(soma, 0, ONE):
            continue
        form = form_of(soma, 0, ONE)
        passed[form] += 1
        reach = max(2, 2 * theta // gain)
        a = rng.integers(-reach, reach + 1, (6, 1, 40))
        spikes, potentials = registers(soma, a, form)
        want = run_soma(soma, a)
        assert (want[0] == spikes).all(), (soma, form)
        assert (want[1] == potentials).all(), (soma, form)
    assert min(passed.values()) > 100, passed
