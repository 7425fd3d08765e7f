"""Programs on real Lava processes equal the reference in every payload, every observable potential and every count.

Each test puts many programs side by side into one Lava runtime, whose start costs more than their run.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from snn2chip.checks.compare import compare
from snn2chip.ir.nodes import Host, HostOp, Input, Output, Product, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.registry import get_backend
from snn2chip.trace import Trace

pytestmark = [pytest.mark.lava, pytest.mark.skipif(sys.version_info[:2] != (3, 10), reason="lava-nc needs Python 3.10")]

Pairs = dict[str, tuple[Program, Mapping[str, Any]]]


def random_inputs(rng: np.random.Generator, program: Program, batch: int) -> dict[str, Any]:
    return {n.name: rng.integers(n.lo, n.hi + 1, (program.steps, batch, *n.shape)) for n in program.inputs}


def equal_on_lava(pairs: Pairs, *, silent: Collection[str] = (), **options: Any) -> dict[str, Trace]:
    """Run all programs side by side; everything observable must equal the reference.

    No soma may be silent, but for the programs named in `silent`.
    """
    traces = get_backend("lava", **options).run_many(list(pairs.values()))
    for (name, (program, inputs)), got in zip(pairs.items(), traces, strict=True):
        expected = get_backend("reference").run(program, inputs)
        compare(program, [expected, got]).raise_if_different()
        for soma, v in got.potentials.items():
            assert (v == expected.potentials[soma]).all(), (name, soma)
        assert got.counts == expected.counts, name
        assert {k: v.tolist() for k, v in got.all_outputs.items()} == {
            k: v.tolist() for k, v in expected.all_outputs.items()
        }
        for soma in program.somas:
            speaks = expected.payloads[soma.name].any() or expected.potentials[soma.name].any()
            assert speaks or name in silent, f"{name}: {soma.name} proves nothing"
    return dict(zip(pairs, traces, strict=True))


def weights(rng: np.random.Generator, *shape: int, lo: int = -8, hi: int = 7) -> np.ndarray:
    return rng.integers(lo, hi + 1, shape)


def chain(rng: np.random.Generator, steps: int) -> Program:
    w = weights
    return Program(
        nodes=[
            Input("x", (1, 4, 4), 0, 3),
            Synapse("w1", weight=w(rng, 12, 16)),
            Soma("s1", 12, theta=6, levels=3, bias=1, v_init=3),
            Synapse("w2", weight=w(rng, 8, 12)),
            Soma("s2", 8, theta=5, levels=2, leak=3000, reset="zero"),
            Synapse("w3", weight=w(rng, 5, 8)),
            Soma("out", 5, fire="none", bias=2),
            Output("o", "potential"),
        ],
        edges=[("x", "w1"), ("w1", "s1"), ("s1", "w2"), ("w2", "s2"), ("s2", "w3"), ("w3", "out"), ("out", "o")],
        steps=steps,
    )


def conv_net(rng: np.random.Generator) -> Program:
    w = weights
    csr = sparse.csr_matrix(w(rng, 3, 16) * (rng.random((3, 16)) < 0.5))
    return Program(
        nodes=[
            Input("x", (2, 6, 5), -3, 3),
            Synapse("c1", "conv2d", w(rng, 4, 2, 3, 3), padding=1),
            Soma("s1", (4, 6, 5), theta=6, levels=3),
            Synapse("c2", "conv2d", w(rng, 4, 2, 3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2),
            Soma("s2", (4, 3, 3), theta=[3, 4, 5, 6], levels=2),
            Synapse("pool", "sumpool", [1, 2, -1, 1], kernel_size=2, stride=1, exponent=1),
            Soma("s3", (4, 2, 2), fire="relay", reset="drop"),
            Synapse("scale", "identity", [1, 2, 3, -4]),
            Soma("s4", (4, 2, 2), fire="excess", reset="clamp", theta=4, out_gain=3, out_shift=1, out_max=255),
            Synapse("fc", weight=csr, exponent=2),
            Soma("out", 3, fire="none"),
            Output("o", "potential"),
            Output("n", "count"),
            Output("p", "payload"),
        ],
        edges=[
            ("x", "c1"),
            ("c1", "s1"),
            ("s1", "c2"),
            ("c2", "s2"),
            ("s2", "pool"),
            ("pool", "s3"),
            ("s3", "scale"),
            ("scale", "s4"),
            ("s4", "fc"),
            ("fc", "out"),
            ("out", "o"),
            ("s4", "n"),
            ("s4", "p"),
        ],
        steps=3,
    )


def residual(rng: np.random.Generator) -> Program:
    """Paths of different length, a windowed soma, a product, a synapse with two consumers, two inputs."""
    w = weights
    soma = {"theta": 4, "levels": 3}
    return Program(
        nodes=[
            Input("x", (6, 2), 0, 3),
            Input("gate", 6, 0, 2),
            Synapse("w1", weight=w(rng, 6, 12)),
            Soma("s1", (6,), **soma),
            Synapse("w2", weight=w(rng, 6, 6)),
            Soma("s2", (6,), window=[[2, 1, 0], [1, 2, 1], [0, 1, 2]], **soma),
            Synapse("id", "identity", 1),
            Synapse("w3", weight=w(rng, 6, 6)),
            Soma("s3", (6,), bias=2, **soma),
            Product("xg"),
            Soma("s4", (6, 2), theta=1, levels=2),
            Synapse("w4", weight=w(rng, 6, 12)),
            Synapse("w5", weight=w(rng, 4, 6)),
            Soma("out", 4, fire="none"),
            Output("o"),
        ],
        edges=[
            ("x", "w1"),
            ("w1", "s1"),
            ("s1", "w2"),
            ("w2", "s2"),
            ("s2", "w3"),
            ("w3", "s3"),
            ("s1", "id"),
            ("id", "s3"),
            ("w2", "s3"),
            ("x", "xg"),
            ("gate", "xg"),
            ("xg", "s4"),
            ("s4", "w4"),
            ("w4", "s3"),
            ("s3", "w5"),
            ("w5", "out"),
            ("out", "o"),
        ],
        steps=3,
    )


def loop(rng: np.random.Generator, delay: int) -> Program:
    """A loop of two hops: with delay 1 a logical step takes two machine steps."""
    w = weights
    return Program(
        nodes=[
            Input("x", 5, 0, 1),
            Synapse("w", weight=w(rng, 5, 5)),
            Soma("s", 5, theta=4, levels=2, bias=1),
            Synapse("r", weight=w(rng, 5, 5)),
            Soma("t", 5, theta=3, levels=2, bias=1),
            Synapse("back", weight=w(rng, 5, 5)),
            Synapse("w2", weight=w(rng, 3, 5)),
            Soma("out", 3, fire="none"),
            Output("o"),
        ],
        edges=[
            ("x", "w"),
            ("w", "s"),
            ("s", "r"),
            ("r", "t"),
            ("t", "back", delay),
            ("back", "s"),
            ("s", "w2"),
            ("w2", "out"),
            ("out", "o"),
        ],
        steps=5,
    )


def hosted(rng: np.random.Generator) -> Program:
    ops = [HostOp(kind="sumpool", kernel_size=2, stride=2), HostOp(kind="rescale", gain=3, shift=2, lo=0, hi=7)]
    return Program(
        nodes=[
            Host("x", (2, 2, 2), 0, 7, sample_shape=(2, 4, 4), ops=ops),
            Synapse("w", weight=weights(rng, 4, 8)),
            Soma("s", 4, theta=5, levels=4, bias=1),
            Output("o", "count"),
        ],
        edges=[("x", "w"), ("w", "s"), ("s", "o")],
        steps=2,
    )


def structures() -> Pairs:
    rng = np.random.default_rng(5)
    programs = {
        "chain": chain(rng, 3),
        "one step": chain(rng, 1),
        "conv": conv_net(rng),
        "residual": residual(rng),
        "loop 1": loop(rng, 1),
        "loop 2": loop(rng, 2),
        "loop 4": loop(rng, 4),
        "hosted": hosted(rng),
    }
    return {k: (p, random_inputs(rng, p, 1 if k == "hosted" else 3)) for k, p in programs.items()}


@pytest.mark.parametrize(("stock", "mode"), [(True, "sync"), (False, "sync"), ("always", "async")])
def test_structures(stock, mode):
    traces = equal_on_lava(structures(), stock=stock, mode=mode)
    used = {row["process"] for trace in traces.values() for row in trace.info["layout"]}
    if stock:
        assert used >= {"stock Dense", "stock Sparse", "stock Conv", "stock GradedVec", "own soma", "own product"}
        assert traces["conv"].notes == ["lava: potentials of stock processes are not observed (s3)"]
    else:
        assert not any(name.startswith("stock") for name in used)
    assert traces["loop 1"].info["machine_steps"] > traces["loop 2"].info["machine_steps"]
    info = traces["chain"].info
    assert info["mode"] == mode
    assert info["steps_per_s"] == pytest.approx(info["steps"] / info["run_s"])


def lif_branches(rng: np.random.Generator, number: int, steps: int) -> Program:
    """Many somas that Lava's LIF expresses, with all its parameters, fed by one input."""
    nodes: list[Any] = [Input("x", 6, 0, 3)]
    edges: list[Any] = []
    for i in range(number):
        gain = [1, 2, 8, 64][i % 4]
        exact = gain != 64 or i % 8 == 3
        leak = rng.choice([0, 4096], 9) if exact else rng.integers(2000, 4097)
        syn = None if i % 3 else (rng.choice([0, 4096], 9) if exact else rng.integers(0, 4097, 9))
        theta = rng.integers(1, 30 * gain, 9) if exact else 64 * rng.integers(1, 9, 9) + 1
        bias = -gain * rng.integers(0, 4) if i % 2 else 0
        reset = ("zero", "drop", "value")[i % 3]
        nodes += [
            Synapse(f"w{i}", weight=weights(rng, 9, 6)),
            Soma(f"s{i}", 9, theta=theta, gain=gain, leak=leak, syn_leak=syn, bias=bias, reset=reset),
            Synapse(f"v{i}", "identity"),
            Soma(f"t{i}", 9, theta=1, reset="zero"),
        ]
        edges += [("x", f"w{i}"), (f"w{i}", f"s{i}"), (f"s{i}", f"v{i}"), (f"v{i}", f"t{i}")]
    return Program(nodes=nodes, edges=edges, steps=steps)


def test_stock_lif_with_all_its_parameters():
    rng = np.random.default_rng(1)
    pairs = {
        f"T={steps}": (p := lif_branches(rng, 8, steps), random_inputs(rng, p, batch))
        for steps, batch in ((1, 6), (4, 5), (7, 3))
    }
    for trace in equal_on_lava(pairs).values():
        assert {r["process"] for r in trace.info["layout"] if r["node"][0] in "st"} == {"stock LIF"}
        assert trace.potentials == {}
        assert not trace.outputs.size


def test_a_hundred_samples_back_to_back():
    """Re-initialised on time again and again: the same sample gives the same answer at every place."""
    rng = np.random.default_rng(2)
    program = chain(rng, 3)
    one = random_inputs(rng, program, 4)["x"]
    inputs = {"x": np.tile(one, (1, 25, 1, 1, 1))}
    trace = equal_on_lava({"chain": (program, inputs)})["chain"]
    assert (trace.outputs.reshape(25, 4, 5) == trace.outputs[:4]).all()
    assert trace.info["machine_steps"] == 3 + 3 * 100


def edge_synapses() -> dict[str, tuple[Synapse, tuple[int, ...], int, int]]:
    """Synapses whose currents reach the ends of what a process holds: synapse, shape, lowest and highest payload."""
    top = (1 << 23) - 1
    eye = np.eye(2, dtype=int)
    one_by_one = np.array([[127]]).reshape(1, 1, 1, 1)
    return {
        "mixed -128..127": (Synapse("w", weight=[[-128, 127], [1, -1], [-1, 2]]), (2,), -9, 9),
        "all positive 255": (Synapse("w", weight=[[255, 1]], sign="excitatory"), (2,), 0, 99),
        "all negative -255": (Synapse("w", weight=[[-255, -1]], sign="inhibitory"), (2,), 0, 99),
        "all negative -128": (Synapse("w", weight=[[-128, -64]]), (2,), 0, 99),
        "powers, shifted": (Synapse("w", weight=[[-8, -4], [3, 1]], exponent=5), (2,), 0, 99),
        "sparse mixed": (Synapse("w", weight=sparse.csr_matrix([[0, -127], [5, 0]])), (2,), -7, 7),
        "sparse negative": (Synapse("w", weight=sparse.csr_matrix([[-128, 0], [0, -3]])), (2,), 0, 7),
        "sparse positive": (Synapse("w", weight=sparse.csr_matrix([[127, 0], [0, 3]]), exponent=3), (2,), 0, 7),
        "23-bit payload": (Synapse("w", weight=[[127, -1]]), (2,), 0, top),
        "signed 24-bit payload": (Synapse("w", weight=[[63, -1]]), (2,), -top, top),
        "one more": (Synapse("w", weight=[[127, 2, -1]]), (3,), 0, top),
        "beyond 32 bits": (Synapse("w", weight=[[127, 126, -128]], exponent=8), (3,), -top, top),
        "conv to 24 bits": (Synapse("w", "conv2d", one_by_one), (1, 2, 2), -66052, 66052),
        "conv beyond 24 bits": (Synapse("w", "conv2d", one_by_one), (1, 2, 2), -66053, 66053),
        "conv beyond 32 bits": (Synapse("w", "conv2d", one_by_one, exponent=4), (1, 2, 2), -top, top),
        "depthwise 128": (
            Synapse("w", "conv2d", np.arange(-64, 64).reshape(128, 1, 1, 1), groups=128),
            (128, 1, 2),
            0,
            3,
        ),
        "pool beyond": (Synapse("w", "sumpool", 127, kernel_size=2), (1, 2, 2), 0, top),
        "identity": (Synapse("w", "identity", [-128, 0, 127]), (3, 2), -3, 3),
        "identity of zeros": (Synapse("w", "identity", [0]), (1, 2), 0, 3),
        "ternary eye": (Synapse("w", weight=eye), (2,), -1, 1),
    }


def edge_pairs() -> Pairs:
    """Programs of `edge_synapses` and five samples, the first at the lowest and then the highest payload."""
    from snn2chip.ir.geometry import out_shape

    rng = np.random.default_rng(3)
    pairs: Pairs = {}
    for name, (synapse, shape, lo, hi) in edge_synapses().items():
        out = out_shape(synapse, shape)[0]
        soma = Soma("s", out, gain=-3, gain_shift=9, bias=1, theta=50, levels=9, v_min=-(1 << 22), fire="levels")
        program = Program(
            nodes=[Input("x", shape, lo, hi), synapse, soma, Output("o", "payload")],
            edges=[("x", "w"), ("w", "s"), ("s", "o")],
            steps=2,
        )
        x = rng.choice([lo, hi, rng.integers(lo, hi + 1)], (2, 5, *shape))
        x[0, 0], x[1, 0] = lo, hi
        pairs[name] = (program, {"x": x})
    return pairs


@pytest.mark.parametrize("stock", [True, False])
def test_currents_at_the_ends_of_what_processes_hold(stock):
    pairs = edge_pairs()
    traces = equal_on_lava(pairs, stock=stock)
    chosen = {name: t.info["layout"][0]["process"] for name, t in traces.items()}
    if stock:
        own = {n for n, process in chosen.items() if process.startswith("own")}
        assert own == {
            "one more",
            "beyond 32 bits",
            "conv beyond 24 bits",
            "conv beyond 32 bits",
            "depthwise 128",
            "pool beyond",
            "identity of zeros",
        }
    else:
        assert not any(process.startswith("stock") for process in chosen.values())


def test_potentials_that_saturate_are_counted():
    soma = Soma("s", 2, gain=1 << 14, theta=1 << 22, levels=1, reset="subtract")
    program = Program(
        nodes=[Input("x", 2, -255, 255), Synapse("w", weight=[[127, 3], [-127, 5]]), soma, Output("o", "payload")],
        edges=[("x", "w"), ("w", "s"), ("s", "o")],
        steps=4,
    )
    x = np.tile(np.array([[255, 255], [-255, 0], [3, 2]]), (4, 1, 1))
    trace = equal_on_lava({"saturating": (program, {"x": x})})["saturating"]
    assert trace.counts.totals["saturations"] > 10


def test_more_somas_than_one_sink_has_ports():
    rng = np.random.default_rng(4)
    nodes: list[Any] = [Input("x", 3, 0, 3)]
    edges: list[Any] = []
    for i in range(18):
        nodes += [Synapse(f"w{i}", weight=weights(rng, 4, 3)), Soma(f"s{i}", 4, theta=2, levels=3, bias=1)]
        edges += [("x", f"w{i}"), (f"w{i}", f"s{i}")]
    program = Program(nodes=[*nodes, Output("o", "payload")], edges=[*edges, ("s17", "o")], steps=2)
    inputs = random_inputs(rng, program, 4)
    trace = equal_on_lava({"wide": (program, inputs)})["wide"]
    assert trace.info["processes"] == 1 + 18 + 18 + 3
    short = get_backend("lava").run(program, inputs, record="outputs")
    assert (short.payloads, short.potentials, short.inputs) == ({}, {}, {})
    assert (short.outputs == trace.outputs).all()
    assert short.counts.totals == trace.counts.totals


def test_own_synapses_keep_every_bit_of_large_sums():
    """Currents near 2^25, where single precision counts in fours, and a soma that keeps all but three bits."""
    rng = np.random.default_rng(6)
    kinds = {
        "linear": (Synapse("w", weight=[[127, 1, 3]]), (3,)),
        "conv": (Synapse("w", "conv2d", np.array([[127, 1], [3, -1]]).reshape(1, 1, 2, 2)), (1, 2, 3)),
    }
    pairs: Pairs = {}
    for name, (synapse, shape) in kinds.items():
        soma = Soma("s", (1,) if name == "linear" else (1, 1, 2), fire="none", gain_shift=3, leak=0)
        program = Program(
            nodes=[Input("x", shape, 0, 1 << 18), synapse, soma, Output("o")],
            edges=[("x", "w"), ("w", "s"), ("s", "o")],
            steps=2,
        )
        pairs[name] = (program, {"x": rng.integers(1 << 17, 1 << 18, (2, 30, *shape))})
    equal_on_lava(pairs, stock=False)
