"""The layouts `layer` and `fused` are exact: all conformance programs and many random ones, without Lava itself."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from snn2chip_backends.lava.blocks import partition
from snn2chip_backends.lava.net.machine.machine import Current
from snn2chip_backends.lava.net.machine.maps import make_map
from snn2chip_backends.lava.numbers import smallest, soma_bound, wire_type

from snn2chip.checks.compare import compare
from snn2chip.ir.nodes import Input, Output, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.ir.types import PayloadType
from snn2chip.registry import get_backend
from snn2chip.testing.conformance import check_case, run_conformance
from snn2chip.testing.programs import random_program

sys.path.insert(0, str(Path(__file__).parent))
from dry import DryLava


@pytest.mark.parametrize(("layout", "batch"), [("layer", 1), ("layer", 3), ("fused", 3)])
def test_every_conformance_program_is_exact(layout: str, batch: int) -> None:
    report = run_conformance(DryLava(layout=layout, batch=batch))
    report.raise_if_failed()
    assert len(report.results) > 100


@pytest.mark.parametrize(("layout", "batch"), [("layer", 2), ("fused", 1)])
def test_random_programs_are_exact(layout: str, batch: int) -> None:
    numbers: set[str] = set()
    backend = DryLava(layout=layout, batch=batch)
    for seed in range(60):
        case = random_program(7000 + seed, wide=True)
        check_case(backend, case)
        brief = backend.run(case.program, case.coded, record="outputs")  # potentials leave at the last step only
        expected = get_backend("reference").run(case.program, case.coded, record="outputs")
        assert {k: v.tolist() for k, v in brief.all_outputs.items()} == {
            k: v.tolist() for k, v in expected.all_outputs.items()
        }
        for item in backend.plan(case.program).data["processes"]:
            numbers |= {part["number"] for key in ("somas", "currents") for part in item["args"].get(key, ())}
    assert numbers >= {"float32", "float64"}


@pytest.mark.parametrize("layout", ["layer", "fused"])
def test_what_does_not_change_within_a_sample_is_computed_once(layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random programs on frames that stay, three samples in batches of two: equal, with fewer currents computed."""
    computed = []
    true_compute = Current.compute

    def counted(self: Current, *given: Any) -> None:
        before = self.kept[given[0] % len(self.kept)]
        true_compute(self, *given)
        computed.append(self.constant and given[0] % given[1] and self.kept[given[0] % len(self.kept)] is before)

    monkeypatch.setattr(Current, "compute", counted)
    for seed in range(30):
        case = random_program(8000 + seed, wide=True)
        coded = {name: np.repeat(x[:1, [0] * 3] + 0, len(x), 0) for name, x in case.coded.items()}
        for name, x in coded.items():
            x[:, 1] = case.coded[name][-1, -1]
        got = DryLava(layout=layout, batch=2).run(case.program, coded)
        compare(case.program, [get_backend("reference").run(case.program, coded), got]).raise_if_different()
    assert sum(map(bool, computed)) > 30


def one_layer(synapse: Synapse, shape: tuple[int, ...], hi: int, **soma: object) -> Program:
    return Program(
        nodes=[Input("x", shape, 0, hi), synapse, Soma("s", 2, **soma), Output("o", "payload")],
        edges=[("x", "w"), ("w", "s"), ("s", "o")],
        steps=2,
    )


def test_the_number_type_changes_at_the_limit_of_exactness() -> None:
    """float32 holds 2^24 - 1, and 2^24 + 1 is the first integer that it does not; float64 the same at 2^53."""
    for bits, here, beyond in ((24, "float32", "float64"), (53, "float64", "int64")):
        assert smallest((1 << bits) - 1) == here
        assert smallest(1 << bits) == beyond
        kind = np.dtype(here).type
        assert int(kind((1 << bits) - 1)) == (1 << bits) - 1
        assert int(kind((1 << bits) + 1)) != (1 << bits) + 1


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"theta": 5}, "float32"),
        ({"theta": 5, "leak": 4096, "bias": -3, "levels": 7}, "float32"),
        ({"theta": 5, "leak": 0, "reset": "zero"}, "float32"),
        ({"theta": 5, "leak": 3000}, "float64"),  # 23-bit potential times 12-bit leak
        ({"theta": 5, "syn_leak": 4000}, "float64"),
        ({"theta": 5, "gain": 1 << 14}, "float64"),
        ({"fire": "excess", "reset": "clamp", "theta": 4, "out_gain": 3, "out_shift": 1, "out_max": 255}, "float64"),
        ({"fire": "delta", "reset": "keep", "theta": 4, "leak": 0, "syn_leak": 4096, "v_min": 0}, "float64"),
        ({"fire": "delta", "reset": "keep", "theta": 4, "leak": 0}, "float32"),  # changes are below 2^24
        ({"theta": 5, "window": [[1, 2], [3, -4]], "window_shift": 1}, "float32"),
        ({"theta": 5, "window": [[1 << 14, 0], [0, -(1 << 14)]]}, "float64"),
    ],
)
def test_a_soma_computes_in_the_smallest_exact_type(fields: dict[str, object], expected: str) -> None:
    program = one_layer(Synapse("w", weight=[[127, -3], [1, 2]]), (2,), 255, **fields)
    block = next(p for p in DryLava(layout="layer").plan(program).data["processes"] if p["kind"] == "block")
    assert block["args"]["somas"][0]["number"] == expected


def test_sums_beyond_float32_and_float64_keep_their_last_bit() -> None:
    """W p = 2^24 + 1 and, with the exponent and the gain, products of 2^53 and more."""
    odd = Synapse("w", weight=[[127, 127, 2, 1], [1, 0, 0, 0]])
    x = np.zeros((2, 1, 4), np.int64)
    x[:, 0] = [(1 << 16), (1 << 16), 65536, 1]
    for fields in ({"gain_shift": 0, "theta": 1 << 22}, {"gain": -1, "theta": 7, "levels": 90}):
        program = one_layer(odd, (4,), 1 << 17, **fields)
        trace = DryLava(layout="fused").run(program, {"x": x})
        expected = get_backend("reference").run(program, {"x": x})
        assert (trace.potentials["s"] == expected.potentials["s"]).all()
    top = (1 << 23) - 1
    wide = Synapse("w", weight=[[127, 126, -128], [1, 1, 1]], exponent=8)
    program = one_layer(wide, (3,), top, gain=32767, gain_shift=15, theta=1 << 22)
    number = smallest(soma_bound(program["s"], 381 * top << 8))  # type: ignore[arg-type]
    assert number == "int64"
    x = np.full((2, 1, 3), top)
    x[0, 0, 2] = 1
    trace, expected = (b.run(program, {"x": x}) for b in (DryLava(layout="fused"), get_backend("reference")))
    assert (trace.potentials["s"] == expected.potentials["s"]).all()


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ((0, 1), "|u1"),
        ((0, 255), "|u1"),
        ((0, 256), "<u2"),
        ((-1, 1), "|i1"),
        ((-129, 0), "<i2"),
        ((-1, 1 << 15), "<i4"),
    ],
)
def test_payloads_ride_in_the_smallest_type(bounds: tuple[int, int], expected: str) -> None:
    assert wire_type(PayloadType(*bounds)) == expected


def test_somas_that_share_a_synapse_share_a_process() -> None:
    case = Program(
        nodes=[
            Input("x", 2),
            Synapse("w", weight=[[1, 0], [0, 1]]),
            *(Soma(name, 2, theta=1) for name in "abc"),
            Synapse("v", weight=[[1, 1]]),
            Soma("d", 1, theta=1),
            Output("o", "payload"),
        ],
        edges=[("x", "w"), *(("w", name) for name in "abc"), ("b", "v"), ("v", "d"), ("d", "o")],
        steps=1,
    )
    assert partition(case, "layer") == {"a": ["w", "a", "b", "c"], "d": ["v", "d"]}
    assert partition(case, "fused") == {"network": ["w", "a", "b", "c", "v", "d"]}


@pytest.mark.parametrize(("batch", "shape", "groups"), [(1, (4, 5, 6), 1), (5, (4, 3, 3), 2), (7, (6, 20, 20), 3)])
def test_convolutions_of_any_batch_equal_single_samples(batch: int, shape: tuple[int, ...], groups: int) -> None:
    """However many samples share one matrix product."""
    rng = np.random.default_rng(0)
    c, h, w = shape
    weight = rng.integers(-8, 8, (6, c // groups, 3, 2))
    out = (6, (h + 2 - 3) // 2 + 1, w - 1)
    par = {
        "map": "conv2d", "number": "float32", "weight": weight, "exponent": 2, "in_shape": shape, "out_shape": out,
        "kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 0), "dilation": (1, 1), "groups": groups,
    }  # fmt: skip
    x = rng.integers(-3, 4, (batch, *shape))
    got = make_map(par, batch).current([x])
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (0, 0)))
    part, wide = 6 // groups, c // groups
    for o in range(6):
        own = padded[:, o // part * wide : (o // part + 1) * wide]
        for i in range(out[1]):
            for j in range(out[2]):
                window = own[:, :, 2 * i : 2 * i + 3, j : j + 2]
                assert (got[:, o, i, j] == 4 * (window * weight[o]).sum((1, 2, 3))).all()
