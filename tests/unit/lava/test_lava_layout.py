"""Which process is chosen, and the plan's wires and delays; nothing here needs Lava."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from scipy import sparse
from snn2chip_backends.lava.arguments import stock_weight
from snn2chip_backends.lava.layout import conv_ms, lava_layout
from snn2chip_backends.lava.plan import make_plan
from snn2chip_backends.lava.recording import may_saturate

from snn2chip.errors import InputError
from snn2chip.ir.nodes import Input, Output, Product, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.registry import get_backend
from snn2chip.schedule import schedule


def one(synapse: Synapse, shape, *, hi: int = 1, soma: dict | None = None, steps: int = 2) -> Program:
    from snn2chip.ir.geometry import out_shape

    out = out_shape(synapse, shape if isinstance(shape, tuple) else (shape,))[0]
    fields = soma or {"theta": 3, "levels": 2}
    return Program(
        nodes=[Input("x", shape, 0, hi), synapse, Soma("s", out, **fields), Output("o", "payload")],
        edges=[("x", synapse.name), (synapse.name, "s"), ("s", "o")],
        steps=steps,
    )


def chosen(program: Program, node: str = "w", **options):
    return lava_layout(program, schedule(program), **options)[node]


def test_linear_is_stock_dense_or_sparse():
    assert chosen(one(Synapse("w", weight=[[1, -1]]), 2)).process == "stock Dense"
    assert chosen(one(Synapse("w", weight=sparse.csr_matrix([[1, 0]])), 2)).process == "stock Sparse"
    empty = chosen(one(Synapse("w", "identity", 0), 2))
    assert (empty.process, empty.kind) == ("own identity", "synapse")


def test_switching_stock_processes_off():
    program = one(Synapse("w", weight=[[1, -1]]), 2, soma={"theta": 3, "reset": "zero"})
    assert chosen(program, "s").process == "stock LIF"
    for node in ("w", "s"):
        assert chosen(program, node, stock=False).reason == "stock processes are switched off"


def test_dense_needs_twice_the_current_in_32_bits():
    """Mixed weights are held as 2W: 2 * 127 * (2^23 - 1) < 2^31 < 2 * 129 * (2^23 - 1)."""
    weight = [[127, -1]]
    assert chosen(one(Synapse("w", weight=weight), 2, hi=(1 << 23) - 1)).process == "stock Dense"
    narrow = chosen(one(Synapse("w", weight=[[127, 2, -1]]), 3, hi=(1 << 23) - 1))
    assert narrow.process == "own linear"
    assert not narrow.wide
    wide = chosen(one(Synapse("w", weight=weight, exponent=2), 2, hi=(1 << 23) - 1))
    assert (wide.process, wide.wide) == ("own linear", True)


@pytest.mark.parametrize(
    ("weight", "sign", "held", "exponent"),
    [
        ([[3, -1]], "mixed", [[6, -2]], 1),
        ([[3, 1]], "mixed", [[3, 1]], 2),
        ([[-128, -1]], "mixed", [[-128, -1]], 2),
        ([[255, 0]], "excitatory", [[255, 0]], 2),
        ([[-255, 0]], "inhibitory", [[-255, 0]], 2),
        ([[-128, 127]], "mixed", [[-256, 254]], 1),
    ],
)
def test_weights_are_held_in_the_exact_classes_of_dense(weight, sign, held, exponent):
    for value in (np.array(weight), sparse.csr_matrix(weight)):
        got, shift = stock_weight(Synapse("w", weight=value, exponent=2, sign=sign), (2,))
        assert (got.toarray() if sparse.issparse(got) else got).tolist() == held
        assert shift == exponent


def test_identity_is_a_stock_diagonal():
    program = one(Synapse("w", "identity", [2, -3]), (2, 1, 2))
    assert chosen(program).process == "stock Sparse"
    matrix, _ = stock_weight(program["w"], (2, 1, 2))
    assert (matrix.toarray() // 2).tolist() == np.diag([2, 2, -3, -3]).tolist()


def test_conv_limits():
    weight = np.ones((128, 1, 1, 1), dtype=int)
    assert "8 bits" in chosen(one(Synapse("w", "conv2d", weight, groups=128), (128, 2, 2))).reason
    assert chosen(one(Synapse("w", "conv2d", weight[:127], groups=127), (127, 2, 2))).process == "stock Conv"
    assert "8 bits" in chosen(one(Synapse("w", "sumpool", 1, kernel_size=2), (128, 2, 2))).reason
    small = np.full((1, 1, 2, 2), 127)
    assert chosen(one(Synapse("w", "conv2d", small), (1, 3, 3), hi=16513)).process == "stock Conv"
    assert "24 bits" in chosen(one(Synapse("w", "conv2d", small), (1, 3, 3), hi=16514)).reason  # 508 * 16513 < 2^23


def test_slow_convs_are_own_unless_asked_for():
    synapse = Synapse("w", "conv2d", np.ones((64, 64, 3, 3), dtype=int), padding=1)
    program = one(synapse, (64, 16, 16))
    assert 40 < conv_ms(synapse, (64, 16, 16), 1) < 100  # measured: 64 ms
    assert "ms a step" in chosen(program).reason
    assert chosen(program, stock="always").process == "stock Conv"


def test_relay_is_gradedvec_only_without_scaling_and_clipping():
    relay = {"fire": "relay", "reset": "drop"}
    synapse = Synapse("w", weight=[[3, -1]])
    assert chosen(one(synapse, 2, soma=relay), "s").process == "stock GradedVec"
    assert chosen(one(synapse, 2, soma={**relay, "gain": 4, "gain_shift": 2}), "s").process == "stock GradedVec"
    for fields in ({"bias": 1}, {"out_max": 2, "out_min": -3}, {"out_min": 0}, {"gain": 2}, {"out_gain": 2}):
        assert chosen(one(synapse, 2, soma={**relay, **fields}), "s").process == "own soma"


def test_read_outs_and_stretched_loops_are_own():
    assert "potential is read" in chosen(one(Synapse("w", weight=[[1]]), 1, soma={"fire": "none"}), "s").reason
    fields = {"theta": 3, "reset": "zero"}
    program = Program(
        nodes=[
            Input("x", 1),
            Synapse("w", weight=[[1]]),
            Soma("a", 1, **fields),
            Synapse("ab", weight=[[1]]),
            Soma("b", 1, **fields),
            Synapse("ba", weight=[[1]]),
        ],
        edges=[("x", "w"), ("w", "a"), ("a", "ab"), ("ab", "b"), ("b", "ba", 1), ("ba", "a")],
        steps=2,
    )
    assert schedule(program).stretch == 2
    assert "2 machine steps" in chosen(program, "a").reason


def delays(program: Program) -> dict[str, tuple[int, int]]:
    """Length and kept steps of every delay line in the plan."""
    items = make_plan(program).data["processes"]
    return {p["name"]: (p["args"]["length"], p["args"]["keep"]) for p in items if "delay" in p["kind"]}


def test_a_shortcut_waits_in_a_delay_line():
    soma = {"theta": 3, "levels": 2}
    program = Program(
        nodes=[
            Input("x", 2),
            Synapse("w", weight=np.eye(2, dtype=int)),
            Soma("a", 2, **soma),
            Synapse("v", weight=np.eye(2, dtype=int)),
            Synapse("short", "identity"),
            Soma("b", 2, **soma),
        ],
        edges=[("x", "w"), ("w", "a"), ("a", "v"), ("v", "b"), ("x", "short"), ("short", "b")],
        steps=3,
    )
    assert delays(program) == {"x>short": (1, 3)}


def test_a_synapse_with_two_consumers_is_computed_once_and_its_current_waits_for_the_later_one():
    soma = {"theta": 3, "levels": 2}
    eye = np.eye(2, dtype=int)
    program = Program(
        nodes=[
            Input("x", 2),
            Synapse("w", weight=eye),
            Soma("a", 2, **soma),
            Synapse("v", weight=eye),
            Soma("b", 2, **soma),
        ],
        edges=[("x", "w"), ("w", "a"), ("a", "v"), ("v", "b"), ("w", "b")],
        steps=3,
    )
    assert delays(program) == {"w>b": (1, 3)}
    assert sum(p["name"] == "w" for p in make_plan(program).data["processes"]) == 1


def test_a_logical_delay_keeps_the_messages_that_still_belong_to_their_sample():
    """T = 5, delay 2: payloads of steps 0..2 pass; the loop of one hop needs one machine step of the two."""
    soma = {"theta": 3, "levels": 2}
    program = Program(
        nodes=[
            Input("x", 2),
            Synapse("w", weight=np.eye(2, dtype=int)),
            Soma("a", 2, **soma),
            Synapse("r", weight=np.eye(2, dtype=int)),
        ],
        edges=[("x", "w"), ("w", "a"), ("a", "r", 2), ("r", "a")],
        steps=5,
    )
    assert delays(program) == {"a>r": (1, 3)}


def test_products_and_their_two_ports():
    program = Program(
        nodes=[
            Input("x", (2, 3), 0, 1 << 20),
            Input("g", 2, 0, 1 << 20),
            Product("p", shift=3),
            Soma("s", (2, 3), theta=4),
            Output("o", "payload"),
        ],
        edges=[("x", "p"), ("g", "p"), ("p", "s"), ("s", "o")],
        steps=1,
    )
    plan = make_plan(program)
    assert (plan.layout["p"].process, plan.layout["p"].wide) == ("own product", True)  # 2^40 >> 3 leaves 32 bits
    assert [w[:4] for w in plan.data["wires"][:2]] == [["x", "s_out", "p", "p_in"], ["g", "s_out", "p", "q_in"]]


@pytest.mark.parametrize(
    ("fields", "steps", "possible"),
    [
        ({}, 4, False),
        ({"gain": 1 << 14}, 255, False),  # 2 * 2^14 * 255 = 8355840 < 2^23 - 1
        ({"gain": 1 << 14}, 257, True),
        ({"bias": (1 << 22) - 3}, 2, False),
        ({"bias": (1 << 22) - 2}, 2, True),
        ({"v_init": (1 << 23) - 5}, 2, False),
        ({"v_init": (1 << 23) - 4}, 2, True),
        ({"leak": 8192}, 30, True),
    ],
)
def test_saturation_is_only_counted_where_it_is_possible(fields, steps, possible):
    program = one(Synapse("w", weight=[[1, 1]]), 2, soma={"theta": 1 << 23, **fields}, steps=steps)
    assert may_saturate(program["s"], 2, steps) == possible


@pytest.mark.parametrize("options", [{"stock": "sometimes"}, {"mode": "fast"}, {"timeout": 0}])
def test_wrong_options(options):
    with pytest.raises(InputError, match=next(iter(options))):
        get_backend("lava", **options)


def test_large_programs_meet_the_limits_of_the_machine(monkeypatch):
    program = one(Synapse("w", weight=[[1, -1]]), 2)
    backend = get_backend("lava")
    assert backend.limits(program) == []
    monkeypatch.setattr("snn2chip_backends.lava.limits.open_files", lambda: 40)
    monkeypatch.setattr("snn2chip_backends.lava.limits.shared_memory", lambda: 10)
    files, memory = backend.limits(program)
    assert "4 Lava processes" in files
    assert "shared memory" in memory


def test_block_bounds_what_is_recorded():
    program = one(Synapse("w", weight=np.ones((50_000, 2), dtype=int)), 2, steps=4)
    assert get_backend("lava").block(program) == 256_000_000 // (8 * 4 * 50_000)


def test_asking_what_is_missing_does_not_import_lava():
    code = (
        "import sys\nfrom snn2chip.registry import get_backend\nb = get_backend('lava')\n"
        "b.missing()\nprint(sorted(m for m in sys.modules if m == 'lava' or m.startswith('lava.magma')))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() in ("[]", "['lava']")  # find_spec of a sub-package imports the empty namespace above it


def test_missing_names_the_install_line(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 12, 0, "final", 0))
    assert "Python 3.10" in str(get_backend("lava").missing())
    monkeypatch.setattr(sys, "version_info", (3, 10, 4, "final", 0))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install lava-nc==0.10.0" in str(get_backend("lava").missing())
